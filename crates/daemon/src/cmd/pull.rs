//! `nemoterm model pull` and `recommend`: models from the Hugging Face Hub.

use std::io::{self, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use nemoterm_hub::{Error, Event, Hub, Machine, recommend as advise};
use serde::Serialize;

use super::model::take;
use crate::{
    failure::Failure,
    models::{self, EMBEDDED, Quantize},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from the list, or `OWNER/NAME[@REVISION][:FILE]` [default: what `nemoterm model recommend` says]
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
            let advice = advise(&Machine::here(hub.cache().root()));
            eprintln!("{}", advice.why);
            match advice.preset {
                Some(preset) => preset.name.to_owned(),
                None => {
                    eprintln!("{EMBEDDED} is part of the program; nothing has to be fetched");
                    return Ok(());
                }
            }
        }
    };
    if name != EMBEDDED {
        let id = models::hub_id(&name).ok_or_else(|| {
            let hint =
                "nemoterm model list names models; OWNER/NAME[@REVISION][:FILE] names any other on the Hub";
            if std::path::Path::new(&name).exists() {
                Failure::new(format!("{name} is here already"), format!("nemoterm model use {name}"))
            } else {
                Failure::new(format!("no model is called {name}"), hint)
            }
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bar = Bar::new();
        let pulled = runtime.block_on(hub.pull(&id, &|event| bar.show(&event)));
        bar.progress.finish_and_clear();
        let pulled = pulled.map_err(|error| failure(&error))?;
        eprintln!("{name} is in {}", pulled.place.path().display());
    }
    if args.no_use { Ok(()) } else { take(&name, args.quantize) }
}

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
        why: &'a str,
        tokens_per_second_at_most: Option<u64>,
    }
    let hub = Hub::from_env().map_err(|error| failure(&error))?;
    let machine = Machine::here(hub.cache().root());
    let advice = advise(&machine);
    let model = advice.preset.map_or(EMBEDDED, |preset| preset.name);
    let mut out = io::stdout().lock();
    if json {
        let printed = Printed {
            machine: &machine,
            model,
            why: &advice.why,
            tokens_per_second_at_most: advice.tokens_per_second,
        };
        writeln!(out, "{}", serde_json::to_string(&printed)?)?;
        return Ok(());
    }
    writeln!(out, "{model}: {}", advice.why)?;
    if let Some(speed) = advice.tokens_per_second {
        writeln!(
            out,
            "its memory lets at most {speed} tokens/s through; nemoterm bench measures what it does"
        )?;
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
    Ok(())
}
