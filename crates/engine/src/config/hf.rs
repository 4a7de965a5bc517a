//! `config.json` of a Hugging Face directory.

use std::borrow::Cow;

use serde::Deserialize;

use super::hybrid::HfHybrid;
use super::{AttentionShape, Biases, Config, Local, LocalLayers, Rope, RopeScaling, RopeStyle, usual_scale};
use crate::error::LoadError;
use crate::family::{self, Family};

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

/// One set of rotary parameters, or one for each type of layer.
#[derive(Deserialize)]
#[serde(untagged)]
enum RopeSets {
    ByLayerType { full_attention: RopeParameters, sliding_attention: Option<RopeParameters> },
    One(RopeParameters),
}

impl RopeSets {
    fn global(&self) -> &RopeParameters {
        match self {
            Self::ByLayerType { full_attention, .. } => full_attention,
            Self::One(one) => one,
        }
    }

    fn local(&self) -> Option<&RopeParameters> {
        match self {
            Self::ByLayerType { sliding_attention, .. } => sliding_attention.as_ref(),
            Self::One(_) => None,
        }
    }
}

/// The keys of `config.json` that are used; names as in the transformers library.
#[derive(Deserialize)]
struct HfConfig {
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: Option<usize>,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    // Some files have several of these, all of them the same.
    norm_eps: Option<f32>,
    rms_norm_eps: Option<f32>,
    layer_norm_eps: Option<f32>,
    rope_theta: Option<f64>,
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<RopeSets>,
    rope_local_base_freq: Option<f64>,
    #[serde(alias = "rope_percent", alias = "rope_percentage")]
    partial_rotary_factor: Option<f64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    #[serde(default)]
    use_bidirectional_attention: bool,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
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
        let json = standard(json);
        let invalid = |e: serde_json::Error| malformed("model configuration", e.to_string());
        let hf: HfConfig = serde_json::from_slice(&json).map_err(invalid)?;
        let architecture = hf.architectures.first().cloned().unwrap_or_default();
        let family =
            family::by_architecture(&architecture).ok_or_else(|| family::unknown(&architecture, file))?;
        let own: Option<HfHybrid> =
            family.hybrid.then(|| serde_json::from_slice(&json)).transpose().map_err(invalid)?;
        let hybrid = own.as_ref().map(HfHybrid::read).transpose().map_err(unsupported)?;
        let own_act = own.as_ref().and_then(|own| own.mlp_hidden_act.as_ref());
        if let Some(act) = own_act.or(hf.hidden_activation.as_ref()).or(hf.hidden_act.as_ref())
            && act != family.hidden_act
        {
            return Err(unsupported(format!("hidden_act \"{act}\" in {architecture}")));
        }
        if hf.attn_logit_softcapping.or(hf.final_logit_softcapping).is_some() {
            return Err(unsupported("softcapping of logits".into()));
        }
        if hf.use_bidirectional_attention {
            return Err(unsupported("bidirectional attention".into()));
        }
        if hf.num_attention_heads == 0 {
            return Err(malformed("num_attention_heads", "is 0".into()));
        }
        let rope = hf.rope_scaling.as_ref().map(RopeSets::global);
        let head_dim = hf
            .head_dim
            .or(own.as_ref().and_then(|own| own.attention_head_dim))
            .unwrap_or(hf.hidden_size / hf.num_attention_heads);
        let layers = hf
            .num_hidden_layers
            .or(hybrid.as_ref().map(|hybrid| hybrid.layers.len()))
            .ok_or_else(|| malformed("num_hidden_layers", "is missing".into()))?;
        let norm_epsilon = own.as_ref().and_then(|own| own.layer_norm_epsilon);
        let partial = hf
            .partial_rotary_factor
            .or(rope.and_then(|r| r.partial_rotary_factor))
            .unwrap_or(family.partial_rotary_factor);
        let config = Self {
            family,
            names: family.hf_names,
            layers,
            hidden: hf.hidden_size,
            feed_forward: hf.intermediate_size,
            vocabulary: hf.vocab_size,
            context: hf.max_position_embeddings,
            attention: AttentionShape {
                heads: hf.num_attention_heads,
                kv_heads: hf.num_key_value_heads.unwrap_or(hf.num_attention_heads),
                head_dim,
                rotary_dim: if family.rotates { (head_dim as f64 * partial) as usize } else { 0 },
                rope_style: RopeStyle::Halves,
                scale: hf.query_pre_attn_scalar.map_or(usual_scale(head_dim), |scalar| 1.0 / scalar.sqrt()),
            },
            rope: Rope {
                theta: hf.rope_theta.or(rope.and_then(|r| r.rope_theta)).unwrap_or(family.rope_theta),
                scaling: rope.map_or(Ok(RopeScaling::None), scaling).map_err(unsupported)?,
            },
            local: local(&hf, family).map_err(unsupported)?,
            hybrid,
            biases: Biases {
                qkv: hf.attention_bias || family.qkv_bias,
                attention_output: hf.attention_bias,
                feed_forward: hf.mlp_bias,
            },
            embedding_scale: family.scaled_embedding.then(|| (hf.hidden_size as f32).sqrt()),
            norm_epsilon: norm_epsilon
                .or(hf.norm_eps)
                .or(hf.rms_norm_eps)
                .or(hf.layer_norm_eps)
                .unwrap_or(family.norm_epsilon),
            norm_offset: family.hf_norm_offset,
            tied: hf.tie_word_embeddings,
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
}

/// Python writes numbers that are not finite as bare words, which JSON does not have; they become null here.
fn standard(json: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    if !WORDS.iter().any(|word| json.windows(word.len()).any(|window| window == *word)) {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len());
    let (mut at, mut is_text) = (0, false);
    while let Some(&byte) = json.get(at) {
        if !is_text && let Some(word) = WORDS.iter().find(|word| json[at..].starts_with(word)) {
            out.extend_from_slice(b"null");
            at += word.len();
            continue;
        }
        // What is escaped does not end a text.
        let length = if is_text && byte == b'\\' { 2.min(json.len() - at) } else { 1 };
        is_text ^= byte == b'"';
        out.extend_from_slice(&json[at..at + length]);
        at += length;
    }
    Cow::Owned(out)
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

/// The layers with a sliding window. Gemma 3 has a pattern of them or a list, Qwen a list, and
/// only where `use_sliding_window` says so.
fn local(hf: &HfConfig, family: &Family) -> Result<Option<Local>, String> {
    let Some(window) = hf.sliding_window.filter(|_| hf.use_sliding_window != Some(false)) else {
        return Ok(None);
    };
    let layers = if let Some(types) = &hf.layer_types {
        let flags = types.iter().map(|name| match name.as_str() {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => Err(format!("layer type \"{other}\"")),
        });
        LocalLayers::Listed(flags.collect::<Result<_, _>>()?)
    } else if let Some(pattern) = hf.sliding_window_pattern.or(family.window_pattern) {
        LocalLayers::AllButEvery(pattern)
    } else if hf.use_sliding_window == Some(true) {
        return Err("a sliding window without \"layer_types\"".to_owned());
    } else {
        return Ok(None);
    };
    let sets = hf.rope_scaling.as_ref();
    let rope = match (sets.and_then(RopeSets::local), family.local_rope_theta) {
        // Written before each type of layer had its own set: the scaling is that of the other layers.
        (None, Some(theta)) => {
            Rope { theta: hf.rope_local_base_freq.unwrap_or(theta), scaling: RopeScaling::None }
        }
        (None, None) => Rope {
            theta: hf.rope_theta.or(sets.and_then(|s| s.global().rope_theta)).unwrap_or(family.rope_theta),
            scaling: sets.map_or(Ok(RopeScaling::None), |s| scaling(s.global()))?,
        },
        (Some(own), default) => {
            Rope { theta: own.rope_theta.or(default).unwrap_or(family.rope_theta), scaling: scaling(own)? }
        }
    };
    Ok(Some(Local { layers, window, rope }))
}
