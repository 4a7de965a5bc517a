//! A small network's next token, weighed with what was counted and with what stands in the context.
//!
//! A network of a few million weights neither keeps every command that it has seen nor copies well. Two simple sources
//! do: n-gram counts of the training lines ([`ngrams`]), and what followed where the end of the context stood before
//! ([`copies`]). The next token's probability is a sum of the three, with weights by how long a context each source
//! knows; they were fitted when the model was made. A model has all this where `blend.safetensors` lies beside its weights;
//! where it does not, logits stay as they are.
//!
//! The file holds `gates`, f32 `[2, orders + 1, matches + 1, 2]`: the weights of copies and of counts, by whether a comment
//! stands before the line, the length of the longest context that was counted, and that of the longest that stood before;
//! and for each order `n` from 1 on
//!
//! - `keys.n`, u32 `[contexts]`, ascending: [`ngrams::key`] of the contexts, each `n` tokens,
//! - `starts.n`, u32 `[contexts + 1]`: where the followers of each context begin,
//! - `followers.n`, u16, and `chances.n`, u8: the tokens that followed, likeliest first, and `-16 log2 p`. What is missing to a
//!   sum of 1 belongs to shorter contexts, and in the end to the network.
//!
//! A line's first token has the begin-of-text token as its context.

#[cfg(feature = "train")]
pub(crate) mod build;
mod copies;
pub(crate) mod ngrams;

use safetensors::{Dtype, SafeTensors};

use crate::error::LoadError;
use crate::kernels::math;
use crate::tokenizer::Tokens;
use crate::weights::Bytes;
use copies::Source;
use ngrams::{LONGEST, Ngrams};

/// The file's name beside the weights.
pub(crate) const FILE: &str = "blend.safetensors";
/// Contexts of more tokens than this are not told apart.
pub(crate) const MATCHES: usize = copies::LONGEST;
/// The gates' shape.
pub(crate) const GATES: [usize; 4] = [2, LONGEST + 1, MATCHES + 1, 2];

/// What is said about the next token besides the network. Kept from token to token for its memory.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Whether the line before this one is a comment, which says what this one does.
    pub is_described: bool,
    /// Tokens of the longest context that was counted; 0 where there is none.
    pub order: usize,
    /// Tokens that followed, and their probabilities; a token may come several times.
    pub counted: Vec<(u32, f32)>,
    /// Tokens of the longest context that stood before; 0 where there is none.
    pub matched: usize,
    /// Tokens that followed it then, and their shares, which sum to 1; a token may come several times.
    pub copied: Vec<(u32, f32)>,
    sources: Vec<Source>,
    /// What each token has of the two together; nothing but zeros between calls.
    shares: Vec<f32>,
}

/// A guess at the next token, made without the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Guess {
    pub(crate) token: u32,
    pub(crate) rests_on: RestsOn,
}

/// What speaks for a guess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RestsOn {
    /// Counts and copies, and the probability that they alone give the token. The network only adds to it.
    Blend(f32),
    /// That it followed where so many last tokens stood before, at most [`MATCHES`], and its share of what followed there.
    Copy(usize, f32),
}

/// What most often followed where the end of the context stood before, the last of equals: a guess for models that have no
/// blend. All of the context is looked through, as a text of any kind may be in it.
pub(crate) fn guess_copy(context: &[u32], evidence: &mut Evidence) -> Option<Guess> {
    /// What is looked at where a short end is common, such as a blank.
    const FOLLOWERS: usize = 32;
    let all = Source { range: 0..context.len(), within_words: false };
    let matched = copies::find(context, &[all], |_| false, &mut evidence.copied);
    let followers = &evidence.copied[evidence.copied.len().saturating_sub(FOLLOWERS)..];
    let count = |token: u32| followers.iter().filter(|&&(other, _)| other == token).count();
    let best = followers.iter().map(|&(token, _)| token).max_by_key(|&token| count(token))?;
    let share = count(best) as f32 / followers.len() as f32;
    Some(Guess { token: best, rests_on: RestsOn::Copy(matched, share) })
}

/// The two sources and their weights.
pub(crate) struct Blend {
    ngrams: Ngrams,
    gates: Vec<f32>,
    begin: Option<u32>,
    newline: Option<u32>,
    ends: Vec<u32>,
    /// By token, whether it begins with a blank, and whether it begins a comment.
    blank: Vec<bool>,
    comment: Vec<bool>,
}

impl Blend {
    /// Reads the file for a vocabulary of so many tokens.
    pub(crate) fn read(
        bytes: &Bytes,
        file: &str,
        tokens: &Tokens,
        vocabulary: usize,
    ) -> Result<Self, LoadError> {
        let malformed = |field: &str, reason: String| LoadError::Malformed {
            file: file.to_owned(),
            field: field.to_owned(),
            reason,
        };
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| malformed("header", error.to_string()))?;
        let gates = tensors.tensor("gates").map_err(|error| malformed("gates", error.to_string()))?;
        if gates.dtype() != Dtype::F32 || gates.shape() != GATES {
            return Err(malformed("gates", format!("not f32 of the shape {GATES:?}")));
        }
        let gates: Vec<f32> =
            gates.data().as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        for pair in gates.chunks_exact(2) {
            if !(pair[0] >= 0.0 && pair[1] >= 0.0 && pair[0] + pair[1] < 1.0) {
                return Err(malformed("gates", format!("{pair:?} leave nothing for the network")));
            }
        }
        let ngrams =
            Ngrams::read(bytes, &tensors, vocabulary).map_err(|(field, reason)| malformed(&field, reason))?;
        let ids = 0..vocabulary as u32;
        let first = |id: u32| tokens.vocabulary().bytes(id).first().copied();
        Ok(Self {
            blank: ids.clone().map(|id| first(id).is_some_and(|byte| byte.is_ascii_whitespace())).collect(),
            comment: ids.clone().map(|id| first(id) == Some(b'#')).collect(),
            ngrams,
            gates,
            begin: tokens.encode_plain("").ok().and_then(|ids| ids.first().copied()),
            newline: ids.clone().find(|&id| tokens.vocabulary().bytes(id) == b"\n"),
            ends: ids.filter(|&id| tokens.ends_text(id)).collect(),
        })
    }

    /// What counts and copies say about the token after `context`.
    pub(crate) fn weigh_evidence(&self, context: &[u32], evidence: &mut Evidence) {
        self.weigh_most(context, usize::MAX, evidence);
    }

    /// The same of the `most` likeliest followers of each context that was counted.
    fn weigh_most(&self, context: &[u32], most: usize, evidence: &mut Evidence) {
        // Every line before this one is a source. This one is not: a line that repeats itself has gone astray.
        evidence.sources.clear();
        let mut start = usize::from(context.first().copied() == self.begin && self.begin.is_some());
        let is = |token: Option<&u32>, class: &[bool]| {
            token.is_some_and(|&token| class.get(token as usize).copied().unwrap_or(false))
        };
        for (at, &token) in context.iter().enumerate() {
            if Some(token) == self.newline {
                let within_words = is(context.get(start), &self.comment);
                evidence.sources.push(Source { range: start..at + 1, within_words });
                start = at + 1;
            }
        }
        evidence.is_described = evidence.sources.last().is_some_and(|source| source.within_words);
        let begins_word = |token: u32| self.ends_line(token) || is(Some(&token), &self.blank);
        evidence.matched = copies::find(context, &evidence.sources, begins_word, &mut evidence.copied);

        let mut window = [0; LONGEST];
        let mut first = LONGEST;
        let line = &context[start..];
        for &token in line.iter().rev().take(LONGEST) {
            first -= 1;
            window[first] = token;
        }
        if let Some(begin) = self.begin
            && first > 0
        {
            first -= 1;
            window[first] = begin;
        }
        evidence.order = self.ngrams.look_up(&window[first..], most, &mut evidence.counted);
    }

    /// The token that counts and copies alone hold for the likeliest after `context`.
    pub(crate) fn guess(&self, context: &[u32], evidence: &mut Evidence) -> Option<Guess> {
        /// Hundreds of tokens followed a blank. One that is less likely than so many others is hardly the likeliest of all.
        const FOLLOWERS: usize = 16;
        self.weigh_most(context, FOLLOWERS, evidence);
        let at = gate(evidence);
        let Evidence { counted, copied, shares, .. } = evidence;
        let weighed = |weight: f32, tokens: &[(u32, f32)], shares: &mut Vec<f32>, best: &mut (u32, f32)| {
            for &(token, share) in tokens {
                let slot = token as usize;
                if slot >= shares.len() {
                    shares.resize(slot + 1, 0.0);
                }
                shares[slot] += weight * share;
                if shares[slot] > best.1 {
                    *best = (token, shares[slot]);
                }
            }
        };
        let mut best = (0, 0.0);
        weighed(self.gates[at], copied, shares, &mut best);
        weighed(self.gates[at + 1], counted, shares, &mut best);
        for &(token, _) in copied.iter().chain(counted.iter()) {
            shares[token as usize] = 0.0;
        }
        (best.1 > 0.0).then_some(Guess { token: best.0, rests_on: RestsOn::Blend(best.1) })
    }

    /// Makes log-probabilities of `logits`, the network's for the token after `context`.
    pub(crate) fn apply(&self, context: &[u32], logits: &mut [f32], evidence: &mut Evidence) {
        self.weigh_evidence(context, evidence);
        let at = gate(evidence);
        let (copied, counted) = (self.gates[at], self.gates[at + 1]);
        let mass = |of: &[(u32, f32)]| of.iter().map(|&(_, share)| share).sum::<f32>();
        let others = copied * mass(&evidence.copied) + counted * mass(&evidence.counted);
        let end = self.end(logits);
        let shift = (1.0 - others).max(f32::MIN_POSITIVE).ln() - math::log_sum_exp(logits);
        for logit in logits.iter_mut() {
            *logit += shift;
        }
        let sources = [(counted, &evidence.counted), (copied, &evidence.copied)];
        for (weight, tokens) in sources {
            for &(token, share) in tokens {
                let token = if self.ends_line(token) { end.unwrap_or(token) } else { token };
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = (logit.exp() + weight * share).ln();
                }
            }
        }
    }

    /// Whether a line ends with this token. How it ends, the counts can't tell: a line of a session ends otherwise than one
    /// that stands alone.
    pub(crate) fn ends_line(&self, token: u32) -> bool {
        Some(token) == self.newline || self.ends.contains(&token)
    }

    /// The token that the network would end the line with.
    pub(crate) fn end(&self, logits: &[f32]) -> Option<u32> {
        let logit = |&token: &u32| logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let candidates = self.ends.iter().copied().chain(self.newline);
        candidates.max_by(|a, b| logit(a).total_cmp(&logit(b)))
    }
}

/// Where in the gates the pair for this evidence begins.
pub(crate) fn gate(evidence: &Evidence) -> usize {
    2 * ((usize::from(evidence.is_described) * GATES[1] + evidence.order) * GATES[2] + evidence.matched)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::model::{LoadOptions, Model, Source};

    fn embedded() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini")
    }

    fn load(network_only: bool) -> Model {
        let options = LoadOptions { network_only, ..LoadOptions::default() };
        Model::load(&Source::Directory(embedded()), &options).unwrap()
    }

    /// Probabilities after a text, and those of the network alone.
    fn chances(model: &Model, text: &str) -> (Vec<f32>, Vec<f32>) {
        let tokens = model.encode_plain(text).unwrap();
        let mut row = model.logits(&tokens).unwrap().pop().unwrap();
        let normaliser = math::log_sum_exp(&row);
        let network = row.iter().map(|logit| (logit - normaliser).exp()).collect();
        model.blend(&tokens, &mut row, &mut Evidence::default());
        (row.iter().map(|logit| logit.exp()).collect(), network)
    }

    #[test]
    fn probabilities_stay_probabilities() {
        let model = load(false);
        for text in
            ["", "git", "git commit -", "ls\ncat notes.txt\ncat", "# list files in /srv/x\nls", "\n\n", "ü"]
        {
            let (blended, _) = chances(&model, text);
            let sum: f32 = blended.iter().sum();
            assert!((sum - 1.0).abs() < 0.01, "{text:?}: {sum}");
        }
    }

    #[test]
    fn what_stands_in_the_context_becomes_likelier() {
        let model = load(false);
        let after = |text: &str, next: &str| {
            let whole = model.encode_plain(&format!("{text}{next}")).unwrap();
            let token = whole[model.encode_plain(text).unwrap().len()] as usize;
            let (blended, network) = chances(&model, text);
            (blended[token], network[token])
        };
        let (blended, network) = after("vim qxzzy-77.conf\ncat qxzzy-77", ".conf");
        assert!(blended > network.min(0.8), "{blended} {network}");
        // Words of a sentence do not follow one another in a command.
        let (blended, network) = after("# list zebras beside elephants\nls zebras", " beside");
        assert!(blended < network + 0.01, "{blended} {network}");
        // A line does not copy from itself.
        let (blended, network) = after("qxzzy -7 | qxzzy", " -7");
        assert!(blended < network + 0.01, "{blended} {network}");
    }

    #[test]
    fn without_the_file_nothing_changes() {
        let model = load(true);
        let (blended, _) = chances(&model, "git");
        let tokens = model.encode_plain("git").unwrap();
        let row = model.logits(&tokens).unwrap().pop().unwrap();
        assert!(blended.iter().zip(&row).all(|(a, b)| (a - b.exp()).abs() <= 1e-6 * a.abs()));
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let whole = std::fs::read(embedded().join(FILE)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(embedded().join(name), directory.path().join(name)).unwrap();
        }
        let refused = |bytes: &[u8]| {
            std::fs::write(directory.path().join(FILE), bytes).unwrap();
            let source = Source::Directory(directory.path().to_owned());
            Model::load(&source, &LoadOptions::default()).err().unwrap().to_string()
        };
        assert!(refused(&whole[..whole.len() / 2]).contains(FILE));
        assert!(refused(b"").contains(FILE));
        let of = |name: &str| {
            let tensors = SafeTensors::deserialize(&whole).unwrap();
            tensors.tensor(name).unwrap().data().as_ptr() as usize - whole.as_ptr() as usize
        };
        for (name, value) in
            [("gates", 2.0_f32.to_le_bytes()), ("starts.1", [255; 4]), ("followers.2", [255; 4])]
        {
            let mut bytes = whole.clone();
            bytes[of(name)..of(name) + 4].copy_from_slice(&value);
            let error = refused(&bytes);
            assert!(error.contains(name), "{error}");
        }
    }
}
