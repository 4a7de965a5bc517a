//! A home, a runtime directory and a working directory that belong to one test.

use std::{
    cell::Cell,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::runtime::Runtime;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The directories, which go away with it, and what runs in them.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    runtime: Runtime,
    limit: Cell<Duration>,
}

impl Home {
    /// Makes empty ones. The path stays short, as a socket has to fit.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("nt").tempdir_in("/tmp").unwrap();
        let runtime = Runtime::at(dir.path().join("run"));
        runtime.create().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        // A busy machine must not look like a daemon that hangs.
        Self { dir, runtime, limit: Cell::new(Duration::from_secs(10)) }
    }

    /// `$HOME`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where shells start.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Where the socket lies.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Lets what is started from now on wait for the daemon this long.
    pub fn limit(&self, limit: Duration) {
        self.limit.set(limit);
    }

    /// The processes that were started with this home and have that argument.
    pub fn processes(&self, argument: &str) -> Vec<Pid> {
        self.all_processes()
            .filter(|entry| lists(&entry.join("cmdline"), argument.as_bytes()))
            .filter_map(pid)
            .collect()
    }

    /// The directories below /proc of the processes that were started with this home.
    fn all_processes(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let home = format!("HOME={}", self.path().display()).into_bytes();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(move |entry| lists(&entry.join("environ"), &home))
    }

    /// Writes a file below the home.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A command that sees nothing of the machine's own settings, and starts no daemon.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = super::nemoterm().parent().unwrap().to_owned();
        let path: OsString =
            std::env::join_paths(std::iter::once(beside).chain(std::env::split_paths(&path))).unwrap();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("NEMOTERM_RUNTIME_DIR", self.runtime.dir())
            .env("NEMOTERM_AUTOSTART", "0")
            .env("NEMOTERM_TIMEOUT_MS", self.limit.get().as_millis().to_string())
            .current_dir(self.work());
        command
    }
}

impl Drop for Home {
    /// Ends what was started here and outlives its terminal: daemons, clients, servers of other programs.
    fn drop(&mut self) {
        let since = Instant::now();
        loop {
            let left: Vec<Pid> = self.all_processes().filter_map(pid).collect();
            // More than once, as one of them may just be starting another.
            if left.is_empty() || since.elapsed() > Duration::from_secs(5) {
                return;
            }
            for process in left {
                let _ = kill_process(process, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether a file of words that end in NUL has that word.
fn lists(file: &Path, word: &[u8]) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.split(|&byte| byte == 0).any(|other| other == word))
}

/// The process whose directory that is.
fn pid(directory: PathBuf) -> Option<Pid> {
    Pid::from_raw(directory.file_name()?.to_str()?.parse().ok()?)
}
