//! `nemoterm doctor`: what works, what does not, and what to do about it.
//!
//! It reads the shells' files and runs none of them: they may start anything.

mod here;
mod shells;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use nemoterm_protocol::{Complete, RemoteState, Reply, Request, State, client::Client};
use serde::Serialize;

use crate::{
    daemon,
    daemon_process::{self, Program},
    failure::Failure,
};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, ok: true, found: found.into(), hint: None }
    }

    fn bad(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, ok: false, found: found.into(), hint: Some(hint.into()) }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut findings = vec![program(), socket()];
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
        Err(error) => Finding::bad("program", error.to_string(), "run install.sh again"),
    }
}

fn socket() -> Finding {
    match daemon::locate() {
        Ok(runtime) => Finding::good("socket", runtime.socket().display().to_string()),
        Err(error) => Finding::bad(
            "socket",
            error.to_string(),
            "set NEMOTERM_RUNTIME_DIR to a directory of your own with mode 0700",
        ),
    }
}

/// The daemon, its model, and how long a warm completion takes.
fn daemon_and_model() -> Vec<Finding> {
    let Ok(runtime) = daemon::locate() else { return Vec::new() };
    let client = match daemon_process::connect_or_start(&runtime) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::bad("daemon", format!("{error:#}"), "nemoterm daemon logs may tell why")];
        }
    };
    let welcome = client.welcome();
    let mut findings = vec![running(&welcome.version, welcome.pid)];
    let timed = (0..5).map(|id| time_completion(&client, id)).collect::<anyhow::Result<Vec<_>>>();
    let current = daemon::current(&runtime);
    let remote = current.as_ref().ok().and_then(|status| status.as_ref()?.remote.clone());
    findings.extend(remote.as_deref().map(|remote| {
        let found = format!("{} at {}: {}", remote.model, remote.url, daemon::describe_remote(remote));
        match &remote.state {
            RemoteState::Untried | RemoteState::Answering => Finding::good("remote", found),
            RemoteState::Failing { error, hint } | RemoteState::Paused { error, hint, .. } => {
                Finding::bad("remote", error.clone(), hint.clone())
            }
        }
    }));
    findings.push(match current {
        Ok(Some(status)) => match (status.state, status.model) {
            (State::Failed { error, hint }, _) => Finding::bad("model", error, hint),
            (_, Some(model)) => Finding::good("model", format!("{} on {}", model.name, model.device)),
            (_, None) => {
                Finding::bad("model", "still loading", "nemoterm daemon status tells when it is there")
            }
        },
        Ok(None) => Finding::bad("model", "the daemon went away", "nemoterm daemon logs may tell why"),
        Err(error) => Finding::bad("model", format!("{error:#}"), "nemoterm daemon restart"),
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
                if median < 90.0 { Finding::good("speed", found) } else { Finding::bad("speed", found, hint) }
            } else {
                Finding::bad("speed", found, "a smaller model answers sooner: nemoterm model list")
            });
        }
        Err(error) => findings.push(Finding::bad("speed", format!("{error:#}"), "nemoterm daemon restart")),
    }
    findings
}

/// Whether the daemon that runs is of the programs that are installed.
fn running(version: &str, pid: u32) -> Finding {
    let found = format!("release {version}, pid {pid}");
    let hint = "nemoterm daemon restart";
    if version != env!("CARGO_PKG_VERSION") {
        let found = format!("{found}, and this program is of release {}", env!("CARGO_PKG_VERSION"));
        return Finding::bad("daemon", found, hint);
    }
    // Where there is such a file, it tells of a program that was replaced since the daemon was started.
    let program = fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe"));
    if program.is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)")) {
        return Finding::bad("daemon", format!("{found}, of a program that was replaced since"), hint);
    }
    Finding::good("daemon", found)
}

/// Whether all shells are silenced.
fn switch() -> Option<Finding> {
    let off = daemon::locate().ok()?.off_switch();
    let found = "suggestions are turned off in every shell";
    off.exists().then(|| Finding::bad("switch", found, "nemoterm on brings them back"))
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
