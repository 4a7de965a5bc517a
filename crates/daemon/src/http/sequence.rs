//! A text that is being written for a program, one token at a time, so that key strokes get in between.

use std::{ops::ControlFlow, time::Instant};

use nemoterm_engine::{GenerateRequest, Generator, Model, Sampling};

use super::{
    error::ApiError,
    job::{End, Event, Job, Piece, Read, Token},
    prompt::refused,
    sampling::{STEP, Sampler, likeliest, normaliser},
    text::{Detokenizer, Stops},
};

/// Logits that are held at a time for the log-probabilities of a prompt, in bytes.
const MAX_LOGITS: usize = 256 << 20;

/// A job, and how far it is.
#[derive(Debug)]
pub struct Sequence {
    job: Job,
    /// Nothing until the prompt is read.
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
    told: bool,
    last: Instant,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    GoesOn,
    Done,
}

/// A token that was chosen, or the end of the text.
struct Chosen {
    /// `None` where the model ended the text with a token that is not known.
    token: Option<u32>,
    logprob: f32,
    likeliest: Vec<(u32, f32)>,
    cached: usize,
}

impl Sequence {
    pub fn new(job: Job) -> Self {
        Self { job, writing: None }
    }

    /// Tells that nothing more will come.
    pub fn fail(&self, error: ApiError) {
        self.job.tell(Event::Failed(error));
    }

    /// Writes the next token, or less where `pause` says that something more urgent waits; then the next step goes on
    /// from there.
    pub fn step(&mut self, generator: &mut Generator, pause: &dyn Fn() -> bool) -> Progress {
        if self.job.is_given_up() {
            self.job.metrics.given_up.inc();
            return Progress::Done;
        }
        self.try_step(generator, pause).unwrap_or_else(|error| {
            self.fail(error);
            Progress::Done
        })
    }

    fn try_step(
        &mut self,
        generator: &mut Generator,
        pause: &dyn Fn() -> bool,
    ) -> Result<Progress, ApiError> {
        let Self { job, writing } = self;
        let writing = match writing {
            Some(writing) => writing,
            None => writing.insert(Writing::new(job, generator.model())?),
        };
        if writing.most == 0 {
            let read = writing.read(job, generator.model(), 0)?;
            job.tell(Event::Read(read));
            job.tell(Event::End(writing.end(false)));
            return Ok(Progress::Done);
        }
        let Some(chosen) = writing.choose(job, generator, pause)? else { return Ok(Progress::GoesOn) };
        if !writing.told {
            writing.told = true;
            let read = writing.read(job, generator.model(), chosen.cached)?;
            job.tell(Event::Read(read));
        }
        Ok(writing.take(job, generator.model(), &chosen))
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
            sampler: Sampler::new(settings.temperature, settings.top_p, job.seed),
            detokenizer: Detokenizer::new(&tokens),
            stops: Stops::new(&settings.stop),
            told: false,
            last: job.arrived,
            tokens,
        })
    }

    fn written(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Lets the model choose; `None` where it was interrupted.
    fn choose(
        &mut self,
        job: &Job,
        generator: &mut Generator,
        pause: &dyn Fn() -> bool,
    ) -> Result<Option<Chosen>, ApiError> {
        let settings = &job.settings;
        if settings.adjustments.is_none() && settings.logprobs.is_none() {
            return self.choose_with_caches(job, generator, pause);
        }
        let rows = generator.model().logits(&self.tokens).map_err(|error| refused(&error))?;
        let Some(mut logits) = rows.into_iter().next_back() else { return Ok(None) };
        let normaliser = normaliser(&logits);
        let likeliest = likeliest(&logits, settings.logprobs.unwrap_or(0));
        let likeliest =
            likeliest.into_iter().map(|token| (token, logits[token as usize] - normaliser)).collect();
        let plain = logits.clone();
        settings.adjustments.apply(&mut logits, self.written());
        let Some(token) = self.sampler.choose(&logits) else { return Ok(None) };
        let logprob = plain[token as usize] - normaliser;
        Ok(Some(Chosen { token: Some(token), logprob, likeliest, cached: 0 }))
    }

    /// As [`Writing::choose`], where nothing but the token itself is wanted: the caches hold all but the last token.
    fn choose_with_caches(
        &mut self,
        job: &Job,
        generator: &mut Generator,
        pause: &dyn Fn() -> bool,
    ) -> Result<Option<Chosen>, ApiError> {
        let settings = &job.settings;
        let sampling = if settings.temperature > 0.0 {
            // As if one generator had drawn all tokens so far, however often the text was interrupted.
            let seed = job.seed.wrapping_add((self.written().len() as u64).wrapping_mul(STEP));
            Sampling::TopP { temperature: settings.temperature, top_p: settings.top_p, seed }
        } else {
            Sampling::Greedy
        };
        let request = GenerateRequest {
            heal: false,
            max_tokens: 1,
            stop_at_newline: false,
            sampling,
            ..GenerateRequest::new("")
        };
        let mut go_on = |_: &nemoterm_engine::Step<'_>| {
            if pause() || job.is_given_up() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let output =
            generator.generate_tokens(&self.tokens, &request, &mut go_on).map_err(|error| refused(&error))?;
        let Some(generation) = output.generations.first() else { return Ok(None) };
        let first = generation.tokens.first();
        Ok(Some(Chosen {
            token: first.map(|token| token.id),
            logprob: first.map_or(0.0, |token| token.logprob),
            likeliest: Vec::new(),
            cached: output.cached_tokens,
        }))
    }

    /// Appends a chosen token and tells it.
    fn take(&mut self, job: &Job, model: &Model, chosen: &Chosen) -> Progress {
        let now = Instant::now();
        job.metrics.wrote(self.written().is_empty(), now - self.last);
        self.last = now;
        let Some(token) = chosen.token.filter(|&token| !ends_text(model, token)) else {
            // The token that ends a text is one of the tokens that were written, if one without a text.
            if chosen.token.is_some() {
                let likeliest = named(model, &chosen.likeliest);
                let token = Token { text: String::new(), logprob: Some(chosen.logprob), likeliest };
                job.tell(Event::Piece(Piece { text: String::new(), token }));
            }
            let end = self.end(true);
            job.tell(Event::End(End { tokens: end.tokens + 1, ..end }));
            return Progress::Done;
        };
        self.tokens.push(token);
        let text = self.detokenizer.push(token, |tokens| model.decode(tokens));
        let token = Token { logprob: Some(chosen.logprob), likeliest: named(model, &chosen.likeliest), text };
        let text = self.stops.push(&token.text);
        job.tell(Event::Piece(Piece { text, token }));
        if self.stops.stopped() || self.written().len() == self.most {
            job.tell(Event::End(self.end(self.stops.stopped())));
            return Progress::Done;
        }
        Progress::GoesOn
    }

    fn end(&mut self, stopped: bool) -> End {
        End { text: self.stops.finish(), stopped, tokens: self.written().len() }
    }

    /// What is to be told of the prompt.
    fn read(&self, job: &Job, model: &Model, cached: usize) -> Result<Read, ApiError> {
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
            let normaliser = normaliser(&logits);
            let of = |token: u32| logits[token as usize] - normaliser;
            let likeliest: Vec<_> =
                likeliest(&logits, count).into_iter().map(|token| (token, of(token))).collect();
            Token { text: text(token), logprob: Some(of(token)), likeliest: named(model, &likeliest) }
        });
        Ok(std::iter::once(first).chain(rest).collect())
    }
}

/// Whether a token ends a text: a token that has no text of its own.
fn ends_text(model: &Model, token: u32) -> bool {
    token_text(model, token).is_empty()
}

fn named(model: &Model, tokens: &[(u32, f32)]) -> Vec<(String, f32)> {
    tokens.iter().map(|&(token, logprob)| (token_text(model, token), logprob)).collect()
}

/// A token's text inside a text: at its front, SentencePiece would drop a blank.
fn token_text(model: &Model, token: u32) -> String {
    let once = model.decode(&[token]).len();
    model.decode(&[token, token]).get(once..).unwrap_or_default().to_owned()
}
