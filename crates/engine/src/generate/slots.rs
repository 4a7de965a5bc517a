//! Caches and what is in them. A request takes the cache with the longest common beginning, so several shells keep
//! theirs warm.
//!
//! The caches stand in one row: those that requests choose among, then those in which alternatives are written beside
//! one of them, then those of texts that are written together.

#[cfg(test)]
mod tests;

use crate::backend::Best;
use crate::decoder::{Run, Session};
use crate::error::EngineError;

/// Caches for alternatives, beside the one in which the first is written.
pub(super) const BESIDE: usize = 4;

/// A beginning that is shared with another cache has to be this much longer than what a text's own cache holds to be
/// copied from there.
const WORTH_COPYING: usize = 8;

#[derive(Default)]
struct Slot {
    /// The tokens whose keys and values the cache holds.
    tokens: Vec<u32>,
    /// For each of them the number of the run that it was a part of, here or where it was copied from. Where caches begin with the
    /// same runs, all of this is the same in them.
    runs: Vec<usize>,
    /// When it was last taken.
    used: u64,
}

impl Slot {
    /// Length of the common beginning.
    fn common(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.runs.truncate(len);
    }

    fn extend(&mut self, tokens: &[u32], run: usize) {
        self.tokens.extend_from_slice(tokens);
        self.runs.resize(self.tokens.len(), run);
    }
}

/// The caches of a generator, and the one in use.
pub(super) struct Slots {
    session: Box<dyn Session>,
    slots: Vec<Slot>,
    /// How many requests choose among.
    chosen_among: usize,
    clock: u64,
    current: usize,
    /// Passes over the weights so far.
    passes: usize,
    /// Tokens that were run in one cache in one pass count as one run.
    runs: usize,
}

/// What is run in the cache of a lane.
pub(super) struct LaneRun {
    pub(super) lane: usize,
    pub(super) tokens: Vec<u32>,
    /// The logits after so many of the last tokens are wanted.
    pub(super) rows: usize,
}

/// What is run in the cache of one text.
pub(super) struct TextRun<'a> {
    pub(super) text: usize,
    pub(super) tokens: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub(super) logits: bool,
}

impl Slots {
    /// How many caches a session needs for this.
    pub(super) fn count(chosen_among: usize, texts: usize) -> usize {
        chosen_among + BESIDE + texts
    }

    pub(super) fn new(session: Box<dyn Session>, chosen_among: usize, texts: usize) -> Self {
        let slots = (0..Self::count(chosen_among, texts)).map(|_| Slot::default()).collect();
        Self { session, slots, chosen_among, clock: 0, current: 0, passes: 0, runs: 0 }
    }

    /// How many passes over the weights there have been.
    pub(super) fn passes(&self) -> usize {
        self.passes
    }

    /// How many texts can be written together.
    pub(super) fn texts(&self) -> usize {
        self.slots.len() - self.chosen_among - BESIDE
    }

    /// Makes a cache current that holds at most the first `most` of `tokens` and nothing else; returns how many.
    pub(super) fn take(&mut self, tokens: &[u32], most: usize) -> Result<usize, EngineError> {
        let among = &self.slots[..self.chosen_among];
        let key = |&i: &usize| (self.shared(i, tokens, usize::MAX), among[i].used);
        let best = (0..among.len()).max_by_key(key).unwrap_or(0);
        let shared = self.shared(best, tokens, usize::MAX);
        let mut chosen = best;
        // A cache of which more than half would be lost belongs to another text: leave it, copy what is shared.
        if shared * 2 < among[best].tokens.len() {
            chosen = (0..among.len()).min_by_key(|&i| among[i].used).unwrap_or(best);
            if chosen != best {
                self.copy(best, chosen, shared.min(most))?;
            }
        }
        self.clock += 1;
        self.slots[chosen].used = self.clock;
        self.current = chosen;
        Ok(self.truncate(shared.min(most)))
    }

    /// How many of the first `most` of `tokens` can be left in a cache when everything else is forgotten.
    fn shared(&self, slot: usize, tokens: &[u32], most: usize) -> usize {
        self.session.reachable(slot, self.slots[slot].common(tokens).min(most))
    }

    /// Makes a cache hold the first `len` positions of another, or as many as can be had; returns how many.
    fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<usize, EngineError> {
        if from == to {
            return Ok(self.truncate_slot(to, len));
        }
        let mut target = std::mem::take(&mut self.slots[to]);
        let source = &self.slots[from];
        let shared = source.runs.iter().zip(&target.runs).take_while(|(a, b)| a == b).count();
        // Where it fails nothing is in there.
        let len = self.session.fork(from, to, len, shared)?;
        target.truncate(shared.min(len));
        target.tokens.extend_from_slice(&source.tokens[target.tokens.len()..len]);
        target.runs.extend_from_slice(&source.runs[target.runs.len()..len]);
        self.slots[to] = target;
        Ok(len)
    }

    /// The tokens in the current cache.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.slots[self.current].tokens
    }

    /// Forgets the current cache's positions from `len` on, and those before that can't be kept without them (see
    /// [`Session::truncate`]); returns how many are left.
    pub(super) fn truncate(&mut self, len: usize) -> usize {
        self.truncate_slot(self.current, len)
    }

    fn truncate_slot(&mut self, slot: usize, len: usize) -> usize {
        let left = self.session.truncate(slot, len);
        self.slots[slot].truncate(left);
        left
    }

    /// Runs tokens in the current cache; the logits of the last `rows`. It is likely to be cut back to `cut` positions, or to
    /// all where these are not among them.
    pub(super) fn read(&mut self, tokens: &[u32], rows: usize, cut: usize) -> Result<Vec<f32>, EngineError> {
        let cut = cut.checked_sub(self.tokens().len()).unwrap_or(tokens.len()).min(tokens.len());
        self.run(tokens, rows, Some(cut))
    }

    /// Runs tokens in the current cache that it is not likely to be cut back to; the logits of the last.
    pub(super) fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.run(tokens, 1, None)
    }

    fn run(&mut self, tokens: &[u32], rows: usize, cut: Option<usize>) -> Result<Vec<f32>, EngineError> {
        let logits = self.session.forward_all(&[Run { slot: self.current, tokens, rows, cut }])?;
        self.passes += 1;
        self.note(self.current, tokens);
        Ok(logits)
    }

    /// These tokens are in a cache now.
    fn note(&mut self, slot: usize, tokens: &[u32]) {
        self.runs += 1;
        self.slots[slot].extend(tokens, self.runs);
    }

    /// The cache of a lane: lane 0 is the current cache, the others are beside it.
    fn lane(&self, lane: usize) -> usize {
        if lane == 0 { self.current } else { self.chosen_among + lane - 1 }
    }

    /// The tokens in the cache of a lane.
    pub(super) fn lane_tokens(&self, lane: usize) -> &[u32] {
        &self.slots[self.lane(lane)].tokens
    }

    /// Makes the cache of a lane hold what another one's does, or as much of it as can be had.
    pub(super) fn copy_lane(&mut self, from: usize, to: usize) -> Result<usize, EngineError> {
        let (from, to) = (self.lane(from), self.lane(to));
        self.copy(from, to, self.slots[from].tokens.len())
    }

    /// Gives each text a lane whose cache holds as much of it as any of them, but for its last token, and nothing else; returns lanes
    /// and how much that is. Where the first text `stays`, it goes on in the current cache. The others have those beside it, of
    /// which there are enough.
    pub(super) fn open_lanes(
        &mut self,
        texts: &[Vec<u32>],
        stays: bool,
    ) -> Result<Vec<(usize, usize)>, EngineError> {
        let sources: Vec<usize> = texts.iter().map(|text| self.fullest(text).0).collect();
        let mut free: Vec<usize> = (1..=BESIDE).collect();
        // What holds most of a text is where it goes on; where several texts begin alike, the others have copies.
        let mut own = |(i, source): (usize, &usize)| match i {
            0 if stays => Some(0),
            _ => free.iter().position(|lane| lane == source).map(|at| free.remove(at)),
        };
        let own: Vec<Option<usize>> = sources.iter().enumerate().map(&mut own).collect();
        // What the first text is copied from is overwritten last.
        free.sort_by_key(|lane| Some(lane) == sources.first());
        let mut free = free.into_iter();
        let lanes: Vec<usize> = own.into_iter().map(|own| own.or_else(|| free.next()).unwrap_or(0)).collect();
        // Copies are made before anything is cut back, and that into the current cache after those out of it.
        for ((text, &lane), source) in texts.iter().zip(&lanes).zip(sources).rev() {
            if lane != source {
                let (source, known) = self.fullest(text);
                self.copy(self.lane(source), self.lane(lane), known)?;
            }
        }
        let opened = texts.iter().zip(lanes).map(|(text, lane)| {
            let slot = self.lane(lane);
            let known = self.shared(slot, text, text.len() - 1);
            (lane, self.truncate_slot(slot, known))
        });
        Ok(opened.collect())
    }

    /// The lane whose cache holds most of a text, but for its last token, and how much; the current one of equals.
    fn fullest(&self, text: &[u32]) -> (usize, usize) {
        let known = |lane: usize| (lane, self.shared(self.lane(lane), text, text.len() - 1));
        (0..=BESIDE).rev().map(known).max_by_key(|&(_, known)| known).unwrap_or((0, 0))
    }

    /// Forgets the positions of a lane's cache from `len` on, where drafts were run in it: each can be taken back.
    pub(super) fn truncate_lane(&mut self, lane: usize, len: usize) {
        self.truncate_slot(self.lane(lane), len);
    }

    /// Runs tokens in several lanes at once; the logits that are wanted, one lane after the other.
    pub(super) fn forward_lanes(&mut self, runs: &[LaneRun]) -> Result<Vec<f32>, EngineError> {
        self.run_lanes(runs, |session, runs| session.forward_all(runs))
    }

    /// The same, of which only the most likely token of each row is wanted.
    pub(super) fn forward_lanes_best(&mut self, runs: &[LaneRun]) -> Result<Vec<Option<Best>>, EngineError> {
        self.run_lanes(runs, |session, runs| session.forward_best(runs))
    }

    fn run_lanes<T>(
        &mut self,
        runs: &[LaneRun],
        forward: fn(&mut dyn Session, &[Run<'_>]) -> candle_core::Result<T>,
    ) -> Result<T, EngineError> {
        let slots: Vec<usize> = runs.iter().map(|run| self.lane(run.lane)).collect();
        let all: Vec<Run<'_>> = slots
            .iter()
            .zip(runs)
            .map(|(&slot, run)| Run { slot, tokens: &run.tokens, rows: run.rows, cut: None })
            .collect();
        let done = forward(self.session.as_mut(), &all)?;
        self.passes += 1;
        for (slot, run) in slots.into_iter().zip(runs) {
            self.note(slot, &run.tokens);
        }
        Ok(done)
    }

    fn text(&self, text: usize) -> usize {
        self.chosen_among + BESIDE + text
    }

    /// Makes the cache of a text hold a beginning of `tokens` and nothing else, not all of them; returns its length. What
    /// another cache knows is copied.
    pub(super) fn follow(&mut self, text: usize, tokens: &[u32]) -> Result<usize, EngineError> {
        let slot = self.text(text);
        let most = tokens.len().saturating_sub(1);
        let shared = self.shared(slot, tokens, most);
        if shared + WORTH_COPYING < tokens.len() {
            let known = |&i: &usize| self.shared(i, tokens, most);
            let best = (0..self.slots.len()).max_by_key(known).unwrap_or(slot);
            let known = known(&best);
            if known > shared + WORTH_COPYING {
                return self.copy(best, slot, known);
            }
        }
        Ok(self.truncate_slot(slot, shared))
    }

    /// Runs tokens in the caches of several texts at once; the logits that are wanted, one text after the other.
    pub(super) fn forward_texts(&mut self, runs: &[TextRun<'_>]) -> Result<Vec<f32>, EngineError> {
        let run = |run: &TextRun<'_>| (self.text(run.text), usize::from(run.logits));
        let slots: Vec<(usize, usize)> = runs.iter().map(run).collect();
        let all: Vec<Run<'_>> = slots
            .iter()
            .zip(runs)
            .map(|(&(slot, rows), run)| {
                // The next prompt may begin like this one: where it is read, a text may be cut back to its last token.
                let count = run.tokens.len();
                let cut = (count > 1).then_some(if run.logits { count - 1 } else { count });
                Run { slot, tokens: run.tokens, rows, cut }
            })
            .collect();
        let logits = self.session.forward_all(&all)?;
        self.passes += 1;
        for ((slot, _), run) in slots.into_iter().zip(runs) {
            self.note(slot, run.tokens);
        }
        Ok(logits)
    }
}
