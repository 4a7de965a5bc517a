//! The variables of a decoder that is being trained, with the names that a checkpoint has for them.

use candle_core::Var;

use super::{Decoder, Mixer, numbered};
use crate::backend::differentiable::{Differentiable, TrainLinear, TrainNorm};
use crate::config::Activation;

/// How a variable is best changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A matrix between hidden states.
    Matrix,
    /// The embedding table or the output matrix: rows that belong to tokens.
    Tokens,
    /// Norm weights and biases.
    Vector,
}

/// One variable.
pub struct Parameter {
    /// The tensors of a checkpoint that stand below one another in it, with their rows.
    pub tensors: Vec<(String, usize)>,
    /// The numbers, in f32.
    pub var: Var,
    /// What it is.
    pub role: Role,
    /// What the checkpoint's numbers are smaller by.
    pub offset: f32,
}

impl Decoder<Differentiable> {
    /// All variables of a decoder that [`crate::train::Trainable`] takes: with an output matrix of its own and no norms
    /// but those before attention and feed-forward, both of which are in every layer.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let names = self.config.names;
        let mut all = Vec::new();
        let mut tokens = |name: &str, var: &Var| {
            let tensors = vec![(format!("{name}.weight"), self.config.vocabulary)];
            all.push(Parameter { tensors, var: var.clone(), role: Role::Tokens, offset: 0.0 });
        };
        tokens(names.embedding, &self.embedding);
        tokens(names.output, &self.output.weight);
        self.norm(&mut all, names.output_norm, 0, &self.output_norm);
        let (queries, keys) = (self.config.attention.query_width(), self.config.attention.kv_width());
        let (hidden, feed_forward) = (self.config.hidden, self.config.feed_forward);
        let up: &[_] = match self.config.family.activation {
            Activation::ReluSquared => &[(names.up, feed_forward)],
            Activation::SiluGate | Activation::GeluGate => {
                &[(names.gate, feed_forward), (names.up, feed_forward)]
            }
        };
        // Norms first, then matrices, layer by layer.
        for (layer, parts) in self.parts.chunks(2).enumerate() {
            for part in parts {
                let name = match part.mixer {
                    Mixer::FeedForward { .. } => names.feed_forward_norm,
                    _ => names.attention_norm,
                };
                self.norm(&mut all, name, layer, &part.norm);
            }
            for part in parts {
                match &part.mixer {
                    Mixer::Attention { qkv, output, .. } => {
                        let parts = [(names.query, queries), (names.key, keys), (names.value, keys)];
                        linear(&mut all, layer, &parts, qkv);
                        linear(&mut all, layer, &[(names.attention_output, hidden)], output);
                    }
                    Mixer::FeedForward { up: matrix, down } => {
                        linear(&mut all, layer, up, matrix);
                        linear(&mut all, layer, &[(names.down, hidden)], down);
                    }
                    Mixer::StateSpace { .. } => {}
                }
            }
        }
        all
    }

    fn norm(&self, all: &mut Vec<Parameter>, name: &str, layer: usize, norm: &TrainNorm) {
        let name = numbered(name, layer);
        let mut vector = |suffix: &str, var: &Var, offset| {
            let tensors = vec![(format!("{name}.{suffix}"), self.config.hidden)];
            all.push(Parameter { tensors, var: var.clone(), role: Role::Vector, offset });
        };
        vector("weight", &norm.weight, self.config.norm_offset);
        if let Some(bias) = &norm.bias {
            vector("bias", bias, 0.0);
        }
    }
}

fn linear(all: &mut Vec<Parameter>, layer: usize, parts: &[(&str, usize)], linear: &TrainLinear) {
    let tensors = |suffix| {
        parts.iter().map(|&(name, rows)| (format!("{}.{suffix}", numbered(name, layer)), rows)).collect()
    };
    let parameter =
        |suffix, var: &Var, role| Parameter { tensors: tensors(suffix), var: var.clone(), role, offset: 0.0 };
    all.push(parameter("weight", &linear.weight, Role::Matrix));
    if let Some(bias) = &linear.bias {
        all.push(parameter("bias", bias, Role::Vector));
    }
}
