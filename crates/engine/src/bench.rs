//! How fast a model is on this machine.

use std::time::{Duration, Instant};

use crate::decoder::{Run, Session};
use crate::error::EngineError;
use crate::kernels::math;
use crate::model::Model;

/// What can be measured. Prompts and caches are of any tokens: the arithmetic is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// A prompt of so many tokens with an empty cache, in tokens a second.
    Prompt(usize),
    /// So many tokens generated after a prompt of 64, in tokens a second.
    Decode(usize),
    /// Time to the first token of a prompt of so many, with an empty cache, in milliseconds.
    Cold(usize),
    /// The same when all but the last three tokens are in the cache.
    Warm(usize),
    /// Twelve tokens written after three new ones, with 128 in the cache: what a completion takes while one types, in
    /// milliseconds.
    Completion,
}

/// Every figure that has a name, with its name.
const NAMED: [(&str, Figure); 10] = [
    ("pp64", Figure::Prompt(64)),
    ("pp256", Figure::Prompt(256)),
    ("tg32", Figure::Decode(32)),
    ("tg64", Figure::Decode(64)),
    ("tg128", Figure::Decode(128)),
    ("ttft_cold_ms", Figure::Cold(64)),
    ("ttft_warm_ms", Figure::Warm(64)),
    ("ttft128_cold_ms", Figure::Cold(128)),
    ("ttft128_warm_ms", Figure::Warm(128 + TYPED)),
    ("completion12_warm_ms", Figure::Completion),
];

impl Figure {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMED.iter().map(|&(_, figure)| figure)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|&(_, figure)| figure)
    }

    /// Its name; nothing for one that [`Figure::all`] does not give.
    pub fn name(self) -> &'static str {
        NAMED.iter().find(|&&(_, figure)| figure == self).map_or("", |(name, _)| name)
    }
}

/// Tokens before those that are generated.
const BEFORE: usize = 64;
/// Tokens in the cache before a completion, as shells have them.
const CACHED: usize = 128;
/// Tokens of a completion.
const COMPLETION: usize = 12;
/// Tokens that a key stroke adds to a prompt.
const TYPED: usize = 3;

/// Measures each of `figures`, in a cache of its own: the median of `repeats` runs. Where that is more than one, another one
/// before them is not counted. Lengths are halved where the context is too short for them.
///
/// # Errors
/// Where the model can't run.
pub fn bench(model: &Model, figures: &[Figure], repeats: usize) -> Result<Vec<f64>, EngineError> {
    let mut course = Course { model, session: model.session(1)? };
    // The first pass brings the weights in and wakes the threads.
    course.time(0, BEFORE.min(model.info().context / 2).max(1), 1)?;
    figures.iter().map(|&figure| course.measure(figure, repeats.max(1))).collect()
}

struct Course<'a> {
    model: &'a Model,
    session: Box<dyn Session>,
}

impl Course<'_> {
    fn measure(&mut self, figure: Figure, repeats: usize) -> Result<f64, EngineError> {
        let context = self.model.info().context;
        let fit = |tokens: usize| tokens.min(context / 2).max(TYPED + 1);
        // Tokens that are cached, that are run at once, and that are written, the first of which the prompt gives.
        let (cached, run, written) = match figure {
            Figure::Prompt(tokens) | Figure::Cold(tokens) => (0, fit(tokens), 1),
            Figure::Warm(tokens) => (fit(tokens) - TYPED, TYPED, 1),
            Figure::Decode(tokens) => (fit(BEFORE), 1, fit(tokens).min(context - fit(BEFORE))),
            Figure::Completion => {
                let cached = CACHED.min(context / 2);
                // The last token that is chosen is not read any more.
                (cached, TYPED, COMPLETION.min((context - cached).saturating_sub(TYPED) + 1))
            }
        };
        self.time(0, cached.max(1), 1)?;
        if repeats > 1 {
            self.time(cached, run, written)?;
        }
        let mut times =
            (0..repeats).map(|_| self.time(cached, run, written)).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64();
        Ok(match figure {
            Figure::Prompt(_) => run as f64 / median,
            Figure::Decode(_) => written as f64 / median,
            Figure::Cold(_) | Figure::Warm(_) | Figure::Completion => median * 1e3,
        })
    }

    /// Runs `run` tokens behind the first `cached`, then writes until `written` tokens are chosen.
    fn time(&mut self, cached: usize, run: usize, written: usize) -> Result<Duration, EngineError> {
        let vocabulary = self.model.info().vocabulary;
        let token = |i: usize| (i * 7919 % vocabulary) as u32;
        let left = self.session.truncate(0, cached);
        if left < cached {
            let tokens: Vec<u32> = (left..cached).map(token).collect();
            self.session.forward_all(&[Run {
                slot: 0,
                tokens: &tokens,
                rows: 0,
                cut: Some(cached - left),
            }])?;
        }
        let tokens: Vec<u32> = (cached..cached + run).map(token).collect();
        let started = Instant::now();
        let mut token = self.next(&tokens)?;
        for _ in 1..written {
            token = self.next(&[token])?;
        }
        Ok(started.elapsed())
    }

    /// The token after these, found as a text is written.
    fn next(&mut self, tokens: &[u32]) -> Result<u32, EngineError> {
        if self.model.chooses() {
            let best = self.session.forward_best(&[Run { slot: 0, tokens, rows: 1, cut: None }])?;
            return Ok(best.first().copied().flatten().map_or(0, |best| best.token));
        }
        let logits = self.session.forward(0, tokens, 1)?;
        Ok(math::argmax(&logits).map_or(0, |token| token as u32))
    }
}
