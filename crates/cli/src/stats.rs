//! `nemoterm stats`: what suggestions have been good for. The daemon has the numbers; where none runs, its file does.

use std::{
    fs,
    io::{self, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nemoterm_protocol::{
    Reply, Request, Source,
    client::ClientError,
    stats::{Row, Stats},
};
use serde::Serialize;

use crate::{daemon, daemon_process::explain, failure::Failure};

const ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Forget what was counted so far
    #[arg(long)]
    reset: bool,
}

/// What is printed of a row.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    shell: &'a str,
    source: &'a str,
    shown: u64,
    accepted: u64,
    keys_saved: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
}

impl<'a> Printed<'a> {
    fn of(row: &'a Row) -> Self {
        let source = match row.source {
            Source::Model => "model",
            Source::History => "history",
            Source::Context => "context",
        };
        let tenths = |share| row.latency.percentile(share).map(|ms| (10.0 * ms).round() / 10.0);
        Self {
            shell: &row.shell,
            source,
            shown: row.shown,
            accepted: row.accepted,
            keys_saved: row.saved,
            p50_ms: tenths(0.5),
            p95_ms: tenths(0.95),
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let (stats, on) = ask(args.reset)?;
    if args.reset {
        eprintln!("what was counted is forgotten");
        return Ok(());
    }
    let mut all = Row::new("all", Source::Model);
    stats.rows.iter().for_each(|row| all.add(row));
    let mut out = io::stdout().lock();
    if args.json {
        let rows: Vec<Printed<'_>> = stats.rows.iter().map(Printed::of).collect();
        let since = (stats.since > 0).then_some(stats.since);
        let value = serde_json::json!({
            "since": since,
            "counting": on,
            "shown": all.shown,
            "accepted": all.accepted,
            "keys_saved": all.saved,
            "rows": rows,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    if on == Some(false) {
        eprintln!("nothing is counted now; nemoterm config set stats on counts again");
    }
    if stats.rows.is_empty() {
        eprintln!("nothing has been counted yet");
        return Ok(());
    }
    let columns = ["shown", "taken", "", "keys saved", "p50 ms", "p95 ms"];
    let [shown, taken, share, saved, p50, p95] = columns;
    writeln!(out, "{:<7}{:<9}{shown:>9}{taken:>9}{share:>7}{saved:>12}{p50:>9}{p95:>9}", "shell", "source")?;
    let mut rows: Vec<&Row> = stats.rows.iter().collect();
    rows.sort_by(|a, b| (&a.shell, b.shown).cmp(&(&b.shell, a.shown)));
    for row in rows {
        let printed = Printed::of(row);
        writeln!(out, "{}", line(printed.shell, printed.source, &printed))?;
    }
    writeln!(out, "{}", line("all", "", &Printed::of(&all)))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = now.saturating_sub(stats.since) / 86_400;
    writeln!(
        out,
        "counted since {}, on this machine only; nemoterm config set stats off ends it, --reset forgets it",
        if days == 0 { "today".to_owned() } else { format!("{days} days ago") }
    )?;
    Ok(())
}

fn line(shell: &str, source: &str, row: &Printed<'_>) -> String {
    let ms = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.1}"));
    let share = 100.0 * row.accepted as f64 / row.shown.max(1) as f64;
    format!(
        "{shell:<7}{source:<9}{:>9}{:>9}{:>7}{:>12}{:>9}{:>9}",
        row.shown,
        row.accepted,
        format!("{share:.0} %"),
        row.keys_saved,
        ms(row.p50_ms),
        ms(row.p95_ms)
    )
}

/// What was counted, and whether counting goes on, where that is known.
fn ask(reset: bool) -> anyhow::Result<(Stats, Option<bool>)> {
    let client = match daemon::connect(&daemon::locate()?) {
        Ok(client) => client,
        Err(ClientError::NotRunning) => return Ok((of_file(reset)?, None)),
        Err(error) => return Err(explain(error).into()),
    };
    let Some(on) = client.welcome().stats else {
        return Err(Failure::new("the running daemon counts nothing", "nemoterm daemon restart").into());
    };
    match client.ask(&Request::Stats { reset }, ANSWER).map_err(explain)? {
        Reply::Stats(stats) => Ok((*stats, Some(on))),
        Reply::Error(error) => Err(Failure::of_daemon(error).into()),
        other => Err(Failure::plain(format!("the daemon answered {other:?}")).into()),
    }
}

/// The same without a daemon.
fn of_file(reset: bool) -> anyhow::Result<Stats> {
    let Some(file) = Stats::file() else {
        return Err(Failure::new("there is no home directory", "set HOME").into());
    };
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stats::default()),
        Err(error) => {
            let hint = "check who owns it; nemoterm stats --reset removes it";
            return Err(Failure::new(format!("{} can't be read: {error}", file.display()), hint).into());
        }
    };
    if reset {
        fs::remove_file(&file)
            .map_err(|error| Failure::plain(format!("{} can't be removed: {error}", file.display())))?;
        return Ok(Stats::default());
    }
    // As the daemon does with one that makes no sense.
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}
