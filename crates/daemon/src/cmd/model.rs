//! `nemoterm model`: which models there are, which one is used, what a model is.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use nemoterm_engine::{DeviceChoice, KeptFile, LoadOptions, Model};
use nemoterm_hub::{Cache, PRESETS};
use nemoterm_protocol::{Reply, Request};
use serde::Serialize;

use super::{config as in_daemon, pull};
use crate::{
    config::{self, Config, Key},
    failure::Failure,
    models::{self, EMBEDDED, EMBEDDED_DESCRIPTION, Quantize},
};

/// A model that writes ends its text first.
const UNLOAD: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the models that can be named
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the Hugging Face Hub, and take it for completions
    Pull(pull::Args),
    /// Say which model suits this machine
    Recommend {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a model for completions from now on
    Use {
        /// A name from the list, `OWNER/NAME[@REVISION][:FILE]`, a directory with config.json, or a .gguf file
        model: String,
        /// Quantise its weights while loading
        #[arg(long)]
        quantize: Option<Quantize>,
    },
    /// Have the daemon let go of its model until the next key, to free its memory
    Unload,
    /// Describe a model
    Info {
        /// A name from the list, a directory or a .gguf file [default: the one in use]
        model: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a model that was fetched, and what was quantised of it
    Remove {
        /// A name from the list, `OWNER/NAME[@REVISION][:FILE]`, or a directory or .gguf file, which stays itself
        model: String,
    },
    /// Print a model's logits for token ids, to hold it against another implementation
    Logits {
        /// A name from the list, a directory or a .gguf file
        model: String,
        /// Token ids, with commas between
        #[arg(long, value_delimiter = ',', required = true)]
        tokens: Vec<u32>,
        /// What it runs on; an accelerator that can't be used is an error
        #[arg(long, default_value = "cpu")]
        device: Device,
        /// Run so many tokens in a pass at most; all by default
        #[arg(long, value_name = "N")]
        at_once: Option<usize>,
        /// As JSON: {"logits":[[...], ...]}, one row a position
        #[arg(long)]
        json: bool,
    },
}

/// What a model may be asked to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor
    Cpu,
    /// The accelerator this program is built for; the processor where it is for none
    Accelerator,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List { json } => list(*json),
        Command::Pull(args) => pull::run(args),
        Command::Recommend { json } => pull::recommend(*json),
        Command::Remove { model } => remove(model),
        Command::Use { model, quantize } => take(model, *quantize),
        Command::Unload => unload(),
        Command::Info { model, json } => info(model.as_deref(), *json),
        Command::Logits { model, tokens, device, at_once, json } => {
            logits(model, tokens, *device, at_once.unwrap_or(tokens.len()), *json)
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    description: String,
    used: bool,
    /// Whether it can be used without a network.
    here: bool,
    /// Bytes to fetch, about; for the embedded model, none.
    bytes: Option<u64>,
    /// What was quantised of it and is kept, to be mapped at the next start.
    kept: Vec<KeptRow>,
    licence: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct KeptRow {
    quantisation: String,
    bytes: u64,
}

/// Takes what is kept of a model out of `files`.
fn kept_of(name: &str, files: &mut Vec<KeptFile>) -> Vec<KeptRow> {
    let source = models::resolve(name).ok().and_then(|choice| choice.source.path()?.canonicalize().ok());
    let of_it = files.extract_if(.., |file| source.is_some() && file.source == source);
    of_it.map(|KeptFile { quantisation, bytes, .. }| KeptRow { quantisation, bytes }).collect()
}

fn list(json: bool) -> anyhow::Result<()> {
    let used = Config::load()?.model_name().to_owned();
    let mut rows = vec![Listed {
        name: EMBEDDED.to_owned(),
        description: EMBEDDED_DESCRIPTION.to_owned(),
        used: used == EMBEDDED,
        here: true,
        bytes: None,
        kept: Vec::new(),
        licence: None,
    }];
    let cache = Cache::of_user();
    let mut files = models::shelf().map(|shelf| shelf.files()).unwrap_or_default();
    rows.extend(PRESETS.iter().map(|preset| Listed {
        name: preset.name.to_owned(),
        description: preset.description.to_owned(),
        used: preset.name == used,
        here: cache.find(&preset.model_id()).is_ok(),
        bytes: Some(preset.bytes),
        kept: kept_of(preset.name, &mut files),
        licence: Some(preset.licence),
    }));
    if !rows.iter().any(|row| row.used) {
        rows.push(Listed {
            here: models::resolve(&used).is_ok(),
            kept: kept_of(&used, &mut files),
            name: used,
            description: "of your own choice".to_owned(),
            used: true,
            bytes: None,
            licence: None,
        });
    }
    // Of models that were tried, and are not in use.
    while let Some(file) = files.first() {
        let Some(name) = file.source.as_ref().map(|source| source.display().to_string()) else {
            files.remove(0);
            continue;
        };
        let kept = kept_of(&name, &mut files);
        if kept.is_empty() {
            files.remove(0);
            continue;
        }
        rows.push(Listed {
            name,
            description: "tried before".to_owned(),
            used: false,
            here: true,
            bytes: None,
            kept,
            licence: None,
        });
    }
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&rows)?)?;
        return Ok(());
    }
    for row in rows {
        let mark = if row.used { "*" } else { " " };
        let size = match row.bytes {
            Some(bytes) if !row.here => format!("{:.1} GB to fetch", bytes as f64 / 1e9),
            _ => "here".to_owned(),
        };
        writeln!(out, "{mark} {:<24} {size:<17} {}", row.name, row.description)?;
        for KeptRow { quantisation, bytes } in row.kept {
            writeln!(out, "{:<26} {quantisation}, {:.1} MB, is kept", "", bytes as f64 / 1e6)?;
        }
    }
    Ok(())
}

fn remove(name: &str) -> anyhow::Result<()> {
    if Config::load()?.model.as_deref() == Some(models::absolute(name).as_str()) {
        return Err(
            Failure::new(format!("{name} is in use"), format!("nemoterm model use {EMBEDDED}")).into()
        );
    }
    // Its place is known as long as it is there.
    let kept =
        match (models::shelf(), models::resolve(name).ok().and_then(|it| Some(it.source.path()?.to_owned())))
        {
            (Some(shelf), Some(source)) => shelf.remove(&source).map_err(|error| {
                Failure::new(format!("{}: {error}", shelf.directory().display()), "remove that directory")
            })?,
            _ => 0,
        };
    let freed = match models::hub_id(name) {
        Some(id) => {
            let failure = |error: nemoterm_hub::Error| match error {
                absent @ nemoterm_hub::Error::NotCached { .. } => {
                    Failure::new(absent.to_string(), "nemoterm model list names what is here")
                }
                other => pull::failure(&other),
            };
            kept + Cache::of_user().remove(&id).map_err(failure)?
        }
        None if kept > 0 => {
            eprintln!(
                "what was kept of {name} is removed: {:.1} MB are free again; the model itself is yours",
                kept as f64 / 1e6
            );
            return Ok(());
        }
        None => {
            let hint = "nemoterm model list names models that can be removed";
            return Err(Failure::new(format!("{name} is no model that was fetched"), hint).into());
        }
    };
    eprintln!("{name} is removed: {:.1} MB are free again", freed as f64 / 1e6);
    Ok(())
}

/// Takes a model: it is loaded once here, so that a name that does not work changes nothing.
pub(super) fn take(name: &str, quantize: Option<Quantize>) -> anyhow::Result<()> {
    let name = models::absolute(name);
    let mut config = Config::load()?;
    config.quantize = quantize;
    let (short, model) = models::check(&name, &config)?;
    say_if_not_kept(&model);
    drop(model);
    let chosen = (name != EMBEDDED).then(|| Key::Model.read(&name));
    let quantize = quantize.map(|quantize| Key::Quantize.read(quantize.name()));
    let path = config::change(&[(Key::Model, chosen), (Key::Quantize, quantize)])?;
    eprintln!("{short} is used from now on (written to {})", path.display());
    for key in [Key::Model, Key::Quantize] {
        if std::env::var_os(key.variable()).is_some_and(|value| !value.is_empty()) {
            eprintln!("note: {} is set here and wins over the file", key.variable());
        }
    }
    if let Some(client) = in_daemon::running()? {
        in_daemon::load(&client, &name)?;
        eprintln!("the running daemon has switched to it");
    }
    Ok(())
}

/// Says what a person who waits for a model to be quantised had better know.
pub(super) fn say_if_not_kept(model: &Model) {
    if let Some(why) = models::not_kept(model) {
        eprintln!("note: its quantised weights are made again at each start: {why}");
    }
}

fn unload() -> anyhow::Result<()> {
    let none = || Failure::new("the daemon is not running", "there is no model to let go of");
    let client = in_daemon::running()?.ok_or_else(none)?;
    match client.ask(&Request::Unload, UNLOAD)? {
        Reply::Status(status) => {
            let memory = status.rss_mib.map(|mib| format!("; {mib:.0} MiB are left")).unwrap_or_default();
            eprintln!("the daemon has let go of its model until the next key{memory}");
            Ok(())
        }
        // One that does not know the request.
        _ => {
            Err(Failure::new("the running daemon can't let go of its model", "nemoterm daemon restart")
                .into())
        }
    }
}

fn info(name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let config = Config::load()?;
    let (short, model) = models::load(name.unwrap_or(config.model_name()), &config)?;
    let status = models::status(&short, &model);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
        return Ok(());
    }
    let info = model.info();
    writeln!(out, "name          {}", status.name)?;
    writeln!(out, "architecture  {}", status.architecture)?;
    writeln!(out, "parameters    {:.1} M", status.parameters as f64 / 1e6)?;
    writeln!(out, "layers        {}", info.layers)?;
    writeln!(out, "hidden        {}", info.hidden)?;
    writeln!(out, "vocabulary    {}", info.vocabulary)?;
    writeln!(out, "context       {} tokens", status.context)?;
    writeln!(
        out,
        "weights       {}, {:.1} MiB",
        status.quantisation,
        info.weight_bytes as f64 / f64::from(1 << 20)
    )?;
    writeln!(out, "device        {}", status.device)?;
    Ok(())
}

fn logits(name: &str, tokens: &[u32], device: Device, at_once: usize, json: bool) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Printed {
        logits: Vec<Vec<f32>>,
    }
    let choice = models::resolve(name)?;
    let device = match device {
        Device::Cpu => DeviceChoice::Cpu,
        Device::Accelerator => DeviceChoice::Accelerator,
    };
    let options = LoadOptions { device, ..LoadOptions::default() };
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::new(error.to_string(), "nemoterm model info describes a model")
    };
    let model = Model::load(&choice.source, &options).map_err(|error| unusable(&error))?;
    let logits = model.logits_by(tokens, at_once).map_err(|error| unusable(&error))?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&Printed { logits })?)?;
        return Ok(());
    }
    for row in logits {
        let row: Vec<_> = row.iter().map(f32::to_string).collect();
        writeln!(out, "{}", row.join(" "))?;
    }
    Ok(())
}
