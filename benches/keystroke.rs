//! From a key to what it brings on the screen: `cargo bench --bench keystroke -- [--shell bash|fish] [--keys N] [--rate N] [--json]`.
//!
//! A terminal types recorded lines into a bare zsh, bash or fish and into the same shell with nemoterm and a daemon with the
//! embedded model, one line here and one line there, at the speed of a fast typist. Reported are
//!
//! - the echo: from writing the key to the terminal until the cursor has moved, with and without nemoterm;
//! - the ghost: from writing the key until a suggestion for the line with that key in it is on the screen, and
//!   until the last one before the next key is (the model's may follow the history's);
//! - the processor: what a key takes of it, in the shell with the children that it has waited for, and in its client.
//!
//! In zsh the same lines go into one with zsh-autosuggestions and its history, too, where that is installed.
//!
//! A key to which there is no suggestion counts in the share of keys with one, not in the times.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to save")]

#[allow(dead_code, reason = "the terminal tests use the rest")]
#[path = "../tests/util/mod.rs"]
mod util;

use std::{
    env, fs,
    path::Path,
    thread,
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
        "fish" => format!("{program} init fish | source;"),
        _ => format!("eval \"$({program} init {name})\";"),
    });
    // Where Debian has it. A shell that is told its history file by hand has to read it.
    let autosuggestions = "/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh";
    let peer = (name == "zsh" && Path::new(autosuggestions).is_file())
        .then(|| start(&format!("SAVEHIST=100 HISTSIZE=100; fc -R ~/.history; source {autosuggestions};")));
    if name == "zsh" && peer.is_none() {
        eprintln!("zsh-autosuggestions is not measured: {autosuggestions} is not there");
    }
    let _daemon = StopsDaemon(&home);
    // The model is loaded before anyone measures.
    let mut warm = home.command(nemoterm());
    warm.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd()).args(["complete", "git com"]);
    let warm = warm.output().unwrap();
    assert!(warm.status.success(), "{}", String::from_utf8_lossy(&warm.stderr));

    let (mut without, mut nemoterm, mut peers) = (Times::default(), Times::default(), Times::default());
    let client = home.processes("attach").first().map(|client| client.as_raw_nonzero().get());
    let processor = || {
        let shell = |terminal: &Terminal| processor_time(terminal.pid() as i32);
        let peer = peer.as_ref().map_or(0.0, shell);
        [shell(&bare), shell(&with), client.map_or(0.0, processor_time), peer]
    };
    let before = processor();
    for line in LINES.iter().cycle() {
        if nemoterm.keys >= keys {
            break;
        }
        type_line(&bare, line, pause, &mut without);
        type_line(&with, line, pause, &mut nemoterm);
        if let Some(peer) = &peer {
            type_line(peer, line, pause, &mut peers);
        }
    }
    let after = processor();
    let taken = std::array::from_fn(|i| (after[i] - before[i]) / nemoterm.keys as f64);
    report(
        &without,
        &nemoterm,
        taken,
        peer.is_some().then_some(&peers),
        arguments.iter().any(|argument| argument == "--json"),
    );
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

/// Whose time on the processor is told.
const TAKEN: [&str; 4] = ["bare", "nemoterm", "client", "autosuggestions"];

/// The value below which that share of the times lies.
fn percentile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// `taken` is the processor's time for a key, in milliseconds: of the bare shell, of the one with nemoterm, of its client and of
/// the shell with the peer.
fn report(bare: &Times, nemoterm: &Times, taken: [f64; 4], peer: Option<&Times>, json: bool) {
    let mut rows = vec![
        ("echo_bare", &bare.echo),
        ("echo_nemoterm", &nemoterm.echo),
        ("first_ghost", &nemoterm.first_ghost),
        ("last_ghost", &nemoterm.last_ghost),
    ];
    if let Some(peer) = peer {
        rows.push(("echo_autosuggestions", &peer.echo));
        rows.push(("ghost_autosuggestions", &peer.first_ghost));
    }
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
        for (name, time) in TAKEN.iter().zip(taken) {
            object.insert(format!("processor_{name}_ms"), time.into());
        }
        object.insert("keys".to_owned(), nemoterm.keys.into());
        object.insert("keys_with_ghost".to_owned(), with_ghost.into());
        println!("{}", serde_json::Value::Object(object));
        return;
    }
    println!("{:<24}{:>8}{:>9}{:>9}{:>9}", "ms", "keys", "p50", "p95", "p99");
    for (name, times) in rows {
        let [p50, p95, p99] = shares.map(|(_, share)| percentile(times, share));
        println!("{name:<24}{:>8}{p50:>9.2}{p95:>9.2}{p99:>9.2}", times.len());
    }
    let taken = TAKEN.iter().zip(taken).filter(|&(name, _)| *name != "autosuggestions" || peer.is_some());
    let taken: Vec<String> = taken.map(|(name, time)| format!("{name} {time:.2}")).collect();
    println!("processor time for a key, ms: {}", taken.join(", "));
    println!(
        "echo added at p99: {added:.2} ms; a ghost for {:.0} % of {} keys",
        with_ghost * 100.0,
        nemoterm.keys
    );
}

/// Milliseconds of the processor that a process and the children it has waited for have had, where Linux tells: see
/// `proc_pid_stat(5)`.
fn processor_time(process: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, which may hold blanks, stands in brackets; the times are four fields from the twelfth after it on.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: f64 = fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * 1e3 / rustix::param::clock_ticks_per_second() as f64
}

/// Ends the daemon that the shell's client has started.
struct StopsDaemon<'a>(&'a Home);

impl Drop for StopsDaemon<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(nemoterm()).args(["daemon", "stop"]).output();
    }
}
