//! Answers: late, missing, mad and hostile ones, and clients and daemons that go away.

use std::{fs, time::Duration};

use nemoterm_protocol::{Complete, HistoryLine};
use rustix::process::{Pid, Signal};

use super::{start, wait_plain};
use crate::shells::{HOSTILE, METACHARACTERS, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
    terminal::Terminal,
};

#[test]
fn a_late_reply_to_an_older_buffer_is_not_shown() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "ls" => Answer::Late(Duration::from_millis(100), vec![" stale".to_owned()]),
        "lsx" => Answer::Late(Duration::from_millis(120), vec![" fresh".to_owned()]),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("ls");
    daemon.wait_line("ls");
    terminal.send("x");
    terminal.wait_ghost(" fresh");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("stale")), "{:?}", terminal.ghosts());
}

#[test]
fn a_reply_to_what_one_has_typed_on_from_is_shown_if_it_fits() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "l" => Answer::suffix("s -la"),
        "ls -lah" => Answer::suffix(" src"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("l");
    terminal.wait_ghost("s -la");
    terminal.type_slowly("s -l");
    terminal.wait_ghost("a");
    terminal.send("ah");
    terminal.wait_ghost(" src");
    assert!(!daemon.requests().iter().any(|request| request.line == "ls"));
}

#[test]
fn history_answers_without_any_daemon() {
    let home = Home::new();
    home.write(".zsh_history", "cargo test --workspace\nsecret hunter2\n");
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("cargo t");
    terminal.wait_ghost("est --workspace");
    terminal.send("\x15echo from this shell\r");
    terminal.wait_output("from this shell");
    terminal.send("echo fr");
    terminal.wait_ghost("om this shell");
}

#[test]
fn the_daemon_learns_what_is_around() {
    let home = Home::new();
    let daemon = knowing(&home, &[]);
    home.write("work/notes.txt", "");
    home.write("work/.git/HEAD", "ref: refs/heads/topic\n");
    let Some(terminal) = start(&home, "SECRET_VALUE=hunter2; export SECRET_VALUE") else { return };
    terminal.send("false\r");
    terminal.wait("the next prompt", |screen| screen.rows.len() == 3 && screen.cursor == (2, 2));
    terminal.send("cat n");
    let Complete { context, cursor, line, .. } = daemon.wait_line("cat n");
    assert_eq!((cursor, line.as_str(), context.shell.as_str()), (5, "cat n", "zsh"));
    assert_eq!(context.cwd, Some(home.work().to_str().unwrap().to_owned()));
    assert_eq!((context.names, context.branch), (vec!["notes.txt".to_owned()], Some("topic".to_owned())));
    assert_eq!(context.history, [HistoryLine { line: "false".to_owned(), status: Some(1) }]);
    let sent = format!("{:?}", daemon.requests());
    assert!(!sent.contains("hunter2"), "values of variables stay here");
}

#[test]
fn typing_is_normal_without_a_daemon_with_a_hung_one_and_with_a_mad_one() {
    let answers: [fn(&Complete) -> Answer; 5] = [
        |_| Answer::Silence,
        |_| Answer::HangUp,
        |_| Answer::Bytes(vec![0xff; 64]),
        |_| Answer::Bytes(b"\x05\0\0\0{nope".to_vec()),
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

/// Types lines of which none begins like another, and runs them.
fn typed_lines(terminal: &Terminal) {
    let lines = ["echo one", ": two", "print three", "pwd >/dev/null", "typeset -i four"];
    let mut expected = vec!["ready".to_owned()];
    for line in lines {
        terminal.type_slowly(line);
        expected.push(format!("> {line}"));
        terminal
            .wait("the line as it was typed", |screen| screen.rows == expected && screen.ghost.is_empty());
        terminal.send("\r");
        expected.extend(match line {
            "echo one" => Some("one".to_owned()),
            "print three" => Some("three".to_owned()),
            _ => None,
        });
        let row = expected.len() as u16;
        terminal.wait("the next prompt", |screen| screen.cursor == (row, 2));
    }
    expected.push(">".to_owned());
    assert_eq!(terminal.screen().rows, expected);
}

#[test]
fn a_killed_daemon_is_found_again() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo first"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo fi");
    terminal.wait_ghost("rst");
    drop(daemon);
    terminal.send("\x15echo wi");
    wait_plain(&terminal, "> echo wi");
    let _daemon = knowing(&home, &["echo without"]);
    terminal.send("t");
    terminal.wait_ghost("hout");
    assert_eq!(terminal.screen().rows, ["ready", "> echo without"], "nothing was printed");
}

#[test]
fn a_dead_or_stopped_client_costs_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    for signal in [Signal::STOP, Signal::KILL] {
        let Some(mut terminal) = start(&home, "") else { return };
        terminal.send("echo a");
        terminal.wait_ghost("bc");
        let client = home.processes("attach")[0];
        rustix::process::kill_process(client, signal).unwrap();
        terminal.send("\x15");
        terminal.wait_row(">");
        typed_lines(&terminal);
        rustix::process::kill_process(client, Signal::CONT).ok();
        // It ends with its shell, whatever it was doing.
        terminal.send("exit\r");
        terminal.wait_end();
        eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
        fs::read_dir(home.runtime().dir()).unwrap().for_each(|entry| {
            assert!(
                !entry.unwrap().file_name().to_string_lossy().starts_with("attach"),
                "a pipe is left over"
            );
        });
    }
}

#[test]
fn what_programs_say_of_errors_is_seen() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x15print -u2 said by the shell\r");
    terminal.wait_output("said by the shell");
    terminal.send("sh -c 'echo said by another >&2'\r");
    terminal.wait_output("said by another");
}

#[test]
fn the_client_ends_with_a_killed_shell_whose_child_lives_on() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    let client = home.processes("attach")[0];
    terminal.send("\x15sleep 60 >/dev/null 2>&1 & disown; print going\r");
    terminal.wait_output("going");
    rustix::process::kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::KILL).unwrap();
    eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
}

#[test]
fn control_characters_never_reach_the_screen() {
    for hostile in HOSTILE {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), move |request| match request.line.as_str() {
            "echo a" => Answer::Suffixes(vec![(*hostile).to_owned(), "bc".to_owned()]),
            _ => Answer::Silence,
        });
        let Some(terminal) = start(&home, "") else { return };
        terminal.send("echo a");
        daemon.wait_line("echo a");
        terminal.wait_ghost("bc");
        assert_eq!(terminal.ghosts(), ["bc"], "{hostile:?}");
    }
}

#[test]
fn metacharacters_are_only_text() {
    let home = Home::new();
    let hostile = METACHARACTERS;
    let _daemon = Fake::start(home.runtime(), move |request| match request.line.as_str() {
        "echo a" => Answer::suffix(hostile),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "setopt promptsubst extendedglob") else { return };
    terminal.send("echo a");
    terminal.wait_ghost(hostile);
    terminal.type_slowly("$(to");
    terminal.wait_ghost(&hostile["$(to".len()..]);
    terminal.send(RIGHT);
    let line = format!("> echo a{hostile}");
    terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.rows[1..].concat() == line);
    terminal.send("\x15echo done\r");
    terminal.wait_output("done");
    assert!(!home.path().join("marker").exists(), "accepting ran something");
}
