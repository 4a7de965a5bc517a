//! A text that is being written for a program, one token at a time, so that key strokes get in between.

use std::time::Instant;

use nemoterm_engine::{Model, Reached, Sampler, Sampling, largest, log_sum_exp};

use super::{
    error::ApiError,
    job::{End, Event, Job, Piece, Read, Token},
    prompt::refused,
    text::{Detokenizer, Stops},
};

/// Logits that are held at a time for the log-probabilities of a prompt, in bytes.
const MAX_LOGITS: usize = 256 << 20;

/// A job, and how far it is.
#[derive(Debug)]
pub struct Sequence {
    job: Job,
    /// Nothing until the prompt is known.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    /// The prompt and what was written.
    tokens: Vec<u32>,
    /// How many of them are the prompt.
    prompt: usize,
    /// Tokens that may be written.
    most: usize,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: Stops,
    /// What was not told yet.
    untold: Piece,
    /// How much of the prompt was in a cache when it was first looked for.
    cached: Option<usize>,
    told: bool,
    last: Instant,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    GoesOn,
    Done,
}

/// A token that was chosen, and how likely it and others were, where that is wanted.
struct Chosen {
    token: u32,
    judged: Option<(f32, Vec<(u32, f32)>)>,
}

impl Sequence {
    pub fn new(job: Job) -> Self {
        Self { job, writing: None }
    }

    /// Tells that nothing more will come.
    pub fn fail(&self, error: ApiError) {
        self.job.tell(Event::Failed(error));
    }

    /// What is to be done before the model runs: [`Progress::Done`] where it need not run, because nobody waits for the
    /// text, or none is wanted, or none can be had.
    pub fn prepare(&mut self, model: &Model) -> Progress {
        if self.job.is_given_up() {
            self.job.metrics.given_up.inc();
            return Progress::Done;
        }
        self.try_prepare(model).unwrap_or_else(|error| {
            self.fail(error);
            Progress::Done
        })
    }

    fn try_prepare(&mut self, model: &Model) -> Result<Progress, ApiError> {
        let Self { job, writing } = self;
        if writing.is_some() {
            return Ok(Progress::GoesOn);
        }
        let writing = writing.insert(Writing::new(job, model)?);
        if writing.most > 0 {
            return Ok(Progress::GoesOn);
        }
        let read = writing.read(job, model)?;
        job.tell(Event::Read(read));
        job.tell(Event::End(writing.end(false)));
        Ok(Progress::Done)
    }

    /// The prompt and what was written.
    pub fn tokens(&self) -> &[u32] {
        self.writing.as_ref().map_or(&[], |writing| &writing.tokens)
    }

    /// Chooses the next token, where the model has come to the end of the text.
    pub fn take(&mut self, model: &Model, reached: Reached) -> Progress {
        let Self { job, writing } = self;
        let Some(writing) = writing else { return Progress::GoesOn };
        writing.cached.get_or_insert(reached.cached);
        let Some(logits) = reached.logits else { return Progress::GoesOn };
        if !writing.told {
            writing.told = true;
            match writing.read(job, model) {
                Ok(read) => job.tell(Event::Read(read)),
                Err(error) => {
                    job.tell(Event::Failed(error));
                    return Progress::Done;
                }
            }
        }
        match writing.choose(job, logits) {
            Some(chosen) => writing.take(job, model, &chosen),
            None => Progress::Done,
        }
    }
}

impl Writing {
    fn new(job: &Job, model: &Model) -> Result<Self, ApiError> {
        let tokens = job.prompt.tokens(model)?;
        let info = model.info();
        let settings = &job.settings;
        // The last token is written and not run, so it needs no room.
        let room = info.context - tokens.len() + 1;
        Ok(Self {
            prompt: tokens.len(),
            most: settings.max_tokens.unwrap_or(room).min(room),
            sampler: Sampler::new(Sampling::TopP {
                temperature: settings.temperature,
                top_p: settings.top_p,
                seed: job.seed,
            }),
            detokenizer: Detokenizer::new(&tokens),
            stops: Stops::new(&settings.stop),
            untold: Piece::default(),
            cached: None,
            told: false,
            last: job.arrived,
            tokens,
        })
    }

    fn written(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// A token; `None` where there are no logits.
    fn choose(&mut self, job: &Job, mut logits: Vec<f32>) -> Option<Chosen> {
        let settings = &job.settings;
        // Log-probabilities are the model's own opinion, whatever is done to the choice.
        let opinion = settings.judged.then(|| logits.clone());
        if !settings.adjustments.is_none() {
            settings.adjustments.apply(&mut logits, self.written());
        }
        let token = self.sampler.choose(&logits)?;
        let judged = opinion.map(|logits| {
            let normaliser = log_sum_exp(&logits);
            (logits[token] - normaliser, likeliest(&logits, normaliser, settings.logprobs.unwrap_or(0)))
        });
        Some(Chosen { token: token as u32, judged })
    }

    /// Appends a chosen token and tells it.
    fn take(&mut self, job: &Job, model: &Model, chosen: &Chosen) -> Progress {
        let now = Instant::now();
        job.metrics.wrote(self.written().is_empty(), now - self.last);
        self.last = now;
        // The token that ends a text is one of the tokens that were written, if one without a text.
        let is_end = !model.has_text(chosen.token);
        let mut text = String::new();
        if !is_end {
            self.tokens.push(chosen.token);
            text = self.detokenizer.push(chosen.token, |tokens| model.decode(tokens));
            self.untold.text += &self.stops.push(&text);
        }
        if let Some((logprob, likeliest)) = &chosen.judged {
            let likeliest = named(model, likeliest);
            self.untold.tokens.push(Token { text, logprob: Some(*logprob), likeliest });
        }
        let is_done = is_end || self.stops.stopped() || self.written().len() == self.most;
        if is_done || job.settings.piecewise {
            job.tell(Event::Piece(std::mem::take(&mut self.untold)));
        }
        if is_done {
            let end = self.end(is_end || self.stops.stopped());
            job.tell(Event::End(End { tokens: end.tokens + usize::from(is_end), ..end }));
            return Progress::Done;
        }
        Progress::GoesOn
    }

    fn end(&mut self, stopped: bool) -> End {
        End { text: self.stops.finish(), stopped, tokens: self.written().len() }
    }

    /// What is to be told of the prompt.
    fn read(&self, job: &Job, model: &Model) -> Result<Read, ApiError> {
        let cached = self.cached.unwrap_or(0);
        let tokens = &self.tokens[..self.prompt];
        job.metrics.read(tokens.len(), cached);
        let read = Read { count: tokens.len(), cached, ..Read::default() };
        let text = job.prompt.text(model);
        match job.settings.logprobs {
            Some(likeliest) if job.settings.echo => {
                Ok(Read { text, tokens: self.judge(model, tokens, likeliest)?, ..read })
            }
            _ => Ok(Read { text, ..read }),
        }
    }

    /// How likely each token of a prompt was, given those before it.
    fn judge(&self, model: &Model, tokens: &[u32], count: usize) -> Result<Vec<Token>, ApiError> {
        let row = 4 * model.info().vocabulary;
        if tokens.len() * row > MAX_LOGITS {
            let most = MAX_LOGITS / row;
            let message = format!("with this model, logprobs can be told of prompts up to {most} tokens");
            return Err(ApiError::invalid("logprobs", message));
        }
        let rows = model.logits(&tokens[..tokens.len() - 1]).map_err(|error| refused(&error))?;
        let mut detokenizer = Detokenizer::new(&[]);
        let mut text = |token| detokenizer.push(token, |tokens| model.decode(tokens));
        let first = Token { text: text(tokens[0]), ..Token::default() };
        let rest = tokens[1..].iter().zip(rows).map(|(&token, logits)| {
            let normaliser = log_sum_exp(&logits);
            let likeliest = named(model, &likeliest(&logits, normaliser, count));
            Token { text: text(token), logprob: Some(logits[token as usize] - normaliser), likeliest }
        });
        Ok(std::iter::once(first).chain(rest).collect())
    }
}

/// The likeliest tokens with their log-probabilities.
fn likeliest(logits: &[f32], normaliser: f32, count: usize) -> Vec<(u32, f32)> {
    largest(logits, count).into_iter().map(|token| (token as u32, logits[token] - normaliser)).collect()
}

fn named(model: &Model, tokens: &[(u32, f32)]) -> Vec<(String, f32)> {
    tokens.iter().map(|&(token, logprob)| (token_text(model, token), logprob)).collect()
}

/// A token's text inside a text: at its front, SentencePiece would drop a blank.
fn token_text(model: &Model, token: u32) -> String {
    let once = model.decode(&[token]).len();
    model.decode(&[token, token]).get(once..).unwrap_or_default().to_owned()
}
