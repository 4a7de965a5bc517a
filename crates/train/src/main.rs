//! Trains the embedded model.
//!
//! `nemoterm-train --corpora DIR --from DIR --out DIR` reads the corpora, makes documents of them without end,
//! and changes the weights until its time is up. What it needs to go on is kept in `--work`.
//!
//! `nemoterm-train pages` makes a corpus of the documentation of repositories, and `nemoterm-train deepen` a model of more layers.

mod batches;
mod blend;
mod cases;
mod completions;
mod corpora;
mod deepen;
mod documents;
mod everyday;
mod examples;
mod lines;
mod optimiser;
mod pages;
mod plot;
mod renamed;
mod scene;
mod slips;
mod specs;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use candle_core::DType;
use clap::{CommandFactory as _, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use nemoterm_engine::DeviceChoice;
use nemoterm_engine::train::Trainable;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::batches::Batches;
use crate::corpora::{Corpora, Excluded};
use crate::documents::{Documents, Mix, described_count};
use crate::optimiser::Optimiser;
use crate::pages::judged::Judged;

/// Train the embedded model: from corpora to weights
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: Option<TrainArgs>,
    // Not among the other arguments: what holds others can't be left out as a whole.
    #[command(flatten)]
    mix: Mix,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a corpus of the documentation of repositories: what it tells to type, and what for
    Pages(pages::Args),
    /// Make a table of options of zsh's completion functions
    Completions(completions::Args),
    /// Make a model deeper that computes the same, to be trained further
    Deepen(deepen::Args),
}

#[derive(Debug, clap::Args)]
struct TrainArgs {
    /// Directory of corpora (NAME.tsv.xz, NAME.jsonl.xz)
    #[arg(long)]
    corpora: PathBuf,
    /// Hashes of what no text may hold, one a line
    #[arg(long)]
    exclude: Option<PathBuf>,
    /// Directory with config.json and tokenizer.json, and with model.safetensors to go on from
    #[arg(long)]
    from: PathBuf,
    /// Begin with random weights instead of those in --from
    #[arg(long)]
    fresh: bool,
    /// Where checkpoints and the loss are kept; a run that was interrupted goes on from there
    #[arg(long, default_value = "target/train")]
    work: PathBuf,
    /// Where the trained model is written
    #[arg(long)]
    out: PathBuf,
    /// How long to train, in minutes
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// The largest step
    #[arg(long, default_value_t = 1e-3)]
    rate: f64,
    /// Tokens of a batch; each thread has a batch
    #[arg(long, default_value_t = 3072)]
    tokens: usize,
    /// Batches of a step, each on a thread of its own
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Longer texts are cut to this many tokens
    #[arg(long, default_value_t = 256)]
    longest: usize,
    /// The share of what each layer adds that is left out at random, against learning by heart
    #[arg(long, default_value_t = 0.1)]
    dropout: f32,
    /// The part of the trained weights in what is written; the rest are those in --from, which forget nothing of what they knew
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// The same seed, device and number of steps give the same documents
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cases, as `nemoterm eval` reads them, to weigh counts of lines and copies from the context by, next to the network
    #[arg(long)]
    weigh: Option<PathBuf>,
    /// Train on the first CUDA device
    #[arg(long)]
    cuda: bool,
    /// Print so many documents and end
    #[arg(long)]
    show: Option<usize>,
}

/// How far a run has come.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    steps: u64,
    tokens: u64,
    seconds: f64,
}

/// Seconds between checkpoints.
const CHECKPOINT: f64 = 120.0;
/// The share of the time in which the rate rises from nothing to its largest.
const WARM_UP: f64 = 0.02;

fn main() -> Result<()> {
    one_thread_a_product();
    match Args::parse() {
        Args { command: Some(Command::Pages(args)), .. } => pages::write(&args),
        Args { command: Some(Command::Completions(args)), .. } => completions::write(&args),
        Args { command: Some(Command::Deepen(args)), .. } => deepen::deepen(&args),
        Args { train: Some(args), mix, .. } => run(&args, &mix),
        Args { command: None, train: None, .. } => Args::command()
            .error(clap::error::ErrorKind::MissingRequiredArgument, "what to train with")
            .exit(),
    }
}

/// Trains, or shows what would be trained with.
fn run(args: &TrainArgs, mix: &Mix) -> Result<()> {
    let excluded = args.exclude.as_deref().map_or_else(|| Ok(Excluded::default()), Excluded::read)?;
    let mut corpora = Corpora::read(&args.corpora, &excluded)?;
    println!(
        "{} commands, {} of them described; {} options; {} sessions",
        corpora.examples.len(),
        described_count(&corpora.examples),
        corpora.specs.len(),
        corpora.sessions.len()
    );
    let judged = Judged::read(excluded.clone(), args.weigh.as_deref())?;
    let own = everyday::examples(&judged);
    let typed = everyday::sessions(&judged);
    println!("{} everyday questions and {} sessions of our own", own.len(), typed.len());
    corpora.examples.extend(own);
    corpora.sessions.extend(typed);
    let documents = Documents::new(corpora, excluded, mix)?;
    if let Some(count) = args.show {
        let mut rng = StdRng::seed_from_u64(args.seed);
        for _ in 0..count {
            let document = documents.document(&mut rng);
            println!("----\n{}>{}", document.prompt, document.answer);
        }
        return Ok(());
    }
    train(args, &documents)?;
    specs::write(&args.out, documents.corpora(), documents.excluded())?;
    examples::write(&args.out, documents.corpora())?;
    lines::write(&args.out, documents.corpora(), documents.excluded())?;
    blend::write(&args.out, &documents, args.weigh.as_deref())
}

/// Matrix products are computed on one thread each: several batches at once use the cores better. The library reads
/// its thread count from the environment.
#[allow(unsafe_code)]
fn one_thread_a_product() {
    // SAFETY: called first in main, while this is the only thread.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
}

fn train(args: &TrainArgs, documents: &Documents) -> Result<()> {
    fs::create_dir_all(&args.work)?;
    let file = |name: &str| args.work.join(name);
    let (state, weights) = (file("optimiser.safetensors"), file("model.safetensors"));
    let resumed = state.is_file() && weights.is_file();
    let device = if args.cuda { DeviceChoice::Cuda(0) } else { DeviceChoice::Cpu };
    copy_definition(&args.from, &args.work)?;
    let mut model = if resumed {
        Trainable::load(&args.work, device)?
    } else if args.fresh {
        Trainable::fresh(&args.from, device, args.seed)?
    } else {
        Trainable::load(&args.from, device)?
    };
    model.set_dropout(args.dropout);
    let (mut progress, mut optimiser) = if resumed {
        let progress: Progress = serde_json::from_str(&fs::read_to_string(file("progress.json"))?)?;
        (progress, Optimiser::load(&state, model.parameters())?)
    } else {
        fs::write(file("loss.tsv"), "step\tseconds\ttokens\tloss\n")?;
        (Progress::default(), Optimiser::new(model.parameters())?)
    };
    let batches = Batches::new(documents, &model, args.longest)?;
    let mut losses = fs::OpenOptions::new().append(true).create(true).open(file("loss.tsv"))?;
    let bar = ProgressBar::new((args.minutes * 60.0) as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {elapsed} of {len} s  {msg}")?);
    let begun = Instant::now();
    let before = progress.seconds;
    let mut saved = begun;
    let mut smooth: Option<f32> = None;
    let first_tokens = progress.tokens;
    loop {
        progress.seconds = before + begun.elapsed().as_secs_f64();
        let done = progress.seconds / (args.minutes * 60.0);
        if done >= 1.0 {
            break;
        }
        // Every step has documents of its own, wherever a run was interrupted.
        let mut rng = StdRng::seed_from_u64(args.seed ^ (progress.steps << 20));
        let step = (0..args.threads.max(1))
            .map(|_| batches.batch(args.tokens, &mut rng))
            .collect::<Result<Vec<_>>>()?;
        let (loss, gradients) = model.gradients(&step)?;
        anyhow::ensure!(loss.is_finite(), "the loss is {loss} after {} steps", progress.steps);
        optimiser.step(model.parameters(), &gradients, args.rate * schedule(done))?;
        progress.steps += 1;
        progress.tokens += step.iter().map(|batch| batch.tokens.len() as u64).sum::<u64>();
        let mean = smooth.map_or(loss, |mean| 0.98 * mean + 0.02 * loss);
        smooth = Some(mean);
        writeln!(losses, "{}\t{:.1}\t{}\t{loss:.4}", progress.steps, progress.seconds, progress.tokens)?;
        bar.set_position(progress.seconds as u64);
        let speed = (progress.tokens - first_tokens) as f64 / begun.elapsed().as_secs_f64();
        bar.set_message(format!("step {}  loss {mean:.3}  {speed:.0} tokens/s", progress.steps));
        if saved.elapsed() > Duration::from_secs_f64(CHECKPOINT) {
            checkpoint(&model, &optimiser, &progress, &args.work)?;
            saved = Instant::now();
        }
    }
    bar.finish();
    checkpoint(&model, &optimiser, &progress, &args.work)?;
    drop(losses);
    plot::losses(&file("loss.tsv"), &file("loss.svg"))?;
    if args.share < 1.0 && !args.fresh {
        average(&model, &Trainable::load(&args.from, device)?, args.share)?;
    }
    fs::create_dir_all(&args.out)?;
    copy_definition(&args.from, &args.out)?;
    model.save(&args.out.join("model.safetensors"), DType::F16)?;
    println!(
        "{} steps, {} tokens in {:.0} s; weights in {}, the loss in {}",
        progress.steps,
        progress.tokens,
        progress.seconds,
        args.out.display(),
        file("loss.svg").display()
    );
    Ok(())
}

/// Moves weights back towards those they began from, a share of `share` being left of the way between them: Wortsman and others,
/// 2022, "Robust fine-tuning of zero-shot models".
fn average(model: &Trainable, before: &Trainable, share: f64) -> Result<()> {
    for (new, old) in model.parameters().iter().zip(before.parameters()) {
        let mixed = ((new.var.as_tensor() * share)? + (old.var.as_tensor() * (1.0 - share))?)?;
        new.var.set(&mixed.detach())?;
    }
    Ok(())
}

/// The rate as a share of the largest, by the share of the time that has passed: up in a line, down to nothing in a
/// line after half of the time.
fn schedule(done: f64) -> f64 {
    (done / WARM_UP).min(1.0) * ((1.0 - done) * 2.0).clamp(0.0, 1.0)
}

fn copy_definition(from: &Path, to: &Path) -> Result<()> {
    for name in ["config.json", "tokenizer.json"] {
        let (from, to) = (from.join(name), to.join(name));
        if from != to {
            fs::copy(&from, &to).with_context(|| format!("{} can't be copied", from.display()))?;
        }
    }
    Ok(())
}

/// Each file is written beside its place and moved there, the progress last.
fn checkpoint(model: &Trainable, optimiser: &Optimiser, progress: &Progress, work: &Path) -> Result<()> {
    let new = |name: &str| work.join(format!("{name}.new"));
    model.save(&new("model.safetensors"), DType::F32)?;
    optimiser.save(&new("optimiser.safetensors"))?;
    fs::write(new("progress.json"), serde_json::to_string(progress)?)?;
    for name in ["model.safetensors", "optimiser.safetensors", "progress.json"] {
        fs::rename(new(name), work.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_averaged() {
        let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini");
        let [model, before, other] =
            [1, 1, 2].map(|seed| Trainable::fresh(&mini, DeviceChoice::Cpu, seed).unwrap());
        average(&other, &before, 0.25).unwrap();
        let first = |model: &Trainable| -> f32 {
            let row = model.parameters()[0].var.flatten_all().unwrap();
            row.get(0).unwrap().to_scalar().unwrap()
        };
        let two = first(&Trainable::fresh(&mini, DeviceChoice::Cpu, 2).unwrap());
        assert!((first(&other) - (0.25 * two + 0.75 * first(&model))).abs() < 1e-6);
        assert!((two - first(&model)).abs() > 1e-4);
    }

    #[test]
    fn the_rate_rises_stays_and_falls() {
        assert_eq!(schedule(0.0), 0.0);
        assert!((schedule(0.01) - 0.5).abs() < 1e-9);
        assert_eq!(schedule(0.4), 1.0);
        assert!((schedule(0.75) - 0.5).abs() < 1e-9);
        assert_eq!(schedule(1.0), 0.0);
    }
}
