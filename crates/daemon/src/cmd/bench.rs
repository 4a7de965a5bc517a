//! `nemoterm bench`: how fast a model runs here.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::{EngineError, Figure, Generator, Model, Recordings, bench};
use serde_json::{Map, Value, json};

use crate::{
    complete::{Generate, generate},
    config::Config,
    failure::Failure,
    models,
    serve::rss_mib,
};

/// What three alternatives cost against one.
const ALTERNATIVES: &str = "alternatives3";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from nemoterm model list, a directory or a .gguf file [default: the one in use]
    #[arg(long)]
    model: Option<String>,
    /// Threads the model runs on [default: as in the configuration]
    #[arg(long)]
    threads: Option<usize>,
    /// Quantise the weights while loading
    #[arg(long)]
    quantize: Option<models::Quantize>,
    /// Measure only these, by their names in the JSON
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Runs of which the median is taken
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What can be measured.
fn names() -> clap::builder::PossibleValuesParser {
    Figure::all().map(Figure::name).chain([ALTERNATIVES]).collect::<Vec<_>>().into()
}

/// What a person is shown: a name, what it means, digits and unit.
const SHOWN: [(&str, &str, usize, &str); 8] = [
    ("pp64", "prompt of 64 tokens", 1, "tokens/s"),
    ("pp256", "prompt of 256 tokens", 1, "tokens/s"),
    ("tg64", "generating 64 tokens", 1, "tokens/s"),
    ("tg128", "generating 128 tokens", 1, "tokens/s"),
    ("ttft_cold_ms", "first token, cold", 2, "ms"),
    ("ttft_warm_ms", "first token, warm", 2, "ms"),
    ("completion12_warm_ms", "12 tokens, warm", 2, "ms"),
    (ALTERNATIVES, "three alternatives", 2, "times one"),
];

/// What is not worth a line.
const LEAST_SHOWN_MS: f64 = 1.0;

/// What is measured where nothing is said: what is shown, and two more. 128 tokens take a large model minutes.
fn is_usual(name: &str) -> bool {
    !matches!(name, "tg32" | "tg128")
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut config = Config::load()?;
    config.threads = args.threads.or(config.threads);
    config.quantize = args.quantize.or(config.quantize);
    let name = args.model.clone().unwrap_or_else(|| config.model_name().to_owned());
    let started = Instant::now();
    let (short, model) = models::load(&name, &config)?;
    let load = started.elapsed();
    // The daemon does so behind the first answers.
    let started = Instant::now();
    model.settle();
    let settle_ms = started.elapsed().as_secs_f64() * 1e3;
    let status = models::status(&short, &model);
    let is_wanted = |name: &str| match args.only.as_slice() {
        [] => is_usual(name),
        only => only.iter().any(|wanted| wanted == name),
    };
    let repeats = usize::from(args.repeat);
    let figures: Vec<Figure> = Figure::all().filter(|figure| is_wanted(figure.name())).collect();
    let failed =
        |error: EngineError| Failure::new(error.to_string(), "nemoterm model info describes the model");
    let mut measured: Map<String, Value> = Map::new();
    for (figure, value) in figures.iter().zip(bench(&model, &figures, repeats).map_err(failed)?) {
        measured.insert(figure.name().to_owned(), json!(value));
    }
    // Before the model goes away with what measures its alternatives.
    let rss = rss_mib();
    let recordings = model.recordings();
    if is_wanted(ALTERNATIVES) {
        measured.insert(ALTERNATIVES.to_owned(), json!(alternatives(model, repeats).map_err(failed)?));
    }
    let load_ms = load.as_secs_f64() * 1e3;
    let mut out = io::stdout().lock();
    if args.json {
        let mut all = Map::new();
        all.insert("model".to_owned(), json!(status.name));
        all.insert("device".to_owned(), json!(status.device));
        all.insert("quantisation".to_owned(), json!(status.quantisation));
        all.append(&mut measured);
        all.insert("load_ms".to_owned(), json!(load_ms));
        all.insert("settle_ms".to_owned(), json!(settle_ms));
        all.insert("rss_mib".to_owned(), json!(rss));
        if let Some(recordings) = recordings {
            all.insert("recorded_passes".to_owned(), json!(recordings.kept));
            all.insert("not_recorded".to_owned(), json!(recordings.refusal));
        }
        writeln!(out, "{}", Value::Object(all))?;
        return Ok(());
    }
    writeln!(out, "{} ({}, {})", status.name, status.quantisation, status.device)?;
    for (name, meaning, digits, unit) in SHOWN {
        if let Some(value) = measured.get(name).and_then(Value::as_f64) {
            writeln!(out, "{meaning:<23} {value:>9.digits$} {unit}")?;
        }
    }
    writeln!(out, "loading                 {load_ms:>9.1} ms")?;
    if settle_ms >= LEAST_SHOWN_MS {
        writeln!(out, "putting it in order     {settle_ms:>9.1} ms, behind the first answers of a daemon")?;
    }
    if let Some(rss) = rss {
        writeln!(out, "resident memory         {rss:>9.1} MiB")?;
    }
    match recordings {
        Some(Recordings { refusal: Some(reason), .. }) => {
            writeln!(out, "recorded passes           none for some: {reason}")?;
        }
        Some(Recordings { kept, .. }) => writeln!(out, "recorded passes         {kept:>9}")?,
        None => {}
    }
    Ok(())
}

/// Lines to complete, as shells send them: what was run before, and a beginning.
const LINES: [&str; 8] = [
    "git commit -",
    "cd src\ngit add lexer.rs\ngit commit -m 'Read numbers'\ngit pu",
    "# find files larger than 100 MB\n",
    "docker run --",
    "make\nmake test\ntar -",
    "ls /etc\ncat /etc/hosts\nss",
    "find . -name ",
    "sudo systemctl re",
];

/// How many times as long three texts after one prompt take as one, the prompt being in the cache but for its last word: the
/// median of `rounds` rounds over all lines, the one and the three in turn.
fn alternatives(model: Model, rounds: usize) -> Result<f64, EngineError> {
    let mut generator = Generator::new(model, 1)?;
    let mut time = |prompt: &str, alternatives: usize| -> Result<Duration, EngineError> {
        let wanted = Generate {
            prompt: prompt.to_owned(),
            heal: true,
            max_tokens: 12,
            alternatives,
            ..Generate::default()
        };
        let started = Instant::now();
        generate(&mut generator, &wanted, &mut |_| ControlFlow::Continue(()))?;
        Ok(started.elapsed())
    };
    let mut ratios = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let (mut one, mut three) = (Duration::ZERO, Duration::ZERO);
        for line in LINES {
            // The first one reads the prompt.
            time(line, 1)?;
            one += time(line, 1)?;
            three += time(line, 3)?;
        }
        ratios.push(three.as_secs_f64() / one.as_secs_f64());
    }
    ratios.sort_unstable_by(f64::total_cmp);
    Ok(ratios[rounds / 2])
}
