//! `/v1/chat/completions`: a conversation, and its next message.

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
    completions::finish_reason,
    error::ApiError,
    job::{Event, Token},
    parameters::{Common, Stop, StreamOptions, Wanted},
    prompt::Prompt,
    service::{Api, now},
    stream::{self, Chunks},
    template::Message,
    texts::{Texts, Usage, Written},
};

/// The request. The model's name is not looked at: there is one model, and the answer names it.
#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(rename = "model")]
    _model: Option<String>,
    messages: Vec<Said>,
    /// The older name of the next one.
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    n: Option<usize>,
    stop: Option<Stop>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    response_format: Option<Format>,
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A message as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    role: String,
    content: Content,
    name: Option<String>,
}

/// A text, whole or in parts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of text parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Part {
    Text { text: String },
}

#[derive(Debug, Deserialize)]
struct Format {
    r#type: String,
}

impl Parameters for Request {
    fn unknown(&self) -> Option<&str> {
        self.rest.iter().find(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }
}

impl Request {
    fn check(self) -> Result<(Vec<Message>, Wanted), ApiError> {
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "messages is empty"));
        }
        if self.response_format.is_some_and(|format| format.r#type != "text") {
            return Err(ApiError::unsupported("response_format", "this server writes plain text only"));
        }
        if self.max_tokens.is_some() && self.max_completion_tokens.is_some() {
            let message = "max_tokens and max_completion_tokens are the same; set one of them";
            return Err(ApiError::invalid("max_completion_tokens", message));
        }
        let logprobs = match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (true, count) => Some(count.unwrap_or(0)),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(ApiError::invalid("top_logprobs", "top_logprobs goes with logprobs: true"));
            }
        };
        let wanted = Common {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            top_p: self.top_p,
            n: self.n,
            best_of: None,
            stop: self.stop,
            seed: self.seed,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            logprobs,
            echo: false,
            stream: self.stream,
            stream_options: self.stream_options,
        };
        let message = |said: Said| Message {
            role: said.role,
            content: match said.content {
                Content::Text(text) => text,
                Content::Parts(parts) => parts.into_iter().map(|Part::Text { text }| text).collect(),
            },
            name: said.name,
        };
        let messages = self.messages.into_iter().map(message).collect();
        Ok((messages, wanted.check("top_logprobs")?))
    }
}

/// Answers a request.
pub async fn complete(State(api): State<Api>, Body(request): Body<Request>) -> Result<Response, ApiError> {
    let (messages, wanted) = request.check()?;
    let model = api.model().await?;
    let Some(template) = api.template().await? else {
        let message = format!("{} has no chat template; /v1/completions takes plain prompts", model.name);
        return Err(ApiError::unsupported("messages", message));
    };
    let prompt = template.render(&messages).map_err(|error| ApiError::invalid("messages", error))?;
    let texts = Texts::order(&api, vec![Prompt::Whole(prompt)], &wanted)?;
    let id = format!("chatcmpl-{}", api.next_id());
    let envelope = |object| Envelope { id, object, created: now(), model: model.name };
    if wanted.stream {
        let logprobs = wanted.settings.logprobs.is_some();
        let chunks = Deltas { envelope: envelope("chat.completion.chunk"), logprobs };
        return stream::respond(texts, chunks, wanted.best_of, wanted.include_usage).await;
    }
    let texts = texts.finish().await?;
    let mut usage = Usage::default();
    usage.add_prompt(&texts[0].read);
    for text in &texts {
        usage.add_text(text.count);
    }
    let choice = |(index, written): (usize, Written)| {
        json!({
            "index": index,
            "message": { "role": "assistant", "content": written.text },
            "logprobs": wanted.settings.logprobs.map(|_| Logprobs::from(written.tokens)),
            "finish_reason": finish_reason(written.stopped),
        })
    };
    let choices: Vec<_> = texts.into_iter().enumerate().map(choice).collect();
    let mut answer = json!(envelope("chat.completion"));
    answer["choices"] = choices.into();
    answer["usage"] = json!(usage);
    Ok(Json(answer).into_response())
}

#[derive(Debug, Serialize)]
struct Envelope {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

/// Log-probabilities in the form of the chat endpoint.
#[derive(Debug, Serialize)]
struct Logprobs {
    content: Vec<Judged>,
}

#[derive(Debug, Serialize)]
struct Judged {
    #[serde(flatten)]
    token: Likely,
    top_logprobs: Vec<Likely>,
}

#[derive(Debug, Serialize)]
struct Likely {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Likely {
    fn new(token: String, logprob: f32) -> Self {
        Self { bytes: token.clone().into_bytes(), token, logprob }
    }
}

impl From<Vec<Token>> for Logprobs {
    fn from(tokens: Vec<Token>) -> Self {
        let judged = |token: Token| Judged {
            // Every token that was written has one.
            token: Likely::new(token.text, token.logprob.unwrap_or_default()),
            top_logprobs: token
                .likeliest
                .into_iter()
                .map(|(text, logprob)| Likely::new(text, logprob))
                .collect(),
        };
        Self { content: tokens.into_iter().map(judged).collect() }
    }
}

/// The chunks of a stream.
struct Deltas {
    envelope: Envelope,
    logprobs: bool,
}

impl Deltas {
    fn chunk(&self, index: usize, delta: Value, logprobs: Option<Logprobs>, end: Option<&str>) -> Value {
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end });
        self.with(json!([choice]))
    }

    fn with(&self, choices: Value) -> Value {
        let mut chunk = json!(self.envelope);
        chunk["choices"] = choices;
        chunk
    }
}

impl Chunks for Deltas {
    fn of(&mut self, index: usize, event: Event) -> Vec<Value> {
        match event {
            Event::Read(_) => {
                vec![self.chunk(index, json!({ "role": "assistant", "content": "" }), None, None)]
            }
            // Nothing to tell yet.
            Event::Piece(piece) if piece.text.is_empty() && !self.logprobs => Vec::new(),
            Event::Piece(piece) => {
                let logprobs = self.logprobs.then(|| Logprobs::from(piece.tokens));
                vec![self.chunk(index, json!({ "content": piece.text }), logprobs, None)]
            }
            Event::End(end) => {
                let delta = if end.text.is_empty() { json!({}) } else { json!({ "content": end.text }) };
                vec![self.chunk(index, delta, None, Some(finish_reason(end.stopped)))]
            }
            Event::Failed(_) => Vec::new(),
        }
    }

    fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.with(json!([]));
        chunk["usage"] = json!(usage);
        chunk
    }
}
