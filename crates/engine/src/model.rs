//! A model: weights on a device, and the tokenizer that belongs to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::backend::Recordings;
#[cfg(feature = "cuda")]
use crate::backend::cuda::Cuda;
use crate::backend::host::Host;
use crate::backend::tensors::Tensors;
use crate::blend::{self, Blend, Evidence, Guess};
use crate::config::{Config, Mixer};
use crate::decoder::{Decoder, Network, SNAPSHOTS, Session};
use crate::device::{self, DeviceChoice};
use crate::error::{EngineError, LoadError};
use crate::progress::Progress;
use crate::quantise::{Kept, Plan, Quantisation, Shelf};
use crate::tokenizer::{FillIn, Tokens, TokensConfig};
use crate::weights::gguf::read_gguf;
use crate::weights::{self, Bytes, Checkpoint, Origin};

/// Positions to run with when neither the model nor the caller asks for fewer.
const DEFAULT_CONTEXT: usize = 4096;
/// Models below this size run on one thread: waking a second one costs more than it saves.
const ONE_THREAD_BYTES: usize = 32 << 20;
/// Threads to use for larger ones when the caller does not say; a shell helper shares its cores.
const MOST_THREADS: usize = 8;

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A Hugging Face directory: `config.json`, `tokenizer.json`, and `model.safetensors` (or an index of shards, or
    /// `pytorch_model.bin`), and `blend.safetensors` where the model has one. A directory that holds a single GGUF file and no `config.json` is that file.
    Directory(PathBuf),
    /// A GGUF file. A `tokenizer.json` beside it is preferred to the vocabulary inside.
    Gguf(PathBuf),
    /// Bytes that are part of the program; weights are used in place.
    Memory {
        /// `config.json`; not looked at when the weights are GGUF.
        config: &'static [u8],
        /// safetensors or GGUF.
        weights: &'static [u8],
        /// `tokenizer.json`.
        tokenizer: &'static [u8],
        /// `blend.safetensors`, if there is one.
        blend: Option<&'static [u8]>,
    },
}

impl Source {
    /// Where it lies, unless it is part of the program.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Gguf(path) => Some(path),
            Self::Memory { .. } => None,
        }
    }
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Where to run.
    pub device: DeviceChoice,
    /// Threads on the CPU; by default one for small models, else the cores, at most eight.
    pub threads: Option<usize>,
    /// Positions at most; by default the model's context, at most 4096.
    pub max_context: Option<usize>,
    /// Quantise weights that are not quantised yet; rows that are not whole blocks stay as they are.
    pub quantise: Option<Quantisation>,
    /// Where weights that were quantised are kept for the next time. Those of a model in the program are not.
    pub keep: Option<Shelf>,
    /// Leave out counts and copies that belong to the model: the network alone.
    pub network_only: bool,
    /// Run no tokens before they are chosen. Drafts change how long a text takes, and not what it is.
    pub no_drafts: bool,
    /// Bytes of an accelerator's memory that weights and caches may take; by default all there is.
    pub device_memory: Option<u64>,
    /// Caches that will be made, for the same reckoning; one at least.
    pub caches: usize,
    /// Told how far the loading is.
    pub progress: Arc<Progress>,
}

/// Facts about a loaded model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The architecture's name in the file.
    pub architecture: String,
    /// Number of weights.
    pub parameters: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Query heads, key/value heads and the width of each.
    pub heads: (usize, usize, usize),
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// The tokens around a gap, if the model was trained to fill one.
    pub fill_in: Option<FillIn>,
    /// Positions it was loaded for.
    pub context: usize,
    /// The element type most weights have, such as "F16" or "Q4_K".
    pub quantisation: &'static str,
    /// "cpu", "cuda" or "metal".
    pub device: &'static str,
    /// Threads used on the CPU.
    pub threads: usize,
    /// Bytes of all weights as stored.
    pub weight_bytes: usize,
    /// What became of weights that were quantised while loading.
    pub kept: Kept,
}

/// A loaded model.
pub struct Model {
    info: ModelInfo,
    tokens: Tokens,
    network: Arc<dyn Network>,
    blend: Option<Blend>,
    no_drafts: bool,
}

/// What a source was found to hold.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokens: Tokens,
    /// The counts beside the weights, and their file.
    pub(crate) blend: Option<(Bytes, String)>,
}

impl Model {
    /// Loads a model.
    pub fn load(source: &Source, options: &LoadOptions) -> Result<Self, LoadError> {
        let device = options.device.open()?;
        let on_device = !device.is_cpu();
        Self::load_on(source, options, device, false).map_err(|error| match error {
            // What the library refuses there is most likely a want of memory, or of the device itself.
            LoadError::Tensor(error) if on_device => {
                LoadError::Device { device: options.device.to_string(), reason: error.to_string() }
            }
            error => error,
        })
    }

    /// Loads a model through the tensor library's CPU device rather than the host kernels.
    #[cfg(test)]
    pub(crate) fn load_through_tensors(source: &Source) -> Result<Self, LoadError> {
        Self::load_on(source, &LoadOptions::default(), Device::Cpu, true)
    }

    /// The same with options that say how.
    #[cfg(test)]
    pub(crate) fn load_through_tensors_with(
        source: &Source,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        Self::load_on(source, options, Device::Cpu, true)
    }

    fn load_on(
        source: &Source,
        options: &LoadOptions,
        device: Device,
        always_tensors: bool,
    ) -> Result<Self, LoadError> {
        let Parts { mut config, mut checkpoint, tokens, blend } = read(source)?;
        let blend = blend.filter(|_| !options.network_only);
        let blend =
            blend.map(|(bytes, file)| Blend::read(&bytes, &file, &tokens, config.vocabulary)).transpose()?;
        let parameters = checkpoint.tensors.values().map(weights::RawTensor::elements).sum();
        checkpoint.progress = Arc::clone(&options.progress);
        // Quantising goes over all of them once more.
        options.progress.expect(parameters * if options.quantise.is_some() { 2 } else { 1 });
        let mut kept = Kept::No;
        if let Some(quantisation) = options.quantise {
            let slot = match (&options.keep, source.path()) {
                (Some(shelf), Some(path)) => Some(shelf.slot(path, &checkpoint.origin, quantisation)),
                _ => None,
            };
            let about = slot.as_ref().map_or_else(Vec::new, |slot| slot.about.clone());
            match Plan::new(&config, &checkpoint, quantisation, about)? {
                Some(plan) => {
                    let threads = threads(options, plan.bytes() as usize);
                    let (quantised, what) = plan.load(slot.as_ref(), threads, &options.progress)?;
                    kept = what;
                    checkpoint = Checkpoint { progress: checkpoint.progress, ..quantised };
                    config = plan.config;
                }
                None => options.progress.expect(parameters),
            }
        }
        let context = options.max_context.unwrap_or(DEFAULT_CONTEXT).clamp(1, config.context);
        let weight_bytes = checkpoint.tensors.values().map(|tensor| tensor.bytes.len()).sum();
        let threads = threads(options, weight_bytes);
        let info = ModelInfo {
            architecture: config.architecture.clone(),
            parameters,
            layers: config.layers,
            hidden: config.hidden,
            heads: (config.attention.heads, config.attention.kv_heads, config.attention.head_dim),
            vocabulary: config.vocabulary,
            fill_in: tokens.fill_in(),
            context,
            quantisation: commonest_type(&checkpoint),
            device: device::device_name(&device),
            threads,
            weight_bytes,
            kept,
        };
        let network: Arc<dyn Network> = if device.is_cpu() && !always_tensors {
            Arc::new(Decoder::load(Host::for_weights(threads, weight_bytes)?, config, context, &checkpoint)?)
        } else {
            let needed = device_bytes(&checkpoint, &config, context, options.caches.max(1), &device);
            if let Some(allowed) = options.device_memory.filter(|&allowed| needed > allowed) {
                let device = device::device_name(&device).to_owned();
                return Err(LoadError::DeviceMemory { device, needed, allowed });
            }
            on_accelerator(device, config, context, &checkpoint)?
        };
        options.progress.finish();
        Ok(Self { info, tokens, network, blend, no_drafts: options.no_drafts })
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The token ids of a text, with the begin-of-text token in front if the model wants one. The name of a control
    /// token in the text stands for that token, as chat templates and prompts of programs have it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.tokens.encode(text)
    }

    /// The same for text that somebody else wrote, such as a command line: the name of a control token in it is text
    /// like any other.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.tokens.encode_plain(text)
    }

    /// The text of some tokens; control tokens have none, and bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.tokens.decode(tokens)
    }

    /// Whether a token has a text of its own; control tokens have none.
    pub fn has_text(&self, token: u32) -> bool {
        !self.tokens.vocabulary().bytes(token).is_empty()
    }

    /// The logits after each of `tokens`, which are taken as they are: one row of vocabulary size a position.
    ///
    /// # Errors
    /// Where a token is none of the vocabulary, or the context too short.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.logits_by(tokens, tokens.len())
    }

    /// The same with `at_once` tokens in a pass at most, as different kernels take few rows and many.
    ///
    /// # Errors
    /// Those of [`Model::logits`].
    pub fn logits_by(&self, tokens: &[u32], at_once: usize) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(tokens)?;
        let mut session = self.session(1)?;
        let mut rows = Vec::with_capacity(tokens.len());
        for some in tokens.chunks(at_once.max(1)) {
            let logits = session.forward(0, some, some.len())?;
            rows.extend(logits.chunks_exact(self.info.vocabulary).map(<[f32]>::to_vec));
        }
        Ok(rows)
    }

    /// Refuses tokens that the network cannot take.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), EngineError> {
        let vocabulary = self.info.vocabulary;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(EngineError::TokenOutOfRange { token, vocabulary });
        }
        if tokens.len() > self.info.context {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), context: self.info.context });
        }
        Ok(())
    }

    /// Makes of the network's `logits` for the token after `context` what they are with the counts and copies that belong
    /// to the model, if any do.
    pub(crate) fn blend(&self, context: &[u32], logits: &mut [f32], evidence: &mut Evidence) {
        if let Some(blend) = &self.blend {
            blend.apply(context, logits, evidence);
        }
    }

    /// Whether tokens may be run before it is known that they come next.
    pub(crate) fn drafts(&self) -> bool {
        !self.no_drafts && self.network.can_verify()
    }

    /// Whether the most likely token of a row may be asked for rather than all logits: it is cheaper, and nothing changes them.
    pub(crate) fn chooses(&self) -> bool {
        self.blend.is_none() && self.network.chooses()
    }

    /// What a card has recorded of passes; `None` elsewhere.
    pub fn recordings(&self) -> Option<Recordings> {
        self.network.recordings()
    }

    /// Whether the weights stay in the order in which they are multiplied.
    pub(crate) fn keeps_order(&self) -> bool {
        self.network.keeps_order()
    }

    /// What the token after `context` may be, found without the network.
    pub(crate) fn guess(&self, context: &[u32], evidence: &mut Evidence) -> Option<Guess> {
        match &self.blend {
            Some(blend) => blend.guess(context, evidence),
            None => blend::guess_copy(context, evidence),
        }
    }

    /// What counts and copies say about the token after `context`; `None` where the model has none.
    #[cfg(feature = "train")]
    pub fn evidence(&self, context: &[u32]) -> Option<Evidence> {
        let mut evidence = Evidence::default();
        self.blend.as_ref()?.weigh_evidence(context, &mut evidence);
        Some(evidence)
    }

    /// Whether a line ends with this token, in the eyes of the counts.
    #[cfg(feature = "train")]
    pub fn ends_line(&self, token: u32) -> bool {
        self.blend.as_ref().is_some_and(|blend| blend.ends_line(token))
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    pub(crate) fn session(&self, slots: usize) -> candle_core::Result<Box<dyn Session>> {
        Arc::clone(&self.network).session(slots)
    }
}

/// Bytes that weights and so many caches of so many positions take on an accelerator.
fn device_bytes(
    checkpoint: &Checkpoint,
    config: &Config,
    context: usize,
    caches: usize,
    device: &Device,
) -> u64 {
    let number = device::working_type(device, is_quantised(checkpoint)).size_in_bytes();
    let weights = checkpoint.tensors.values().map(|tensor| {
        let stays = tensor.element.is_quantised() || device.is_cuda();
        if stays { tensor.bytes.len() } else { tensor.elements() * number }
    });
    // The sizes are claims of a file, so their product may be any number.
    let product = |sizes: &[usize]| sizes.iter().fold(1_u64, |all, &size| all.saturating_mul(size as u64));
    let keys = [2, context, caches, config.attention_layers(), config.attention.kv_width(), number];
    let states = config.hybrid.as_ref().map_or(0, |hybrid| {
        let layers = hybrid.count(Mixer::StateSpace);
        product(&[1 + SNAPSHOTS, caches, layers, hybrid.space.memory(), DType::F32.size_in_bytes()])
    });
    product(&keys).saturating_add(states).saturating_add(weights.sum::<usize>() as u64)
}

/// The network on an accelerator; also on the library's processor, as tests have it.
fn on_accelerator(
    device: Device,
    config: Config,
    context: usize,
    checkpoint: &Checkpoint,
) -> Result<Arc<dyn Network>, LoadError> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(card) = device {
        return Ok(Arc::new(Decoder::load(Cuda::new(card)?, config, context, checkpoint)?));
    }
    let dtype = device::working_type(&device, is_quantised(checkpoint));
    Ok(Arc::new(Decoder::load(Tensors::new(device, dtype), config, context, checkpoint)?))
}

fn is_quantised(checkpoint: &Checkpoint) -> bool {
    checkpoint.tensors.values().any(|tensor| tensor.element.is_quantised())
}

/// Threads to use for so many bytes of weights.
fn threads(options: &LoadOptions, weight_bytes: usize) -> usize {
    options.threads.unwrap_or_else(|| default_threads(weight_bytes)).max(1)
}

fn default_threads(weight_bytes: usize) -> usize {
    if weight_bytes < ONE_THREAD_BYTES {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// The element type that holds most of the weights.
fn commonest_type(checkpoint: &Checkpoint) -> &'static str {
    let mut sizes = std::collections::BTreeMap::new();
    for tensor in checkpoint.tensors.values() {
        *sizes.entry(tensor.element.name()).or_insert(0) += tensor.elements();
    }
    sizes.into_iter().max_by_key(|&(_, size)| size).map_or("none", |(name, _)| name)
}

pub(crate) fn read(source: &Source) -> Result<Parts, LoadError> {
    match source {
        Source::Directory(path) => read_directory(path),
        Source::Gguf(path) => {
            let file = path.display().to_string();
            let beside = path.with_file_name("tokenizer.json");
            let tokenizer = if beside.is_file() { Some(beside) } else { None };
            let tokenizer = tokenizer.as_deref().map(read_file).transpose()?;
            let origin = vec![Origin::of(path)?];
            let mut parts = from_gguf(&Bytes::map(path)?, &file, tokenizer.as_deref())?;
            parts.checkpoint.origin = origin;
            Ok(parts)
        }
        &Source::Memory { config, weights, tokenizer, blend } => {
            let file = "built-in model";
            let bytes = Bytes::from_static(weights);
            if weights.starts_with(b"GGUF") {
                return from_gguf(&bytes, file, Some(tokenizer));
            }
            let mut tensors = std::collections::HashMap::new();
            weights::read_safetensors(&bytes, file, &mut tensors)?;
            let checkpoint = Checkpoint::new(file.to_owned(), tensors);
            let config = Config::from_json(config, file)?;
            let tokens = Tokens::from_json(tokenizer, file, &tokens_config(&config, &checkpoint)?)?;
            let blend = blend.map(|bytes| (Bytes::from_static(bytes), file.to_owned()));
            Ok(Parts { config, checkpoint, tokens, blend })
        }
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Io { path: path.to_path_buf(), source })
}

fn read_directory(path: &Path) -> Result<Parts, LoadError> {
    let not_a_model = |missing| LoadError::NotAModel { path: path.to_path_buf(), missing };
    let config_path = path.join("config.json");
    if !config_path.is_file() {
        if let Some(gguf) = only_gguf(path)? {
            return read(&Source::Gguf(gguf));
        }
        return Err(not_a_model("config.json"));
    }
    let config = Config::from_json(&read_file(&config_path)?, &config_path.display().to_string())?;
    let single = path.join("model.safetensors");
    let index = path.join("model.safetensors.index.json");
    let pickle = path.join("pytorch_model.bin");
    let checkpoint = if single.is_file() {
        let file = single.display().to_string();
        let mut tensors = std::collections::HashMap::new();
        let origin = vec![Origin::of(&single)?];
        weights::read_safetensors(&Bytes::map(&single)?, &file, &mut tensors)?;
        Checkpoint { origin, ..Checkpoint::new(file, tensors) }
    } else if index.is_file() {
        weights::read_sharded(&index)?
    } else if pickle.is_file() {
        weights::read_pickle(&pickle)?
    } else {
        return Err(not_a_model("model.safetensors, model.safetensors.index.json or pytorch_model.bin"));
    };
    let tokenizer = path.join("tokenizer.json");
    if !tokenizer.is_file() {
        let reason = "tokenizer.json is missing".to_owned();
        return Err(LoadError::MissingTokenizer { file: path.display().to_string(), reason });
    }
    let settings = path.join("tokenizer_config.json");
    let mut tokens_config = tokens_config(&config, &checkpoint)?;
    if settings.is_file() {
        tokens_config.read_settings(&read_file(&settings)?, &settings.display().to_string())?;
    }
    let tokens =
        Tokens::from_json(&read_file(&tokenizer)?, &tokenizer.display().to_string(), &tokens_config)?;
    let blend = path.join(blend::FILE);
    let blend = if blend.is_file() { Some((Bytes::map(&blend)?, blend.display().to_string())) } else { None };
    Ok(Parts { config, checkpoint, tokens, blend })
}

/// What the configuration says about tokens. That there are so many of them is a claim until their rows are found.
fn tokens_config(config: &Config, checkpoint: &Checkpoint) -> Result<TokensConfig, LoadError> {
    checkpoint.get(&format!("{}.weight", config.names.embedding), &[config.vocabulary, config.hidden])?;
    Ok(TokensConfig::new(config))
}

/// The GGUF file of a directory that holds exactly one.
fn only_gguf(directory: &Path) -> Result<Option<PathBuf>, LoadError> {
    let io = |source| LoadError::Io { path: directory.to_path_buf(), source };
    let mut found = None;
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            if found.is_some() {
                return Ok(None);
            }
            found = Some(path);
        }
    }
    Ok(found)
}

fn from_gguf(bytes: &Bytes, file: &str, tokenizer: Option<&[u8]>) -> Result<Parts, LoadError> {
    let gguf = read_gguf(bytes, file)?;
    let divisors = gguf.checkpoint.tensors.get("rope_freqs.weight").map(weights::RawTensor::to_f32);
    let config = Config::from_gguf(&gguf.metadata, divisors)?;
    let mut tokens_config = tokens_config(&config, &gguf.checkpoint)?;
    tokens_config.read_metadata(&gguf.metadata)?;
    let tokens = match tokenizer {
        Some(json) => Tokens::from_json(json, file, &tokens_config)?,
        None => Tokens::from_gguf(&gguf.metadata, &tokens_config)?,
    };
    Ok(Parts { config, checkpoint: gguf.checkpoint, tokens, blend: None })
}
