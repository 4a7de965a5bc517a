//! `nemoterm eval`: completes every case of a file, or of one's own history, as the daemon would, and scores the answers.

mod history;

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use nemoterm_protocol::{Candidate, Complete, Context, HistoryLine, Source};
use nemoterm_suggest::{
    context::Shell,
    rank,
    replay::Replay,
    score::{Aggregate, Case, Prediction, report},
};

use super::loading::watch;
use crate::{
    backend::Own,
    complete::Plan,
    config::{BackendName, Config},
    failure::Failure,
    models,
};

/// Suggestions of its own a client sends along.
const LOCAL: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cases, one JSON object a line
    #[arg(required_unless_present = "history")]
    file: Option<PathBuf>,
    /// Score on your own last commands: each is cut somewhere and completed with what you ran before it. They stay here.
    #[arg(long, conflicts_with = "file")]
    history: bool,
    #[command(flatten)]
    own: history::OwnArgs,
    /// A name from nemoterm model list, a directory or a .gguf file [default: what is in use, a remote server too]
    #[arg(long)]
    model: Option<String>,
    /// Quantise the weights while loading
    #[arg(long)]
    quantize: Option<models::Quantize>,
    /// Score what would appear while typing: nothing where nothing is likely to be right
    #[arg(long)]
    unasked: bool,
    /// Write the completions here, one JSON object a line
    #[arg(long)]
    predictions: Option<PathBuf>,
    /// Print the scores as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let scenes = match &args.file {
        Some(file) => Scenes::Cases(read_cases(file)?),
        None => Scenes::History(history::History::read(&args.own)?),
    };
    let mut config = Config::load()?;
    config.quantize = args.quantize.or(config.quantize);
    // A model that is named is the one to be scored; and no other answers where a server does not. One's own history is not
    // sent anywhere.
    let remote = if args.model.is_none() && !args.history { Own::remote(&config)? } else { None };
    if args.history && args.model.is_none() && config.backend == BackendName::Openai {
        eprintln!("note: the model here is scored, and not the server; your commands stay on this machine");
    }
    let name = args.model.as_ref().or(config.model.as_ref()).map_or(models::EMBEDDED, String::as_str);
    let mut own = remote.map_or_else(|| Own::model(name, &config), Ok)?;
    if let Own::Model { generator, .. } = &own {
        // As a daemon has both after its first answers, which cases come faster than.
        generator.model().settle();
        models::examples(true);
    }
    let (cases, predictions) = scenes.predict(&mut own, args.unasked)?;
    if let Some(path) = &args.predictions {
        let mut file = io::BufWriter::new(fs::File::create(path).map_err(|error| {
            Failure::new(format!("{} can't be written: {error}", path.display()), "check --predictions")
        })?);
        for prediction in &predictions {
            writeln!(file, "{}", serde_json::to_string(prediction)?)?;
        }
        file.flush()?;
    }
    let report = report(&cases, &predictions);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    writeln!(out, "{}", header())?;
    if let Some(all) = &report.all {
        writeln!(out, "{}", row("all", all))?;
    }
    let groups = [
        ("kind", &report.kind),
        ("source", &report.source),
        ("cut", &report.cut),
        ("tier", &report.tier),
        ("recover", &report.recover),
        ("generic", &report.generic),
    ];
    for (group, values) in groups.into_iter().filter(|(_, values)| !values.0.is_empty()) {
        writeln!(out, "by {group}")?;
        for (value, scores) in &values.0 {
            writeln!(out, "{}", row(&format!("  {value}"), scores))?;
        }
    }
    writeln!(out, "by estimate, lines and sessions")?;
    for at in &report.confidence {
        let percent = |share: f64| 100.0 * share;
        writeln!(
            out,
            "  at least {:<13.2}{:>7.1}% shown, {:>5.1}% of them right",
            at.threshold,
            percent(at.shown),
            percent(at.prec)
        )?;
    }
    Ok(())
}

fn read_cases(path: &PathBuf) -> anyhow::Result<Vec<Case>> {
    let hint = "a file of cases holds one JSON object a line";
    let unreadable =
        |error: io::Error| Failure::new(format!("{} can't be read: {error}", path.display()), hint);
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut cases = Vec::new();
    for (number, line) in io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let case = serde_json::from_str(&line).map_err(|error| {
            Failure::new(format!("{}, line {}: {error}", path.display(), number + 1), hint)
        })?;
        cases.push(case);
    }
    Ok(cases)
}

/// What is completed.
enum Scenes {
    Cases(Vec<Case>),
    History(history::History),
}

impl Scenes {
    /// Completes them all, and shows how far that is.
    fn predict(self, own: &mut Own, unasked: bool) -> anyhow::Result<(Vec<Case>, Vec<Prediction>)> {
        let done = AtomicUsize::new(0);
        let all = match &self {
            Self::Cases(cases) => cases.len(),
            Self::History(history) => history.len(),
        };
        let share = || Some(done.load(Ordering::Relaxed) as f32 / all.max(1) as f32);
        let mut one = |case: &Case, replay: &Replay| {
            done.fetch_add(1, Ordering::Relaxed);
            predict(own, &Complete { unasked, ..request(replay) }, case)
        };
        watch("completing", share, || match self {
            Self::Cases(cases) => {
                let predictions = cases.iter().map(|case| one(case, &Replay::new(case)));
                let predictions = predictions.collect::<anyhow::Result<_>>()?;
                Ok((cases, predictions))
            }
            Self::History(history) => {
                let (mut cases, mut predictions) = (Vec::new(), Vec::new());
                history.replay(|case, replay| {
                    predictions.push(one(&case, replay)?);
                    cases.push(case);
                    Ok(())
                })?;
                Ok((cases, predictions))
            }
        })
    }
}

fn predict(own: &mut Own, request: &Complete, case: &Case) -> anyhow::Result<Prediction> {
    let started = Instant::now();
    let plan = Plan::new(request)?;
    let written = own.write(&plan, None)?;
    let best = plan.ranked(&written).into_iter().next();
    Ok(Prediction {
        id: case.id.clone(),
        ms: Some(started.elapsed().as_secs_f64() * 1e3),
        score: best.as_ref().map(|best| f64::from(best.candidate.score)),
        tokens: written.passes.map(|_| written.texts.iter().map(|text| text.tokens.len()).sum()),
        passes: written.passes,
        completion: best.map(|best| best.candidate.suffix).unwrap_or_default(),
    })
}

/// What a client would send at that moment.
fn request(replay: &Replay) -> Complete {
    let local = rank::local(&replay.context, &replay.buffer, &replay.index, LOCAL);
    let candidate = |found: rank::Candidate| Candidate {
        suffix: found.suffix,
        source: if found.source == rank::Source::History { Source::History } else { Source::Context },
        score: found.score,
    };
    let shell = match replay.context.shell {
        Shell::Zsh => "zsh",
        Shell::Bash => "bash",
        Shell::Fish => "fish",
        Shell::Other => "sh",
    };
    let line = |entry: nemoterm_suggest::context::HistoryLine| HistoryLine {
        line: entry.line,
        status: entry.status,
    };
    Complete {
        line: replay.buffer.line().to_owned(),
        cursor: replay.buffer.cursor(),
        candidates: local.into_iter().map(candidate).collect(),
        context: Context {
            shell: shell.to_owned(),
            cwd: replay.context.cwd.clone(),
            history: replay.context.history.iter().cloned().map(line).collect(),
            ..Context::default()
        },
        alternatives: 1,
        ..Complete::default()
    }
}

fn header() -> String {
    let names = [
        "n", "exact", "next", "lcp", "saved", "empty", "wrong", "prec", "whole", "nl_cmd", "nl_f1", "p50 ms",
        "p95 ms",
    ];
    let columns: String = names.iter().map(|name| format!("{name:>8}")).collect();
    format!("{:<24}{columns}", "")
}

fn row(name: &str, scores: &Aggregate) -> String {
    let percent = |share: f64| format!("{:>7.1}%", 100.0 * share);
    let optional = |share: Option<f64>| share.map_or_else(|| " ".repeat(8), percent);
    let ms = |ms: Option<f64>| ms.map_or_else(|| " ".repeat(8), |ms| format!("{ms:>8.1}"));
    let mut row = format!("{name:<24}{:>8}", scores.n);
    for share in [
        scores.exact,
        scores.next,
        scores.lcp,
        scores.saved,
        scores.empty,
        scores.wrong,
        scores.prec,
        scores.whole,
    ] {
        row.push_str(&percent(share));
    }
    row.push_str(&optional(scores.nl_cmd));
    row.push_str(&optional(scores.nl_f1));
    row.push_str(&ms(scores.ms_p50));
    row.push_str(&ms(scores.ms_p95));
    row
}
