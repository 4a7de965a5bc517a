//! llama.cpp's server with real weights, and the same weights in this program.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::Place;
use crate::{
    openai::clients::python,
    util::{eventually, sandbox::Sandbox},
};

const KEY: &str = "a-key";

/// The server. It ends when this is dropped.
struct LlamaCpp {
    process: Child,
    url: String,
}

impl LlamaCpp {
    /// Starts it; nothing, with a printed reason, where it or the weights are missing.
    fn start(sandbox: &Sandbox) -> Option<Self> {
        let Some(weights) = env::var_os("NEMOTERM_TEST_SMOLLM2") else {
            eprintln!("skipped: NEMOTERM_TEST_SMOLLM2 names no weights; cargo xtask weights fetches them");
            return None;
        };
        let python = python("xllamacpp")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/llama_cpp.py");
        let mut command = sandbox.command(python);
        command.arg(script).arg(weights).arg(KEY);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut address = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        while !address.starts_with("http") {
            address.clear();
            assert!(lines.read_line(&mut address).unwrap() > 0, "the server ended");
        }
        Some(Self { process, url: format!("{}/v1", address.trim()) })
    }
}

impl Drop for LlamaCpp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn it_completes_as_its_weights_do_here() {
    let home = Sandbox::new();
    let Some(server) = LlamaCpp::start(&home) else { return };
    let key = home.home().join("key");
    fs::write(&key, KEY).unwrap();
    let place = Place::with(&server.url, &format!("remote_wait_ms = 60000\nremote_key_file = {key:?}\n"));
    let history = place.sandbox.home().join("history");
    fs::write(
        &history,
        "cd src\ngit add lexer.rs\ngit commit -m 'Read numbers'\ngit push origin main\ncd ../tests\n",
    )
    .unwrap();
    let args = |line| ["--timeout", "60000", "--shell", "bash", "--history", history.to_str().unwrap(), line];
    // The weights take a moment, and the first answers say so.
    eventually("the server to answer", || place.complete(&args("git com")).0["model"] == "the-model");
    let (answer, notes) = place.complete(&[&["-n", "3"], &args("git comm")[..]].concat());
    assert!(answer["line"].as_str().unwrap().starts_with("git commit -m"), "{answer}");
    let mut alternatives = answer["alternatives"].as_array().unwrap().iter();
    assert!(alternatives.any(|found| found["source"] == "model" && found["logprob"].is_number()), "{answer}");
    assert!(answer["timing"]["prompt_tokens"].as_u64().unwrap() > 20, "{answer}");
    assert_eq!(notes, "");
    // A stream is deterministic, and so are we.
    let again = place.complete(&args("git comm")).0;
    assert_eq!(again["line"], answer["line"]);

    // The same weights here. The two engines differ by a little in the logits, so it is the first word that is compared.
    let here = Sandbox::new();
    let weights = env::var("NEMOTERM_TEST_SMOLLM2").unwrap();
    let config = here.home().join(".config/nemoterm");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), format!("model = {weights:?}\n")).unwrap();
    let here = Place { sandbox: here };
    let mut same = 0;
    let lines = ["git comm", "git add le", "git push ", "cd ../te", "git push orig"];
    for line in lines {
        let word = |answer: &Value| {
            answer["suffix"].as_str().unwrap().split(' ').next().unwrap_or_default().to_owned()
        };
        let [there, here] = [&place, &here].map(|place| place.complete(&args(line)).0);
        same += usize::from(word(&there) == word(&here));
        eprintln!("{line}: {} | {}", there["suffix"], here["suffix"]);
    }
    assert!(same >= 4, "{same} of {}", lines.len());
    assert_eq!(place.status()["remote"]["state"], json!({ "name": "answering" }));
}
