//! bash with ble.sh, an editor of its own, which asks us for suggestions. They run where there is one: the file that
//! `NEMOTERM_TEST_BLESH` names, or one in the places where it is installed.

mod cases;

use std::{env, fs, os::unix::fs::DirBuilderExt as _, path::PathBuf, process::Command, time::Duration};

use rustix::process::{Signal, kill_process};

use super::{ALT_RIGHT, BACKSPACE, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find,
    home::Home,
    nemoterm,
    terminal::Terminal,
};

/// Where ble.sh lies; nothing, with a printed reason, where there is none.
fn look_for_blesh() -> Option<PathBuf> {
    let named = env::var_os("NEMOTERM_TEST_BLESH").map(PathBuf::from);
    if let Some(file) = named {
        assert!(file.is_file(), "NEMOTERM_TEST_BLESH: {} is missing", file.display());
        return Some(file);
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let fetched =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/shells/blesh/usr/share/blesh/ble.sh");
    let places = [fetched, home.join(".local/share/blesh/ble.sh"), "/usr/share/blesh/ble.sh".into()];
    let found = places.into_iter().find(|place| place.is_file());
    if found.is_none() {
        eprintln!("skipped: no ble.sh; NEMOTERM_TEST_BLESH names one, cargo xtask shells fetches one");
    }
    found
}

/// A bash with ble.sh and the integration, at its first prompt.
pub fn start(home: &Home, settings: &str) -> Option<Terminal> {
    start_sized(home, settings, 24, 80)
}

fn start_sized(home: &Home, settings: &str, rows: u16, columns: u16) -> Option<Terminal> {
    Some(first_prompt(Terminal::spawn_sized(command(home, settings)?, rows, columns)))
}

/// The terminal, once it shows the first prompt.
pub fn first_prompt(terminal: Terminal) -> Terminal {
    terminal.wait("the first prompt", |screen| {
        screen.rows.iter().any(|row| row == "ready")
            && screen.last_row().starts_with('>')
            && screen.cursor.1 == 2
    });
    terminal
}

/// What runs it.
pub fn command(home: &Home, settings: &str) -> Option<Command> {
    let blesh = look_for_blesh()?;
    let bash = find("bash")?;
    let rc = format!(
        "PS1='> '\nHISTFILE=~/.bash_history\nsource {} --attach=none --norc\nble-face auto_complete=fg=8\nbleopt char_width_version=15.0 char_width_mode=west\n\
         {settings}\neval \"$({} init bash)\"\necho ready\nble-attach\n",
        blesh.display(),
        nemoterm().display()
    );
    home.write(".bashrc", &rc);
    // What ble.sh shares with others of its kind is not shared with other tests. Its cache least of all: one that
    // starts while another fills the cache reads half of a key map, and has none. It lies beside ble.sh unless
    // there is a directory of caches.
    fs::create_dir_all(home.path().join(".cache")).unwrap();
    let shared = home.path().join("shared");
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&shared).unwrap();
    let mut command = home.command(bash);
    command.arg("-i").env("USER", "somebody").env("XDG_RUNTIME_DIR", shared);
    Some(command)
}

/// Waits for a line without a ghost.
fn wait_plain(terminal: &Terminal, row: &str) {
    terminal.wait(&format!("{row:?} without a ghost"), |screen| {
        screen.ghost.is_empty() && screen.last_row() == row
    });
}

#[test]
fn a_suggestion_appears_as_one_types_and_is_typed_through_and_taken() {
    let home = Home::new();
    let fake = knowing(&home, &["echo hello world"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo h");
    terminal.wait_ghost("ello world");
    let asked = fake.requests().len();
    terminal.type_slowly("ell");
    terminal.wait_ghost("o world");
    assert_eq!(fake.requests().len(), asked, "what is typed as suggested is no question");
    terminal.send(ALT_RIGHT);
    terminal
        .wait("a word more", |screen| screen.ghost == "world" && screen.last_row() == "> echo hello world");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hello world");
    terminal.send("\r");
    terminal.wait_output("hello world");
}

#[test]
fn enter_and_ctrl_c_leave_no_ghost_and_run_no_suggestion() {
    let home = Home::new();
    let _fake = knowing(&home, &["echo hello; touch marker"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo hello");
    terminal.wait_ghost("; touch marker");
    terminal.send("\r");
    terminal.wait_output("hello");
    terminal.send("echo hello");
    terminal.wait_ghost("; touch marker");
    terminal.send("\x03");
    terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.ghost.is_empty());
    assert!(!terminal.screen().text().contains("touch"), "{}", terminal.screen().text());
    assert!(!home.work().join("marker").exists());
}

#[test]
fn a_better_answer_takes_the_place_of_the_first() {
    let home = Home::new();
    home.write(".bash_history", "git log --oneline\n");
    let _fake = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "git lo" => Answer::Late(Duration::from_millis(400), vec!["g --graph".to_owned()]),
        _ => Answer::Suffixes(Vec::new()),
    });
    // What ble.sh finds in the history itself, where ours is late, would stay.
    let Some(terminal) = start(&home, "bleopt complete_auto_history=") else { return };
    terminal.send("git lo");
    terminal.wait_ghost("g --graph");
    assert!(terminal.ghosts().contains(&"g --oneline".to_owned()), "{:?}", terminal.ghosts());
    terminal.send("\x05");
    wait_plain(&terminal, "> git log --graph");
}

#[test]
fn a_late_answer_to_another_line_is_not_shown() {
    let home = Home::new();
    let fake = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "git c" => Answer::Late(Duration::from_millis(100), vec!["ommit".to_owned()]),
        "git x" => Answer::suffix("yz"),
        _ => Answer::Suffixes(Vec::new()),
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("git c");
    fake.wait_line("git c");
    terminal.send(format!("{BACKSPACE}x"));
    terminal.wait_ghost("yz");
    eventually("the late answer", || fake.answered() >= 2);
    assert_eq!(terminal.screen().ghost, "yz");
    assert!(!terminal.ghosts().iter().any(|ghost| ghost.contains("ommit")), "{:?}", terminal.ghosts());
}

#[test]
fn keys_step_through_suggestions_and_dismiss_them() {
    let home = Home::new();
    let _fake = Fake::start(home.runtime(), |request| match (request.line.as_str(), request.alternatives) {
        ("git c", 1) => Answer::suffix("ommit"),
        ("git c", _) => Answer::Suffixes(["ommit", "heckout", "lone"].map(str::to_owned).to_vec()),
        _ => Answer::Suffixes(Vec::new()),
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("git c");
    terminal.wait_ghost("ommit");
    terminal.send("\x1b]");
    terminal.wait_ghost("heckout");
    terminal.send("\x1b]");
    terminal.wait_ghost("lone");
    terminal.send("\x1b{");
    terminal.wait_ghost("heckout");
    terminal.send("\x07");
    wait_plain(&terminal, "> git c");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("ommit");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("heckout");
    terminal.send("\x1b");
    wait_plain(&terminal, "> git c");
}

#[test]
fn only_when_asked() {
    let home = Home::new();
    let fake = knowing(&home, &["echo hello world"]);
    let Some(terminal) = start(&home, "NEMOTERM_MODE=hotkey") else { return };
    terminal.type_slowly("echo h");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("ello world");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo hello world");
    assert_eq!(fake.requests().len(), 1);
    terminal.send("\x15NEMOTERM_OFF=1\r");
    terminal.wait("a prompt", |screen| screen.last_row() == ">");
    terminal.type_slowly("echo h");
    terminal.send(CTRL_SPACE);
    terminal.type_slowly("i");
    terminal.send("\r");
    terminal.wait_output("hi");
    assert_eq!(fake.requests().len(), 1);
}

#[test]
fn what_leads_up_to_the_rest_is_put_into_the_middle() {
    let home = Home::new();
    let _fake = Fake::start(home.runtime(), |request| match (request.line.as_str(), request.cursor) {
        ("cp  /tmp", 3) => Answer::Suffixes(vec!["a.txt".to_owned(), "b.txt".to_owned()]),
        _ => Answer::Suffixes(Vec::new()),
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("cp  /tmp");
    wait_plain(&terminal, "> cp  /tmp");
    terminal.send(LEFT.repeat(5));
    terminal.wait("the cursor in the middle", |screen| screen.cursor.1 == 5);
    for row in ["> cp a.txt /tmp", "> cp b.txt /tmp", "> cp  /tmp", "> cp a.txt /tmp"] {
        terminal.send(CTRL_SPACE);
        wait_plain(&terminal, row);
    }
}

#[test]
fn a_description_is_replaced_and_enter_leaves_it_a_comment() {
    let home = Home::new();
    let _fake = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "# list files" => Answer::suffix("touch marker"),
        _ => Answer::Suffixes(Vec::new()),
    });
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("# list files");
    terminal.wait_ghost("  -> touch marker");
    terminal.send("\r");
    terminal.wait("a new prompt", |screen| screen.last_row() == ">" && screen.ghost.is_empty());
    assert!(!home.work().join("marker").exists());
    terminal.send("# list files");
    terminal.wait_ghost("  -> touch marker");
    terminal.send("\x05");
    wait_plain(&terminal, "> touch marker");
    assert!(!home.work().join("marker").exists(), "accepting runs nothing");
    terminal.send("\r");
    eventually("the command runs", || home.work().join("marker").exists());
}

#[test]
fn the_next_command_appears_before_anything_is_typed() {
    let home = Home::new();
    home.write(".bash_history", &"echo one\necho two\n".repeat(4));
    let _fake = Fake::start(home.runtime(), |_| Answer::Suffixes(Vec::new()));
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo one\r");
    terminal.wait_ghost("echo two");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo two");
    terminal.send("\r");
    terminal.wait("it ran", |screen| screen.rows.iter().any(|row| row == "two"));
}

#[test]
fn a_stopped_or_dead_client_costs_nothing_and_is_not_waited_for() {
    let home = Home::new();
    let _fake = knowing(&home, &["echo hello world"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo h");
    terminal.wait_ghost("ello world");
    let clients = home.processes("attach");
    assert_eq!(clients.len(), 1, "one client a shell");
    kill_process(clients[0], Signal::STOP).unwrap();
    terminal.send("\x07\x15");
    wait_plain(&terminal, ">");
    terminal.send("wait; echo $((6 * 7))\r");
    terminal.wait_output("42");
    // More than a pipe takes.
    terminal
        .send("for i in {1..100}; do __nemoterm_send 1 type 0 \"$(printf %900s)\"; done; echo $((6 * 8))\r");
    terminal.wait_output("48");
    terminal.send("echo hello w");
    wait_plain(&terminal, "> echo hello w");
    terminal.send("\x15");
    wait_plain(&terminal, ">");
    kill_process(clients[0], Signal::KILL).unwrap();
    terminal.send("echo $((7 * 7))\r");
    terminal.wait_output("49");
    terminal.send("echo h");
    terminal.wait_ghost("ello world");
}
