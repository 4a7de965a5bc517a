//! The daemon as a service of a real `systemd --user`. What is only written, and a systemctl that fails, are in `service`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::util::{
    eventually,
    manager::{Manager, Namespaces},
    sandbox::signal,
};

const SERVICE: &str = "nemoterm.service";
const SOCKET: &str = "nemoterm.socket";

/// Installs the service and gives what was said.
fn install(manager: &Manager) -> String {
    let installed = manager.nemoterm(&["daemon", "install"]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stderr, manager.said());
    installed.stderr
}

/// The daemon that answers, which has to be the service's.
fn pid(manager: &Manager) -> i32 {
    let completed = manager.nemoterm(&["complete", "find . -name"]);
    assert_eq!(completed.code, Some(0), "{}{}", completed.stderr, manager.said());
    let pid = manager.status()["pid"].as_i64().unwrap();
    assert_eq!(manager.shows(SERVICE, "MainPID"), pid.to_string(), "{}", manager.said());
    pid as i32
}

/// A path as the daemon sees it.
fn seen_by(pid: i32, path: &Path) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap())
}

fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_service_answers_from_its_sandbox() {
    let Some(manager) = Manager::start(Namespaces::Allowed) else { return };
    let said = install(&manager);
    assert!(!said.contains("note:"), "{said}");
    let units = [SOCKET, SERVICE].map(|unit| manager.at(".config/systemd/user").join(unit));
    let args = ["--user", "verify"].map(PathBuf::from).into_iter().chain(units.clone()).collect::<Vec<_>>();
    let verified = manager.run_with(&[], "systemd-analyze", &args);
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{}", manager.said());
    assert_eq!(manager.shows(SOCKET, "UnitFileState"), "enabled");

    let daemon = pid(&manager);
    assert_eq!((field(daemon, "NoNewPrivs"), field(daemon, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    // It writes to its log, its cache and its runtime directory, and nowhere else.
    for open in [".local/state/nemoterm", ".cache/nemoterm", "xdg/nemoterm"] {
        let path = seen_by(daemon, &manager.at(open)).join("x");
        fs::write(&path, "").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    for closed in [".bashrc", ".config/nemoterm", ".local/x", ".cache/x", "bin/nemotermd", "xdg/x"] {
        let written = fs::write(seen_by(daemon, &manager.at(closed)), "");
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "{closed}");
    }
    let log = fs::read_to_string(manager.at(".local/state/nemoterm/daemon.log")).unwrap();
    assert!(log.contains("passed=true"), "{log}");
    let network = manager.nemoterm(&["config", "set", "http", "127.0.0.1:0"]);
    assert!(network.stderr.contains("nemoterm daemon install"), "{}", network.stderr);
    eventually("HTTP to be refused a socket", || manager.status()["http_error"].is_object());
    install(&manager);
    pid(&manager);
    eventually("HTTP to be served", || manager.status()["http"].is_string());

    let removed = manager.nemoterm(&["daemon", "uninstall"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert!(units.iter().all(|unit| !unit.exists()));
    let left = manager.systemctl(&["list-unit-files", "--no-legend", "nemoterm*"]);
    assert_eq!(left.stdout, "");
    assert!(fs::read_dir(manager.at(".config/systemd/user/sockets.target.wants")).is_err());
    assert!(!manager.at("xdg/nemoterm/daemon.sock").exists());
    assert_eq!(manager.nemoterm(&["daemon", "status"]).code, Some(3));
}

#[test]
fn a_service_comes_back_and_ends_in_time() {
    let Some(manager) = Manager::start(Namespaces::Allowed) else { return };
    install(&manager);
    // More often than a manager allows by itself.
    for _ in 0..12 {
        signal(pid(&manager), rustix::process::Signal::KILL);
        eventually("the manager to have seen it", || manager.shows(SERVICE, "ActiveState") == "failed");
    }
    for _ in 0..6 {
        let again = manager.nemoterm(&["daemon", "restart"]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
    }
    pid(&manager);
    assert_eq!(manager.shows(SOCKET, "ActiveState"), "active");
    assert_eq!(manager.systemctl(&["stop", SERVICE]).code, Some(0));
    let state = ["ActiveState", "Result", "ExecMainStatus"].map(|name| manager.shows(SERVICE, name));
    assert_eq!(state, ["inactive", "success", "0"], "it has ended by itself when it was told to");

    // Who cleans up takes the directory it writes to: it is made again, where the daemon itself could not.
    let model = manager.sandbox.copy_of_model("mine");
    for (key, value) in [("model", model.to_str().unwrap()), ("quantize", "q8_0")] {
        let set = manager.nemoterm(&["config", "set", key, value]);
        assert_eq!(set.code, Some(0), "{}", set.stderr);
    }
    fs::remove_dir_all(manager.at(".cache/nemoterm")).unwrap();
    pid(&manager);
    let mut status = serde_json::Value::Null;
    eventually("the model to be loaded", || {
        status = manager.status();
        status["model"]["quantisation"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("q8_0"))
    });
    assert!(status["model"]["not_kept"].is_null(), "{status}");
    assert_eq!(fs::read_dir(manager.at(".cache/nemoterm/quantised")).unwrap().count(), 1);

    // A socket that is not listened on is a finding, although a shell has started a daemon that has bound the path.
    let service = |manager: &Manager| {
        let found: serde_json::Value =
            serde_json::from_str(&manager.nemoterm(&["doctor", "--json"]).stdout).unwrap();
        let found = found.as_array().unwrap().iter().find(|finding| finding["check"] == "service").cloned();
        found.unwrap()["ok"].as_bool().unwrap()
    };
    assert!(service(&manager));
    assert_eq!(manager.systemctl(&["stop", SOCKET, SERVICE]).code, Some(0));
    assert_eq!(manager.nemoterm(&["daemon", "start"]).code, Some(0));
    assert!(manager.at("xdg/nemoterm/daemon.sock").exists() && !service(&manager));
    install(&manager);
    pid(&manager);
    assert!(service(&manager));
}

#[test]
fn where_there_are_no_namespaces_the_rest_of_the_sandbox_stays() {
    let Some(manager) = Manager::start(Namespaces::Refused) else { return };
    let said = install(&manager);
    assert!(said.contains("note: this system gives a service no user namespace"), "{said}");
    let daemon = pid(&manager);
    assert_eq!((field(daemon, "NoNewPrivs"), field(daemon, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    let service = fs::read_to_string(manager.at(".config/systemd/user").join(SERVICE)).unwrap();
    assert!(
        !service.contains("Protect") && service.contains("RestrictAddressFamilies=AF_UNIX\n"),
        "{service}"
    );
}

#[test]
fn a_service_finds_what_the_shell_finds() {
    let Some(manager) = Manager::start(Namespaces::Allowed) else { return };
    let set = ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HF_HOME"];
    let set = set.map(|name| (name, manager.at("else $where").join(name).to_str().unwrap().to_owned()));
    let variables: Vec<_> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = |args: &[&str]| {
        let printed = manager.run_with(&variables, "nemoterm", args);
        assert_eq!(printed.code, Some(0), "{}{}", printed.stderr, manager.said());
        printed
    };
    run(&["config", "set", "idle_minutes", "7"]);
    run(&["daemon", "install"]);
    run(&["complete", "find . -name"]);
    let pid = manager.shows(SERVICE, "MainPID");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    for (name, value) in &set {
        let expected = format!("{name}={value}");
        assert!(environment.split(|&byte| byte == 0).any(|word| word == expected.as_bytes()), "{expected}");
    }
    assert!(manager.at("else $where/XDG_STATE_HOME/nemoterm/daemon.log").exists());
    assert!(!manager.at(".local/state/nemoterm").exists() && !manager.at(".cache/nemoterm").exists());
    run(&["daemon", "uninstall"]);
    assert_eq!(manager.systemctl(&["list-unit-files", "--no-legend", "nemoterm*"]).stdout, "");
}

#[test]
fn a_daemon_that_does_not_answer_is_not_installed() {
    let Some(manager) = Manager::start(Namespaces::Allowed) else { return };
    install(&manager);
    let before = fs::read_to_string(manager.at(".config/systemd/user").join(SERVICE)).unwrap();
    let program = manager.at("bin/broken");
    let script = "#!/bin/sh\ncase $1 in config) exit 0;; esac\nexit 3\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let variables = [("NEMOTERM_DAEMON", program.to_str().unwrap())];
    let failed = manager.run_with(&variables, "nemoterm", &["daemon", "install"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("exit code 3") && failed.stderr.contains("\nhint: journalctl"),
        "{}",
        failed.stderr
    );
    assert_eq!(fs::read_to_string(manager.at(".config/systemd/user").join(SERVICE)).unwrap(), before);
    pid(&manager);

    assert_eq!(manager.nemoterm(&["daemon", "uninstall"]).code, Some(0));
    assert_eq!(manager.run_with(&variables, "nemoterm", &["daemon", "install"]).code, Some(1));
    assert_eq!(manager.systemctl(&["list-unit-files", "--no-legend", "nemoterm*"]).stdout, "");
}
