//! The caches of a decoder. Keys and values are cut back by forgetting how many there are. A state is one for all positions
//! before it, so that earlier ones have to be kept to go back to.

use std::sync::Arc;

use candle_core::Result;

use super::{Decoder, Mark, Run, Session, Span};
use crate::backend::{Backend, Best};
use crate::config::Mixer;

/// Earlier states that a cache keeps at most. In a published model of 4 B parameters each takes 85 MB.
pub(crate) const SNAPSHOTS: usize = 3;

/// The states after so many positions. Caches that have a beginning in common share them.
struct Snapshot<B: Backend> {
    len: usize,
    states: Arc<Vec<B::State>>,
}

struct Cache<B: Backend> {
    /// One for each part with attention.
    keys: Vec<B::Kv>,
    /// One for each state-space part, after `len` positions.
    states: Vec<B::State>,
    /// Those with fewer positions first; none where there are no states.
    snapshots: Vec<Snapshot<B>>,
    len: usize,
}

impl<B: Backend> Cache<B> {
    fn has_states(&self) -> bool {
        !self.states.is_empty()
    }

    /// See [`Session::reachable`].
    fn reachable(&self, len: usize) -> usize {
        if len >= self.len {
            return self.len;
        }
        if !self.has_states() {
            return len;
        }
        self.snapshots.iter().rev().map(|kept| kept.len).find(|&kept| kept <= len).unwrap_or(0)
    }

    /// The states after `len` positions, which [`Cache::reachable`] has given; `None` after none.
    fn states_at(&self, len: usize) -> Option<&[B::State]> {
        if len == self.len {
            return Some(&self.states);
        }
        self.snapshots.iter().find(|kept| kept.len == len).map(|kept| kept.states.as_slice())
    }

    /// Goes back to the last states that were kept, at most to those after `len` positions.
    fn restore(&mut self, len: usize) {
        self.snapshots.retain(|kept| kept.len <= len);
        let kept = self.snapshots.last();
        self.len = kept.map_or(0, |kept| kept.len);
        copy(kept.map(|kept| kept.states.as_slice()), &mut self.states);
    }

    /// Memory for the states after `len` positions, unless these are kept already. Where there are as many as may be, those are
    /// given up whose neighbours are closest to each other, so that what is left lies far apart.
    fn make_room(&mut self, len: usize) -> Option<Vec<B::State>> {
        if !self.has_states() || self.snapshots.iter().any(|kept| kept.len == len) {
            return None;
        }
        let mut spare = None;
        if self.snapshots.len() >= SNAPSHOTS {
            let mut all: Vec<usize> = self.snapshots.iter().map(|kept| kept.len).chain([len, 0]).collect();
            all.sort_unstable();
            let gap = |of: &usize| {
                let before = all.iter().rev().find(|&other| other < of).unwrap_or(&0);
                all.iter().find(|&other| other > of).unwrap_or(&usize::MAX) - before
            };
            let closest = (0..self.snapshots.len()).min_by_key(|&i| gap(&self.snapshots[i].len))?;
            spare = Arc::into_inner(self.snapshots.remove(closest).states);
        }
        Some(spare.unwrap_or_else(|| vec![B::State::default(); self.states.len()]))
    }

    /// Keeps what [`Cache::make_room`] gave, after it was filled.
    fn keep(&mut self, len: usize, states: Vec<B::State>) {
        self.snapshots.push(Snapshot { len, states: Arc::new(states) });
        self.snapshots.sort_unstable_by_key(|kept| kept.len);
    }
}

/// Copies states; none are those before the first position.
fn copy<S: Clone + Default>(from: Option<&[S]>, to: &mut [S]) {
    match from {
        Some(from) => to.clone_from_slice(from),
        None => to.iter_mut().for_each(|state| state.clone_from(&S::default())),
    }
}

pub(super) struct DecoderSession<B: Backend> {
    decoder: Arc<Decoder<B>>,
    caches: Vec<Cache<B>>,
}

impl<B: Backend> DecoderSession<B> {
    pub(super) fn new(decoder: Arc<Decoder<B>>, slots: usize) -> Result<Self> {
        let config = &decoder.config;
        let states = config.hybrid.as_ref().map_or(0, |hybrid| hybrid.count(Mixer::StateSpace));
        let cache = || -> Result<Cache<B>> {
            let keys = (0..config.attention_layers())
                .map(|_| decoder.backend.kv(&config.attention, decoder.context))
                .collect::<Result<_>>()?;
            let states = vec![B::State::default(); states];
            Ok(Cache { keys, states, snapshots: Vec::new(), len: 0 })
        };
        let caches = (0..slots).map(|_| cache()).collect::<Result<_>>()?;
        Ok(Self { decoder, caches })
    }
}

impl<B: Backend> DecoderSession<B> {
    /// Appends tokens, see [`Session::forward_all`], and makes of their logits what is wanted.
    fn append<T: Default + Send>(
        &mut self,
        runs: &[Run<'_>],
        read: fn(&Decoder<B>, B::Hidden) -> Result<T>,
    ) -> Result<T> {
        let decoder = &self.decoder;
        let mut tokens = Vec::with_capacity(runs.iter().map(|run| run.tokens.len()).sum());
        // Where states are kept, and what is kept there, for each run.
        let mut kept: Vec<Option<(usize, Vec<B::State>)>> = Vec::with_capacity(runs.len());
        for run in runs {
            let cache = &mut self.caches[run.slot];
            debug_assert!(run.rows <= run.tokens.len());
            debug_assert!(cache.len + run.tokens.len() <= decoder.context);
            tokens.extend_from_slice(run.tokens);
            let cut = run.cut.map(|cut| cut.min(run.tokens.len()));
            kept.push(cut.and_then(|cut| Some((cut, cache.make_room(cache.len + cut)?))));
        }
        let mut caches: Vec<Option<&mut Cache<B>>> = self.caches.iter_mut().map(Some).collect();
        let mut spans = Vec::with_capacity(runs.len());
        for (run, kept) in runs.iter().zip(&mut kept) {
            let Some(cache) = caches.get_mut(run.slot).and_then(Option::take) else {
                candle_core::bail!("two runs in the cache {}", run.slot)
            };
            spans.push(Span {
                caches: &mut cache.keys,
                states: &mut cache.states,
                mark: kept.as_mut().map(|(after, states)| Mark { after: *after, states }),
                start: cache.len,
                count: run.tokens.len(),
                wanted: run.rows,
            });
        }
        let logits = decoder.backend.run(|| decoder.forward(&tokens, &mut spans, read));
        drop(spans);
        for (run, kept) in runs.iter().zip(kept) {
            let cache = &mut self.caches[run.slot];
            match (&logits, kept) {
                (Ok(_), kept) => {
                    if let Some((after, states)) = kept {
                        cache.keep(cache.len + after, states);
                    }
                    cache.len += run.tokens.len();
                }
                // What a failed pass left behind is not in the length; states are in between.
                (Err(_), _) if cache.has_states() => cache.restore(cache.len),
                (Err(_), _) => {}
            }
        }
        logits
    }
}

impl<B: Backend> Session for DecoderSession<B> {
    fn reachable(&self, slot: usize, len: usize) -> usize {
        self.caches[slot].reachable(len)
    }

    fn truncate(&mut self, slot: usize, len: usize) -> usize {
        let cache = &mut self.caches[slot];
        if len < cache.len {
            if cache.has_states() {
                cache.restore(len);
            } else {
                cache.len = len;
            }
        }
        cache.len
    }

    fn fork(&mut self, from: usize, to: usize, len: usize, shared: usize) -> Result<usize> {
        let Ok([source, target]) = self.caches.get_disjoint_mut([from, to]) else {
            return Ok(self.truncate(to, len));
        };
        let len = source.reachable(len);
        let shared = shared.min(target.len).min(len);
        // What is in it is lost from here on, also where a copy fails.
        target.len = 0;
        for (source, target) in source.keys.iter().zip(&mut target.keys) {
            self.decoder.backend.copy_kv(source, target, shared..len)?;
        }
        copy(source.states_at(len), &mut target.states);
        target.snapshots.clear();
        let kept = source.snapshots.iter().filter(|kept| kept.len <= len);
        target.snapshots.extend(kept.map(|kept| Snapshot { len: kept.len, states: kept.states.clone() }));
        target.len = len;
        Ok(len)
    }

    fn forward_all(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>> {
        self.append(runs, |decoder, logits| decoder.backend.read(logits))
    }

    fn forward_best(&mut self, runs: &[Run<'_>]) -> Result<Vec<Option<Best>>> {
        self.append(runs, |decoder, logits| decoder.backend.best(logits, decoder.config.vocabulary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::host::{Host, HostState};

    fn cache(len: usize) -> Cache<Host> {
        Cache { keys: Vec::new(), states: vec![HostState::default()], snapshots: Vec::new(), len }
    }

    fn lengths(cache: &Cache<Host>) -> Vec<usize> {
        cache.snapshots.iter().map(|kept| kept.len).collect()
    }

    fn keep(cache: &mut Cache<Host>, len: usize) {
        if let Some(states) = cache.make_room(len) {
            cache.keep(len, states);
        }
    }

    #[test]
    fn what_is_kept_lies_far_apart_and_the_newest_is_among_it() {
        let mut cache = cache(1000);
        for (len, expected) in [
            (128, vec![128]),
            (256, vec![128, 256]),
            (300, vec![128, 256, 300]),
            (300, vec![128, 256, 300]),
            (303, vec![128, 256, 303]),
            (512, vec![128, 303, 512]),
            (640, vec![303, 512, 640]),
            (60, vec![60, 303, 640]),
        ] {
            keep(&mut cache, len);
            assert_eq!(lengths(&cache), expected, "after {len}");
        }
    }

    #[test]
    fn a_cache_with_states_goes_back_to_what_is_kept() {
        let mut cache = cache(700);
        for len in [100, 300, 600] {
            keep(&mut cache, len);
        }
        let all = [0, 99, 100, 299, 300, 650, 700, 900].map(|len| cache.reachable(len));
        assert_eq!(all, [0, 0, 100, 100, 300, 600, 700, 700]);
        cache.restore(450);
        assert_eq!((cache.len, lengths(&cache)), (300, vec![100, 300]));
        cache.restore(99);
        assert_eq!((cache.len, lengths(&cache)), (0, vec![]));
    }
}
