//! zsh: ghost text as it is typed.

use crate::util::{
    fake::{Answer, Fake},
    find,
    home::Home,
    nemoterm,
    terminal::Terminal,
};

/// A zsh that has read nothing but the integration, at its first prompt. `None` where there is no zsh.
fn start(home: &Home, rc: &str) -> Option<Terminal> {
    let zsh = find("zsh")?;
    let rc =
        format!("PS1='> '\nPS2=\nunsetopt promptsp\n{rc}\neval \"$({} init zsh)\"\n", nemoterm().display());
    home.write(".zshrc", &rc);
    let mut command = home.command(zsh);
    command.args(["-d", "-i"]);
    let terminal = Terminal::spawn(command);
    terminal.wait_row(">");
    Some(terminal)
}

/// A daemon that knows how some lines go on.
fn knowing(home: &Home, lines: &'static [&'static str]) -> Fake {
    Fake::start(home.runtime(), |request| {
        let fits = |line: &&&str| line.starts_with(&request.line) && line.len() > request.line.len();
        Answer::Suffixes(
            lines.iter().filter(fits).map(|line| line[request.line.len()..].to_owned()).collect(),
        )
    })
}

#[test]
fn a_ghost_appears_and_right_accepts_it() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo hello world"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo he");
    terminal.wait_ghost("llo world");
    terminal.send("\x1b[C");
    let screen = terminal.wait("the line without a ghost", |screen| screen.ghost.is_empty());
    assert_eq!(screen.last_row(), "> echo hello world");
    terminal.send("\r");
    terminal.wait_output("hello world");
}
