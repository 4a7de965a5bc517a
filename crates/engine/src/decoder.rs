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
    /// Whether tokens may be run before it is known that they come next: [`Session::truncate`] takes back any of them, and
    /// a row of logits is the same, bit for bit, whether it was computed alone or with others.
    fn can_verify(&self) -> bool;
}

/// Caches of a network. A cache holds the keys and values of the positions that were run in it.
pub(crate) trait Session: Send {
    /// Forgets all positions from `len` on.
    fn truncate(&mut self, slot: usize, len: usize);
    /// Replaces the contents of `to` by the first `len` positions of `from`.
    fn fork(&mut self, from: usize, to: usize, len: usize) -> Result<()>;
    /// Appends tokens to caches, all in one pass over the weights, and returns the logits that are wanted, row after
    /// row, run after run. No two runs share a slot.
    fn forward_all(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>>;

    /// Appends `tokens` to one cache and returns the logits of the last `rows` of them.
    fn forward(&mut self, slot: usize, tokens: &[u32], rows: usize) -> Result<Vec<f32>> {
        self.forward_all(&[Run { slot, tokens, rows }])
    }
}

/// Tokens to append to one cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) slot: usize,
    pub(crate) tokens: &'a [u32],
    /// The logits of so many of the last tokens are wanted.
    pub(crate) rows: usize,
}

/// Rows of a pass that continue one text.
pub(crate) struct Span<'a, B: Backend> {
    /// The text's cache of each layer.
    pub(crate) layers: &'a mut [B::Kv],
    /// Positions in the cache.
    pub(crate) start: usize,
    /// Rows.
    pub(crate) count: usize,
    /// The logits of so many of the last rows are wanted.
    pub(crate) wanted: usize,
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

    /// The rows of `tokens` belong to the spans, one after the other.
    fn forward(&self, tokens: &[u32], spans: &mut [Span<'_, B>]) -> Result<Vec<f32>> {
        let x = self.hidden(tokens, spans)?;
        let mut end = 0;
        let mut ranges = Vec::with_capacity(spans.len());
        for span in spans {
            end += span.count;
            if span.wanted > 0 {
                ranges.push(end - span.wanted..end);
            }
        }
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let all = ranges.iter().map(ExactSizeIterator::len).sum::<usize>() == tokens.len();
        let x = if all { x } else { self.backend.rows(&x, &ranges)? };
        self.backend.read(self.logits(x)?)
    }

    /// What the last block gives, one row a token.
    pub(crate) fn hidden(&self, tokens: &[u32], spans: &mut [Span<'_, B>]) -> Result<B::Hidden> {
        let backend = &self.backend;
        let mut x = backend.embed(&self.embedding, tokens)?;
        if let Some(factor) = self.config.embedding_scale {
            backend.scale(&mut x, factor)?;
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            let normed = backend.apply_norm(&block.attention_norm, &x)?;
            let qkv = backend.apply(&block.qkv, &normed)?;
            let attended = self.attend(qkv, spans, layer)?;
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

    /// Each text sees itself only.
    fn attend(&self, qkv: B::Hidden, spans: &mut [Span<'_, B>], layer: usize) -> Result<B::Hidden> {
        let attention = self.attention(&self.blocks[layer]);
        if let [only] = spans {
            return self.backend.attend(qkv, &mut only.layers[layer], &attention, only.start);
        }
        let mut first = 0;
        let mut parts = Vec::with_capacity(spans.len());
        for span in spans {
            let rows = self.backend.rows(&qkv, std::slice::from_ref(&(first..first + span.count)))?;
            parts.push(self.backend.attend(rows, &mut span.layers[layer], &attention, span.start)?);
            first += span.count;
        }
        self.backend.join(parts)
    }

    #[cfg(feature = "train")]
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    #[cfg(feature = "train")]
    pub(crate) fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
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

    fn can_verify(&self) -> bool {
        B::ROWS_STAND_ALONE
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

    fn forward_all(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>> {
        let decoder = &self.decoder;
        let mut caches: Vec<Option<&mut Cache<B>>> = self.caches.iter_mut().map(Some).collect();
        let mut tokens = Vec::with_capacity(runs.iter().map(|run| run.tokens.len()).sum());
        let mut spans = Vec::with_capacity(runs.len());
        for run in runs {
            let Some(cache) = caches.get_mut(run.slot).and_then(Option::take) else {
                candle_core::bail!("two runs in the cache {}", run.slot)
            };
            let (start, count) = (cache.len, run.tokens.len());
            debug_assert!(run.rows <= count && start + count <= decoder.context);
            tokens.extend_from_slice(run.tokens);
            // What a failed pass left behind is not in the length.
            spans.push((Span { layers: &mut cache.layers, start, count, wanted: run.rows }, &mut cache.len));
        }
        let (mut spans, lengths): (Vec<_>, Vec<_>) = spans.into_iter().unzip();
        let logits = decoder.backend.run(|| decoder.forward(&tokens, &mut spans))?;
        for (length, run) in lengths.into_iter().zip(runs) {
            *length += run.tokens.len();
        }
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
