//! Writing texts to their ends: alternatives in one pass, with drafts where these are worth their rows.

use std::ops::{ControlFlow, Range};

use super::drafts;
use super::lane::Lane;
use super::slots::{BESIDE, LaneRun};
use super::{Branch, Finish, GenerateRequest, Generation, Generator, Sampler, Sampling, Step};
use crate::backend::Best;
use crate::error::EngineError;
use crate::kernels::math;

/// What a pass gave for the rows that were wanted.
enum Rows {
    Logits(Vec<f32>),
    Best(Vec<Option<Best>>),
}

impl Generator {
    /// Continues branches, and keeps those with different texts, best first. As many as are wanted are written at once;
    /// where some of them turn out alike, others take their place.
    pub(super) fn branches(
        &mut self,
        path: &[u32],
        branches: Vec<Branch>,
        request: &GenerateRequest<'_>,
        sampler: &mut Sampler,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, EngineError> {
        let wanted = request.alternatives.max(1);
        let mut generations: Vec<Generation> = Vec::new();
        let mut branches = branches.into_iter();
        loop {
            let is_first = generations.is_empty();
            // The first goes on in the cache of the prompt; the others have caches beside it.
            let room = BESIDE + usize::from(is_first);
            let batch: Vec<Branch> = branches.by_ref().take(room.min(wanted - generations.len())).collect();
            if batch.is_empty() {
                break;
            }
            let mut is_cancelled = false;
            for generation in self.write(path, &batch, generations.len(), request, sampler, on_token)? {
                is_cancelled |= generation.finish == Finish::Cancelled;
                let is_new = generations.iter().all(|other| other.text != generation.text);
                if generations.is_empty() || (is_new && !generation.text.is_empty()) {
                    generations.push(generation);
                }
            }
            if is_cancelled {
                break;
            }
        }
        generations.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        Ok(generations)
    }

    /// Writes several branches to their ends, a token of each in one pass.
    fn write(
        &mut self,
        path: &[u32],
        branches: &[Branch],
        before: usize,
        request: &GenerateRequest<'_>,
        sampler: &mut Sampler,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, EngineError> {
        let context = self.model.info().context;
        let text = |branch: &Branch| {
            let chosen = branch.chosen.iter().map(|&(token, _)| token);
            path[..branch.depth].iter().copied().chain(chosen).collect()
        };
        let texts: Vec<Vec<u32>> = branches.iter().map(text).collect();
        let opened = self.slots.open_lanes(&texts, before == 0)?;
        let lane = |(i, (opened, branch)): (usize, ((usize, usize), &Branch))| {
            Lane::new(opened, branch, before + i, path, request)
        };
        let mut lanes: Vec<Lane<'_>> = opened.into_iter().zip(branches).enumerate().map(lane).collect();
        loop {
            let mut is_cancelled = lanes.iter().any(|lane| lane.generation.finish == Finish::Cancelled);
            for lane in lanes.iter_mut().filter(|lane| !lane.is_done) {
                if is_cancelled {
                    break;
                }
                lane.accept(&self.model, request, &mut |step| {
                    let flow = on_token(step);
                    is_cancelled |= flow.is_break();
                    flow
                });
                if self.slots.lane_tokens(lane.lane).len() + lane.behind.len() > context {
                    lane.is_done = true;
                }
            }
            if is_cancelled {
                for lane in lanes.iter_mut().filter(|lane| !lane.is_done) {
                    lane.is_done = true;
                    lane.generation.finish = Finish::Cancelled;
                }
            }
            let mut open: Vec<&mut Lane<'_>> = lanes.iter_mut().filter(|lane| !lane.is_done).collect();
            self.draft(&mut open, request);
            let runs: Vec<LaneRun> = open.iter_mut().map(|lane| lane.run()).collect();
            if runs.is_empty() {
                break;
            }
            let mut rows = if request.sampling == Sampling::Greedy && self.model.chooses() {
                Rows::Best(self.slots.forward_lanes_best(&runs)?)
            } else {
                Rows::Logits(self.slots.forward_lanes(&runs)?)
            };
            let mut first = 0;
            for (lane, run) in open.into_iter().zip(&runs) {
                self.choose(lane, (&mut rows, first..first + run.rows), request, sampler, on_token);
                first += run.rows;
            }
        }
        Ok(lanes.into_iter().map(|lane| lane.finish(on_token)).collect())
    }

    /// Drafts what texts go on with, as far as they may go on.
    fn draft(&mut self, open: &mut [&mut Lane<'_>], request: &GenerateRequest<'_>) {
        // What is drawn by chance depends on the order in which it is drawn.
        if open.len() > 1 && request.sampling != Sampling::Greedy {
            return;
        }
        let rows: usize = open.iter().map(|lane| lane.behind.len()).sum();
        let Some(least) = self.drafter.least(open.len(), rows) else { return };
        // More rows than this are multiplied otherwise, which changes last bits.
        let most = (drafts::MOST + 1).saturating_sub(rows);
        let tokens = self.model.tokens();
        let ends = |token: u32| {
            tokens.ends_text(token)
                || (request.stop_at_newline && tokens.vocabulary().bytes(token).contains(&b'\n'))
        };
        for lane in open.iter_mut() {
            let known = self.slots.lane_tokens(lane.lane);
            let room = self.model.info().context - known.len() - lane.behind.len();
            // The last token that is wanted need not be run.
            let wanted = request.max_tokens.saturating_sub(lane.generation.tokens.len() + 1);
            let most = most.min(room).min(wanted);
            lane.draft = self.drafter.guess(&self.model, (known, &lane.behind), (most, least), ends);
        }
        self.drafter.share(open.iter_mut().map(|lane| &mut lane.draft).collect(), rows);
        self.drafted += open.iter().map(|lane| lane.draft.tokens().len()).sum::<usize>();
    }

    /// Chooses the next token of a text from the row of logits after its last one; and where that is the one that was drafted,
    /// the token after it from the next row, and so on. What was run in vain is forgotten.
    fn choose(
        &mut self,
        lane: &mut Lane<'_>,
        (rows, range): (&mut Rows, Range<usize>),
        request: &GenerateRequest<'_>,
        sampler: &mut Sampler,
        on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
    ) {
        let draft = std::mem::take(&mut lane.draft);
        let mut known = self.slots.lane_tokens(lane.lane).len() - draft.tokens().len();
        let mut drafted = draft.tokens();
        for (place, row) in range.enumerate() {
            let chosen = match rows {
                Rows::Best(best) => best[row].map(|best| (best.token, best.logit - best.log_sum_exp)),
                Rows::Logits(logits) => {
                    let width = self.model.info().vocabulary;
                    let row = &mut logits[row * width..][..width];
                    let context = &self.slots.lane_tokens(lane.lane)[..known];
                    self.model.blend(context, row, &mut self.evidence);
                    sampler.choose(row).map(|next| (next as u32, row[next] - math::log_sum_exp(row)))
                }
            };
            let Some((next, logprob)) = chosen else {
                lane.is_done = true;
                break;
            };
            lane.chosen.push((next, logprob));
            self.drafter.judge(&draft, place, next);
            if drafted.next() != Some(next) {
                break;
            }
            self.accepted += 1;
            known += 1;
            lane.accept(&self.model, request, on_token);
            // It is in the cache already.
            lane.behind.clear();
            if lane.is_done {
                break;
            }
        }
        self.slots.truncate_lane(lane.lane, known);
    }
}
