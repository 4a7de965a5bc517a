//! What programs ask of the model's thread, and what it tells them while it writes.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::{error::ApiError, metrics::Metrics, prompt::Prompt, sampling::Adjustments};

/// How to continue it; the same for every text of a request.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// At most so many tokens; as many as the context holds where nothing is said.
    pub max_tokens: Option<usize>,
    /// 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Share of the probability to choose from.
    pub top_p: f32,
    /// The text ends before any of these.
    pub stop: Vec<String>,
    /// What is done to the model's opinion before a token is chosen.
    pub adjustments: Adjustments,
    /// Tell every token's log-probability, and the likeliest so many beside it.
    pub logprobs: Option<usize>,
    /// Find every token's log-probability out, told or not.
    pub judged: bool,
    /// Tell the prompt, too.
    pub echo: bool,
    /// Tell each piece when it is there, rather than all of them at the end.
    pub piecewise: bool,
}

/// One text to write.
#[derive(Debug)]
pub struct Job {
    /// Names the text among those of its request.
    pub index: usize,
    pub prompt: Arc<Prompt>,
    pub settings: Arc<Settings>,
    pub seed: u64,
    /// When it was queued.
    pub arrived: Instant,
    /// Where the events go. Whoever asked lets go of the other end to give the text up. No more can wait there than
    /// the context has tokens.
    pub events: UnboundedSender<(usize, Event)>,
    pub metrics: Arc<Metrics>,
}

impl Job {
    /// A text that arrives now.
    pub fn new(
        index: usize,
        prompt: Arc<Prompt>,
        settings: Arc<Settings>,
        seed: u64,
        events: UnboundedSender<(usize, Event)>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.unfinished.inc();
        Self { index, prompt, settings, seed, arrived: Instant::now(), events, metrics }
    }

    /// Tells what happened. Nobody listening is no error: it is looked for before each token.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send((self.index, event));
    }

    /// Whether nobody waits for the text any more.
    pub fn is_given_up(&self) -> bool {
        self.events.is_closed()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.metrics.unfinished.dec();
    }
}

/// What happens to a text. First its prompt is read, then pieces come, then it ends; it may fail at any time.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Read(Read),
    Piece(Piece),
    End(End),
    Failed(ApiError),
}

/// A prompt that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// The prompt's text.
    pub text: String,
    /// Its tokens, where they are to be told.
    pub tokens: Vec<Token>,
    /// How many tokens it has.
    pub count: usize,
    /// How many of them a cache held.
    pub cached: usize,
}

/// Tokens that were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// What is certain of the text now and was not before: it may be nothing, and more than the tokens' own.
    pub text: String,
    /// The tokens, where they are judged.
    pub tokens: Vec<Token>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    pub text: String,
    /// Natural logarithm of its probability; none for the first token of a prompt.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, best first.
    pub likeliest: Vec<(String, f32)>,
}

/// The end of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Text that was held back because a stop string might have come of it.
    pub text: String,
    /// Whether the model or a stop string ended it, rather than a limit.
    pub stopped: bool,
    /// Tokens that were written.
    pub tokens: usize,
}
