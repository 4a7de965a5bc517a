//! What the decoder needs to know about a model, read from `config.json` or from GGUF metadata. Both readers end in
//! the same [`Config`].

use serde::Deserialize;

use crate::error::LoadError;
use crate::family::{self, Family, Names};
use crate::weights::gguf::{Metadata, Value};

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
    /// How much of each head is rotated, from its beginning; even.
    pub(crate) rotary_dim: usize,
    pub(crate) rope_style: RopeStyle,
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
    pub(crate) rope_theta: f64,
    pub(crate) rope_scaling: RopeScaling,
    pub(crate) norm_epsilon: f32,
    /// Added to every norm weight of this file.
    pub(crate) norm_offset: f32,
    /// True when the output matrix is the embedding; `None` when the file tells by leaving it out.
    pub(crate) tied: Option<bool>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Deserialize)]
struct RopeParameters {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// The keys of `config.json` that are used; names as in the transformers library.
#[derive(Deserialize)]
struct HfConfig {
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    #[serde(alias = "rms_norm_eps", alias = "layer_norm_eps")]
    norm_eps: Option<f32>,
    rope_theta: Option<f64>,
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<RopeParameters>,
    #[serde(alias = "rope_percent", alias = "rope_percentage")]
    partial_rotary_factor: Option<f64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

impl Config {
    /// Reads `config.json`.
    pub(crate) fn from_json(json: &[u8], file: &str) -> Result<Self, LoadError> {
        let malformed = |field: &str, reason: String| LoadError::Malformed {
            file: file.to_owned(),
            field: field.to_owned(),
            reason,
        };
        let unsupported = |what: String| LoadError::Unsupported { file: file.to_owned(), what };
        let hf: HfConfig =
            serde_json::from_slice(json).map_err(|e| malformed("model configuration", e.to_string()))?;
        let architecture = hf.architectures.first().cloned().unwrap_or_default();
        let family =
            family::by_architecture(&architecture).ok_or_else(|| family::unknown(&architecture, file))?;
        if hf.attention_bias || hf.mlp_bias {
            return Err(unsupported("a bias on linear layers".into()));
        }
        if let Some(act) = &hf.hidden_act
            && act != family.hidden_act
        {
            return Err(unsupported(format!("hidden_act \"{act}\" in {architecture}")));
        }
        if hf.num_attention_heads == 0 {
            return Err(malformed("num_attention_heads", "is 0".into()));
        }
        let rope = hf.rope_scaling.as_ref();
        let head_dim = hf.head_dim.unwrap_or(hf.hidden_size / hf.num_attention_heads);
        let partial = hf
            .partial_rotary_factor
            .or(rope.and_then(|r| r.partial_rotary_factor))
            .unwrap_or(family.partial_rotary_factor);
        let config = Self {
            family,
            names: &family::HF_NAMES,
            layers: hf.num_hidden_layers,
            hidden: hf.hidden_size,
            feed_forward: hf.intermediate_size,
            vocabulary: hf.vocab_size,
            context: hf.max_position_embeddings,
            attention: AttentionShape {
                heads: hf.num_attention_heads,
                kv_heads: hf.num_key_value_heads.unwrap_or(hf.num_attention_heads),
                head_dim,
                rotary_dim: (head_dim as f64 * partial) as usize,
                rope_style: RopeStyle::Halves,
            },
            rope_theta: hf.rope_theta.or(rope.and_then(|r| r.rope_theta)).unwrap_or(10_000.0),
            rope_scaling: rope.map_or(Ok(RopeScaling::None), |r| scaling(r).map_err(unsupported))?,
            norm_epsilon: hf.norm_eps.unwrap_or(family.norm_epsilon),
            norm_offset: family.hf_norm_offset,
            tied: Some(hf.tie_word_embeddings.unwrap_or(false)),
            bos: hf.bos_token_id,
            eos: match hf.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
            architecture,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Reads GGUF metadata. `divisors` are the numbers of the tensor `rope_freqs.weight`, if there is one.
    pub(crate) fn from_gguf(metadata: &Metadata, divisors: Option<Vec<f32>>) -> Result<Self, LoadError> {
        let file = metadata.file();
        let architecture = metadata.text("general.architecture")?.to_owned();
        let family = family::by_gguf_architecture(&architecture)
            .ok_or_else(|| family::unknown(&architecture, file))?;
        let key = |name: &str| format!("{architecture}.{name}");
        let integer = |name: &str| metadata.integer(&key(name));
        let heads = integer("attention.head_count")?;
        let hidden = integer("embedding_length")?;
        if heads == 0 {
            return Err(LoadError::Malformed {
                file: file.to_owned(),
                field: key("attention.head_count"),
                reason: "is 0".into(),
            });
        }
        let optional = |name: &str| metadata.optional(&key(name), Metadata::integer);
        let rotary = optional("rope.dimension_count")?;
        let head_dim = optional("attention.key_length")?.unwrap_or(hidden / heads);
        let scaling_factor = metadata.optional(&key("rope.scaling.factor"), Metadata::float)?;
        let rope_scaling = match (divisors, metadata.get(&key("rope.scaling.type"))) {
            (Some(divisors), _) => RopeScaling::Divisors(divisors),
            (None, None) => RopeScaling::None,
            (None, Some(Value::Text(kind))) if kind == "none" => RopeScaling::None,
            (None, Some(Value::Text(kind))) if kind == "linear" => {
                RopeScaling::Linear(scaling_factor.unwrap_or(1.0))
            }
            (None, Some(kind)) => {
                let what = format!("rope scaling {kind:?}");
                return Err(LoadError::Unsupported { file: file.to_owned(), what });
            }
        };
        let vocabulary = match optional("vocab_size")? {
            Some(size) => size,
            None => metadata.texts("tokenizer.ggml.tokens")?.len(),
        };
        let token = |name: &str| -> Result<Option<u32>, LoadError> {
            let id = metadata.optional(&format!("tokenizer.ggml.{name}_token_id"), Metadata::integer)?;
            Ok(id.and_then(|id| u32::try_from(id).ok()))
        };
        let config = Self {
            family,
            names: &family::GGUF_NAMES,
            layers: integer("block_count")?,
            hidden,
            feed_forward: integer("feed_forward_length")?,
            vocabulary,
            context: integer("context_length")?,
            attention: AttentionShape {
                heads,
                kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
                head_dim,
                rotary_dim: rotary.unwrap_or(head_dim),
                rope_style: family.gguf_rope_style,
            },
            rope_theta: metadata.optional(&key("rope.freq_base"), Metadata::float)?.unwrap_or(10_000.0),
            rope_scaling,
            norm_epsilon: metadata.float(&key(family.gguf_epsilon))? as f32,
            norm_offset: 0.0,
            tied: None,
            bos: token("bos")?,
            eos: [token("eos")?, token("eot")?].into_iter().flatten().collect(),
            architecture,
        };
        config.check(file)?;
        Ok(config)
    }

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
        if !attention.heads.is_multiple_of(attention.kv_heads) {
            return wrong(
                "heads",
                format!("{} are not a multiple of {} key/value heads", attention.heads, attention.kv_heads),
            );
        }
        if !attention.rotary_dim.is_multiple_of(2)
            || attention.rotary_dim > attention.head_dim
            || attention.rotary_dim == 0
        {
            return wrong(
                "rotary size",
                format!("{} does not fit heads of {}", attention.rotary_dim, attention.head_dim),
            );
        }
        if let RopeScaling::Divisors(divisors) = &self.rope_scaling
            && divisors.len() != attention.rotary_dim / 2
        {
            return wrong("rope_freqs.weight", format!("has {} elements", divisors.len()));
        }
        Ok(())
    }

    /// Frequencies of the rotary embedding, one for each pair: `theta^(-2 i / rotary_dim)`, scaled.
    pub(crate) fn rope_frequencies(&self) -> Vec<f64> {
        let rotary = self.attention.rotary_dim;
        (0..rotary / 2)
            .map(|i| {
                let frequency = self.rope_theta.powf(-2.0 * i as f64 / rotary as f64);
                match &self.rope_scaling {
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

fn scaling(rope: &RopeParameters) -> Result<RopeScaling, String> {
    let missing = |name: &str| format!("rope scaling without \"{name}\"");
    match rope.rope_type.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear(rope.factor.ok_or_else(|| missing("factor"))?)),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: rope.factor.ok_or_else(|| missing("factor"))?,
            low: rope.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
            high: rope.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
            original_context: rope
                .original_max_position_embeddings
                .ok_or_else(|| missing("original_max_position_embeddings"))?,
        }),
        Some(other) => Err(format!("rope scaling \"{other}\"")),
    }
}
