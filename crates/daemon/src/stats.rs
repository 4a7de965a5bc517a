//! What shells have counted, in the state directory: it is written minutes after something was counted, and at the end.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nemoterm_protocol::stats::Stats;
use tokio::sync::Notify;

use crate::http::now;

/// How long what was counted waits to be written.
const LATER: Duration = Duration::from_secs(300);

/// What was counted so far.
pub struct Counts {
    path: Option<PathBuf>,
    stats: Mutex<Stats>,
    is_on: AtomicBool,
    changed: Notify,
}

impl Counts {
    /// What lies in that file. One that is missing or makes no sense is a new beginning.
    pub fn read(path: Option<PathBuf>) -> Self {
        let text = path.as_deref().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let read: Stats = serde_json::from_slice(&text).unwrap_or_default();
        // Whatever else may stand there is left out.
        let mut stats = Stats { since: read.since, rows: Vec::new() };
        stats.add(&read);
        Self { path, stats: Mutex::new(stats), is_on: AtomicBool::new(true), changed: Notify::new() }
    }

    /// Counts from now on, or does not.
    pub fn turn(&self, on: bool) {
        self.is_on.store(on, Ordering::Relaxed);
    }

    /// Whether it is counted.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Adds what a shell has counted.
    pub fn add(&self, counted: &Stats) {
        if !self.is_on() {
            return;
        }
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        if stats.since == 0 {
            stats.since = now();
        }
        stats.add(counted);
        self.changed.notify_one();
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets it, in the file too.
    pub fn reset(&self) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Stats::default();
        if let Some(path) = &self.path {
            // It may never have been written.
            let _ = fs::remove_file(path);
        }
    }

    /// Writes what was counted, a while after it was.
    pub async fn write_later(&self) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(LATER).await;
            self.write();
        }
    }

    /// Writes it now, where there is anything.
    pub fn write(&self) {
        let stats = self.stats();
        let Some(path) = self.path.as_deref().filter(|_| !stats.rows.is_empty()) else { return };
        if let Err(error) = write(path, &stats) {
            tracing::warn!(%error, "what was counted could not be written");
        }
    }
}

/// Replaces the file, which only its owner may read.
fn write(path: &Path, stats: &Stats) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, stats)?;
    file.flush()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nemoterm_protocol::Source;

    use super::*;

    #[test]
    fn what_was_counted_survives_and_is_forgotten_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/stats.json");
        let counts = Counts::read(Some(path.clone()));
        counts.write();
        assert!(!path.exists(), "nothing is written for nothing");
        let mut counted = Stats::default();
        counted.row("zsh", Source::Model).shown = 3;
        counts.add(&counted);
        counts.write();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let counts = Counts::read(Some(path.clone()));
        counts.add(&counted);
        assert_eq!(counts.stats().rows[0].shown, 6);
        assert!(counts.stats().since > 0);
        counts.turn(false);
        counts.add(&counted);
        assert_eq!(counts.stats().rows[0].shown, 6, "off is off");
        counts.reset();
        assert!(!path.exists() && counts.stats() == Stats::default());
        for damaged in ["", "{", "{\"rows\":[{}]}", "[]"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(Counts::read(Some(path.clone())).stats(), Stats::default(), "{damaged}");
        }
    }
}
