//! Drafts: tokens that are likely to come next, which are run with the last one in a single pass and kept as far as the model
//! chooses the same. Where the guesses are right one pass does the work of several, and the text is the same in any case.
//!
//! Known as prompt lookup decoding (Saxena 2023) where guesses are copies of the context; how many are worth running follows
//! Leviathan, Kalman and Matias (2023), "Fast inference from transformers via speculative decoding": as many as give the most
//! tokens for the time of a pass.

use crate::blend::{Evidence, Guess, MATCHES, RestsOn};
use crate::model::Model;

/// Tokens that are run before they are chosen, at most: a pass has eight rows then.
pub(super) const MOST: usize = 7;

/// What comes after guesses that are less likely than this to be all right can't be worth a row.
const LEAST_REACHED: f32 = 0.1;

/// What passes of 1 to 8 rows cost beside one of a single row.
pub(super) type Costs = [f32; MOST + 1];

/// Measured with `examples/rows.rs` on an x86-64 core with AVX2: the embedded model (f16, 192 wide), and SmolLM2-135M in Q4_1, of which
/// a single row has a kernel of its own. Where memory is what limits a pass, as with a large model on many cores, rows cost less.
const PLAIN_COSTS: Costs = [1.0, 1.45, 1.7, 2.0, 2.7, 2.75, 3.1, 3.55];
const QUANTISED_COSTS: Costs = [1.0, 1.8, 2.05, 2.2, 2.65, 2.8, 3.0, 3.2];
/// The same of the embedded model in eight bits, in the order in which it is multiplied: on an EPYC core with AVX-512 VNNI.
const KEPT_COSTS: Costs = [1.0, 1.3, 1.65, 2.1, 2.6, 3.1, 3.7, 4.1];

/// A card's, by arithmetic and not by measurement: weights are read once for all rows, and take longer to be read than eight rows to be
/// computed; what a row costs is its logits on their way back, and its attention.
const CARD_COSTS: Costs = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7];

/// What passes of a model cost; `None` where it has no drafts.
pub(super) fn costs(model: &Model) -> Option<&'static Costs> {
    let is_plain = matches!(model.info().quantisation, "F32" | "F16" | "BF16");
    model.drafts().then_some(match model.keeps_order() {
        _ if model.info().device == "cuda" => &CARD_COSTS,
        true => &KEPT_COSTS,
        false if is_plain => &PLAIN_COSTS,
        false => &QUANTISED_COSTS,
    })
}

/// Guesses on which so many others of their kind were judged count half from then on.
const MEMORY: f32 = 64.0;
/// How many judged guesses the first estimate of a kind stands for.
const PRIOR: f32 = 6.0;
/// Kinds that rest on counts and copies, by their probability; and those that rest on copies, by length and by whether all
/// followers were the same.
const BLENDS: usize = 10;
const KINDS: usize = BLENDS + 2 * MATCHES;

/// How often guesses of a kind were right.
#[derive(Debug, Clone, Copy)]
struct Record {
    right: f32,
    judged: f32,
}

/// Makes drafts, and learns how good they are.
pub(super) struct Drafter {
    /// What passes of 1 to 8 rows cost beside one of a single row; `None` where nothing is drafted.
    costs: Option<&'static Costs>,
    records: [Record; KINDS],
    evidence: Evidence,
    /// The text with the guesses so far; kept for its memory.
    text: Vec<u32>,
}

/// Guesses at the next tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    guesses: Vec<Guess>,
    /// For each of them the probability that it and all before it are right.
    reached: Vec<f32>,
    /// How many of them are run.
    run: usize,
}

impl Draft {
    /// The tokens to run.
    pub(super) fn tokens(&self) -> impl ExactSizeIterator<Item = u32> {
        self.guesses[..self.run].iter().map(|guess| guess.token)
    }
}

impl Drafter {
    /// With what passes of the model cost; `None` makes no drafts.
    pub(super) fn new(costs: Option<&'static Costs>) -> Self {
        let first = |kind: usize| Record { right: PRIOR * first_estimate(kind), judged: PRIOR };
        Self { costs, records: std::array::from_fn(first), evidence: Evidence::default(), text: Vec::new() }
    }

    /// How likely a guess has to be for a row of its own, where `texts` share a pass that has `rows` rows without it. `None` where
    /// nothing is drafted.
    pub(super) fn least(&self, texts: usize, rows: usize) -> Option<f32> {
        let [without, with] = *self.costs?.get(rows.checked_sub(1)?..)?.first_chunk()?;
        // The first row is the cheapest one by chance, so what comes after it may be worth more.
        Some(if texts == 1 { LEAST_REACHED } else { texts as f32 * (with / without - 1.0) })
    }

    /// Guesses what follows `known` and then `behind`: at most `most` tokens, and none from one on that `ends` the text. What of it is
    /// run is not said yet. Nothing is guessed after what is reached less often than `least`.
    pub(super) fn guess(
        &mut self,
        model: &Model,
        (known, behind): (&[u32], &[u32]),
        (most, least): (usize, f32),
        ends: impl Fn(u32) -> bool,
    ) -> Draft {
        let mut draft = Draft::default();
        self.text.clear();
        self.text.extend_from_slice(known);
        self.text.extend_from_slice(behind);
        let mut reached = 1.0;
        while draft.guesses.len() < most.min(MOST) && reached >= least {
            let Some(guess) = model.guess(&self.text, &mut self.evidence) else { break };
            if ends(guess.token) {
                break;
            }
            reached *= self.estimate(&guess);
            draft.guesses.push(guess);
            draft.reached.push(reached);
            self.text.push(guess.token);
        }
        draft
    }

    /// Decides how much of the drafts of some texts is run in a pass that has `rows` rows without them: what gives the most tokens for
    /// its cost.
    pub(super) fn share(&self, mut drafts: Vec<&mut Draft>, rows: usize) {
        let Some(costs) = self.costs else { return };
        let mut taken = vec![0; drafts.len()];
        let mut tokens = drafts.len() as f32;
        let mut best = costs.get(rows - 1).map_or(f32::INFINITY, |cost| tokens / cost);
        for cost in costs.iter().skip(rows) {
            // The likeliest of all that come next; of two texts the first.
            let next = |i: &usize| drafts[*i].reached.get(taken[*i]).copied().unwrap_or(0.0);
            let likeliest = (0..drafts.len()).rev().max_by(|a, b| next(a).total_cmp(&next(b)));
            let Some(i) = likeliest.filter(|i| next(i) > 0.0) else { break };
            tokens += next(&i);
            taken[i] += 1;
            if tokens / cost > best {
                best = tokens / cost;
                for (draft, taken) in drafts.iter_mut().zip(&taken) {
                    draft.run = *taken;
                }
            }
        }
    }

    /// Learns whether the guess at `place` of a draft, before which all were right, was what the model chose.
    pub(super) fn judge(&mut self, draft: &Draft, place: usize, chosen: u32) {
        let Some(guess) = draft.guesses.get(place) else { return };
        let record = &mut self.records[kind(guess)];
        record.judged += 1.0;
        record.right += f32::from(u8::from(guess.token == chosen));
        if record.judged > MEMORY {
            record.judged /= 2.0;
            record.right /= 2.0;
        }
    }

    fn estimate(&self, guess: &Guess) -> f32 {
        let Record { right, judged } = self.records[kind(guess)];
        right / judged
    }
}

/// The kind of a guess.
fn kind(guess: &Guess) -> usize {
    match guess.rests_on {
        RestsOn::Blend(share) => ((share * BLENDS as f32) as usize).min(BLENDS - 1),
        RestsOn::Copy(length, share) => {
            BLENDS + 2 * (length.clamp(1, MATCHES) - 1) + usize::from(share >= 1.0)
        }
    }
}

/// How often guesses of a kind are right, before any was judged: as on sessions of a shell.
fn first_estimate(kind: usize) -> f32 {
    match kind.checked_sub(BLENDS) {
        None => (kind as f32 + 0.5) / BLENDS as f32,
        Some(copy) => {
            let (length, is_sole) = (copy / 2 + 1, copy % 2 == 1);
            let sole = 1.0 - 0.8 / length as f32;
            if is_sole { sole } else { sole / 2.0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_what_is_likeliest_as_far_as_they_are_worth_it() {
        let drafter = Drafter::new(Some(&KEPT_COSTS));
        let run = |reached: &[&[f32]]| -> Vec<usize> {
            let guess = Guess { token: 7, rests_on: RestsOn::Blend(0.5) };
            let draft = |reached: &&[f32]| Draft {
                guesses: vec![guess; reached.len()],
                reached: reached.to_vec(),
                run: 0,
            };
            let mut drafts: Vec<Draft> = reached.iter().map(draft).collect();
            drafter.share(drafts.iter_mut().collect(), reached.len());
            drafts.iter().map(|draft| draft.tokens().len()).collect()
        };
        assert_eq!(run(&[&[0.9, 0.8, 0.1]]), [2]);
        assert_eq!(run(&[&[0.2, 0.1]]), [0]);
        assert_eq!(run(&[&[], &[]]), [0, 0]);
        // A row is cheap beside two texts, and has to be nearly certain beside three.
        assert_eq!(run(&[&[0.5], &[0.7, 0.3]]), [0, 1]);
        assert_eq!(run(&[&[0.7], &[0.7], &[0.3]]), [0, 0, 0]);
        assert_eq!(run(&[&[0.99], &[0.5], &[0.98, 0.97]]), [1, 0, 2]);
        // There are no more rows than a pass may have.
        assert_eq!(run(&[&[1.0; 7], &[1.0; 7], &[1.0; 7]]).iter().sum::<usize>(), 8 - 3);
        // What is less likely than this can't be worth the next row.
        let least = drafter.least(3, 3).unwrap();
        assert!(
            run(&[&[least - 0.01], &[], &[]]) == [0, 0, 0] && run(&[&[least + 0.01], &[], &[]]) == [1, 0, 0]
        );
        assert_eq!((drafter.least(1, 8), drafter.least(2, 0)), (None, None));
    }
}
