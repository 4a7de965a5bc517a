//! The service for systemd: a unit of the socket, and one of the daemon in a sandbox.

use std::{path::Path, process::Command};

use super::{Failure, Plan, run, text};

pub const SOCKET_UNIT: &str = "nemoterm.socket";
pub const SERVICE_UNIT: &str = "nemoterm.service";

/// What a service is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// System calls, networks, and all files but its own, which need a user namespace.
    Whole,
    /// System calls and networks.
    WithoutFiles,
}

impl Plan {
    /// The directory of the socket, as systemd understands it.
    fn systemd_runtime(&self) -> String {
        if self.is_usual { "%t/nemoterm".to_owned() } else { self.runtime.replace('%', "%%") }
    }

    /// The unit of the socket.
    pub fn socket(&self) -> String {
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

    /// The unit of the daemon. It is one of type `exec`, so that to start it fails where its sandbox can't be made.
    pub fn service(&self, sandbox: Sandbox) -> String {
        let environment: String = self
            .environment
            .iter()
            .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
            .collect();
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
        format!(
            "[Unit]\n\
             Description=nemoterm, which completes commands with a local language model\n\
             Requires={SOCKET_UNIT}\n\
             After={SOCKET_UNIT}\n\
             # One that was killed comes back with the next client. One that can't be started is not tried for ever.\n\
             StartLimitIntervalSec=10\n\
             StartLimitBurst=50\n\
             \n\
             [Service]\n\
             Type=exec\n\
             ExecStart={program} serve\n\
             {environment}\
             TimeoutStopSec=10\n\
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
             {files}",
            program = quoted(&self.program),
            files = self.files(sandbox),
        )
    }

    /// What keeps the daemon from files.
    fn files(&self, sandbox: Sandbox) -> String {
        if sandbox == Sandbox::WithoutFiles {
            return "# Files are not protected: this system gives a service no user namespace.\n".to_owned();
        }
        // A command's words are looked through for variables, too.
        let own: String =
            self.writes.iter().map(|dir| format!(" {}", quoted(dir).replace('$', "$$"))).collect();
        let optional: String =
            self.writes.iter().map(|dir| format!(" {}", quoted(&format!("-{dir}")))).collect();
        format!(
            "# The user's manager may not mount anything, so without a namespace of users it ignores what follows.\n\
             PrivateUsers=yes\n\
             ProtectSystem=strict\n\
             ProtectHome=read-only\n\
             # Behind the sandbox the daemon can't make them where somebody has cleaned up; the plus is for before it.\n\
             ExecStartPre=-+mkdir -p --{own}\n\
             ReadWritePaths={runtime}{optional}\n",
            runtime = if self.is_usual { "%t/nemoterm".to_owned() } else { quoted(&self.runtime) },
        )
    }
}

/// One word of a systemd unit.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%"))
}

/// Has the manager read its files again.
pub fn reload() -> Result<(), Failure> {
    systemctl(&["daemon-reload"])
}

/// Has the manager take the units as they lie there, and ends what it runs of them.
pub fn take(units: [&Path; 2]) -> Result<(), Failure> {
    // The manager may look elsewhere than where this shell's XDG_CONFIG_HOME points. Where it does not, this does nothing.
    systemctl(&["link", &text(units[0])?, &text(units[1])?])?;
    reload()?;
    systemctl(&["stop", SOCKET_UNIT, SERVICE_UNIT])?;
    // It fails where there is nothing to forget.
    let _ = systemctl(&["reset-failed", SOCKET_UNIT, SERVICE_UNIT]);
    Ok(())
}

/// Has the manager listen, now and after each login.
pub fn listen() -> Result<(), Failure> {
    systemctl(&["enable", "--now", SOCKET_UNIT])
}

/// Starts the daemon.
pub fn start() -> Result<(), Failure> {
    systemctl(&["start", SERVICE_UNIT])
}

/// Whether the last start failed because there could be no namespaces.
pub fn lacks_namespaces() -> bool {
    // EXIT_NAMESPACE and EXIT_USER of systemd.exec(5).
    shown("ExecMainStatus").is_some_and(|code| code == "226" || code == "217")
}

/// Whether the manager has given up on the daemon.
pub fn has_failed() -> bool {
    shown("ActiveState").is_some_and(|state| state == "failed")
}

/// How the daemon's unit is, in the manager's words.
pub fn state() -> String {
    let [active, result, code] =
        ["ActiveState", "Result", "ExecMainStatus"].map(|name| shown(name).unwrap_or_default());
    format!("{active}, {result}, exit code {code}")
}

/// Whether the socket's unit listens; nothing where the manager does not tell.
pub fn is_listening() -> Option<bool> {
    let output = Command::new("systemctl").args(["--user", "is-active", SOCKET_UNIT]).output().ok()?;
    match output.stdout.trim_ascii() {
        b"active" => Some(true),
        b"inactive" | b"failed" => Some(false),
        _ => None,
    }
}

/// Ends both units and keeps them from coming back.
pub fn disable() -> Result<(), Failure> {
    systemctl(&["disable", "--now", SOCKET_UNIT, SERVICE_UNIT])
}

/// A property of the daemon's unit.
fn shown(name: &str) -> Option<String> {
    let mut command = Command::new("systemctl");
    let output =
        command.args(["--user", "show", "--value", "--property", name, SERVICE_UNIT]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(output.stdout.trim_ascii()).into_owned())
}

fn systemctl(args: &[&str]) -> Result<(), Failure> {
    run("systemctl", &[&["--user"], args].concat())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::plan, *};

    #[test]
    fn a_service_has_no_network_unless_it_needs_one() {
        let without = plan().service(Sandbox::Whole);
        assert!(without.contains("\nRestrictAddressFamilies=AF_UNIX\n"), "{without}");
        assert!(without.contains("\nExecStart=\"/opt/a \\\"b\\\" 100%%/nemotermd\" serve\n"), "{without}");
        assert!(!without.contains("\nEnvironment="), "{without}");
        for with in [Plan { http: true, ..plan() }, Plan { remote: true, ..plan() }] {
            let with = with.service(Sandbox::Whole);
            assert!(with.contains("\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"), "{with}");
        }
    }

    #[test]
    fn the_socket_lies_where_clients_look() {
        assert!(plan().socket().contains("\nListenStream=%t/nemoterm/daemon.sock\n"));
        let elsewhere = Plan {
            is_usual: false,
            runtime: "/x 5%/r".to_owned(),
            environment: vec![("NEMOTERM_RUNTIME_DIR", "/x 5%/r".to_owned())],
            ..plan()
        };
        assert!(elsewhere.socket().contains("\nListenStream=/x 5%%/r/daemon.sock\n"));
        let service = elsewhere.service(Sandbox::Whole);
        assert!(service.contains("\nEnvironment=\"NEMOTERM_RUNTIME_DIR=/x 5%%/r\"\n"), "{service}");
        assert!(
            service.contains(
                "\nReadWritePaths=\"/x 5%%/r\" \"-/home/u/.local/state/nemoterm\" \"-/home/u/.cache/$1\"\n"
            ),
            "{service}"
        );
        assert!(
            service.contains("mkdir -p -- \"/home/u/.local/state/nemoterm\" \"/home/u/.cache/$$1\"\n"),
            "{service}"
        );
    }

    #[test]
    fn without_namespaces_system_calls_and_networks_stay_closed() {
        let service = plan().service(Sandbox::WithoutFiles);
        for gone in ["\nPrivateUsers=", "\nProtect", "\nReadWritePaths="] {
            assert!(!service.contains(gone), "{service}");
        }
        for kept in ["\nRestrictAddressFamilies=AF_UNIX\n", "\nSystemCallFilter=@system-service\n"] {
            assert!(service.contains(kept), "{service}");
        }
    }
}
