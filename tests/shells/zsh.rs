//! zsh: ghost text as it is typed.

mod answers;
mod keys;
mod neighbours;
mod screen;

use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

/// A zsh that has read nothing but these lines and the integration, at its first prompt. `None` where there is
/// no zsh.
pub fn start(home: &Home, rc: &str) -> Option<Terminal> {
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
