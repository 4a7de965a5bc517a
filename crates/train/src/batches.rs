//! Documents as tokens, in batches of about the same size.

use anyhow::Result;
use nemoterm_engine::train::{Batch, Trainable};
use rand::Rng;

use crate::documents::{Document, Documents};

/// What ends a text; the first of them is what the model learns to write.
const END: &str = "</s>";

/// Tokenizes documents and fills batches.
pub struct Batches<'a> {
    documents: &'a Documents,
    model: &'a Trainable,
    /// The token in front of a text.
    begin: Option<u32>,
    end: u32,
    longest: usize,
}

impl<'a> Batches<'a> {
    /// Texts longer than `longest` tokens are cut.
    pub fn new(documents: &'a Documents, model: &'a Trainable, longest: usize) -> Result<Self> {
        let begin = model.encode("")?.first().copied();
        let end = model.token(END).ok_or_else(|| anyhow::anyhow!("the vocabulary has no {END}"))?;
        Ok(Self { documents, model, begin, end, longest: longest.min(model.context()) })
    }

    /// At least so many tokens of documents.
    pub fn batch(&self, tokens: usize, rng: &mut impl Rng) -> Result<Batch> {
        let mut batch = Batch { seed: rng.random(), ..Batch::default() };
        while batch.tokens.len() < tokens {
            self.push(&self.documents.document(rng), &mut batch)?;
        }
        Ok(batch)
    }

    /// The prompt and the answer are tokenized apart, as they are when completing.
    fn push(&self, document: &Document, batch: &mut Batch) -> Result<()> {
        let mut tokens = self.model.encode(&document.prompt)?;
        let learnt_from = tokens.len().max(1);
        let answer = self.model.encode(&document.answer)?;
        let skip =
            usize::from(!tokens.is_empty() && self.begin.is_some() && answer.first() == self.begin.as_ref());
        tokens.extend_from_slice(&answer[skip.min(answer.len())..]);
        tokens.push(self.end);
        if learnt_from >= self.longest {
            return Ok(());
        }
        tokens.truncate(self.longest);
        let first = batch.tokens.len();
        let learnt = tokens.iter().enumerate().skip(learnt_from);
        batch.targets.extend(learnt.map(|(at, &token)| ((first + at - 1) as u32, token, 1.0)));
        batch.lengths.push(tokens.len());
        batch.tokens.extend(tokens);
        Ok(())
    }
}
