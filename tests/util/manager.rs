//! A service manager of a test's own: a real `systemd --user` with a home and a runtime directory of the test.
//!
//! Where the tests run as root, it runs as a user without rights, in a control group and a mount namespace of its own, so
//! the machine need not have been started with systemd. Elsewhere it runs in a scope of the user's own manager.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    copy_program, eventually, find_file,
    sandbox::{Printed, Sandbox, printed},
};

/// A user that owns nothing else.
const USER: u32 = 61_234;

/// Makes a control group ($1) and a place where the machine looks as if it had been started with systemd, and becomes the
/// manager in it. $2 is the user, $3 where messages go, $4 what services need to have namespaces, or something else.
const AS_ROOT: &str = r#"
set -e
mkdir "$1"
chown -R "$2" "$1"
echo $$ >"$1/cgroup.procs"
exec unshare --mount --cgroup sh -ec '
    mount --make-rprivate /
    umount -R /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t tmpfs -o mode=755 none /run
    mkdir -p /run/systemd/system "$4"
    mount --bind "$3" /dev/console
    user=$2
    shift 4
    exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
' sh "$@"
"#;

/// What a service's sandbox can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    Allowed,
    Refused,
}

/// The manager, and the home it and its services are in.
pub struct Manager {
    process: Child,
    group: Option<PathBuf>,
    pub sandbox: Sandbox,
}

impl Manager {
    /// Starts one; nothing, with a printed reason, where that can't be done.
    pub fn start(namespaces: Namespaces) -> Option<Self> {
        let systemd = find_file(&["/lib/systemd/systemd", "/usr/lib/systemd/systemd"])?;
        let is_root = rustix::process::geteuid().is_root();
        if namespaces == Namespaces::Refused && !is_root {
            eprintln!("skipped: only root can take namespaces away from a manager");
            return None;
        }
        let sandbox = Sandbox::new();
        let home = sandbox.home();
        fs::create_dir(home.join("bin")).unwrap();
        for program in [super::nemoterm().to_owned(), super::nemotermd()] {
            copy_program(&program, &home.join("bin").join(program.file_name().unwrap()));
        }
        let runtime = home.join("xdg");
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        let console = home.join("console");
        File::create(&console).unwrap();
        if is_root {
            let owned = Command::new("chown").args(["-R", &USER.to_string()]).arg(home).status().unwrap();
            assert!(owned.success());
        }
        let group = is_root.then(group).flatten();
        let mut command = match &group {
            Some(group) => {
                let mut command = Command::new("sh");
                command.args(["-c", AS_ROOT, "sh"]).arg(group).arg(USER.to_string()).arg(&console);
                // Where the root of a service's file system is put together.
                let unit_root = if namespaces == Namespaces::Allowed { "unit-root" } else { "system" };
                command.arg(format!("/run/systemd/{unit_root}"));
                command
            }
            None => {
                let mut command = Command::new("systemd-run");
                command.args(["--user", "--scope", "--quiet", "--property=Delegate=yes"]);
                command
            }
        };
        command.args(environment(home)).arg(&systemd).args(["--user", "--log-target=console"]);
        let log = File::create(home.join("manager.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().ok()?;
        let mut manager = Self { process, group, sandbox };
        let mut ended = false;
        eventually("a service manager that answers, or its end", || {
            ended = manager.process.try_wait().unwrap().is_some();
            ended || manager.systemctl(&["show-environment"]).code == Some(0)
        });
        if ended {
            let log = fs::read_to_string(manager.sandbox.home().join("manager.log")).unwrap();
            eprintln!("skipped: no service manager can be started here: {}", log.trim());
            return None;
        }
        Some(manager)
    }

    /// A path below the home.
    pub fn at(&self, name: &str) -> PathBuf {
        self.sandbox.home().join(name)
    }

    /// Runs a program as a shell of that user would, with these variables besides.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        variables: &[(&str, &str)],
        program: &str,
        args: &[S],
    ) -> Printed {
        let mut command = Command::new("env");
        if self.group.is_some() {
            command = Command::new("nsenter");
            command.args(["--mount", "--cgroup", "--target"]).arg(self.process.id().to_string());
            command.arg("setpriv").arg(format!("--reuid={USER}")).arg(format!("--regid={USER}"));
            command.arg("--clear-groups");
        }
        command.args(environment(self.sandbox.home()));
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        printed(command.arg(program).args(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs `nemoterm`.
    pub fn nemoterm(&self, args: &[&str]) -> Printed {
        self.run_with(&[], "nemoterm", args)
    }

    /// Runs `systemctl --user`.
    pub fn systemctl(&self, args: &[&str]) -> Printed {
        self.run_with(&[], "systemctl", &[&["--user"], args].concat())
    }

    /// A property of a unit.
    pub fn shows(&self, unit: &str, property: &str) -> String {
        let printed = self.systemctl(&["show", "--value", "--property", property, unit]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stdout.trim().to_owned()
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.nemoterm(&["daemon", "status", "--json"]).stdout).unwrap()
    }

    /// What services and the manager have said, for a test that fails.
    pub fn said(&self) -> String {
        fs::read_to_string(self.at("console")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Everything in the group; the home ends what it finds of its own.
        if let Some(group) = &self.group {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(group) = &self.group {
            eventually("the end of all services", || {
                !fs::read_to_string(group.join("cgroup.events"))
                    .is_ok_and(|text| text.contains("populated 1"))
            });
            remove(group);
        }
    }
}

/// `env` with what such a user has set, and nothing else.
fn environment(home: &Path) -> Vec<String> {
    let home = home.to_str().unwrap();
    vec![
        "env".to_owned(),
        "-i".to_owned(),
        format!("PATH={home}/bin:/usr/bin:/bin"),
        format!("HOME={home}"),
        format!("XDG_RUNTIME_DIR={home}/xdg"),
        "LANG=C.UTF-8".to_owned(),
    ]
}

/// Where a control group of this test can be; nothing where there are none of the second version.
fn group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Some(Path::new(mount).join(format!("nemoterm-test-{}-{number}", std::process::id())))
}

/// Removes an empty control group and those in it; their files are not removable, and go with them.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
