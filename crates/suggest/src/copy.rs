//! Suggestions that are copied: lines of the history, and words of recent commands.

use crate::buffer::Buffer;
use crate::context::Context;
use crate::history::Index;
use crate::rank::{Candidate, Source};

/// Lines of the history that begin with the typed line; for an empty line, what followed the last command.
pub fn from_history(context: &Context, buffer: &Buffer, index: &Index, n: usize) -> Vec<Candidate> {
    let before = buffer.before();
    let found = match context.history.last() {
        Some(last) if before.is_empty() => index.next(&last.line, n),
        _ => index.matches(before, n),
    };
    found
        .iter()
        .map(|found| Candidate::new(buffer, &found.line[before.len()..], Source::History, 0.5))
        .collect()
}

/// Words of recent commands that fit where the cursor stands.
pub fn from_context(_context: &Context, _buffer: &Buffer, _n: usize) -> Vec<Candidate> {
    Vec::new()
}
