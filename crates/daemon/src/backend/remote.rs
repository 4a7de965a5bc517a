//! A server elsewhere that speaks OpenAI's API: vLLM, NIM, TensorRT-LLM, llama.cpp, another nemoterm.
//!
//! [`Remote::write`] is the whole way: not while the server is left alone ([`health`]), not with a secret in the line,
//! then requests to `/completions` whose answers come as streams ([`stream`]), until the text continues what was typed ([`healing`]).
//! Dropping the future drops the connection, and with it the server's work; a [`spare`] one takes its place.
//!
//! Nothing is sent anywhere but to the URL that is set: redirects are not followed, and no proxy of the environment is used.

mod answer;
mod healing;
mod health;
mod link;
mod settings;
mod spare;
mod stream;

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use nemoterm_engine::{Finish, Sampling};
use nemoterm_protocol::RemoteStatus;
use reqwest::{
    Certificate, Client, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    redirect,
};
use serde_json::{Value, json};
use tokio::time::timeout_at;

use super::{Text, Token, Written};
use crate::failure::Failure;
use answer::{Answer, Time};
use healing::{Continuation, Fork, Step};
use health::{Health, Trouble};
pub use link::Link;
pub use settings::{Settings, base_url};
use spare::{Loan, Spare};
use stream::Event;

/// How often a request is begun anew to heal the last word.
const MAX_ROUNDS: usize = 5;

/// Connections are closed after this; servers close them after five seconds, and the one must not meet the other.
const IDLE: Duration = Duration::from_secs(4);

/// The same with TLS, where opening another one costs more than the two meeting once in a while.
const IDLE_TLS: Duration = Duration::from_secs(50);

/// What requests ask for beyond the text, richest first. Servers refuse what they don't know.
const FORMS: [Form; 6] = [
    Form { suffix: true, logprobs: Some(20) },
    Form { suffix: false, logprobs: Some(20) },
    Form { suffix: true, logprobs: Some(5) },
    Form { suffix: false, logprobs: Some(5) },
    Form { suffix: true, logprobs: None },
    Form { suffix: false, logprobs: None },
];

#[derive(Debug, Clone, Copy)]
struct Form {
    /// The text after the cursor, for models that fill gaps.
    suffix: bool,
    /// How many likely tokens are to be told.
    logprobs: Option<u8>,
}

/// What is to be written. It holds no secrets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// The prompt.
    pub prompt: String,
    /// The prompt without its last word, and what an answer to that has to begin with.
    pub cut: (String, String),
    /// The text after the cursor.
    pub after: String,
    /// Tokens to write at most, for each text.
    pub max_tokens: usize,
    /// Different texts wanted.
    pub texts: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// A server.
#[derive(Debug)]
pub struct Remote {
    settings: Settings,
    client: Client,
    spare: Arc<Spare>,
    health: Mutex<Health>,
    /// Index of the richest of the [`FORMS`] that it is known to take, with text after the cursor and without.
    forms: [AtomicUsize; 2],
    /// Whether it has taken that one.
    proven: [AtomicBool; 2],
}

impl Remote {
    /// Makes what talks to a server. No connection is opened yet.
    ///
    /// # Errors
    /// Where certificates can't be used.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let idle = if settings.url.scheme() == "https" { IDLE_TLS } else { IDLE };
        let mut client = Client::builder();
        if let Some(pem) = &settings.authorities {
            let unusable =
                |_| Failure::new("the certificates of remote_ca_file can't be used", "name another file");
            client = client.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(unusable)?);
        }
        let client = client
            .user_agent(concat!("nemoterm/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(idle)
            .build()
            .map_err(|error| Failure::new(cause(&error), "check the certificates of this system"))?;
        let spare = Spare::new(client.clone(), &settings.url, settings.key.clone());
        let (forms, proven) = Default::default();
        Ok(Self { settings, client, spare, health: Mutex::default(), forms, proven })
    }

    /// Opens a connection for who may ask soon.
    pub fn expect(&self) {
        if self.health().paused(Instant::now()).is_none() {
            self.spare.open();
        }
    }

    /// What it calls its model.
    pub fn model(&self) -> &str {
        &self.settings.model
    }

    /// How it has done so far.
    pub fn status(&self) -> RemoteStatus {
        let url = self.settings.url.as_str();
        let health = self.health();
        let (answered, failed) = health.counts();
        RemoteStatus {
            url: url.to_owned(),
            model: self.settings.model.clone(),
            state: health.state(url, Instant::now()),
            answered,
            failed,
        }
    }

    /// Writes what is asked, until the deadline or as long as the server may take. Three quarters of the time may pass until
    /// the first word; the rest is for somebody else to answer in.
    ///
    /// # Errors
    /// Where the server does not answer, or is left alone, or there is nothing that may be asked.
    pub async fn write(&self, ask: Option<Ask>, deadline: Option<Instant>) -> Result<Written, Failure> {
        let start = Instant::now();
        let url = self.settings.url.as_str();
        if let Some(trouble) = self.health().paused(start) {
            return Err(trouble.failure(url));
        }
        let end = start + self.settings.wait;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        let time = Time { start, first: start + end.saturating_duration_since(start) * 3 / 4, end };
        let written = match &ask {
            Some(ask) => self.written(ask, time).await,
            None => Err(Trouble::Secret),
        };
        match written {
            Ok(written) => {
                if self.health().answered() {
                    tracing::info!(url, "the remote server answers");
                }
                Ok(written)
            }
            Err(trouble) => {
                let failure = trouble.failure(url);
                if self.health().failed(trouble, Instant::now()) {
                    tracing::warn!("{failure}");
                }
                Err(failure)
            }
        }
    }

    async fn written(&self, ask: &Ask, time: Time) -> Result<Written, Trouble> {
        if ask.sampling != Sampling::Greedy {
            return self.sampled(ask, time).await;
        }
        let (mut best, others) = self.healed(ask, time).await?;
        let prefill = time.start.elapsed();
        let mut texts = vec![best.finish(time).await?];
        let others = others.into_iter().take(ask.texts.saturating_sub(1)).map(|(prompt, token)| async move {
            let begun = Continuation::begun(token);
            self.open(ask, &prompt, false, time).await?.answering(begun).finish(time).await
        });
        // The best is there; what fails of the others is just missing.
        texts.extend(futures_util::future::join_all(others).await.into_iter().flatten());
        let decode = time.start.elapsed().saturating_sub(prefill);
        Ok(Written { texts, prompt_tokens: best.prompt_tokens, prefill, decode, ..Written::default() })
    }

    /// Opens the answer that continues what was typed, and reads it until something is there. With it come the prompts of
    /// other texts, likeliest first, and the tokens that those begin with.
    async fn healed(&self, ask: &Ask, time: Time) -> Result<(Answer, Vec<(String, Token)>), Trouble> {
        // A gap is filled from its very edge, and without a line there is nothing to cut.
        let (mut prompt, typed) = ask.cut.clone();
        let fills = !ask.after.is_empty() && FORMS[self.forms[1].load(Ordering::Relaxed)].suffix;
        let mut text = Continuation::new(&typed);
        if fills || prompt.is_empty() || typed.is_empty() {
            prompt.clone_from(&ask.prompt);
            text = Continuation::default();
        }
        let mut others = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let mut answer = self.open(ask, &prompt, fills, time).await?.answering(text);
            let step = answer.begin(time).await?;
            let fork = answer.text.fork.take();
            if step != Step::Astray {
                let written = answer.text.tokens.first().map(|token| token.text.clone());
                others = fork.map_or(others, |fork| branches(&prompt, &fork, written.as_deref()));
                return Ok((answer, others));
            }
            let fork = fork.unwrap_or_default();
            match fork.tokens.first() {
                Some((token, logprob)) => {
                    others = branches(&prompt, &fork, fork.added(token));
                    prompt = format!("{prompt}{}{token}", fork.before);
                    text = match fork.added(token) {
                        Some("") => Continuation::default(),
                        Some(added) => {
                            Continuation::begun(Token { text: added.to_owned(), logprob: Some(*logprob) })
                        }
                        None => {
                            Continuation::new(fork.typed.strip_prefix(token.as_str()).unwrap_or_default())
                        }
                    };
                }
                None => {
                    prompt.clone_from(&ask.prompt);
                    text = Continuation::default();
                }
            }
        }
        Err(Trouble::Garbled("it never goes on as it was typed"))
    }

    /// Texts by chance, several in one answer.
    async fn sampled(&self, ask: &Ask, time: Time) -> Result<Written, Trouble> {
        let mut answer = self.open(ask, &ask.prompt, !ask.after.is_empty(), time).await?;
        let mut texts = vec![Continuation::default(); ask.texts];
        let mut finish = vec![Finish::Cancelled; ask.texts];
        let mut prefill = None;
        while let Some(event) = answer.next(if prefill.is_some() { time.end } else { time.first }).await? {
            match event {
                Event::Piece(index, piece) if finish.get(index) == Some(&Finish::Cancelled) => {
                    prefill.get_or_insert_with(|| time.start.elapsed());
                    if texts[index].take(&piece) == Step::Done {
                        finish[index] = Finish::Stop;
                    }
                }
                Event::End(index, cut) if finish.get(index) == Some(&Finish::Cancelled) => {
                    prefill.get_or_insert_with(|| time.start.elapsed());
                    finish[index] = if cut { Finish::Length } else { Finish::Stop };
                }
                Event::Done => break,
                _ => {}
            }
        }
        let Some(prefill) = prefill else { return Err(time.late()) };
        let text =
            |(text, finish): (Continuation, Finish)| Text { text: text.text(), tokens: text.tokens, finish };
        Ok(Written {
            texts: texts.into_iter().zip(finish).map(text).collect(),
            prompt_tokens: answer.prompt_tokens,
            prefill,
            decode: time.start.elapsed().saturating_sub(prefill),
            ..Written::default()
        })
    }

    /// Sends a request, and poorer ones where the server does not take it, until the head of an answer is there.
    async fn open(&self, ask: &Ask, prompt: &str, fills: bool, time: Time) -> Result<Answer, Trouble> {
        let kind = usize::from(fills);
        let (known, proven) = (&self.forms[kind], &self.proven[kind]);
        let first = known.load(Ordering::Relaxed);
        let mut refused = None;
        for (index, form) in FORMS.iter().enumerate().skip(first) {
            if form.suffix && !fills {
                continue;
            }
            let body = self.body(ask, prompt, *form);
            let sent = timeout_at(time.first.into(), self.send(&body)).await.map_err(|_| time.late())?;
            match sent {
                // What may be about a parameter; unless they have all been taken before.
                Err(trouble @ Trouble::Status(400 | 422 | 500 | 501, _))
                    if !proven.load(Ordering::Relaxed) =>
                {
                    // The first refusal is the one about the request that we want to be answered.
                    refused.get_or_insert(trouble);
                }
                Err(trouble) => return Err(trouble),
                Ok((response, loan)) => {
                    known.store(index, Ordering::Relaxed);
                    proven.store(true, Ordering::Relaxed);
                    return Ok(Answer::new(response, loan));
                }
            }
        }
        Err(refused.unwrap_or(Trouble::Broken))
    }

    fn body(&self, ask: &Ask, prompt: &str, form: Form) -> Value {
        let mut body = json!({
            "model": self.settings.model,
            "prompt": prompt,
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stop": ["\n"],
            "stream": true,
        });
        if let Sampling::TopP { temperature, top_p, seed } = ask.sampling {
            body["temperature"] = json!(temperature);
            body["top_p"] = json!(top_p);
            body["n"] = json!(ask.texts);
            // Servers take what fits 63 bits, or 31.
            body["seed"] = json!(seed & 0x7fff_ffff);
        } else {
            body["seed"] = json!(0);
        }
        if let Some(logprobs) = form.logprobs {
            body["logprobs"] = json!(logprobs);
        }
        if form.suffix {
            body["suffix"] = json!(ask.after);
        }
        body
    }

    async fn send(&self, body: &Value) -> Result<(Response, Loan), Trouble> {
        let loan = self.spare.lend();
        match self.sent(body).await {
            Ok(response) => Ok((response, loan)),
            Err(trouble) => {
                loan.forget();
                Err(trouble)
            }
        }
    }

    async fn sent(&self, body: &Value) -> Result<Response, Trouble> {
        let url = format!("{}/completions", self.settings.url.as_str().trim_end_matches('/'));
        let body = body.to_string();
        let send = || {
            let mut request =
                self.client.post(&url).header(CONTENT_TYPE, "application/json").body(body.clone());
            if let Some(key) = &self.settings.key {
                request = request.header(AUTHORIZATION, key.clone());
            }
            request.send()
        };
        let response = match send().await {
            // A server closes connections that were idle for long, and it may be doing so as one is used again.
            Err(error) if !error.is_connect() => send().await,
            first => first,
        };
        let response = response.map_err(|error| {
            if error.is_connect() { Trouble::Unreachable(cause(&error)) } else { Trouble::Broken }
        })?;
        let status = response.status();
        if !status.is_success() {
            let wish = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let wish = wish.and_then(|wish| health::wish(wish, SystemTime::now()));
            return Err(Trouble::Status(status.as_u16(), wish));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(Trouble::Garbled("what comes is no stream of events"));
        }
        Ok(response)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing is left half-done under this lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last cause of an error, which is the one that says something.
fn cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(next) = cause.and_then(std::error::Error::source) {
        cause = Some(next);
    }
    cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// The prompts of texts that begin with other tokens of a place than the one that was `written`, and what those add.
fn branches(prompt: &str, fork: &Fork, written: Option<&str>) -> Vec<(String, Token)> {
    let branch = |(token, logprob): &(String, f32)| {
        let added = fork.added(token).filter(|added| !added.trim().is_empty() && Some(*added) != written)?;
        let token_alone = Token { text: added.to_owned(), logprob: Some(*logprob) };
        Some((format!("{prompt}{}{token}", fork.before), token_alone))
    };
    fork.tokens.iter().filter_map(branch).collect()
}
