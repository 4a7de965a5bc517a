//! Filling a gap between two texts, with models that were trained to: they mark the parts with tokens of their own.

use nemoterm_engine::{EngineError, FillIn, Model};

/// A gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gap {
    pub before: String,
    pub after: String,
    /// Pieces of other files, with their names; the last is the most important.
    pub others: Vec<(String, String)>,
    /// Leave out what is far from the gap where the whole does not fit, with this much room for the answer.
    pub trim: Option<usize>,
}

impl Gap {
    /// The same gap with at most so many bytes on either side, and of each piece of another file.
    pub fn cut(&self, bytes: usize) -> Self {
        let head = |text: &str| {
            let end = (0..=bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
            text[..end.unwrap_or(0)].to_owned()
        };
        let length = self.before.len();
        let start = (length.saturating_sub(bytes)..length).find(|&at| self.before.is_char_boundary(at));
        Self {
            before: self.before[start.unwrap_or(length)..].to_owned(),
            after: head(&self.after),
            others: self.others.iter().map(|(name, text)| (head(name), head(text))).collect(),
            trim: self.trim,
        }
    }
}

/// The prompt for what stands in a gap; `None` where the model can't fill any.
///
/// # Errors
/// Those of the tokenizer.
pub fn tokens(model: &Model, gap: &Gap) -> Result<Option<Vec<u32>>, EngineError> {
    let Some(FillIn { prefix, suffix, middle, file }) = model.info().fill_in else { return Ok(None) };
    let (mut before, mut after) = (encode(model, &gap.before)?, encode(model, &gap.after)?);
    let mut tokens = model.encode("")?;
    if let Some(answer) = gap.trim {
        let room = model.info().context.saturating_sub(answer + tokens.len() + 3);
        // What comes before says more about a gap than what comes after.
        after.truncate((room / 4).max(room.saturating_sub(before.len())));
        let excess = before.len().saturating_sub(room - after.len());
        before.drain(..excess);
        tokens.extend(others(model, file, gap, room - after.len() - before.len())?);
    }
    tokens.push(prefix);
    tokens.extend(before);
    tokens.push(suffix);
    tokens.extend(after);
    tokens.push(middle);
    Ok(Some(tokens))
}

/// The most important pieces of other files, as many as there is room for.
fn others(model: &Model, file: Option<u32>, gap: &Gap, room: usize) -> Result<Vec<u32>, EngineError> {
    let mut tokens = Vec::new();
    for (name, text) in gap.others.iter().rev() {
        let mut piece = Vec::from_iter(file);
        piece.extend(encode(
            model,
            &if file.is_some() { format!("{name}\n{text}\n") } else { format!("{text}\n") },
        )?);
        if tokens.len() + piece.len() > room {
            break;
        }
        tokens.splice(0..0, piece);
    }
    Ok(tokens)
}

/// The tokens of a text, without what the model has every text begin with. The name of a mark in it is text.
fn encode(model: &Model, text: &str) -> Result<Vec<u32>, EngineError> {
    let tokens = model.encode_plain(text)?;
    Ok(without_beginning(model, tokens))
}

fn without_beginning(model: &Model, mut tokens: Vec<u32>) -> Vec<u32> {
    match model.encode("") {
        Ok(always) if tokens.starts_with(&always) => tokens.drain(always.len()..).collect(),
        _ => tokens,
    }
}
