//! How often tokens followed others in the training lines: a table of back-off probabilities, used where it lies.

use safetensors::{Dtype, SafeTensors};

use crate::weights::Bytes;

/// Tokens of the longest contexts.
pub(crate) const LONGEST: usize = 3;
/// Shares below this are not looked at: hundreds of tokens followed a blank, and each costs time.
const LEAST: f32 = 1e-6;

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
        for length in (1..=window.len().min(LONGEST)).rev() {
            let order = &self.orders[length - 1];
            let Some(followers) = order.find(key(&window[window.len() - length..])) else { continue };
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

    /// Where the followers of a context lie.
    fn find(&self, key: u32) -> Option<std::ops::Range<usize>> {
        let (mut low, mut high) = (0, self.keys.len() / 4);
        while low < high {
            let middle = usize::midpoint(low, high);
            if word(&self.keys, middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let is_there = low < self.keys.len() / 4 && word(&self.keys, low) == key;
        is_there.then(|| word(&self.starts, low) as usize..word(&self.starts, low + 1) as usize)
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
