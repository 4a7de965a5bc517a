//! Choosing a token from logits, and telling how likely tokens are.
//!
//! [`Sampler`] draws as the engine does, so that a seed writes the same text whether or not its logits are looked at.

use std::collections::HashMap;

/// How tokens are chosen for one text.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    state: u64,
}

impl Sampler {
    /// A temperature of 0 takes the likeliest token; else one is drawn among the likeliest that together reach `top_p`.
    /// The same seed draws the same.
    pub fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, state: seed }
    }

    /// The chosen token; `None` where there are no logits.
    pub fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        if self.temperature <= 0.0 {
            return likeliest(logits, 1).first().copied();
        }
        let best = logits.iter().copied().reduce(f32::max)?;
        // Weights below e^-20 of the best cannot be drawn in practice, and leaving them out keeps the sort short.
        let scaled = (0..).zip(logits).map(|(token, &logit)| (token, (logit - best) / self.temperature));
        let mut weights: Vec<(u32, f32)> =
            scaled.filter(|&(_, x)| x > -20.0).map(|(token, x)| (token, x.exp())).collect();
        weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        let wanted = self.top_p * weights.iter().map(|&(_, weight)| weight).sum::<f32>();
        let mut mass = 0.0;
        let kept = weights.iter().take_while(|&&(_, weight)| {
            let short = mass < wanted;
            mass += weight;
            short
        });
        let kept = kept.count().clamp(1, weights.len().max(1));
        let mass: f32 = weights.iter().take(kept).map(|&(_, weight)| weight).sum();
        let mut left = self.uniform() * mass;
        let drawn = weights.iter().take(kept).find(|&&(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.or(weights.first()).map(|&(token, _)| token)
    }

    /// A number in [0, 1), by SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    /// 2014).
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// What SplitMix64 adds to its state for each number.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a request does to the logits before a token is chosen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adjustments {
    /// Taken once from every token that the text has.
    pub presence_penalty: f32,
    /// Taken from a token for each time that the text has it.
    pub frequency_penalty: f32,
    /// Added to single tokens.
    pub bias: Vec<(u32, f32)>,
}

impl Adjustments {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.presence_penalty == 0.0 && self.frequency_penalty == 0.0 && self.bias.is_empty()
    }

    /// Changes logits, after `written` has been written.
    pub fn apply(&self, logits: &mut [f32], written: &[u32]) {
        let mut counts: HashMap<u32, f32> = HashMap::new();
        for &token in written {
            *counts.entry(token).or_default() += 1.0;
        }
        let penalties = counts
            .iter()
            .map(|(&token, count)| (token, -self.presence_penalty - count * self.frequency_penalty));
        for (token, change) in penalties.chain(self.bias.iter().copied()) {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += change;
            }
        }
    }
}

/// The log of the sum of the exponentials: what is taken from a logit to make it a log-probability.
pub fn normaliser(logits: &[f32]) -> f32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - best).exp()).sum();
    (f64::from(best) + sum.ln()) as f32
}

/// The `count` likeliest tokens, best first; the smaller id first among equals.
pub fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let by_logit = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count, by_logit);
        tokens.truncate(count);
    }
    tokens.sort_by(by_logit);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        let logits = [0.0, 3.0, -1.0, 3.0, 2.0];
        assert_eq!(likeliest(&logits, 3), [1, 3, 4]);
        assert_eq!(likeliest(&logits, 9), [1, 3, 4, 0, 2]);
        assert!(likeliest(&[], 2).is_empty());
        assert_eq!(Sampler::new(0.0, 1.0, 7).choose(&logits), Some(1));
    }

    #[test]
    fn probabilities_add_up() {
        let logits = [1000.0, 999.0, -1000.0];
        let normaliser = normaliser(&logits);
        let sum: f32 = logits.iter().map(|logit| (logit - normaliser).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.0, 3.0_f32.ln(), f32::NEG_INFINITY];
        let draws = |seed, top_p| {
            let mut sampler = Sampler::new(1.0, top_p, seed);
            (0..4000).map(|_| sampler.choose(&logits).unwrap()).collect::<Vec<_>>()
        };
        let share = draws(1, 1.0).iter().filter(|&&token| token == 1).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        assert_eq!(draws(1, 1.0), draws(1, 1.0));
        assert_ne!(draws(1, 1.0), draws(2, 1.0));
        assert!(draws(1, 0.5).iter().all(|&token| token == 1));
        assert!(draws(1, 0.0).iter().all(|&token| token == 1), "at least the best");
    }

    #[test]
    fn penalties_count_and_biases_add() {
        let adjustments =
            Adjustments { presence_penalty: 1.0, frequency_penalty: 0.5, bias: vec![(2, -100.0), (9, 1.0)] };
        let mut logits = [0.0; 4];
        adjustments.apply(&mut logits, &[1, 1, 3]);
        assert_eq!(logits, [0.0, -2.0, -100.0, -1.5]);
        assert!(Adjustments::default().is_none() && !adjustments.is_none());
    }
}
