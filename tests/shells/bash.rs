//! bash without the builtin: the hotkey, and what is bash's own about it.

use super::{CTRL_SPACE, RIGHT, hotkey::Shell, knowing};
use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

/// bash with nothing but the integration, which is told to load no builtin.
pub fn start(home: &Home, settings: &str, rows: u16, columns: u16) -> Option<Terminal> {
    let bash = find("bash")?;
    let rc = format!(
        "PS1='> '; HISTFILE=~/.bash_history NEMOTERM_BASH_BUILTIN=\n{settings}\neval \"$({} init bash)\"\necho ready\n",
        nemoterm().display()
    );
    let rc = home.write("rc", &rc);
    let mut command = home.command(bash);
    command.args(["--noprofile", "--rcfile"]).arg(rc).arg("-i");
    let terminal = Terminal::spawn_sized(command, rows, columns);
    terminal.wait("the first prompt", |screen| screen.text().starts_with("ready\n") && screen.cursor.1 > 0);
    Some(terminal)
}

#[test]
fn the_prompt_is_drawn_again_as_it_was() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let prompt = r"PS1='upper\n\[\e[1m\]\w\$ \[\e[0m\]'";
    let Some(terminal) = start(&home, prompt, 24, 80) else { return };
    let sign = if rustix::process::geteuid().is_root() { '#' } else { '$' };
    let prompt = format!("~/work{sign}");
    terminal.wait_row(&prompt);
    terminal.send("echo a");
    terminal.wait_row(&format!("{prompt} echo a"));
    terminal.send(CTRL_SPACE);
    let screen = terminal.wait_ghost("bc");
    assert_eq!(screen.rows, ["ready", "upper", &format!("{prompt} echo abc")]);
    assert_eq!(screen.cursor, (2, 14));
    terminal.send(RIGHT);
    let screen = terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.cursor == (2, 16));
    assert_eq!(screen.rows, ["ready", "upper", &format!("{prompt} echo abc")]);
}

#[test]
fn a_line_that_wraps_at_the_bottom_of_the_screen() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bb cc"]);
    let Some(terminal) = start(&home, "", 4, 20) else { return };
    terminal.send("\r\r\r\recho aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let line = ["> echo aaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaa", "a"];
    terminal.wait("the line over three rows", |screen| screen.rows[1..] == line);
    terminal.send(CTRL_SPACE);
    let screen = terminal.wait_ghost(" bb cc");
    assert_eq!(screen.rows[1..3], line[..2]);
    terminal.send("x");
    let screen =
        terminal.wait("the line and a key", |screen| screen.ghost.is_empty() && screen.last_row() == "ax");
    assert_eq!(screen.rows[1..3], line[..2]);
}

#[test]
fn vi_mode_has_the_key_too() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "set -o vi", 24, 80) else { return };
    terminal.send("echo a");
    terminal.wait_row("> echo a");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("bc");
    terminal.send("\x1b");
    terminal.wait("no ghost", |screen| screen.ghost.is_empty() && screen.last_row() == "> echo a");
    // Dismissed, and still in insert mode.
    terminal.send("z");
    terminal.wait_row("> echo az");
}

#[test]
fn the_shells_own_commands_are_known_before_they_are_written_to_the_file() {
    let home = Home::new();
    let Some(terminal) = start(&home, "", 24, 80) else { return };
    terminal.send("echo from this shell\r");
    terminal.wait_output("from this shell");
    terminal.send("echo fr");
    terminal.wait_row("> echo fr");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("om this shell");
}

#[test]
fn bash_takes_the_common_cases() {
    super::hotkey::all(Shell::Bash);
}
