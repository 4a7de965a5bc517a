//! Weights that were quantised while loading are kept, found by the daemon, listed and removed.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::util::sandbox::{Printed, Sandbox, printed};

fn shelf(sandbox: &Sandbox) -> PathBuf {
    sandbox.home().join(".cache/nemoterm/quantised")
}

fn kept(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = fs::read_dir(shelf(sandbox)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn json(printed: &Printed) -> Value {
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    serde_json::from_str(&printed.stdout).unwrap()
}

#[test]
fn a_model_that_is_taken_is_quantised_once_and_mapped_by_the_daemon() {
    let sandbox = Sandbox::new();
    let model = sandbox.copy_of_model("mine");
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    let used = sandbox.nemoterm(&["model", "use", "mine", "--quantize", "q8_0"]);
    assert_eq!(used.code, Some(0), "{}", used.stderr);
    assert!(!used.stderr.contains("again at each start"), "{}", used.stderr);
    let files = kept(&sandbox);
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files[0].to_str().unwrap();
    assert!(!sandbox.log().contains("kept the quantised weights"), "the daemon has made them again");
    if let Ok(maps) = fs::read_to_string(format!("/proc/{}/maps", sandbox.daemon_pid().unwrap())) {
        assert!(maps.contains(file), "the daemon does not map {file}");
    }

    let rows = json(&sandbox.nemoterm(&["model", "list", "--json"]));
    let row = rows.as_array().unwrap().iter().find(|row| row["used"] == true).unwrap();
    let bytes = fs::metadata(file).unwrap().len();
    assert_eq!(row["kept"], serde_json::json!([{ "quantisation": "q8_0", "bytes": bytes }]));
    assert!(sandbox.nemoterm(&["model", "list"]).stdout.contains("q8_0, 4.2 MB, is kept"));
    assert!(sandbox.nemoterm(&["model", "remove", "mine"]).stderr.contains("is in use"));

    assert_eq!(sandbox.nemoterm(&["model", "use", "nemoterm-mini"]).code, Some(0));
    let rows = json(&sandbox.nemoterm(&["model", "list", "--json"]));
    let row = rows.as_array().unwrap().last().unwrap();
    assert_eq!((&row["used"], row["kept"].as_array().map(Vec::len)), (&false.into(), Some(1)), "{row}");
    let removed = sandbox.nemoterm(&["model", "remove", "mine"]);
    assert!(removed.stderr.contains("what was kept of mine is removed: 4.2 MB"), "{}", removed.stderr);
    assert_eq!(kept(&sandbox), Vec::<PathBuf>::new());
    assert!(model.join("model.safetensors").is_file(), "the model itself stays");
    let again = sandbox.nemoterm(&["model", "remove", "mine"]);
    assert!(again.stderr.contains("no model that was fetched"), "{}", again.stderr);
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_the_model_works() {
    let sandbox = Sandbox::new();
    sandbox.copy_of_model("mine");
    // No file may grow beyond this, and the signal that says so is ignored: writing fails, as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let limited = |args: &[&str]| {
        let mut command = sandbox.command("/bin/sh");
        command.args(["-c", script]).arg(crate::util::nemoterm()).args(args);
        printed(command.output().unwrap())
    };
    let used = limited(&["model", "use", "mine", "--quantize", "q8_0"]);
    assert_eq!(used.code, Some(0), "{}", used.stderr);
    assert!(
        used.stderr.contains("note: its quantised weights are made again at each start"),
        "{}",
        used.stderr
    );
    assert!(used.stderr.contains(shelf(&sandbox).to_str().unwrap()), "{}", used.stderr);
    assert_eq!(kept(&sandbox), Vec::<PathBuf>::new(), "nothing half written is left");

    let started = limited(&["daemon", "start"]);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    let status = sandbox.nemoterm(&["daemon", "status"]).stdout;
    assert!(status.contains("Q8_0") && status.contains("made again at each start"), "{status}");
    assert!(sandbox.log().contains("the quantised weights can't be kept"), "{}", sandbox.log());
    let value = json(&sandbox.nemoterm(&["complete", "--json", "git sta"]));
    assert_eq!(value["model"], "mine");
}
