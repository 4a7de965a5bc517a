//! `nemoterm model pull` and `recommend`: models from the Hugging Face Hub.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use nemoterm_engine::{Figure, bench};
use nemoterm_hub::{Asks, Error, Event, Hub, Machine, Other, Preset, recommend as advise};
use serde::Serialize;

use super::{config as in_daemon, model::take};
use crate::{
    config::Config,
    failure::Failure,
    models::{self, EMBEDDED, Quantize},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from the list, `OWNER/NAME[@REVISION][:FILE]`, or a directory or .gguf file, which is here already [default: what
    /// `nemoterm model recommend` says]
    model: Option<String>,
    /// Fetch it only; go on with the model in use
    #[arg(long)]
    no_use: bool,
    /// Quantise its weights while loading
    #[arg(long, conflicts_with = "no_use")]
    quantize: Option<Quantize>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let hub = Hub::from_env().map_err(|error| failure(&error))?;
    let name = match &args.model {
        Some(name) => name.clone(),
        None => {
            let advice = advise(&machine(&hub)?);
            eprintln!("{}", advice.why);
            advice.preset.map_or(EMBEDDED, |preset| preset.name).to_owned()
        }
    };
    let nothing = if name == EMBEDDED {
        Some(format!("{EMBEDDED} is part of the program"))
    } else if Path::new(&name).exists() && nemoterm_hub::preset(&name).is_none() {
        Some(format!("{name} is here"))
    } else {
        None
    };
    match nothing {
        Some(why) => eprintln!("{why}; nothing has to be fetched"),
        None => fetch(&hub, &name)?,
    }
    let is_used = || {
        anyhow::Ok(args.quantize.is_none() && args.model.is_none() && Config::load()?.model_name() == name)
    };
    if args.no_use || is_used()? { Ok(()) } else { take(&name, args.quantize) }
}

/// Fetches a model of the Hub, and shows how far that is.
fn fetch(hub: &Hub, name: &str) -> anyhow::Result<()> {
    let id = models::hub_id(name).ok_or_else(|| {
        let hint =
            "nemoterm model list names models; OWNER/NAME[@REVISION][:FILE] names any other on the Hub";
        Failure::new(format!("no model is called {name}"), hint)
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar = Bar::new();
    let pulled = runtime.block_on(hub.pull(&id, &|event| bar.show(&event)));
    bar.progress.finish_and_clear();
    let pulled = pulled.map_err(|error| failure(&error))?;
    eprintln!("{name} is in {}", pulled.place.path().display());
    Ok(())
}

/// The machine, and whether this program can use its accelerator.
fn machine(hub: &Hub) -> anyhow::Result<Machine> {
    let running = in_daemon::running().ok().flatten();
    Ok(Machine::here(&Asks {
        cache: hub.cache().root(),
        usable: cfg!(any(feature = "cuda", feature = "metal")),
        daemon: running.map(|client| client.welcome().pid),
        gpu_memory: Config::load()?.gpu_memory.map(|mib| mib << 20),
    }))
}

/// How often the bar is drawn at least.
const TICK: Duration = Duration::from_millis(200);

/// Our words for the library's errors.
pub fn failure(error: &Error) -> Failure {
    Failure::new(error.to_string(), error.hint())
}

/// Bytes, speed and time left; nothing where standard error is no terminal.
struct Bar {
    progress: ProgressBar,
}

impl Bar {
    fn new() -> Self {
        let progress = ProgressBar::new(0);
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            progress.set_style(style);
        }
        // Also while nothing comes.
        progress.enable_steady_tick(TICK);
        Self { progress }
    }

    fn show(&self, event: &Event<'_>) {
        match event {
            Event::Planned { files, bytes, licence } => {
                let licence = licence.unwrap_or("not named; see its page on the Hub");
                let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                self.progress
                    .suspend(|| eprintln!("{files}, {:.1} MB; licence: {licence}", *bytes as f64 / 1e6));
                self.progress.set_length(*bytes);
            }
            Event::Advanced { file, bytes } => {
                if self.progress.message() != *file {
                    self.progress.set_message((*file).to_owned());
                }
                self.progress.inc(*bytes);
            }
        }
    }
}

pub fn recommend(json: bool) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Printed<'a> {
        machine: &'a Machine,
        model: &'a str,
        quantisation: Option<&'a str>,
        why: &'a str,
        tokens_per_second_at_most: Option<u64>,
        tokens_per_second: Option<u64>,
        other: Option<PrintedOther>,
    }
    #[derive(Serialize)]
    struct PrintedOther {
        model: &'static str,
        quantize: &'static str,
        tokens_per_second_at_most: u64,
    }
    let hub = Hub::from_env().map_err(|error| failure(&error))?;
    let machine = machine(&hub)?;
    let advice = advise(&machine);
    let model = advice.preset.map_or(EMBEDDED, |preset| preset.name);
    // What is here is measured.
    let measured = if advice.preset.is_none() { Some(measure()?) } else { None };
    let mut out = io::stdout().lock();
    if json {
        let id = advice.preset.map(Preset::model_id);
        let printed = Printed {
            machine: &machine,
            model,
            quantisation: id.as_ref().and_then(|id| id.file.as_deref()),
            why: &advice.why,
            tokens_per_second_at_most: advice.tokens_per_second,
            tokens_per_second: measured,
            other: advice.other.map(|other| PrintedOther {
                model: other.preset.name,
                quantize: other.quantize,
                tokens_per_second_at_most: other.tokens_per_second,
            }),
        };
        writeln!(out, "{}", serde_json::to_string(&printed)?)?;
        return Ok(());
    }
    writeln!(out, "{model}: {}", advice.why)?;
    match (advice.tokens_per_second, measured) {
        (Some(speed), _) => writeln!(
            out,
            "its memory lets at most {speed} tokens/s through; nemoterm bench measures what it does"
        )?,
        (None, Some(speed)) => writeln!(out, "it writes {speed} tokens/s here (measured just now)")?,
        (None, None) => writeln!(out, "nemoterm bench measures how fast it is here")?,
    }
    match advice.preset {
        Some(preset) => writeln!(
            out,
            "nemoterm model pull {model} fetches {:.1} GB (licence: {})",
            preset.bytes as f64 / 1e9,
            preset.licence
        )?,
        None => writeln!(out, "it is part of the program; nothing has to be fetched")?,
    }
    if let Some(Other { preset, quantize, tokens_per_second }) = advice.other {
        writeln!(
            out,
            "to try: nemoterm model pull {} --quantize {quantize} fetches {:.1} GB of a general model that would write {tokens_per_second} tokens/s at \
             most; nemoterm eval --history says which one knows your commands better",
            preset.name,
            preset.bytes as f64 / 1e9,
        )?;
    }
    Ok(())
}

/// Tokens a second that the embedded model writes here.
fn measure() -> anyhow::Result<u64> {
    let (_, model) = models::load(EMBEDDED, &Config::load()?)?;
    let failed = |error: nemoterm_engine::EngineError| {
        Failure::new(error.to_string(), "nemoterm bench measures the model in use")
    };
    let measured = bench(&model, &[Figure::Decode(64)], 3).map_err(failed)?;
    Ok(measured.first().copied().unwrap_or_default() as u64)
}
