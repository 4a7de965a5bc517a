//! Keys: accepting, stepping, dismissing, and what they did before.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{start, wait_plain};
use crate::shells::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
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
fn keys_that_mean_nothing_insert_no_more_than_they_did() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    // Shift-Tab, with a ghost and without.
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x1b[Z");
    terminal.wait_ghost("bc");
    terminal.send("_");
    wait_plain(&terminal, "> echo a_");
    terminal.send("\x1b[Z!");
    wait_plain(&terminal, "> echo a_!");
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
