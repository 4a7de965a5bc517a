//! What the endpoints' parameters have in common: their ranges, and what becomes of them.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};

use serde::Deserialize;

use super::{error::ApiError, job::Settings, sampling::Adjustments};

/// Texts that one request may ask for.
pub const MAX_TEXTS: usize = 128;

/// Stop strings of one request.
const MAX_STOPS: usize = 16;

/// Likeliest tokens that are told beside each token.
const MAX_LOGPROBS: usize = 20;

/// One stop string or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    One(String),
    Several(Vec<String>),
}

/// How a stream is to be.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    include_usage: Option<bool>,
}

/// Parameters that mean the same everywhere, as they were given.
#[derive(Debug, Clone, Default)]
pub struct Common {
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub n: Option<usize>,
    pub best_of: Option<usize>,
    pub stop: Option<Stop>,
    pub seed: Option<i64>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Option<BTreeMap<String, f32>>,
    pub logprobs: Option<usize>,
    pub echo: bool,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
}

/// The same, checked.
#[derive(Debug)]
pub struct Wanted {
    pub settings: Settings,
    pub seed: u64,
    /// Texts that are answered with, for each prompt.
    pub n: usize,
    /// Texts that are written, for each prompt.
    pub best_of: usize,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Whether the stream tells the usage at its end.
    pub include_usage: bool,
}

impl Common {
    /// Checks the ranges. `logprobs` is the parameter that says how many likeliest tokens are told.
    ///
    /// # Errors
    /// Names the parameter that is out of its range.
    pub fn check(self, logprobs: &str) -> Result<Wanted, ApiError> {
        let temperature = within("temperature", self.temperature, 1.0, 0.0, 2.0)?;
        let top_p = within("top_p", self.top_p, 1.0, 0.0, 1.0)?;
        let presence_penalty = within("presence_penalty", self.presence_penalty, 0.0, -2.0, 2.0)?;
        let frequency_penalty = within("frequency_penalty", self.frequency_penalty, 0.0, -2.0, 2.0)?;
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_TEXTS).contains(&n) {
            return Err(ApiError::invalid("n", format!("n must be between 1 and {MAX_TEXTS}")));
        }
        let best_of = self.best_of.unwrap_or(n);
        if !(n..=MAX_TEXTS).contains(&best_of) {
            return Err(ApiError::invalid("best_of", format!("best_of must be between n and {MAX_TEXTS}")));
        }
        let stream = self.stream.unwrap_or(false);
        if stream && best_of > n {
            return Err(ApiError::invalid("best_of", "a stream can't tell the best before all are written"));
        }
        if !stream && self.stream_options.is_some() {
            return Err(ApiError::invalid("stream_options", "stream_options is for streams only"));
        }
        if self.logprobs.is_some_and(|count| count > MAX_LOGPROBS) {
            let message = format!("{logprobs} must be between 0 and {MAX_LOGPROBS}");
            return Err(ApiError::invalid(logprobs, message));
        }
        let settings = Settings {
            max_tokens: self.max_tokens,
            temperature,
            top_p,
            stop: stops(self.stop)?,
            adjustments: Adjustments { presence_penalty, frequency_penalty, bias: bias(self.logit_bias)? },
            logprobs: self.logprobs,
            judged: self.logprobs.is_some() || best_of > n,
            echo: self.echo,
            piecewise: stream,
        };
        // A hasher's key is random.
        let seed = self.seed.map_or_else(|| RandomState::new().hash_one(0), |seed| seed as u64);
        let include_usage = self.stream_options.unwrap_or_default().include_usage.unwrap_or(false);
        Ok(Wanted { settings, seed, n, best_of, stream, include_usage })
    }
}

fn within(name: &str, value: Option<f32>, default: f32, least: f32, most: f32) -> Result<f32, ApiError> {
    let value = value.unwrap_or(default);
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::invalid(name, format!("{name} must be between {least} and {most}")))
}

fn stops(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stops)) => stops,
    };
    if stops.len() > MAX_STOPS {
        return Err(ApiError::invalid("stop", format!("stop holds more than {MAX_STOPS} strings")));
    }
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::invalid("stop", "stop holds an empty string"));
    }
    Ok(stops)
}

fn bias(bias: Option<BTreeMap<String, f32>>) -> Result<Vec<(u32, f32)>, ApiError> {
    let one = |(token, value): (String, f32)| {
        let id = token.parse().map_err(|_| {
            ApiError::invalid("logit_bias", format!("\"{token}\" in logit_bias is no token id"))
        })?;
        if (-100.0..=100.0).contains(&value) {
            return Ok((id, value));
        }
        Err(ApiError::invalid("logit_bias", format!("{value} in logit_bias is not between -100 and 100")))
    };
    bias.unwrap_or_default().into_iter().map(one).collect()
}
