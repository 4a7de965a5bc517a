//! What the hotkey does, in every shell that has one and no more.

use std::{fs, time::Duration};

use super::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, HOSTILE, LEFT, METACHARACTERS, RIGHT, bash, fish, knowing};
use crate::util::{
    fake::{Answer, Fake},
    home::Home,
    terminal::Terminal,
};

#[derive(Debug, Clone, Copy)]
pub enum Shell {
    Bash,
    Fish,
}

impl Shell {
    fn start(self, home: &Home) -> Option<Terminal> {
        match self {
            Self::Bash => bash::start(home, "", 24, 80),
            Self::Fish => fish::start(home, "", 24, 80),
        }
    }
}

/// Every case, one shell after the other.
pub fn all(shell: Shell) {
    let cases: [fn(Shell) -> Option<()>; 11] = [
        accept,
        words_and_alternatives,
        other_keys,
        a_description,
        nothing_to_suggest,
        no_daemon,
        daemons_that_fail,
        hostile_text,
        wide_characters,
        clipped,
        told_to_end,
    ];
    for case in cases {
        if case(shell).is_none() {
            return;
        }
    }
}

/// Types a line and asks.
fn ask(terminal: &Terminal, line: &str) {
    terminal.send(line);
    terminal.wait_row(&format!("> {line}"));
    terminal.send(CTRL_SPACE);
}

fn wait_plain(terminal: &Terminal, row: &str) {
    terminal.wait(&format!("{row:?} without a ghost"), |screen| {
        screen.ghost.is_empty() && screen.last_row() == row
    });
}

/// Empties the line.
fn clear(terminal: &Terminal) {
    terminal.send("\x05\x15");
    terminal.wait_row(">");
}

fn accept(shell: Shell) -> Option<()> {
    let home = Home::new();
    let daemon = knowing(&home, &["echo hello world"]);
    let terminal = shell.start(&home)?;
    for key in [RIGHT, "\x1bOC", "\x1b[F", "\x05", "\x06"] {
        ask(&terminal, "echo he");
        let screen = terminal.wait_ghost("llo world");
        assert_eq!(screen.last_row(), "> echo hello world");
        assert_eq!(screen.cursor.1, 9, "the cursor stays where one types");
        terminal.send(key);
        wait_plain(&terminal, "> echo hello world");
        // What is on the screen is what is in the line.
        terminal.send("!\x01\x05?");
        wait_plain(&terminal, "> echo hello world!?");
        clear(&terminal);
    }
    let request = &daemon.requests()[0];
    assert_eq!(request.context.shell, format!("{shell:?}").to_lowercase());
    assert_eq!(request.context.cwd.as_deref(), home.work().to_str());
    ask(&terminal, "echo he");
    terminal.wait_ghost("llo world");
    terminal.send(format!("{RIGHT}\r"));
    terminal.wait_output("hello world");
    Some(())
}

fn words_and_alternatives(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = knowing(&home, &["make build all", "make bench", "make build one"]);
    let terminal = shell.start(&home)?;
    ask(&terminal, "make b");
    terminal.wait_ghost("uild all");
    terminal.send("\x1b]");
    terminal.wait_ghost("ench");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("uild one");
    terminal.send("\x1b[");
    terminal.wait_ghost("ench");
    terminal.send("\x1b[");
    terminal.wait_ghost("uild all");
    terminal.send(ALT_RIGHT);
    let screen = terminal.wait_ghost(" all");
    assert_eq!(screen.last_row(), "> make build all");
    terminal.send("\x1b]");
    terminal.wait_ghost(" one");
    terminal.send("\x1bf");
    wait_plain(&terminal, "> make build one");
    clear(&terminal);
    ask(&terminal, "make b");
    terminal.wait_ghost("uild all");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" all");
    terminal.send("\x1b");
    wait_plain(&terminal, "> make build");
    terminal.send("x");
    wait_plain(&terminal, "> make buildx");
    Some(())
}

/// A key that is not for us dismisses the ghost and does what it always does.
fn other_keys(shell: Shell) -> Option<()> {
    let home = Home::new();
    home.write("work/file-to-complete", "");
    let _daemon = knowing(&home, &["echo abcdef", "cat file of ours"]);
    let terminal = shell.start(&home)?;
    let after = |key: &str, row: &str| {
        ask(&terminal, "echo abc");
        terminal.wait_ghost("def");
        terminal.send(key);
        wait_plain(&terminal, row);
        clear(&terminal);
    };
    after("x", "> echo abcx");
    after(" x", "> echo abc x");
    after("xyz", "> echo abcxyz");
    after("'\"\\$", "> echo abc'\"\\$");
    after("é", "> echo abcé");
    after("日本", "> echo abc日本");
    after(BACKSPACE, "> echo ab");
    after("\x17", "> echo");
    after(&format!("{LEFT}x"), "> echo abxc");
    after("\x01x", "> xecho abc");
    after("\x1bbx", "> echo xabc");
    after("\x1b[200~pasted\x1b[201~", "> echo abcpasted");

    ask(&terminal, "echo abc");
    terminal.wait_ghost("def");
    terminal.send("\r");
    terminal.wait("the output and a prompt", |screen| {
        screen.ghost.is_empty() && screen.text().ends_with("> echo abc\nabc\n>")
    });

    ask(&terminal, "cat file");
    terminal.wait_ghost(" of ours");
    terminal.send("\t");
    wait_plain(&terminal, "> cat file-to-complete");
    clear(&terminal);

    // An arrow key goes to the history.
    ask(&terminal, "echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x1b[A");
    wait_plain(&terminal, "> echo abc");
    clear(&terminal);

    // Ctrl-C abandons the line.
    ask(&terminal, "echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    terminal.wait("a new prompt", |screen| screen.ghost.is_empty() && screen.last_row() == ">");
    terminal.send("echo still here\r");
    terminal.wait_output("still here");
    Some(())
}

fn a_description(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "# say hi" => Answer::suffix("echo hi"),
        _ => Answer::Silence,
    });
    let terminal = shell.start(&home)?;
    ask(&terminal, "# say hi");
    terminal.wait_row("> # say hi  -> echo hi");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hi");
    terminal.send("\r");
    terminal.wait_output("hi");
    Some(())
}

fn nothing_to_suggest(shell: Shell) -> Option<()> {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let terminal = shell.start(&home)?;
    // An empty line and one that nobody knows: the next key is not taken.
    terminal.send(format!("{CTRL_SPACE}{CTRL_SPACE}zzz"));
    wait_plain(&terminal, "> zzz");
    terminal.send(CTRL_SPACE);
    daemon.wait_line("zzz");
    terminal.send("yx");
    wait_plain(&terminal, "> zzzyx");
    fs::write(home.runtime().off_switch(), "").unwrap();
    clear(&terminal);
    terminal.send(format!("echo a{CTRL_SPACE}x"));
    wait_plain(&terminal, "> echo ax");
    assert!(!daemon.requests().iter().any(|request| request.line == "echo a"));
    Some(())
}

fn no_daemon(shell: Shell) -> Option<()> {
    let home = Home::new();
    home.write(".bash_history", "cargo test --workspace\n");
    home.write(".local/share/fish/fish_history", "- cmd: cargo test --workspace\n  when: 1\n");
    let terminal = shell.start(&home)?;
    terminal.send("cargo t");
    terminal.wait("the line", |screen| screen.last_row().starts_with("> cargo t"));
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("est --workspace");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> cargo test --workspace");
    Some(())
}

fn daemons_that_fail(shell: Shell) -> Option<()> {
    let answers: [fn(&nemoterm_protocol::Complete) -> Answer; 4] = [
        |_| Answer::Silence,
        |_| Answer::HangUp,
        |_| Answer::Bytes(vec![0xff; 64]),
        |_| Answer::Bytes(b"\x40\0\0\0{\"type\":".to_vec()),
    ];
    for answer in answers {
        let home = Home::new();
        let _daemon = Fake::start(home.runtime(), answer);
        // The limit that is set in use.
        home.limit(Duration::from_millis(50));
        let terminal = shell.start(&home)?;
        terminal.send(format!("echo abc{CTRL_SPACE} def"));
        wait_plain(&terminal, "> echo abc def");
        terminal.send("\r");
        let screen = terminal.wait_output("abc def");
        assert_eq!(screen.rows.iter().filter(|row| row.contains("abc")).count(), 2, "{screen:?}");
    }
    Some(())
}

fn hostile_text(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "echo a" => Answer::Suffixes(HOSTILE.iter().copied().chain(["bc"]).map(str::to_owned).collect()),
        "echo m" => Answer::suffix(METACHARACTERS),
        _ => Answer::Silence,
    });
    let terminal = shell.start(&home)?;
    ask(&terminal, "echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x1b]");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
    assert!(
        terminal.ghosts().iter().all(|ghost| ghost.is_empty() || ghost == "bc"),
        "{:?}",
        terminal.ghosts()
    );
    clear(&terminal);
    ask(&terminal, "echo m");
    terminal.wait("the ghost", |screen| screen.ghost.starts_with("$(touch"));
    terminal.send(RIGHT);
    terminal
        .wait("the line", |screen| screen.ghost.is_empty() && screen.text().contains(&METACHARACTERS[..50]));
    terminal.send("\x15echo done\r");
    terminal.wait_output("done");
    assert!(!home.path().join("marker").exists(), "accepting ran something");
    Some(())
}

fn wide_characters(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo 日本語 naïve done"]);
    let terminal = shell.start(&home)?;
    ask(&terminal, "echo 日");
    let screen = terminal.wait_ghost("本語 naïve done");
    assert_eq!(screen.cursor.1, 9);
    terminal.send(ALT_RIGHT);
    let screen = terminal.wait_ghost(" naïve done");
    assert_eq!(screen.cursor.1, 13);
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo 日本語 naïve done");
    terminal.send(BACKSPACE.repeat(5));
    wait_plain(&terminal, "> echo 日本語 naïve");
    Some(())
}

fn clipped(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdefghijklmnopqrstuvwxyz日本語日本語"]);
    let terminal = match shell {
        Shell::Bash => bash::start(&home, "", 24, 40)?,
        Shell::Fish => fish::start(&home, "", 24, 40)?,
    };
    ask(&terminal, "echo a");
    let screen = terminal.wait_ghost("bcdefghijklmnopqrstuvwxyz日本…");
    assert_eq!(screen.rows.len(), 2, "nothing wraps: {screen:?}");
    terminal.send(RIGHT);
    terminal.wait("the whole line", |screen| {
        screen.ghost.is_empty() && screen.text().replace('\n', "").contains("xyz日本語日本語")
    });
    Some(())
}

/// A killed `nemoterm hotkey` leaves a terminal that works.
fn told_to_end(shell: Shell) -> Option<()> {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let terminal = shell.start(&home)?;
    ask(&terminal, "echo a");
    terminal.wait_ghost("bc");
    let pid = home.processes("hotkey")[0];
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_plain(&terminal, "> echo a");
    terminal.send("z\r");
    let screen = terminal.wait_output("az");
    assert!(screen.rows.contains(&"> echo az".to_owned()), "{screen:?}");
    Some(())
}
