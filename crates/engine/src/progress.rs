//! How far the loading of a model is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by who loads a model and who tells of it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The part of the weights that are where they are used, from 0 to 1; 0 before it is known how many there are.
    pub fn share(&self) -> f32 {
        let total = self.total.load(Ordering::Relaxed);
        if total == 0 {
            return 0.0;
        }
        // A matrix that is used twice is counted twice.
        (self.done.load(Ordering::Relaxed) as f32 / total as f32).min(1.0)
    }

    pub(crate) fn expect(&self, weights: usize) {
        self.total.store(weights as u64, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, weights: usize) {
        self.done.fetch_add(weights as u64, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// What was done since then has to be done again.
    pub(crate) fn go_back(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Nothing is left to do.
    pub(crate) fn finish(&self) {
        self.done.fetch_max(self.total.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
