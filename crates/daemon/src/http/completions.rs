//! `/v1/completions`, the legacy endpoint: a prompt, and what follows it.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    body::{Body, Parameters},
    error::ApiError,
    fill_in::Gap,
    job::{Event, Token},
    parameters::{Common, Stop, StreamOptions, Wanted},
    prompt::Prompt,
    service::{Api, now},
    stream::{self, Chunks},
    texts::{Texts, Usage, Written},
};

/// Tokens that are written where the request does not say, as OpenAI has it.
const MAX_TOKENS: usize = 16;

/// The request. The model's name is not looked at: there is one model, and the answer names it.
#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(rename = "model")]
    _model: Option<String>,
    prompt: Option<Value>,
    suffix: Option<String>,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    n: Option<usize>,
    best_of: Option<usize>,
    stop: Option<Stop>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    echo: Option<bool>,
    logprobs: Option<usize>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    /// Names the end user, for the accounting of a service that has one.
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Parameters for Request {
    fn unknown(&self) -> Option<&str> {
        self.rest.iter().find(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }
}

impl Request {
    fn check(self) -> Result<(Vec<Prompt>, Wanted), ApiError> {
        let echo = self.echo.unwrap_or(false);
        let prompts = match (prompts(self.prompt)?, self.suffix.filter(|suffix| !suffix.is_empty())) {
            (prompts, None) => prompts,
            (_, Some(_)) if echo => return Err(ApiError::invalid("echo", "echo does not go with suffix")),
            (prompts, Some(suffix)) => {
                let around = |prompt| match prompt {
                    Prompt::Text(before) => {
                        Ok(Prompt::Gap(Gap { before, after: suffix.clone(), ..Gap::default() }))
                    }
                    _ => Err(ApiError::invalid("suffix", "suffix goes with prompts that are text")),
                };
                prompts.into_iter().map(around).collect::<Result<_, _>>()?
            }
        };
        let wanted = Common {
            max_tokens: Some(self.max_tokens.unwrap_or(MAX_TOKENS)),
            temperature: self.temperature,
            top_p: self.top_p,
            n: self.n,
            best_of: self.best_of,
            stop: self.stop,
            seed: self.seed,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            logprobs: self.logprobs,
            echo,
            stream: self.stream,
            stream_options: self.stream_options,
        };
        Ok((prompts, wanted.check("logprobs")?))
    }
}

/// The four forms of a prompt: a string, strings, token ids, lists of token ids.
fn prompts(value: Option<Value>) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        let forms = "prompt must be a string, a list of strings, a list of token ids or a list of such lists";
        ApiError::invalid("prompt", forms)
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    let one = |value: &Value| match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(ids) => Ok(Prompt::Tokens(ids.iter().map(id).collect::<Result<_, _>>()?)),
        _ => Err(wrong()),
    };
    match value {
        None => Err(ApiError::invalid("prompt", "prompt is missing")),
        Some(Value::Array(values)) if values.is_empty() => {
            Err(ApiError::invalid("prompt", "prompt is an empty list"))
        }
        Some(Value::Array(values)) if !values[0].is_number() => values.iter().map(one).collect(),
        Some(value) => Ok(vec![one(&value)?]),
    }
}

/// Answers a request.
pub async fn complete(State(api): State<Api>, Body(request): Body<Request>) -> Result<Response, ApiError> {
    let (prompts, wanted) = request.check()?;
    let model = api.model().await?;
    let id = format!("cmpl-{}", api.next_id());
    let envelope = Envelope { id, object: "text_completion", created: now(), model: model.name };
    let texts = Texts::order(&api, prompts, &wanted)?;
    if wanted.stream {
        let chunks = Pieces {
            envelope,
            echo: wanted.settings.echo,
            logprobs: wanted.settings.logprobs.is_some(),
            offsets: vec![0; texts.count()],
        };
        return stream::respond(texts, chunks, wanted.best_of, wanted.include_usage).await;
    }
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for mut texts in by_prompt(texts.finish().await?, wanted.best_of) {
        usage.add_prompt(&texts[0].read);
        for text in &texts {
            usage.add_text(text.count);
        }
        if wanted.best_of > wanted.n {
            texts.sort_by(|a, b| b.mean_logprob().total_cmp(&a.mean_logprob()));
        }
        for text in texts.into_iter().take(wanted.n) {
            choices.push(choice(choices.len(), text, &wanted));
        }
    }
    Ok(Json(Answer { envelope, choices, usage }).into_response())
}

/// The texts of each prompt.
fn by_prompt(texts: Vec<Written>, best_of: usize) -> impl Iterator<Item = Vec<Written>> {
    let mut texts = texts.into_iter();
    std::iter::from_fn(move || Some(texts.by_ref().take(best_of).collect::<Vec<_>>()))
        .take_while(|texts| !texts.is_empty())
}

fn choice(index: usize, written: Written, wanted: &Wanted) -> Choice {
    let Written { read, text, tokens, stopped, .. } = written;
    let logprobs = wanted.settings.logprobs.map(|_| {
        let mut logprobs = Logprobs::default();
        let mut offset = if wanted.settings.echo { 0 } else { read.text.chars().count() };
        logprobs.extend(read.tokens, &mut offset);
        logprobs.extend(tokens, &mut offset);
        logprobs
    });
    let text = if wanted.settings.echo { read.text + &text } else { text };
    Choice { index, text, logprobs, finish_reason: Some(finish_reason(stopped)) }
}

/// Why a text ended, as the API calls it.
pub fn finish_reason(stopped: bool) -> &'static str {
    if stopped { "stop" } else { "length" }
}

#[derive(Debug, Clone, Serialize)]
struct Envelope {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    envelope: Envelope,
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

/// Log-probabilities in the legacy form: four lists of the same length.
#[derive(Debug, Default, Serialize)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens and the token itself.
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins, in characters from the start of the prompt.
    text_offset: Vec<usize>,
}

impl Logprobs {
    /// Appends tokens, the first of which begins at `offset`.
    fn extend(&mut self, tokens: Vec<Token>, offset: &mut usize) {
        for token in tokens {
            let length = token.text.chars().count();
            let top = token.logprob.map(|logprob| {
                // Tokens that look alike are told once, with the likeliest's figure: the last one stays.
                let mut top: BTreeMap<_, _> = token.likeliest.into_iter().rev().collect();
                top.entry(token.text.clone()).or_insert(logprob);
                top
            });
            self.tokens.push(token.text);
            self.token_logprobs.push(token.logprob);
            self.top_logprobs.push(top);
            self.text_offset.push(*offset);
            *offset += length;
        }
    }
}

/// The chunks of a stream.
struct Pieces {
    envelope: Envelope,
    echo: bool,
    logprobs: bool,
    /// Where the next token of each text begins.
    offsets: Vec<usize>,
}

impl Pieces {
    fn chunk(
        &self,
        index: usize,
        text: String,
        logprobs: Option<Logprobs>,
        end: Option<&'static str>,
    ) -> Value {
        let choices = vec![Choice { index, text, logprobs, finish_reason: end }];
        self.with(json!(choices))
    }

    fn with(&self, choices: Value) -> Value {
        let mut chunk = json!(self.envelope);
        chunk["choices"] = choices;
        chunk
    }

    fn judged(&mut self, text: usize, tokens: Vec<Token>) -> Option<Logprobs> {
        self.logprobs.then(|| {
            let mut logprobs = Logprobs::default();
            logprobs.extend(tokens, &mut self.offsets[text]);
            logprobs
        })
    }
}

impl Chunks for Pieces {
    fn of(&mut self, index: usize, event: Event) -> Vec<Value> {
        match event {
            Event::Read(read) if self.echo => {
                let logprobs = self.judged(index, read.tokens);
                vec![self.chunk(index, read.text, logprobs, None)]
            }
            Event::Read(read) => {
                self.offsets[index] = read.text.chars().count();
                Vec::new()
            }
            // Nothing to tell yet.
            Event::Piece(piece) if piece.text.is_empty() && !self.logprobs => Vec::new(),
            Event::Piece(piece) => {
                let logprobs = self.judged(index, piece.tokens);
                vec![self.chunk(index, piece.text, logprobs, None)]
            }
            Event::End(end) => vec![self.chunk(index, end.text, None, Some(finish_reason(end.stopped)))],
            Event::Failed(_) => Vec::new(),
        }
    }

    fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.with(json!([]));
        chunk["usage"] = json!(usage);
        chunk
    }
}
