//! The README's pictures, made from a real shell in a terminal; `cargo xtask pictures` makes them anew.

use std::{env, fs, path::PathBuf};

use crate::{
    shells::{self, CTRL_SPACE, RIGHT},
    util::{home::Home, picture, served::Served},
};

#[test]
fn a_picture_shows_what_is_on_the_screen() {
    let mut parser = vt100::Parser::new(2, 20, 0);
    parser.process(b"$ a <b\x1b[90m&c\x1b[0m\r\n\x1b[32mok");
    let svg = picture::svg(parser.screen(), 2);
    let texts: Vec<_> = svg.lines().filter(|line| line.starts_with("<text ")).collect();
    let [line, ghost, green] = texts.as_slice() else { panic!("{svg}") };
    assert!(line.contains("fill=\"#d8dee9\"") && line.ends_with(">$ a &lt;b</text>"), "{line}");
    assert!(ghost.contains("fill=\"#6b7280\"") && ghost.ends_with(">&amp;c</text>"), "{ghost}");
    assert!(green.contains("fill=\"#98c379\"") && green.ends_with(">ok</text>"), "{green}");
    assert_eq!(svg, picture::svg(parser.screen(), 2));
}

#[test]
fn the_pictures_of_the_readme_can_be_made() {
    let Some(dir) = env::var_os("NEMOTERM_PICTURES").map(PathBuf::from) else {
        eprintln!("skipped: cargo xtask pictures makes them");
        return;
    };
    let home = Home::new();
    home.write(".zsh_history", "ls\ncargo test --workspace\n");
    let _daemon = Served::start(&home);
    let Some(terminal) = shells::zsh::start(&home, "PS1='%F{green}~/project%f $ '") else { return };
    // What the shell has printed at its start is not for the picture.
    terminal.send("\x0c");
    terminal.wait("an empty screen", |screen| screen.rows == ["~/project $"]);
    let shot = |name: &str, rows: u16| fs::write(dir.join(name), terminal.picture(rows)).unwrap();
    // Asked for, so that it is there however likely the model thinks it is.
    terminal.send(format!("find . -name{CTRL_SPACE}"));
    terminal.wait("a suggestion", |screen| !screen.ghost.is_empty());
    shot("ghost.svg", 1);
    terminal.send(format!("\x15# find files larger than 10 MB{CTRL_SPACE}"));
    terminal.wait("a command", |screen| screen.ghost.contains("-> "));
    shot("description.svg", 1);
    terminal.send("\x15cargo t");
    terminal.wait_ghost("est --workspace");
    terminal.send(RIGHT);
    terminal.wait("it to be taken", |screen| screen.ghost.is_empty());
    shot("taken.svg", 1);
}
