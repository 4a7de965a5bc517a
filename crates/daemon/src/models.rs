//! Which models there are: the embedded one, and those a person names.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Once, OnceLock},
};

use lzma_rust2::XzReader;
use nemoterm_engine::{
    DeviceChoice, Kept, LoadError, LoadOptions, Model, Progress, Quantisation, Shelf, Source,
};
use nemoterm_hub::{Cache, ModelId, Place};
use nemoterm_protocol::ModelStatus;
use nemoterm_suggest::{examples::Examples, lines::Lines, specs::Specs};

use crate::{cmd::loading::watch, config::Config, failure::Failure};

/// Name of the model that is part of this program.
pub const EMBEDDED: &str = "nemoterm-mini";

/// What its weights become while they are loaded, which takes a few milliseconds: with these it completes as well as with the 16
/// bits that they lie in, and reads a prompt twice as fast.
const EMBEDDED_QUANTIZE: Quantize = Quantize::Q80;

/// What it is, in a line.
pub const EMBEDDED_DESCRIPTION: &str =
    "embedded: Minitron architecture, 3.9 M parameters, trained on shell commands";

/// What weights can be quantised to while they are loaded, by its name in the GGUF format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantize {
    /// 8.5 bits a weight
    #[value(name = "q8_0")]
    Q80,
    /// 4.5 bits a weight
    #[value(name = "q4_0")]
    Q40,
    /// 4.5 bits a weight, better than q4_0
    #[value(name = "q4_k")]
    Q4K,
    /// 6.6 bits a weight
    #[value(name = "q6_k")]
    Q6K,
}

impl Quantize {
    /// Its name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q80 => "q8_0",
            Self::Q40 => "q4_0",
            Self::Q4K => "q4_k",
            Self::Q6K => "q6_k",
        }
    }

    fn engine(self) -> Quantisation {
        match self {
            Self::Q80 => Quantisation::Q8_0,
            Self::Q40 => Quantisation::Q4_0,
            Self::Q4K => Quantisation::Q4K,
            Self::Q6K => Quantisation::Q6K,
        }
    }
}

/// A name made into a place.
#[derive(Debug)]
pub struct Choice {
    /// What answers call the model.
    pub name: String,
    pub source: Source,
}

/// The options and subcommands that exist, whatever the model.
pub fn specs() -> Option<&'static Specs> {
    static SPECS: LazyLock<Option<Specs>> = LazyLock::new(|| {
        let table: &[u8] = include_bytes!("../../../models/nemoterm-mini/specs.fst");
        Specs::new(table).ok()
    });
    SPECS.as_ref()
}

/// Lines that others have written, for a small model.
pub fn lines() -> Option<&'static Lines> {
    static LINES: LazyLock<Option<Lines>> = LazyLock::new(|| {
        let set: &[u8] = include_bytes!("../../../models/nemoterm-mini/lines.fst");
        Lines::new(set).ok()
    });
    LINES.as_ref()
}

/// What is known with its description, whatever the model. It takes a tenth of a second to read, so that is done at the first
/// description; what nobody waits for does not wait for it, and gets nothing then.
pub fn examples(wait: bool) -> Option<&'static Examples> {
    static EXAMPLES: OnceLock<Examples> = OnceLock::new();
    static READING: Once = Once::new();
    fn read() -> Examples {
        let packed: &[u8] = include_bytes!("../../../models/nemoterm-mini/examples.tsv.xz");
        let mut text = String::new();
        if let Err(error) = XzReader::new(packed, true).read_to_string(&mut text) {
            tracing::error!("the described commands of this program can't be read: {error}");
        }
        Examples::new(text)
    }
    if wait {
        return Some(EXAMPLES.get_or_init(read));
    }
    READING.call_once(|| {
        std::thread::spawn(|| EXAMPLES.get_or_init(read));
    });
    EXAMPLES.get()
}

/// Finds the model of a name: a preset, a directory, a GGUF file or `OWNER/NAME[@REVISION][:FILE]` on the Hub.
/// Nothing is fetched.
///
/// # Errors
/// Where the name is none of these, or the model was not fetched.
pub fn resolve(name: &str) -> Result<Choice, Failure> {
    if name == EMBEDDED {
        let source = Source::Memory {
            config: include_bytes!("../../../models/nemoterm-mini/config.json"),
            weights: include_bytes!("../../../models/nemoterm-mini/model.safetensors"),
            tokenizer: include_bytes!("../../../models/nemoterm-mini/tokenizer.json"),
            blend: Some(include_bytes!("../../../models/nemoterm-mini/blend.safetensors")),
        };
        return Ok(Choice { name: name.to_owned(), source });
    }
    // A directory that is called like a preset is named by its path.
    let is_preset = nemoterm_hub::preset(name).is_some();
    let path = Path::new(name);
    let short =
        || path.file_name().map_or_else(|| name.to_owned(), |last| last.to_string_lossy().into_owned());
    if !is_preset && path.is_dir() {
        return Ok(Choice { name: short(), source: Source::Directory(path.to_path_buf()) });
    }
    if !is_preset && path.is_file() {
        return Ok(Choice { name: short(), source: Source::Gguf(path.to_path_buf()) });
    }
    if let Some(id) = hub_id(name) {
        let place = Cache::of_user().find(&id).map_err(|_| {
            Failure::new(
                format!("{name} has not been fetched"),
                format!("nemoterm model pull {name} fetches it"),
            )
        })?;
        let source = match place {
            Place::Directory(path) => Source::Directory(path),
            Place::Gguf(path) => Source::Gguf(path),
        };
        return Ok(Choice { name: name.to_owned(), source });
    }
    let looks_like_a_path = name.contains('/') || path.extension().is_some();
    Err(if looks_like_a_path {
        Failure::new(
            format!("there is no model at {name}"),
            "name a directory with config.json, a .gguf file, or OWNER/NAME on the Hub",
        )
    } else {
        Failure::new(
            format!("no model is called {name}"),
            "nemoterm model list names them; a directory or a .gguf file will do too",
        )
    })
}

/// The repository of a preset's name or of a name on the Hub. A path that exists is no such name.
pub fn hub_id(name: &str) -> Option<ModelId> {
    if let Some(preset) = nemoterm_hub::preset(name) {
        return Some(preset.model_id());
    }
    if Path::new(name).exists() { None } else { name.parse().ok() }
}

/// The absolute form of a name, so that it means the same wherever the daemon runs.
pub fn absolute(name: &str) -> String {
    if name == EMBEDDED || hub_id(name).is_some() {
        return name.to_owned();
    }
    let path = PathBuf::from(name);
    path.canonicalize().map_or_else(|_| name.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unloaded {
    pub failure: Failure,
    /// What is wrong with the accelerator, where it is at fault.
    pub device: Option<Fault>,
}

/// What is wrong with an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Whether it may have passed when it is looked at again.
    pub passes: bool,
}

impl Unloaded {
    /// The accelerator is full or lost.
    pub fn of_device(failure: Failure) -> Self {
        Self { failure, device: Some(Fault { passes: true }) }
    }

    /// It is not the accelerator.
    pub fn other(failure: Failure) -> Self {
        Self { failure, device: None }
    }
}

impl From<Failure> for Unloaded {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

/// Loads a model on the best device there is.
///
/// # Errors
/// Where the name is unknown or the files are no model; the message names the file.
pub fn load(name: &str, config: &Config) -> Result<(String, Model), Failure> {
    load_on(name, config, DeviceChoice::Auto, 1, &Arc::default()).map_err(|unloaded| unloaded.failure)
}

/// Loads a model on the processor, to see whether it is one, and shows how far that is. It must not take the accelerator's
/// memory from the daemon.
///
/// # Errors
/// As [`load`].
pub fn check(name: &str, config: &Config) -> Result<(String, Model), Failure> {
    let progress = Arc::<Progress>::default();
    let share = || Some(progress.share());
    let load = || load_on(name, config, DeviceChoice::Cpu, 1, &progress);
    watch("looking at it", share, load).map_err(|unloaded| unloaded.failure)
}

/// Loads a model on that device, in as much of its memory as the configuration allows, with so many caches to come.
///
/// # Errors
/// As [`load`], and where the device can't be used.
pub fn load_on(
    name: &str,
    config: &Config,
    device: DeviceChoice,
    caches: usize,
    progress: &Arc<Progress>,
) -> Result<(String, Model), Unloaded> {
    let choice = resolve(name)?;
    let options = LoadOptions {
        device: if config.gpu_memory == Some(0) { DeviceChoice::Cpu } else { device },
        threads: config.threads,
        quantise: config.quantize.or((name == EMBEDDED).then_some(EMBEDDED_QUANTIZE)).map(Quantize::engine),
        keep: shelf(),
        no_drafts: config.no_drafts,
        device_memory: config.gpu_memory.map(|mib| mib << 20),
        caches,
        progress: Arc::clone(progress),
        ..LoadOptions::default()
    };
    let model = Model::load(&choice.source, &options).map_err(|error| {
        let limited = matches!(error, LoadError::DeviceMemory { .. });
        let hint = if limited {
            "nemoterm config set gpu_memory MIB allows more; a quantised or a smaller model takes less"
        } else if error.is_of_device() {
            "nvidia-smi tells what else runs there"
        } else {
            "nemoterm model list names models that work here"
        };
        let device = error.is_of_device().then_some(Fault { passes: !limited });
        Unloaded { failure: Failure::new(error.to_string(), hint), device }
    })?;
    match &model.info().kept {
        Kept::Made { path, instead: None } => tracing::info!(?path, "kept the quantised weights"),
        Kept::Made { path, instead: Some(why) } => {
            tracing::warn!(?path, why, "made the quantised weights anew, and kept them");
        }
        Kept::Failed(why) => tracing::warn!(why, "the quantised weights can't be kept"),
        Kept::Found(_) | Kept::No => {}
    }
    Ok((choice.name, model))
}

/// Where quantised weights are kept: `nemoterm/quantised` in the user's cache directory. `None` without a home.
pub fn shelf() -> Option<Shelf> {
    Some(Shelf::at(nemoterm_protocol::runtime::cache_dir()?.join("quantised")))
}

/// Why a model's quantised weights could not be kept.
pub fn not_kept(model: &Model) -> Option<String> {
    match &model.info().kept {
        Kept::Failed(why) => Some(why.clone()),
        _ => None,
    }
}

/// Whether the processor writes with a model of that name as fast as one types.
pub fn is_small(name: &str) -> bool {
    const SMALL: u64 = 256 << 20;
    let size = |path: &Path| path.metadata().map_or(0, |file| file.len());
    match resolve(name).map(|choice| choice.source) {
        Ok(Source::Memory { .. }) => true,
        Ok(Source::Gguf(file)) => size(&file) <= SMALL,
        Ok(Source::Directory(dir)) => {
            let files = dir.read_dir().into_iter().flatten().flatten();
            files.map(|entry| size(&entry.path())).sum::<u64>() <= SMALL
        }
        Err(_) => false,
    }
}

/// What a loaded model is, for people and programs.
pub fn status(name: &str, model: &Model) -> ModelStatus {
    let info = model.info();
    ModelStatus {
        name: name.to_owned(),
        architecture: info.architecture.clone(),
        parameters: info.parameters as u64,
        quantisation: info.quantisation.to_owned(),
        device: info.device.to_owned(),
        context: info.context,
        not_kept: not_kept(model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_preset_a_directory_or_a_file() {
        assert_eq!(resolve(EMBEDDED).unwrap().name, EMBEDDED);
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().to_str().unwrap();
        assert!(matches!(resolve(name).unwrap().source, Source::Directory(_)));
        let file = dir.path().join("x.gguf");
        std::fs::write(&file, "").unwrap();
        assert_eq!(resolve(file.to_str().unwrap()).unwrap().name, "x.gguf");
        assert!(resolve("nosuch").unwrap_err().message.contains("no model is called nosuch"));
        assert!(resolve("/no/such").unwrap_err().message.contains("no model at /no/such"));
        let absent = resolve("nobody/nothing:Q4_0").unwrap_err();
        assert!(absent.message.contains("nobody/nothing:Q4_0 has not been fetched"), "{absent}");
        assert!(absent.hint.contains("nemoterm model pull nobody/nothing:Q4_0"), "{}", absent.hint);
    }
}
