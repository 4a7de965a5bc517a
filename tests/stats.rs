//! What is counted: shown and taken, by every way a shell has, and only where it is wanted.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::{
    shells::{self, RIGHT},
    util::{
        eventually,
        fake::{Answer, Fake},
        home::Home,
        nemoterm,
        sandbox::{Printed, printed},
        served::Served,
        terminal::Terminal,
    },
};

/// A home with a daemon that is a child of ours.
struct Place {
    home: Home,
    daemon: Option<Served>,
}

impl Place {
    fn new() -> Self {
        let mut place = Self { home: Home::new(), daemon: None };
        place.start();
        place
    }

    fn start(&mut self) {
        self.daemon = Some(Served::start(&self.home));
    }

    fn stop(&mut self) {
        assert_eq!(self.run(&["daemon", "stop"]).code, Some(0));
        self.daemon.take().unwrap().wait();
    }

    fn run(&self, args: &[&str]) -> Printed {
        printed(self.home.command(nemoterm()).args(args).output().unwrap())
    }

    fn stats(&self) -> serde_json::Value {
        let printed = self.run(&["stats", "--json"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        serde_json::from_str(&printed.stdout).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".local/state/nemoterm/stats.json")
    }

    /// Takes a suggestion and leaves the shell.
    fn take(&self, terminal: &Terminal, key: &str) {
        terminal.send("cargo t");
        terminal.wait_ghost("est --workspace");
        terminal.send(key);
        // What goes on after it may have a ghost of its own.
        terminal.wait("the whole line", |screen| {
            screen.cursor.1 == 24 && screen.last_row().starts_with("> cargo test --workspace")
        });
        terminal.send("\x15");
        terminal.wait("an empty line", |screen| screen.last_row() == ">");
        terminal.send("exit\r");
    }
}

#[test]
fn what_is_taken_is_counted_kept_and_forgotten() {
    let mut place = Place::new();
    assert!(place.run(&["stats"]).stderr.contains("nothing has been counted yet"));
    place.home.write(".zsh_history", "cargo test --workspace\n");
    let Some(terminal) = shells::zsh::start(&place.home, "") else { return };
    place.take(&terminal, RIGHT);
    eventually("it to be counted", || place.stats()["accepted"] == 1);
    let stats = place.stats();
    assert_eq!((&stats["counting"], &stats["keys_saved"]), (&true.into(), &14.into()), "{stats}");
    let row = stats["rows"].as_array().unwrap().iter().find(|row| row["accepted"] == 1).unwrap();
    assert_eq!(row["shell"], "zsh");
    assert!(row["p50_ms"].as_f64().is_some() && row["shown"].as_u64().unwrap() >= 1, "{row}");
    let text = place.run(&["stats"]).stdout;
    assert!(text.contains("counted since today, on this machine only"), "{text}");

    // It is written at the end, for nobody else and without a word of what was typed.
    place.stop();
    let written = fs::read_to_string(place.file()).unwrap();
    assert!(written.len() < 16 << 10 && !written.contains("cargo") && !written.contains("work"), "{written}");
    assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.stats()["accepted"], 1, "without a daemon the file tells");
    place.start();
    assert_eq!(place.stats()["accepted"], 1);

    assert!(place.run(&["stats", "--reset"]).stderr.contains("forgotten"));
    assert!(place.stats()["accepted"] == 0 && !place.file().exists());

    // Off is off, at once.
    assert_eq!(place.run(&["config", "set", "stats", "off"]).code, Some(0));
    let Some(terminal) = shells::zsh::start(&place.home, "") else { return };
    place.take(&terminal, RIGHT);
    eventually("the shell to end", || place.home.processes("attach").is_empty());
    let stats = place.stats();
    assert_eq!((&stats["counting"], &stats["shown"]), (&false.into(), &0.into()), "{stats}");
    assert!(place.run(&["stats"]).stderr.contains("nothing is counted now"));
}

#[test]
fn bash_and_fish_tell_what_is_taken_too() {
    let place = Place::new();
    place.home.write(".bash_history", "cargo test --workspace\n");
    if let Some(terminal) = shells::bash_ghost::start(&place.home, "") {
        place.take(&terminal, RIGHT);
        eventually("bash to be counted", || place.stats()["accepted"] == 1);
    }
    place.home.write(".local/share/fish/fish_history", "- cmd: cargo test --workspace\n  when: 1\n");
    if let Some(terminal) = shells::fish::start(&place.home, "", 24, 80) {
        // At the key.
        terminal.send("cargo t");
        terminal.wait("the line", |screen| screen.last_row().starts_with("> cargo t"));
        terminal.send(shells::CTRL_SPACE);
        terminal.wait_ghost("est --workspace");
        terminal.send(RIGHT);
        eventually("fish to be counted", || place.stats()["accepted"] == 2);
    }
    if let Some(terminal) = shells::blesh::start(&place.home, "") {
        let before = place.stats();
        let counted = |key: &str| before[key].as_u64().unwrap();
        place.take(&terminal, RIGHT);
        eventually("ble.sh to be counted", || place.stats()["accepted"] == counted("accepted") + 1);
        assert_eq!(place.stats()["keys_saved"], counted("keys_saved") + 14);
    }
    let stats = place.stats();
    let shells: Vec<_> = stats["rows"].as_array().unwrap().iter().map(|row| row["shell"].clone()).collect();
    assert!(shells.iter().any(|shell| shell == "bash"), "{stats}");
}

#[test]
fn a_daemon_that_knows_nothing_of_it_is_told_nothing() {
    let home = Home::new();
    home.write(".zsh_history", "cargo test --workspace\n");
    let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
        "cargo te" => Answer::suffix(" never mind"),
        _ => Answer::Silence,
    });
    let Some(terminal) = shells::zsh::start(&home, "") else { return };
    terminal.send("cargo te");
    terminal.wait("a suggestion", |screen| !screen.ghost.is_empty());
    terminal.send(RIGHT);
    terminal.wait("it to be taken", |screen| screen.ghost.is_empty());
    // A prompt is when it would be told.
    terminal.send("\x15true\r");
    terminal.send("ls -l");
    daemon.wait_line("ls -l");
    assert_eq!(daemon.others(), 0);
    let asked = printed(home.command(nemoterm()).args(["stats"]).output().unwrap());
    assert!(asked.stderr.contains("counts nothing\nhint: nemoterm daemon restart"), "{}", asked.stderr);
    assert_eq!(daemon.others(), 0);
}
