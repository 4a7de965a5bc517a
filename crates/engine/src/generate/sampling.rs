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

/// A source of choices for one request.
pub(super) struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        let state = match sampling {
            Sampling::Greedy => 0,
            Sampling::TopP { seed, .. } => seed,
        };
        Self { sampling, state }
    }

    /// The index of the chosen value among `logits`; `None` when there are none.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Option<usize> {
        match self.sampling {
            Sampling::TopP { temperature, top_p, .. } if temperature > 0.0 => {
                self.nucleus(logits, temperature, top_p)
            }
            _ => math::argmax(logits),
        }
    }

    fn nucleus(&mut self, logits: &[f32], temperature: f32, top_p: f32) -> Option<usize> {
        let best = logits[math::argmax(logits)?];
        // Weights below e^-20 of the best cannot be drawn in practice, and leaving them out keeps the sort short.
        let mut weights: Vec<(usize, f32)> = logits
            .iter()
            .enumerate()
            .map(|(i, &x)| (i, (x - best) / temperature))
            .filter(|&(_, x)| x > -20.0)
            .map(|(i, x)| (i, x.exp()))
            .collect();
        weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        let total: f32 = weights.iter().map(|&(_, w)| w).sum();
        let mut mass = 0.0;
        let kept = weights.iter().take_while(|&&(_, w)| {
            let wanted = mass < top_p * total;
            mass += w;
            wanted
        });
        // At least one: a `top_p` of 0 means the best token.
        let kept = kept.count().max(1).min(weights.len());
        let mass: f32 = weights[..kept].iter().map(|&(_, w)| w).sum();
        let mut left = self.uniform() * mass;
        let drawn = weights[..kept].iter().find(|&&(_, w)| {
            left -= w;
            left < 0.0
        });
        drawn.or(weights.first()).map(|&(i, _)| i)
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

/// The indices of the `count` largest values, best first.
pub(super) fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(count + 1);
    for (i, &value) in values.iter().enumerate() {
        if best.len() == count && best.last().is_none_or(|&last| value <= values[last]) {
            continue;
        }
        let at = best.partition_point(|&b| values[b] >= value);
        best.insert(at, i);
        best.truncate(count);
    }
    best
}
