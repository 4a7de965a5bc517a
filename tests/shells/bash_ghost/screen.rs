//! The screen: drawing without flicker, wide characters, wrapping, resizing, prompts, tmux.

use super::{look_for_builtin, start, start_sized, wait_plain};
use crate::shells::{ALT_RIGHT, BACKSPACE, LEFT, RIGHT, knowing};
use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

#[test]
fn typing_along_asks_nothing_and_does_not_flicker() {
    let home = Home::new();
    let daemon = knowing(&home, &["find . -name '*.rs'"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("find");
    terminal.wait_ghost(" . -name '*.rs'");
    let asked = daemon.requests().len();
    let seen = terminal.ghosts().len();
    terminal.type_slowly(" . -n");
    terminal.wait_ghost("ame '*.rs'");
    let ghosts = terminal.ghosts().split_off(seen);
    assert!(!ghosts.iter().any(String::is_empty), "the ghost went away in between: {ghosts:?}");
    assert_eq!(daemon.requests().len(), asked);
    // Off the path: the ghost goes at once, and the new line is asked about.
    terminal.send("x");
    wait_plain(&terminal, "> find . -nx");
    daemon.wait_line("find . -nx");
}

#[test]
fn characters_of_several_bytes_and_columns() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo 日本語 naïve e\u{301}t 👍 done"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo 日");
    terminal.wait_ghost("本語 naïve e\u{301}t 👍 done");
    terminal.send("本");
    terminal.wait_ghost("語 naïve e\u{301}t 👍 done");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" naïve e\u{301}t 👍 done");
    assert_eq!(terminal.screen().cursor.1, 13);
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo 日本語 naïve e\u{301}t 👍 done");
    terminal.send(BACKSPACE.repeat(6));
    terminal.wait_ghost("👍 done");
    assert_eq!(terminal.screen().cursor.1, 23);
}

#[test]
fn in_the_c_locale_only_ascii_is_drawn() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo plain", "echo naïve", "echo nice"]);
    let Some(terminal) = start(&home, "LC_ALL=C; PS1='\\[\\e[1m\\]\\[\\e[0m\\]> '") else { return };
    terminal.send("echo pl");
    let screen = terminal.wait_ghost("ain");
    assert_eq!((screen.last_row(), screen.cursor.1), ("> echo plain", 9));
    terminal.send("\x15echo n");
    wait_plain(&terminal, "> echo n");
    terminal.send("i");
    terminal.wait_ghost("ce");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("a\u{ef}") || ghost.contains('\u{fffd}')));
}

#[test]
fn a_line_and_a_ghost_that_wrap() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc"]);
    let Some(terminal) = start_sized(&home, "", 6, 30) else { return };
    // At the bottom of the screen, where a longer line scrolls.
    terminal.send("\r\r\r\r\r\recho aaa");
    let screen = terminal.wait("the ghost over three rows", |screen| screen.ghost.ends_with("ccccc"));
    assert_eq!((screen.cursor, screen.rows[3].len()), ((3, 10), 30));
    // Typing along, over the margin.
    terminal.type_slowly("aaaaaaaaaaaaaaaaaaaaa");
    terminal.wait("the ghost", |screen| screen.cursor == (4, 1) && screen.ghost.ends_with("ccccc"));
    terminal.send(BACKSPACE.repeat(10));
    terminal.wait("the ghost", |screen| screen.cursor == (3, 21) && screen.ghost.ends_with("ccccc"));
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
fn a_ghost_that_is_longer_than_the_screen_is_clipped() {
    let home = Home::new();
    let long: &'static str = Box::leak(format!("echo {}", "x".repeat(400)).into_boxed_str());
    let lines: &'static [&'static str] = Box::leak(vec![long].into_boxed_slice());
    let _daemon = knowing(&home, lines);
    let Some(terminal) = start_sized(&home, "", 5, 30) else { return };
    terminal.send("echo xx");
    let screen = terminal.wait("the clipped ghost", |screen| screen.ghost.ends_with('…'));
    assert_eq!(screen.rows.len(), 5);
    assert_eq!(screen.cursor, (0, 9));
    terminal.send("\r");
    terminal.wait("no ghost", |screen| screen.ghost.is_empty() && screen.rows.contains(&"xx".to_owned()));
}

#[test]
fn a_resized_window_shows_the_line_once() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo a line of some length and more of it"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a line of");
    terminal.wait_ghost(" some length and more of it");
    terminal.resize(24, 60);
    terminal.send("x");
    wait_plain(&terminal, "> echo a line ofx");
    terminal.resize(24, 90);
    terminal.send(BACKSPACE);
    terminal.wait_ghost(" some length and more of it");
    assert_eq!(terminal.screen().rows, ["ready", "> echo a line of some length and more of it"]);
}

#[test]
fn a_prompt_of_two_lines_in_colour() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo right"]);
    let rc = r"PS1='\[\e[32m\]upper\n\[\e[1;34m\]low>\[\e[0m\] \[\e[31m\]'";
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("echo ri");
    let screen = terminal.wait_ghost("ght");
    assert_eq!(screen.rows[1..], ["upper", "low> echo right"]);
    terminal.send("\x03");
    let screen = terminal.wait("a new prompt", |screen| screen.cursor == (4, 5));
    assert_eq!(screen.rows[2..], ["low> echo ri^C", "upper", "low>"]);
}

#[test]
fn the_look_can_be_chosen_and_is_nothing_else() {
    for (setting, drawn) in [("2", "\x1b[0;2mbc"), ("'90mevil'", "\x1b[0;90mbc"), ("", "\x1b[0;4mbc")] {
        let home = Home::new();
        let _daemon = knowing(&home, &["echo abc"]);
        let rc = format!("NEMOTERM_HIGHLIGHT={setting}; [[ $NEMOTERM_HIGHLIGHT ]] || NO_COLOR=1");
        let Some(terminal) = start(&home, &rc) else { return };
        terminal.send("echo a");
        terminal.wait("the ghost", |screen| screen.last_row() == "> echo abc");
        let written = String::from_utf8(terminal.written()).unwrap();
        assert!(written.contains(drawn), "{written:?}");
    }
}

#[test]
fn another_terminal_may_be_named_and_the_builtin_given_back() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("TERM=xterm; printf -v PS1 'new> '\r");
    terminal.wait_row("new>");
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x15nemoterm_ghost stop; enable -d nemoterm_ghost\r");
    terminal.wait("a prompt", |screen| screen.last_row() == "new>" && screen.cursor.0 == 3);
    terminal.send(format!("echo ab{LEFT}{RIGHT}\x05c"));
    wait_plain(&terminal, "new> echo abc");
    terminal.send("\r");
    terminal.wait("the output", |screen| screen.rows.ends_with(&["abc".to_owned(), "new>".to_owned()]));
}

#[test]
fn inside_tmux() {
    let (Some(tmux), Some(bash)) = (find("tmux"), find("bash")) else { return };
    look_for_builtin();
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    home.write(
        ".tmux.conf",
        "set -g status off\nset -g escape-time 0\nset -g default-terminal screen-256color\n",
    );
    home.write(".bashrc", &format!("PS1='> '\neval \"$({} init bash)\"\n", nemoterm().display()));
    let mut command = home.command(tmux);
    command.arg("-S").arg(home.path().join("tmux")).arg("new-session").arg(format!("{} -i", bash.display()));
    let mut terminal = Terminal::spawn(command);
    terminal.wait_row(">");
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send("\r");
    terminal.wait("the output", |screen| screen.rows == ["> echo abc", "abc", ">"]);
    terminal.send("exit\r");
    terminal.wait_end();
}

#[test]
fn a_word_at_the_margin() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo 12345678901 日本", "ls 1234567890123456 more"]);
    let Some(terminal) = start_sized(&home, "", 6, 20) else { return };
    // The ghost ends at the margin, and then the line does.
    terminal.send("echo 123456789");
    let screen = terminal.wait_ghost("01 日本");
    assert_eq!(screen.rows[1..], ["> echo 12345678901", "日本"]);
    terminal.send(RIGHT);
    terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.cursor == (2, 4));
    terminal.send("\x15");
    terminal.wait_row(">");
    terminal.send("ls 123456789012345");
    let screen = terminal.wait_ghost("6 more");
    assert_eq!((screen.cursor, screen.rows.len()), ((2, 0), 3));
    terminal.send("6");
    let screen = terminal.wait_ghost(" more");
    assert_eq!(
        (screen.cursor, &screen.rows[1..]),
        ((2, 1), ["> ls 123456789012345", "6 more"].map(str::to_owned).as_slice())
    );
    terminal.send(BACKSPACE.repeat(3));
    let screen = terminal.wait("the ghost", |screen| screen.cursor == (1, 18) && screen.ghost == "456 more");
    assert_eq!(screen.rows[1..], ["> ls 123456789012345", "6 more"]);
    terminal.send("x\r");
    terminal.wait("the next prompt", |screen| screen.last_row() == ">");
    assert_eq!(terminal.screen().rows[..3].iter().filter(|row| *row == "> ls 1234567890123x").count(), 1);
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
        screen.rows == ["ready", "> echo abcdefghijklm", "nopqrstuvwxyz"]
            && screen.ghost == "defghijklmnopqrstuvwxyz"
    });
    terminal.send(RIGHT);
    terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.last_row() == "nopqrstuvwxyz");
}
