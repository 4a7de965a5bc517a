//! Writing text: prefill, healing, decoding, alternatives.

mod drafts;
mod heal;
mod lane;
mod sampling;
mod slots;
mod text;
mod together;
mod words;
mod write;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::blend::Evidence;
use crate::error::EngineError;
use crate::kernels::math;
use crate::model::Model;
use drafts::Drafter;
pub use sampling::{Sampler, Sampling, largest, log_sum_exp};
use slots::Slots;
pub use together::{Reached, Text};

/// Tokens of a prompt that are run between two looks at the callback.
const PREFILL_CHUNK: usize = 128;

/// What to write.
#[derive(Debug, Clone)]
pub struct GenerateRequest<'a> {
    /// The text to continue.
    pub prompt: &'a str,
    /// Choose the prompt's last word's tokens anew, see [`Generator::generate`].
    pub heal: bool,
    /// Tokens to write at most, for each alternative.
    pub max_tokens: usize,
    /// End before a line break.
    pub stop_at_newline: bool,
    /// End before any of these.
    pub stop: &'a [String],
    /// Different continuations wanted, at least 1.
    pub alternatives: usize,
    /// Beginnings of the first word that are followed at once, at most 4, to find the likeliest word rather than the likeliest
    /// token. Only greedy texts have more than one.
    pub beams: usize,
    /// Where words are looked for, what is known of them.
    pub odds: Option<Odds<'a>>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// By how much a word is likelier than the model thinks, given what it adds to what was typed: 1 where nothing is known of it, less
/// where it does not exist. Words are chosen by it; their log-probabilities stay the model's.
#[derive(Clone, Copy)]
pub struct Odds<'a>(pub &'a dyn Fn(&str) -> f32);

impl std::fmt::Debug for Odds<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Odds")
    }
}

impl<'a> GenerateRequest<'a> {
    /// One greedy, healed line of at most 32 tokens.
    pub fn new(prompt: &'a str) -> Self {
        Self {
            prompt,
            heal: true,
            max_tokens: 32,
            stop_at_newline: true,
            stop: &[],
            alternatives: 1,
            beams: 1,
            odds: None,
            sampling: Sampling::Greedy,
        }
    }
}

/// What a callback learns after each token. Between pieces of a long prompt and while healing it is called with an
/// empty text, so that it can end those too. Several tokens of one alternative may come before the next one of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'a> {
    /// Which alternative, in the order they are written; the first is the most probable continuation.
    pub alternative: usize,
    /// Tokens of this alternative so far.
    pub index: usize,
    /// Whole characters that this token adds.
    pub text: &'a str,
    /// As in [`GeneratedToken`].
    pub logprob: f32,
}

/// Everything that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Different texts, best first; empty when cancelled before the first token.
    pub generations: Vec<Generation>,
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// How many of them were still in a cache.
    pub cached_tokens: usize,
    /// Time to the logits of the prompt.
    pub prefill: Duration,
    /// Time after that.
    pub decode: Duration,
    /// Passes over the weights in that time. Alternatives share them, and beginnings of words that are looked for together.
    pub passes: usize,
    /// Tokens that were run before they were chosen.
    pub drafted: usize,
    /// How many of these the model chose then, each of which spared a pass.
    pub accepted: usize,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// What follows the prompt.
    pub text: String,
    /// The tokens it is made of.
    pub tokens: Vec<GeneratedToken>,
    /// Sum of log-probabilities, including those of healed tokens.
    pub logprob: f32,
    /// Why it ends.
    pub finish: Finish,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    /// Its id.
    pub id: u32,
    /// Whole characters that it added; for the token that completes a healed word, what follows the prompt.
    pub text: String,
    /// Natural logarithm of its probability; for healed tokens, among the tokens that agree with what was typed. Those that
    /// add nothing to it count as part of the one that does; and where words were looked for, that the first one is whole
    /// counts as part of its last token.
    pub logprob: f32,
}

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// As many tokens as were asked for, or as fit the context.
    Length,
    /// The callback said so.
    Cancelled,
}

/// A model that writes. One request at a time; caches of earlier prompts make the next ones cheaper.
pub struct Generator {
    model: Model,
    slots: Slots,
    /// What was said about the last token; kept for its memory.
    evidence: Evidence,
    drafter: Drafter,
    /// Tokens that were drafted, and those that were right, since the generator was made.
    drafted: usize,
    accepted: usize,
}

/// The first tokens after the prompt, and what they rest on.
struct Branch {
    /// Tokens before them; they are the beginning of the walked path.
    depth: usize,
    /// The tokens and their log-probabilities.
    chosen: Vec<(u32, f32)>,
    /// Log-probability of the path before them.
    base: f32,
    /// How many of their bytes were typed already.
    typed: usize,
}

impl Branch {
    /// Log-probability of all of it.
    fn total(&self) -> f32 {
        self.base + self.chosen.iter().map(|&(_, logprob)| logprob).sum::<f32>()
    }
}

/// What the walk over the healed tokens found.
struct Walk {
    path: Vec<u32>,
    /// The chosen branch; `None` when cancelled.
    chosen: Option<Branch>,
    others: Vec<Branch>,
}

impl Generator {
    /// Takes a model, and makes `slots` caches (at least one).
    pub fn new(model: Model, slots: usize) -> Result<Self, EngineError> {
        Self::with_texts(model, slots, 0)
    }

    /// The same, with further caches for so many texts that are written together, see [`Generator::forward_texts`].
    pub fn with_texts(model: Model, slots: usize, texts: usize) -> Result<Self, EngineError> {
        let count = slots.max(1);
        let slots = Slots::new(model.session(Slots::count(count, texts))?, count, texts);
        let drafter = Drafter::new(drafts::costs(&model));
        Ok(Self { model, slots, evidence: Evidence::default(), drafter, drafted: 0, accepted: 0 })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Runs a prompt that is likely to be continued soon, until done or told to stop. Returns the tokens that were run.
    pub fn prefill(
        &mut self,
        prompt: &str,
        keep_going: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        let tokens = self.model.encode_plain(prompt)?;
        self.model.check(&tokens)?;
        let cached = self.slots.take(&tokens, tokens.len())?;
        // What is typed next makes the last word longer, so that its tokens are chosen anew then.
        let cut = heal::kept(&tokens, self.model.tokens().vocabulary()).saturating_sub(1);
        let mut run = 0;
        for chunk in tokens[cached..].chunks(PREFILL_CHUNK) {
            if keep_going().is_break() {
                break;
            }
            self.slots.read(chunk, 0, cut)?;
            run += chunk.len();
        }
        Ok(run)
    }

    /// Continues `request.prompt`, calling `on_token` after each token.
    ///
    /// With `heal`, the tokens of the prompt's last word are taken back and chosen again so that their bytes agree
    /// with the prompt. The text returned is what comes after the prompt.
    ///
    /// With several alternatives, the most probable first tokens are each continued from the same cache.
    pub fn generate(
        &mut self,
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output, EngineError> {
        let tokens = self.model.encode_plain(request.prompt)?;
        self.generate_tokens(&tokens, request, on_token)
    }

    /// As [`Generator::generate`] with a prompt of token ids; `request.prompt` is not looked at.
    pub fn generate_tokens(
        &mut self,
        tokens: &[u32],
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output, EngineError> {
        let started = Instant::now();
        self.model.check(tokens)?;
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let kept =
            if request.heal { heal::kept(tokens, self.model.tokens().vocabulary()) } else { tokens.len() };
        let mut sampler = Sampler::new(request.sampling);

        let cached = self.slots.take(tokens, kept - 1)?;
        let mut output = Output {
            generations: Vec::new(),
            prompt_tokens: tokens.len(),
            cached_tokens: cached,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            passes: 0,
            drafted: 0,
            accepted: 0,
        };
        let wanted = request.alternatives.max(1);
        let by_words = request.beams > 1 && request.sampling == Sampling::Greedy && request.max_tokens > 0;
        // Words are looked for from the kept tokens on, so that those after them need not be run.
        let run = if by_words { &tokens[..kept] } else { tokens };
        let rows = self.run_prompt(run, cached, kept, on_token)?;
        output.prefill = started.elapsed();
        let before = (self.slots.passes(), self.drafted, self.accepted);
        let Some(rows) = rows else {
            return Ok(output);
        };
        if by_words {
            if let Some(branches) = self.words(tokens, kept, rows, (wanted, request), on_token)? {
                output.generations =
                    self.branches(&tokens[..kept], branches, request, &mut sampler, on_token)?;
            }
        } else {
            let walk = self.walk(tokens, kept, rows, wanted, &mut sampler, on_token)?;
            if let Some(chosen) = walk.chosen {
                let branches = ordered(chosen, walk.others, wanted);
                output.generations = self.branches(&walk.path, branches, request, &mut sampler, on_token)?;
            }
        }
        output.decode = started.elapsed() - output.prefill;
        output.passes = self.slots.passes() - before.0;
        output.drafted = self.drafted - before.1;
        output.accepted = self.accepted - before.2;
        Ok(output)
    }

    /// Runs the prompt and returns the logits from the last kept token on; `None` when cancelled.
    fn run_prompt(
        &mut self,
        tokens: &[u32],
        cached: usize,
        kept: usize,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let rows = tokens.len() - (kept - 1);
        let mut at = cached;
        while tokens.len() - at > PREFILL_CHUNK + rows {
            self.slots.read(&tokens[at..at + PREFILL_CHUNK], 0, kept - 1)?;
            at += PREFILL_CHUNK;
            if on_token(&PROGRESS).is_break() {
                return Ok(None);
            }
        }
        self.slots.read(&tokens[at..], rows, kept - 1).map(Some)
    }

    /// Follows the healed tokens up to the first token that goes beyond the prompt.
    ///
    /// The whole prompt is in the cache, so as long as the choice is the prompt's own token its successor's logits
    /// are there already; only a different choice costs a step.
    fn walk(
        &mut self,
        tokens: &[u32],
        kept: usize,
        mut rows: Vec<f32>,
        wanted: usize,
        sampler: &mut Sampler,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Walk, EngineError> {
        let vocabulary = self.model.tokens().vocabulary();
        let width = self.model.info().vocabulary;
        let typed = heal::bytes_of(&tokens[kept..], vocabulary);
        let mut walk = Walk { path: tokens[..kept].to_vec(), chosen: None, others: Vec::new() };
        let (mut total, mut done, mut row) = (0.0, 0, 0);
        loop {
            let logits = &mut rows[row * width..(row + 1) * width];
            self.model.blend(&walk.path, logits, &mut self.evidence);
            let logits = &*logits;
            let remaining = &typed[done..];
            let allowed = if remaining.is_empty() { None } else { Some(vocabulary.agreeing(remaining)) };
            let candidates: Vec<f32>;
            let values = match &allowed {
                None => logits,
                Some(ids) => {
                    candidates = ids.iter().map(|&id| logits[id as usize]).collect();
                    &candidates
                }
            };
            let normaliser = math::log_sum_exp(values);
            let id_of = |index: usize| allowed.as_ref().map_or(index as u32, |ids| ids[index]);
            let branch = |index: usize| {
                let token = id_of(index);
                let logprob = values[index] - normaliser;
                let typed = vocabulary.bytes(token).len().min(remaining.len());
                Branch { depth: walk.path.len(), chosen: vec![(token, logprob)], base: total, typed }
            };
            // The prompt's own token always agrees with itself, so there is a choice.
            let Some(index) = sampler.choose(values) else {
                return Ok(walk);
            };
            let chosen = branch(index);
            if wanted > 1 {
                let others = largest(values, 2 * wanted).into_iter().filter(|&i| i != index).map(branch);
                walk.others.extend(others.filter(|other| {
                    other.typed == remaining.len() && !self.model.tokens().ends_text(other.chosen[0].0)
                }));
            }
            let token = chosen.chosen[0].0;
            if vocabulary.bytes(token).len() > remaining.len() || remaining.is_empty() {
                walk.chosen = Some(chosen);
                return Ok(walk);
            }
            done += chosen.typed;
            total = chosen.total();
            walk.path.push(token);
            let own = tokens.get(walk.path.len() - 1) == Some(&token);
            if own && row + 1 < rows.len() / width {
                row += 1;
            } else {
                if on_token(&PROGRESS).is_break() {
                    return Ok(walk);
                }
                let left = self.slots.truncate(walk.path.len() - 1);
                rows = self.slots.forward(&walk.path[left..])?;
                row = 0;
            }
        }
    }
}

/// The step of a callback that is only asked whether to go on.
const PROGRESS: Step<'static> = Step { alternative: 0, index: 0, text: "", logprob: 0.0 };

/// The chosen branch first, then the best others: more than are wanted, because some will write the same text.
fn ordered(chosen: Branch, mut others: Vec<Branch>, wanted: usize) -> Vec<Branch> {
    others.sort_by(|a, b| b.total().total_cmp(&a.total()));
    others.truncate(2 * (wanted - 1));
    others.insert(0, chosen);
    others
}
