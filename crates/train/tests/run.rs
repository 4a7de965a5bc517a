//! The program from corpora to a model that loads, interrupted once.

#![allow(clippy::unwrap_used)] // Helpers of tests fail the test as the tests themselves do.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lzma_rust2::{XzOptions, XzWriter};
use nemoterm_engine::{DeviceChoice, LoadOptions, Model, Source};

fn compressed(path: PathBuf, text: &str) {
    let file = fs::File::create(path).unwrap();
    let mut writer = XzWriter::new(file, XzOptions::default()).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn corpora(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let rows: String = (0..40)
        .map(|i| format!("tar -xzf backup{i}.tar.gz\ttar\tUnpack backup{i}.tar.gz\nls -l dir{i}\ttar\t\n"))
        .collect();
    compressed(directory.join("tldr.tsv.xz"), &format!("cmd\tdoc\tnl\n{rows}"));
    compressed(
        directory.join("spec-fig.tsv.xz"),
        "path\tkind\tnames\targs\tvalues\tdescription\ntar\toption\t-f,--file\t<file>\t\tUse this archive\n",
    );
    compressed(
        directory.join("sessions.jsonl.xz"),
        "{\"source\": \"x\", \"cmds\": [\"mkdir a\", \"cd a\", \"ls\"]}\n",
    );
}

fn train(home: &Path, minutes: &str) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini");
    let output = Command::new(env!("CARGO_BIN_EXE_nemoterm-train"))
        .current_dir(home)
        .args([
            "--corpora",
            "corpora",
            "--out",
            "out",
            "--work",
            "work",
            "--tokens",
            "128",
            "--minutes",
            minutes,
        ])
        .arg("--from")
        .arg(model)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn steps(home: &Path) -> u64 {
    let progress = fs::read_to_string(home.join("work/progress.json")).unwrap();
    let progress: serde_json::Value = serde_json::from_str(&progress).unwrap();
    progress["steps"].as_u64().unwrap()
}

#[test]
fn a_run_goes_on_where_it_ended_and_leaves_a_model() {
    let home = tempfile::tempdir().unwrap();
    corpora(&home.path().join("corpora"));
    let told = train(home.path(), "0.03");
    assert!(told.starts_with("80 commands, 40 of them described; 1 options; 1 sessions"), "{told}");
    let first = steps(home.path());
    assert!(first > 0);
    train(home.path(), "0.06");
    assert!(steps(home.path()) > first, "it went on");

    let losses = fs::read_to_string(home.path().join("work/loss.tsv")).unwrap();
    assert_eq!(losses.lines().count() as u64, steps(home.path()) + 1, "a header, and a line a step");
    assert!(fs::read_to_string(home.path().join("work/loss.svg")).unwrap().contains("polyline"));
    let options = LoadOptions { device: DeviceChoice::Cpu, ..LoadOptions::default() };
    let model = Model::load(&Source::Directory(home.path().join("out")), &options).unwrap();
    let text = model.encode("tar -xzf backup7.tar").unwrap();
    assert!(model.logits(&text).unwrap().iter().flatten().all(|logit| logit.is_finite()));
}

#[test]
fn a_directory_without_corpora_is_named() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nemoterm-train"))
        .current_dir(home.path())
        .args(["--corpora", "nowhere", "--from", "x", "--out", "out"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere can't be read"));
}

#[test]
fn documentation_becomes_a_corpus_that_is_read() {
    let home = tempfile::tempdir().unwrap();
    corpora(&home.path().join("corpora"));
    let write = |name: &str, text: &str| {
        let path = home.path().join("repositories").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("some+one/LICENSE", "The MIT License\n");
    write("some+one/README.md", "```console\n$ tar -cf x.tar x\n$ tar -tf x.tar\n$ ls -l\n```\n");
    write("some+other/README.md", "```console\n$ tar -xf y.tar\n```\n");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_nemoterm-train"))
            .current_dir(home.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let pages = ["pages", "--repositories", "repositories", "--corpora", "corpora", "--out", "corpora"];
    let told = run(&pages);
    assert!(told.contains("| some/one | MIT | 3 | 0 | 1 |\n"), "{told}");
    assert!(told.contains("| some/other | no licence file with an accepted licence |\n"), "{told}");
    assert_eq!(run(&pages), told, "what was made before counts for nothing");
    let told = run(&["--corpora", "corpora", "--from", "x", "--out", "out", "--show", "1"]);
    assert!(told.starts_with("83 commands, 40 of them described; 1 options; 2 sessions"), "{told}");
}
