//! How often tokens followed others in the training lines: a table of back-off probabilities, used where it lies.

use std::ops::Range;

use safetensors::{Dtype, SafeTensors};

use crate::weights::Bytes;

/// Tokens of the longest contexts.
pub(crate) const LONGEST: usize = 3;
/// Shares below this are not looked at: hundreds of tokens followed a blank, and each costs time.
const LEAST: f32 = 1e-6;

/// How many times the place of a key in its table is guessed better: each time about the root of the distance is left.
const GUESSES: usize = 2;
/// The places before and behind that are looked at then, with much to spare.
const AROUND: usize = 24;

/// A context as a number; two contexts share one in four milliards of cases.
pub(crate) fn key(context: &[u32]) -> u32 {
    let hash = context.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &token| {
        let mixed = (hash ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    });
    (hash >> 32) as u32
}

/// The code of a probability.
#[cfg(feature = "train")]
pub(crate) fn code(chance: f64) -> u8 {
    (-16.0 * chance.log2()).round().clamp(0.0, 255.0) as u8
}

pub(crate) struct Ngrams {
    orders: Vec<Order>,
    /// The probability of each code.
    chances: [f32; 256],
}

/// The contexts of one length.
struct Order {
    keys: Bytes,
    starts: Bytes,
    followers: Bytes,
    chances: Bytes,
}

impl Ngrams {
    /// Takes the tensors from a file; an error is a tensor's name and what is wrong with it.
    pub(super) fn read(
        bytes: &Bytes,
        tensors: &SafeTensors<'_>,
        vocabulary: usize,
    ) -> Result<Self, (String, String)> {
        let orders = (1..=LONGEST).map(|order| Order::read(bytes, tensors, order, vocabulary));
        let chances = std::array::from_fn(|code| (-(code as f32) / 16.0).exp2());
        Ok(Self { orders: orders.collect::<Result<_, _>>()?, chances })
    }

    /// Collects what followed the endings of `window`, the longest first, and returns the length of the longest that was
    /// counted.
    /// Of the followers of each only the `most` likeliest are looked at: where that is not all, what is missing to a sum of 1 is too
    /// much, and with it what shorter contexts say.
    pub(super) fn look_up(&self, window: &[u32], most: usize, found: &mut Vec<(u32, f32)>) -> usize {
        found.clear();
        let mut longest = 0;
        let mut rest = 1.0;
        let counted = self.find(window);
        for length in (1..=window.len().min(LONGEST)).rev() {
            let order = &self.orders[length - 1];
            let Some(followers) = counted[length - 1].clone() else { continue };
            longest = longest.max(length);
            let mut sum = 0.0;
            let tokens = order.followers[2 * followers.start..2 * followers.end].as_chunks::<2>().0;
            for (code, token) in order.chances[followers].iter().zip(tokens).take(most) {
                let chance = self.chances[usize::from(*code)];
                if rest * chance < LEAST {
                    break;
                }
                sum += chance;
                found.push((u32::from(u16::from_le_bytes(*token)), rest * chance));
            }
            rest *= (1.0 - sum).max(0.0);
        }
        longest
    }

    /// Where the followers of the endings of `window` lie, the shortest ending first. The tables are large and mostly in no near cache,
    /// so all of them are asked for before one answer is waited for.
    fn find(&self, window: &[u32]) -> [Option<Range<usize>>; LONGEST] {
        let lengths = 1..=window.len().min(LONGEST);
        let mut keys = [0; LONGEST];
        let mut places = [0; LONGEST];
        for (length, (key_of, place)) in lengths.clone().zip(keys.iter_mut().zip(&mut places)) {
            *key_of = key(&window[window.len() - length..]);
            *place = self.orders[length - 1].guess(*key_of);
        }
        for _ in 0..GUESSES {
            for (length, (key, place)) in lengths.clone().zip(keys.iter().zip(&mut places)) {
                *place = self.orders[length - 1].closer(*place, *key);
            }
        }
        let mut found = [const { None }; LONGEST];
        for (length, found) in lengths.zip(&mut found) {
            *found = self.orders[length - 1].find(keys[length - 1], places[length - 1]);
        }
        found
    }
}

impl Order {
    fn read(
        bytes: &Bytes,
        tensors: &SafeTensors<'_>,
        order: usize,
        vocabulary: usize,
    ) -> Result<Self, (String, String)> {
        let take = |name: &str, dtype: Dtype| {
            let name = format!("{name}.{order}");
            let bad = |reason: String| (name.clone(), reason);
            let tensor = tensors.tensor(&name).map_err(|error| bad(error.to_string()))?;
            if tensor.dtype() != dtype || tensor.shape().len() != 1 {
                return Err(bad(format!("not a row of {dtype:?}")));
            }
            // The same bytes as part of the file, which stays mapped.
            let start = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
            bytes.slice(start..start + tensor.data().len()).ok_or_else(|| bad("lies outside".to_owned()))
        };
        let table = Self {
            keys: take("keys", Dtype::U32)?,
            starts: take("starts", Dtype::U32)?,
            followers: take("followers", Dtype::U16)?,
            chances: take("chances", Dtype::U8)?,
        };
        table.check(vocabulary).map_err(|(name, reason)| (format!("{name}.{order}"), reason.to_owned()))?;
        Ok(table)
    }

    /// What looking up relies on.
    fn check(&self, vocabulary: usize) -> Result<(), (&'static str, &'static str)> {
        let (contexts, entries) = (self.keys.len() / 4, self.chances.len());
        if self.starts.len() / 4 != contexts + 1 {
            return Err(("starts", "not one more than keys"));
        }
        if self.followers.len() / 2 != entries {
            return Err(("followers", "not as many as chances"));
        }
        if !ascend(&self.starts, |a, b| a <= b) || word(&self.starts, contexts) as usize != entries {
            return Err(("starts", "do not ascend to the number of followers"));
        }
        if !ascend(&self.keys, |a, b| a < b) {
            return Err(("keys", "do not ascend"));
        }
        let followers = self.followers.as_chunks::<2>().0.iter().map(|raw| u16::from_le_bytes(*raw));
        let largest = followers.fold(0, |largest: u16, follower| largest.max(follower));
        if entries > 0 && usize::from(largest) >= vocabulary {
            return Err(("followers", "outside the vocabulary"));
        }
        Ok(())
    }

    fn contexts(&self) -> usize {
        self.keys.len() / 4
    }

    /// So many places have keys that are so far apart, where they are spread perfectly.
    fn places(&self, apart: i64) -> i64 {
        ((i128::from(apart) * self.contexts() as i128) >> 32) as i64
    }

    /// Where a key would be if they were spread perfectly. They are numbers without a pattern, so it is near.
    fn guess(&self, key: u32) -> usize {
        self.places(i64::from(key)) as usize
    }

    /// A better place than this one.
    fn closer(&self, place: usize, key: u32) -> usize {
        let Some(last) = self.contexts().checked_sub(1) else { return 0 };
        let apart = i64::from(key) - i64::from(word(&self.keys, place));
        (place as i64 + self.places(apart)).clamp(0, last as i64) as usize
    }

    /// Where the followers of a context lie, whose key is most likely near to a place.
    fn find(&self, key: u32, place: usize) -> Option<Range<usize>> {
        let contexts = self.contexts();
        let (low, high) = (place.saturating_sub(AROUND), (place + AROUND).min(contexts));
        let is_between = (low == 0 || word(&self.keys, low - 1) < key)
            && (high == contexts || word(&self.keys, high) >= key);
        let at = if is_between {
            // Counting them all takes no branches that could be foreseen wrongly.
            let near = self.keys[4 * low..4 * high].as_chunks::<4>().0;
            low + near.iter().filter(|&&bytes| u32::from_le_bytes(bytes) < key).count()
        } else {
            self.lower_bound(key)
        };
        let is_there = at < contexts && word(&self.keys, at) == key;
        is_there.then(|| word(&self.starts, at) as usize..word(&self.starts, at + 1) as usize)
    }

    /// The first place whose key is not below this one.
    fn lower_bound(&self, key: u32) -> usize {
        let (mut low, mut high) = (0, self.contexts());
        while low < high {
            let middle = usize::midpoint(low, high);
            if word(&self.keys, middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Whether each number of a row of u32 and the next one are in order. All of them are looked at, without a way out between, so that
/// a start of the program need not wait for millions of branches.
fn ascend(row: &[u8], in_order: impl Fn(u32, u32) -> bool) -> bool {
    let (words, _) = row.as_chunks::<4>();
    let pairs = words.iter().zip(words.iter().skip(1));
    pairs.fold(true, |all, (a, b)| all & in_order(u32::from_le_bytes(*a), u32::from_le_bytes(*b)))
}

/// One number of a row of u32.
fn word(row: &[u8], at: usize) -> u32 {
    let [a, b, c, d] = [row[4 * at], row[4 * at + 1], row[4 * at + 2], row[4 * at + 3]];
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_however_the_keys_are_spread() {
        let even: Vec<u32> = (0..5000).map(|i| key(&[i])).collect();
        let crowded: Vec<u32> = (0..3000).map(|i| 4_000_000_000 + 3 * i).chain([7, 90, u32::MAX]).collect();
        for mut keys in [even, crowded, vec![5], vec![0, u32::MAX], Vec::new()] {
            keys.sort_unstable();
            keys.dedup();
            let bytes =
                |words: &[u32]| Bytes::from_vec(words.iter().flat_map(|word| word.to_le_bytes()).collect());
            let starts: Vec<u32> = (0..=keys.len() as u32).collect();
            let order = Order {
                keys: bytes(&keys),
                starts: bytes(&starts),
                followers: bytes(&[]),
                chances: bytes(&[]),
            };
            let wanted = keys.iter().flat_map(|&key| [key.saturating_sub(1), key, key.saturating_add(1)]);
            for wanted in wanted.chain([0, 1, 1 << 31, u32::MAX]) {
                let place = keys.binary_search(&wanted).ok();
                let near = (0..GUESSES).fold(order.guess(wanted), |at, _| order.closer(at, wanted));
                assert_eq!(order.find(wanted, near), place.map(|at| at..at + 1), "{wanted}");
            }
        }
    }
}
