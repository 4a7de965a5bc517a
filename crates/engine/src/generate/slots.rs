//! Caches and what is in them. A request takes the cache with the longest common beginning, so several shells keep
//! theirs warm.

use crate::decoder::Session;
use crate::error::EngineError;

struct Slot {
    /// The tokens whose keys and values the cache holds.
    tokens: Vec<u32>,
    /// When it was last taken.
    used: u64,
}

/// The caches of a generator, and the one in use.
pub(super) struct Slots {
    session: Box<dyn Session>,
    slots: Vec<Slot>,
    clock: u64,
    current: usize,
}

impl Slots {
    pub(super) fn new(session: Box<dyn Session>, count: usize) -> Self {
        let slots = (0..count).map(|_| Slot { tokens: Vec::new(), used: 0 }).collect();
        Self { session, slots, clock: 0, current: 0 }
    }

    /// Makes a cache current that holds at most the first `most` of `tokens` and nothing else; returns how many.
    pub(super) fn take(&mut self, tokens: &[u32], most: usize) -> Result<usize, EngineError> {
        let common = |slot: &Slot| slot.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let best =
            (0..self.slots.len()).max_by_key(|&i| (common(&self.slots[i]), self.slots[i].used)).unwrap_or(0);
        let shared = common(&self.slots[best]);
        let mut chosen = best;
        // A cache of which more than half would be lost belongs to another text: leave it, copy what is shared.
        if shared * 2 < self.slots[best].tokens.len() {
            chosen = (0..self.slots.len()).min_by_key(|&i| self.slots[i].used).unwrap_or(best);
            if chosen != best {
                self.session.fork(best, chosen, shared)?;
                self.slots[chosen].tokens = tokens[..shared].to_vec();
            }
        }
        self.clock += 1;
        self.slots[chosen].used = self.clock;
        self.current = chosen;
        self.truncate(shared.min(most));
        Ok(self.tokens().len())
    }

    /// The tokens in the current cache.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.slots[self.current].tokens
    }

    /// Forgets the current cache's positions from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.slots[self.current].tokens.truncate(len);
        self.session.truncate(self.current, len);
    }

    /// Runs tokens in the current cache; the logits of the last `rows`.
    pub(super) fn forward(&mut self, tokens: &[u32], rows: usize) -> Result<Vec<f32>, EngineError> {
        let logits = self.session.forward(self.current, tokens, rows)?;
        self.slots[self.current].tokens.extend_from_slice(tokens);
        Ok(logits)
    }
}
