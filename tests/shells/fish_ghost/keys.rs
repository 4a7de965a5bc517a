//! Keys: what accepts, what asks, what lets go, and what was there before.

use std::{fs::File, os::unix::fs::OpenOptionsExt as _, time::Duration};

use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
};

use super::{clear, interrupt, start, wait_plain};
use crate::shells::fish::version;
use crate::shells::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find,
    home::Home,
    pass,
};

#[test]
fn right_accepts_the_ghost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo hello world"]);
    let Some(terminal) = start(&home, "") else { return };
    for key in [RIGHT, "\x1bOC", "\x1b[F", "\x05", "\x06"] {
        terminal.send("echo he");
        let screen = terminal.wait_ghost("llo world");
        assert_eq!(screen.last_row(), "> echo hello world");
        assert_eq!(screen.cursor.1, 9, "the cursor stays where one types");
        terminal.send(key);
        wait_plain(&terminal, "> echo hello world");
        // What is on the screen is what is in the line.
        terminal.send("!\x01\x05?");
        wait_plain(&terminal, "> echo hello world!?");
        clear(&terminal);
    }
    terminal.send("echo he");
    terminal.wait_ghost("llo world");
    terminal.send(format!("{RIGHT}\r"));
    terminal.wait_output("hello world");
}

#[test]
fn a_word_is_accepted_and_the_rest_stays() {
    let home = Home::new();
    let daemon = knowing(&home, &["git checkout src/lib.rs now"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("git ch");
    terminal.wait_ghost("eckout src/lib.rs now");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" src/lib.rs now");
    terminal.wait("the cursor", |screen| screen.cursor.1 == 14);
    terminal.send("\x1bf");
    terminal.wait_ghost("lib.rs now");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" now");
    terminal.send(ALT_RIGHT);
    wait_plain(&terminal, "> git checkout src/lib.rs now");
    assert!(!daemon.requests().iter().any(|request| request.line == "git checkout"), "the ghost was known");
}

#[test]
fn typing_along_asks_nothing() {
    let home = Home::new();
    let daemon = knowing(&home, &["find . -name '*.rs'"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("find");
    terminal.wait_ghost(" . -name '*.rs'");
    let asked = daemon.requests().len();
    for typed in [" ", ".", " ", "-", "n"] {
        terminal.send(typed);
        let line = terminal.wait("the ghost", |screen| screen.last_row() == "> find . -name '*.rs'");
        assert!(!line.ghost.is_empty());
    }
    terminal.wait_ghost("ame '*.rs'");
    assert_eq!(daemon.requests().len(), asked);
    // Off the path: the ghost goes at once, and the new line is asked about.
    terminal.send("x");
    wait_plain(&terminal, "> find . -nx");
    daemon.wait_line("find . -nx");
}

#[test]
fn backspace_takes_the_ghost_away_and_asks_again() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc", "echo axy"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo ab");
    terminal.wait_ghost("c");
    terminal.send(format!("{BACKSPACE}x"));
    terminal.wait_ghost("y");
    terminal.send(BACKSPACE);
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
}

#[test]
fn in_the_middle_of_a_line_there_is_no_ghost() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc", "echo a_b"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo ab");
    terminal.wait_ghost("c");
    terminal.send(LEFT);
    wait_plain(&terminal, "> echo ab");
    terminal.send("_");
    wait_plain(&terminal, "> echo a_b");
    terminal.send(RIGHT);
    terminal.send("!");
    wait_plain(&terminal, "> echo a_b!");
    daemon.wait_line("echo a_b!");
    assert!(!daemon.requests().iter().any(|request| request.line == "echo a_b"));
}

#[test]
fn enter_and_ctrl_c_leave_no_ghost_behind() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\r");
    let screen = terminal.wait_output("abc");
    assert!(screen.rows.contains(&"> echo abc".to_owned()), "{screen:?}");

    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x03");
    let screen = terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    // fish 4 empties the line where it stands.
    let left: &[&str] = if version() >= (4, 0) { &[] } else { &["> echo abc^C"] };
    assert_eq!(screen.rows, [&["ready", "> echo abc", "abc"], left, &[">"]].concat());
    terminal.send("echo abc");
    terminal.wait_ghost("def");
}

/// Ctrl-C may come at any time, also while an answer is drawn.
#[test]
fn ctrl_c_is_never_lost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "") else { return };
    for _ in 0..25 {
        terminal.send("echo abc");
        terminal.wait_ghost("def");
        terminal.send("\x03");
        terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    }
    let screen = terminal.screen();
    assert!(screen.rows[1..screen.rows.len() - 1].iter().all(|row| row == "> echo abc^C"), "{screen:?}");
    // And what runs can be ended.
    terminal.send("while true; end\r");
    terminal.wait("the loop", |screen| screen.cursor.1 == 0);
    interrupt(&terminal);
}

/// A Ctrl-C that comes while fish does something else is handled just before it waits for a key, where fish 4 draws nothing.
#[test]
fn ctrl_c_just_before_fish_waits_empties_the_line_on_the_screen_too() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let gate = home.path().join("gate");
    let settings = format!(
        "if status is-interactive; mkfifo {0}; \
         function wait_at_the_gate --on-variable go; string match --quiet x <{0}; end; end",
        gate.display()
    );
    let Some(terminal) = start(&home, &settings) else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    // The client's last signal would have fish draw.
    pass(Duration::from_millis(200));
    let mut other = home.command(find("fish").unwrap());
    assert!(other.args(["--command", "set -U go 1"]).status().unwrap().success());
    let mut opened = None;
    eventually("a fish that waits at the gate", || {
        // Refused until it is read.
        opened = File::options().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&gate).ok();
        opened.is_some()
    });
    kill_process(Pid::from_raw(terminal.pid() as i32).unwrap(), Signal::INT).unwrap();
    drop(opened);
    terminal.wait("an empty line", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    terminal.send("echo abc");
    terminal.wait_ghost("def");
}

#[test]
fn alternatives_are_one_key_away() {
    let home = Home::new();
    let _daemon = knowing(&home, &["make build all", "make bench", "make build one"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("make b");
    terminal.wait_ghost("uild all");
    terminal.send("\x1b}");
    terminal.wait_ghost("ench");
    terminal.send("\x1b}");
    terminal.wait_ghost("uild one");
    terminal.send("\x1b{");
    terminal.wait_ghost("ench");
    terminal.send("\x1b{");
    terminal.wait_ghost("uild all");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" all");
    // From fish 4.1 on this is the beginning of what a terminal answers.
    terminal.send(if version() >= (4, 1) { "\x1b}" } else { "\x1b]" });
    terminal.wait_ghost(" one");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> make build one");
}

#[test]
fn escape_dismisses_the_ghost() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo abc");
    terminal.send(RIGHT);
    terminal.send("!");
    wait_plain(&terminal, "> echo abc!");
}

/// A key that is not for us takes the ghost away and does what it always does.
#[test]
fn other_keys_do_what_they_did() {
    let home = Home::new();
    home.write("work/file-to-complete", "");
    let _daemon = knowing(&home, &["echo abcdef", "cat file of ours"]);
    let Some(terminal) = start(&home, "bind \\cg 'commandline -i mine'") else { return };
    let after = |key: &str, row: &str| {
        terminal.send("echo abc");
        terminal.wait_ghost("def");
        terminal.send(key);
        wait_plain(&terminal, row);
        clear(&terminal);
    };
    after("x", "> echo abcx");
    after(" x", "> echo abc x");
    after("xyz", "> echo abcxyz");
    after("'\"\\$", "> echo abc'\"\\$");
    after("é", "> echo abcé");
    after("日本", "> echo abc日本");
    after("\x17", "> echo");
    after("\x01x", "> xecho abc");
    after("\x1bbx", "> echo xabc");
    after("\x07", "> echo abcmine");
    after("\x1b[200~pasted\x1b[201~", "> echo abcpasted");

    terminal.send("cat file");
    terminal.wait_ghost(" of ours");
    terminal.send("\t");
    wait_plain(&terminal, "> cat file-to-complete");
    clear(&terminal);

    terminal.send("echo hi\r");
    terminal.wait_output("hi");
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    // Nothing in the history begins so.
    terminal.send("\x1b[A");
    wait_plain(&terminal, "> echo abc");
    clear(&terminal);
    terminal.send("\x1b[A");
    wait_plain(&terminal, "> echo hi");
    terminal.send("\x0c");
    terminal.wait("the line on an empty screen", |screen| {
        screen.rows == ["> echo hi"] && screen.ghost.is_empty()
    });
}

/// Signals are handled when the function of a key has ended, and only then fish draws the line. Here each function waits for
/// the answer, and lets the signal wait for its end.
#[test]
fn an_answer_that_comes_before_the_line_is_drawn_waits_for_it() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    // Put in the place of ours when that is there, at the first prompt.
    let slow = "function slow --on-event fish_prompt; functions -e slow; functions -c _nemoterm_insert inner; \
        function _nemoterm_insert; block --local; inner $argv; set -l it $status; sleep 0.05; return $it; end; end; \
        function f; echo ended; return 251; end";
    let Some(terminal) = start(&home, slow) else { return };
    for (typed, key) in "echo abc".char_indices() {
        terminal.send(key.to_string());
        let rest = &"echo abcdef"[typed + 1..];
        terminal.wait(&format!("{rest:?} as the rest"), |screen| {
            screen.ghost == rest && screen.last_row() == "> echo abcdef"
        });
    }
    // Also where the last command ended as these functions do.
    clear(&terminal);
    terminal.send("f\r");
    terminal.wait_output("ended");
    terminal.send("echo ab");
    terminal.wait_ghost("cdef");
}

/// fish moves the cursor before it looks whether there is anything to draw.
#[test]
fn the_cursor_follows_characters_of_several_bytes() {
    let home = Home::new();
    let _daemon = knowing(&home, &[]);
    let Some(terminal) = start(&home, "") else { return };
    let mut column = 2;
    for (key, columns) in [("日", 2), ("é", 1), ("日", 2), ("x", 1), ("é", 1), ("é", 1)] {
        column += columns;
        let written = terminal.written().len();
        terminal.send(key);
        terminal.wait("the cursor after the character", |screen| screen.cursor.1 == column);
        // What follows the character is fish's second look.
        pass(Duration::from_millis(100));
        assert!(terminal.written().len() > written);
        assert_eq!(terminal.screen().cursor.1, column, "after {key}");
    }
    wait_plain(&terminal, "> 日é日xéé");
}

/// The prompt is made again then, and a function in it sees a cursor that was.
#[test]
fn a_resize_in_the_middle_of_a_line_draws_no_ghost_there() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo é more", "echo xé"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("\x1b[200~echo é\x1b[201~\x02");
    terminal.wait("the cursor before the last character", |screen| screen.cursor.1 == 7);
    let before = terminal.written().len();
    terminal.resize(24, 60);
    eventually("a line that is drawn again", || terminal.written().len() > before);
    pass(Duration::from_millis(100));
    terminal.send("x");
    wait_plain(&terminal, "> echo xé");
    assert!(!daemon.requests().iter().any(|request| request.line == "echo é"), "{:?}", terminal.ghosts());
}

#[test]
fn every_key_inserts_itself() {
    let home = Home::new();
    let _daemon = knowing(&home, &[]);
    let Some(terminal) = start(&home, "") else { return };
    let all: String = (b'!'..=b'~').map(char::from).collect();
    terminal.send(&all[..40]);
    wait_plain(&terminal, &format!("> {}", &all[..40]));
    clear(&terminal);
    terminal.send(&all[40..]);
    wait_plain(&terminal, &format!("> {}", &all[40..]));
}

#[test]
fn abbreviations_expand() {
    let home = Home::new();
    let daemon = knowing(&home, &["git checkout main", "gco nothing"]);
    let Some(terminal) = start(&home, "abbr --add gco git checkout") else { return };
    terminal.send("gco");
    terminal.wait_ghost(" nothing");
    terminal.send(" ");
    wait_plain(&terminal, "> git checkout");
    terminal.send("m");
    terminal.wait_ghost("ain");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> git checkout main");
    assert!(!daemon.requests().iter().any(|request| request.line == "gco "));
    terminal.send("\x15gco");
    terminal.wait_ghost(" nothing");
    terminal.send("\r");
    terminal.wait("the expansion", |screen| screen.rows.contains(&"> git checkout".to_owned()));
}

#[test]
fn the_history_and_the_pager_are_searched_as_before() {
    let home = Home::new();
    for name in ["alpha-one", "alpha-two", "alpha-three"] {
        home.write(&format!("work/{name}"), "");
    }
    let _daemon = knowing(&home, &["echo abc", "ls alpha-one more"]);
    let Some(terminal) = start(&home, "") else { return };
    for word in ["first", "second"] {
        terminal.send(format!("true {word}\r"));
        terminal.wait("a new prompt", |screen| {
            screen.rows.iter().any(|row| row.ends_with(word)) && screen.last_row() == ">"
        });
    }
    terminal.send("\x12");
    terminal.wait("the search", |screen| screen.text().contains("search:"));
    terminal.send("fir");
    terminal.wait("what was found", |screen| {
        screen.rows.iter().filter(|row| *row == "> true first").count() == 2
            && screen.rows.iter().any(|row| row == "search: fir")
    });
    terminal.send("\r");
    wait_plain(&terminal, "> true first");
    terminal.send("\r");
    terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.cursor.1 == 2);
    // The next line has ghosts again.
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    clear(&terminal);

    terminal.send("ls a\t");
    terminal.wait("the pager", |screen| screen.text().contains("alpha-two"));
    terminal.send("\t");
    terminal.wait("a choice", |screen| screen.rows.iter().any(|row| row.starts_with("> ls alpha-one")));
    terminal.send("x");
    terminal.wait("the pager's end", |screen| {
        screen.last_row().starts_with("> ls alpha-one") && screen.last_row().ends_with('x')
    });
}

#[test]
fn in_vi_mode_too() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abcdef"]);
    let Some(terminal) = start(&home, "fish_vi_key_bindings\nfunction fish_mode_prompt; end") else { return };
    terminal.send("echo abc");
    terminal.wait_ghost("def");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo abc");
    // Keys are commands here.
    terminal.send("hx");
    wait_plain(&terminal, "> echo ac");
    terminal.send("a!");
    wait_plain(&terminal, "> echo ac!");
    terminal.send(format!("{BACKSPACE}{BACKSPACE}bcd"));
    terminal.wait_ghost("ef");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abcdef");
    // Switched back and forth.
    terminal.send("\x1b");
    terminal.wait("command mode", |screen| screen.cursor.1 == 12);
    terminal.send("dd");
    wait_plain(&terminal, ">");
    terminal.send("ifish_default_key_bindings; echo emacs\r");
    terminal.wait_output("emacs");
    terminal.send("echo ab");
    terminal.wait_ghost("cdef");
    terminal.send("\x05");
    wait_plain(&terminal, "> echo abcdef");
}

#[test]
fn a_paste_is_no_question() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo pasted line", "echo x1"]);
    let Some(terminal) = start(&home, "") else { return };
    let lines: Vec<String> = (0..10).map(|i| format!("echo pasted {i}")).collect();
    terminal.send(format!("\x1b[200~{}\x1b[201~", lines.join("\r")));
    // fish ends what it does with a paste in a function, and a Ctrl-C in the midst of that would leave it there for good, so wait
    // for a key that comes after it.
    terminal.send("#");
    terminal.wait("the paste", |screen| screen.text().contains("pasted 9#") && screen.ghost.is_empty());
    interrupt(&terminal);
    terminal.send("echo x");
    terminal.wait_ghost("1");
    assert!(!daemon.requests().iter().any(|request| request.line.contains("pasted")));
}

#[test]
fn the_users_own_keys() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    let settings = "set -g NEMOTERM_KEY_ACCEPT \\cg\nset -g NEMOTERM_KEY_WORD\nset -g NEMOTERM_KEY_ASK \\co";
    let Some(terminal) = start(&home, settings) else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc def");
    terminal.send(ALT_RIGHT);
    wait_plain(&terminal, "> echo a");
    terminal.send(RIGHT);
    terminal.send("\x0f");
    terminal.wait_ghost("bc def");
    terminal.send("\x07");
    wait_plain(&terminal, "> echo abc def");
}

#[test]
fn asked_when_nothing_is_shown() {
    let home = Home::new();
    let daemon = Fake::start(home.runtime(), |request| match request.alternatives {
        0..=1 => Answer::Silence,
        _ if request.line == "echo a" => Answer::suffix("bc"),
        _ => Answer::Silence,
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    daemon.wait_line("echo a");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
}
