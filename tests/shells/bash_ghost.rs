//! bash with the loadable builtin: ghost text as it is typed.

mod answers;
mod keys;
mod life;
mod screen;

use std::path::{Path, PathBuf};

use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

/// Fails where the builtin is missing, which another package builds beside our program.
pub fn look_for_builtin() -> PathBuf {
    let name = if cfg!(target_vendor = "apple") { "libnemoterm_bash.dylib" } else { "libnemoterm_bash.so" };
    let builtin = nemoterm().with_file_name(name);
    assert!(
        builtin.is_file(),
        "{} is missing: build it first with cargo build --profile {} -p nemoterm-bash",
        builtin.display(),
        nemoterm().parent().and_then(Path::file_name).unwrap_or_default().display(),
    );
    builtin
}

/// A bash that has read nothing but these lines and the integration, at its first prompt. `None` where there is
/// no bash.
pub fn start(home: &Home, rc: &str) -> Option<Terminal> {
    start_sized(home, rc, 24, 80)
}

fn start_sized(home: &Home, rc: &str, rows: u16, columns: u16) -> Option<Terminal> {
    look_for_builtin();
    start_program(home, nemoterm(), rc, rows, columns)
}

fn start_program(home: &Home, program: &Path, rc: &str, rows: u16, columns: u16) -> Option<Terminal> {
    let bash = find("bash")?;
    let rc = format!(
        "PS1='> '\nHISTFILE=~/.bash_history\n{rc}\neval \"$({} init bash)\"\necho ready\n",
        program.display()
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
