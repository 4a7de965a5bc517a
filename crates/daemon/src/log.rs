//! The daemon's log: what happened to it, never what was typed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use tracing_subscriber::EnvFilter;

/// At its start the daemon puts a log aside that has grown beyond this many bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Sends the log to the user's log file, or to standard error for a daemon in the foreground. Returns the file.
pub fn start(foreground: bool) -> Option<PathBuf> {
    let filter = EnvFilter::try_from_env("NEMOTERM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if foreground {
        builder.with_writer(io::stderr).init();
        return None;
    }
    let path = nemoterm_protocol::runtime::log_file()?;
    // A daemon that can't log still completes.
    let file = open(&path).ok()?;
    builder.with_ansi(false).with_writer(file).init();
    Some(path)
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    if fs::metadata(path).is_ok_and(|found| found.len() > MAX_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
