//! Choosing a token from logits.

use crate::kernels::math;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sampling {
    /// Always the most probable token.
    #[default]
    Greedy,
    /// By chance, among the most probable tokens that together reach `top_p`.
    TopP {
        /// Divides the logits; 0 is greedy.
        temperature: f32,
        /// Probability mass to choose from, up to 1.
        top_p: f32,
        /// The same seed gives the same text.
        seed: u64,
    },
}

/// A source of choices for one text.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    /// How likely each value is, not divided by their sum; kept for its memory.
    weights: Vec<f32>,
}

impl Sampler {
    /// One that has made no choice yet.
    pub fn new(sampling: Sampling) -> Self {
        let state = match sampling {
            Sampling::Greedy => 0,
            Sampling::TopP { seed, .. } => seed,
        };
        Self { sampling, state, weights: Vec::new() }
    }

    /// The index of the chosen value among `logits`; `None` when there are none.
    pub fn choose(&mut self, logits: &[f32]) -> Option<usize> {
        match self.sampling {
            Sampling::TopP { temperature, top_p, .. } if temperature > 0.0 => {
                self.nucleus(logits, temperature, top_p)
            }
            _ => math::argmax(logits),
        }
    }

    fn nucleus(&mut self, logits: &[f32], temperature: f32, top_p: f32) -> Option<usize> {
        let best = math::argmax(logits)?;
        self.weights.resize(logits.len(), 0.0);
        let total = math::weigh(logits, logits[best], 1.0 / temperature, &mut self.weights);
        if top_p >= 1.0 {
            let left = self.uniform() * total;
            return Some(drawn(&self.weights, left).unwrap_or(best));
        }
        let weights = self.weights.iter().copied().enumerate();
        let mut weights: Vec<(usize, f32)> = weights.filter(|&(_, weight)| weight > 0.0).collect();
        let (kept, mass) = most_probable(&mut weights, top_p * total);
        let mut left = self.uniform() * mass;
        let drawn = weights[..kept].iter().find(|&&(_, weight)| {
            left -= weight;
            left < 0.0
        });
        Some(drawn.or(weights.first()).map_or(best, |&(i, _)| i))
    }

    /// A number in [0, 1), by Steele, Lea and Flood's SplitMix64.
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// The first place up to which the weights sum to more than `left`; `None` where they never do.
fn drawn(weights: &[f32], mut left: f32) -> Option<usize> {
    const AT_A_TIME: usize = 64;
    for (block, weights) in weights.chunks(AT_A_TIME).enumerate() {
        let sum: f32 = math::sum(weights);
        if left >= sum {
            left -= sum;
            continue;
        }
        for (i, weight) in weights.iter().enumerate() {
            if left < *weight {
                return Some(block * AT_A_TIME + i);
            }
            left -= weight;
        }
    }
    None
}

/// Moves the largest weights that together reach `wanted`, and no more of them, to the front, and at least one; returns how
/// many and their sum. Most of a distribution lies on few tokens, so few are sorted.
fn most_probable(weights: &mut [(usize, f32)], wanted: f32) -> (usize, f32) {
    const AT_A_TIME: usize = 64;
    let descending = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1);
    let (mut sorted, mut mass) = (0, 0.0);
    while sorted < weights.len() {
        let rest = &mut weights[sorted..];
        let count = AT_A_TIME.min(rest.len());
        if count < rest.len() {
            rest.select_nth_unstable_by(count, descending);
        }
        rest[..count].sort_unstable_by(descending);
        for (i, &(_, weight)) in rest[..count].iter().enumerate() {
            mass += weight;
            if mass >= wanted {
                return (sorted + i + 1, mass);
            }
        }
        sorted += count;
    }
    (weights.len(), mass)
}

/// The natural logarithm of the sum of exponentials: what is taken from a logit to make it a log-probability.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    math::log_sum_exp(logits)
}

/// The indices of the `count` largest values, best first; the smaller index first among equals.
pub fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(count + 1);
    if count == 0 {
        return best;
    }
    // Blocks first: most of them hold nothing that belongs here, which is found out in vectors.
    const AT_A_TIME: usize = 64;
    for (block, block_values) in values.chunks(AT_A_TIME).enumerate() {
        let least = if best.len() == count { values[best[count - 1]] } else { f32::NEG_INFINITY };
        if best.len() == count && math::largest(block_values) <= least {
            continue;
        }
        for (i, &value) in block_values.iter().enumerate() {
            if best.len() == count && best.last().is_none_or(|&last| value <= values[last]) {
                continue;
            }
            let at = best.partition_point(|&b| values[b] >= value);
            best.insert(at, block * AT_A_TIME + i);
            best.truncate(count);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let values = [0.0, 3.0, -1.0, 3.0, 2.0];
        assert_eq!(largest(&values, 3), [1, 3, 4]);
        assert_eq!(largest(&values, 9), [1, 3, 4, 0, 2]);
        assert!(largest(&[], 2).is_empty() && largest(&values, 0).is_empty());
    }

    #[test]
    fn as_many_as_reach_the_mass_are_kept() {
        let mut weights: Vec<(usize, f32)> = (0..300).map(|i| (i, (i * 7919 % 300) as f32)).collect();
        let total: f32 = weights.iter().map(|&(_, weight)| weight).sum();
        let (kept, mass) = most_probable(&mut weights, 0.5 * total);
        assert!(mass >= 0.5 * total && mass - weights[kept - 1].1 < 0.5 * total);
        assert!(weights[..kept].windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(weights[kept..].iter().all(|&(_, weight)| weight <= weights[kept - 1].1));
        assert_eq!(most_probable(&mut weights, 0.0).0, 1, "at least the best");
    }

    #[test]
    fn every_place_is_drawn_as_often_as_it_weighs() {
        let weights: Vec<f32> = (0..200).map(|i| f32::from(i % 3 == 0) * f32::from(i as u8)).collect();
        let total: f32 = weights.iter().sum();
        let mut counts = vec![0.0; weights.len()];
        for i in 0..100_000 {
            let left = total * (i as f32 / 100_000.0);
            counts[drawn(&weights, left).unwrap()] += total / 100_000.0;
        }
        for (i, (count, weight)) in counts.iter().zip(&weights).enumerate() {
            assert!((count - weight).abs() < 0.2, "{i}: {count}, {weight}");
        }
        assert_eq!((drawn(&weights, total), drawn(&[], 0.0), drawn(&[0.0, 1.0], 0.0)), (None, None, Some(1)));
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.0, 3.0_f32.ln(), f32::NEG_INFINITY];
        let draws = |seed, top_p| {
            let mut sampler = Sampler::new(Sampling::TopP { temperature: 1.0, top_p, seed });
            (0..4000).map(|_| sampler.choose(&logits).unwrap()).collect::<Vec<_>>()
        };
        let share = draws(1, 1.0).iter().filter(|&&token| token == 1).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        assert_eq!(draws(1, 1.0), draws(1, 1.0));
        assert_ne!(draws(1, 1.0), draws(2, 1.0));
        assert!(draws(1, 0.5).iter().all(|&token| token == 1));
        assert!(draws(1, 0.0).iter().all(|&token| token == 1));
        let cold = Sampling::TopP { temperature: f32::MIN_POSITIVE / 8.0, top_p: 0.9, seed: 1 };
        assert_eq!(Sampler::new(cold).choose(&logits), Some(1));
    }
}
