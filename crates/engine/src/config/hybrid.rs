//! Layers of several kinds, as Nemotron-H has them: which layer is what, and the sizes of those with a state.
//!
//! Keys of `config.json` are those of `configuration_nemotron_h.py` in the transformers library, keys of GGUF those of
//! llama.cpp's `nemotron_h`.

use serde::Deserialize;

use super::gguf_key;
use crate::error::LoadError;
use crate::weights::gguf::{Metadata, Value};

/// What a layer does between its norm and the sum with its input, where a layer does one thing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mixer {
    Attention,
    FeedForward,
    StateSpace,
}

/// Sizes of a Mamba-2 mixer (Dao and Gu 2024, "Transformers are SSMs"), and what a file says about its tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateSpaceShape {
    pub(crate) heads: usize,
    /// Numbers of a head that pass through its state.
    pub(crate) head_dim: usize,
    /// Numbers of a state for each of these.
    pub(crate) state: usize,
    /// Heads of a group share what goes into the state and how it is read, and are normalised together.
    pub(crate) groups: usize,
    /// Positions that the convolution sees, the current one among them.
    pub(crate) kernel: usize,
    /// Whether the convolution must have a bias.
    pub(crate) convolution_bias: bool,
    /// Whether the matrices must have one.
    pub(crate) biased: bool,
    /// Whether the file has the logarithm of how fast states decay, as Hugging Face checkpoints do, or the negative rate itself.
    pub(crate) logarithmic_decay: bool,
}

/// Beyond these sizes a small file could ask for much memory; several times those of any model that is published.
const LARGEST_STATE: usize = 1024;
const LARGEST_HEAD: usize = 1024;
const LARGEST_KERNEL: usize = 64;
const LARGEST_WIDTH: usize = 1 << 20;

impl StateSpaceShape {
    /// Width of all heads.
    pub(crate) fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Heads of a group.
    pub(crate) fn group_heads(&self) -> usize {
        self.heads / self.groups
    }

    /// Numbers of a position that are convolved: all heads, and what is written to and read from the state, for each group.
    pub(crate) fn channels(&self) -> usize {
        self.inner() + 2 * self.groups * self.state
    }

    /// Rows of the first matrix: the gate, the channels, and a step for each head.
    pub(crate) fn projected(&self) -> usize {
        self.inner() + self.channels() + self.heads
    }

    /// Numbers of the state of one layer: the last positions for the convolution, and the states of all heads.
    pub(crate) fn memory(&self) -> usize {
        (self.kernel - 1) * self.channels() + self.inner() * self.state
    }

    /// The sizes and their names in GGUF.
    pub(super) fn to_gguf(&self) -> [(&'static str, usize); 5] {
        [
            ("ssm.conv_kernel", self.kernel),
            ("ssm.inner_size", self.inner()),
            ("ssm.state_size", self.state),
            ("ssm.time_step_rank", self.heads),
            ("ssm.group_count", self.groups),
        ]
    }

    /// What is out of range, if anything is: its name and why.
    fn wrong(&self) -> Option<(&'static str, String)> {
        for (field, value, range) in [
            ("state-space heads", self.heads, 1..=LARGEST_WIDTH),
            ("state-space head size", self.head_dim, 1..=LARGEST_HEAD),
            ("state-space width", self.heads.saturating_mul(self.head_dim), 1..=LARGEST_WIDTH),
            ("state size", self.state, 1..=LARGEST_STATE),
            ("state-space groups", self.groups, 1..=self.heads),
            ("convolution kernel", self.kernel, 2..=LARGEST_KERNEL),
        ] {
            if !range.contains(&value) {
                return Some((field, format!("{value} is out of range")));
            }
        }
        let Self { heads, groups, .. } = self;
        (!heads.is_multiple_of(*groups))
            .then(|| ("state-space heads", format!("{heads} are not a multiple of {groups} groups")))
    }
}

/// A model whose layers are of several kinds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hybrid {
    /// One a layer.
    pub(crate) layers: Vec<Mixer>,
    pub(crate) space: StateSpaceShape,
}

impl Hybrid {
    /// How many layers are of this kind.
    pub(crate) fn count(&self, wanted: Mixer) -> usize {
        self.layers.iter().filter(|&&mixer| mixer == wanted).count()
    }

    /// A size that only layers of one kind have, as GGUF lists it.
    pub(super) fn sizes(&self, of: Mixer, size: usize) -> Vec<u32> {
        self.layers.iter().map(|&mixer| if mixer == of { size as u32 } else { 0 }).collect()
    }

    /// Relations that the decoder relies on.
    pub(super) fn check(&self, layers: usize, file: &str) -> Result<(), LoadError> {
        let wrong = |field: &str, reason: String| {
            Err(LoadError::Malformed { file: file.to_owned(), field: field.to_owned(), reason })
        };
        if self.layers.len() != layers {
            return wrong("kinds of layers", format!("{} for {layers} layers", self.layers.len()));
        }
        match self.space.wrong() {
            Some((field, reason)) => wrong(field, reason),
            None => Ok(()),
        }
    }
}

/// The keys of `config.json` that only this family has.
#[derive(Deserialize)]
pub(super) struct HfHybrid {
    hybrid_override_pattern: Option<String>,
    /// What later versions of the library write in its place.
    layers_block_type: Option<Vec<String>>,
    pub(super) mlp_hidden_act: Option<String>,
    mamba_hidden_act: Option<String>,
    pub(super) attention_head_dim: Option<usize>,
    pub(super) layer_norm_epsilon: Option<f32>,
    mamba_num_heads: usize,
    mamba_head_dim: usize,
    ssm_state_size: usize,
    n_groups: usize,
    conv_kernel: usize,
    #[serde(default = "yes")]
    use_conv_bias: bool,
    #[serde(default)]
    use_bias: bool,
    /// The least and the most of a step.
    time_step_limit: Option<(serde_json::Value, serde_json::Value)>,
}

fn yes() -> bool {
    true
}

impl HfHybrid {
    /// The kinds of the layers and the sizes; an error is the name of a feature that there is no code for.
    pub(super) fn read(&self) -> Result<Hybrid, String> {
        let layers = match (&self.hybrid_override_pattern, &self.layers_block_type) {
            (_, Some(names)) => names.iter().map(|name| mixer(name)).collect::<Result<_, _>>()?,
            (Some(pattern), None) => pattern
                .chars()
                .map(|letter| mixer(letter.encode_utf8(&mut [0; 4])))
                .collect::<Result<_, _>>()?,
            (None, None) => return Err("a model without \"hybrid_override_pattern\"".to_owned()),
        };
        if let Some(act) = self.mamba_hidden_act.as_deref().filter(|&act| act != "silu") {
            return Err(format!("mamba_hidden_act \"{act}\""));
        }
        if self.time_step_limit.as_ref().is_some_and(|limit| !is_no_limit(limit)) {
            return Err("a limit of time steps".to_owned());
        }
        Ok(Hybrid {
            layers,
            space: StateSpaceShape {
                heads: self.mamba_num_heads,
                head_dim: self.mamba_head_dim,
                state: self.ssm_state_size,
                groups: self.n_groups,
                kernel: self.conv_kernel,
                convolution_bias: self.use_conv_bias,
                biased: self.use_bias,
                logarithmic_decay: true,
            },
        })
    }
}

/// A layer's kind by its letter in a pattern or its name in a list.
fn mixer(name: &str) -> Result<Mixer, String> {
    match name {
        "M" | "mamba" | "linear_attention" => Ok(Mixer::StateSpace),
        "*" | "attention" | "full_attention" => Ok(Mixer::Attention),
        "-" | "mlp" => Ok(Mixer::FeedForward),
        "E" | "moe" => Err("a mixture of experts".to_owned()),
        other => Err(format!("layer type \"{other}\"")),
    }
}

/// Whether steps may be anything from 0 on. Infinity is no number in JSON: it is null here where Python wrote it as a bare word
/// (see `hf.rs`), an object where the transformers library did, and a number that no step comes near where others did.
fn is_no_limit((least, most): &(serde_json::Value, serde_json::Value)) -> bool {
    let is_infinite = most.is_null()
        || most.as_f64().is_some_and(|most| most >= 1e9)
        || most.get("__float__").unwrap_or(most).as_str() == Some("Infinity");
    least.as_f64() == Some(0.0) && is_infinite
}

/// What GGUF metadata say in one number for each layer.
pub(super) struct Listed {
    pub(super) hybrid: Hybrid,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) feed_forward: usize,
}

impl Listed {
    /// Reads metadata. A layer with key/value heads is one of attention, one with a feed-forward size is that, and any
    /// other has a state.
    pub(super) fn read(metadata: &Metadata, architecture: &str) -> Result<Self, LoadError> {
        let key = |name: &str| gguf_key(architecture, name);
        let integer = |name: &str| metadata.integer(&key(name));
        let file = || metadata.file().to_owned();
        let (kv_key, ff_key) = (key("attention.head_count_kv"), key("feed_forward_length"));
        if metadata.optional(&key("expert_count"), Metadata::integer)?.is_some_and(|experts| experts > 0) {
            return Err(LoadError::Unsupported { file: file(), what: "a mixture of experts".to_owned() });
        }
        let (kv_heads, feed_forward) = (metadata.sizes(&kv_key)?, metadata.sizes(&ff_key)?);
        if kv_heads.len() != feed_forward.len() {
            let reason = format!("has {} elements, and {ff_key} {}", kv_heads.len(), feed_forward.len());
            return Err(LoadError::Malformed { file: file(), field: kv_key, reason });
        }
        let kinds = kv_heads.iter().zip(&feed_forward).enumerate().map(|(layer, sizes)| match sizes {
            (0, 0) => Ok(Mixer::StateSpace),
            (_, 0) => Ok(Mixer::Attention),
            (0, _) => Ok(Mixer::FeedForward),
            _ => Err(LoadError::Malformed {
                file: file(),
                field: kv_key.clone(),
                reason: format!("layer {layer} has both attention and a feed-forward size"),
            }),
        });
        let layers = kinds.collect::<Result<_, _>>()?;
        let heads = match metadata.get(&key("attention.head_count")) {
            Some(Value::Integers(_)) => {
                only(&metadata.sizes(&key("attention.head_count"))?, &key("attention.head_count"), metadata)?
            }
            _ => integer("attention.head_count")?,
        };
        let (inner, space_heads) = (integer("ssm.inner_size")?, integer("ssm.time_step_rank")?);
        if space_heads == 0 || !inner.is_multiple_of(space_heads) {
            let reason = format!("{inner} is not a multiple of {space_heads} heads");
            return Err(LoadError::Malformed { file: file(), field: key("ssm.inner_size"), reason });
        }
        let space = StateSpaceShape {
            heads: space_heads,
            head_dim: inner / space_heads,
            state: integer("ssm.state_size")?,
            groups: integer("ssm.group_count")?,
            kernel: integer("ssm.conv_kernel")?,
            convolution_bias: false,
            biased: false,
            logarithmic_decay: false,
        };
        Ok(Self {
            hybrid: Hybrid { layers, space },
            heads,
            kv_heads: only(&kv_heads, &kv_key, metadata)?,
            feed_forward: only(&feed_forward, &ff_key, metadata)?,
        })
    }
}

/// The one number that a list has beside zeros.
fn only(sizes: &[usize], key: &str, metadata: &Metadata) -> Result<usize, LoadError> {
    let mut others = sizes.iter().copied().filter(|&size| size != 0);
    let first = others.next();
    match first {
        Some(size) if others.all(|other| other == size) => Ok(size),
        Some(_) => {
            let what = format!("{key} that differs between layers");
            Err(LoadError::Unsupported { file: metadata.file().to_owned(), what })
        }
        None => {
            let what = format!("{key} of 0 in all layers");
            Err(LoadError::Unsupported { file: metadata.file().to_owned(), what })
        }
    }
}
