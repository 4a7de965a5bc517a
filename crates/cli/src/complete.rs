//! `nemoterm complete` and `nemoterm ask`: one line in, the completed line out.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nemoterm_protocol::{Alternative, Complete, Completion, MAX_ALTERNATIVES, Reply, Request, Timing, frame};
use nemoterm_suggest::buffer::Buffer;
use serde::Serialize;

use crate::{
    context::{self, Surroundings},
    daemon, daemon_process,
    failure::Failure,
};

/// How long a daemon may take beyond the time it was given, in milliseconds: the way there and back.
const GRACE: u64 = 500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The line as typed so far; one that begins with # is a description
    line: OsString,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// What the command should do, in words
    text: OsString,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Print only what is added
    #[arg(long)]
    suffix: bool,
    /// How many alternatives to print, best first
    #[arg(short = 'n', long = "alternatives", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_ALTERNATIVES as u64))]
    alternatives: u64,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Where the cursor is, in characters [default: the end of the line]
    #[arg(long)]
    cursor: Option<usize>,
    /// Complete as in this directory
    #[arg(long)]
    cwd: Option<PathBuf>,
    /// Complete for this shell [default: of $SHELL]
    #[arg(long, value_parser = ["zsh", "bash", "fish"])]
    shell: Option<String>,
    /// Take the history from this file [default: the shell's own]
    #[arg(long)]
    history: Option<PathBuf>,
    /// Give up after so many milliseconds
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
    /// Complete without the daemon, for scripts
    #[arg(long)]
    no_daemon: bool,
    /// At most so many tokens in each completion; 0 leaves it to the model's settings
    #[arg(long, default_value_t = 0)]
    max_tokens: usize,
    /// Sampling temperature; 0 takes the likeliest completion
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let line = text(&args.line)?;
    answer(line.to_owned(), &args.options)
}

pub fn ask(args: AskArgs) -> anyhow::Result<()> {
    let text = text(&args.text)?;
    let description = text.trim().trim_start_matches('#').trim_start();
    answer(format!("# {description}"), &args.options)
}

fn text(line: &OsStr) -> Result<&str, Failure> {
    line.to_str().ok_or_else(|| {
        Failure::new(
            "the line is not valid UTF-8",
            "nemoterm completes text; check the encoding of your terminal",
        )
    })
}

fn answer(line: String, options: &Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let request = request(line, options)?;
    let mut completion = if options.no_daemon {
        without_daemon(&request)?
    } else {
        with_daemon(&request, started + Duration::from_millis(options.timeout))?
    };
    completion.timing.total = started.elapsed().as_secs_f64() * 1e3;
    if let Some(why) = &completion.instead {
        eprintln!("note: {}; {} answers in its place", why.message, completion.model);
    }
    print(&completion, options)
}

/// The request for a line, with what this process sees of its surroundings.
fn request(line: String, options: &Options) -> anyhow::Result<Complete> {
    let buffer = match options.cursor {
        None => Buffer::at_end(line),
        Some(chars) => Buffer::at_char(line, chars),
    };
    let surroundings = Surroundings {
        shell: options.shell.clone().unwrap_or_else(context::login_shell),
        cwd: options.cwd.clone().or_else(|| std::env::current_dir().ok()),
        history_file: options.history.clone(),
    };
    let seen = surroundings.look(&buffer)?;
    Ok(Complete {
        id: 1,
        line: buffer.line().to_owned(),
        cursor: buffer.cursor(),
        context: seen.context,
        candidates: seen.candidates,
        unasked: false,
        alternatives: options.alternatives as usize,
        max_tokens: options.max_tokens,
        budget_ms: options.timeout,
        wait_ms: options.timeout,
        temperature: options.temperature,
        seed: options.seed,
    })
}

fn with_daemon(request: &Complete, deadline: Instant) -> anyhow::Result<Completion> {
    let client = daemon_process::connect_or_start(&daemon::locate()?)?;
    client.send(&Request::Complete(Box::new(request.clone()))).map_err(daemon_process::explain)?;
    let grace = Duration::from_millis(GRACE);
    let reply = client.receive(Some(deadline + grace)).map_err(daemon_process::explain)?;
    completion(reply)
}

/// The same request through the daemon's program as a child that reads one frame and writes one.
fn without_daemon(request: &Complete) -> anyhow::Result<Completion> {
    let program = daemon_process::Program::find()?;
    let mut child = Command::new(&program.path)
        .arg("once")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::plain(format!("{} can't be run: {error}", program.path.display())))?;
    if let Some(mut stdin) = child.stdin.take() {
        frame::write(&mut stdin, &Request::Complete(Box::new(request.clone())))?;
    }
    let output = child.wait_with_output()?;
    let reply = frame::read(&mut output.stdout.as_slice())?;
    completion(
        reply.ok_or_else(|| {
            Failure::plain(format!("nemotermd ended without an answer ({})", output.status))
        })?,
    )
}

fn completion(reply: Reply) -> anyhow::Result<Completion> {
    match reply {
        Reply::Completion(completion) => Ok(completion),
        Reply::Loading { .. } => {
            Err(Failure::new("the model is still loading", "try again soon, or give a longer --timeout")
                .into())
        }
        Reply::Error(error) => Err(Failure::of_daemon(error).into()),
        other => Err(Failure::plain(format!("the daemon answered {other:?}")).into()),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    line: &'a str,
    suffix: &'a str,
    alternatives: &'a [Alternative],
    model: &'a str,
    timing: &'a Timing,
}

fn print(completion: &Completion, options: &Options) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let best = completion.alternatives.first();
    if options.json {
        let printed = Printed {
            line: best.map_or("", |best| &best.line),
            suffix: best.map_or("", |best| &best.suffix),
            alternatives: &completion.alternatives,
            model: &completion.model,
            timing: &completion.timing,
        };
        writeln!(out, "{}", serde_json::to_string(&printed)?)?;
    } else {
        for alternative in &completion.alternatives {
            writeln!(out, "{}", if options.suffix { &alternative.suffix } else { &alternative.line })?;
        }
    }
    if best.is_none() {
        return Err(Failure::new("nothing to suggest for this line", "type a little more of it").into());
    }
    Ok(())
}
