//! Answers as server-sent events: a chunk for each piece, the usage where it is wanted, and `[DONE]`.

use std::{collections::VecDeque, convert::Infallible};

use axum::response::{
    IntoResponse as _, Response,
    sse::{self, Sse},
};
use serde_json::Value;

use super::{
    error::ApiError,
    job::Event,
    texts::{Texts, Usage, lost},
};

/// How an endpoint words its chunks.
pub trait Chunks: Send + 'static {
    /// The chunks for what happened to a text.
    fn of(&mut self, text: usize, event: Event) -> Vec<Value>;
    /// The last chunk, where the usage is wanted.
    fn usage(&self, usage: Usage) -> Value;
}

struct Stream<C> {
    texts: Texts,
    chunks: C,
    include_usage: bool,
    /// Texts of each prompt: its usage is counted with the first of them.
    best_of: usize,
    usage: Usage,
    unfinished: usize,
    ready: VecDeque<sse::Event>,
    ended: bool,
}

/// Starts the answer with the first event, so that a request that can't be answered gets a status that says so.
///
/// # Errors
/// Where the first thing that happens is a failure.
pub async fn respond(
    mut texts: Texts,
    chunks: impl Chunks,
    best_of: usize,
    include_usage: bool,
) -> Result<Response, ApiError> {
    let (text, event) = texts.next().await?.ok_or_else(lost)?;
    let mut stream = Stream {
        unfinished: texts.count(),
        texts,
        chunks,
        include_usage,
        best_of,
        usage: Usage::default(),
        ready: VecDeque::new(),
        ended: false,
    };
    stream.take(text, event);
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Ok(Sse::new(events).into_response())
}

impl<C: Chunks> Stream<C> {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.texts.next().await {
                Ok(Some((text, event))) => self.take(text, event),
                Ok(None) if self.unfinished > 0 => self.fail(lost()),
                Ok(None) => self.end(),
                Err(error) => self.fail(error),
            }
        }
    }

    fn take(&mut self, text: usize, event: Event) {
        match &event {
            Event::Read(read) if text.is_multiple_of(self.best_of) => self.usage.add_prompt(read),
            Event::End(end) => {
                self.usage.add_text(end.tokens);
                self.unfinished -= 1;
            }
            _ => {}
        }
        let chunks = self.chunks.of(text, event);
        self.ready.extend(chunks.iter().map(data));
    }

    fn end(&mut self) {
        if self.include_usage {
            self.ready.push_back(data(&self.chunks.usage(self.usage)));
        }
        self.ready.push_back(sse::Event::default().data("[DONE]"));
        self.ended = true;
    }

    /// The status has gone out already, so the error comes as a chunk, and the stream ends without its mark.
    fn fail(&mut self, error: ApiError) {
        self.ready.push_back(data(&serde_json::json!(error.body())));
        self.ended = true;
    }
}

fn data(chunk: &Value) -> sse::Event {
    sse::Event::default().data(chunk.to_string())
}
