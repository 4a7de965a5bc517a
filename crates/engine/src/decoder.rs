//! The decoder: one block for every family, on every backend, and the sessions that run it.

#[cfg(feature = "train")]
pub(crate) mod parameters;

use std::sync::Arc;

use candle_core::Result;

use crate::backend::{Attention, Backend, RopeTable};
use crate::config::{Activation, Config, NormKind, Rope};
use crate::error::LoadError;
use crate::family::Family;
use crate::weights::{Checkpoint, RawTensor};

/// A loaded network, whatever it runs on.
pub(crate) trait Network: Send + Sync {
    /// Independent caches, numbered from 0.
    fn session(self: Arc<Self>, slots: usize) -> Result<Box<dyn Session>>;
}

/// Caches of a network. A cache holds the keys and values of the positions that were run in it.
pub(crate) trait Session: Send {
    /// Forgets all positions from `len` on.
    fn truncate(&mut self, slot: usize, len: usize);
    /// Replaces the contents of `to` by the first `len` positions of `from`.
    fn fork(&mut self, from: usize, to: usize, len: usize) -> Result<()>;
    /// Appends `tokens` to a cache and returns the logits of the last `rows` of them, row after row.
    fn forward(&mut self, slot: usize, tokens: &[u32], rows: usize) -> Result<Vec<f32>>;
}

struct Block<B: Backend> {
    attention_norm: B::Norm,
    /// Queries, keys and values side by side.
    qkv: B::Linear,
    query_norm: Option<B::Norm>,
    key_norm: Option<B::Norm>,
    attention_output: B::Linear,
    post_attention_norm: Option<B::Norm>,
    feed_forward_norm: B::Norm,
    /// Gate and up side by side, or up alone.
    up: B::Linear,
    down: B::Linear,
    post_feed_forward_norm: Option<B::Norm>,
    /// Positions that the attention sees, where it does not see all.
    window: Option<usize>,
}

pub(crate) struct Decoder<B: Backend> {
    backend: B,
    config: Config,
    /// Positions that the caches may hold.
    context: usize,
    embedding: B::Embedding,
    blocks: Vec<Block<B>>,
    output_norm: B::Norm,
    output: B::Linear,
    rope: B::Rope,
    /// Of the layers with a window.
    local_rope: Option<B::Rope>,
}

impl<B: Backend> Decoder<B> {
    /// Takes the weights out of `checkpoint` as `config` says.
    pub(crate) fn load(
        backend: B,
        config: Config,
        context: usize,
        checkpoint: &Checkpoint,
    ) -> std::result::Result<Self, LoadError> {
        let names = config.names;
        let attention = &config.attention;
        let (hidden, feed_forward) = (config.hidden, config.feed_forward);
        let weight = |name: &str, layer: usize, rows: usize, width: usize| {
            checkpoint.get(&format!("{}.weight", numbered(name, layer)), &[rows, width])
        };
        let linear = |parts: &[(&str, usize)], layer: usize, width: usize, biased: bool| {
            let weights = parts.iter().map(|&(name, rows)| weight(name, layer, rows, width));
            let weights = weights.collect::<std::result::Result<_, LoadError>>()?;
            let bias = linear_bias(checkpoint, parts, layer, biased)?;
            std::result::Result::<_, LoadError>::Ok(backend.linear(weights, bias)?)
        };
        let norm = |name: &str, layer: usize, width: usize| -> std::result::Result<B::Norm, LoadError> {
            let name = numbered(name, layer);
            let mut scale = checkpoint.get(&format!("{name}.weight"), &[width])?.to_f32();
            for w in &mut scale {
                *w += config.norm_offset;
            }
            let bias = match config.family.norm {
                NormKind::Rms => Vec::new(),
                NormKind::Layer => checkpoint.get(&format!("{name}.bias"), &[width])?.to_f32(),
            };
            Ok(backend.norm(config.family.norm, config.norm_epsilon, scale, bias)?)
        };

        let biases = config.biases;
        let (queries, keys) = (attention.query_width(), attention.kv_width());
        // Not reserved: the number of layers is a claim of the file until their tensors were found.
        let mut blocks = Vec::new();
        for layer in 0..config.layers {
            let up: &[_] = match config.family.activation {
                Activation::ReluSquared => &[(names.up, feed_forward)],
                Activation::SiluGate | Activation::GeluGate => {
                    &[(names.gate, feed_forward), (names.up, feed_forward)]
                }
            };
            let qkv = [(names.query, queries), (names.key, keys), (names.value, keys)];
            let optional_norm =
                |wanted: bool, name: &str, width: usize| wanted.then(|| norm(name, layer, width)).transpose();
            let Family { query_key_norm, post_norm, .. } = *config.family;
            blocks.push(Block {
                attention_norm: norm(names.attention_norm, layer, hidden)?,
                qkv: linear(&qkv, layer, hidden, biases.qkv)?,
                query_norm: optional_norm(query_key_norm, names.query_norm, attention.head_dim)?,
                key_norm: optional_norm(query_key_norm, names.key_norm, attention.head_dim)?,
                attention_output: linear(
                    &[(names.attention_output, hidden)],
                    layer,
                    queries,
                    biases.attention_output,
                )?,
                post_attention_norm: optional_norm(post_norm, names.post_attention_norm, hidden)?,
                feed_forward_norm: norm(names.feed_forward_norm, layer, hidden)?,
                up: linear(up, layer, hidden, biases.feed_forward)?,
                down: linear(&[(names.down, hidden)], layer, feed_forward, biases.feed_forward)?,
                post_feed_forward_norm: optional_norm(post_norm, names.post_feed_forward_norm, hidden)?,
                window: config.local(layer).map(|local| local.window),
            });
        }

        let embedding = weight(names.embedding, 0, config.vocabulary, hidden)?;
        let output = output_matrix(&config, checkpoint, &embedding)?;
        let rope = |rope: &Rope| backend.rope(rope_table(rope, attention.rotary_dim, context));
        Ok(Self {
            embedding: backend.embedding(embedding)?,
            blocks,
            output_norm: norm(names.output_norm, 0, hidden)?,
            output: backend.linear(vec![output], None)?,
            rope: rope(&config.rope)?,
            local_rope: config.local.as_ref().map(|local| rope(&local.rope)).transpose()?,
            context,
            config,
            backend,
        })
    }

    fn forward(&self, caches: &mut [B::Kv], tokens: &[u32], start: usize, rows: usize) -> Result<Vec<f32>> {
        let x = self.hidden(caches, tokens, start)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        self.backend.read(self.logits(self.backend.skip_rows(x, tokens.len() - rows)?)?)
    }

    /// What the last block gives, one row a token.
    pub(crate) fn hidden(&self, caches: &mut [B::Kv], tokens: &[u32], start: usize) -> Result<B::Hidden> {
        let backend = &self.backend;
        let mut x = backend.embed(&self.embedding, tokens)?;
        if let Some(factor) = self.config.embedding_scale {
            backend.scale(&mut x, factor)?;
        }
        for (block, kv) in self.blocks.iter().zip(caches) {
            let normed = backend.apply_norm(&block.attention_norm, &x)?;
            let qkv = backend.apply(&block.qkv, &normed)?;
            let attended = backend.attend(qkv, kv, &self.attention(block), start)?;
            let attended = backend.apply(&block.attention_output, &attended)?;
            backend.add(&mut x, self.normed(block.post_attention_norm.as_ref(), attended)?)?;
            let normed = backend.apply_norm(&block.feed_forward_norm, &x)?;
            let up = backend.apply(&block.up, &normed)?;
            let activated = backend.activate(self.config.family.activation, up)?;
            let fed = backend.apply(&block.down, &activated)?;
            backend.add(&mut x, self.normed(block.post_feed_forward_norm.as_ref(), fed)?)?;
        }
        Ok(x)
    }

    #[cfg(feature = "train")]
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// The logits for rows of [`Decoder::hidden`].
    pub(crate) fn logits(&self, x: B::Hidden) -> Result<B::Hidden> {
        let normed = self.backend.apply_norm(&self.output_norm, &x)?;
        self.backend.apply(&self.output, &normed)
    }

    /// Rows after a norm that only some families have.
    fn normed(&self, norm: Option<&B::Norm>, x: B::Hidden) -> Result<B::Hidden> {
        match norm {
            Some(norm) => self.backend.apply_norm(norm, &x),
            None => Ok(x),
        }
    }

    fn attention<'a>(&'a self, block: &'a Block<B>) -> Attention<'a, B> {
        let local_rope = self.local_rope.as_ref().filter(|_| block.window.is_some());
        Attention {
            shape: &self.config.attention,
            rope: local_rope.unwrap_or(&self.rope),
            query_norm: block.query_norm.as_ref(),
            key_norm: block.key_norm.as_ref(),
            window: block.window,
        }
    }
}

impl<B: Backend> Network for Decoder<B> {
    fn session(self: Arc<Self>, slots: usize) -> Result<Box<dyn Session>> {
        let shape = &self.config.attention;
        let cache = || -> Result<Cache<B>> {
            let layers = (0..self.config.layers).map(|_| self.backend.kv(shape, self.context));
            Ok(Cache { layers: layers.collect::<Result<_>>()?, len: 0 })
        };
        let caches = (0..slots).map(|_| cache()).collect::<Result<_>>()?;
        Ok(Box::new(DecoderSession { decoder: self, caches }))
    }
}

struct Cache<B: Backend> {
    layers: Vec<B::Kv>,
    len: usize,
}

struct DecoderSession<B: Backend> {
    decoder: Arc<Decoder<B>>,
    caches: Vec<Cache<B>>,
}

impl<B: Backend> Session for DecoderSession<B> {
    fn truncate(&mut self, slot: usize, len: usize) {
        let cache = &mut self.caches[slot];
        cache.len = cache.len.min(len);
    }

    fn fork(&mut self, from: usize, to: usize, len: usize) -> Result<()> {
        let Ok([source, target]) = self.caches.get_disjoint_mut([from, to]) else {
            self.truncate(to, len);
            return Ok(());
        };
        let len = len.min(source.len);
        for (source, target) in source.layers.iter().zip(&mut target.layers) {
            self.decoder.backend.copy_kv(source, target, len)?;
        }
        target.len = len;
        Ok(())
    }

    fn forward(&mut self, slot: usize, tokens: &[u32], rows: usize) -> Result<Vec<f32>> {
        let decoder = &self.decoder;
        let Cache { layers, len } = &mut self.caches[slot];
        debug_assert!(rows <= tokens.len() && *len + tokens.len() <= decoder.context);
        let logits = decoder.backend.run(|| decoder.forward(layers, tokens, *len, rows))?;
        *len += tokens.len();
        Ok(logits)
    }
}

/// The name of a tensor of a layer.
pub(crate) fn numbered(name: &str, layer: usize) -> String {
    name.replace("{}", &layer.to_string())
}

/// The biases of matrices whose outputs stand side by side: all of them where the configuration says so, else those
/// that are in the file, because weights must not be left out unnoticed. `None` where there are none at all.
fn linear_bias(
    checkpoint: &Checkpoint,
    parts: &[(&str, usize)],
    layer: usize,
    required: bool,
) -> std::result::Result<Option<Vec<f32>>, LoadError> {
    let mut bias = Vec::new();
    let mut found = false;
    for &(name, rows) in parts {
        let name = format!("{}.bias", numbered(name, layer));
        if required || checkpoint.tensors.contains_key(&name) {
            bias.extend(checkpoint.get(&name, &[rows])?.to_f32());
            found = true;
        } else {
            bias.resize(bias.len() + rows, 0.0);
        }
    }
    Ok(found.then_some(bias))
}

/// The output matrix: its own, or the embedding where they are tied.
fn output_matrix(
    config: &Config,
    checkpoint: &Checkpoint,
    embedding: &RawTensor,
) -> std::result::Result<RawTensor, LoadError> {
    let name = format!("{}.weight", config.names.output);
    let bias = format!("{}.bias", config.names.output);
    if checkpoint.tensors.contains_key(&bias) {
        let what = format!("the bias \"{bias}\" of the output matrix");
        return Err(LoadError::Unsupported { file: checkpoint.file.clone(), what });
    }
    let tied = config.tied.unwrap_or_else(|| !checkpoint.tensors.contains_key(&name));
    if tied {
        return Ok(embedding.clone());
    }
    checkpoint.get(&name, &[config.vocabulary, config.hidden])
}

/// Cosines and sines for every position, computed in f64.
fn rope_table(rope: &Rope, rotary_dim: usize, positions: usize) -> RopeTable {
    let frequencies = rope.frequencies(rotary_dim);
    let angle = |p: usize| frequencies.iter().map(move |f| p as f64 * f);
    RopeTable {
        cos: (0..positions).flat_map(|p| angle(p).map(|a| a.cos() as f32)).collect(),
        sin: (0..positions).flat_map(|p| angle(p).map(|a| a.sin() as f32)).collect(),
        positions,
        half: frequencies.len(),
    }
}
