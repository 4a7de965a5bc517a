//! The screen: wide characters, wrapping, resizing, prompts, tmux.

use super::{start, start_sized, wait_plain};
use crate::shells::{ALT_RIGHT, BACKSPACE, RIGHT, knowing};
use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

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
