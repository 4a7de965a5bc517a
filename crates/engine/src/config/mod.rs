//! What the decoder needs to know about a model, read from `config.json` or from GGUF metadata. Both readers end in
//! the same [`Config`].

mod gguf;
mod hf;
mod hybrid;

use crate::error::LoadError;
use crate::family::{Family, Names};
pub(crate) use hybrid::{Hybrid, Mixer, StateSpaceShape};

/// The two norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Divides by the root of the mean square.
    Rms,
    /// Subtracts the mean, divides by the deviation, adds a bias.
    Layer,
}

/// The feed-forward activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `max(up, 0)²`
    ReluSquared,
    /// `silu(gate) * up`
    SiluGate,
    /// `gelu(gate) * up`, the Gaussian error function approximated by a hyperbolic tangent.
    GeluGate,
}

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopeStyle {
    /// `i` and `i + rotary_dim / 2`, as in Hugging Face checkpoints.
    Halves,
    /// `2 i` and `2 i + 1`, as in GGUF files of the llama architecture, whose rows are permuted for it.
    Pairs,
}

/// Sizes of the attention.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// How much of each head is rotated, from its beginning; even, and 0 where the family has no rotary embedding.
    pub(crate) rotary_dim: usize,
    pub(crate) rope_style: RopeStyle,
    /// What scalar products of queries and keys are multiplied by.
    pub(crate) scale: f64,
}

impl AttentionShape {
    /// Width of all queries of a position.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys, or values, of a position.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// A key of GGUF metadata that begins with the architecture.
fn gguf_key(architecture: &str, name: &str) -> String {
    format!("{architecture}.{name}")
}

/// The usual factor of the scores, `1 / sqrt(head_dim)`.
fn usual_scale(head_dim: usize) -> f64 {
    1.0 / (head_dim as f64).sqrt()
}

/// How rotary frequencies are stretched for contexts longer than the one first trained on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    None,
    /// Every frequency is divided by the factor.
    Linear(f64),
    /// Llama 3: low frequencies are divided, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original_context: f64,
    },
    /// A divisor for each frequency, as GGUF stores the result of Llama 3's rule.
    Divisors(Vec<f32>),
}

/// A rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: RopeScaling,
}

impl Rope {
    /// What each frequency is divided by, where the scaling is not the same for all.
    pub(crate) fn divisors(&self, rotary_dim: usize) -> Option<Vec<f32>> {
        match &self.scaling {
            RopeScaling::None | RopeScaling::Linear(_) => None,
            RopeScaling::Divisors(divisors) => Some(divisors.clone()),
            RopeScaling::Llama3 { .. } => {
                let plain = Self { theta: self.theta, scaling: RopeScaling::None }.frequencies(rotary_dim);
                let scaled = self.frequencies(rotary_dim);
                Some(plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect())
            }
        }
    }

    /// The frequencies, one for each pair: `theta^(-2 i / rotary_dim)`, scaled.
    pub(crate) fn frequencies(&self, rotary_dim: usize) -> Vec<f64> {
        (0..rotary_dim / 2)
            .map(|i| {
                let frequency = self.theta.powf(-2.0 * i as f64 / rotary_dim as f64);
                match &self.scaling {
                    RopeScaling::None => frequency,
                    RopeScaling::Linear(factor) => frequency / factor,
                    RopeScaling::Divisors(divisors) => frequency / f64::from(divisors[i]),
                    &RopeScaling::Llama3 { factor, low, high, original_context } => {
                        // Turns over the original context; below `low` stretched, above `high` kept.
                        let turns = original_context * frequency / std::f64::consts::TAU;
                        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                        frequency * (kept + (1.0 - kept) / factor)
                    }
                }
            })
            .collect()
    }
}

/// Which layers are local.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LocalLayers {
    /// All but every so many-th.
    AllButEvery(usize),
    /// One flag a layer.
    Listed(Vec<bool>),
}

impl LocalLayers {
    /// The number of which every multiple is a layer that sees all, where there is one.
    fn pattern(&self) -> Option<usize> {
        match self {
            &Self::AllButEvery(pattern) => Some(pattern),
            Self::Listed(flags) => {
                let pattern = flags.iter().position(|&local| !local)? + 1;
                let fits = |(layer, &local): (usize, &bool)| local == (layer % pattern != pattern - 1);
                flags.iter().enumerate().all(fits).then_some(pattern)
            }
        }
    }
}

/// Layers that see only the last positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Local {
    pub(crate) layers: LocalLayers,
    /// Positions that are seen, the current one among them.
    pub(crate) window: usize,
    pub(crate) rope: Rope,
}

/// Linear layers that the configuration gives a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) attention_output: bool,
    pub(crate) feed_forward: bool,
}

/// Several times that of any model that is published.
const LARGEST_HEAD: usize = 1024;

/// Everything about a model that is not a weight.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) family: &'static Family,
    pub(crate) names: &'static Names,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) feed_forward: usize,
    pub(crate) vocabulary: usize,
    /// Positions the model was made for.
    pub(crate) context: usize,
    pub(crate) attention: AttentionShape,
    /// Of the layers that see every position.
    pub(crate) rope: Rope,
    pub(crate) local: Option<Local>,
    /// Where each layer is one thing rather than attention and a feed-forward part.
    pub(crate) hybrid: Option<Hybrid>,
    /// Linear layers that must have a bias; the others may have one in the file.
    pub(crate) biases: Biases,
    /// What rows of the embedding are multiplied by.
    pub(crate) embedding_scale: Option<f32>,
    pub(crate) norm_epsilon: f32,
    /// Added to every norm weight of this file.
    pub(crate) norm_offset: f32,
    /// True when the output matrix is the embedding; `None` when the file tells by leaving it out.
    pub(crate) tied: Option<bool>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Vec<u32>,
}

impl Config {
    /// Relations that the decoder relies on.
    fn check(&self, file: &str) -> Result<(), LoadError> {
        let attention = &self.attention;
        let wrong = |field: &str, reason: String| {
            Err(LoadError::Malformed { file: file.to_owned(), field: field.to_owned(), reason })
        };
        for (field, value) in [
            ("layers", self.layers),
            ("hidden size", self.hidden),
            ("feed-forward size", self.feed_forward),
            ("vocabulary size", self.vocabulary),
            ("context length", self.context),
            ("heads", attention.heads),
            ("key/value heads", attention.kv_heads),
            ("head size", attention.head_dim),
        ] {
            if value == 0 || value > 1 << 28 {
                return wrong(field, format!("{value} is out of range"));
            }
        }
        // Angles are computed for every position and every element of a head.
        if attention.head_dim > LARGEST_HEAD {
            return wrong("head size", format!("{} is more than {LARGEST_HEAD}", attention.head_dim));
        }
        if !attention.heads.is_multiple_of(attention.kv_heads) {
            return wrong(
                "heads",
                format!("{} are not a multiple of {} key/value heads", attention.heads, attention.kv_heads),
            );
        }
        if !attention.rotary_dim.is_multiple_of(2)
            || attention.rotary_dim > attention.head_dim
            || (attention.rotary_dim == 0) == self.family.rotates
        {
            return wrong(
                "rotary size",
                format!("{} does not fit heads of {}", attention.rotary_dim, attention.head_dim),
            );
        }
        if !(attention.scale.is_finite() && attention.scale > 0.0) {
            return wrong("query_pre_attn_scalar", format!("gives scores a factor of {}", attention.scale));
        }
        if let Some(local) = &self.local {
            if local.window == 0 {
                return wrong("sliding window", "is 0".into());
            }
            match &local.layers {
                LocalLayers::AllButEvery(0) => return wrong("sliding window pattern", "is 0".into()),
                LocalLayers::Listed(flags) if flags.len() != self.layers => {
                    return wrong(
                        "layer_types",
                        format!("has {} elements, not {}", flags.len(), self.layers),
                    );
                }
                _ => {}
            }
        }
        if let RopeScaling::Divisors(divisors) = &self.rope.scaling
            && divisors.len() != attention.rotary_dim / 2
        {
            return wrong("rope_freqs.weight", format!("has {} elements", divisors.len()));
        }
        self.hybrid.as_ref().map_or(Ok(()), |hybrid| hybrid.check(self.layers, file))
    }

    /// How many layers have keys and values.
    pub(crate) fn attention_layers(&self) -> usize {
        self.hybrid.as_ref().map_or(self.layers, |hybrid| hybrid.count(Mixer::Attention))
    }

    /// The window of a layer and its rotary embedding, if it has its own.
    pub(crate) fn local(&self, layer: usize) -> Option<&Local> {
        self.local.as_ref().filter(|local| match &local.layers {
            LocalLayers::AllButEvery(pattern) => layer % pattern != pattern - 1,
            LocalLayers::Listed(flags) => flags[layer],
        })
    }
}
