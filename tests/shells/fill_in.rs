//! The hotkey in the middle of a line: what leads up to the rest is put there.

use nemoterm_protocol::Complete;

use super::{CTRL_SPACE, LEFT, bash, bash_ghost, fish, zsh};
use crate::util::{
    fake::{Answer, Fake},
    home::Home,
    terminal::Terminal,
};

/// What starts a shell.
type Start = fn(&Home) -> Option<Terminal>;

/// Every way to run a shell, and whether the key pressed again brings another one.
const SHELLS: [(&str, Start, bool); 5] = [
    ("zsh", |home| zsh::start(home, ""), true),
    ("bash", |home| bash_ghost::start(home, ""), true),
    ("bash without the builtin", |home| bash::start(home, "", 24, 80), false),
    ("fish", |home| fish::start(home, "", 24, 80), false),
    ("fish as one types", |home| fish::start_in_mode(home, "type", "", 24, 80), false),
];

fn answer(request: &Complete) -> Answer {
    match request.line.split_at(request.cursor) {
        ("echo ", "main") => Answer::Suffixes(vec!["pull ".to_owned(), "push ".to_owned()]),
        ("echo é", "") => Answer::suffix("nothing"),
        _ => Answer::Silence,
    }
}

#[test]
fn what_leads_up_to_the_rest_is_put_there() {
    for (name, start, more) in SHELLS {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), answer);
        let Some(terminal) = start(&home) else { continue };
        terminal.send("echo main");
        terminal.wait_row("> echo main");
        terminal.send(LEFT.repeat(4));
        terminal.wait("the cursor in the middle", |screen| screen.cursor.1 == 7);
        terminal.send(CTRL_SPACE);
        let filled = |row: &str| {
            let column = if row.ends_with(" main") { row.len() - 4 } else { 7 };
            terminal.wait(&format!("{row:?} in {name}"), |screen| {
                screen.last_row() == row && usize::from(screen.cursor.1) == column && screen.ghost.is_empty()
            });
        };
        filled("> echo pull main");
        let asked = daemon.requests().iter().any(|request| request.cursor == 5 && !request.unasked);
        assert!(asked, "{name}: {:?}", daemon.requests());
        if more {
            terminal.send(CTRL_SPACE);
            filled("> echo push main");
            terminal.send(CTRL_SPACE);
            terminal.wait("what stood there before", |screen| {
                screen.last_row() == "> echo main" && screen.cursor.1 == 7
            });
            terminal.send(CTRL_SPACE);
            filled("> echo pull main");
        }
        // What is on the screen is what is in the line.
        terminal.send("x\x05!\r");
        terminal.wait_output("pull xmain!");
    }
}

#[test]
fn an_answer_to_a_line_that_has_changed_is_not_put_there() {
    for (name, start, waits) in SHELLS {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
            "echo main" => Answer::Late(std::time::Duration::from_millis(150), vec!["late ".to_owned()]),
            _ => Answer::Silence,
        });
        // The others stand still until the answer has come.
        if !waits {
            continue;
        }
        let Some(terminal) = start(&home) else { continue };
        terminal.send("echo mai");
        terminal.wait_row("> echo mai");
        terminal.send(format!("n{}", LEFT.repeat(4)));
        terminal.wait("the cursor in the middle", |screen| screen.cursor.1 == 7);
        terminal.send(CTRL_SPACE);
        daemon.wait_line("echo main");
        terminal.send("y");
        terminal.wait_row("> echo ymain");
        crate::util::eventually("the answer", || daemon.answered() > 0);
        terminal.send("z");
        terminal.wait_row("> echo yzmain");
        assert!(!terminal.screen().text().contains("late"), "{name}");
    }
}

#[test]
fn the_history_knows_what_stood_there() {
    for (name, start, _) in SHELLS {
        let home = Home::new();
        home.write(".zsh_history", "echo one two three\n");
        home.write(".bash_history", "echo one two three\n");
        home.write(".local/share/fish/fish_history", "- cmd: echo one two three\n  when: 1\n");
        let Some(terminal) = start(&home) else { continue };
        terminal.send("echo onethree");
        terminal.wait("the line", |screen| screen.last_row().starts_with("> echo onethree"));
        terminal.send(LEFT.repeat(5));
        terminal.wait("the cursor in the middle", |screen| screen.cursor.1 == 10);
        terminal.send(CTRL_SPACE);
        terminal.wait(&format!("the line in {name}"), |screen| screen.last_row() == "> echo one two three");
    }
}
