//! Clients and daemons that are missing, hang or go away, and shells that do.

use std::fs;

use nemoterm_protocol::Complete;
use rustix::process::{Signal, kill_process};

use super::{clear, start, wait_plain};
use crate::shells::{CTRL_SPACE, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find,
    home::Home,
    terminal::Terminal,
};

/// Types lines of which none begins like another, and runs them.
fn typed_lines(terminal: &Terminal) {
    let lines = [("echo one", "one"), ("string upper two", "TWO"), ("count a b c", "3")];
    for (line, output) in lines {
        terminal.type_slowly(line);
        wait_plain(terminal, &format!("> {line}"));
        terminal.send("\r");
        let screen = terminal.wait_output(output);
        assert!(!screen.text().contains("rror"), "{screen:?}");
    }
}

#[test]
fn typing_is_normal_without_a_daemon_with_a_hung_one_and_with_a_mad_one() {
    let answers: [fn(&Complete) -> Answer; 4] = [
        |_| Answer::Silence,
        |_| Answer::HangUp,
        |_| Answer::Bytes(vec![0xff; 64]),
        |_| Answer::Bytes(b"\x40\0\0\0{\"type\":".to_vec()),
    ];
    for answer in answers {
        let home = Home::new();
        let _daemon = Fake::start(home.runtime(), answer);
        let Some(terminal) = start(&home, "") else { return };
        typed_lines(&terminal);
    }
    let home = Home::new();
    let Some(terminal) = start(&home, "") else { return };
    typed_lines(&terminal);
}

#[test]
fn a_killed_daemon_is_found_again() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    drop(daemon);
    clear(&terminal);
    typed_lines(&terminal);
    let _daemon = knowing(&home, &["echo abc"]);
    eventually("a ghost from the new daemon", || {
        clear(&terminal);
        terminal.type_slowly("echo a");
        let since = std::time::Instant::now();
        while since.elapsed().as_millis() < 300 {
            if terminal.screen().ghost == "bc" {
                return true;
            }
        }
        false
    });
}

#[test]
fn a_killed_client_costs_nothing_and_is_started_again() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    let client = home.processes("attach")[0];
    kill_process(client, Signal::KILL).unwrap();
    eventually("the client is gone", || !home.processes("attach").contains(&client));
    clear(&terminal);
    typed_lines(&terminal);
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    assert_ne!(home.processes("attach"), [client]);
    // What the killed one has left is gone too.
    let name = format!("attach.{}", client.as_raw_nonzero());
    assert!(!files(&home).iter().any(|file| file.starts_with(&name)), "{:?}", files(&home));
}

/// A client that is stopped reads nothing: the shell must not fill the pipe and wait.
#[test]
fn a_stopped_client_costs_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    let client = home.processes("attach")[0];
    kill_process(client, Signal::STOP).unwrap();
    clear(&terminal);
    let long = "x".repeat(70);
    for _ in 0..15 {
        terminal.send(&long);
        wait_plain(&terminal, &format!("> {long}"));
        clear(&terminal);
    }
    kill_process(client, Signal::CONT).unwrap();
}

/// A client that could not answer for a whole line, however many records that were, answers in the next line.
#[test]
fn a_client_that_was_busy_for_one_line_answers_in_the_next() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    clear(&terminal);
    let client = home.processes("attach")[0];
    // Around the number of records that are not answered at most.
    for keys in (44..=50).chain([70]) {
        kill_process(client, Signal::STOP).unwrap();
        let line = format!(": {}", "x".repeat(keys - 2));
        terminal.send(&line);
        wait_plain(&terminal, &format!("> {line}"));
        let rows = terminal.screen().rows.len();
        terminal.send("\r");
        terminal.wait("the next prompt", |screen| screen.rows.len() > rows && screen.cursor.1 == 2);
        kill_process(client, Signal::CONT).unwrap();
        terminal.send("echo a");
        terminal.wait_ghost("bc");
        terminal.send("\x0c");
        terminal.wait("a clear screen", |screen| screen.rows.len() == 1);
        clear(&terminal);
    }
}

/// Prompts that follow each other bring no signal, and are no reason to take the client for one that hangs.
#[test]
fn after_many_empty_lines_and_a_long_one_there_are_ghosts() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    for count in 1..=60_u16 {
        terminal.send("\r");
        terminal.wait("the next prompt", |screen| screen.cursor == ((1 + count).min(23), 2));
    }
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x0c");
    terminal.wait("a clear screen", |screen| screen.rows.len() == 1);
    clear(&terminal);
    // Longer than a record.
    terminal.send(format!(": {}", "x".repeat(1000)));
    terminal.wait("the long line", |screen| screen.rows.len() == 13);
    terminal.send("\r");
    terminal.wait_row(">");
    terminal.send("echo a");
    terminal.wait_ghost("bc");
}

fn files(home: &Home) -> Vec<String> {
    fs::read_dir(home.runtime().dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("attach."))
        .collect()
}

#[test]
fn the_client_ends_with_the_shell_and_leaves_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(mut terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    assert_eq!(home.processes("attach").len(), 1);
    terminal.send("\x15exit\r");
    terminal.wait_end();
    eventually("the client ends", || home.processes("attach").is_empty());
    let left = files(&home);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sourced_twice_it_is_still_one() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    for row in [2, 3] {
        terminal.send("nemoterm init fish | source\r");
        terminal.wait("a prompt", |screen| screen.cursor == (row, 2) && screen.last_row() == ">");
    }
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
    assert_eq!(home.processes("attach").len(), 1);
}

#[test]
fn silenced_and_brought_back() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("nemoterm off\r");
    terminal.wait("a prompt", |screen| screen.last_row() == ">" && screen.rows.len() > 2);
    terminal.send("echo a");
    wait_plain(&terminal, "> echo a");
    terminal.send("\r");
    terminal.wait_output("a");
    terminal.send("nemoterm on\r");
    terminal.wait("a prompt", |screen| screen.last_row() == ">" && screen.text().contains("nemoterm on"));
    assert!(!daemon.requests().iter().any(|request| request.line.starts_with("echo")));
    terminal.send("echo a");
    terminal.wait_ghost("bc");
}

/// Where the client can't run, the key still asks, and typing is as ever.
#[test]
fn without_a_client_there_is_the_hotkey() {
    let home = Home::new();
    let Some(terminal) = start(&home, "set -gx NEMOTERM_RUNTIME_DIR /proc/nowhere") else { return };
    home.write(".local/share/fish/fish_history", "- cmd: cargo test --workspace\n  when: 1\n");
    typed_lines(&terminal);
    terminal.send("cargo t");
    terminal.wait_row("> cargo t");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("est --workspace");
}

#[test]
fn inside_tmux() {
    let (Some(tmux), Some(fish)) = (find("tmux"), find("fish")) else { return };
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    // Writes the settings.
    let Some(outside) = start(&home, "") else { return };
    drop(outside);
    home.write(
        ".tmux.conf",
        "set -g status off\nset -g escape-time 0\nset -g default-terminal screen-256color\n",
    );
    let mut command = home.command(tmux);
    command.arg("-S").arg(home.path().join("tmux")).arg("new-session").arg(format!("{} -i", fish.display()));
    let mut terminal = Terminal::spawn(command);
    terminal.wait("the first prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc def");
    terminal.send("\r");
    terminal.wait_output("abc def");
    terminal.send("exit\r");
    terminal.wait_end();
}
