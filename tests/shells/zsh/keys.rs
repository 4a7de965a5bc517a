//! Keys: what accepts, what asks, what lets go, and what was there before.

use std::{fs, time::Duration};

use super::{start, wait_plain};
use crate::shells::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
    pass,
};

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
    terminal.wait("the trap's output and a prompt", |screen| {
        screen.text().contains("> echo abctrapped") && screen.last_row() == ">" && screen.cursor.1 == 2
    });
    terminal.send("print ${functions[TRAPINT]}\r");
    terminal.wait("the trap itself", |screen| screen.text().contains("print -n trapped"));
}

/// What is killed by two keys in a row is one piece, also where an answer comes between them and the next.
#[test]
fn an_answer_between_two_kills_does_not_part_them() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo one more", "echo two"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo onex\x02\x0b");
    terminal.wait_ghost(" more");
    terminal.send("\x17\x19");
    wait_plain(&terminal, "> echo onex");
    // And what is typed in between parts them.
    terminal.send("\x17tw");
    terminal.wait_ghost("o");
    terminal.send("\x17");
    terminal.wait_ghost("one more");
    terminal.send("\x19");
    terminal.wait("what was killed last", |screen| screen.ghost == "o" && screen.last_row() == "> echo two");
}

/// Pressed once, as soon as the ghost is there.
#[test]
fn ctrl_c_right_after_a_ghost_is_not_lost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "") else { return };
    for _ in 0..40 {
        terminal.send("echo abc");
        terminal.wait_ghost("def");
        terminal.send("\x03");
        terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    }
    // Nothing of a ghost is left, and no letter is left out, as those are while which a signal comes.
    let screen = terminal.screen();
    let is_whole = |row: &String| row == "> echo abc";
    assert!(screen.rows[1..screen.rows.len() - 1].iter().all(is_whole), "{screen:?}");
}

/// zsh looks at an interrupt that comes in a handler only at the next key, unless it is woken.
#[test]
fn ctrl_c_while_an_answer_is_taken_in_is_not_lost() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.line.strip_prefix('x') {
        Some(_) => Answer::suffix("def"),
        None => Answer::Silence,
    });
    let Some(terminal) = start(&home, "zmodload zsh/zselect") else { return };
    // That takes long enough to be met.
    terminal.send("functions[_nemoterm_record]=\"zselect -t 20; $functions[_nemoterm_record]\"\r");
    terminal.wait("a prompt", |screen| screen.cursor == (2, 2));
    for i in 0..8 {
        let answered = daemon.answered();
        terminal.send(format!("x{i}"));
        terminal.wait("the line", |screen| screen.last_row().starts_with(&format!("> x{i}")));
        eventually("an answer", || daemon.answered() > answered);
        pass(Duration::from_millis(60));
        terminal.send("\x03");
        terminal.wait("a new prompt", |screen| screen.cursor == (3 + i, 2) && screen.last_row() == ">");
    }
}

/// zsh skips the first function after a trap that has failed.
#[test]
fn hooks_run_after_ctrl_c() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let rc = "precmd() { print -n \"A$? \" >> ~/hooks }; other() { print -n \"B$? \" >> ~/hooks }; precmd_functions=(other)";
    let Some(terminal) = start(&home, rc) else { return };
    for prompt in 2..4 {
        terminal.send("echo abc");
        terminal.wait_ghost("def");
        terminal.send("\x03");
        terminal.wait("a new prompt", |screen| screen.rows.len() == prompt + 1 && screen.last_row() == ">");
    }
    let hooks = || fs::read_to_string(home.path().join("hooks")).unwrap_or_default();
    eventually("hooks at the third prompt", || hooks().matches('B').count() == 3);
    // 130, or 1 where zsh was in a handler.
    let hooks = hooks();
    let statuses: Vec<&str> = hooks.split_whitespace().collect();
    assert_eq!(statuses[..2], ["A0", "B0"], "{hooks}");
    for pair in statuses[2..].chunks(2) {
        assert!(matches!(pair, ["A130", "B130"] | ["A1", "B1"]), "{hooks}");
    }
    // And the hook is the user's again.
    terminal.send("print ${functions[precmd]}\r");
    terminal.wait("the hook itself", |screen| screen.text().contains("print -n \"A$? \""));
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
fn turned_off_in_this_shell() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc", "echo xyz"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("NEMOTERM_OFF=1\r");
    terminal.wait("a prompt", |screen| screen.cursor == (2, 2));
    terminal.send("echo a");
    terminal.wait_row("> echo a");
    terminal.send("\x15NEMOTERM_OFF=\r");
    terminal.wait("a prompt", |screen| screen.cursor == (3, 2));
    terminal.send("echo x");
    terminal.wait_ghost("yz");
    let lines: Vec<_> = daemon.requests().into_iter().map(|request| request.line).collect();
    assert!(!lines.contains(&"echo a".to_owned()), "{lines:?}");
}
