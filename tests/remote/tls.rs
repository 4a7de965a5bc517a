//! A server that speaks TLS, with a certificate of its own authority.

use std::{fs, time::Duration};

use nemoterm_protocol::{client::Client, runtime::Runtime};

use super::Place;
use crate::util::{
    DEADLINE, eventually,
    openai::{Answer, Fake},
    sandbox::printed,
};

fn answer() -> Answer {
    Answer::Pieces(vec![" com", "mit", " -m", " x"])
}

#[test]
fn a_server_is_believed_where_its_authority_is_named() {
    let (server, authority) = Fake::start_tls(answer(), Duration::ZERO);
    let place = Place::with(&server.url, "remote_wait_ms = 60000\n");
    let patient = ["--timeout", "60000", "git com"];
    let (completion, note) = place.complete(&patient);
    assert_eq!(completion["model"], "nemoterm-mini");
    assert!(note.contains("can't be reached") && note.contains("certificate"), "{note}");
    let doctor = place.run(&["doctor"]).stdout;
    assert!(doctor.contains("hint: nemoterm config set remote_ca_file FILE"), "{doctor}");
    assert!(server.asked().is_empty(), "nothing is told to a server that is not believed");

    let file = place.sandbox.home().join("authority.pem");
    let set = |path: &str| place.run(&["config", "set", "remote_ca_file", path]);
    let refused = set(file.to_str().unwrap());
    assert!(refused.code == Some(1) && refused.stderr.contains("can't be read"), "{}", refused.stderr);
    fs::write(&file, "no certificate\n").unwrap();
    let refused = set(file.to_str().unwrap());
    assert!(refused.code == Some(1) && refused.stderr.contains("holds no certificate"), "{}", refused.stderr);
    fs::write(&file, &authority).unwrap();
    let taken = set(file.to_str().unwrap());
    assert!(taken.code == Some(0) && !taken.stderr.contains("note: "), "{}", taken.stderr);
    let (completion, note) = place.complete(&patient);
    assert_eq!((completion["line"].as_str(), note.as_str()), (Some("git commit -m x"), ""));
    assert_eq!(completion["model"], "the-model");
    // In one process as well, and with the system's own variable in place of the setting.
    assert_eq!(place.complete(&[&["--no-daemon"], &patient[..]].concat()).0["model"], "the-model");
    place.run(&["config", "unset", "remote_ca_file"]);
    let mut command = place.sandbox.command(crate::util::nemoterm());
    command.args(["complete", "--no-daemon"]).args(patient).env("SSL_CERT_FILE", &file);
    let printed = printed(command.output().unwrap());
    assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("git commit -m x\n", ""));
}

/// Each handshake takes longer than a completion may. Given up with the first key, it goes on for the next.
#[test]
fn a_handshake_longer_than_a_shell_waits_does_not_cost_every_answer() {
    let (server, authority) = Fake::start_tls(answer(), Duration::from_millis(1500));
    let place = Place::with(&server.url, "");
    let file = place.sandbox.home().join("authority.pem");
    fs::write(&file, authority).unwrap();
    place.run(&["config", "set", "remote_ca_file", file.to_str().unwrap()]);
    place.run(&["daemon", "start"]);
    // Three quarters of it are the server's.
    let hasty = ["--timeout", "1000", "git com"];
    eventually("a connection to be kept", || place.complete(&hasty).0["model"] == "the-model");
}

/// A shell that opens is a sign of keys to come.
#[test]
fn a_connection_is_open_before_the_first_key() {
    let (server, authority) = Fake::start_tls(answer(), Duration::from_millis(2500));
    let place = Place::with(&server.url, "");
    let file = place.sandbox.home().join("authority.pem");
    fs::write(&file, authority).unwrap();
    let config = place.sandbox.home().join(".config/nemoterm/config.toml");
    let text = fs::read_to_string(&config).unwrap() + &format!("remote_ca_file = {file:?}\n");
    fs::write(config, text).unwrap();
    place.run(&["daemon", "start"]);
    let _shell = Client::connect(&Runtime::at(place.sandbox.runtime()), DEADLINE).unwrap();
    eventually("a connection to be opened", || server.opened() > 0);
    assert!(server.asked().is_empty());
    assert_eq!(place.complete(&["--timeout", "2000", "git com"]).0["model"], "the-model");
}
