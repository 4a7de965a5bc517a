//! A window that gets another size, at any moment: the line and its ghost are as if it had always had that.

use std::time::Duration;

use super::{BACKSPACE, bash_ghost, blesh, fish, knowing, zsh};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
    terminal::Terminal,
};

/// What starts a shell.
type Start = fn(&Home) -> Option<Terminal>;

const ZSH: Start = |home| zsh::start(home, "");
const BASH: Start = |home| bash_ghost::start(home, "");
const FISH: Start = |home| fish::start_in_mode(home, "", "", 24, 80);
const BLESH: Start = |home| blesh::start(home, "");

/// Waits for the line with this ghost, once on the screen.
fn wait_line(terminal: &Terminal, line: &str, ghost: &str) {
    terminal.wait(&format!("{line:?} with {ghost:?}"), |screen| {
        screen.ghost == ghost
            && usize::from(screen.cursor.1) == 2 + line.len()
            && screen.last_row() == format!("> {line}{ghost}").trim_end()
            && screen.rows.iter().filter(|row| row.starts_with("> ")).count() == 1
    });
}

/// Nobody types, and the ghost stays.
fn shown_again(start: Start) {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdefghijklmnopqrstuvwxyz"]);
    let Some(terminal) = start(&home) else { return };
    terminal.send("echo abc");
    wait_line(&terminal, "echo abc", "defghijklmnopqrstuvwxyz");
    for columns in [60, 40, 90, 41, 79] {
        let written = terminal.written().len();
        terminal.resize(24, columns);
        eventually("a line that is drawn again", || terminal.written().len() > written);
        wait_line(&terminal, "echo abc", "defghijklmnopqrstuvwxyz");
    }
    // The next key finds it there.
    terminal.send("d");
    wait_line(&terminal, "echo abcd", "efghijklmnopqrstuvwxyz");
}

/// The size changes just before and just after a key.
fn right_at_a_key(start: Start, back: &str) {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdefghij", "echo axyz"]);
    let Some(terminal) = start(&home) else { return };
    terminal.send("echo a");
    wait_line(&terminal, "echo a", "bcdefghij");
    let mut columns = 80;
    let mut resize = || {
        columns = if columns == 80 { 50 } else { columns + 1 };
        terminal.resize(24, columns);
    };
    for turn in 0..16 {
        for (key, line, ghost) in [
            ("b", "echo ab", "cdefghij"),
            (BACKSPACE, "echo a", back),
            ("x", "echo ax", "yz"),
            (BACKSPACE, "echo a", back),
        ] {
            if turn % 2 == 0 {
                resize();
                terminal.send(key);
            } else {
                terminal.send(key);
                resize();
            }
            wait_line(&terminal, line, ghost);
        }
    }
}

/// The size changes while the answer is on its way.
fn before_the_answer(start: Start) {
    for late in [20, 60, 150, 400] {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), move |request| match request.line.as_str() {
            "echo abc" => Answer::Late(Duration::from_millis(late), vec!["def".to_owned()]),
            _ => Answer::Silence,
        });
        let Some(terminal) = start(&home) else { return };
        terminal.send("echo abc");
        daemon.wait_line("echo abc");
        terminal.resize(24, 50);
        wait_line(&terminal, "echo abc", "def");
    }
}

#[test]
fn in_zsh_the_ghost_is_shown_again() {
    shown_again(ZSH);
}

#[test]
fn in_zsh_it_may_come_right_at_a_key() {
    right_at_a_key(ZSH, "bcdefghij");
}

#[test]
fn in_zsh_it_may_come_before_the_answer() {
    before_the_answer(ZSH);
}

#[test]
fn in_bash_the_ghost_is_shown_again() {
    shown_again(BASH);
}

#[test]
fn in_bash_it_may_come_right_at_a_key() {
    right_at_a_key(BASH, "bcdefghij");
}

#[test]
fn in_bash_it_may_come_before_the_answer() {
    before_the_answer(BASH);
}

#[test]
fn in_fish_the_ghost_is_shown_again() {
    shown_again(FISH);
}

#[test]
fn in_fish_it_may_come_right_at_a_key() {
    right_at_a_key(FISH, "bcdefghij");
}

#[test]
fn in_fish_it_may_come_before_the_answer() {
    before_the_answer(FISH);
}

#[test]
fn in_ble_sh_the_ghost_is_shown_again() {
    shown_again(BLESH);
}

#[test]
fn in_ble_sh_it_may_come_right_at_a_key() {
    // ble.sh asks nobody then.
    right_at_a_key(BLESH, "");
}

#[test]
fn in_ble_sh_it_may_come_before_the_answer() {
    before_the_answer(BLESH);
}
