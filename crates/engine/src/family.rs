//! The model families. A family is a row in a table: what its blocks are made of, and what its files call things.
//! The decoder itself is the same for all of them.

use crate::config::{Activation, NormKind, RopeStyle};
use crate::error::LoadError;

/// One family.
#[derive(Debug)]
pub(crate) struct Family {
    /// `architectures[0]` in `config.json`.
    pub(crate) hf_architecture: &'static str,
    /// `general.architecture` in GGUF.
    pub(crate) gguf_architecture: &'static str,
    pub(crate) norm: NormKind,
    /// Added to norm weights of Hugging Face checkpoints; converters to GGUF have added it already.
    pub(crate) hf_norm_offset: f32,
    /// When `config.json` has none.
    pub(crate) norm_epsilon: f32,
    /// Name of the norm's epsilon in GGUF, after the architecture.
    pub(crate) gguf_epsilon: &'static str,
    pub(crate) activation: Activation,
    /// The activation's name in `config.json`.
    pub(crate) hidden_act: &'static str,
    /// When `config.json` has none.
    pub(crate) partial_rotary_factor: f64,
    pub(crate) gguf_rope_style: RopeStyle,
}

static FAMILIES: [Family; 2] = [
    // Minitron: modeling_nemotron.py in the transformers library.
    Family {
        hf_architecture: "NemotronForCausalLM",
        gguf_architecture: "nemotron",
        norm: NormKind::Layer,
        hf_norm_offset: 1.0,
        norm_epsilon: 1e-5,
        gguf_epsilon: "attention.layer_norm_epsilon",
        activation: Activation::ReluSquared,
        hidden_act: "relu2",
        partial_rotary_factor: 0.5,
        gguf_rope_style: RopeStyle::Halves,
    },
    // Llama and its many descendants: modeling_llama.py in the transformers library.
    Family {
        hf_architecture: "LlamaForCausalLM",
        gguf_architecture: "llama",
        norm: NormKind::Rms,
        hf_norm_offset: 0.0,
        norm_epsilon: 1e-6,
        gguf_epsilon: "attention.layer_norm_rms_epsilon",
        activation: Activation::SiluGate,
        hidden_act: "silu",
        partial_rotary_factor: 1.0,
        gguf_rope_style: RopeStyle::Pairs,
    },
];

/// The family of a `config.json`.
pub(crate) fn by_architecture(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.hf_architecture == name)
}

/// The family of a GGUF file.
pub(crate) fn by_gguf_architecture(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.gguf_architecture == name)
}

/// The error for any other name.
pub(crate) fn unknown(architecture: &str, file: &str) -> LoadError {
    let known: Vec<&str> =
        FAMILIES.iter().flat_map(|family| [family.hf_architecture, family.gguf_architecture]).collect();
    LoadError::UnknownArchitecture {
        file: file.to_owned(),
        architecture: architecture.to_owned(),
        known: known.join(", "),
    }
}

/// What a file format calls the tensors, without `.weight` and `.bias`; `{}` stands for the layer's number.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) embedding: &'static str,
    pub(crate) output_norm: &'static str,
    pub(crate) output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention_output: &'static str,
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
}

/// Hugging Face checkpoints.
pub(crate) static HF_NAMES: Names = Names {
    embedding: "model.embed_tokens",
    output_norm: "model.norm",
    output: "lm_head",
    attention_norm: "model.layers.{}.input_layernorm",
    query: "model.layers.{}.self_attn.q_proj",
    key: "model.layers.{}.self_attn.k_proj",
    value: "model.layers.{}.self_attn.v_proj",
    attention_output: "model.layers.{}.self_attn.o_proj",
    feed_forward_norm: "model.layers.{}.post_attention_layernorm",
    gate: "model.layers.{}.mlp.gate_proj",
    up: "model.layers.{}.mlp.up_proj",
    down: "model.layers.{}.mlp.down_proj",
};

/// GGUF files.
pub(crate) static GGUF_NAMES: Names = Names {
    embedding: "token_embd",
    output_norm: "output_norm",
    output: "output",
    attention_norm: "blk.{}.attn_norm",
    query: "blk.{}.attn_q",
    key: "blk.{}.attn_k",
    value: "blk.{}.attn_v",
    attention_output: "blk.{}.attn_output",
    feed_forward_norm: "blk.{}.ffn_norm",
    gate: "blk.{}.ffn_gate",
    up: "blk.{}.ffn_up",
    down: "blk.{}.ffn_down",
};
