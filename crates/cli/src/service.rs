//! `nemoterm daemon install` and `uninstall`: the daemon as a service of this user, by systemd or launchd.
//!
//! systemd binds the socket and starts the daemon when the first client connects. launchd starts it when the user logs in.
//! Without a service the first shell starts the daemon.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use nemoterm_protocol::runtime::{self, Runtime};

use crate::{daemon, daemon_process::Program, failure::Failure};

/// Name of the agent, for launchd.
const LABEL: &str = "org.nemoterm.nemotermd";

const SOCKET_UNIT: &str = "nemoterm.socket";
const SERVICE_UNIT: &str = "nemoterm.service";

/// What the files are made of.
#[derive(Debug)]
struct Plan {
    /// The daemon's program, its whole path.
    program: String,
    /// Where the socket lies.
    runtime: String,
    /// Whether that is where a service finds it without being told.
    is_usual: bool,
    /// Where the log lies, and where quantised weights are kept.
    writes: Vec<String>,
    /// Whether HTTP is served.
    http: bool,
    /// Whether a remote server completes.
    remote: bool,
}

/// A file of the service, and what belongs into it.
#[derive(Debug)]
struct Unit {
    path: PathBuf,
    text: String,
}

/// Writes the files and has the service manager take them; or only prints them.
///
/// # Errors
/// Where there is no service manager, or it fails; then the files are as they were.
pub fn install(runtime: &Runtime, print: bool) -> anyhow::Result<()> {
    let plan = plan(runtime)?;
    let units = plan.units()?;
    if print {
        let mut out = io::stdout().lock();
        for unit in &units {
            writeln!(out, "# {}\n{}", unit.path.display(), unit.text)?;
        }
        return Ok(());
    }
    // It is asked for something harmless first, so that nothing is touched where it can't be reached.
    probe()?;
    let before: Vec<_> = units.iter().map(|unit| (&unit.path, fs::read(&unit.path).ok())).collect();
    let installed = || -> anyhow::Result<()> {
        for unit in &units {
            write(unit)?;
        }
        // Behind a sandbox the daemon can't make them.
        plan.writes.iter().try_for_each(fs::create_dir_all)?;
        reload()?;
        // One that runs on its own would keep the lock.
        daemon::end(runtime)?;
        enable(&units)
    };
    if let Err(error) = installed() {
        for (path, text) in before {
            // What fails here is told by the error that brought us here.
            let _ = match text {
                Some(text) => fs::write(path, text),
                None => fs::remove_file(path),
            };
        }
        let _ = reload();
        return Err(error);
    }
    for unit in &units {
        eprintln!("installed {}", unit.path.display());
    }
    eprintln!("nemoterm daemon uninstall takes it back");
    Ok(())
}

/// Takes the service back.
///
/// # Errors
/// Where the service manager fails; then the files are as they were.
pub fn uninstall(runtime: &Runtime) -> anyhow::Result<()> {
    let present: Vec<_> = paths()?.into_iter().filter(|path| path.exists()).collect();
    if present.is_empty() {
        eprintln!("no service is installed");
        return Ok(());
    }
    disable()?;
    for path in &present {
        fs::remove_file(path)
            .map_err(|error| Failure::plain(format!("{} can't be removed: {error}", path.display())))?;
        eprintln!("removed {}", path.display());
    }
    reload()?;
    // Nobody starts it again before it is needed.
    daemon::end(runtime)?;
    Ok(())
}

/// Whether the files are there.
pub fn is_installed() -> bool {
    paths().is_ok_and(|paths| paths.iter().any(|path| path.exists()))
}

fn plan(runtime: &Runtime) -> anyhow::Result<Plan> {
    let program = Program::find()?;
    // A variable of this shell is unknown to the service.
    let set = |key: &str| {
        let mut command = Command::new(&program.path);
        command.args(["config", "get", key]);
        for (name, _) in env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        let output = command.output().ok().filter(|output| output.status.success());
        output.map(|output| output.stdout.trim_ascii().to_vec()).unwrap_or_default()
    };
    let http = !set("http").is_empty();
    let remote = set("backend") == b"openai";
    let usual = env::var_os("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())),
        PathBuf::from,
    );
    let (log, cache) = (runtime::log_file(), runtime::cache_dir());
    let writes = [log.as_deref().and_then(Path::parent), cache.as_deref()];
    Ok(Plan {
        program: text(&std::path::absolute(&program.path)?)?,
        is_usual: runtime.dir() == usual.join("nemoterm"),
        runtime: text(runtime.dir())?,
        writes: writes.into_iter().flatten().map(text).collect::<Result<_, _>>()?,
        http,
        remote,
    })
}

/// Whether a variable may be one that wins over a key of the configuration.
fn is_setting(name: &OsStr) -> bool {
    let elsewhere = ["NEMOTERM_RUNTIME_DIR", "NEMOTERM_DAEMON"];
    name.to_str().is_some_and(|name| name.starts_with("NEMOTERM_") && !elsewhere.contains(&name))
}

/// A path that can stand in a file of the service.
fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        Failure::new(format!("the path {} is no plain text", path.display()), "install nemoterm elsewhere")
    })
}

/// Where the files lie.
fn paths() -> Result<Vec<PathBuf>, Failure> {
    let dirs =
        directories::BaseDirs::new().ok_or_else(|| Failure::new("there is no home directory", "set HOME"))?;
    if cfg!(target_os = "macos") {
        return Ok(vec![dirs.home_dir().join("Library/LaunchAgents").join(format!("{LABEL}.plist"))]);
    }
    let dir = dirs.config_dir().join("systemd/user");
    Ok(vec![dir.join(SOCKET_UNIT), dir.join(SERVICE_UNIT)])
}

impl Plan {
    fn units(&self) -> Result<Vec<Unit>, Failure> {
        let texts =
            if cfg!(target_os = "macos") { vec![self.agent()] } else { vec![self.socket(), self.service()] };
        Ok(paths()?.into_iter().zip(texts).map(|(path, text)| Unit { path, text }).collect())
    }

    /// The directory of the socket, as systemd understands it.
    fn systemd_runtime(&self) -> String {
        if self.is_usual { "%t/nemoterm".to_owned() } else { self.runtime.replace('%', "%%") }
    }

    fn socket(&self) -> String {
        format!(
            "[Unit]\n\
             Description=Socket of nemoterm, which completes commands\n\
             \n\
             [Socket]\n\
             ListenStream={}/daemon.sock\n\
             SocketMode=0600\n\
             DirectoryMode=0700\n\
             RemoveOnStop=yes\n\
             \n\
             [Install]\n\
             WantedBy=sockets.target\n",
            self.systemd_runtime()
        )
    }

    fn service(&self) -> String {
        let environment = if self.is_usual {
            String::new()
        } else {
            format!("Environment={}\n", quoted(&format!("NEMOTERM_RUNTIME_DIR={}", self.runtime)))
        };
        let reason = match (self.http, self.remote) {
            (true, true) => "HTTP is served and a remote server is asked",
            (true, false) => "HTTP is served",
            (false, true) => "A remote server is asked",
            (false, false) => "",
        };
        let network = if reason.is_empty() {
            "# No network. Where HTTP is to be served or a remote server to be asked, set it first and install again.\n\
             RestrictAddressFamilies=AF_UNIX\n"
                .to_owned()
        } else {
            format!(
                "# {reason}, because the configuration says so.\n\
                 RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
            )
        };
        let writes: String =
            self.writes.iter().map(|dir| format!(" {}", quoted(&format!("-{dir}")))).collect();
        format!(
            "[Unit]\n\
             Description=nemoterm, which completes commands with a local language model\n\
             Requires={SOCKET_UNIT}\n\
             After={SOCKET_UNIT}\n\
             \n\
             [Service]\n\
             ExecStart={program} serve\n\
             {environment}\
             UMask=0077\n\
             NoNewPrivileges=yes\n\
             {network}\
             SystemCallArchitectures=native\n\
             SystemCallFilter=@system-service\n\
             SystemCallErrorNumber=EPERM\n\
             LockPersonality=yes\n\
             RestrictNamespaces=yes\n\
             RestrictRealtime=yes\n\
             RestrictSUIDSGID=yes\n\
             # These need user namespaces, and are left out by systemd where there are none.\n\
             ProtectSystem=strict\n\
             ProtectHome=read-only\n\
             ReadWritePaths={runtime}{writes}\n",
            program = quoted(&self.program),
            runtime = if self.is_usual { "%t/nemoterm".to_owned() } else { quoted(&self.runtime) },
        )
    }

    fn agent(&self) -> String {
        let [program, runtime] = [&self.program, &self.runtime].map(|text| escaped(text));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\">\n\
             <dict>\n\
             \x20 <key>Label</key><string>{LABEL}</string>\n\
             \x20 <key>ProgramArguments</key>\n\
             \x20 <array><string>{program}</string><string>serve</string><string>--background</string></array>\n\
             \x20 <key>EnvironmentVariables</key>\n\
             \x20 <dict><key>NEMOTERM_RUNTIME_DIR</key><string>{runtime}</string></dict>\n\
             \x20 <key>RunAtLoad</key><true/>\n\
             \x20 <key>ProcessType</key><string>Interactive</string>\n\
             \x20 <key>Umask</key><integer>63</integer>\n\
             </dict>\n\
             </plist>\n"
        )
    }
}

/// One word of a systemd unit.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%"))
}

/// A text of an XML document.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn write(unit: &Unit) -> Result<(), Failure> {
    let written = || {
        fs::create_dir_all(unit.path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&unit.path, &unit.text)
    };
    written().map_err(|error| {
        Failure::new(format!("{} can't be written: {error}", unit.path.display()), "mend its permissions")
    })
}

fn probe() -> Result<(), Failure> {
    if cfg!(target_os = "macos") { run("launchctl", &["version"]) } else { reload() }
}

fn reload() -> Result<(), Failure> {
    if cfg!(target_os = "macos") { Ok(()) } else { run("systemctl", &["--user", "daemon-reload"]) }
}

fn enable(units: &[Unit]) -> anyhow::Result<()> {
    if cfg!(target_os = "macos") {
        // One of that name has to go first.
        let _ = disable();
        for unit in units {
            run("launchctl", &["bootstrap", &domain(), &text(&unit.path)?])?;
        }
        return Ok(());
    }
    Ok(run("systemctl", &["--user", "enable", "--now", SOCKET_UNIT])?)
}

fn disable() -> Result<(), Failure> {
    if cfg!(target_os = "macos") {
        return run("launchctl", &["bootout", &format!("{}/{LABEL}", domain())]);
    }
    run("systemctl", &["--user", "disable", "--now", SOCKET_UNIT])?;
    run("systemctl", &["--user", "stop", SERVICE_UNIT])
}

/// The user's session, for launchd.
fn domain() -> String {
    format!("gui/{}", rustix::process::geteuid().as_raw())
}

/// Runs the service manager's program.
fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    let hint = "nothing has to be installed: without a service the first shell starts the daemon";
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("there is no {program} here"), hint));
        }
        Err(error) => return Err(Failure::new(format!("{program} can't be run: {error}"), hint)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Failure::new(format!("{program} {} failed: {said}", args.join(" ")), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            program: "/opt/a \"b\" 100%/nemotermd".to_owned(),
            runtime: "/run/user/7/nemoterm".to_owned(),
            is_usual: true,
            writes: ["/home/u/.local/state/nemoterm", "/home/u/.cache/nemoterm"].map(str::to_owned).to_vec(),
            http: false,
            remote: false,
        }
    }

    #[test]
    fn a_service_has_no_network_unless_it_needs_one() {
        let without = plan().service();
        assert!(without.contains("\nRestrictAddressFamilies=AF_UNIX\n"), "{without}");
        assert!(without.contains("\nExecStart=\"/opt/a \\\"b\\\" 100%%/nemotermd\" serve\n"), "{without}");
        assert!(!without.contains("Environment="), "{without}");
        for with in [Plan { http: true, ..plan() }, Plan { remote: true, ..plan() }] {
            let with = with.service();
            assert!(with.contains("\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"), "{with}");
        }
    }

    #[test]
    fn the_socket_lies_where_clients_look() {
        assert!(plan().socket().contains("\nListenStream=%t/nemoterm/daemon.sock\n"));
        let elsewhere = Plan { is_usual: false, runtime: "/x 5%/r".to_owned(), ..plan() };
        assert!(elsewhere.socket().contains("\nListenStream=/x 5%%/r/daemon.sock\n"));
        let service = elsewhere.service();
        assert!(service.contains("\nEnvironment=\"NEMOTERM_RUNTIME_DIR=/x 5%%/r\"\n"), "{service}");
        assert!(
            service.contains(
                "\nReadWritePaths=\"/x 5%%/r\" \"-/home/u/.local/state/nemoterm\" \"-/home/u/.cache/nemoterm\"\n"
            ),
            "{service}"
        );
    }

    #[test]
    fn an_agent_is_xml() {
        let agent = Plan { program: "/a & <b>/nemotermd".to_owned(), ..plan() }.agent();
        assert!(
            agent.contains("<string>/a &amp; &lt;b&gt;/nemotermd</string><string>serve</string>"),
            "{agent}"
        );
        assert!(
            agent.contains(
                "<dict><key>NEMOTERM_RUNTIME_DIR</key><string>/run/user/7/nemoterm</string></dict>"
            )
        );
    }
}
