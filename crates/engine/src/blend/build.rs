//! Makes `blend.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::GATES;
use super::ngrams::{self, LONGEST};

/// The share that a shorter context gives to the only follower of a longer one, from which on the longer one is not needed.
const NEEDLESS: f64 = 0.5;

/// Counts of lines of tokens.
#[derive(Debug, Default)]
pub struct Counts {
    /// By context, for each order.
    orders: [HashMap<Vec<u32>, BTreeMap<u32, f64>>; LONGEST],
}

impl Counts {
    /// Counts a line, which begins with the begin-of-text token, as often as `weight` says.
    pub fn add(&mut self, tokens: &[u32], weight: f64) {
        for (order, contexts) in self.orders.iter_mut().enumerate() {
            for window in tokens.windows(order + 2) {
                if let Some((&follower, context)) = window.split_last() {
                    *contexts.entry(context.to_vec()).or_default().entry(follower).or_default() += weight;
                }
            }
        }
    }

    /// Leaves out long contexts that say what shorter ones say: those that had one follower, where the next shorter context mostly had that
    /// one too.
    pub fn prune(&mut self) {
        for order in (1..LONGEST).rev() {
            let (shorter, longer) = self.orders.split_at_mut(order);
            let (Some(shorter), Some(longer)) = (shorter.last(), longer.first_mut()) else { continue };
            longer.retain(|context, followers| {
                let Some((follower, _)) = followers.first_key_value().filter(|_| followers.len() == 1) else {
                    return true;
                };
                let Some(others) = shorter.get(&context[1..]) else { return true };
                let total: f64 = others.values().sum();
                others.get(follower).is_none_or(|count| count / total < NEEDLESS)
            });
        }
    }

    /// How many contexts and how many followers of them there are.
    pub fn sizes(&self) -> (usize, usize) {
        let contexts = self.orders.iter().map(HashMap::len).sum();
        (contexts, self.orders.iter().flat_map(HashMap::values).map(BTreeMap::len).sum())
    }

    /// Writes them with these weights of copies and counts, see the module's documentation.
    ///
    /// Probabilities are those of Witten and Bell (1991), "The zero-frequency problem": a context leaves as much to shorter ones
    /// as it has different followers. One that was counted less than once is as much of a follower.
    ///
    /// # Errors
    /// Where the file can't be written, or the gates have another length than 2 for each order and match.
    pub fn write(&self, gates: &[f32], path: &Path) -> Result<(), safetensors::SafeTensorError> {
        let mut parts: Vec<(String, Dtype, usize, Vec<u8>)> = Vec::new();
        for (i, contexts) in self.orders.iter().enumerate() {
            let order = i + 1;
            let mut sorted: BTreeMap<u32, &BTreeMap<u32, f64>> = BTreeMap::new();
            for (context, followers) in contexts {
                // Of two contexts with one key, the one that was seen more often is right more often.
                let count = |of: &BTreeMap<u32, f64>| of.values().sum::<f64>();
                let slot = sorted.entry(ngrams::key(context)).or_insert(followers);
                if count(followers) > count(slot) {
                    *slot = followers;
                }
            }
            let (mut keys, mut starts) = (Vec::new(), vec![0_u32]);
            let (mut tokens, mut chances) = (Vec::new(), Vec::new());
            for (key, followers) in sorted {
                keys.push(key);
                let total: f64 = followers.values().map(|count| count + count.min(1.0)).sum();
                let mut followers: Vec<(u32, f64)> =
                    followers.iter().map(|(&token, count)| (token, count / total)).collect();
                followers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                for (token, chance) in followers {
                    tokens.push(token as u16);
                    chances.push(ngrams::code(chance));
                }
                starts.push(tokens.len() as u32);
            }
            let words = |row: &[u32]| row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
            parts.push((format!("keys.{order}"), Dtype::U32, keys.len(), words(&keys)));
            parts.push((format!("starts.{order}"), Dtype::U32, starts.len(), words(&starts)));
            let bytes = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            parts.push((format!("followers.{order}"), Dtype::U16, tokens.len(), bytes));
            parts.push((format!("chances.{order}"), Dtype::U8, chances.len(), chances));
        }
        let gates: Vec<u8> = gates.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut views = Vec::with_capacity(parts.len() + 1);
        views.push(("gates".to_owned(), TensorView::new(Dtype::F32, GATES.to_vec(), &gates)?));
        for (name, dtype, length, bytes) in &parts {
            views.push((name.clone(), TensorView::new(*dtype, vec![*length], bytes)?));
        }
        safetensors::serialize_to_file(views, None, path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ngrams::Ngrams;
    use super::*;
    use crate::weights::Bytes;

    #[test]
    fn contexts_that_say_nothing_new_are_left_out() {
        let mut counts = Counts::default();
        for line in [[1, 5, 6, 7], [2, 5, 6, 7], [3, 4, 6, 8]] {
            counts.add(&line, 1.0);
        }
        counts.prune();
        let has = |context: &[u32]| counts.orders[context.len() - 1].contains_key(context);
        // 7 follows 6 mostly, and 8 does not.
        assert!(!has(&[5, 6]) && !has(&[1, 5, 6]) && has(&[4, 6]) && has(&[6]));
        // Nothing else is known of what follows 4 6, and a single one suffices.
        assert!(!has(&[3, 4, 6]) && has(&[1]) && has(&[5]));
    }

    #[test]
    fn what_was_counted_is_read_again() {
        let mut counts = Counts::default();
        for line in [[1, 5, 6, 7], [1, 5, 6, 8], [1, 5, 6, 7]] {
            counts.add(&line, 1.0);
        }
        counts.add(&[1, 9], 0.2);
        assert_eq!(counts.sizes(), (6, 10));
        let file = tempfile::NamedTempFile::new().unwrap();
        counts.write(&vec![0.1; GATES.iter().product()], file.path()).unwrap();
        let bytes = Bytes::from_vec(std::fs::read(file.path()).unwrap());
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ngrams = Ngrams::read(&bytes, &tensors, 10).unwrap();
        let mut found = Vec::new();
        let mut check = |window: &[u32], order: usize, expected: &[(u32, f32)]| {
            assert_eq!(ngrams.look_up(window, usize::MAX, &mut found), order, "{window:?}");
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (have, want) in found.iter().zip(expected) {
                assert!(have.0 == want.0 && (have.1 / want.1 - 1.0).abs() < 0.05, "{found:?} {expected:?}");
            }
        };
        // Three lines and two followers: two, one and two parts of five; the last two belong to shorter contexts.
        check(&[6], 1, &[(7, 0.4), (8, 0.2)]);
        check(&[5, 6], 2, &[(7, 0.4), (8, 0.2), (7, 0.16), (8, 0.08)]);
        check(&[3, 5, 6], 2, &[(7, 0.4), (8, 0.2), (7, 0.16), (8, 0.08)]);
        check(&[1], 1, &[(5, 3.0 / 4.4), (9, 0.2 / 4.4)]);
        check(&[3], 0, &[]);
        check(&[], 0, &[]);
        assert!(Ngrams::read(&bytes, &tensors, 8).is_err(), "a follower outside the vocabulary");
    }
}
