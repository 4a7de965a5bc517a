//! What is counted of one shell's suggestions, until the daemon takes it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nemoterm_protocol::{Source, stats::Stats};

/// How often the daemon is told at most.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    shell: String,
    stats: Stats,
    /// The newest request.
    last: Option<Last>,
    /// When the daemon was told last.
    told: Option<Instant>,
}

/// A request, and what became of it.
#[derive(Debug)]
struct Last {
    seq: u64,
    since: Instant,
    /// Characters of a description, which a command takes the place of.
    described: usize,
    /// Where the suggestion that is shown comes from.
    shown: Option<Source>,
    /// And the one that was shown before the request: what is typed of it leaves the rest on the screen, where it may be taken
    /// before there is an answer.
    before: Option<Source>,
    accepted: bool,
}

impl Tally {
    /// Counts for a shell.
    pub fn new(shell: &str) -> Self {
        let counted = Counted { shell: shell.to_owned(), ..Counted::default() };
        Self { counted: Arc::new(Mutex::new(counted)) }
    }

    /// The shell has asked about the end of a line; `described` are the characters of a description.
    pub fn asked(&self, seq: u64, described: usize) {
        let mut counted = self.lock();
        let before = counted.last.as_ref().and_then(|last| last.shown.or(last.before));
        counted.last =
            Some(Last { seq, since: Instant::now(), described, shown: None, before, accepted: false });
    }

    /// The shell is told suggestions, of which the best one comes from there.
    pub fn answered(&self, seq: u64, source: Source) {
        let mut counted = self.lock();
        let Counted { shell, stats, last, .. } = &mut *counted;
        let Some(last) = last.as_mut().filter(|last| last.seq == seq && !last.accepted) else { return };
        let row = stats.row(shell, source);
        row.latency.record(last.since.elapsed().as_secs_f64() * 1e3);
        if last.shown == Some(source) {
            return;
        }
        row.shown += 1;
        // The better one takes the place of the one before, which may have been reported already.
        if let Some(before) = last.shown.replace(source) {
            let row = stats.row(shell, before);
            row.shown = row.shown.saturating_sub(1);
        }
    }

    /// The user has taken this of the suggestion.
    pub fn accepted(&self, text: &str) {
        let mut counted = self.lock();
        let Counted { shell, stats, last, .. } = &mut *counted;
        let Some(last) = last.as_mut() else { return };
        let Some(source) = last.shown.or(last.before) else { return };
        let row = stats.row(shell, source);
        if !last.accepted {
            row.accepted += 1;
            last.accepted = true;
        }
        // One key did it.
        row.saved += text.chars().count().saturating_sub(last.described + 1) as u64;
    }

    /// What was counted since it was taken last, where it is time to tell it.
    pub fn take(&self, now: bool) -> Option<Stats> {
        let mut counted = self.lock();
        let due = now || counted.told.is_none_or(|told| told.elapsed() >= PAUSE);
        if !due || counted.stats.rows.is_empty() {
            return None;
        }
        counted.told = Some(Instant::now());
        Some(std::mem::take(&mut counted.stats))
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use nemoterm_protocol::stats::Row;

    use super::*;

    fn rows(stats: &Stats) -> Vec<(Source, u64, u64, u64)> {
        stats.rows.iter().map(|row: &Row| (row.source, row.shown, row.accepted, row.saved)).collect()
    }

    #[test]
    fn a_suggestion_is_shown_once_and_taken_once() {
        let tally = Tally::new("zsh");
        assert_eq!(tally.take(true), None);
        tally.accepted("nothing was shown");
        tally.asked(1, 0);
        tally.answered(1, Source::History);
        tally.answered(1, Source::Model);
        tally.answered(7, Source::Model);
        // A word, and then the rest.
        tally.accepted(" commit");
        tally.accepted(" -m");
        tally.asked(2, 0);
        tally.answered(2, Source::History);
        let stats = tally.take(false).unwrap();
        assert_eq!(rows(&stats), [(Source::History, 1, 0, 0), (Source::Model, 1, 1, 8)]);
        assert!(stats.rows.iter().all(|row| row.shell == "zsh" && row.latency.percentile(0.5).is_some()));
        // Not at once again, but at the end.
        tally.accepted("x");
        assert_eq!(tally.take(false), None);
        assert_eq!(rows(&tally.take(true).unwrap()), [(Source::History, 0, 1, 0)]);
    }

    #[test]
    fn what_is_taken_before_the_answer_was_shown_before_the_request() {
        let tally = Tally::new("bash");
        tally.asked(1, 0);
        tally.accepted("nothing was shown");
        tally.answered(1, Source::History);
        tally.asked(2, 0);
        tally.asked(3, 0);
        tally.accepted("est");
        assert_eq!(rows(&tally.take(true).unwrap()), [(Source::History, 1, 1, 2)]);
    }

    #[test]
    fn a_command_saves_what_it_has_more_than_its_description() {
        let tally = Tally::new("nu");
        tally.asked(1, 6);
        tally.answered(1, Source::Model);
        tally.accepted("ls -laS");
        tally.asked(2, 60);
        tally.answered(2, Source::Model);
        tally.accepted("ls");
        let stats = tally.take(true).unwrap();
        assert_eq!(rows(&stats), [(Source::Model, 2, 2, 0)]);
        assert_eq!(stats.rows[0].shell, "other");
    }
}
