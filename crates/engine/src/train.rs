//! Training: the same decoder with gradients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Normal};

use crate::backend::differentiable::{Differentiable, Segments, dropout};
pub use crate::blend::Evidence;
pub use crate::blend::build::Counts;
use crate::config::{Activation, Config, NormKind};
pub use crate::decoder::parameters::{Parameter, Role};
use crate::decoder::{Decoder, Span};
use crate::device::DeviceChoice;
use crate::error::{EngineError, LoadError};
use crate::model::{self, Source};
use crate::tokenizer::{Tokens, TokensConfig};
use crate::weights::{Bytes, Checkpoint, ElementType, RawTensor};

/// Deviation of the weights before training, as GPT-2 has it; matrices that add to the hidden state get less, by the
/// root of twice the number of layers.
const INITIAL_DEVIATION: f32 = 0.02;

/// The shape of the weights that [`Counts::write`] takes: without and with a comment before, orders from 0, matches from 0,
/// copies and counts.
pub const GATES: [usize; 4] = crate::blend::GATES;
/// The name of the file that [`Counts::write`] writes.
pub const BLEND: &str = crate::blend::FILE;

/// Texts that are run in one pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The tokens of all texts, one text after the other.
    pub tokens: Vec<u32>,
    /// How many tokens each text has.
    pub lengths: Vec<usize>,
    /// What is to be learnt: the row of `tokens`, the token that follows it, and how much that counts.
    pub targets: Vec<(u32, u32, f32)>,
    /// Decides what dropout leaves out.
    pub seed: u64,
}

/// A model whose weights are variables.
pub struct Trainable {
    decoder: Decoder<Differentiable>,
    tokens: Tokens,
    parameters: Vec<Parameter>,
    layers: usize,
    context: usize,
}

impl Trainable {
    /// Goes on from the weights of a Hugging Face directory.
    pub fn load(directory: &Path, device: DeviceChoice) -> std::result::Result<Self, LoadError> {
        let parts = model::read(&Source::Directory(directory.to_path_buf()))?;
        Self::new(parts.config, &parts.checkpoint, parts.tokens, Differentiable::new(device.open()?))
    }

    /// Begins with random weights for the `config.json` and `tokenizer.json` of a directory.
    pub fn fresh(directory: &Path, device: DeviceChoice, seed: u64) -> std::result::Result<Self, LoadError> {
        let path = |name: &str| -> PathBuf { directory.join(name) };
        let (config_path, tokenizer_path) = (path("config.json"), path("tokenizer.json"));
        let config = Config::from_json(&model::read_file(&config_path)?, &config_path.display().to_string())?;
        let tokens = Tokens::from_json(
            &model::read_file(&tokenizer_path)?,
            &tokenizer_path.display().to_string(),
            &TokensConfig::new(&config),
        )?;
        let checkpoint = initial(&config, seed);
        Self::new(config, &checkpoint, tokens, Differentiable::new(device.open()?))
    }

    fn new(
        config: Config,
        checkpoint: &Checkpoint,
        tokens: Tokens,
        backend: Differentiable,
    ) -> std::result::Result<Self, LoadError> {
        let tied = config
            .tied
            .unwrap_or(!checkpoint.tensors.contains_key(&format!("{}.weight", config.names.output)));
        let what = match &config.family {
            family if family.hybrid => Some("training state-space layers"),
            _ if tied => Some("training an output matrix that is the embedding table"),
            family if family.query_key_norm || family.post_norm => {
                Some("training norms of queries, keys and outputs")
            }
            _ => None,
        };
        if let Some(what) = what {
            return Err(LoadError::Unsupported { file: checkpoint.file.clone(), what: what.to_owned() });
        }
        let (layers, context) = (config.layers, config.context);
        let decoder = Decoder::load(backend, config, context, checkpoint)?;
        let parameters = decoder.parameters();
        Ok(Self { decoder, tokens, parameters, layers, context })
    }

    /// The variables.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Positions that a text may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Leaves out this share of what each layer adds, from 0 to less than 1, whenever a loss is computed.
    pub fn set_dropout(&mut self, share: f32) {
        self.decoder.backend_mut().dropout = share.clamp(0.0, 0.9);
    }

    /// As [`crate::Model::encode_plain`].
    pub fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, EngineError> {
        self.tokens.encode_plain(text)
    }

    /// The id of the token with this name, a control token's too.
    pub fn token(&self, name: &str) -> Option<u32> {
        self.tokens.id(name)
    }

    /// The mean over the targets of weight times negative log-probability: a scalar with gradients.
    pub fn loss(&self, batch: &Batch) -> Result<Tensor> {
        dropout::seed(batch.seed);
        let segments = Segments(batch.lengths.clone().into());
        let mut caches = vec![segments; self.layers];
        let count = batch.tokens.len();
        let mut spans =
            [Span { caches: &mut caches, states: &mut [], mark: None, start: 0, count, wanted: 0 }];
        let hidden = self.decoder.hidden(&batch.tokens, &mut spans)?;
        // The output matrix is the largest; rows that nothing is learnt from do not pass through it.
        let rows: Vec<u32> = batch.targets.iter().map(|&(row, _, _)| row).collect();
        let hidden = hidden.index_select(&Tensor::new(rows, self.decoder.backend().device())?, 0)?;
        let logits = self.decoder.logits(hidden)?;
        let (targets, weights): (Vec<u32>, Vec<f32>) =
            batch.targets.iter().map(|&(_, target, weight)| (target, weight)).unzip();
        self.decoder.backend().cross_entropy(&logits, &targets, &weights)
    }

    /// The mean loss of some batches and its gradients, in the order of [`Trainable::parameters`]. Each batch has a
    /// thread of its own.
    pub fn gradients(&self, batches: &[Batch]) -> Result<(f32, Vec<Tensor>)> {
        let one = |batch: &Batch| -> Result<(f32, Vec<Tensor>)> {
            let loss = self.loss(batch)?;
            let mut store = loss.backward()?;
            let gradients = self.parameters.iter().map(|parameter| match store.remove(&parameter.var) {
                Some(gradient) => Ok(gradient),
                None => parameter.var.zeros_like(),
            });
            Ok((loss.to_scalar()?, gradients.collect::<Result<_>>()?))
        };
        let results: Vec<Result<(f32, Vec<Tensor>)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = batches.iter().map(|batch| scope.spawn(move || one(batch))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let share = 1.0 / batches.len() as f64;
        let mut results = results.into_iter();
        let Some(first) = results.next() else { candle_core::bail!("no batches") };
        let (mut loss, mut sums) = first?;
        for result in results {
            let (other, gradients) = result?;
            loss += other;
            for (sum, gradient) in sums.iter_mut().zip(gradients) {
                *sum = (&*sum + gradient)?;
            }
        }
        let scaled = sums.into_iter().map(|sum| sum * share).collect::<Result<_>>()?;
        Ok((loss * share as f32, scaled))
    }

    /// Writes the weights as safetensors, in f16 or f32.
    pub fn save(&self, path: &Path, dtype: DType) -> Result<()> {
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for parameter in &self.parameters {
            let mut first = 0;
            for (name, rows) in &parameter.tensors {
                let part = parameter.var.narrow(0, first, *rows)?;
                let part = (part - f64::from(parameter.offset))?.to_dtype(dtype)?.to_device(&Device::Cpu)?;
                tensors.insert(name.clone(), part.contiguous()?);
                first += rows;
            }
        }
        candle_core::safetensors::save(&tensors, path)
    }
}

/// Random weights.
fn initial(config: &Config, seed: u64) -> Checkpoint {
    let mut rng = StdRng::seed_from_u64(seed);
    let names = config.names;
    let (queries, keys) = (config.attention.query_width(), config.attention.kv_width());
    let (hidden, feed_forward) = (config.hidden, config.feed_forward);
    let mut tensors = HashMap::new();
    let mut insert = |name: String, shape: Vec<usize>, values: Vec<f32>| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = RawTensor { element: ElementType::F32, shape, bytes: Bytes::from_vec(bytes) };
        tensors.insert(name, tensor);
    };
    let mut matrix = |name: String, rows: usize, width: usize, deviation: f32| {
        let values = match Normal::new(0.0, deviation) {
            Ok(normal) => (0..rows * width).map(|_| normal.sample(&mut rng)).collect(),
            Err(_) => vec![0.0; rows * width],
        };
        insert(format!("{name}.weight"), vec![rows, width], values);
    };
    let residual = INITIAL_DEVIATION / (2.0 * config.layers as f32).sqrt();
    matrix(names.embedding.to_owned(), config.vocabulary, hidden, INITIAL_DEVIATION);
    matrix(names.output.to_owned(), config.vocabulary, hidden, INITIAL_DEVIATION);
    let mut norms = vec![names.output_norm.to_owned()];
    for layer in 0..config.layers {
        let name = |name: &str| crate::decoder::numbered(name, layer);
        norms.extend([name(names.attention_norm), name(names.feed_forward_norm)]);
        matrix(name(names.query), queries, hidden, INITIAL_DEVIATION);
        matrix(name(names.key), keys, hidden, INITIAL_DEVIATION);
        matrix(name(names.value), keys, hidden, INITIAL_DEVIATION);
        matrix(name(names.attention_output), hidden, queries, residual);
        if config.family.activation != Activation::ReluSquared {
            matrix(name(names.gate), feed_forward, hidden, INITIAL_DEVIATION);
        }
        matrix(name(names.up), feed_forward, hidden, INITIAL_DEVIATION);
        matrix(name(names.down), hidden, feed_forward, residual);
    }
    for norm in norms {
        insert(format!("{norm}.weight"), vec![hidden], vec![1.0 - config.norm_offset; hidden]);
        if config.family.norm == NormKind::Layer {
            insert(format!("{norm}.bias"), vec![hidden], vec![0.0; hidden]);
        }
    }
    Checkpoint::new("random weights".to_owned(), tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LoadOptions, Model};

    fn embedded() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini")
    }

    fn trainable(backend: Differentiable, directory: &Path) -> Trainable {
        let parts = model::read(&Source::Directory(directory.to_path_buf())).unwrap();
        Trainable::new(parts.config, &parts.checkpoint, parts.tokens, backend).unwrap()
    }

    /// Two texts, with every token but the first as a target.
    fn batch(model: &Trainable) -> Batch {
        let mut batch = Batch::default();
        for text in ["git commit -m 'x'", "find . -name '*.rs' | xargs wc -l"] {
            let tokens = model.encode(text).unwrap();
            let first = batch.tokens.len() as u32;
            let targets = tokens.windows(2).enumerate();
            batch
                .targets
                .extend(targets.map(|(i, pair)| (first + i as u32, pair[1], 1.0 + 0.5 * (i % 2) as f32)));
            batch.lengths.push(tokens.len());
            batch.tokens.extend(tokens);
        }
        batch
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_loss_is_that_of_the_model_that_completes() {
        let model = Model::load(&Source::Directory(embedded()), &LoadOptions::default()).unwrap();
        let trainable = trainable(Differentiable::new(Device::Cpu), &embedded());
        let batch = batch(&trainable);
        let mut logits = Vec::new();
        let mut first = 0;
        for &length in &batch.lengths {
            logits.extend(model.logits(&batch.tokens[first..first + length]).unwrap());
            first += length;
        }
        let expected: f32 = batch
            .targets
            .iter()
            .map(|&(row, target, weight)| {
                let row = &logits[row as usize];
                (crate::kernels::math::log_sum_exp(row) - row[target as usize]) * weight
            })
            .sum::<f32>()
            / batch.targets.len() as f32;
        let loss: f32 = trainable.loss(&batch).unwrap().to_scalar().unwrap();
        assert!((loss - expected).abs() < 1e-3, "{loss} and {expected}");
    }

    #[test]
    fn gradients_are_those_that_the_library_finds() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        for directory in [embedded(), fixtures.join("llama-8-1")].iter().filter(|path| path.exists()) {
            let fused = trainable(Differentiable::new(Device::Cpu), directory);
            let plain = trainable(Differentiable::unfused(), directory);
            let batch = batch(&fused);
            let (loss, gradients) = fused.gradients(std::slice::from_ref(&batch)).unwrap();
            let (plain_loss, plain_gradients) = plain.gradients(&[batch.clone(), batch]).unwrap();
            assert!((loss - plain_loss).abs() < 1e-4, "{loss} and {plain_loss}");
            for ((a, b), parameter) in gradients.iter().zip(&plain_gradients).zip(fused.parameters()) {
                let size: f32 = b.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
                assert!(size > 0.0, "{:?} has no gradient", parameter.tensors);
                let difference = largest_difference(a, b);
                assert!(
                    difference < 1e-3 * size.max(1e-3),
                    "{:?}: {difference} of {size}",
                    parameter.tensors
                );
            }
        }
    }

    #[test]
    fn a_step_along_the_gradient_lowers_the_loss_as_it_says() {
        let model = trainable(Differentiable::new(Device::Cpu), &embedded());
        let batch = batch(&model);
        let (loss, gradients) = model.gradients(std::slice::from_ref(&batch)).unwrap();
        let square = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let slope: f32 = gradients.iter().map(square).sum();
        let step = 1e-3 / slope;
        for (parameter, gradient) in model.parameters().iter().zip(&gradients) {
            let moved = (parameter.var.as_tensor() - (gradient * f64::from(step)).unwrap()).unwrap();
            parameter.var.set(&moved).unwrap();
        }
        let lowered = loss - model.loss(&batch).unwrap().to_scalar::<f32>().unwrap();
        assert!((lowered / 1e-3 - 1.0).abs() < 0.2, "{lowered} instead of 1e-3");
    }

    #[test]
    fn what_can_not_be_trained_is_refused() {
        for fixture in ["qwen2-tied", "gemma3-3-1", "qwen3-3-1", "nemotron-h-3-1"] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
            let refused = Trainable::load(&directory, DeviceChoice::Cpu).err().unwrap().to_string();
            assert!(refused.contains("training"), "{refused}");
        }
    }

    #[test]
    fn what_was_saved_is_what_was_trained() {
        let model = trainable(Differentiable::new(Device::Cpu), &embedded());
        let directory = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json"] {
            std::fs::copy(embedded().join(file), directory.path().join(file)).unwrap();
        }
        model.save(&directory.path().join("model.safetensors"), DType::F32).unwrap();
        let saved = trainable(Differentiable::new(Device::Cpu), directory.path());
        for (a, b) in model.parameters().iter().zip(saved.parameters()) {
            assert_eq!(a.tensors, b.tensors);
            assert!(largest_difference(&a.var, &b.var) < 1e-6);
        }
        let fresh = Trainable::fresh(&embedded(), DeviceChoice::Cpu, 1).unwrap();
        let loss: f32 = fresh.loss(&batch(&fresh)).unwrap().to_scalar().unwrap();
        assert!((loss / 4096_f32.ln() / 1.25 - 1.0).abs() < 0.1, "random weights know nothing: {loss}");
    }
}
