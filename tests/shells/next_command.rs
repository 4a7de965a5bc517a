//! The next command, and the last one put right, before anything is typed: alike in every shell.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use super::{BACKSPACE, CTRL_SPACE, RIGHT, bash_ghost, fish, zsh};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
    pass,
    terminal::{Screen, Terminal},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shell {
    Zsh,
    Bash,
    Fish,
}

use Shell::{Bash, Fish, Zsh};

const SHELLS: [Shell; 3] = [Zsh, Bash, Fish];

impl Shell {
    /// A shell with that history, at its first prompt.
    fn start(self, home: &Home, history: &[&str], settings: &str) -> Option<Terminal> {
        let lines =
            |entry: &dyn Fn(&str) -> String| history.iter().map(|line| entry(line)).collect::<String>();
        match self {
            Zsh => {
                home.write(".zsh_history", &lines(&|line| format!("{line}\n")));
                zsh::start(home, settings)
            }
            Bash => {
                home.write(".bash_history", &lines(&|line| format!("{line}\n")));
                bash_ghost::start(home, settings)
            }
            Fish => {
                let history = lines(&|line| format!("- cmd: {line}\n  when: 1\n"));
                home.write(".local/share/fish/fish_history", &history);
                let settings = settings.replace("NEMOTERM_NEXT_COMMAND=", "set -g NEMOTERM_NEXT_COMMAND ");
                fish::start_in_mode(home, "", &settings, 24, 80)
            }
        }
    }
}

/// Runs a line and waits for the prompt after it.
fn run(terminal: &Terminal, line: &str) {
    let row = terminal.screen().cursor.0;
    terminal.send(format!("{line}\r"));
    terminal.wait(&format!("a prompt after {line:?}"), |screen| {
        screen.cursor.0 > row && screen.cursor.1 == 2 && screen.last_row().starts_with('>')
    });
}

fn wait_plain(terminal: &Terminal, row: &str) {
    terminal.wait(&format!("{row:?} without a ghost"), |screen| {
        screen.ghost.is_empty() && screen.last_row() == row
    });
}

/// Waits until the client has looked at what was run before.
fn wait_for_client(home: &Home) {
    eventually("a client", || !home.processes("attach").is_empty());
}

/// What is so often done that the tests don't change it.
const HABIT: [&str; 12] = [
    "true one", "echo two", "true one", "echo two", "true one", "echo two", "true one", "echo two",
    "true one", "echo two", "true one", "echo two",
];

#[test]
fn what_usually_follows_appears_and_is_taken() {
    for shell in SHELLS {
        let home = Home::new();
        let Some(terminal) = shell.start(&home, &HABIT, "") else { continue };
        wait_for_client(&home);
        run(&terminal, "true one");
        let screen = terminal.wait_ghost("echo two");
        assert_eq!((screen.last_row(), screen.cursor.1), ("> echo two", 2), "{shell:?}");
        terminal.send(RIGHT);
        wait_plain(&terminal, "> echo two");
        terminal.send("\r");
        terminal.wait("the output", |screen| screen.rows.iter().any(|row| row == "two"));
        // Typed along it stays, off the path it goes, and comes back with nothing but a command.
        run(&terminal, "true one");
        terminal.wait_ghost("echo two");
        terminal.type_slowly("ec");
        terminal.wait_ghost("ho two");
        terminal.send(format!("x{BACKSPACE}{BACKSPACE}{BACKSPACE}"));
        wait_plain(&terminal, ">");
        terminal.send("true three");
        wait_plain(&terminal, "> true three");
    }
}

#[test]
fn nothing_is_left_behind_by_keys_that_are_not_for_it() {
    for shell in SHELLS {
        let home = Home::new();
        let Some(mut terminal) = shell.start(&home, &HABIT, "") else { continue };
        wait_for_client(&home);
        for key in ["\r", "\x03", "\x0c", "\x1b"] {
            run(&terminal, "true one");
            let row = terminal.wait_ghost("echo two").cursor.0;
            // On a busy machine zsh looks at a Ctrl-C some time after its ghost is gone.
            let is_new_line = |screen: &Screen| shell != Zsh || key != "\x03" || screen.cursor.0 > row;
            terminal.send(key);
            if key == "\x0c" {
                terminal.wait("a cleared screen", |screen| screen.cursor == (0, 2));
                terminal.send("\x15");
            } else {
                terminal.wait("an empty line", |screen| {
                    screen.ghost.is_empty()
                        && screen.last_row() == ">"
                        && screen.cursor.1 == 2
                        && is_new_line(screen)
                });
            }
            let screen = terminal.screen();
            assert!(
                screen
                    .rows
                    .iter()
                    .all(|row| row != "two" && row.matches("echo").count() == 0 || key == "\x0c"),
                "{shell:?} {key:?}: {screen:?}"
            );
            // And what is typed then is all there is.
            if key == "\x1b" {
                // The end of the time for a key sequence.
                pass(Duration::from_millis(100));
            }
            terminal.send("true x");
            wait_plain(&terminal, "> true x");
            run(&terminal, "");
        }
        run(&terminal, "true one");
        terminal.wait_ghost("echo two");
        terminal.send("\x04");
        terminal.wait_end();
        eventually("a screen without the ghost", || !terminal.screen().text().contains("> echo"));
    }
}

/// How often a daemon was asked before anything was typed.
fn empty(daemon: &Fake) -> usize {
    daemon.requests().iter().filter(|request| request.line.is_empty()).count()
}

#[test]
fn it_keeps_still_where_it_is_not_wanted() {
    for shell in SHELLS {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), |_| Answer::Silence);
        let habit =
            ["true one", "rm -rf x", "true one", "rm -rf x", "true two", "echo a", "true two", "echo b"];
        let Some(terminal) = shell.start(&home, &habit, "") else { continue };
        wait_for_client(&home);
        // Dangerous, and no habit; nothing was run; it failed.
        for line in ["true one", "true two", "", "false"] {
            run(&terminal, line);
            if line.starts_with("true") {
                // The daemon knows nothing either.
                let wanted = if line.ends_with("one") { 1 } else { 2 };
                eventually("a question", || empty(&daemon) == wanted);
            }
            terminal.send("true x");
            daemon.wait_line("true x");
            terminal.send("\x15");
            wait_plain(&terminal, ">");
        }
        assert!(
            terminal.ghosts().iter().all(|ghost| !ghost.contains("rm") && !ghost.contains("echo")),
            "{shell:?}"
        );
        assert_eq!(empty(&daemon), 2, "{shell:?} asks the daemon after a command that has worked");
        assert!(daemon.requests().iter().all(|request| !request.line.is_empty() || request.unasked));

        let home = Home::new();
        let daemon = Fake::start(home.runtime(), |_| Answer::Silence);
        let Some(terminal) = shell.start(&home, &HABIT, "NEMOTERM_NEXT_COMMAND=off") else { continue };
        wait_for_client(&home);
        run(&terminal, "true one");
        terminal.send("true x");
        daemon.wait_line("true x");
        assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("two")), "{shell:?} is turned off");
        assert!(!daemon.requests().iter().any(|request| request.line.is_empty()));
    }
}

#[test]
fn the_model_may_know_what_comes_next() {
    for shell in SHELLS {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
            "" => Answer::suffix("echo from the model"),
            _ => Answer::Silence,
        });
        let Some(terminal) = shell.start(&home, &[], "") else { continue };
        wait_for_client(&home);
        run(&terminal, "true one");
        terminal.wait_ghost("echo from the model");
        let request = daemon.wait_line("");
        assert_eq!(request.context.history.last().unwrap().line, "true one");
        terminal.send(RIGHT);
        wait_plain(&terminal, "> echo from the model");
        // Where nothing was run, it can be asked.
        terminal.send("\x15");
        run(&terminal, "");
        terminal.send(CTRL_SPACE);
        terminal.wait_ghost("echo from the model");
    }
}

#[test]
fn a_line_that_failed_is_put_right() {
    for shell in SHELLS {
        let home = Home::new();
        // A git that knows what it does.
        let git = home.write("bin/git", "#!/bin/sh\ntest \"$1\" = status && echo clean\n");
        fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let settings = match shell {
            Fish => format!("set -gx PATH {} $PATH", git.parent().unwrap().display()),
            _ => format!("export PATH={}:$PATH", git.parent().unwrap().display()),
        };
        let Some(terminal) = shell.start(&home, &[], &settings) else { continue };
        wait_for_client(&home);
        eventually("a correction", || {
            // The client may not have looked at the PATH yet.
            run(&terminal, "gti status");
            terminal.has_ghost_within(Duration::from_millis(300)) && terminal.screen().ghost == "git status"
        });
        terminal.send(RIGHT);
        wait_plain(&terminal, "> git status");
        terminal.send("\r");
        terminal.wait("the output", |screen| screen.rows.iter().any(|row| row == "clean"));
        run(&terminal, "git psuh now");
        terminal.wait_ghost("git push now");
        terminal.send("\x15");
        run(&terminal, "git commit --ammend now");
        terminal.wait_ghost("git commit --amend now");
        terminal.send("\x15");
        run(&terminal, "git psuh now");
        terminal.wait_ghost("git push now");
        // It waits for whoever begins to type.
        terminal.send("x\x15g");
        terminal.wait_ghost("it push now");
        terminal.send("\x15");
        wait_plain(&terminal, ">");
        // But not for ever.
        run(&terminal, "true");
        terminal.send("git pu");
        wait_plain(&terminal, "> git pu");
    }
}

/// An answer that comes while a command runs, or when its line has gone, is not drawn.
#[test]
fn late_answers_are_not_drawn() {
    for shell in SHELLS {
        let home = Home::new();
        let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
            "" => Answer::Late(Duration::from_millis(150), vec!["echo late".to_owned()]),
            _ => Answer::Silence,
        });
        let Some(terminal) = shell.start(&home, &[], "") else { continue };
        wait_for_client(&home);
        run(&terminal, "true one");
        daemon.wait_line("");
        let row = terminal.screen().cursor.0;
        terminal.send("cat\r");
        terminal.wait("cat", |screen| screen.cursor == (row + 1, 0));
        eventually("the answer", || daemon.answered() > 0);
        terminal.send("into cat\r");
        terminal.wait("cat's output", |screen| screen.cursor == (row + 3, 0));
        terminal.send("\x04");
        terminal.wait("the next prompt", |screen| {
            screen.rows.iter().filter(|row| *row == "into cat").count() == 2
                && screen.last_row().starts_with('>')
        });
        let ghosts = terminal.ghosts();
        // The one that belongs to the prompt after `cat` may have come.
        assert!(ghosts.iter().all(|ghost| ghost.is_empty() || ghost == "echo late"), "{shell:?} {ghosts:?}");
        let text = terminal.screen().text();
        assert!(text.matches("late").count() <= 1, "{shell:?}: {text}");
        kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::WINCH).unwrap();
    }
}
