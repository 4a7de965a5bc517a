//! The texts that are being written for programs, on the model's thread.

use std::collections::VecDeque;

use nemoterm_engine::Generator;

use super::{
    error::ApiError,
    job::Job,
    sequence::{Progress, Sequence},
};

/// Texts that are written in turns. Two share the speed of one, and where their prompts are alike they take each other's
/// cache, so there is one until several can go through the model together.
pub const MAX_WRITING: usize = 1;

/// Writes a token of one text after the other.
#[derive(Debug, Default)]
pub struct Writer {
    sequences: VecDeque<Sequence>,
}

impl Writer {
    /// How many texts are being written.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Takes another text.
    pub fn begin(&mut self, job: Job) {
        self.sequences.push_back(Sequence::new(job));
    }

    /// Goes on with the text whose turn it is, until its next token, or until `pause` says so.
    pub fn step(&mut self, generator: &mut Generator, pause: &dyn Fn() -> bool) {
        let Some(mut sequence) = self.sequences.pop_front() else { return };
        if sequence.step(generator, pause) == Progress::GoesOn {
            self.sequences.push_back(sequence);
        }
    }

    /// Gives all texts up.
    pub fn fail(&mut self, error: &ApiError) {
        for sequence in self.sequences.drain(..) {
            sequence.fail(error.clone());
        }
    }
}
