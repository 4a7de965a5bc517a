//! `/infill`, as llama.cpp's server has it and editors' plug-ins (llama.vim, llama.vscode) use it: what stands at the
//! cursor of a file.
//!
//! The likeliest text is written unless the request sets a temperature, so the usual hints on sampling change nothing.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    body::{Body, Parameters},
    error::ApiError,
    fill_in::Gap,
    job::Event,
    parameters::{Common, Stop},
    prompt::Prompt,
    service::Api,
    texts::{Texts, lost},
};

/// Tokens that are written where the request does not say.
const MAX_TOKENS: usize = 128;

/// The request. Everything without a meaning here is a hint that changes nothing but speed.
#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(default)]
    input_prefix: String,
    #[serde(default)]
    input_suffix: String,
    /// What stands on the cursor's line, before it.
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    input_extra: Vec<Extra>,
    n_predict: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    stop: Option<Stop>,
    /// Ends the text so long after its first token.
    t_max_predict_ms: Option<u64>,
    #[serde(default)]
    stream: bool,
    /// What the answer holds; everything where nothing is said.
    response_fields: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A piece of another file.
#[derive(Debug, Deserialize)]
struct Extra {
    text: String,
    #[serde(default)]
    filename: String,
}

/// Parameters that change nothing here: the slots are ours to choose, and nothing is drawn.
const HINTS: [&str; 9] = [
    "id_slot",
    "n_indent",
    "samplers",
    "cache_prompt",
    "t_max_prompt_ms",
    "top_k",
    "n_cache_reuse",
    "model",
    "min_p",
];

impl Parameters for Request {
    fn unknown(&self) -> Option<&str> {
        let names = self.rest.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str());
        // Without a temperature nothing is drawn, and these say how to draw.
        let draws = self.temperature.is_some_and(|temperature| temperature > 0.0);
        names.into_iter().find(|name| !HINTS.contains(name) || (draws && ["top_k", "min_p"].contains(name)))
    }
}

/// Answers a request.
pub async fn infill(State(api): State<Api>, Body(request): Body<Request>) -> Result<Json<Value>, ApiError> {
    if request.stream {
        return Err(ApiError::unsupported("stream", "/infill does not stream"));
    }
    let max_tokens = request.n_predict.unwrap_or(MAX_TOKENS);
    let common = Common {
        max_tokens: Some(max_tokens),
        temperature: Some(request.temperature.unwrap_or(0.0)),
        top_p: request.top_p,
        seed: request.seed,
        stop: request.stop,
        ..Common::default()
    };
    let mut wanted = common.check("logprobs")?;
    // Its time is limited, and what is there then is the answer.
    wanted.settings.piecewise = true;
    let gap = Gap {
        before: request.input_prefix + &request.prompt,
        after: request.input_suffix,
        others: request.input_extra.into_iter().map(|extra| (extra.filename, extra.text)).collect(),
        trim: Some(max_tokens),
    };
    let model = api.model().await?;
    let ordered = Instant::now();
    let mut texts = Texts::order(&api, vec![Prompt::Gap(gap)], &wanted)?;
    let (mut content, mut read, mut first) = (String::new(), None, None);
    let mut written = 0;
    let limit = request.t_max_predict_ms.map(Duration::from_millis);
    let stop_type = loop {
        match texts.next().await? {
            Some((_, Event::Read(prompt))) => read = Some(prompt),
            Some((_, Event::Piece(piece))) => {
                content.push_str(&piece.text);
                written += 1;
                let first = first.get_or_insert_with(Instant::now);
                if limit.is_some_and(|limit| first.elapsed() > limit) {
                    break "limit";
                }
            }
            Some((_, Event::End(end))) => {
                content.push_str(&end.text);
                written = end.tokens;
                break if end.stopped { "eos" } else { "limit" };
            }
            Some((_, Event::Failed(error))) => return Err(error),
            None => return Err(lost()),
        }
    };
    let read = read.ok_or_else(lost)?;
    let first = first.unwrap_or_else(Instant::now);
    let mut answer = json!({
        "content": content,
        "model": model.name,
        "stop": true,
        "stop_type": stop_type,
        "truncated": false,
        "tokens_cached": read.cached,
        "tokens_evaluated": read.count,
        "tokens_predicted": written,
        "timings": {},
    });
    for (phase, tokens, time) in
        [("prompt", read.count - read.cached, first - ordered), ("predicted", written, first.elapsed())]
    {
        let ms = time.as_secs_f64() * 1e3;
        // Never a division by nothing.
        let (per_token, per_second) = (ms / tokens.max(1) as f64, 1e3 * tokens as f64 / ms.max(1e-3));
        answer["timings"][format!("{phase}_n")] = tokens.into();
        answer["timings"][format!("{phase}_ms")] = ms.into();
        answer["timings"][format!("{phase}_per_token_ms")] = per_token.into();
        answer["timings"][format!("{phase}_per_second")] = per_second.into();
    }
    Ok(Json(match request.response_fields {
        Some(fields) => selected(&answer, &fields),
        None => answer,
    }))
}

/// The fields of these names, each under the name it was asked for by; `/` goes into an object.
fn selected(answer: &Value, fields: &[String]) -> Value {
    let field = |name: &String| Some((name.clone(), answer.pointer(&format!("/{name}"))?.clone()));
    fields.iter().filter_map(field).collect::<Map<_, _>>().into()
}
