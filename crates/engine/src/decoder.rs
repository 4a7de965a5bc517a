//! The decoder: one block for every family, on every backend, and the sessions that run it.

use std::sync::Arc;

use candle_core::Result;

use crate::backend::{Backend, RopeTable};
use crate::config::{Activation, Config, NormKind};
use crate::error::LoadError;
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
    attention_output: B::Linear,
    feed_forward_norm: B::Norm,
    /// Gate and up side by side, or up alone.
    up: B::Linear,
    down: B::Linear,
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
            let name = name.replace("{}", &layer.to_string());
            refuse_bias(checkpoint, &name)?;
            checkpoint.get(&format!("{name}.weight"), &[rows, width])
        };
        let norm = |name: &str, layer: usize| -> std::result::Result<B::Norm, LoadError> {
            let name = name.replace("{}", &layer.to_string());
            let mut scale = checkpoint.get(&format!("{name}.weight"), &[hidden])?.to_f32();
            for w in &mut scale {
                *w += config.norm_offset;
            }
            let bias = match config.family.norm {
                NormKind::Rms => Vec::new(),
                NormKind::Layer => checkpoint.get(&format!("{name}.bias"), &[hidden])?.to_f32(),
            };
            Ok(backend.norm(config.family.norm, config.norm_epsilon, scale, bias)?)
        };

        // Not reserved: the number of layers is a claim of the file until their tensors were found.
        let mut blocks = Vec::new();
        for layer in 0..config.layers {
            let qkv = vec![
                weight(names.query, layer, attention.query_width(), hidden)?,
                weight(names.key, layer, attention.kv_width(), hidden)?,
                weight(names.value, layer, attention.kv_width(), hidden)?,
            ];
            let up = match config.family.activation {
                Activation::ReluSquared => vec![weight(names.up, layer, feed_forward, hidden)?],
                Activation::SiluGate => vec![
                    weight(names.gate, layer, feed_forward, hidden)?,
                    weight(names.up, layer, feed_forward, hidden)?,
                ],
            };
            let attention_output = weight(names.attention_output, layer, hidden, attention.query_width())?;
            let down = weight(names.down, layer, hidden, feed_forward)?;
            blocks.push(Block {
                attention_norm: norm(names.attention_norm, layer)?,
                qkv: backend.linear(qkv)?,
                attention_output: backend.linear(vec![attention_output])?,
                feed_forward_norm: norm(names.feed_forward_norm, layer)?,
                up: backend.linear(up)?,
                down: backend.linear(vec![down])?,
            });
        }

        let embedding = weight(names.embedding, 0, config.vocabulary, hidden)?;
        let output = output_matrix(&config, checkpoint, &embedding)?;
        let rope = backend.rope(rope_table(&config, context))?;
        Ok(Self {
            embedding: backend.embedding(embedding)?,
            blocks,
            output_norm: norm(names.output_norm, 0)?,
            output: backend.linear(vec![output])?,
            rope,
            context,
            config,
            backend,
        })
    }

    fn forward(&self, caches: &mut [B::Kv], tokens: &[u32], start: usize, rows: usize) -> Result<Vec<f32>> {
        let backend = &self.backend;
        let mut x = backend.embed(&self.embedding, tokens)?;
        for (block, kv) in self.blocks.iter().zip(caches) {
            let normed = backend.apply_norm(&block.attention_norm, &x)?;
            let qkv = backend.apply(&block.qkv, &normed)?;
            let attended = backend.attend(qkv, kv, &self.rope, &self.config.attention, start)?;
            backend.add(&mut x, backend.apply(&block.attention_output, &attended)?)?;
            let normed = backend.apply_norm(&block.feed_forward_norm, &x)?;
            let up = backend.apply(&block.up, &normed)?;
            let activated = backend.activate(self.config.family.activation, up)?;
            backend.add(&mut x, backend.apply(&block.down, &activated)?)?;
        }
        if rows == 0 {
            return Ok(Vec::new());
        }
        let x = backend.skip_rows(x, tokens.len() - rows)?;
        let normed = backend.apply_norm(&self.output_norm, &x)?;
        backend.read(backend.apply(&self.output, &normed)?)
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

/// A bias that the block would leave out must not pass unnoticed.
fn refuse_bias(checkpoint: &Checkpoint, name: &str) -> std::result::Result<(), LoadError> {
    let bias = format!("{name}.bias");
    if checkpoint.tensors.contains_key(&bias) {
        let what = format!("the bias \"{bias}\" on a linear layer");
        return Err(LoadError::Unsupported { file: checkpoint.file.clone(), what });
    }
    Ok(())
}

/// The output matrix: its own, or the embedding where they are tied.
fn output_matrix(
    config: &Config,
    checkpoint: &Checkpoint,
    embedding: &RawTensor,
) -> std::result::Result<RawTensor, LoadError> {
    let name = format!("{}.weight", config.names.output);
    let tied = config.tied.unwrap_or_else(|| !checkpoint.tensors.contains_key(&name));
    if tied {
        return Ok(embedding.clone());
    }
    checkpoint.get(&name, &[config.vocabulary, config.hidden])
}

/// Cosines and sines for every position, computed in f64.
fn rope_table(config: &Config, positions: usize) -> RopeTable {
    let frequencies = config.rope_frequencies();
    let angle = |p: usize| frequencies.iter().map(move |f| p as f64 * f);
    RopeTable {
        cos: (0..positions).flat_map(|p| angle(p).map(|a| a.cos() as f32)).collect(),
        sin: (0..positions).flat_map(|p| angle(p).map(|a| a.sin() as f32)).collect(),
        positions,
        half: frequencies.len(),
    }
}
