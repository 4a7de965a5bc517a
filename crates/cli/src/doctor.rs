//! `nemoterm doctor`: what works, what does not, and what to do about it.
//!
//! It reads the shells' files and runs none of them: they may start anything.

mod gpu;
mod here;
mod problems;
mod shells;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use nemoterm_protocol::{Complete, RemoteState, Reply, Request, State, client::Client};
use serde::Serialize;

use crate::{
    daemon,
    daemon_process::{self, Program},
    failure::Failure,
    service,
};
use problems::Problem;

/// Name of the model that is part of the program.
const EMBEDDED: &str = "nemoterm-mini";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    found: String,
    /// The name of the problem, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, ok: true, found: found.into(), problem: None, hint: None }
    }

    /// A problem, and how it shows here.
    fn bad(problem: &Problem, found: impl Into<String>) -> Self {
        Self {
            check: problem.check,
            ok: false,
            found: found.into(),
            problem: Some(problem.name),
            hint: Some(problem.fix.to_owned()),
        }
    }

    /// The same with what to do here, which is better than what can be said in general.
    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, listed elsewhere.
    fn check(self, check: &'static str) -> Self {
        Self { check, ..self }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut findings = vec![program()];
    findings.extend(gpu::gpu());
    findings.push(socket());
    findings.extend(service());
    findings.extend(config());
    findings.extend(switch());
    findings.extend(daemon_and_model());
    findings.extend(here::key_to_suggestion());
    findings.extend(here::client());
    for shell in shells::SHELLS {
        findings.extend(shells::integration(shell));
        findings.extend(shells::neighbours(shell));
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
    } else {
        for finding in &findings {
            let mark = if finding.ok { "ok" } else { "!!" };
            writeln!(out, "{mark} {:<10} {}", finding.check, finding.found)?;
            if let Some(hint) = &finding.hint {
                writeln!(out, "   {:<10} hint: {hint}", "")?;
            }
        }
    }
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        1 => Err(Failure::plain("1 thing needs attention").into()),
        n => Err(Failure::plain(format!("{n} things need attention")).into()),
    }
}

fn program() -> Finding {
    match Program::find() {
        Ok(program) => Finding::good("program", format!("{} ({})", program.path.display(), program.reason)),
        Err(error) => Finding::bad(&problems::NO_PROGRAM, error.to_string()),
    }
}

fn socket() -> Finding {
    match daemon::locate() {
        Ok(runtime) => Finding::good("socket", runtime.socket().display().to_string()),
        Err(error) => Finding::bad(&problems::UNSAFE_SOCKET, error.to_string()),
    }
}

/// Whether a service that is installed listens. Looked at before anything connects.
fn service() -> Option<Finding> {
    if !service::is_installed() {
        return None;
    }
    let listens = daemon::locate().is_ok_and(|runtime| service::is_listening(&runtime).unwrap_or(true));
    let found = "installed: a service manager starts the daemon";
    Some(if listens {
        Finding::good("service", found)
    } else {
        Finding::bad(&problems::NO_SOCKET, "installed, but it does not listen")
    })
}

/// Whether the configuration can be used. The daemon's program knows what is allowed.
fn config() -> Option<Finding> {
    let program = Program::find().ok()?;
    let output = Command::new(&program.path).args(["config", "show"]).output().ok()?;
    if output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let finding = Finding::bad(&problems::BAD_CONFIG, line("nemoterm: ").unwrap_or("it can't be read"));
    Some(match line("hint: ") {
        Some(hint) => finding.hint(hint),
        None => finding,
    })
}

/// The daemon, its model, and how long a warm completion takes.
fn daemon_and_model() -> Vec<Finding> {
    let Ok(runtime) = daemon::locate() else { return Vec::new() };
    let client = match daemon_process::connect_or_start(&runtime) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::bad(&problems::NO_DAEMON, format!("{error:#}"))];
        }
    };
    let welcome = client.welcome();
    let mut findings = vec![running(&welcome.version, welcome.pid)];
    let timed = (0..5).map(|id| time_completion(&client, id)).collect::<anyhow::Result<Vec<_>>>();
    let current = daemon::current(&runtime);
    let remote = current.as_ref().ok().and_then(|status| status.as_ref()?.remote.clone());
    // There is no smaller one.
    let model = current.as_ref().ok().and_then(|status| status.as_ref()?.model.as_ref());
    let is_smallest = model.is_some_and(|model| model.name == EMBEDDED);
    findings.extend(remote.as_deref().map(|remote| {
        let found = format!("{} at {}: {}", remote.model, remote.url, daemon::describe_remote(remote));
        match &remote.state {
            RemoteState::Untried | RemoteState::Answering => Finding::good("remote", found),
            RemoteState::Failing { error, hint } | RemoteState::Paused { error, hint, .. } => {
                Finding::bad(&problems::REMOTE_FAILS, error.clone()).hint(hint.clone())
            }
        }
    }));
    findings.push(match current {
        Ok(Some(status)) => match (status.state, status.model) {
            (State::Failed { error, hint }, _) => Finding::bad(&problems::MODEL_FAILED, error).hint(hint),
            (_, Some(model)) => {
                let found = format!("{} on {}", model.name, model.device);
                match status.instead {
                    Some(why) => Finding::bad(
                        &problems::STANDS_IN,
                        format!("{found} in place of the one that is set: {}", why.message),
                    ),
                    None => Finding::good("model", found),
                }
            }
            (_, None) => Finding::bad(&problems::MODEL_LOADING, "still loading"),
        },
        Ok(None) => Finding::bad(&problems::DAEMON_WENT, "the daemon went away"),
        Err(error) => Finding::bad(&problems::DAEMON_WENT, format!("{error:#}")),
    });
    match timed {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let found = format!("{median:.1} ms for a warm completion (median of {})", times.len());
            findings.push(if median < 50.0 {
                Finding::good("speed", found)
            } else if remote.is_some() {
                // Three quarters of four fifths of a shell's patience are for the server, see `attach` and the daemon.
                let patience = (median / 0.6 / 50.0).ceil() * 50.0;
                let hint =
                    format!("export NEMOTERM_TIMEOUT_MS={patience} lets a shell wait for it (150 without)");
                if median < 90.0 {
                    Finding::good("speed", found)
                } else {
                    Finding::bad(&problems::SLOW_SERVER, found).hint(hint)
                }
            } else {
                let finding = Finding::bad(&problems::SLOW, found);
                if is_smallest {
                    finding.hint("something else keeps the processor busy: top shows what")
                } else {
                    finding
                }
            });
        }
        Err(error) => findings.push(Finding::bad(&problems::NO_COMPLETION, format!("{error:#}"))),
    }
    findings
}

/// Whether the daemon that runs is of the programs that are installed.
fn running(version: &str, pid: u32) -> Finding {
    let found = format!("release {version}, pid {pid}");
    if version != env!("CARGO_PKG_VERSION") {
        let found = format!("{found}, and this program is of release {}", env!("CARGO_PKG_VERSION"));
        return Finding::bad(&problems::OTHER_RELEASE, found);
    }
    // Where there is such a file, it tells of a program that was replaced since the daemon was started.
    let program = fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe"));
    if program.is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)")) {
        return Finding::bad(&problems::REPLACED, format!("{found}, of a program that was replaced since"));
    }
    Finding::good("daemon", format!("{found}, as this program is"))
}

/// Whether all shells are silenced.
fn switch() -> Option<Finding> {
    let off = daemon::locate().ok()?.off_switch();
    let found = "suggestions are turned off in every shell";
    off.exists().then(|| Finding::bad(&problems::OFF, found))
}

fn time_completion(client: &Client, id: u64) -> anyhow::Result<f64> {
    let line = "find . -name".to_owned();
    let request = Complete {
        id,
        cursor: line.len(),
        line,
        alternatives: 1,
        budget_ms: 5000,
        wait_ms: 10_000,
        ..Complete::default()
    };
    let started = Instant::now();
    client.send(&Request::Complete(Box::new(request))).map_err(daemon_process::explain)?;
    let deadline = started + std::time::Duration::from_secs(15);
    match client.receive(Some(deadline)).map_err(daemon_process::explain)? {
        Reply::Completion(_) => Ok(started.elapsed().as_secs_f64() * 1e3),
        Reply::Error(error) => Err(Failure::of_daemon(error).into()),
        other => Err(Failure::plain(format!("the daemon answered {other:?}")).into()),
    }
}
