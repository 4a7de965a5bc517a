//! The shells with the real daemon and the model that is part of it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nemoterm_protocol::client::Client;
use rustix::process::{Pid, Signal, kill_process};

use super::{CTRL_SPACE, RIGHT, blesh};
use crate::util::{DEADLINE, eventually, find, home::Home, nemoterm, nemotermd, terminal::Terminal};

/// A shell that may start the daemon.
fn start(home: &Home, shell: &str) -> Option<Terminal> {
    start_command(home, shell, home.command(find(shell)?))
}

/// The same with what is in that command's environment.
fn start_command(home: &Home, shell: &str, mut command: Command) -> Option<Terminal> {
    command.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd());
    let init = format!("{} init {shell}", nemoterm().display());
    match shell {
        "zsh" => {
            home.write(
                ".zshrc",
                &format!("PS1='> '\\nunsetopt promptsp\\neval \"$({init})\"").replace("\\n", "\n"),
            );
            command.args(["-d", "-i"]);
        }
        "bash" => {
            let rc = home.write("rc", &format!("PS1='> '\neval \"$({init})\"\n"));
            command.args(["--noprofile", "--rcfile"]).arg(rc).arg("-i");
        }
        _ => {
            home.write(
                ".config/fish/config.fish",
                &format!("set -g fish_greeting\nset -g fish_autosuggestion_enabled 0\nfunction fish_prompt; echo -n '> '; end\n{init} | source\n"),
            );
            command.arg("-i");
        }
    }
    let terminal = Terminal::spawn(command);
    terminal.wait("the first prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    Some(terminal)
}

/// Waits for the daemon that was started, and for its model.
fn warm(home: &Home) -> Pid {
    let mut command: Command = home.command(nemoterm());
    command
        .env_remove("NEMOTERM_AUTOSTART")
        .env("NEMOTERM_DAEMON", nemotermd())
        .args(["complete", "git com"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon(home).unwrap()
}

/// The daemon's process id, if it answers.
fn daemon(home: &Home) -> Option<Pid> {
    let client = Client::connect(home.runtime(), Duration::from_secs(1)).ok()?;
    Pid::from_raw(client.welcome().pid as i32)
}

/// Lets a stopped daemon go on, so that it can be ended.
struct Continued(Pid);

impl Drop for Continued {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn zsh_and_bash_show_what_the_model_says() {
    for shell in ["zsh", "bash"] {
        let home = Home::new();
        home.write("work/a.rs", "");
        let Some(terminal) = start(&home, shell) else { continue };
        // The client starts the daemon; nobody else does here.
        eventually("a daemon", || daemon(&home).is_some());
        warm(&home);
        terminal.type_slowly("find . -name");
        let screen = terminal.wait("a ghost", |screen| !screen.ghost.is_empty() && screen.cursor.1 == 14);
        let line = screen.last_row().to_owned();
        assert!(line.starts_with("> find . -name "), "{line}");
        terminal.send(RIGHT);
        // What goes on after that may have a ghost of its own.
        let screen = terminal.wait("the line", |screen| screen.cursor.1 > 14);
        assert!(screen.last_row().starts_with("> find . -name "), "{screen:?}");
    }
}

#[test]
fn a_real_daemon_that_is_stopped_killed_and_started_again() {
    for shell in ["zsh", "bash"] {
        let home = Home::new();
        home.limit(Duration::from_millis(150));
        let Some(terminal) = start(&home, shell) else { continue };
        stopped_killed_and_started_again(&home, &terminal);
    }
}

fn stopped_killed_and_started_again(home: &Home, terminal: &Terminal) {
    let pid = warm(home);
    terminal.type_slowly("git st");
    terminal.wait("a ghost", |screen| !screen.ghost.is_empty());
    terminal.send("\x15");
    terminal.wait_row(">");
    let continued = Continued(pid);
    kill_process(pid, Signal::STOP).unwrap();
    for line in [": one", ": two", ": three"] {
        terminal.type_slowly(line);
        terminal.wait("the line as it was typed", |screen| screen.last_row() == format!("> {line}"));
        terminal.send("\r");
        terminal.wait_row(">");
    }
    kill_process(pid, Signal::KILL).unwrap();
    drop(continued);
    // A key now and then, as a user would: the daemon comes back by itself, after the pause at the latest.
    let deadline = Instant::now() + DEADLINE;
    while terminal.screen().ghost.is_empty() {
        assert!(Instant::now() < deadline, "no ghost any more:\n{}", terminal.screen().text());
        terminal.send("\x15");
        terminal.wait("an empty line", |screen| screen.cursor.1 == 2);
        terminal.type_slowly("git com");
        terminal.has_ghost_within(Duration::from_millis(300));
    }
    assert_ne!(daemon(home), Some(pid));
    let screen = terminal.screen().text();
    assert!(!screen.contains("nemoterm") && !screen.contains("error"), "something was printed:\n{screen}");
}

/// To a shell an upgrade is this: the daemon ends when it is told to, and another one answers, which has its own model.
#[test]
fn a_daemon_that_is_replaced_under_a_running_shell() {
    for shell in ["zsh", "bash", "ble.sh", "fish"] {
        let home = Home::new();
        let started = match shell {
            "ble.sh" => blesh::command(&home, "").map(|mut command| {
                command.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd());
                blesh::first_prompt(Terminal::spawn(command))
            }),
            _ => start(&home, shell),
        };
        let Some(terminal) = started else { continue };
        let pid = warm(&home);
        terminal.type_slowly("git com");
        terminal.wait("a ghost", |screen| !screen.ghost.is_empty());
        terminal.send("\x15");
        terminal.wait_row(">");
        let mut restart = home.command(nemoterm());
        restart.env_remove("NEMOTERM_AUTOSTART").env("NEMOTERM_DAEMON", nemotermd());
        let restarted = restart.args(["daemon", "restart"]).output().unwrap();
        assert!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
        assert_ne!(warm(&home), pid);
        eventually("a ghost of the new daemon", || {
            terminal.send("\x15");
            terminal.wait("an empty line", |screen| screen.cursor.1 == 2);
            terminal.type_slowly("git com");
            terminal.has_ghost_within(Duration::from_millis(500))
        });
        let screen = terminal.screen().text();
        assert!(
            !screen.contains("nemoterm") && !screen.contains("error"),
            "something was printed:\n{screen}"
        );
    }
}

#[test]
fn bash_and_fish_ask_the_model() {
    for shell in ["bash", "fish"] {
        let home = Home::new();
        let Some(program) = find(shell) else { continue };
        let mut command = home.command(program);
        // A bash that shows nothing until it is asked.
        command.env("NEMOTERM_BASH_BUILTIN", "");
        let Some(terminal) = start_command(&home, shell, command) else { continue };
        warm(&home);
        terminal.type_slowly("find . -name");
        // Until its last letter is typed, a ghost may make it look so.
        terminal.wait("the line", |screen| {
            screen.last_row().starts_with("> find . -name") && screen.cursor.1 == 14
        });
        terminal.send(CTRL_SPACE);
        terminal.wait("a ghost", |screen| !screen.ghost.is_empty());
        terminal.send(RIGHT);
        // As one types, there may be the next ghost already.
        let screen = terminal.wait("the line", |screen| screen.cursor.1 > 14);
        assert!(screen.last_row().starts_with("> find . -name "), "{screen:?}");
    }
}
