//! One of the texts that are written at once.

use std::ops::ControlFlow;

use super::drafts::Draft;
use super::slots::LaneRun;
use super::text::TextBuffer;
use super::{Branch, Finish, GenerateRequest, GeneratedToken, Generation, Step};
use crate::model::Model;

pub(super) struct Lane<'a> {
    /// Whose cache it writes in.
    pub(super) lane: usize,
    /// Its number for the callback.
    alternative: usize,
    /// Tokens that are not in its cache yet.
    pub(super) behind: Vec<u32>,
    /// How many of those that are chosen next are in there.
    cached: usize,
    /// What may come after these.
    pub(super) draft: Draft,
    /// The tokens that were chosen last, and their log-probabilities.
    pub(super) chosen: Vec<(u32, f32)>,
    /// How many bytes of them were typed already.
    typed: usize,
    /// Log-probability of tokens that add nothing to what was typed; the next one's holds it.
    carried: f32,
    buffer: TextBuffer<'a>,
    pub(super) generation: Generation,
    pub(super) is_done: bool,
}

impl<'a> Lane<'a> {
    /// Goes on after `path` with a branch; a number of their tokens are in the lane's cache.
    pub(super) fn new(
        (lane, known): (usize, usize),
        branch: &Branch,
        alternative: usize,
        path: &[u32],
        request: &GenerateRequest<'a>,
    ) -> Self {
        let before = &path[..branch.depth];
        Self {
            lane,
            alternative,
            behind: before[known.min(branch.depth)..].to_vec(),
            cached: known.saturating_sub(branch.depth),
            draft: Draft::default(),
            chosen: branch.chosen.clone(),
            typed: branch.typed,
            carried: branch.base,
            buffer: TextBuffer::new(request.stop, request.stop_at_newline),
            generation: Generation {
                text: String::new(),
                tokens: Vec::new(),
                logprob: 0.0,
                finish: Finish::Length,
            },
            is_done: request.max_tokens == 0,
        }
    }

    /// What is to be run next: tokens that are not in the cache yet, and the draft.
    pub(super) fn run(&mut self) -> LaneRun {
        let mut tokens = std::mem::take(&mut self.behind);
        let drafted = self.draft.tokens();
        let rows = 1 + drafted.len();
        tokens.extend(drafted);
        LaneRun { lane: self.lane, tokens, rows }
    }

    /// Takes the chosen tokens over into the text, and finds out whether one of them ends it.
    pub(super) fn accept(
        &mut self,
        model: &Model,
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) {
        for (token, logprob) in std::mem::take(&mut self.chosen) {
            self.accept_one(model, token, logprob, request, on_token);
            if self.is_done {
                return;
            }
            match self.cached.checked_sub(1) {
                Some(left) => self.cached = left,
                None => self.behind.push(token),
            }
        }
    }

    fn accept_one(
        &mut self,
        model: &Model,
        token: u32,
        logprob: f32,
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) {
        let known = model.tokens();
        let generation = &mut self.generation;
        if known.ends_text(token) {
            generation.finish = Finish::Stop;
            self.is_done = true;
            return;
        }
        let bytes = known.vocabulary().bytes(token);
        let typed = self.typed.min(bytes.len());
        self.typed -= typed;
        if typed > 0 && typed == bytes.len() {
            self.carried += logprob;
            return;
        }
        let text = self.buffer.push(&bytes[typed..]);
        if self.buffer.stopped() && text.is_empty() {
            generation.finish = Finish::Stop;
            self.is_done = true;
            return;
        }
        generation.text.push_str(&text);
        let logprob = logprob + std::mem::take(&mut self.carried);
        generation.logprob += logprob;
        generation.tokens.push(GeneratedToken { id: token, text, logprob });
        let index = generation.tokens.len();
        let text = generation.tokens.last().map_or("", |token| &token.text);
        let go_on = on_token(&Step { alternative: self.alternative, index, text, logprob });
        if self.buffer.stopped() {
            generation.finish = Finish::Stop;
            self.is_done = true;
        } else if go_on.is_break() {
            generation.finish = Finish::Cancelled;
            self.is_done = true;
        } else if index == request.max_tokens {
            self.is_done = true;
        }
    }

    /// The text, with what was held back for a stop string.
    pub(super) fn finish(mut self, on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>) -> Generation {
        let held = self.buffer.finish();
        let generation = &mut self.generation;
        if let Some(last) = generation.tokens.last_mut()
            && !held.is_empty()
        {
            generation.text.push_str(&held);
            last.text.push_str(&held);
            let (index, logprob) = (generation.tokens.len(), 0.0);
            if on_token(&Step { alternative: self.alternative, index, text: &held, logprob }).is_break() {
                generation.finish = Finish::Cancelled;
            }
        }
        self.generation
    }
}
