//! What a request changes of the model's opinion.

use std::collections::HashMap;

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
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            for &token in written {
                *counts.entry(token).or_default() += 1.0;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

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
