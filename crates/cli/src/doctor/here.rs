//! The shell that `doctor` was called in: whether it has a client, and how soon that answers a key.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{Finding, problems, shells::SHELLS};
use crate::context;

/// Lines of which each begins otherwise, so that none is answered from what is known of the one before.
const LINES: [&str; 7] =
    ["git comm", "find . -nam", "docker ru", "kubectl ge", "cargo bui", "systemctl stat", "apt-get inst"];

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Longer than this, a suggestion comes after the next key.
const SOON: f64 = 50.0;

/// The shell that called us and its process id, where it is one of ours.
fn parent() -> Option<(&'static str, i32)> {
    let pid = rustix::process::getppid()?.as_raw_nonzero().get();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    SHELLS.into_iter().find(|shell| *shell == name.trim()).map(|shell| (shell, pid))
}

/// Whether the shell that called us has a client. Nothing where that can't be told.
pub(super) fn client() -> Option<Finding> {
    let (shell, pid) = parent()?;
    let pid = pid.to_string();
    let serves_it = |command: Vec<u8>| {
        let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        words.contains(&b"attach".as_slice()) && words.contains(&pid.as_bytes())
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let has_one = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(serves_it);
    Some(if has_one {
        Finding::good("this shell", format!("{shell}, pid {pid}, suggests as you type"))
    } else {
        Finding::bad(
            &problems::NO_CLIENT,
            format!(
                "{shell}, pid {pid}, has no client: it was started before nemoterm was set up, or is no interactive one, or suggests only at a key"
            ),
        )
    })
}

/// How long it takes from a key that a shell has passed on until there is something to draw.
pub(super) fn key_to_suggestion() -> Option<Finding> {
    let check = "key";
    let shell = parent().map_or_else(context::login_shell, |(shell, _)| shell.to_owned());
    let shell = SHELLS.into_iter().find(|name| **name == shell).unwrap_or("bash");
    Some(match measure(shell) {
        Ok(mut times) if times.len() > LINES.len() / 2 => {
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let found = format!(
                "{median:.1} ms from a key to its suggestion, but for drawing it (median of {} in {shell})",
                times.len()
            );
            if median < SOON { Finding::good(check, found) } else { Finding::bad(&problems::SLOW_KEY, found) }
        }
        Ok(times) => Finding::bad(
            &problems::NO_SUGGESTIONS,
            format!(
                "{} of {} keys got a suggestion within {} ms",
                times.len(),
                LINES.len(),
                PATIENCE.as_millis()
            ),
        ),
        Err(error) => Finding::bad(&problems::NO_KEY, format!("the shell's client can't be run: {error}")),
    })
}

/// Milliseconds from a request to its first answer, of those that were answered, through a client of our own as shells
/// have one.
fn measure(shell: &str) -> std::io::Result<Vec<f64>> {
    let mut client = Command::new(env::current_exe()?)
        .args(["attach", shell])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(mut requests), Some(replies)) = (client.stdin.take(), client.stdout.take()) else {
        return Ok(Vec::new());
    };
    let (sender, records) = mpsc::channel();
    thread::spawn(move || {
        for record in BufReader::new(replies).split(0).map_while(Result::ok) {
            if sender.send(record).is_err() {
                return;
            }
        }
    });
    let mut times = Vec::new();
    // The first one brings the client into the conversation and is not counted.
    for (number, line) in std::iter::once(&LINES[0]).chain(&LINES).enumerate() {
        let started = Instant::now();
        let (number, length) = (number + 1, line.chars().count());
        if requests.write_all(format!("{number}\x1ftype\x1f{length}\x1f{line}\0").as_bytes()).is_err() {
            break;
        }
        let beginning = format!("{number}\x1f").into_bytes();
        loop {
            match records.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                Ok(record) if record.starts_with(&beginning) => {
                    if number > 1 {
                        times.push(started.elapsed().as_secs_f64() * 1e3);
                    }
                    break;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
    }
    // It ends with its input.
    drop(requests);
    client.wait()?;
    Ok(times)
}
