//! What is asked, and what the answers do.

use std::time::Duration;

use nemoterm_protocol::{Complete, HistoryLine};

use super::{start, wait_plain};
use crate::shells::{HOSTILE, RIGHT, knowing};
use crate::util::{
    fake::{Answer, Fake},
    home::Home,
};

#[test]
fn a_description_becomes_a_command() {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "# say hi" => Answer::suffix("echo hi"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("# say hi");
    terminal.wait_row("> # say hi  -> echo hi");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hi");
    terminal.send("\r");
    terminal.wait_output("hi");
}

#[test]
fn a_pasted_comment_is_no_question_and_a_paste_is_one_request() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo pasted text"]);
    // Which it is by default since bash 5.1.
    let Some(terminal) = start(&home, "bind 'set enable-bracketed-paste on'") else { return };
    terminal.send("\x1b[200~# delete everything\x1b[201~");
    terminal.wait_row("> # delete everything");
    terminal.send("\x15");
    terminal.wait_row(">");
    terminal.send("\x1b[200~echo pasted\x1b[201~");
    terminal.wait_ghost(" text");
    assert_eq!(
        daemon.requests().iter().map(|request| request.line.as_str()).collect::<Vec<_>>(),
        ["echo pasted"]
    );
    // Ten lines at once stay in the buffer and nothing else appears.
    terminal.send("\x15");
    let lines: Vec<String> = (0..10).map(|i| format!("echo line{i}")).collect();
    terminal.send(format!("\x1b[200~{}\x1b[201~", lines.join("\n")));
    terminal.wait("the pasted lines", |screen| screen.rows.ends_with(&lines[1..]));
}

#[test]
fn ten_lines_that_no_brackets_surround_run_one_by_one() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo line0 and more", "echo line9 and more"]);
    let Some(terminal) = start(&home, "bind 'set enable-bracketed-paste off'") else { return };
    let lines: Vec<String> = (0..10).map(|i| format!("echo line{i}\r")).collect();
    terminal.send(lines.concat());
    let screen = terminal.wait("the last prompt", |screen| screen.cursor == (21, 2));
    let expected: Vec<String> =
        (0..10).flat_map(|i| [format!("> echo line{i}"), format!("line{i}")]).collect();
    assert_eq!(screen.rows[1..21], expected);
}

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
fn history_answers_without_any_daemon() {
    let home = Home::new();
    home.write(".bash_history", "cargo test --workspace\nsecret hunter2\n");
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
    let rc = "PROMPT_COMMAND=true; HISTCONTROL=ignoreboth; SECRET_VALUE=hunter2; export SECRET_VALUE";
    let Some(terminal) = start(&home, rc) else { return };
    for line in ["false", " true kept back", "false", "", "if true\rthen false\rfi"] {
        let row = terminal.screen().cursor.0;
        terminal.send(format!("{line}\r"));
        let rows = 1 + line.matches('\r').count() as u16;
        terminal.wait("the next prompt", |screen| screen.cursor == (row + rows, 2));
    }
    terminal.send("cat n");
    let Complete { context, cursor, line, .. } = daemon.wait_line("cat n");
    assert_eq!((cursor, line.as_str(), context.shell.as_str()), (5, "cat n", "bash"));
    assert_eq!(context.cwd, Some(home.work().to_str().unwrap().to_owned()));
    assert_eq!((context.names, context.branch), (vec!["notes.txt".to_owned()], Some("topic".to_owned())));
    let ran = |line: &str| HistoryLine { line: line.to_owned(), status: Some(1) };
    assert_eq!(context.history, [ran("false"), ran("false"), ran("if true; then false; fi")]);
    let sent = format!("{:?}", daemon.requests());
    assert!(!sent.contains("hunter2"), "values of variables stay here");
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
    let hostile = "$(touch ~/marker)`touch ~/marker`!!%F{red}${(e)x};touch ~/marker#*?[";
    let _daemon = Fake::start(home.runtime(), move |request| match request.line.as_str() {
        "echo a" => Answer::suffix(hostile),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "shopt -s promptvars extglob") else { return };
    terminal.send("echo a");
    terminal.wait_ghost(hostile);
    terminal.type_slowly("$(to");
    terminal.wait_ghost(&hostile["$(to".len()..]);
    terminal.send(RIGHT);
    wait_plain(&terminal, &format!("> echo a{hostile}"));
    terminal.send("\x15echo done\r");
    terminal.wait_output("done");
    assert!(!home.path().join("marker").exists(), "accepting ran something");
}
