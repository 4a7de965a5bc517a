//! The two programs that people write first, as they are: curl, and Python's `openai`.

use std::{env, fs, path::PathBuf};

use super::server::Server;
use crate::util::{find, sandbox::printed};

#[test]
fn curl() {
    let Some(curl) = find("curl") else { return };
    let server = Server::start();
    let port = server.address.rsplit(':').next().unwrap();
    let mut command = server.sandbox.command(curl);
    command.args(["-sS", &format!("http://localhost:{port}/v1/completions")]);
    command.args(["-H", "Content-Type: application/json"]);
    command.args([
        "-d",
        r#"{"model": "nvidia/Nemotron-Mini-4B-Instruct", "prompt": "find . -name", "max_tokens": 16}"#,
    ]);
    let printed = printed(command.output().unwrap());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let answer: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    assert!(answer["choices"][0]["text"].is_string(), "{answer}");
}

#[test]
fn the_openai_package() {
    let Some(python) = python("openai") else { return };
    let server = Server::start();
    let script = server.sandbox.home().join("client.py");
    fs::write(&script, include_str!("client.py")).unwrap();
    let mut command = server.sandbox.command(python);
    let port = server.address.rsplit(':').next().unwrap();
    let printed = printed(command.arg(script).arg(port).output().unwrap());
    assert_eq!((printed.code, printed.stdout.trim()), (Some(0), "fine"), "{}", printed.stderr);
}

/// A Python that has these packages; nothing, with a printed reason, where there is none.
pub fn python(packages: &str) -> Option<PathBuf> {
    let python = env::var_os("NEMOTERM_TEST_PYTHON").map(PathBuf::from).or_else(|| find("python3"))?;
    let has_them = std::process::Command::new(&python).args(["-c", &format!("import {packages}")]).output();
    if has_them.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {} can't import {packages}; cargo xtask python --all installs it", python.display());
    None
}
