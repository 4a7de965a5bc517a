//! Answers: late, missing and hostile ones, and how they lie on the screen.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{clear, start, start_sized, wait_plain};
use crate::shells::{ALT_RIGHT, BACKSPACE, HOSTILE, METACHARACTERS, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
};

#[test]
fn a_late_reply_to_an_older_buffer_is_not_shown() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "ls" => Answer::Late(Duration::from_millis(100), vec![" stale".to_owned()]),
        "lsx" => Answer::Late(Duration::from_millis(120), vec![" fresh".to_owned()]),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("ls");
    daemon.wait_line("ls");
    terminal.send("x");
    terminal.wait_ghost(" fresh");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("stale")), "{:?}", terminal.ghosts());
}

/// An answer that comes when the line has been run, or while a program runs, stays off the screen.
#[test]
fn a_late_reply_to_a_line_that_has_gone_is_not_shown() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "cat" => Answer::Late(Duration::from_millis(200), vec![" stale".to_owned()]),
        "cat " => Answer::suffix("fresh"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("cat");
    daemon.wait_line("cat");
    terminal.send("\r");
    terminal.wait("cat", |screen| screen.cursor == (2, 0));
    eventually("the answer", || daemon.answered() > 0);
    terminal.send("typed into cat\r");
    terminal.wait("cat's echo", |screen| screen.rows.len() == 4);
    terminal.send("\x04");
    terminal.wait_output("typed into cat");
    terminal.send("cat ");
    terminal.wait_ghost("fresh");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("stale")), "{:?}", terminal.ghosts());
}

#[test]
fn the_history_answers_at_once_and_in_place_of_fishs_own() {
    let home = Home::new();
    home.write(".local/share/fish/fish_history", "- cmd: cargo test --workspace\n  when: 1\n");
    let Some(terminal) = start(&home, "set -g fish_autosuggestion_enabled 1") else { return };
    terminal.send("cargo t");
    let screen = terminal.wait_ghost("est --workspace");
    assert_eq!(screen.last_row(), "> cargo test --workspace");
    terminal.send("\x15echo from this shell\r");
    terminal.wait_output("from this shell");
    terminal.send("echo fr");
    terminal.wait_ghost("om this shell");
    // Turned off, it gives fish its own back.
    terminal.send("\x15set -g NEMOTERM_OFF 1\r");
    terminal.wait_row(">");
    terminal.send("cargo t");
    let screen = terminal.wait_row("> cargo test --workspace");
    assert_eq!(screen.ghost, "", "drawn by fish");
}

#[test]
fn the_daemon_learns_what_is_around() {
    let home = Home::new();
    let daemon = knowing(&home, &[]);
    home.write("work/notes.txt", "");
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("false\r");
    terminal.wait("the next prompt", |screen| screen.rows.len() == 3 && screen.cursor == (2, 2));
    terminal.send("cat n");
    let request = daemon.wait_line("cat n");
    assert_eq!((request.cursor, request.context.shell.as_str()), (5, "fish"));
    assert_eq!(request.context.cwd.as_deref(), home.work().to_str());
    assert_eq!(request.context.names, ["notes.txt"]);
    let last = request.context.history.last().unwrap();
    assert_eq!((last.line.as_str(), last.status), ("false", Some(1)));
}

#[test]
fn control_characters_never_reach_the_screen() {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "echo a" => Answer::Suffixes(HOSTILE.iter().copied().chain(["bc"]).map(str::to_owned).collect()),
        "echo m" => Answer::suffix(METACHARACTERS),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    assert!(
        terminal.ghosts().iter().all(|ghost| ghost.is_empty() || ghost == "bc"),
        "{:?}",
        terminal.ghosts()
    );
    clear(&terminal);
    terminal.send("echo m");
    terminal.wait("the ghost", |screen| screen.ghost.starts_with("$(touch"));
    terminal.send(RIGHT);
    terminal
        .wait("the line", |screen| screen.ghost.is_empty() && screen.text().contains(&METACHARACTERS[..50]));
    terminal.send("\x15echo done\r");
    terminal.wait_output("done");
    assert!(!home.path().join("marker").exists(), "accepting ran something");
}

#[test]
fn a_description_becomes_a_command() {
    let home = Home::new();
    let _daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "# say hi" => Answer::suffix("echo hi"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("# say hi");
    terminal.wait_row("> # say hi  -> echo hi");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hi");
    terminal.send("\r");
    terminal.wait_output("hi");
}

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
    terminal.wait("the cursor", |screen| screen.cursor.1 == 13);
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo 日本語 naïve 👍 done");
    terminal.send(BACKSPACE.repeat(6));
    terminal.wait_ghost("👍 done");
}

/// What has no room goes over the right margin, and nothing wraps or scrolls.
#[test]
fn a_line_and_a_ghost_at_the_margin() {
    let home = Home::new();
    let line = "echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc";
    let _daemon = knowing(&home, &["echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbccccc"]);
    let Some(terminal) = start_sized(&home, "", 6, 30) else { return };
    // At the bottom of the screen, where a longer line scrolls.
    terminal.send("\r\r\r\r\r\recho aaa");
    let screen = terminal.wait("the ghost up to the margin", |screen| screen.ghost == "a".repeat(20));
    assert_eq!(screen.last_row(), format!("> echo {}", "a".repeat(23)));
    terminal.send("a".repeat(19));
    terminal.wait("a ghost of one", |screen| screen.ghost == "a" && screen.cursor.1 == 29);
    terminal.send("a");
    terminal.wait("the ghost in the next row", |screen| {
        screen.ghost == "aaaaaaaaabbbbbbbbbbbbbbbbbbbbb" && screen.cursor.1 == 0
    });
    terminal.send(RIGHT);
    let screen =
        terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.text().ends_with("ccccc"));
    assert!(screen.text().replace('\n', "").ends_with(line), "{screen:?}");
    terminal.send("\x15");
    terminal.wait("an empty line", |screen| screen.last_row() == ">");
}

#[test]
fn a_right_prompt_stays() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let prompt = "function fish_right_prompt; echo -n side; end";
    let Some(terminal) = start(&home, prompt) else { return };
    terminal.send("echo a");
    let screen = terminal.wait_ghost("bc");
    let is_whole = |row: &str, line: &str| row.starts_with(line) && row.ends_with(" side");
    assert!(is_whole(screen.last_row(), "> echo abc "), "{screen:?}");
    // Wiped, too.
    terminal.send("x");
    terminal.wait("no ghost", |screen| screen.ghost.is_empty() && is_whole(screen.last_row(), "> echo ax "));
    terminal.send(BACKSPACE);
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    let screen = terminal.wait("the line", |screen| screen.ghost.is_empty() && screen.cursor.1 == 10);
    assert!(is_whole(screen.last_row(), "> echo abc "), "{screen:?}");
}

#[test]
fn a_prompt_of_two_lines() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "function fish_prompt; printf 'upper\\n> '; end") else { return };
    terminal.send("echo a");
    let screen = terminal.wait_ghost("bc");
    assert_eq!(screen.rows[screen.rows.len() - 2..], ["upper", "> echo abc"]);
    terminal.send("\r");
    let screen = terminal
        .wait("the output", |screen| screen.rows.iter().any(|row| row == "a") && screen.last_row() == ">");
    assert!(screen.rows.contains(&"> echo a".to_owned()), "{screen:?}");
}

/// The prompt is made anew for a new window size, and where somebody has fish do so. What it is made by may take its time.
#[test]
fn a_prompt_that_is_made_anew_leaves_the_ghost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let slow = "function fish_prompt; echo -n '> '; command sleep 0.3; test -n ''; true; end\n\
        function again --on-signal USR1; commandline --function repaint; end";
    let Some(terminal) = start(&home, slow) else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    let signal = || kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::USR1).unwrap();
    for again in [&(|| terminal.resize(24, 60)) as &dyn Fn(), &signal, &(|| terminal.resize(24, 80)), &signal]
    {
        let drawn = terminal.ghosts().len();
        again();
        // It goes, and comes back.
        eventually("a ghost that is drawn again", || terminal.ghosts().len() >= drawn + 2);
        terminal.wait("the ghost", |screen| screen.ghost == "def" && screen.last_row() == "> echo abcdef");
    }
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abcdef");
}
