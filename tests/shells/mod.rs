//! The integrations in the real shells, in a terminal.

mod attach;
mod bash;
pub mod bash_ghost;
pub mod blesh;
mod fill_in;
pub mod fish;
mod fish_ghost;
mod hotkey;
mod init;
mod next_command;
mod real;
mod resize;
mod typing;
pub mod zsh;

use crate::util::{
    fake::{Answer, Fake},
    home::Home,
};

pub const RIGHT: &str = "\x1b[C";
const LEFT: &str = "\x1b[D";
const ALT_RIGHT: &str = "\x1b[1;3C";
const BACKSPACE: &str = "\x7f";
pub const CTRL_SPACE: &str = "\0";

/// Suffixes that would do something to a terminal, or hide something.
const HOSTILE: &[&str] = &[
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\u{9b}2J",
    "x\ny",
    "x\ry",
    "\x08\x08\x08",
    "\u{202e}evil",
    "a\u{200b}b",
    "tag\u{e0041}",
    "\0",
    "x\x1fy",
];

/// A suffix that is a program in each of the shells.
const METACHARACTERS: &str =
    "$(touch ~/marker)`touch ~/marker`(touch ~/marker)%F{red}${(e)x};touch ~/marker#*?[";

/// A daemon that knows how some lines go on, once they are begun.
fn knowing(home: &Home, lines: &'static [&'static str]) -> Fake {
    Fake::start(home.runtime(), |request| {
        let fits = |line: &&&str| {
            !request.line.is_empty() && line.starts_with(&request.line) && line.len() > request.line.len()
        };
        Answer::Suffixes(
            lines.iter().filter(fits).map(|line| line[request.line.len()..].to_owned()).collect(),
        )
    })
}
