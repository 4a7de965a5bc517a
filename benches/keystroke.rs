//! From a key to what it brings on the screen: `cargo bench --bench keystroke -- [--shell bash|fish] [--keys N] [--rate N] [--json]`.
//!
//! A terminal types recorded lines into a bare zsh, bash or fish and into the same shell with nemoterm and a daemon with the
//! embedded model, one line here and one line there, at the speed of a fast typist. Reported are
//!
//! - the echo: from writing the key to the terminal until the cursor has moved, with and without nemoterm;
//! - the ghost: from writing the key until a suggestion for the line with that key in it is on the screen, and
//!   until the last one before the next key is (the model's may follow the history's).
//!
//! A key to which there is no suggestion counts in the share of keys with one, not in the times.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to save")]

#[allow(dead_code, reason = "the terminal tests use the rest")]
#[path = "../tests/util/mod.rs"]
mod util;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use util::{home::Home, nemoterm, nemotermd, terminal::Terminal};

/// What is typed: the beginnings of everyday commands, most of which are not in the history.
const LINES: &[&str] = &[
    "git status",
    "find . -name '*.rs'",
    "docker ps -a",
    "cargo test --workspace",
    "ls -la src",
    "git commit -m 'Fix the parser'",
    "tar -czf backup.tar.gz src",
    "grep -rn TODO src",
    "ssh deploy@example.org",
    "kubectl get pods -n prod",
    "curl -sS https://example.org",
    "python3 -m venv .venv",
];

/// What was run before.
const HISTORY: &str =
    "cd src\ncargo build\ngit pull\nls -la\nmake test\ndocker compose up -d\nvim Cargo.toml\n";

/// Milliseconds of each key.
#[derive(Debug, Default)]
struct Times {
    echo: Vec<f64>,
    first_ghost: Vec<f64>,
    last_ghost: Vec<f64>,
    keys: usize,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let number = |name: &str, default: u64| {
        let position = arguments.iter().position(|argument| argument == name);
        position.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (keys, rate) = (number("--keys", 200) as usize, number("--rate", 8).max(1));
    let pause = Duration::from_millis(1000 / rate);
    let asked = |name: &&&str| arguments.iter().any(|argument| argument == **name);
    let name = ["bash", "fish"].iter().find(asked).copied().unwrap_or("zsh");
    let Some(shell) = util::find(name) else { return };
    let bare_shell: &[&str] = match name {
        "bash" => &["--noprofile", "--norc", "-i"],
        "fish" => &["--no-config", "-i"],
        _ => &["-f", "-i"],
    };
    let builtin = nemoterm().with_file_name("libnemoterm_bash.so");
    assert!(name != "bash" || builtin.is_file(), "{} is missing: build nemoterm-bash", builtin.display());

    let home = Home::new();
    home.write(".history", HISTORY);
    for name in ["work/src/main.rs", "work/Cargo.toml", "work/README.md", "work/.git/HEAD"] {
        home.write(name, "");
    }
    home.limit(Duration::from_millis(150));
    let start = |rc: &str| {
        let mut command = home.command(&shell);
        command.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd()).args(bare_shell);
        let terminal = Terminal::spawn(command);
        terminal.wait("a prompt", |screen| screen.cursor.1 > 0);
        let prompt = match name {
            "fish" => "function fish_prompt; printf '> '; end;",
            _ => "PS1='> '; HISTFILE=~/.history;",
        };
        terminal.send(format!("{prompt} {rc} clear\r"));
        terminal.wait("the prompt", |screen| screen.rows == [">"] && screen.cursor == (0, 2));
        terminal
    };
    let bare = start("");
    let program = nemoterm().display();
    let with = start(&match name {
        "fish" => format!("set -g NEMOTERM_MODE type; {program} init fish | source;"),
        _ => format!("eval \"$({program} init {name})\";"),
    });
    let _daemon = StopsDaemon(&home);
    // The model is loaded before anyone measures.
    let mut warm = home.command(nemoterm());
    warm.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd()).args(["complete", "git com"]);
    let warm = warm.output().unwrap();
    assert!(warm.status.success(), "{}", String::from_utf8_lossy(&warm.stderr));

    let (mut without, mut nemoterm) = (Times::default(), Times::default());
    for line in LINES.iter().cycle() {
        if nemoterm.keys >= keys {
            break;
        }
        type_line(&bare, line, pause, &mut without);
        type_line(&with, line, pause, &mut nemoterm);
    }
    report(&without, &nemoterm, arguments.iter().any(|argument| argument == "--json"));
}

/// Types a line at that speed, takes the times, and empties the line again.
fn type_line(terminal: &Terminal, line: &str, pause: Duration, times: &mut Times) {
    // After the prompt and the key.
    for (column, key) in (3..).zip(line.chars()) {
        let seen = terminal.moments(0).len();
        let typed = Instant::now();
        terminal.send(key.to_string());
        thread::sleep(pause);
        let moments = terminal.moments(seen);
        let since = |at: Instant| at.duration_since(typed).as_secs_f64() * 1e3;
        times.keys += 1;
        times
            .echo
            .extend(moments.iter().find(|moment| moment.cursor.1 == column).map(|moment| since(moment.at)));
        let mut ghosts =
            moments.iter().filter(|moment| moment.cursor.1 == column && !moment.ghost.is_empty());
        if let Some(first) = ghosts.next() {
            let ghost = &moments[moments.len() - 1].ghost;
            let last =
                moments.iter().rev().take_while(|moment| moment.ghost == *ghost).last().unwrap_or(first);
            times.first_ghost.push(since(first.at));
            times.last_ghost.push(since(last.at.max(first.at)));
        }
    }
    terminal.send("\x15");
    terminal.wait("an empty line", |screen| screen.cursor.1 == 2 && screen.ghost.is_empty());
    thread::sleep(pause);
}

/// The value below which that share of the times lies.
fn percentile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn report(bare: &Times, nemoterm: &Times, json: bool) {
    let rows = [
        ("echo_bare", &bare.echo),
        ("echo_nemoterm", &nemoterm.echo),
        ("first_ghost", &nemoterm.first_ghost),
        ("last_ghost", &nemoterm.last_ghost),
    ];
    let shares = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];
    let added = percentile(&nemoterm.echo, 0.99) - percentile(&bare.echo, 0.99);
    let with_ghost = nemoterm.first_ghost.len() as f64 / nemoterm.keys as f64;
    if json {
        let mut object = serde_json::Map::new();
        for (name, times) in rows {
            let values =
                shares.iter().map(|(label, share)| ((*label).to_owned(), percentile(times, *share).into()));
            object.insert(format!("{name}_ms"), serde_json::Value::Object(values.collect()));
        }
        object.insert("echo_added_p99_ms".to_owned(), added.into());
        object.insert("keys".to_owned(), nemoterm.keys.into());
        object.insert("keys_with_ghost".to_owned(), with_ghost.into());
        println!("{}", serde_json::Value::Object(object));
        return;
    }
    println!("{:<16}{:>8}{:>9}{:>9}{:>9}", "ms", "keys", "p50", "p95", "p99");
    for (name, times) in rows {
        let [p50, p95, p99] = shares.map(|(_, share)| percentile(times, share));
        println!("{name:<16}{:>8}{p50:>9.2}{p95:>9.2}{p99:>9.2}", times.len());
    }
    println!(
        "echo added at p99: {added:.2} ms; a ghost for {:.0} % of {} keys",
        with_ghost * 100.0,
        nemoterm.keys
    );
}

/// Ends the daemon that the shell's client has started.
struct StopsDaemon<'a>(&'a Home);

impl Drop for StopsDaemon<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(nemoterm()).args(["daemon", "stop"]).output();
    }
}
