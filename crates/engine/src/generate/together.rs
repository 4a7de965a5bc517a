//! Several texts in one pass over the weights, for programs that write many at once.

use super::Generator;
use super::slots::TextRun;
use crate::error::EngineError;

/// A text that is being written together with others.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Its cache, below [`Generator::texts`]. No two texts of a pass have the same.
    pub cache: usize,
    /// All of it so far; at least one token.
    pub tokens: &'a [u32],
}

/// How far a pass has come with a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Tokens that were in a cache before.
    pub cached: usize,
    /// The logits after the last token, one for each token of the vocabulary; `None` where not all of the text was run
    /// yet.
    pub logits: Option<Vec<f32>>,
}

impl Generator {
    /// How many texts [`Generator::forward_texts`] can take.
    pub fn texts(&self) -> usize {
        self.slots.texts()
    }

    /// Runs what is not in the caches of some texts, in one pass. A text that lacks one token has it run; those that
    /// lack more (prompts that are being read) share `most` tokens, in their order, and the rest is left for the next
    /// call.
    ///
    /// # Errors
    /// Where a text is empty, longer than the context, or has a token that the vocabulary has not.
    pub fn forward_texts(&mut self, texts: &[Text<'_>], most: usize) -> Result<Vec<Reached>, EngineError> {
        let mut left = most;
        let mut runs = Vec::with_capacity(texts.len());
        let mut reached = Vec::with_capacity(texts.len());
        for text in texts {
            self.model.check(text.tokens)?;
            if text.tokens.is_empty() {
                return Err(EngineError::EmptyPrompt);
            }
            let cached = self.slots.follow(text.cache, text.tokens)?;
            let lacking = text.tokens.len() - cached;
            let count = if lacking == 1 { 1 } else { lacking.min(left) };
            if lacking > 1 {
                left -= count;
            }
            let run = TextRun {
                text: text.cache,
                tokens: &text.tokens[cached..cached + count],
                logits: count == lacking,
            };
            reached.push((cached, run.logits));
            if count > 0 {
                runs.push(run);
            }
        }
        let logits = if runs.is_empty() { Vec::new() } else { self.slots.forward_texts(&runs)? };
        let mut rows = logits.chunks_exact(self.model.info().vocabulary);
        let row = |(cached, wanted): (usize, bool)| Reached {
            cached,
            logits: wanted.then(|| rows.next().map(<[f32]>::to_vec)).flatten(),
        };
        Ok(reached.into_iter().map(row).collect())
    }
}
