//! zsh: ghost text as it is typed.

use std::{fs, time::Duration};

use nemoterm_protocol::{Complete, HistoryLine};
use rustix::process::{Pid, Signal};

use super::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, HOSTILE, LEFT, METACHARACTERS, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find, find_file,
    home::Home,
    nemoterm,
    terminal::Terminal,
};

/// A zsh that has read nothing but these lines and the integration, at its first prompt. `None` where there is
/// no zsh.
fn start(home: &Home, rc: &str) -> Option<Terminal> {
    start_sized(home, rc, 24, 80)
}

fn start_sized(home: &Home, rc: &str, rows: u16, columns: u16) -> Option<Terminal> {
    let zsh = find("zsh")?;
    let rc = format!(
        "PS1='> '\nunsetopt promptsp\nHISTFILE=~/.zsh_history SAVEHIST=99 HISTSIZE=99\n{rc}\neval \"$({} init zsh)\"\nprint ready\n",
        nemoterm().display()
    );
    home.write(".zshrc", &rc);
    let mut command = home.command(zsh);
    command.args(["-d", "-i"]);
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
    let Some(terminal) = start(&home, "bindkey -s '^X^X' 'macro'\nbindkey '^F' beginning-of-line") else {
        return;
    };
    terminal.send("true one two");
    terminal.wait_row("> true one two");
    // Back two words, forward one with Alt-F, back one character and forward one.
    terminal.send(format!("\x1bb\x1bb\x1bf{LEFT}{RIGHT}X"));
    terminal.wait_row("> true one Xtwo");
    terminal.send("\x01\x05Y");
    terminal.wait_row("> true one XtwoY");
    terminal.send("\x06Z");
    terminal.wait_row("> Ztrue one XtwoY");
    terminal.send("\x18\x18");
    terminal.wait_row("> Zmacrotrue one XtwoY");
    // Ctrl-Space sets the mark, and Ctrl-X Ctrl-X no longer exchanges; kill what is between.
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
    assert_eq!(screen.rows, ["ready", "> echo abc", "abc", "> echo abc", ">"]);
    // And the trap that saw to it is gone with the line.
    terminal.send("print ${+functions[TRAPINT]}\r");
    terminal.wait_output("0");
}

#[test]
fn the_users_own_interrupt_trap_still_runs() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "TRAPINT() { print -n trapped; return $((128 + $1)) }") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    terminal.wait("the trap's output", |screen| screen.text().contains("> echo abctrapped"));
    terminal.send("print ${functions[TRAPINT]}\r");
    terminal.wait("the trap itself", |screen| screen.text().contains("print -n trapped"));
}

#[test]
fn a_trap_that_is_no_function_is_left_alone() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "trap 'print -n trapped' INT") else { return };
    // The client has to be there for the first line already.
    terminal.send("\r");
    terminal.wait("a second prompt", |screen| screen.cursor == (2, 2));
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    terminal.wait("the trap's output", |screen| screen.text().contains("trapped"));
    terminal.send("\x15trap\r");
    terminal.wait_output("trap -- 'print -n trapped' INT");
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
        fs::read_dir(home.runtime().dir()).unwrap().for_each(|entry| {
            assert!(
                !entry.unwrap().file_name().to_string_lossy().starts_with("attach"),
                "a pipe is left over"
            );
        });
    }
}

#[test]
fn the_client_ends_with_a_killed_shell_whose_child_lives_on() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    let client = client_of(terminal.pid());
    terminal.send("\x15sleep 60 >/dev/null 2>&1 & disown; print going\r");
    terminal.wait_output("going");
    rustix::process::kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::KILL).unwrap();
    eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
}

/// The `nemoterm attach` of a shell.
fn client_of(shell: u32) -> Pid {
    let mut found = None;
    eventually("a client of the shell", || {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(&format!("attach zsh --fifo --pid {shell} ")).then_some(pid)
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

#[test]
fn characters_of_several_bytes_and_columns() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo 日本語 naïve 👍 done"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo 日");
    terminal.wait_ghost("本語 naïve 👍 done");
    terminal.send("本");
    terminal.wait_ghost("語 naïve 👍 done");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" naïve 👍 done");
    assert_eq!(terminal.screen().cursor.1, 13);
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo 日本語 naïve 👍 done");
    terminal.send(BACKSPACE.repeat(6));
    terminal.wait_ghost("👍 done");
    assert_eq!(terminal.screen().cursor.1, 20);
}

#[test]
fn a_line_and_a_ghost_that_wrap() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc"]);
    let Some(terminal) = start_sized(&home, "", 6, 30) else { return };
    // At the bottom of the screen, where a longer line scrolls.
    terminal.send("\r\r\r\r\r\recho aaa");
    terminal.wait("the ghost over three rows", |screen| screen.ghost.ends_with("ccccc"));
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
fn inside_tmux() {
    let (Some(tmux), Some(zsh)) = (find("tmux"), find("zsh")) else { return };
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    home.write(
        ".tmux.conf",
        "set -g status off\nset -g escape-time 0\nset -g default-terminal screen-256color\n",
    );
    home.write(
        ".zshrc",
        &format!("PS1='> '\nunsetopt promptsp\neval \"$({} init zsh)\"\n", nemoterm().display()),
    );
    let mut command = home.command(tmux);
    command
        .arg("-S")
        .arg(home.path().join("tmux"))
        .arg("new-session")
        .arg(format!("{} -d -i", zsh.display()));
    let mut terminal = Terminal::spawn(command);
    terminal.wait_row(">");
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send("\r");
    terminal
        .wait("the output", |screen| screen.rows.starts_with(&["> echo abc", "abc", ">"].map(str::to_owned)));
    terminal.send("exit\r");
    terminal.wait_end();
}

#[test]
fn a_resize_draws_the_ghost_again() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdefghijklmnopqrstuvwxyz"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("defghijklmnopqrstuvwxyz");
    terminal.resize(24, 20);
    terminal.wait("the ghost over two rows", |screen| {
        screen.rows.ends_with(&["> echo abcdefghijklm".to_owned(), "nopqrstuvwxyz".to_owned()])
            && screen.ghost == "defghijklmnopqrstuvwxyz"
    });
    terminal.send(RIGHT);
    terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.last_row() == "nopqrstuvwxyz");
}

#[test]
fn a_prompt_of_two_lines_and_one_on_the_right() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo right"]);
    let Some(terminal) = start(&home, "PS1=$'upper\\n> '; RPS1=side") else { return };
    terminal.send("echo ri");
    let screen = terminal.wait_ghost("ght");
    assert_eq!(screen.rows[1], "upper");
    assert!(screen.rows[2].starts_with("> echo right ") && screen.rows[2].ends_with(" side"), "{screen:?}");
    terminal.send("\x03");
    let screen = terminal.wait("a new prompt", |screen| screen.cursor == (4, 2));
    assert!(screen.rows[2].starts_with("> echo ri  "), "{screen:?}");
    assert_eq!(screen.rows[3], "upper");
}

#[test]
fn vi_mode_keeps_its_escape() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "bindkey -v; KEYTIMEOUT=1") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo a");
    // Command mode: to the first character, and change a word.
    terminal.send("0cwprint");
    wait_plain(&terminal, "> print a");
    terminal.send("\x1bddiecho a");
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
}

#[test]
fn completion_menus_and_history_search_show_no_ghost() {
    let home = Home::new();
    home.write("work/documents/x", "");
    home.write("work/downloads/x", "");
    let _daemon = knowing(&home, &["ls dozens of files"]);
    let rc = "autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' menu select";
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\t");
    terminal.wait("the matches", |screen| screen.text().contains("documents/  downloads/"));
    assert_eq!(terminal.screen().rows[1], "> ls do");
    terminal.send("\t");
    let screen = terminal.wait("a match in the line", |screen| screen.rows[1] == "> ls documents/");
    assert_eq!(screen.ghost, "");
    terminal.send("\t");
    terminal.wait("the next match", |screen| screen.rows[1] == "> ls downloads/" && screen.ghost.is_empty());
    terminal.send("\r");
    wait_plain(&terminal, "> ls downloads/");
    terminal.send("\x15echo searchable\r");
    terminal.wait_output("searchable");
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\x12sea");
    let screen = terminal.wait("the search", |screen| screen.text().contains("bck-i-search: sea"));
    assert!(screen.ghost.is_empty(), "{screen:?}");
    assert!(screen.rows.contains(&"> echo searchable".to_owned()), "{screen:?}");
}

#[test]
fn with_zsh_syntax_highlighting() {
    let Some(plugin) = find_file(&["/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh"]) else {
        return;
    };
    for before in [true, false] {
        let home = Home::new();
        let _daemon = knowing(&home, &["echo abc def"]);
        let source = format!("source {}", plugin.display());
        // It asks to be loaded last; the other order happens.
        let rc = if before { source.clone() } else { String::new() };
        let Some(terminal) = start(&home, &rc) else { return };
        if !before {
            terminal.send(format!("{source}; clear; print ready\r"));
            terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
        }
        terminal.send("echo ab");
        terminal.wait_ghost("c def");
        terminal.send("c");
        terminal.wait_ghost(" def");
        terminal.send(ALT_RIGHT);
        wait_plain(&terminal, "> echo abc def");
        terminal.send("\r");
        terminal.wait_output("abc def");
    }
}

#[test]
fn with_zsh_autosuggestions_that_plugin_draws() {
    let Some(plugin) = find_file(&["/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh"]) else { return };
    for before in [true, false] {
        let home = Home::new();
        let daemon = knowing(&home, &["echo abc def", "echo xyz"]);
        let source = format!("source {}", plugin.display());
        let rc = if before { source.clone() } else { String::new() };
        let Some(terminal) = start(&home, &rc) else { return };
        if !before {
            terminal.send(format!("{source}; clear; print ready\r"));
            terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
        }
        terminal.type_slowly("echo ab");
        terminal.wait_ghost("c def");
        terminal.send(RIGHT);
        wait_plain(&terminal, "> echo abc def");
        terminal.send("\x15");
        terminal.wait_row(">");
        terminal.send("echo x");
        terminal.wait_ghost("yz");
        assert!(daemon.requests().iter().all(|request| request.context.shell == "zsh"));
        terminal.send("\r");
        terminal.wait("the next prompt", |screen| screen.rows == ["ready", "> echo x", "x", ">"]);
    }
}

#[test]
fn evaluating_it_twice_changes_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send(format!("eval \"$({} init zsh)\"; clear; print ready\r", nemoterm().display()));
    terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send(format!("{LEFT}{RIGHT}{RIGHT}"));
    wait_plain(&terminal, "> echo abc def");
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
