//! `nemoterm bench`: how fast a model runs here.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{config::Config, failure::Failure, models, serve::rss_mib};

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
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    device: String,
    quantisation: String,
    /// Prompts of 64 and 256 tokens, in tokens/s.
    pp64: f64,
    pp256: f64,
    /// 64 tokens generated one after the other, in tokens/s.
    tg64: f64,
    /// Time to the first token of a prompt nothing is cached of, and of 3 new tokens after a cached prefix.
    ttft_cold_ms: f64,
    ttft_warm_ms: f64,
    /// The same with a prompt of 128 tokens, and 3 after 128.
    ttft128_cold_ms: f64,
    ttft128_warm_ms: f64,
    /// 12 tokens generated after those 3.
    completion12_warm_ms: f64,
    load_ms: f64,
    rss_mib: Option<f64>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut config = Config::load()?;
    config.threads = args.threads.or(config.threads);
    config.quantize = args.quantize.or(config.quantize);
    let name =
        args.model.clone().or_else(|| config.model.clone()).unwrap_or_else(|| models::EMBEDDED.to_owned());
    let started = Instant::now();
    let (short, model) = models::load(&name, &config)?;
    let load = started.elapsed();
    let status = models::status(&short, &model);
    let measured = nemoterm_engine::bench(&model)
        .map_err(|error| Failure::new(error.to_string(), "nemoterm model info describes the model"))?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let figures = Figures {
        model: status.name,
        device: status.device,
        quantisation: status.quantisation,
        pp64: measured.pp64,
        pp256: measured.pp256,
        tg64: measured.tg64,
        ttft_cold_ms: ms(measured.ttft_cold),
        ttft_warm_ms: ms(measured.ttft_warm),
        ttft128_cold_ms: ms(measured.ttft128_cold),
        ttft128_warm_ms: ms(measured.ttft128_warm),
        completion12_warm_ms: ms(measured.completion12_warm),
        load_ms: ms(load),
        rss_mib: rss_mib(),
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&figures)?)?;
        return Ok(());
    }
    writeln!(out, "{} ({}, {})", figures.model, figures.quantisation, figures.device)?;
    writeln!(out, "prompt of 64 tokens     {:>9.1} tokens/s", figures.pp64)?;
    writeln!(out, "prompt of 256 tokens    {:>9.1} tokens/s", figures.pp256)?;
    writeln!(out, "generating 64 tokens    {:>9.1} tokens/s", figures.tg64)?;
    writeln!(out, "first token, cold       {:>9.2} ms", figures.ttft_cold_ms)?;
    writeln!(out, "first token, warm       {:>9.2} ms", figures.ttft_warm_ms)?;
    writeln!(out, "12 tokens, warm         {:>9.2} ms", figures.completion12_warm_ms)?;
    writeln!(out, "loading                 {:>9.1} ms", figures.load_ms)?;
    if let Some(rss) = figures.rss_mib {
        writeln!(out, "resident memory         {rss:>9.1} MiB")?;
    }
    Ok(())
}
