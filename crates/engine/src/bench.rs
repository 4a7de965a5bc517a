//! How fast a model is on this machine.

use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::kernels::math;
use crate::model::Model;

/// Figures of one model. Each is the median of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Bench {
    /// Prompt tokens a second, in prompts of 64.
    pub pp64: f64,
    /// Prompt tokens a second, in prompts of 256.
    pub pp256: f64,
    /// Decoded tokens a second, over 64 tokens after a prompt of 64.
    pub tg64: f64,
    /// Time to the first token of a prompt of 64, with an empty cache.
    pub ttft_cold: Duration,
    /// The same when all but the last three tokens are in the cache.
    pub ttft_warm: Duration,
    /// Time to the first token of a prompt of 128, with an empty cache.
    pub ttft128_cold: Duration,
    /// Time to the first token after three new ones, with 128 in the cache.
    pub ttft128_warm: Duration,
    /// Twelve tokens written after three new ones, with 128 in the cache: what a completion takes while one types.
    pub completion12_warm: Duration,
}

const REPEATS: usize = 7;
/// Tokens of the short prompt, and tokens that are decoded.
const SHORT: usize = 64;
/// Tokens of a prompt as shells have them.
const MEDIUM: usize = 128;
/// Tokens of a completion.
const COMPLETION: usize = 12;
/// Tokens of the long prompt.
const LONG: usize = 256;
/// Tokens that a key stroke adds to a prompt.
const TYPED: usize = 3;

/// Measures, in a cache of its own. Lengths are halved where the context is too short for them.
pub fn bench(model: &Model) -> Result<Bench, EngineError> {
    let context = model.info().context;
    let (short, long) = (SHORT.min(context / 2).max(TYPED + 1), LONG.min(context / 2).max(TYPED + 1));
    let medium = MEDIUM.min(context / 2);
    // The last token that is chosen is not read any more.
    let written = COMPLETION.min((context - medium).saturating_sub(TYPED) + 1);
    let mut session = model.session(1)?;
    let prompt = |length: usize| -> Vec<u32> {
        // Any ids will do: the arithmetic is the same for all of them.
        (0..length).map(|i| (i * 7919 % model.info().vocabulary) as u32).collect()
    };
    let (short_prompt, long_prompt) = (prompt(short), prompt(long));
    let (medium_prompt, typed) = (prompt(medium), prompt(medium + TYPED));
    let mut time = |keep: usize, tokens: &[u32], decoded: usize| -> Result<Duration, EngineError> {
        session.truncate(0, keep);
        let started = Instant::now();
        let mut logits = session.forward(0, &tokens[keep..], 1)?;
        for _ in 1..decoded {
            let token = math::argmax(&logits).map_or(0, |token| token as u32);
            logits = session.forward(0, &[token], 1)?;
        }
        Ok(started.elapsed())
    };
    // Once unmeasured: the first run pages the weights in and wakes the threads.
    time(0, &short_prompt, 1)?;
    let cold = median(|| time(0, &short_prompt, 1))?;
    let warm = median(|| time(short - TYPED, &short_prompt, 1))?;
    let decoded = median(|| time(short - 1, &short_prompt, short))?;
    let medium_cold = median(|| time(0, &medium_prompt, 1))?;
    let medium_warm = median(|| time(medium, &typed, 1))?;
    let completion = median(|| time(medium, &typed, written))?;
    let long_time = median(|| time(0, &long_prompt, 1))?;
    Ok(Bench {
        pp64: short as f64 / cold.as_secs_f64(),
        pp256: long as f64 / long_time.as_secs_f64(),
        tg64: short as f64 / decoded.as_secs_f64(),
        ttft_cold: cold,
        ttft_warm: warm,
        ttft128_cold: medium_cold,
        ttft128_warm: medium_warm,
        completion12_warm: completion,
    })
}

fn median(mut measure: impl FnMut() -> Result<Duration, EngineError>) -> Result<Duration, EngineError> {
    let mut times = (0..REPEATS).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[REPEATS / 2])
}
