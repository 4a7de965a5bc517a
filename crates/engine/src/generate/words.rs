//! The likeliest next words, by beam search. A greedy choice of tokens takes the likeliest beginning of a word, which many
//! words share, rather than the likeliest word; and it is the first word that a person looks at.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::slots::{BESIDE, LaneRun};
use super::{Branch, GenerateRequest, Generator, Odds, PROGRESS, Step, heal, largest};
use crate::error::EngineError;
use crate::kernels::math;

/// Tokens beyond what was typed that are looked for; a word that is longer goes on greedily.
const LONGEST: usize = 8;
/// A beginning that is so much less likely than the likeliest is given up: one in twelve.
const GAP: f32 = 2.5;
/// Tokens that are looked at after each beginning. What a blank or the end has behind these is not worth its time.
const CANDIDATES: usize = 32;

/// A beginning of a word.
#[derive(Debug, Clone)]
struct Beam {
    /// Tokens after the kept part of the prompt, with their log-probabilities.
    tokens: Vec<(u32, f32)>,
    /// The bytes they add to what was typed, and how many of the typed ones they have not come to yet.
    added: Vec<u8>,
    untyped: usize,
    /// Tokens since the last typed byte.
    beyond: usize,
    total: f32,
    /// Whose cache holds the tokens but for the last, if one does.
    lane: Option<usize>,
}

/// A word, and the token that shows that it is whole.
struct Word {
    beam: Beam,
    next: (u32, f32),
    /// Log-probability of its being whole.
    whole: f32,
    /// Log-probability of the word and of its being whole.
    total: f32,
    /// What is known of the word, see [`Odds`], as a logarithm.
    odds: f32,
}

impl Word {
    /// By which words are chosen.
    fn rank(&self) -> f32 {
        self.total + self.odds
    }
}

impl Generator {
    /// Finds the `wanted` likeliest words after `tokens`, of which those from `kept` on may be chosen anew so that they agree with
    /// what was typed. `logits` are those after the kept ones. At most as many beginnings as the request says are followed at once.
    /// `None` when cancelled.
    pub(super) fn words(
        &mut self,
        tokens: &[u32],
        kept: usize,
        logits: Vec<f32>,
        (wanted, request): (usize, &GenerateRequest<'_>),
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Branch>>, EngineError> {
        let typed = heal::bytes_of(&tokens[kept..], self.model.tokens().vocabulary());
        let beams = request.beams.clamp(1, BESIDE);
        let width = self.model.info().vocabulary;
        let start = Beam {
            tokens: Vec::new(),
            added: Vec::new(),
            untyped: typed.len(),
            beyond: 0,
            total: 0.0,
            lane: None,
        };
        let mut open = vec![start];
        let mut rows = logits;
        let mut words: Vec<Word> = Vec::new();
        let mut context: Vec<u32> = Vec::with_capacity(tokens.len() + LONGEST);
        let room = self.model.info().context - kept;
        loop {
            let mut next: Vec<Beam> = Vec::new();
            for (beam, row) in open.iter().zip(rows.chunks_exact_mut(width)) {
                context.clear();
                context.extend_from_slice(&tokens[..kept]);
                context.extend(beam.tokens.iter().map(|&(token, _)| token));
                self.model.blend(&context, row, &mut self.evidence);
                let is_last = beam.beyond == LONGEST || beam.tokens.len() == room;
                let most = if is_last { 0 } else { beams };
                self.extend(beam, row, &typed, (most, request.odds), &mut next, &mut words);
            }
            words.sort_by(|a, b| b.rank().total_cmp(&a.rank()));
            next.sort_by(|a, b| b.total.total_cmp(&a.total));
            next.truncate(beams);
            // A beginning only becomes less likely.
            let least = words.get(wanted - 1).map_or(f32::NEG_INFINITY, Word::rank);
            let least = next.first().map_or(least, |best| least.max(best.total - GAP));
            next.retain(|beam| beam.total > least);
            if next.is_empty() {
                break;
            }
            if on_token(&PROGRESS).is_break() {
                return Ok(None);
            }
            rows = self.run_beams(&mut next, &tokens[..kept])?;
            open = next;
        }
        words.truncate(wanted);
        let branch = |word: Word| {
            let mut chosen = word.beam.tokens;
            let mut next = word.next;
            // That the word ends counts as part of it: what few words go on with is likely, but seldom a word.
            if let Some(last) = chosen.last_mut() {
                last.1 += word.whole;
                next.1 -= word.whole;
            }
            chosen.push(next);
            Branch { depth: kept, chosen, base: 0.0, typed: typed.len() }
        };
        Ok(Some(words.into_iter().map(branch).collect()))
    }

    /// Adds what may follow a beginning: the `most` likeliest longer ones to `next`, and itself to `words` where it may be whole,
    /// or where no longer ones are looked for.
    fn extend(
        &self,
        beam: &Beam,
        row: &[f32],
        typed: &[u8],
        (most, odds): (usize, Option<Odds<'_>>),
        next: &mut Vec<Beam>,
        words: &mut Vec<Word>,
    ) {
        let vocabulary = self.model.tokens().vocabulary();
        let remaining = &typed[typed.len() - beam.untyped..];
        let is_last = most == 0;
        if is_last && !remaining.is_empty() {
            return;
        }
        let allowed = if remaining.is_empty() { None } else { Some(vocabulary.agreeing(remaining)) };
        let candidates: Vec<f32>;
        let values = match &allowed {
            None => row,
            Some(ids) => {
                candidates = ids.iter().map(|&id| row[id as usize]).collect();
                &candidates
            }
        };
        let normaliser = math::log_sum_exp(values);
        let is_visible = !beam.added.iter().all(u8::is_ascii_whitespace);
        // How likely the word is whole, and the likeliest token that shows it.
        let mut whole = 0.0;
        let mut after: Option<(u32, f32)> = None;
        let mut longer_ones = 0;
        for index in largest(values, CANDIDATES) {
            let token = allowed.as_ref().map_or(index as u32, |ids| ids[index]);
            let logprob = values[index] - normaliser;
            let bytes = vocabulary.bytes(token);
            let is_end = self.model.tokens().ends_text(token) || bytes == b"\n";
            let is_blank = bytes.first().is_some_and(u8::is_ascii_whitespace);
            if is_end || is_last || (is_visible && is_blank) {
                whole += logprob.exp();
                after.get_or_insert((token, logprob));
                continue;
            }
            // No more of one beginning can be among the likeliest of all; the others are not worth their memory.
            longer_ones += 1;
            if longer_ones > most {
                continue;
            }
            let typed = bytes.len().min(remaining.len());
            let mut longer = beam.clone();
            longer.tokens.push((token, logprob));
            longer.added.extend_from_slice(&bytes[typed..]);
            longer.untyped -= typed;
            longer.beyond += usize::from(longer.untyped == 0);
            longer.total += logprob;
            next.push(longer);
        }
        let Some(after) = after else { return };
        // Sums of rounded numbers may exceed 1.
        let whole = whole.ln().min(0.0);
        let total = beam.total + whole;
        // The same word may be made of other tokens.
        match words.iter_mut().find(|word| word.beam.added == beam.added) {
            Some(same) => {
                let sum = math::log_sum_exp(&[same.total, total]);
                if same.beam.total.total_cmp(&beam.total) == Ordering::Less {
                    *same = Word { beam: beam.clone(), next: after, whole, total, odds: same.odds };
                }
                same.total = sum;
            }
            None => {
                let odds = odds.map_or(1.0, |Odds(of)| of(&String::from_utf8_lossy(&beam.added)));
                words.push(Word { beam: beam.clone(), next: after, whole, total, odds: odds.ln() });
            }
        }
    }

    /// Runs the last token of each beginning, in the cache of the one that it makes longer or in a copy of that. All of them
    /// follow the tokens of `kept`.
    fn run_beams(&mut self, beams: &mut [Beam], kept: &[u32]) -> Result<Vec<f32>, EngineError> {
        let mut is_taken = [false; BESIDE + 1];
        let mut lanes = [None; BESIDE];
        for (beam, own) in beams.iter().zip(&mut lanes) {
            // Two may have come of the same.
            *own = beam.lane.filter(|&lane| !is_taken[lane]);
            if let Some(lane) = *own {
                is_taken[lane] = true;
            }
        }
        let mut runs = Vec::with_capacity(beams.len());
        for (beam, own) in beams.iter_mut().zip(lanes) {
            let lane = match own {
                Some(lane) => lane,
                None => {
                    let Some(free) = (1..=BESIDE).find(|&lane| !is_taken[lane]) else { break };
                    is_taken[free] = true;
                    // The first ones come of the prompt, whose cache is lane 0.
                    self.slots.copy_lane(beam.lane.unwrap_or(0), free)?;
                    free
                }
            };
            beam.lane = Some(lane);
            let known = self.slots.lane_tokens(lane).len();
            let own = beam.tokens.iter().map(|&(token, _)| token);
            let tokens = kept.iter().copied().chain(own).skip(known).collect();
            runs.push(LaneRun { lane, tokens, rows: 1 });
        }
        self.slots.forward_lanes(&runs)
    }
}
