//! What a pass over the weights costs by the rows it takes.

use std::time::{Duration, Instant};

use crate::decoder::Run;
use crate::error::EngineError;
use crate::model::Model;

/// Positions in the cache before the rows, as shells' prompts have them.
const BEFORE: usize = 128;
const REPEATS: usize = 15;

/// The median time of a pass of so many rows, all of whose logits are wanted, for each of `rows`; measured in turns, so that what
/// else the machine does falls on all of them alike.
///
/// # Errors
/// The engine's; also where the context is too short.
pub fn pass_times(model: &Model, rows: &[usize]) -> Result<Vec<Duration>, EngineError> {
    // Any ids will do: the arithmetic is the same for all of them.
    let most = rows.iter().copied().max().unwrap_or(0);
    let tokens: Vec<u32> = (0..BEFORE + most).map(|i| (i * 7919 % model.info().vocabulary) as u32).collect();
    model.check(&tokens)?;
    let mut session = model.session(1)?;
    session.forward_all(&[Run { slot: 0, tokens: &tokens[..BEFORE], rows: 0, cut: Some(BEFORE) }])?;
    let mut times = vec![Vec::with_capacity(REPEATS); rows.len()];
    for turn in 0..=REPEATS {
        for (&count, times) in rows.iter().zip(&mut times) {
            session.truncate(0, BEFORE);
            let started = Instant::now();
            session.forward(0, &tokens[BEFORE..BEFORE + count], count)?;
            // The first run pages the weights in and wakes the threads.
            if turn > 0 {
                times.push(started.elapsed());
            }
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[REPEATS / 2]
    };
    Ok(times.into_iter().map(median).collect())
}
