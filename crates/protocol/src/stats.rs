//! What shells count of their suggestions: how many were shown and taken, the keys that saved, and how soon they came.
//! Numbers only, of a fixed number of kinds: nothing here tells what was typed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Source, runtime};

/// Counts by shell and source, since a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Seconds since 1970 when the counting began; 0 where nothing was counted.
    #[serde(default)]
    pub since: u64,
    /// One for each shell and source of which something was counted.
    #[serde(default)]
    pub rows: Vec<Row>,
}

/// What was counted of one source in one kind of shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `zsh`, `bash`, `fish` or `other`.
    pub shell: String,
    /// Where the suggestions come from.
    pub source: Source,
    /// Suggestions that were sent to the shell to be shown, those it was typed along with counted once.
    pub shown: u64,
    /// Suggestions of which something was taken.
    pub accepted: u64,
    /// Characters that were taken, less the keys that took them.
    pub saved: u64,
    /// From the request of a shell to the suggestion.
    pub latency: Latency,
}

impl Row {
    /// Nothing counted yet.
    pub fn new(shell: &str, source: Source) -> Self {
        let known = ["zsh", "bash", "fish"].into_iter().find(|known| *known == shell);
        Self {
            shell: known.unwrap_or("other").to_owned(),
            source,
            shown: 0,
            accepted: 0,
            saved: 0,
            latency: Latency::default(),
        }
    }

    /// Counts what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.shown = self.shown.saturating_add(other.shown);
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.saved = self.saved.saturating_add(other.saved);
        self.latency.add(&other.latency);
    }
}

impl Stats {
    /// The counts of a source in a shell.
    pub fn row(&mut self, shell: &str, source: Source) -> &mut Row {
        let new = Row::new(shell, source);
        let known = self.rows.iter().position(|row| row.shell == new.shell && row.source == source);
        let at = known.unwrap_or_else(|| {
            self.rows.push(new);
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Counts what another has counted.
    pub fn add(&mut self, other: &Self) {
        for row in &other.rows {
            self.row(&row.shell, row.source).add(row);
        }
    }

    /// Where the daemon keeps them, beside its log. `None` without a home.
    pub fn file() -> Option<PathBuf> {
        Some(runtime::log_file()?.with_file_name("stats.json"))
    }
}

/// A histogram of times: each bucket ends 2^(1/4) times later than the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latency(Vec<u64>);

/// Buckets, of which the last holds whatever is longer.
const BUCKETS: usize = 64;

/// Where the first one ends, in milliseconds.
const FIRST: f64 = 0.1;

impl Latency {
    /// Counts a time in milliseconds.
    pub fn record(&mut self, ms: f64) {
        let bucket = (4.0 * (ms / FIRST).max(1.0).log2()).ceil() as usize;
        let bucket = bucket.min(BUCKETS - 1);
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    /// The milliseconds within which that share of the times lies, at most a fifth too long. Nothing without times.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        let wanted = (share * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(FIRST * (bucket as f64 / 4.0).exp2())
    }

    /// Counts what another has counted.
    pub fn add(&mut self, other: &Self) {
        let length = other.0.len().min(BUCKETS);
        if self.0.len() < length {
            self.0.resize(length, 0);
        }
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_within_a_fifth() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(0.5), None);
        for ms in 1..=100 {
            latency.record(f64::from(ms));
        }
        for (share, exact) in [(0.5, 50.0), (0.95, 95.0), (0.01, 1.0)] {
            let told = latency.percentile(share).unwrap();
            assert!(told >= exact && told <= 1.2 * exact, "{share}: {told}");
        }
        for ms in [0.0, -1.0, 1e9, f64::NAN, f64::INFINITY] {
            latency.record(ms);
        }
        assert!(latency.0.len() <= BUCKETS);
    }

    #[test]
    fn whoever_counts_can_not_make_more_kinds_than_there_are() {
        let mut stats = Stats::default();
        let mut other = Stats::default();
        for index in 0..100 {
            let row = Row { shown: 1, ..Row::new("x", Source::Model) };
            other.rows.push(Row { shell: format!("shell{index}"), ..row });
        }
        other.row("zsh", Source::History).accepted = u64::MAX;
        other.rows[0].latency = Latency(vec![1; 10_000]);
        stats.add(&other);
        stats.add(&other);
        assert_eq!(stats.rows.len(), 2);
        assert_eq!((stats.rows[0].shell.as_str(), stats.rows[0].shown), ("other", 200));
        assert_eq!(stats.rows[1].accepted, u64::MAX);
        assert_eq!(stats.rows[0].latency.0.len(), BUCKETS);
    }
}
