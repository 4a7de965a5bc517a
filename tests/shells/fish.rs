//! fish: the hotkey, and what is fish's own about it.

use std::process::Command;

use super::{CTRL_SPACE, RIGHT, hotkey::Shell, knowing};
use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

/// Settings with which a fish shows a prompt and a line, and nothing that looks like a ghost.
pub const PLAIN: &str = "set -U fish_greeting\nfunction fish_prompt; echo -n '> '; end\n\
    set -g fish_color_autosuggestion blue\nset -g fish_autosuggestion_enabled 0\n\
    set -g fish_color_command normal\nset -g fish_color_comment normal\n";

/// The version of fish, as far as its keys depend on it.
pub fn version() -> (u32, u32) {
    let Some(fish) = find("fish") else { return (0, 0) };
    let said = Command::new(fish).arg("--version").output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let mut parts =
        said.rsplit(' ').next().unwrap_or_default().trim().split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// fish with nothing but the integration, which suggests only when asked.
pub fn start(home: &Home, settings: &str, rows: u16, columns: u16) -> Option<Terminal> {
    start_in_mode(home, "hotkey", settings, rows, columns)
}

/// fish with nothing but the integration, in that mode, or as it is where nothing is set.
pub fn start_in_mode(home: &Home, mode: &str, settings: &str, rows: u16, columns: u16) -> Option<Terminal> {
    let fish = find("fish")?;
    let mode = if mode.is_empty() { String::new() } else { format!("set -g NEMOTERM_MODE {mode}\n") };
    let config =
        format!("{PLAIN}{mode}{settings}\n{} init fish | source\necho ready\n", nemoterm().display());
    home.write(".config/fish/config.fish", &config);
    // Or a fish that is new here reads every manual page of the machine.
    home.write(".local/share/fish/generated_completions/none", "");
    let mut command = home.command(fish);
    command.arg("-i");
    let terminal = Terminal::spawn_sized(command, rows, columns);
    terminal.wait("the first prompt", |screen| {
        screen.rows.iter().any(|row| row == "ready") && screen.cursor.1 > 0
    });
    Some(terminal)
}

#[test]
fn a_right_prompt_stays() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let prompt = "function fish_right_prompt; echo -n side; end";
    let Some(terminal) = start(&home, prompt, 24, 80) else { return };
    terminal.send("echo a");
    terminal.wait("the line", |screen| screen.last_row().starts_with("> echo a "));
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    let screen = terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.cursor.1 == 10);
    assert!(
        screen.last_row().starts_with("> echo abc ") && screen.last_row().ends_with(" side"),
        "{screen:?}"
    );
}

#[test]
fn the_ghost_takes_the_place_of_fishs_own() {
    let home = Home::new();
    home.write(".local/share/fish/fish_history", "- cmd: echo abc from fish\n  when: 1\n");
    let _daemon = knowing(&home, &["echo abc from us"]);
    let Some(terminal) = start(&home, "set -g fish_autosuggestion_enabled 1", 24, 80) else { return };
    terminal.send("echo a");
    terminal.wait_row("> echo abc from fish");
    terminal.send(CTRL_SPACE);
    let screen = terminal.wait_ghost("bc from us");
    assert_eq!(screen.last_row(), "> echo abc from us");
    terminal.send("\x1b");
    terminal.wait_row("> echo abc from fish");
}

#[test]
fn abbreviations_still_expand() {
    let home = Home::new();
    let _daemon = knowing(&home, &["gco main"]);
    let Some(terminal) = start(&home, "abbr --add gco git checkout", 24, 80) else { return };
    terminal.send("gco");
    terminal.wait_row("> gco");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost(" main");
    terminal.send(" ");
    terminal.wait_row("> git checkout");
}

#[test]
fn fish_takes_the_common_cases() {
    super::hotkey::all(Shell::Fish);
}
