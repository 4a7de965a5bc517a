//! The texts of one request, on their way from the model's thread to the answer.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    error::ApiError,
    job::{Event, Job, Read, Token},
    parameters::{MAX_TEXTS, Wanted},
    prompt::Prompt,
    service::Api,
};

/// Between the seeds of a prompt's texts: any odd number that is no small multiple of the generator's own step.
const SEEDS: u64 = 0xC13F_A9A9_02A6_328F;

/// Texts that are being written. Dropping it gives them up.
#[derive(Debug)]
pub struct Texts {
    events: UnboundedReceiver<(usize, Event)>,
    count: usize,
}

/// A text that is finished.
#[derive(Debug, Default)]
pub struct Written {
    pub read: Read,
    pub text: String,
    /// Its tokens, where they are judged.
    pub tokens: Vec<Token>,
    pub stopped: bool,
    /// How many tokens were written.
    pub count: usize,
}

/// What a request cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptDetails,
}

/// More on the prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PromptDetails {
    /// Tokens that a cache held.
    pub cached_tokens: usize,
}

impl Usage {
    /// Counts a prompt. It is counted once for all its texts.
    pub fn add_prompt(&mut self, read: &Read) {
        self.prompt_tokens += read.count;
        self.total_tokens += read.count;
        self.prompt_tokens_details.cached_tokens += read.cached;
    }

    /// Counts the tokens of a text.
    pub fn add_text(&mut self, tokens: usize) {
        self.completion_tokens += tokens;
        self.total_tokens += tokens;
    }
}

impl Texts {
    /// Asks for `wanted.best_of` texts for each prompt; those of the first prompt are numbered first.
    ///
    /// # Errors
    /// Where they are too many for one request, or for the queue.
    pub fn order(api: &Api, prompts: Vec<Prompt>, wanted: &Wanted) -> Result<Self, ApiError> {
        let count = prompts.len() * wanted.best_of;
        if count > MAX_TEXTS {
            let message = format!("{count} texts are more than {MAX_TEXTS}, the most for one request");
            return Err(ApiError::invalid("prompt", message));
        }
        let (sender, events) = unbounded_channel();
        let settings = Arc::new(wanted.settings.clone());
        let mut jobs = Vec::with_capacity(count);
        for prompt in prompts.into_iter().map(Arc::new) {
            for nth in 0..wanted.best_of as u64 {
                // A prompt's texts do not depend on the prompts beside it.
                let seed = wanted.seed.wrapping_add(nth.wrapping_mul(SEEDS));
                let (prompt, settings) = (Arc::clone(&prompt), Arc::clone(&settings));
                let metrics = Arc::clone(&api.metrics);
                jobs.push(Job::new(jobs.len(), prompt, settings, seed, sender.clone(), metrics));
            }
        }
        if !api.daemon.scheduler.submit_texts(jobs) {
            let message = "too many requests are waiting";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message));
        }
        Ok(Self { events, count })
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What happens next; `None` after the last text has ended.
    ///
    /// # Errors
    /// Where a text failed, which ends them all.
    pub async fn next(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        match self.events.recv().await {
            Some((_, Event::Failed(error))) => Err(error),
            event => Ok(event),
        }
    }

    /// All texts, finished.
    ///
    /// # Errors
    /// Where one failed.
    pub async fn finish(mut self) -> Result<Vec<Written>, ApiError> {
        let mut texts: Vec<Written> = Vec::new();
        texts.resize_with(self.count, Written::default);
        let mut unfinished = self.count;
        while let Some((index, event)) = self.next().await? {
            let Some(text) = texts.get_mut(index) else { continue };
            match event {
                Event::Read(read) => text.read = read,
                Event::Piece(piece) => {
                    text.text.push_str(&piece.text);
                    text.tokens.extend(piece.tokens);
                }
                Event::End(end) => {
                    text.text.push_str(&end.text);
                    text.stopped = end.stopped;
                    text.count = end.tokens;
                    unfinished -= 1;
                }
                Event::Failed(error) => return Err(error),
            }
        }
        // The model's thread let go of a text without a word: it panicked, or the daemon ends.
        if unfinished > 0 { Err(lost()) } else { Ok(texts) }
    }
}

/// The error for a text that will never end.
pub fn lost() -> ApiError {
    ApiError::unavailable("the model failed; nemoterm daemon logs tells more")
}

impl Written {
    /// Mean log-probability of its tokens, which is how texts of different lengths compare. A text without any, which ended
    /// at once, says nothing and is behind all others.
    pub fn mean_logprob(&self) -> f32 {
        if self.tokens.is_empty() {
            return f32::NEG_INFINITY;
        }
        let sum: f32 = self.tokens.iter().filter_map(|token| token.logprob).sum();
        sum / self.tokens.len() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_ended_at_once_is_not_the_likeliest() {
        let token = Token { text: "x".to_owned(), logprob: Some(-9.0), likeliest: Vec::new() };
        let written = |tokens| Written { tokens, ..Written::default() };
        let some = written(vec![token.clone(), Token { logprob: Some(-3.0), ..token }]);
        assert_eq!(some.mean_logprob(), -6.0);
        assert!(written(Vec::new()).mean_logprob() < some.mean_logprob());
    }
}
