//! The model families. A family is a row in a table: what its blocks are made of, and what its files call things.
//! The decoder itself is the same for all of them.

use crate::config::{Activation, NormKind, RopeStyle};
use crate::error::LoadError;

/// One family. The fields that only some families need are given by [`PLAIN`].
#[derive(Debug)]
pub(crate) struct Family {
    /// `architectures[0]` in `config.json`.
    pub(crate) hf_architecture: &'static str,
    pub(crate) hf_names: &'static Names,
    pub(crate) gguf_names: &'static Names,
    /// `general.architecture` in GGUF.
    pub(crate) gguf_architecture: &'static str,
    pub(crate) norm: NormKind,
    /// Added to norm weights of Hugging Face checkpoints; converters to GGUF have added it already.
    pub(crate) hf_norm_offset: f32,
    /// When `config.json` has none.
    pub(crate) norm_epsilon: f32,
    /// Name of the norm's epsilon in GGUF, after the architecture.
    pub(crate) gguf_epsilon: &'static str,
    /// Each query and key is normalised before it is rotated.
    pub(crate) query_key_norm: bool,
    /// What attention and feed-forward give is normalised before it is added.
    pub(crate) post_norm: bool,
    pub(crate) activation: Activation,
    /// The activation's name in `config.json`.
    pub(crate) hidden_act: &'static str,
    /// Each layer is one of several things: attention, a feed-forward part, or a state-space mixer.
    pub(crate) hybrid: bool,
    /// Queries and keys are rotated by their positions.
    pub(crate) rotates: bool,
    /// Queries, keys and values have a bias.
    pub(crate) qkv_bias: bool,
    /// Rows of the embedding are multiplied by the root of their width.
    pub(crate) scaled_embedding: bool,
    /// When `config.json` has none.
    pub(crate) rope_theta: f64,
    /// When `config.json` has none.
    pub(crate) partial_rotary_factor: f64,
    pub(crate) gguf_rope_style: RopeStyle,
    /// Every so many-th layer sees all positions, the others a window of them.
    pub(crate) window_pattern: Option<usize>,
    /// Of layers with a window, where it is not that of the others.
    pub(crate) local_rope_theta: Option<f64>,
    /// The factor of the scores by layers, hidden size and heads, where it is not `1 / sqrt(head_dim)` and GGUF has no
    /// key for it.
    pub(crate) gguf_scale: fn(usize, usize, usize) -> Option<f64>,
}

/// What most families have in common.
const PLAIN: Family = Family {
    hf_architecture: "",
    hf_names: &HF_NAMES,
    gguf_names: &GGUF_NAMES,
    gguf_architecture: "",
    norm: NormKind::Rms,
    hf_norm_offset: 0.0,
    norm_epsilon: 1e-6,
    gguf_epsilon: "attention.layer_norm_rms_epsilon",
    query_key_norm: false,
    post_norm: false,
    activation: Activation::SiluGate,
    hidden_act: "silu",
    hybrid: false,
    rotates: true,
    qkv_bias: false,
    scaled_embedding: false,
    rope_theta: 10_000.0,
    partial_rotary_factor: 1.0,
    gguf_rope_style: RopeStyle::Halves,
    window_pattern: None,
    local_rope_theta: None,
    gguf_scale: |_, _, _| None,
};

static FAMILIES: [Family; 6] = [
    // Minitron: modeling_nemotron.py in the transformers library, as for the names that follow.
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
        ..PLAIN
    },
    // Llama and its many descendants: modeling_llama.py.
    Family {
        hf_architecture: "LlamaForCausalLM",
        gguf_architecture: "llama",
        gguf_rope_style: RopeStyle::Pairs,
        ..PLAIN
    },
    // Qwen 2 and 2.5: modeling_qwen2.py.
    Family { hf_architecture: "Qwen2ForCausalLM", gguf_architecture: "qwen2", qkv_bias: true, ..PLAIN },
    // Qwen 3: modeling_qwen3.py.
    Family { hf_architecture: "Qwen3ForCausalLM", gguf_architecture: "qwen3", query_key_norm: true, ..PLAIN },
    // Gemma 3, text only: modeling_gemma3.py, and llama.cpp's gemma3 for what GGUF leaves out.
    Family {
        hf_architecture: "Gemma3ForCausalLM",
        hf_names: &GEMMA_HF_NAMES,
        gguf_architecture: "gemma3",
        hf_norm_offset: 1.0,
        query_key_norm: true,
        post_norm: true,
        activation: Activation::GeluGate,
        hidden_act: "gelu_pytorch_tanh",
        scaled_embedding: true,
        rope_theta: 1_000_000.0,
        window_pattern: Some(6),
        local_rope_theta: Some(10_000.0),
        // Of the published sizes only the largest has query_pre_attn_scalar other than the width of a head.
        gguf_scale: |layers, hidden, heads| {
            (layers == 62).then(|| 1.0 / (hidden as f64 / heads as f64).sqrt())
        },
        ..PLAIN
    },
    // Nemotron-H: modeling_nemotron_h.py, and llama.cpp's nemotron_h for the names in GGUF.
    Family {
        hf_architecture: "NemotronHForCausalLM",
        hf_names: &NEMOTRON_H_HF_NAMES,
        gguf_architecture: "nemotron_h",
        gguf_names: &NEMOTRON_H_GGUF_NAMES,
        norm_epsilon: 1e-5,
        activation: Activation::ReluSquared,
        hidden_act: "relu2",
        hybrid: true,
        rotates: false,
        ..PLAIN
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
    pub(crate) query_norm: &'static str,
    pub(crate) key_norm: &'static str,
    pub(crate) attention_output: &'static str,
    pub(crate) post_attention_norm: &'static str,
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) post_feed_forward_norm: &'static str,
    pub(crate) space: SpaceNames,
}

/// The names of a state-space mixer. Those of `step`, `decay` and `skip` are whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpaceNames {
    pub(crate) input: &'static str,
    pub(crate) convolution: &'static str,
    pub(crate) step: &'static str,
    pub(crate) decay: &'static str,
    pub(crate) skip: &'static str,
    pub(crate) norm: &'static str,
    pub(crate) output: &'static str,
}

impl Names {
    /// The names of the whole model and those of a layer, each beside what `other` calls the same.
    pub(crate) fn beside(&self, other: &Self) -> ([Pair; 3], [Pair; 15]) {
        let both = |name: fn(&Self) -> &'static str| (name(self), name(other));
        let whole =
            [both(|names| names.embedding), both(|names| names.output), both(|names| names.output_norm)];
        let layer = [
            both(|names| names.attention_norm),
            both(|names| names.query),
            both(|names| names.key),
            both(|names| names.value),
            both(|names| names.query_norm),
            both(|names| names.key_norm),
            both(|names| names.attention_output),
            both(|names| names.post_attention_norm),
            both(|names| names.feed_forward_norm),
            both(|names| names.gate),
            both(|names| names.up),
            both(|names| names.down),
            both(|names| names.post_feed_forward_norm),
            both(|names| names.space.input),
            both(|names| names.space.output),
        ];
        (whole, layer)
    }
}

/// Two names of one tensor.
type Pair = (&'static str, &'static str);

/// Hugging Face checkpoints.
const HF_NAMES: Names = Names {
    embedding: "model.embed_tokens",
    output_norm: "model.norm",
    output: "lm_head",
    attention_norm: "model.layers.{}.input_layernorm",
    query: "model.layers.{}.self_attn.q_proj",
    key: "model.layers.{}.self_attn.k_proj",
    value: "model.layers.{}.self_attn.v_proj",
    query_norm: "model.layers.{}.self_attn.q_norm",
    key_norm: "model.layers.{}.self_attn.k_norm",
    attention_output: "model.layers.{}.self_attn.o_proj",
    post_attention_norm: "",
    feed_forward_norm: "model.layers.{}.post_attention_layernorm",
    gate: "model.layers.{}.mlp.gate_proj",
    up: "model.layers.{}.mlp.up_proj",
    down: "model.layers.{}.mlp.down_proj",
    post_feed_forward_norm: "",
    space: NO_SPACE,
};

const NO_SPACE: SpaceNames =
    SpaceNames { input: "", convolution: "", step: "", decay: "", skip: "", norm: "", output: "" };

/// Hugging Face checkpoints of Gemma, where a norm's name says on which side of a part it stands.
const GEMMA_HF_NAMES: Names = Names {
    post_attention_norm: "model.layers.{}.post_attention_layernorm",
    feed_forward_norm: "model.layers.{}.pre_feedforward_layernorm",
    post_feed_forward_norm: "model.layers.{}.post_feedforward_layernorm",
    ..HF_NAMES
};

/// Hugging Face checkpoints of Nemotron-H, where every layer has one norm and one mixer.
const NEMOTRON_H_HF_NAMES: Names = Names {
    embedding: "backbone.embeddings",
    output_norm: "backbone.norm_f",
    attention_norm: "backbone.layers.{}.norm",
    query: "backbone.layers.{}.mixer.q_proj",
    key: "backbone.layers.{}.mixer.k_proj",
    value: "backbone.layers.{}.mixer.v_proj",
    query_norm: "",
    key_norm: "",
    attention_output: "backbone.layers.{}.mixer.o_proj",
    feed_forward_norm: "backbone.layers.{}.norm",
    gate: "",
    up: "backbone.layers.{}.mixer.up_proj",
    down: "backbone.layers.{}.mixer.down_proj",
    space: SpaceNames {
        input: "backbone.layers.{}.mixer.in_proj",
        convolution: "backbone.layers.{}.mixer.conv1d",
        step: "backbone.layers.{}.mixer.dt_bias",
        decay: "backbone.layers.{}.mixer.A_log",
        skip: "backbone.layers.{}.mixer.D",
        norm: "backbone.layers.{}.mixer.norm",
        output: "backbone.layers.{}.mixer.out_proj",
    },
    ..HF_NAMES
};

/// GGUF files.
const GGUF_NAMES: Names = Names {
    embedding: "token_embd",
    output_norm: "output_norm",
    output: "output",
    attention_norm: "blk.{}.attn_norm",
    query: "blk.{}.attn_q",
    key: "blk.{}.attn_k",
    value: "blk.{}.attn_v",
    query_norm: "blk.{}.attn_q_norm",
    key_norm: "blk.{}.attn_k_norm",
    attention_output: "blk.{}.attn_output",
    post_attention_norm: "blk.{}.post_attention_norm",
    feed_forward_norm: "blk.{}.ffn_norm",
    gate: "blk.{}.ffn_gate",
    up: "blk.{}.ffn_up",
    down: "blk.{}.ffn_down",
    post_feed_forward_norm: "blk.{}.post_ffw_norm",
    space: NO_SPACE,
};

/// GGUF files of Nemotron-H.
const NEMOTRON_H_GGUF_NAMES: Names = Names {
    feed_forward_norm: "blk.{}.attn_norm",
    space: SpaceNames {
        input: "blk.{}.ssm_in",
        convolution: "blk.{}.ssm_conv1d",
        step: "blk.{}.ssm_dt.bias",
        decay: "blk.{}.ssm_a",
        skip: "blk.{}.ssm_d",
        norm: "blk.{}.ssm_norm",
        output: "blk.{}.ssm_out",
    },
    ..GGUF_NAMES
};
