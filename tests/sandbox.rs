//! A home of its own for each test, with its own daemon.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The daemon's program, built beside the client's.
pub fn daemon_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_nemoterm")).with_file_name("nemotermd");
    assert!(path.is_file(), "{} is missing; build it first: cargo xtask test does", path.display());
    path
}

/// A private HOME and runtime directory. Dropping it ends the daemon that was started in it.
pub struct Sandbox {
    temp: tempfile::TempDir,
}

/// What a program printed, and how it ended.
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Sandbox {
    pub fn new() -> Self {
        daemon_program();
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("home")).unwrap();
        Self { temp }
    }

    pub fn home(&self) -> PathBuf {
        self.temp.path().join("home")
    }

    pub fn runtime(&self) -> PathBuf {
        self.temp.path().join("run")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join(".local/state/nemoterm/daemon.log")).unwrap_or_default()
    }

    /// A program in this home, with nothing of the environment but the PATH.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("NEMOTERM_RUNTIME_DIR", self.runtime())
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    pub fn nemoterm<S: AsRef<OsStr>>(&self, args: &[S]) -> Printed {
        let mut command = self.command(env!("CARGO_BIN_EXE_nemoterm"));
        command.args(args);
        printed(command.output().unwrap())
    }

    /// The daemon's process id, by its own word.
    pub fn daemon_pid(&self) -> Option<i32> {
        let printed = self.nemoterm(&["daemon", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&printed.stdout).ok()?;
        status["pid"].as_i64().map(|pid| pid as i32)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A daemon that a test has stopped with a signal goes on first.
        if let Some(pid) = fs::read_to_string(self.runtime().join("daemon.lock")).ok().and_then(|text| text.parse().ok())
        {
            let locked = fs::File::open(self.runtime().join("daemon.lock")).is_ok_and(|file| file.try_lock_shared().is_err());
            if locked {
                signal(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn printed(output: Output) -> Printed {
    Printed {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

/// Waits until something holds, looking again and again.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
