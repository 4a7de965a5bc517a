//! Who writes completions: the model of this process, or a server elsewhere.
//!
//! Both write the same [`Written`]. In the daemon [`complete::answer`] asks the [`Remote`] where one is set, and the model
//! where none is or it does not answer; the model's thread knows nothing of this. Commands that work without the daemon
//! have an [`Own`].

pub mod remote;

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::{Finish, Generation, Generator, Output};

use crate::{
    complete::{self, Plan},
    config::Config,
    failure::Failure,
    models,
};
use remote::Remote;

/// What was written for a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Different texts, best first.
    pub texts: Vec<Text>,
    /// Tokens of the prompt; 0 where that is not known.
    pub prompt_tokens: usize,
    /// How many of these were still in a cache.
    pub cached_tokens: usize,
    /// Time to the first token.
    pub prefill: Duration,
    /// Time after that.
    pub decode: Duration,
    /// Passes over the weights in that time; nothing where a server wrote it.
    pub passes: Option<usize>,
    /// Whether the model is so small that what is known besides is to be asked as well.
    pub is_small: bool,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What follows the prompt.
    pub text: String,
    /// The tokens it is made of; their texts together are the text.
    pub tokens: Vec<Token>,
    /// Why it ends.
    pub finish: Finish,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub text: String,
    /// Natural logarithm of its probability. A server need not tell it.
    pub logprob: Option<f32>,
}

impl From<Output> for Written {
    fn from(output: Output) -> Self {
        Self {
            texts: output.generations.into_iter().map(Text::from).collect(),
            prompt_tokens: output.prompt_tokens,
            cached_tokens: output.cached_tokens,
            prefill: output.prefill,
            decode: output.decode,
            passes: Some(output.passes),
            is_small: false,
        }
    }
}

impl From<Generation> for Text {
    fn from(generation: Generation) -> Self {
        let token =
            |token: nemoterm_engine::GeneratedToken| Token { text: token.text, logprob: Some(token.logprob) };
        Self {
            text: generation.text,
            tokens: generation.tokens.into_iter().map(token).collect(),
            finish: generation.finish,
        }
    }
}

/// What writes in a command that works without the daemon.
pub enum Own {
    Model { name: String, generator: Box<Generator> },
    Remote { remote: Box<Remote>, tokio: tokio::runtime::Runtime },
}

impl Own {
    /// The model of that name.
    ///
    /// # Errors
    /// Where it can't be loaded.
    pub fn model(name: &str, config: &Config) -> anyhow::Result<Self> {
        let (name, model) = models::load(name, config)?;
        Ok(Self::Model { name, generator: Box::new(Generator::new(model, 1)?) })
    }

    /// The server that is set, where one is.
    ///
    /// # Errors
    /// Where its key can't be read, and the system's.
    pub fn remote(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(settings) = remote::Settings::new(config) else { return Ok(None) };
        let remote = Box::new(Remote::new(settings?)?);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Some(Self::Remote { remote, tokio }))
    }

    /// What answers are called by.
    pub fn name(&self) -> &str {
        match self {
            Self::Model { name, .. } => name,
            Self::Remote { remote, .. } => remote.model(),
        }
    }

    /// Writes what a plan asks for, until the deadline.
    ///
    /// # Errors
    /// Those of the engine or the server.
    pub fn write(&mut self, plan: &Plan, deadline: Option<Instant>) -> Result<Written, Failure> {
        match self {
            Self::Model { generator, .. } => {
                let mut on_token = |_: &nemoterm_engine::Step<'_>| match deadline {
                    Some(deadline) if Instant::now() >= deadline => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                };
                complete::generate(generator, plan.generate(), &mut on_token)
                    .map_err(|error| Failure::new(error.to_string(), "nemoterm doctor checks the model"))
            }
            Self::Remote { remote, tokio } => tokio.block_on(remote.write(plan.ask(), deadline)),
        }
    }
}
