//! The metadata of a GGUF file. The keys are those of the ggml repository's `docs/gguf.md` and of llama.cpp's
//! `llama-arch.cpp`.

use super::hybrid::Listed;
use super::{
    AttentionShape, Biases, Config, Local, LocalLayers, Mixer, Rope, RopeScaling, gguf_key, usual_scale,
};
use crate::error::LoadError;
use crate::family;
use crate::weights::gguf::{Metadata, Value};
use crate::weights::gguf_writer::Datum;

impl Config {
    /// Reads GGUF metadata. `divisors` are the numbers of the tensor `rope_freqs.weight`, if there is one.
    pub(crate) fn from_gguf(metadata: &Metadata, divisors: Option<Vec<f32>>) -> Result<Self, LoadError> {
        let file = metadata.file();
        let architecture = metadata.text("general.architecture")?.to_owned();
        let family = family::by_gguf_architecture(&architecture)
            .ok_or_else(|| family::unknown(&architecture, file))?;
        let key = |name: &str| gguf_key(&architecture, name);
        let integer = |name: &str| metadata.integer(&key(name));
        let listed = family.hybrid.then(|| Listed::read(metadata, &architecture)).transpose()?;
        let heads = match &listed {
            Some(listed) => listed.heads,
            None => integer("attention.head_count")?,
        };
        let hidden = integer("embedding_length")?;
        let layers = integer("block_count")?;
        if heads == 0 {
            return Err(LoadError::Malformed {
                file: file.to_owned(),
                field: key("attention.head_count"),
                reason: "is 0".into(),
            });
        }
        let optional = |name: &str| metadata.optional(&key(name), Metadata::integer);
        let (feed_forward, kv_heads) = match &listed {
            Some(listed) => (listed.feed_forward, listed.kv_heads),
            None => (integer("feed_forward_length")?, optional("attention.head_count_kv")?.unwrap_or(heads)),
        };
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
        let local = match (optional("attention.sliding_window")?, family.window_pattern) {
            (Some(window), Some(pattern)) => {
                let pattern = optional("attention.sliding_window_pattern")?.unwrap_or(pattern);
                let theta = metadata.optional(&key("rope.freq_base_swa"), Metadata::float)?;
                let theta = theta.or(family.local_rope_theta).unwrap_or(10_000.0);
                let rope = Rope { theta, scaling: RopeScaling::None };
                Some(Local { layers: LocalLayers::AllButEvery(pattern), window, rope })
            }
            _ => None,
        };
        for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if metadata.get(&key(name)).is_some() {
                let what = key(name);
                return Err(LoadError::Unsupported { file: file.to_owned(), what });
            }
        }
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
            names: family.gguf_names,
            layers,
            hidden,
            feed_forward,
            vocabulary,
            context: integer("context_length")?,
            attention: AttentionShape {
                heads,
                kv_heads,
                head_dim,
                // llama.cpp writes a size that it does not use where there is no rotary embedding.
                rotary_dim: if family.rotates { rotary.unwrap_or(head_dim) } else { 0 },
                rope_style: family.gguf_rope_style,
                scale: (family.gguf_scale)(layers, hidden, heads).unwrap_or(usual_scale(head_dim)),
            },
            rope: Rope {
                theta: metadata.optional(&key("rope.freq_base"), Metadata::float)?.unwrap_or(10_000.0),
                scaling: rope_scaling,
            },
            local,
            hybrid: listed.map(|listed| listed.hybrid),
            biases: Biases { qkv: family.qkv_bias, ..Biases::default() },
            embedding_scale: family.scaled_embedding.then(|| (hidden as f32).sqrt()),
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

    /// The metadata of a GGUF file with this configuration. What GGUF has no key for is left out: windows of families
    /// that have none there, and a factor of the scores that is not the family's.
    pub(crate) fn to_gguf(&self) -> Vec<(String, Datum)> {
        let architecture = self.family.gguf_architecture;
        let key = |name: &str| gguf_key(architecture, name);
        let attention = &self.attention;
        let mut all = vec![("general.architecture".to_owned(), Datum::Text(architecture.to_owned()))];
        // None is above 2^28, see `check`.
        let number = |size: usize| Datum::U32(size as u32);
        let of = |mixer: Mixer, size: usize| match &self.hybrid {
            Some(hybrid) => Datum::U32s(hybrid.sizes(mixer, size)),
            None => number(size),
        };
        let sizes = [
            ("block_count", number(self.layers)),
            ("context_length", number(self.context)),
            ("embedding_length", number(self.hidden)),
            ("feed_forward_length", of(Mixer::FeedForward, self.feed_forward)),
            ("attention.head_count", number(attention.heads)),
            ("attention.head_count_kv", of(Mixer::Attention, attention.kv_heads)),
            ("attention.key_length", number(attention.head_dim)),
            ("attention.value_length", number(attention.head_dim)),
            ("rope.dimension_count", number(attention.rotary_dim)),
            ("vocab_size", number(self.vocabulary)),
        ];
        all.extend(sizes.map(|(name, size)| (key(name), size)));
        if let Some(hybrid) = &self.hybrid {
            all.extend(hybrid.space.to_gguf().map(|(name, size)| (key(name), number(size))));
        }
        all.push((key("rope.freq_base"), Datum::F32(self.rope.theta as f32)));
        all.push((key(self.family.gguf_epsilon), Datum::F32(self.norm_epsilon)));
        if let RopeScaling::Linear(factor) = self.rope.scaling {
            all.push((key("rope.scaling.type"), Datum::Text("linear".to_owned())));
            all.push((key("rope.scaling.factor"), Datum::F32(factor as f32)));
        }
        if let (Some(local), Some(_)) = (&self.local, self.family.window_pattern)
            && let Some(pattern) = local.layers.pattern()
        {
            let window = u32::try_from(local.window).unwrap_or(u32::MAX);
            all.push((key("attention.sliding_window"), Datum::U32(window)));
            all.push((key("attention.sliding_window_pattern"), Datum::U32(pattern as u32)));
            all.push((key("rope.freq_base_swa"), Datum::F32(local.rope.theta as f32)));
        }
        let ends = [("eos", self.eos.first()), ("eot", self.eos.get(1)), ("bos", self.bos.as_ref())];
        for (name, id) in ends {
            all.extend(id.map(|&id| (format!("tokenizer.ggml.{name}_token_id"), Datum::U32(id))));
        }
        all
    }
}
