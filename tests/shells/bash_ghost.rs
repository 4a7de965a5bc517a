//! bash with the loadable builtin: ghost text as it is typed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nemoterm_protocol::{Complete, HistoryLine};
use rustix::process::{Pid, Signal};

use super::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, HOSTILE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find,
    home::Home,
    nemoterm,
    terminal::Terminal,
};

/// Fails where the builtin is missing, which another package builds beside our program.
fn look_for_builtin() {
    let name = if cfg!(target_vendor = "apple") { "libnemoterm_bash.dylib" } else { "libnemoterm_bash.so" };
    let builtin = nemoterm().with_file_name(name);
    assert!(
        builtin.is_file(),
        "{} is missing: build it first with cargo build --profile {} -p nemoterm-bash",
        builtin.display(),
        nemoterm().parent().and_then(Path::file_name).unwrap_or_default().display(),
    );
}

/// A bash that has read nothing but these lines and the integration, at its first prompt. `None` where there is
/// no bash.
fn start(home: &Home, rc: &str) -> Option<Terminal> {
    start_sized(home, rc, 24, 80)
}

fn start_sized(home: &Home, rc: &str, rows: u16, columns: u16) -> Option<Terminal> {
    let bash = find("bash")?;
    look_for_builtin();
    let rc = format!(
        "PS1='> '\nHISTFILE=~/.bash_history\n{rc}\neval \"$({} init bash)\"\necho ready\n",
        nemoterm().display()
    );
    home.write(".bashrc", &rc);
    let mut command = home.command(bash);
    command.arg("-i");
    let terminal = Terminal::spawn_sized(command, rows, columns);
    terminal.wait("the first prompt", |screen| {
        screen.rows.first().is_some_and(|row| row == "ready") && screen.cursor.1 > 0
    });
    Some(terminal)
}

/// Waits for a line without a ghost.
fn wait_plain(terminal: &Terminal, row: &str) {
    terminal.wait(&format!("{row:?} without a ghost"), |screen| {
        screen.ghost.is_empty() && screen.last_row() == row
    });
}

#[test]
fn right_accepts_the_ghost() {
    for key in [RIGHT, "\x1bOC", "\x1b[F", "\x1bOF", "\x05", "\x06"] {
        let home = Home::new();
        let _daemon = knowing(&home, &["echo hello world"]);
        let Some(terminal) = start(&home, "") else { return };
        terminal.send("echo he");
        let screen = terminal.wait_ghost("llo world");
        assert_eq!(screen.last_row(), "> echo hello world");
        assert_eq!(screen.cursor.1, 9, "the cursor stays where one types");
        terminal.send(key);
        wait_plain(&terminal, "> echo hello world");
        assert_eq!(terminal.screen().cursor.1, 18);
        terminal.send("\r");
        terminal.wait_output("hello world");
    }
}

#[test]
fn keys_do_what_they_did_when_there_is_no_ghost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo ab cd"]);
    let rc = r#"bind '"\C-x\C-x": "macro"'; bind '"\C-f": beginning-of-line'"#;
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("true one two");
    terminal.wait_row("> true one two");
    // Back two words, forward one with Alt-F, back one character and forward one.
    terminal.send(format!("\x1bb\x1bb\x1bf{LEFT}{RIGHT}X"));
    terminal.wait_row("> true oneX two");
    terminal.send("\x01\x05Y");
    terminal.wait_row("> true oneX twoY");
    terminal.send("\x06Z");
    terminal.wait_row("> Ztrue oneX twoY");
    terminal.send("\x18\x18");
    terminal.wait_row("> Zmacrotrue oneX twoY");
    // Ctrl-Space sets the mark, and Ctrl-W kills from there.
    terminal.send(format!("\x01{CTRL_SPACE}\x1bf"));
    terminal.send("\x1b[C\x1b[C");
    terminal.send("\x05");
    terminal.wait("the end of the line", |screen| screen.cursor.1 == 22);
    terminal.send("\x15");
    terminal.wait_row(">");
    terminal.send("echo ab");
    terminal.wait_ghost(" cd");
    terminal.send("\x06");
    wait_plain(&terminal, "> echo ab cd");
}

#[test]
fn a_word_is_accepted_and_the_rest_stays() {
    let home = Home::new();
    let daemon = knowing(&home, &["git checkout src/lib.rs now"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("git ch");
    terminal.wait_ghost("eckout src/lib.rs now");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" src/lib.rs now");
    assert_eq!(terminal.screen().cursor.1, 14);
    terminal.send("\x1bf");
    terminal.wait_ghost("lib.rs now");
    assert_eq!(terminal.screen().cursor.1, 19);
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" now");
    terminal.send(ALT_RIGHT);
    wait_plain(&terminal, "> git checkout src/lib.rs now");
    assert!(!daemon.requests().iter().any(|request| request.line == "git checkout"), "the ghost was known");
}

#[test]
fn accepting_is_one_step_of_undoing() {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "echo ab" => Answer::suffix("c def"),
        "# say hi" => Answer::suffix("echo hi"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc def");
    terminal.send("x");
    wait_plain(&terminal, "> echo abc defx");
    terminal.send("\x1f");
    wait_plain(&terminal, "> echo abc def");
    terminal.send("\x1f");
    terminal
        .wait("the line as it was", |screen| screen.rows[1].starts_with("> echo ab") && screen.cursor.1 == 9);
    terminal.send("\x15# say hi");
    terminal.wait_row("> # say hi  -> echo hi");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hi");
    terminal.send("\x1f");
    terminal.wait("the description", |screen| screen.rows[1].starts_with("> # say hi"));
}

#[test]
fn typing_along_asks_nothing_and_does_not_flicker() {
    let home = Home::new();
    let daemon = knowing(&home, &["find . -name '*.rs'"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("find");
    terminal.wait_ghost(" . -name '*.rs'");
    let asked = daemon.requests().len();
    let seen = terminal.ghosts().len();
    terminal.type_slowly(" . -n");
    terminal.wait_ghost("ame '*.rs'");
    let ghosts = terminal.ghosts().split_off(seen);
    assert!(!ghosts.iter().any(String::is_empty), "the ghost went away in between: {ghosts:?}");
    assert_eq!(daemon.requests().len(), asked);
    // Off the path: the ghost goes at once, and the new line is asked about.
    terminal.send("x");
    wait_plain(&terminal, "> find . -nx");
    daemon.wait_line("find . -nx");
}

#[test]
fn backspace_takes_the_ghost_away_and_asks_again() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc", "echo axy"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo ab");
    terminal.wait_ghost("c");
    terminal.send(format!("{BACKSPACE}x"));
    terminal.wait_ghost("y");
    terminal.send(BACKSPACE);
    terminal.wait_ghost("bc");
}

#[test]
fn in_the_middle_of_a_line_there_is_no_ghost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo ab");
    terminal.wait_ghost("c");
    terminal.send(LEFT);
    wait_plain(&terminal, "> echo ab");
    terminal.send(RIGHT);
    terminal.wait_ghost("c");
    terminal.send(LEFT);
    wait_plain(&terminal, "> echo ab");
    terminal.send("_");
    wait_plain(&terminal, "> echo a_b");
}

#[test]
fn enter_and_ctrl_c_leave_no_ghost_behind() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\r");
    let screen = terminal.wait_output("abc");
    assert!(screen.rows.contains(&"> echo abc".to_owned()), "{screen:?}");

    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    let screen = terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    assert_eq!(screen.rows, ["ready", "> echo abc", "abc", "> echo abc^C", ">"]);
}

#[test]
fn the_users_own_traps_still_run() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "trap 'echo trapped' INT; trap 'echo told' USR1") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    terminal.wait("the trap's output", |screen| screen.text().contains("trapped") && screen.cursor == (3, 2));
    rustix::process::kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::USR1).unwrap();
    // bash runs that one when it has a line.
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\r");
    let screen = terminal.wait("the next prompt", |screen| screen.cursor == (6, 2));
    assert_eq!(screen.rows[3..], ["> echo abc", "told", "abc", ">"]);
}

#[test]
fn ctrl_l_escape_and_alternatives() {
    let home = Home::new();
    let daemon = knowing(&home, &["make build", "make bench", "make book"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("make b");
    terminal.wait_ghost("uild");
    terminal.send("\x0c");
    terminal.wait("a cleared screen", |screen| screen.rows == ["> make build"] && screen.ghost == "uild");
    terminal.send("\x1b]");
    terminal.wait_ghost("ench");
    terminal.send("\x1b]");
    terminal.wait_ghost("ook");
    terminal.send("\x1b]");
    terminal.wait_ghost("uild");
    terminal.send("\x1b[");
    terminal.wait_ghost("ook");
    assert!(daemon.requests().last().unwrap().alternatives > 1, "more were asked for");
    terminal.send("\x1b");
    wait_plain(&terminal, "> make b");
    let pressed = Instant::now();
    // Until then, what follows an Esc belongs to it.
    eventually("the end of the time for a key sequence", || pressed.elapsed() > Duration::from_millis(200));
    // Dismissed is dismissed, until something is typed.
    terminal.send(format!("{LEFT}{RIGHT}"));
    wait_plain(&terminal, "> make b");
    terminal.send("u");
    terminal.wait_ghost("ild");
    // Without a ghost, Esc and a letter are still Alt and that letter.
    terminal.send("zz");
    wait_plain(&terminal, "> make buzz");
    terminal.send("\x1b");
    terminal.send("bX");
    terminal.wait_row("> make Xbuzz");
}

#[test]
fn the_hotkey_asks_and_the_hotkey_mode_only_then() {
    let home = Home::new();
    let daemon = knowing(&home, &["make build", "make bench"]);
    let Some(terminal) = start(&home, "NEMOTERM_MODE=hotkey") else { return };
    terminal.send("make b");
    terminal.wait_row("> make b");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("uild");
    assert_eq!(daemon.requests().len(), 1);
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("ench");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> make bench");
}

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
    let Some(terminal) = start(&home, "") else { return };
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
    let rc = "HISTCONTROL=ignoreboth; SECRET_VALUE=hunter2; export SECRET_VALUE";
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
fn typing_is_normal_without_a_daemon_with_a_hung_one_and_with_a_mad_one() {
    let answers: [fn(&Complete) -> Answer; 4] = [
        |_| Answer::Silence,
        |_| Answer::HangUp,
        |_| Answer::Bytes(vec![0xff; 64]),
        |_| Answer::Bytes(b"\x05\0\0\0{nope".to_vec()),
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
    let lines = ["echo one", ": two", "printf 'three\\n'", "pwd >/dev/null", "let four=4"];
    let mut expected = vec!["ready".to_owned()];
    for line in lines {
        terminal.type_slowly(line);
        expected.push(format!("> {line}"));
        terminal
            .wait("the line as it was typed", |screen| screen.rows == expected && screen.ghost.is_empty());
        terminal.send("\r");
        expected.extend(match line {
            "echo one" => Some("one".to_owned()),
            "printf 'three\\n'" => Some("three".to_owned()),
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
        let client = client_of(terminal.pid());
        rustix::process::kill_process(client, signal).unwrap();
        terminal.send("\x15");
        terminal.wait_row(">");
        typed_lines(&terminal);
        rustix::process::kill_process(client, Signal::CONT).ok();
        // It ends with its shell, whatever it was doing.
        terminal.send("exit\r");
        terminal.wait_end();
        eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
    }
}

#[test]
fn scripts_may_use_any_descriptor() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    // Every number we could have is closed, and taken by a file.
    terminal.send("\x15for fd in {3..99}; do eval \"exec $fd>&-; exec $fd>>~/log\"; done; clear\r");
    terminal.wait("an empty screen", |screen| screen.rows == [">"] && screen.cursor == (0, 2));
    terminal.send("echo a");
    wait_plain(&terminal, "> echo a");
    terminal.send("bc\r");
    terminal.wait_output("abc");
    assert_eq!(fs::read(home.path().join("log")).unwrap(), b"", "we wrote to somebody's file");
    terminal.send("echo >&64 and theirs is still open\r");
    eventually("their file is written", || {
        fs::read(home.path().join("log")).unwrap() == b"and theirs is still open\n"
    });
}

/// The `nemoterm attach` of a shell.
fn client_of(shell: u32) -> Pid {
    let mut found = None;
    eventually("a client of the shell", || {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(&format!("attach bash --pid {shell} ")).then_some(pid)
        });
        found.is_some()
    });
    Pid::from_raw(found.unwrap()).unwrap()
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

#[test]
fn characters_of_several_bytes_and_columns() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo 日本語 naïve e\u{301}t 👍 done"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo 日");
    terminal.wait_ghost("本語 naïve e\u{301}t 👍 done");
    terminal.send("本");
    terminal.wait_ghost("語 naïve e\u{301}t 👍 done");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" naïve e\u{301}t 👍 done");
    assert_eq!(terminal.screen().cursor.1, 13);
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo 日本語 naïve e\u{301}t 👍 done");
    terminal.send(BACKSPACE.repeat(6));
    terminal.wait_ghost("👍 done");
    assert_eq!(terminal.screen().cursor.1, 23);
}

#[test]
fn in_the_c_locale_only_ascii_is_drawn() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo plain", "echo naïve", "echo nice"]);
    let Some(terminal) = start(&home, "LC_ALL=C; PS1='\\[\\e[1m\\]\\[\\e[0m\\]> '") else { return };
    terminal.send("echo pl");
    let screen = terminal.wait_ghost("ain");
    assert_eq!((screen.last_row(), screen.cursor.1), ("> echo plain", 9));
    terminal.send("\x15echo n");
    wait_plain(&terminal, "> echo n");
    terminal.send("i");
    terminal.wait_ghost("ce");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("a\u{ef}") || ghost.contains('\u{fffd}')));
}

#[test]
fn a_line_and_a_ghost_that_wrap() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc"]);
    let Some(terminal) = start_sized(&home, "", 6, 30) else { return };
    // At the bottom of the screen, where a longer line scrolls.
    terminal.send("\r\r\r\r\r\recho aaa");
    let screen = terminal.wait("the ghost over three rows", |screen| screen.ghost.ends_with("ccccc"));
    assert_eq!((screen.cursor, screen.rows[3].len()), ((3, 10), 30));
    // Typing along, over the margin.
    terminal.type_slowly("aaaaaaaaaaaaaaaaaaaaa");
    terminal.wait("the ghost", |screen| screen.cursor == (4, 1) && screen.ghost.ends_with("ccccc"));
    terminal.send(BACKSPACE.repeat(10));
    terminal.wait("the ghost", |screen| screen.cursor == (3, 21) && screen.ghost.ends_with("ccccc"));
    terminal.send(RIGHT);
    let screen =
        terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.text().ends_with("ccccc"));
    assert_eq!(
        screen.rows[3..].concat(),
        "> echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc"
    );
    terminal.send("\x15");
    terminal.wait("an empty line", |screen| screen.last_row() == ">");
}

#[test]
fn a_ghost_that_is_longer_than_the_screen_is_clipped() {
    let home = Home::new();
    let long: &'static str = Box::leak(format!("echo {}", "x".repeat(400)).into_boxed_str());
    let lines: &'static [&'static str] = Box::leak(vec![long].into_boxed_slice());
    let _daemon = knowing(&home, lines);
    let Some(terminal) = start_sized(&home, "", 5, 30) else { return };
    terminal.send("echo xx");
    let screen = terminal.wait("the clipped ghost", |screen| screen.ghost.ends_with('…'));
    assert_eq!(screen.rows.len(), 5);
    assert_eq!(screen.cursor, (0, 9));
    terminal.send("\r");
    terminal.wait("no ghost", |screen| screen.ghost.is_empty() && screen.rows.contains(&"xx".to_owned()));
}

#[test]
fn a_resized_window_shows_the_line_once() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo a line of some length and more of it"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a line of");
    terminal.wait_ghost(" some length and more of it");
    terminal.resize(24, 60);
    terminal.send("x");
    wait_plain(&terminal, "> echo a line ofx");
    terminal.resize(24, 90);
    terminal.send(BACKSPACE);
    terminal.wait_ghost(" some length and more of it");
    assert_eq!(terminal.screen().rows, ["ready", "> echo a line of some length and more of it"]);
}

#[test]
fn a_prompt_of_two_lines_in_colour() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo right"]);
    let rc = r"PS1='\[\e[32m\]upper\n\[\e[1;34m\]low>\[\e[0m\] \[\e[31m\]'";
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("echo ri");
    let screen = terminal.wait_ghost("ght");
    assert_eq!(screen.rows[1..], ["upper", "low> echo right"]);
    terminal.send("\x03");
    let screen = terminal.wait("a new prompt", |screen| screen.cursor == (4, 5));
    assert_eq!(screen.rows[2..], ["low> echo ri^C", "upper", "low>"]);
}

#[test]
fn vi_mode_keeps_its_escape() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "set -o vi; bind 'set keyseq-timeout 10'") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo a");
    // Command mode: to the first character, and change a word.
    terminal.send("0cwprint");
    wait_plain(&terminal, "> print a");
    terminal.send("\x1b");
    terminal.send("ddiecho a");
    terminal.wait_ghost("bc");
    terminal.send("\x07");
    wait_plain(&terminal, "> echo a");
    terminal.send("b");
    terminal.wait_ghost("c");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
}

#[test]
fn completion_and_history_search_show_no_ghost() {
    let home = Home::new();
    home.write("work/documents/x", "");
    home.write("work/downloads/x", "");
    let _daemon = knowing(&home, &["ls dozens of files"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\t\t");
    terminal.wait("the matches", |screen| screen.text().contains("documents/ downloads/"));
    let screen = terminal.wait_row("> ls do");
    assert_eq!((screen.ghost.as_str(), screen.rows[1].as_str()), ("", "> ls do"));
    terminal.send("cu\t");
    wait_plain(&terminal, "> ls documents/");
    terminal.send("\x15echo searchable\r");
    terminal.wait_output("searchable");
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\x12sea");
    let screen = terminal.wait("the search", |screen| screen.text().contains("reverse-i-search)`sea'"));
    assert!(screen.ghost.is_empty() && screen.last_row().ends_with("echo searchable"), "{screen:?}");
}

#[test]
fn lines_that_are_not_commands_have_no_ghost() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("read -e -p 'name: ' name\r");
    terminal.wait_row("name:");
    terminal.send("echo a");
    terminal.wait_row("name: echo a");
    terminal.send("\r");
    terminal.wait_row(">");
    terminal.send("read -e -t 0.2 name\r");
    terminal.wait("the end of the time", |screen| screen.cursor == (4, 2) && screen.last_row() == ">");
    assert!(!daemon.requests().iter().any(|request| request.line == "echo a"));
}

#[test]
fn a_shell_that_waits_ends_when_its_time_is_over() {
    let home = Home::new();
    let Some(mut terminal) = start(&home, "TMOUT=1") else { return };
    terminal.wait_end();
}

#[test]
fn turned_off_here_or_everywhere() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc", "echo xyz", "echo nop"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("NEMOTERM_OFF=1\r");
    terminal.wait("a prompt", |screen| screen.cursor == (2, 2));
    terminal.send("echo a");
    terminal.wait_row("> echo a");
    terminal.send("\x15NEMOTERM_OFF=\r");
    terminal.wait("a prompt", |screen| screen.cursor == (3, 2));
    terminal.send("echo x");
    terminal.wait_ghost("yz");
    fs::write(home.runtime().off_switch(), "").unwrap();
    terminal.send("\x15echo n");
    terminal.wait_row("> echo n");
    fs::remove_file(home.runtime().off_switch()).unwrap();
    terminal.send("o");
    terminal.wait_ghost("p");
    let lines: Vec<_> = daemon.requests().into_iter().map(|request| request.line).collect();
    assert!(!lines.contains(&"echo a".to_owned()) && !lines.contains(&"echo n".to_owned()), "{lines:?}");
}

#[test]
fn keys_can_be_chosen() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def", "echo abd"]);
    let rc = r"NEMOTERM_KEY_ACCEPT=('\C-g' '\e[C') NEMOTERM_KEY_WORD='\C-t' NEMOTERM_KEY_NEXT=() NEMOTERM_KEY_DISMISS=('\C-b')";
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc def");
    terminal.send("\x02");
    wait_plain(&terminal, "> echo a");
    terminal.send("b");
    terminal.wait_ghost("c def");
    terminal.send("\x14");
    terminal.wait_ghost(" def");
    // Not a key any more, and what it did before.
    terminal.send("\x05");
    terminal.wait_ghost(" def");
    terminal.send("\x07");
    wait_plain(&terminal, "> echo abc def");
    terminal.send("\x15bind '\"\\C-xa\": nemoterm-accept'\r");
    terminal.wait("a prompt", |screen| screen.cursor == (2, 2));
    terminal.send("echo a");
    terminal.wait_ghost("bc def");
    terminal.send("\x18a");
    wait_plain(&terminal, "> echo abc def");
}

#[test]
fn the_look_can_be_chosen_and_is_nothing_else() {
    for (setting, drawn) in [("2", "\x1b[0;2mbc"), ("'90mevil'", "\x1b[0;90mbc"), ("", "\x1b[0;4mbc")] {
        let home = Home::new();
        let _daemon = knowing(&home, &["echo abc"]);
        let rc = format!("NEMOTERM_HIGHLIGHT={setting}; [[ $NEMOTERM_HIGHLIGHT ]] || NO_COLOR=1");
        let Some(terminal) = start(&home, &rc) else { return };
        terminal.send("echo a");
        terminal.wait("the ghost", |screen| screen.last_row() == "> echo abc");
        let written = String::from_utf8(terminal.written()).unwrap();
        assert!(written.contains(drawn), "{written:?}");
    }
}

#[test]
fn evaluating_it_twice_changes_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send(format!("eval \"$({} init bash)\"; clear\r", nemoterm().display()));
    terminal.wait("a prompt", |screen| screen.rows == [">"] && screen.cursor == (0, 2));
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send(format!("{LEFT}{RIGHT}{RIGHT}"));
    wait_plain(&terminal, "> echo abc def");
}

#[test]
fn a_builtin_that_is_none_leaves_the_hotkey() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let none = home.write("none.so", "no library");
    let Some(terminal) = start(&home, &format!("NEMOTERM_BASH_BUILTIN={}", none.display())) else { return };
    terminal.send("echo a");
    wait_plain(&terminal, "> echo a");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("bc");
}

#[test]
fn another_terminal_may_be_named_and_the_builtin_given_back() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("TERM=xterm; printf -v PS1 'new> '\r");
    terminal.wait_row("new>");
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x15nemoterm_ghost stop; enable -d nemoterm_ghost\r");
    terminal.wait("a prompt", |screen| screen.last_row() == "new>" && screen.cursor.0 == 3);
    terminal.send(format!("echo ab{LEFT}{RIGHT}\x05c"));
    wait_plain(&terminal, "new> echo abc");
    terminal.send("\r");
    terminal.wait("the output", |screen| screen.rows.ends_with(&["abc".to_owned(), "new>".to_owned()]));
}
