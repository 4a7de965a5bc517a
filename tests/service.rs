//! The daemon as a service: what is written for systemd, and a socket that systemd has bound.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::util::{
    eventually,
    intact::{Intact, refused},
    nemotermd,
    sandbox::{Printed, Sandbox, printed, signal},
};

/// A home with a systemctl that only writes down how it was called.
struct Place {
    sandbox: Sandbox,
}

/// What a systemctl does that works: it starts the daemon when it is told to.
fn works() -> String {
    let start = format!("\"{}\" serve --background </dev/null >/dev/null 2>&1 &", nemotermd().display());
    format!("case $* in *' start '*) {start};; esac")
}

impl Place {
    fn new(systemctl: &str) -> Self {
        let sandbox = Sandbox::new();
        let bin = sandbox.home().join("bin");
        fs::create_dir(&bin).unwrap();
        if !systemctl.is_empty() {
            let file = bin.join("systemctl");
            fs::write(&file, format!("#!/bin/sh\necho \"$*\" >>\"$HOME/calls\"\n{systemctl}\n")).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { sandbox }
    }

    fn daemon(&self, args: &[&str]) -> Printed {
        printed(self.command(args).output().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(crate::util::nemoterm());
        command.env("PATH", self.sandbox.home().join("bin"));
        command.env("XDG_CONFIG_HOME", self.sandbox.home().join("config"));
        command.arg("daemon").args(args);
        command
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.sandbox.home().join("calls")).unwrap_or_default();
        // How often it is asked how the units are depends on when it is.
        text.lines().filter(|call| !call.starts_with("--user show ")).map(str::to_owned).collect()
    }

    fn units(&self) -> [PathBuf; 2] {
        let dir = self.sandbox.home().join("config/systemd/user");
        [dir.join("nemoterm.socket"), dir.join("nemoterm.service")]
    }
}

#[test]
fn units_are_printed_installed_and_taken_back() {
    let place = Place::new("");
    let shown = place.daemon(&["install", "--print"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let socket = place.sandbox.runtime().join("daemon.sock");
    assert!(shown.stdout.contains(&format!("ListenStream={}\n", socket.display())), "{}", shown.stdout);
    assert!(!place.sandbox.home().join("config").exists());

    let missing = place.daemon(&["install"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.starts_with("nemoterm: there is no systemctl here\nhint: "), "{}", missing.stderr);
    assert!(place.units().iter().all(|unit| !unit.exists()));

    let place = Place::new(&works());
    assert_eq!(place.daemon(&["uninstall"]).stderr, "no service is installed\n");
    assert!(place.calls().is_empty());
    assert_eq!(place.daemon(&["start"]).code, Some(0));
    let old = place.sandbox.daemon_pid();
    let installed = place.daemon(&["install"]);
    assert_eq!(installed.code, Some(0), "{}", installed.stderr);
    let [socket, service] = place.units().map(|unit| unit.display().to_string());
    let expected = [
        "--user daemon-reload".to_owned(),
        format!("--user link {socket} {service}"),
        "--user daemon-reload".to_owned(),
        "--user stop nemoterm.socket nemoterm.service".to_owned(),
        "--user reset-failed nemoterm.socket nemoterm.service".to_owned(),
        "--user enable --now nemoterm.socket".to_owned(),
        "--user start nemoterm.service".to_owned(),
    ];
    assert_eq!(place.calls(), expected);
    assert_ne!(place.sandbox.daemon_pid(), old, "the one that ran has made room");
    let mut command = place.sandbox.command(crate::util::nemoterm());
    command.env("XDG_CONFIG_HOME", place.sandbox.home().join("config"));
    let set = printed(command.args(["config", "set", "http", "127.0.0.1:0"]).output().unwrap());
    assert!(set.stderr.contains("nemoterm daemon install"), "{}", set.stderr);
    let service = fs::read_to_string(&place.units()[1]).unwrap();
    assert!(service.contains(&format!("ExecStart=\"{}\" serve\n", nemotermd().display())), "{service}");
    assert!(service.contains("RestrictAddressFamilies=AF_UNIX\n"), "{service}");
    let removed = place.daemon(&["uninstall"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert!(place.units().iter().all(|unit| !unit.exists()));
    let expected = ["--user disable --now nemoterm.socket nemoterm.service", "--user daemon-reload"];
    assert_eq!(place.calls()[7..], expected);
}

#[test]
fn where_http_is_served_the_service_has_a_network() {
    let place = Place::new("exit 0");
    let dir = place.sandbox.home().join("config/nemoterm");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "http = '127.0.0.1:8000'\n").unwrap();
    let printed = place.daemon(&["install", "--print"]).stdout;
    assert!(printed.contains("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"), "{printed}");
}

/// A way to break a service: what systemctl does, variables, and what is said about it. A `~` is the home.
type Way = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const WAYS: &[Way] = &[
    ("", &[], "there is no systemctl here", "nothing has to be installed"),
    (
        "echo no bus >&2; exit 1",
        &[],
        "systemctl --user daemon-reload failed: no bus",
        "nothing has to be installed",
    ),
    (
        "case $* in *link*) echo 'two words\nof it' >&2; exit 1;; esac",
        &[],
        "failed: two words of it",
        "nothing has to be",
    ),
    (
        "case $* in *' stop '*) echo stuck >&2; exit 1;; esac",
        &[],
        "nemoterm.service failed: stuck",
        "nothing has to",
    ),
    (
        "case $* in *enable*) echo masked >&2; exit 1;; esac",
        &[],
        "enable --now nemoterm.socket failed: masked",
        "nothing",
    ),
    ("case $* in *enable*|*disable*) exit 4;; esac", &[], "failed: exit status: 4", "nothing has to be"),
    (
        "case $* in *' start '*) exit 1;; *ActiveState*) echo failed;; *ExecMainStatus*) echo 203;; esac",
        &[],
        "the service does not answer: it does not start (failed, , exit code 203)",
        "journalctl --user -u nemoterm.service",
    ),
    (
        "case $* in *ActiveState*) echo failed;; *Result*) echo exit-code;; *ExecMainStatus*) echo 3;; esac",
        &[],
        "the service does not answer: ",
        "journalctl --user -u nemoterm.service",
    ),
    ("exit 0", &[("NEMOTERM_DAEMON", "~/none")], "NEMOTERM_DAEMON", "NEMOTERM_DAEMON"),
    ("exit 0", &[("XDG_CONFIG_HOME", "~/blocked")], "nemoterm.socket can't be written", "permissions"),
    ("exit 0", &[("XDG_STATE_HOME", "~/blocked/systemd")], "Not a directory", "permissions"),
    ("exit 0", &[("XDG_CACHE_HOME", "~/two\nlines")], "is no plain text", "install nemoterm elsewhere"),
];

#[test]
fn every_way_to_break_a_service_says_what_to_do_and_changes_nothing() {
    assert!(WAYS.len() >= 12);
    for (systemctl, variables, message, hint) in WAYS {
        for old in [None, Some("# mine\n")] {
            let way = format!("{systemctl} {variables:?} over {old:?}");
            let place = Place::new(systemctl);
            let home = place.sandbox.home();
            fs::create_dir_all(home.join("config/nemoterm")).unwrap();
            fs::write(home.join("config/nemoterm/config.toml"), "# mine\nthreads = 1\n").unwrap();
            fs::create_dir(home.join("blocked")).unwrap();
            fs::write(home.join("blocked/systemd"), "").unwrap();
            if let Some(old) = old {
                fs::create_dir_all(place.units()[0].parent().unwrap()).unwrap();
                place.units().iter().for_each(|unit| fs::write(unit, old).unwrap());
            }
            let intact = Intact::of(home);
            let mut command = place.command(&["install"]);
            command.envs(
                variables.iter().map(|(name, value)| (name, value.replace('~', home.to_str().unwrap()))),
            );
            refused(&printed(command.output().unwrap()), &way, message, hint);
            intact.check(&way, |_| false);
        }
    }
    // What can't be taken back stays whole.
    let place = Place::new(&format!("case $* in *disable*) echo busy >&2; exit 1;; esac; {}", works()));
    assert_eq!(place.daemon(&["install"]).code, Some(0));
    let intact = Intact::of(place.sandbox.home());
    refused(&place.daemon(&["uninstall"]), "uninstall", "failed: busy", "nothing has to be");
    intact.check("uninstall", |_| false);
    assert!(place.units().iter().all(|unit| unit.exists()));
}

#[test]
fn looking_whether_it_runs_does_not_start_it() {
    let place = Place::new(&works());
    assert_eq!(place.daemon(&["install"]).code, Some(0));
    assert_eq!(place.daemon(&["stop"]).code, Some(0));
    let listener = bind(&place.sandbox);
    listener.set_nonblocking(true).unwrap();
    let run = |args: &[&str]| {
        let mut command = place.sandbox.command(crate::util::nemoterm());
        command.env("XDG_CONFIG_HOME", place.sandbox.home().join("config"));
        printed(command.args(args).output().unwrap())
    };
    let status = run(&["daemon", "status"]);
    assert_eq!(status.code, Some(3));
    assert!(status.stderr.contains("the first shell that asks starts it"), "{}", status.stderr);
    assert_eq!(run(&["daemon", "status", "--json"]).stdout, "{\"running\":false}\n");
    assert_eq!(run(&["daemon", "stop"]).code, Some(0));
    assert_eq!(run(&["config", "set", "threads", "1"]).code, Some(0));
    assert_eq!(run(&["model", "use", "nemoterm-mini"]).code, Some(0));
    assert_eq!(run(&["stats"]).code, Some(0));
    assert!(listener.accept().is_err(), "nobody has connected");
}

/// Binds the socket as systemd does.
fn bind(sandbox: &Sandbox) -> UnixListener {
    let path = sandbox.runtime().join("daemon.sock");
    let _ = fs::remove_file(&path);
    UnixListener::bind(path).unwrap()
}

/// Starts the daemon as systemd does.
fn activate(sandbox: &Sandbox, listener: &UnixListener, count: u32) -> Child {
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" serve 3<&0 </dev/null");
    let passed: OwnedFd = listener.try_clone().unwrap().into();
    let mut command = sandbox.command("/bin/sh");
    command.args(["-c", &script]).arg(nemotermd()).stdin(passed).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The exit code of a daemon that ends by itself.
fn ended(daemon: &mut Child) -> Option<i32> {
    let mut status = None;
    eventually("the daemon to end", || {
        status = daemon.try_wait().unwrap();
        status.is_some()
    });
    status?.code()
}

fn inode(sandbox: &Sandbox) -> u64 {
    fs::metadata(sandbox.runtime().join("daemon.sock")).unwrap().ino()
}

#[test]
fn a_passed_socket_is_served_and_stays() {
    let sandbox = Sandbox::new();
    let listener = bind(&sandbox);
    let ours = inode(&sandbox);
    for _ in 0..2 {
        let mut daemon = activate(&sandbox, &listener, 1);
        let completed = sandbox.nemoterm(&["complete", "find . -name"]);
        assert_eq!(completed.code, Some(0), "{}", completed.stderr);
        assert_eq!(sandbox.daemon_pid(), Some(daemon.id() as i32));
        assert_eq!(sandbox.nemoterm(&["daemon", "stop"]).code, Some(0));
        assert_eq!(ended(&mut daemon), Some(0));
        assert_eq!(inode(&sandbox), ours, "it is not ours to remove");
    }
    assert!(sandbox.log().contains("passed=true"), "{}", sandbox.log());
}

#[test]
fn who_has_the_passed_socket_takes_the_place_of_one_that_runs() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    let old = sandbox.daemon_pid().unwrap();
    let listener = bind(&sandbox);
    let ours = inode(&sandbox);
    let mut daemon = activate(&sandbox, &listener, 1);
    assert_eq!(sandbox.daemon_pid(), Some(daemon.id() as i32));
    assert_ne!(old, daemon.id() as i32);
    assert_eq!(inode(&sandbox), ours, "the old one has left it alone");
    signal(daemon.id() as i32, rustix::process::Signal::TERM);
    assert_eq!(ended(&mut daemon), Some(0));
}

#[test]
fn a_socket_of_somebody_who_listens_is_not_taken() {
    let sandbox = Sandbox::new();
    let _listener = bind(&sandbox);
    let ours = inode(&sandbox);
    let started = sandbox.command(nemotermd()).args(["serve", "--background"]).status().unwrap();
    assert!(started.success());
    assert_eq!(inode(&sandbox), ours);
    assert!(sandbox.log().contains("another program listens"), "{}", sandbox.log());
}

#[test]
fn a_passed_socket_that_was_removed_is_not_bound_again() {
    let sandbox = Sandbox::new();
    let listener = bind(&sandbox);
    let mut daemon = activate(&sandbox, &listener, 1);
    assert_eq!(sandbox.daemon_pid(), Some(daemon.id() as i32));
    fs::remove_file(sandbox.runtime().join("daemon.sock")).unwrap();
    signal(daemon.id() as i32, rustix::process::Signal::HUP);
    assert_eq!(ended(&mut daemon), Some(0));
    let completed = sandbox.nemoterm(&["complete", "find . -name"]);
    assert_eq!(completed.code, Some(0), "one of its own takes over: {}", completed.stderr);
}

#[test]
fn what_else_is_passed_is_refused() {
    let sandbox = Sandbox::new();
    let listener = bind(&sandbox);
    assert_eq!(ended(&mut activate(&sandbox, &listener, 2)), Some(1));
    let elsewhere = UnixListener::bind(sandbox.home().join("elsewhere")).unwrap();
    assert_eq!(ended(&mut activate(&sandbox, &elsewhere, 1)), Some(1));
    // Those of another process are nobody's.
    drop(listener);
    let mut command = sandbox.command(crate::util::nemoterm());
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").args(["complete", "find . -name"]);
    assert_eq!(printed(command.output().unwrap()).code, Some(0));
    eventually("it to have bound its own", || sandbox.daemon_pid().is_some());
}
