//! `nemoterm eval --history`: how well a model would have done on one's own commands.

use std::fs;

use crate::util::sandbox::{Printed, Sandbox};

/// Runs it on a file of that shell's.
fn eval(sandbox: &Sandbox, shell: &str, text: &str, more: &[&str]) -> Printed {
    let file = sandbox.home().join(format!("history-{shell}"));
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let args = ["eval", "--history", "--shell", shell, "--histfile", &file];
    sandbox.nemoterm(&[&args, more].concat())
}

fn report(printed: &Printed) -> serde_json::Value {
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    serde_json::from_str(&printed.stdout).unwrap()
}

#[test]
fn every_shells_history_is_read_and_scored() {
    let sandbox = Sandbox::new();
    let secret = "export TOKEN=ghp_0123456789abcdefghijABCDEFGHIJ012345";
    let plain = format!("git status\ngit add -A\n{secret}\ngit status\nmake test\n");
    for (shell, text) in [
        ("bash", plain.clone()),
        ("bash", plain.lines().map(|line| format!("#1700000000\n{line}\n")).collect()),
        ("zsh", plain.clone()),
        ("zsh", plain.lines().map(|line| format!(": 1700000000:0;{line}\n")).collect()),
        ("fish", plain.lines().map(|line| format!("- cmd: {line}\n  when: 1700000000\n")).collect()),
    ] {
        let found = report(&eval(&sandbox, shell, &text, &["--json"]));
        assert_eq!(found["all"]["n"], 4, "{shell}: {text}");
        assert_eq!(found["recover"]["line"]["n"], 1, "git status was known the second time");
    }
    // What was run before is known: of twenty times the same three commands most are completed.
    let often = plain.repeat(20).replace(secret, "git push");
    let scores = report(&eval(&sandbox, "zsh", &often, &["--json"]));
    assert!(scores["all"]["next"].as_f64().unwrap() > 0.5, "{scores}");
    assert_eq!(report(&eval(&sandbox, "zsh", &often, &["--json", "--last", "10"]))["all"]["n"], 10);
    let (once, again, other) = (
        eval(&sandbox, "zsh", &often, &["--predictions", "a"]),
        eval(&sandbox, "zsh", &often, &["--predictions", "b"]),
        eval(&sandbox, "zsh", &often, &["--predictions", "c", "--seed", "1"]),
    );
    assert_eq!((once.code, again.code, other.code), (Some(0), Some(0), Some(0)));
    let completions = |name: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(sandbox.home().join(name)).unwrap();
        let row = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["completion"].clone();
        text.lines().map(row).collect()
    };
    assert_eq!(completions("a"), completions("b"), "the same seed, the same places");
    assert_ne!(completions("a"), completions("c"));
    assert_eq!(sandbox.daemon_pid(), None, "it needs no daemon");
}

#[test]
fn nothing_leaves_the_machine_and_no_history_is_an_error() {
    let sandbox = Sandbox::new();
    for (args, message) in [
        (&["eval", "--history", "--shell", "zsh"][..], ".zsh_history can't be read"),
        (&["eval", "--history", "--shell", "fish"], "fish_history can't be read"),
        (&["eval", "--history", "--histfile", "/dev/null"], "/dev/null holds no command to try"),
        (&["eval", "--history", "--histfile", "/"], "/ can't be read"),
    ] {
        let printed = sandbox.nemoterm(args);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{args:?}");
        let lines: Vec<_> = printed.stderr.lines().collect();
        let [said, hinted] = lines.as_slice() else { panic!("{}", printed.stderr) };
        assert!(said.contains(message) && hinted.starts_with("hint: --shell and --histfile"), "{said}");
    }
    // A server that is set is not asked: nobody listens there.
    let config = sandbox.home().join(".config/nemoterm");
    fs::create_dir_all(&config).unwrap();
    let server = "backend = 'openai'\nremote_url = 'http://127.0.0.1:9/v1'\nremote_model = 'm'\n";
    fs::write(config.join("config.toml"), server).unwrap();
    let scored = eval(&sandbox, "bash", "ls -la\n", &["--json"]);
    assert_eq!(report(&scored)["all"]["n"], 1);
    assert!(scored.stderr.contains("the model here is scored"), "{}", scored.stderr);
}
