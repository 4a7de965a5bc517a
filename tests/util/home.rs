//! A home, a runtime directory and a working directory that belong to one test.

use std::{
    cell::Cell,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nemoterm_protocol::{Request, client::Client, runtime::Runtime};
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
    /// Ends the daemon that something here has started.
    fn drop(&mut self) {
        let limit = Duration::from_secs(5);
        if let Ok(client) = Client::connect(&self.runtime, limit) {
            let _ = client.ask(&Request::Stop, limit);
        }
    }
}
