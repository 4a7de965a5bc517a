//! The service for launchd: an agent that runs the daemon from the user's login on.

use std::path::Path;

use super::{Failure, Plan, run, text};

/// Name of the agent.
pub const LABEL: &str = "org.nemoterm.nemotermd";

impl Plan {
    /// The property list of the agent, by launchd.plist(5).
    pub fn agent(&self) -> String {
        let [program, runtime] = [&self.program, &self.runtime].map(|text| escaped(text));
        let environment: String = self
            .environment
            .iter()
            .filter(|(name, _)| *name != "NEMOTERM_RUNTIME_DIR")
            .map(|(name, value)| format!("\x20   <key>{name}</key><string>{}</string>\n", escaped(value)))
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\">\n\
             <dict>\n\
             \x20 <key>Label</key><string>{LABEL}</string>\n\
             \x20 <key>ProgramArguments</key>\n\
             \x20 <array><string>{program}</string><string>serve</string><string>--background</string></array>\n\
             \x20 <key>EnvironmentVariables</key>\n\
             \x20 <dict>\n\
             \x20   <key>NEMOTERM_RUNTIME_DIR</key><string>{runtime}</string>\n\
             {environment}\
             \x20 </dict>\n\
             \x20 <key>RunAtLoad</key><true/>\n\
             \x20 <key>ProcessType</key><string>Interactive</string>\n\
             \x20 <key>Umask</key><integer>63</integer>\n\
             </dict>\n\
             </plist>\n"
        )
    }
}

/// A text of an XML document.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Has launchd run the agent.
pub fn enable(agent: &Path) -> Result<(), Failure> {
    // One of that name has to go first.
    let _ = disable();
    run("launchctl", &["bootstrap", &domain(), &text(agent)?])
}

/// Ends the agent.
pub fn disable() -> Result<(), Failure> {
    run("launchctl", &["bootout", &format!("{}/{LABEL}", domain())])
}

/// Whether launchd can be asked.
pub fn probe() -> Result<(), Failure> {
    run("launchctl", &["version"])
}

/// The user's session, for launchd.
fn domain() -> String {
    format!("gui/{}", rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use plist::Value;

    use super::{super::tests::plan, *};

    #[test]
    fn an_agent_is_a_property_list_with_what_launchd_knows() {
        let odd = "/a & <b> \"c\" 'd'/nemotermd";
        let plan = Plan {
            program: odd.to_owned(),
            environment: vec![
                ("HF_HOME", "/models & more".to_owned()),
                ("NEMOTERM_RUNTIME_DIR", "/run/user/7/nemoterm".to_owned()),
            ],
            ..plan()
        };
        let list = Value::from_reader_xml(plan.agent().as_bytes()).unwrap();
        let list = list.as_dictionary().unwrap();
        assert_eq!(list["Label"].as_string(), Some(LABEL));
        let words: Vec<_> =
            list["ProgramArguments"].as_array().unwrap().iter().filter_map(Value::as_string).collect();
        assert_eq!(words, [odd, "serve", "--background"]);
        let environment: Vec<_> = list["EnvironmentVariables"]
            .as_dictionary()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_string().unwrap()))
            .collect();
        let expected = [("NEMOTERM_RUNTIME_DIR", "/run/user/7/nemoterm"), ("HF_HOME", "/models & more")];
        assert_eq!(environment, expected);
        assert_eq!(list["RunAtLoad"].as_boolean(), Some(true));
        assert_eq!(list["ProcessType"].as_string(), Some("Interactive"));
        // In decimal, as a property list has no octal numbers.
        assert_eq!(list["Umask"].as_unsigned_integer(), Some(0o077));
        assert_eq!(list.len(), 6, "and nothing that was misspelt: {list:?}");
    }
}
