//! The texts that are being written for programs, on the model's thread.

use nemoterm_engine::{EngineError, Generator, Text};

use super::{
    error::ApiError,
    job::Job,
    prompt::refused,
    sequence::{Progress, Sequence},
};

/// Texts that are written together: each pass over the weights gives a token of every one.
pub const MAX_WRITING: usize = 8;

/// Tokens of prompts that are read in one pass, beside the tokens that are written. A key stroke waits for one pass.
const PROMPT_TOKENS: usize = 64;

/// Writes a token of every text at a time.
#[derive(Debug, Default)]
pub struct Writer {
    /// By the cache they are written in.
    sequences: [Option<Sequence>; MAX_WRITING],
}

impl Writer {
    /// How many texts are being written.
    pub fn len(&self) -> usize {
        self.sequences.iter().flatten().count()
    }

    /// Takes another text, of which there are fewer than [`MAX_WRITING`].
    pub fn begin(&mut self, job: Job) {
        match self.sequences.iter_mut().find(|sequence| sequence.is_none()) {
            Some(free) => *free = Some(Sequence::new(job)),
            None => Sequence::new(job).fail(ApiError::unavailable("too many texts are being written")),
        }
    }

    /// One pass over the weights: each text gets its next token, or has some of its prompt read. Where that fails, all texts
    /// are given up.
    ///
    /// # Errors
    /// The engine's.
    pub fn step(&mut self, generator: &mut Generator) -> Result<(), EngineError> {
        for place in &mut self.sequences {
            if let Some(sequence) = place
                && sequence.prepare(generator.model()) == Progress::Done
            {
                *place = None;
            }
        }
        let texts: Vec<Text<'_>> = self
            .sequences
            .iter()
            .enumerate()
            .filter_map(|(cache, sequence)| Some(Text { cache, tokens: sequence.as_ref()?.tokens() }))
            .collect();
        if texts.is_empty() {
            return Ok(());
        }
        let reached = match generator.forward_texts(&texts, PROMPT_TOKENS) {
            Ok(reached) => reached,
            Err(error) => {
                self.fail(&refused(&error));
                return Err(error);
            }
        };
        let writing = self.sequences.iter_mut().filter(|sequence| sequence.is_some());
        for (place, reached) in writing.zip(reached) {
            if let Some(sequence) = place
                && sequence.take(generator.model(), reached) == Progress::Done
            {
                *place = None;
            }
        }
        Ok(())
    }

    /// Gives all texts up.
    pub fn fail(&mut self, error: &ApiError) {
        for sequence in self.sequences.iter_mut().filter_map(Option::take) {
            sequence.fail(error.clone());
        }
    }
}
