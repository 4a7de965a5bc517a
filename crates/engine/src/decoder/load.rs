//! A decoder out of the tensors of a file.

use super::{Decoder, Mixer, Part, numbered};
use crate::backend::{Backend, RopeTable, StateSpace};
use crate::config::{self, Activation, Config, NormKind, Rope, StateSpaceShape};
use crate::error::LoadError;
use crate::weights::{Checkpoint, RawTensor};

impl<B: Backend> Decoder<B> {
    /// Takes the weights out of `checkpoint` as `config` says.
    pub(crate) fn load(
        backend: B,
        config: Config,
        context: usize,
        checkpoint: &Checkpoint,
    ) -> Result<Self, LoadError> {
        let source = Source { backend: &backend, config: &config, checkpoint };
        let names = config.names;
        // Not reserved: the number of layers is a claim of the file until their tensors were found.
        let mut parts = Vec::new();
        let (mut caches, mut states) = (0, 0);
        let next = |count: &mut usize| {
            *count += 1;
            *count - 1
        };
        for layer in 0..config.layers {
            let Some(hybrid) = &config.hybrid else {
                parts.push(source.attention(layer, next(&mut caches))?);
                parts.push(source.feed_forward(layer)?);
                continue;
            };
            parts.push(match hybrid.layers[layer] {
                config::Mixer::Attention => source.attention(layer, next(&mut caches))?,
                config::Mixer::FeedForward => source.feed_forward(layer)?,
                config::Mixer::StateSpace => source.state_space(layer, &hybrid.space, next(&mut states))?,
            });
        }

        let embedding = source.weight(names.embedding, 0, config.vocabulary, config.hidden)?;
        let output = output_matrix(&config, checkpoint, &embedding)?;
        let rotary = config.attention.rotary_dim;
        let rope = |rope: &Rope| backend.rope(rope_table(rope, rotary, context));
        Ok(Self {
            embedding: backend.embedding(embedding)?,
            parts,
            output_norm: source.norm(names.output_norm, 0, config.hidden)?,
            output: backend.linear(vec![output], None)?,
            rope: (rotary > 0).then(|| rope(&config.rope)).transpose()?,
            local_rope: config.local.as_ref().map(|local| rope(&local.rope)).transpose()?,
            context,
            config,
            backend,
        })
    }
}

/// Where weights come from.
struct Source<'a, B: Backend> {
    backend: &'a B,
    config: &'a Config,
    checkpoint: &'a Checkpoint,
}

impl<B: Backend> Source<'_, B> {
    fn weight(&self, name: &str, layer: usize, rows: usize, width: usize) -> Result<RawTensor, LoadError> {
        self.checkpoint.get(&format!("{}.weight", numbered(name, layer)), &[rows, width])
    }

    /// Matrices whose outputs stand side by side.
    fn linear(
        &self,
        parts: &[(&str, usize)],
        layer: usize,
        width: usize,
        biased: bool,
    ) -> Result<B::Linear, LoadError> {
        let weights = parts.iter().map(|&(name, rows)| self.weight(name, layer, rows, width));
        let weights = weights.collect::<Result<_, _>>()?;
        let bias = linear_bias(self.checkpoint, parts, layer, biased)?;
        Ok(self.backend.linear(weights, bias)?)
    }

    fn norm(&self, name: &str, layer: usize, width: usize) -> Result<B::Norm, LoadError> {
        let config = self.config;
        let name = numbered(name, layer);
        let mut scale = self.checkpoint.get(&format!("{name}.weight"), &[width])?.to_f32();
        for w in &mut scale {
            *w += config.norm_offset;
        }
        let bias = match config.family.norm {
            NormKind::Rms => Vec::new(),
            NormKind::Layer => self.checkpoint.get(&format!("{name}.bias"), &[width])?.to_f32(),
        };
        Ok(self.backend.norm(config.family.norm, config.norm_epsilon, scale, bias)?)
    }

    /// A norm that only some families have.
    fn optional_norm(
        &self,
        wanted: bool,
        name: &str,
        layer: usize,
        width: usize,
    ) -> Result<Option<B::Norm>, LoadError> {
        wanted.then(|| self.norm(name, layer, width)).transpose()
    }

    fn attention(&self, layer: usize, cache: usize) -> Result<Part<B>, LoadError> {
        let Config { names, attention, biases, family, hidden, .. } = self.config;
        let (queries, keys) = (attention.query_width(), attention.kv_width());
        let qkv = [(names.query, queries), (names.key, keys), (names.value, keys)];
        let output = [(names.attention_output, *hidden)];
        Ok(Part {
            norm: self.norm(names.attention_norm, layer, *hidden)?,
            mixer: Mixer::Attention {
                qkv: self.linear(&qkv, layer, *hidden, biases.qkv)?,
                query_norm: self.optional_norm(
                    family.query_key_norm,
                    names.query_norm,
                    layer,
                    attention.head_dim,
                )?,
                key_norm: self.optional_norm(
                    family.query_key_norm,
                    names.key_norm,
                    layer,
                    attention.head_dim,
                )?,
                output: self.linear(&output, layer, queries, biases.attention_output)?,
                window: self.config.local(layer).map(|local| local.window),
                cache,
            },
            post_norm: self.optional_norm(family.post_norm, names.post_attention_norm, layer, *hidden)?,
        })
    }

    fn feed_forward(&self, layer: usize) -> Result<Part<B>, LoadError> {
        let Config { names, biases, family, hidden, feed_forward, .. } = self.config;
        let up: &[_] = match family.activation {
            Activation::ReluSquared => &[(names.up, *feed_forward)],
            Activation::SiluGate | Activation::GeluGate => {
                &[(names.gate, *feed_forward), (names.up, *feed_forward)]
            }
        };
        Ok(Part {
            norm: self.norm(names.feed_forward_norm, layer, *hidden)?,
            mixer: Mixer::FeedForward {
                up: self.linear(up, layer, *hidden, biases.feed_forward)?,
                down: self.linear(&[(names.down, *hidden)], layer, *feed_forward, biases.feed_forward)?,
            },
            post_norm: self.optional_norm(family.post_norm, names.post_feed_forward_norm, layer, *hidden)?,
        })
    }

    fn state_space(&self, layer: usize, shape: &StateSpaceShape, state: usize) -> Result<Part<B>, LoadError> {
        let (file, names, hidden) = (self.checkpoint, &self.config.names.space, self.config.hidden);
        let heads = shape.heads;
        let numbers = |name: &str, shapes: &[&[usize]]| file.numbers(&numbered(name, layer), shapes);
        // GGUF has them as columns.
        let of_heads = |name: &str| numbers(name, &[&[heads], &[heads, 1]]);
        let mut decay = of_heads(names.decay)?;
        if shape.logarithmic_decay {
            for rate in &mut decay {
                *rate = -rate.exp();
            }
        }
        let (inner, channels, kernel) = (shape.inner(), shape.channels(), shape.kernel);
        let bias = format!("{}.bias", numbered(names.convolution, layer));
        let has_bias = shape.convolution_bias || file.tensors.contains_key(&bias);
        let by_channel = numbers(
            &format!("{}.weight", names.convolution),
            &[&[channels, kernel], &[channels, 1, kernel]],
        )?;
        let by_position = (0..kernel).flat_map(|k| by_channel.iter().skip(k).step_by(kernel));
        let groups = shape.groups;
        let weights = StateSpace {
            convolution: by_position.copied().collect(),
            convolution_bias: if has_bias {
                file.numbers(&bias, &[&[channels]])?
            } else {
                vec![0.0; channels]
            },
            step_bias: of_heads(names.step)?,
            decay,
            skip: of_heads(names.skip)?,
            norm: numbers(&format!("{}.weight", names.norm), &[&[inner], &[groups, inner / groups]])?,
            epsilon: self.config.norm_epsilon,
        };
        Ok(Part {
            norm: self.norm(self.config.names.attention_norm, layer, hidden)?,
            mixer: Mixer::StateSpace {
                input: self.linear(&[(names.input, shape.projected())], layer, hidden, shape.biased)?,
                space: self.backend.state_space(shape, weights)?,
                output: self.linear(&[(names.output, hidden)], layer, inner, shape.biased)?,
                state,
            },
            post_norm: None,
        })
    }
}

/// The biases of matrices whose outputs stand side by side: all of them where the configuration says so, else those
/// that are in the file, because weights must not be left out unnoticed. `None` where there are none at all.
fn linear_bias(
    checkpoint: &Checkpoint,
    parts: &[(&str, usize)],
    layer: usize,
    required: bool,
) -> Result<Option<Vec<f32>>, LoadError> {
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
) -> Result<RawTensor, LoadError> {
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
