//! A home in which the real daemon may run; dropping it ends the daemon.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::home::Home;

/// A home with programs that start a daemon when they need one.
pub struct Sandbox {
    home: Home,
}

/// What a program printed, and how it ended.
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Sandbox {
    /// An empty one, without a daemon.
    pub fn new() -> Self {
        super::nemotermd();
        Self { home: Home::new() }
    }

    /// `$HOME`, where programs run too.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the socket and the lock lie.
    pub fn runtime(&self) -> &Path {
        self.home.runtime().dir()
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join(".local/state/nemoterm/daemon.log")).unwrap_or_default()
    }

    /// A program in this home.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.home.command(program);
        command
            .env_remove("NEMOTERM_AUTOSTART")
            .env_remove("NEMOTERM_TIMEOUT_MS")
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// Runs `nemoterm`.
    pub fn nemoterm<S: AsRef<OsStr>>(&self, args: &[S]) -> Printed {
        printed(self.command(super::nemoterm()).args(args).output().unwrap())
    }

    /// The daemon's process id, by its own word.
    pub fn daemon_pid(&self) -> Option<i32> {
        let printed = self.nemoterm(&["daemon", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&printed.stdout).ok()?;
        status["pid"].as_i64().map(|pid| pid as i32)
    }

    /// A copy of the embedded model, in a directory of this home.
    pub fn copy_of_model(&self, name: &str) -> PathBuf {
        let copy = self.home().join(name);
        fs::create_dir(&copy).unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/nemoterm-mini");
        for entry in fs::read_dir(model).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Its lock file names it, and says whether it still runs.
        let lock = self.runtime().join("daemon.lock");
        let Ok(file) = fs::File::open(&lock) else { return };
        if file.try_lock_shared().is_err()
            && let Some(pid) = fs::read_to_string(&lock).ok().and_then(|text| text.parse().ok())
        {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Sends a signal to a process the test has started.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The output of a program that has ended.
pub fn printed(output: Output) -> Printed {
    Printed {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}
