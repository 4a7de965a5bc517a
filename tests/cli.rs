//! The commands of the client, with the real daemon and the embedded model.

use std::{
    env, ffi::OsString, fs, os::unix::ffi::OsStringExt as _, os::unix::fs::PermissionsExt as _,
    process::Command,
};

use serde_json::Value;

use crate::util::{
    copy_program, find, nemoterm, nemotermd,
    sandbox::{Printed, Sandbox, printed},
};

/// Asserts one line of error with a hint, nothing on standard output, and a code that is not 0.
#[track_caller]
fn refused(printed: &Printed, message: &str) {
    assert_eq!(printed.stdout, "", "stderr: {}", printed.stderr);
    let lines: Vec<_> = printed.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", printed.stderr);
    assert!(lines[0].starts_with("nemoterm: ") && lines[0].contains(message), "{}", lines[0]);
    assert!(lines[1].starts_with("hint: "), "{}", lines[1]);
    assert!(printed.code.is_some_and(|code| code != 0));
}

fn json(printed: &Printed) -> Value {
    serde_json::from_str(&printed.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", printed.stdout, printed.stderr))
}

#[test]
fn a_line_is_completed_from_a_cold_start() {
    let sandbox = Sandbox::new();
    let printed = sandbox.nemoterm(&["complete", "find . -name"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stdout.starts_with("find . -name "), "{}", printed.stdout);
    assert_eq!(printed.stdout.lines().count(), 1);
    assert_eq!(printed.stderr, "");
}

#[test]
fn json_holds_what_the_contract_says() {
    let sandbox = Sandbox::new();
    let printed = sandbox.nemoterm(&["complete", "--json", "-n", "3", "git checkout "]);
    let value = json(&printed);
    let alternatives = value["alternatives"].as_array().unwrap();
    assert!((2..=3).contains(&alternatives.len()), "{value}");
    let line = value["line"].as_str().unwrap();
    assert_eq!(line, alternatives[0]["line"]);
    assert_eq!(format!("git checkout {}", value["suffix"].as_str().unwrap()), line);
    assert_eq!(value["model"], "nemoterm-mini");
    for alternative in alternatives {
        assert!(alternative["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(alternative["source"], "model");
    }
    let lines: std::collections::HashSet<_> = alternatives.iter().map(|one| one["line"].as_str()).collect();
    assert_eq!(lines.len(), alternatives.len(), "alternatives differ");
    for part in ["queue", "prefill", "decode", "total"] {
        assert!(value["timing"][part].as_f64().unwrap() >= 0.0, "{part}");
    }
}

#[test]
fn only_the_suffix_if_asked() {
    let sandbox = Sandbox::new();
    let whole = sandbox.nemoterm(&["complete", "tar -x"]).stdout;
    let suffix = sandbox.nemoterm(&["complete", "--suffix", "tar -x"]).stdout;
    assert_eq!(format!("tar -x{suffix}"), whole);
}

#[test]
fn a_description_becomes_a_command() {
    let sandbox = Sandbox::new();
    let described = sandbox.nemoterm(&["complete", "# list files by size"]);
    assert_eq!(described.code, Some(0), "{}", described.stderr);
    assert!(
        !described.stdout.trim().is_empty() && !described.stdout.starts_with('#'),
        "{}",
        described.stdout
    );
    let asked = sandbox.nemoterm(&["ask", "list files by size"]);
    assert_eq!(asked.stdout, described.stdout);
}

#[test]
fn without_a_daemon_the_answer_is_the_same() {
    let sandbox = Sandbox::new();
    let alone = json(&sandbox.nemoterm(&["complete", "--no-daemon", "--json", "docker run "]));
    assert_eq!(sandbox.daemon_pid(), None, "none was started");
    let with = json(&sandbox.nemoterm(&["complete", "--json", "docker run "]));
    assert_eq!(alone["alternatives"], with["alternatives"]);
}

/// What the README's pipeline rests on.
#[test]
fn in_a_pipeline_a_seed_repeats_and_the_exit_code_tells() {
    let sandbox = Sandbox::new();
    let ask = |seed: &str, temperature: &str| {
        let args =
            ["ask", "--no-daemon", "--json", "--seed", seed, "--temperature", temperature, "list files"];
        let mut answer = json(&sandbox.nemoterm(&args));
        assert!(answer["alternatives"][0]["line"].is_string(), "{answer}");
        answer.as_object_mut().unwrap().remove("timing");
        answer
    };
    assert_eq!(ask("1", "0"), ask("2", "0"), "nothing is left to chance");
    assert_eq!(ask("1", "1.2"), ask("1", "1.2"));
    let first = ask("1", "1.2");
    assert!((2..12).any(|seed| ask(&seed.to_string(), "1.2") != first), "seeds differ");
    let code = |args: &[&str]| sandbox.nemoterm(&[&["ask", "--no-daemon"], args].concat()).code;
    assert_eq!(code(&["list files"]), Some(0));
    assert_eq!(code(&[&"x".repeat(100 * 1024)]), Some(1));
    assert_eq!(code(&["list files", "--seed", "one"]), Some(2));
    assert_eq!(sandbox.daemon_pid(), None);
    assert_eq!(fs::read_dir(sandbox.runtime()).unwrap().count(), 0, "nothing is left behind");
}

/// The step of a workflow that the README shows, as a runner would run it.
#[test]
fn the_pipeline_of_the_readme_runs() {
    let Some(bash) = find("bash") else { return };
    if !Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: jq is not installed");
        return;
    }
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, step) = readme.split_once("  run: nemoterm ask --no-daemon").unwrap();
    let step = format!("nemoterm ask --no-daemon{}", step.lines().next().unwrap());
    let sandbox = Sandbox::new();
    let summary = sandbox.home().join("summary");
    let mut command = sandbox.command(bash);
    let path = env::join_paths(
        std::iter::once(nemoterm().parent().unwrap().to_owned())
            .chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &step]);
    command
        .env("PATH", path.unwrap())
        .env("GITHUB_STEP_SUMMARY", &summary)
        .env("TITLE", "list files by size");
    let printed = printed(command.output().unwrap());
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    assert!(!fs::read_to_string(summary).unwrap().trim().is_empty());
    assert_eq!(sandbox.daemon_pid(), None);
}

#[test]
fn the_history_takes_part() {
    let sandbox = Sandbox::new();
    let file = sandbox.home().join("history");
    fs::write(
        &file,
        "terraform apply -var-file=staging.tfvars\nls\nterraform apply -var-file=staging.tfvars\nls\n",
    )
    .unwrap();
    let args = ["complete", "--json", "--shell", "bash", "--history", "history", "terraform ap"];
    let value = json(&sandbox.nemoterm(&args));
    assert_eq!(value["line"], "terraform apply -var-file=staging.tfvars");
    assert_eq!(value["alternatives"][0]["source"], "history");
}

#[test]
fn the_cursor_counts_characters() {
    let sandbox = Sandbox::new();
    let value = json(&sandbox.nemoterm(&["complete", "--json", "--cursor", "10", "ls 'äöü' | | wc -l"]));
    let line = value["line"].as_str().unwrap();
    assert!(line.starts_with("ls 'äöü' |") && line.ends_with(" | wc -l"), "{line}");
}

#[test]
fn a_history_that_fills_the_context_is_cut() {
    let sandbox = Sandbox::new();
    let line = "curl -H 'X-Id: q9!Zk@3#vT%pL^w&7*' -d '日本語日本語日本語' https://a.example\n";
    fs::write(sandbox.home().join("history"), line.repeat(40)).unwrap();
    let typed = format!("echo {} | head -", "日本語".repeat(100));
    for line in ["tar -x", &typed] {
        let printed = sandbox.nemoterm(&["complete", "--shell", "bash", "--history", "history", line]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    }
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let sandbox = Sandbox::new();
    let refuses = |args: &[&str], message: &str| refused(&sandbox.nemoterm(args), message);
    refuses(&["complete", &"x".repeat(100 * 1024)], "102400 bytes");
    refuses(&["complete", "--history", "/no/such/file", "ls"], "/no/such/file");
    refuses(&["complete", "--cwd", "/no/such/dir", "ls"], "/no/such/dir");
    let invalid = OsString::from_vec(b"ls \xff\xfe".to_vec());
    refused(&sandbox.nemoterm(&["complete".into(), invalid]), "UTF-8");
    assert!(sandbox.nemoterm(&["complete", "ls -"]).code == Some(0), "the daemon is still alive");

    refuses(&["model", "info", "nosuchmodel"], "no model is called nosuchmodel");
    let empty = sandbox.home().join("empty");
    fs::create_dir(&empty).unwrap();
    refuses(&["model", "info", empty.to_str().unwrap()], "config.json");
    refuses(&["model", "use", empty.to_str().unwrap()], "config.json");
    let cut = sandbox.home().join("cut.gguf");
    fs::write(&cut, b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    refuses(&["model", "info", cut.to_str().unwrap()], "cut.gguf");
    let bare = sandbox.copy_of_model("bare");
    fs::remove_file(bare.join("tokenizer.json")).unwrap();
    refuses(&["model", "info", bare.to_str().unwrap()], "tokenizer.json");
    assert_eq!(json(&sandbox.nemoterm(&["model", "list", "--json"]))[0]["used"], true, "nothing has changed");
}

#[test]
fn an_unsafe_socket_directory_is_refused() {
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.runtime(), fs::Permissions::from_mode(0o777)).unwrap();
    refused(&sandbox.nemoterm(&["complete", "ls"]), "open to other users");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: giving a directory to another user needs root");
        return;
    }
    fs::set_permissions(sandbox.runtime(), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(sandbox.runtime(), Some(65534), None).unwrap();
    refused(&sandbox.nemoterm(&["complete", "ls"]), "belongs to user 65534");
    let parent = sandbox.home().join("foreign");
    fs::create_dir(&parent).unwrap();
    std::os::unix::fs::chown(&parent, Some(65534), None).unwrap();
    let mut command = sandbox.command(env!("CARGO_BIN_EXE_nemoterm"));
    command.env_remove("NEMOTERM_RUNTIME_DIR").env("XDG_RUNTIME_DIR", &parent).args(["complete", "ls"]);
    refused(&printed(command.output().unwrap()), "user 65534");
}

#[test]
fn a_model_is_listed_described_and_used() {
    let sandbox = Sandbox::new();
    let rows = json(&sandbox.nemoterm(&["model", "list", "--json"]));
    assert_eq!(rows[0]["name"], "nemoterm-mini");
    let info = json(&sandbox.nemoterm(&["model", "info", "--json"]));
    assert_eq!((&info["architecture"], &info["context"]), (&"NemotronForCausalLM".into(), &512.into()));
    // A copy of the embedded model in a directory of its own is as good as any other.
    sandbox.copy_of_model("my model");
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    let used = sandbox.nemoterm(&["model", "use", "my model", "--quantize", "q8_0"]);
    assert_eq!(used.code, Some(0), "{}", used.stderr);
    let status = json(&sandbox.nemoterm(&["daemon", "status", "--json"]));
    assert_eq!(status["model"]["quantisation"], "Q8_0");
    let value = json(&sandbox.nemoterm(&["complete", "--json", "find . -name"]));
    assert_eq!(value["model"], "my model", "the running daemon has switched");
    sandbox.nemoterm(&["daemon", "restart"]);
    let value = json(&sandbox.nemoterm(&["complete", "--json", "find . -name"]));
    assert_eq!(value["model"], "my model", "and a new one begins with it");
}

#[test]
fn logits_are_printed_a_row_a_position() {
    let sandbox = Sandbox::new();
    let value =
        json(&sandbox.nemoterm(&["model", "logits", "nemoterm-mini", "--tokens", "1,356,224", "--json"]));
    let rows = value["logits"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.as_array().unwrap().len() == 4096));
    refused(&sandbox.nemoterm(&["model", "logits", "nemoterm-mini", "--tokens", "1,5000"]), "5000");
}

#[test]
fn a_bench_measures_every_figure() {
    let sandbox = Sandbox::new();
    let value = json(&sandbox.nemoterm(&["bench", "--json", "--threads", "1"]));
    for figure in
        ["pp64", "pp256", "tg64", "ttft_cold_ms", "ttft_warm_ms", "alternatives3", "load_ms", "rss_mib"]
    {
        assert!(value[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {value}");
    }
    let value = json(&sandbox.nemoterm(&["bench", "--json", "--repeat", "1", "--only", "tg128,pp64"]));
    let (mut names, measured) = (["tg128", "pp64"].iter(), value.as_object().unwrap());
    assert!(names.all(|name| measured[*name].as_f64().is_some_and(|figure| figure > 0.0)), "{value}");
    assert!(!measured.contains_key("pp256"), "{value}");
    let unknown = sandbox.nemoterm(&["bench", "--only", "pp65"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("pp64"), "{}", unknown.stderr);
}

#[test]
fn an_evaluation_scores_its_own_predictions() {
    let sandbox = Sandbox::new();
    let cases = [
        r#"{"id":"a","source":"made","shell":"bash","cut":"mid_flag","prefix":"tar -x","expected":"f archive.tar"}"#,
        r##"{"id":"b","source":"made","shell":"bash","cut":"nl","prefix":"# list files","expected":"ls"}"##,
        r#"{"id":"c","source":"made","shell":"zsh","cut":"sess_after_cmd","prefix":"git ","expected":"status","context":{"history":["git status","ls"]}}"#,
    ];
    fs::write(sandbox.home().join("cases.jsonl"), cases.join("\n")).unwrap();
    let args = ["eval", "cases.jsonl", "--predictions", "predictions.jsonl", "--json"];
    let report = json(&sandbox.nemoterm(&args));
    assert_eq!(report["all"]["n"], 3);
    assert_eq!(report["kind"]["session"]["exact"], 1.0, "a line of the session's own history");
    let predictions = fs::read_to_string(sandbox.home().join("predictions.jsonl")).unwrap();
    assert_eq!(predictions.lines().count(), 3);
    refused(&sandbox.nemoterm(&["eval", "nosuch.jsonl"]), "nosuch.jsonl");
    fs::write(sandbox.home().join("bad.jsonl"), "{\n").unwrap();
    refused(&sandbox.nemoterm(&["eval", "bad.jsonl"]), "line 1");
}

#[test]
fn doctor_finds_what_is_there() {
    let sandbox = Sandbox::new();
    let printed = sandbox.nemoterm(&["doctor", "--json"]);
    let findings = json(&printed);
    let of =
        |check: &str| findings.as_array().unwrap().iter().find(|one| one["check"] == check).cloned().unwrap();
    for check in ["program", "socket", "daemon", "model"] {
        assert_eq!(of(check)["ok"], true, "{findings}");
    }
    for finding in findings.as_array().unwrap() {
        let told = (finding["ok"] == false, finding["hint"].is_string(), finding["problem"].is_string());
        assert!(told.0 == told.1 && told.0 == told.2, "what is wrong has something to do: {finding}");
    }
    assert!(!of("gpu")["found"].as_str().unwrap().is_empty());
    assert!(of("program")["found"].as_str().unwrap().contains("nemotermd"));
    assert!(of("key")["found"].as_str().unwrap().contains(" ms from a key"), "{findings}");

    // What a daemon has not noticed yet is found, too.
    let config = sandbox.home().join(".config/nemoterm/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "\nthreads = 'two'\n").unwrap();
    let findings = json(&sandbox.nemoterm(&["doctor", "--json"]));
    let wrong = findings.as_array().unwrap().iter().find(|one| one["problem"] == "BAD_CONFIG").unwrap();
    assert!(wrong["found"].as_str().unwrap().contains("line 2: threads can't be"), "{wrong}");
    assert!(wrong["hint"].as_str().unwrap().contains("nemoterm config set threads"), "{wrong}");
}

/// Which program `doctor` finds, and what it says about the card, where there is this `nemotermd-cuda` beside nemoterm and
/// something that passes for a driver.
#[cfg(target_os = "linux")]
fn picked(cuda: &str) -> Option<(Value, Value)> {
    let compiler = find("cc")?;
    let sandbox = Sandbox::new();
    let dir = sandbox.home().join("bin");
    fs::create_dir(&dir).unwrap();
    for program in ["nemoterm", "nemotermd"] {
        copy_program(&nemoterm().with_file_name(program), &dir.join(program));
    }
    // A process of its own writes what is run, for the reason that `copy_program` tells.
    fs::write(dir.join("source"), cuda).unwrap();
    fs::set_permissions(dir.join("source"), fs::Permissions::from_mode(0o755)).unwrap();
    copy_program(&dir.join("source"), &dir.join("nemotermd-cuda"));
    let mut library = Command::new(compiler);
    library.args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(dir.join("libcuda.so.1"));
    assert!(library.status().unwrap().success());
    let mut command = sandbox.command(dir.join("nemoterm"));
    command.args(["doctor", "--json"]).env("LD_LIBRARY_PATH", &dir).env_remove("NEMOTERM_DAEMON");
    let findings = json(&printed(command.output().unwrap()));
    let of =
        |check: &str| findings.as_array().unwrap().iter().find(|one| one["check"] == check).cloned().unwrap();
    assert_eq!(of("model")["ok"], true, "something completes: {findings}");
    Some((of("program"), of("gpu")))
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_for_cuda_that_does_not_start_is_not_picked() {
    // A driver comes without the libraries that such a program is linked with. This is how the loader says so.
    let broken = "#!/bin/sh\necho 'nemotermd-cuda: error while loading shared libraries: libcublas.so.12: cannot open' >&2\nexit 127\n";
    let Some((program, gpu)) = picked(broken) else { return };
    let found = program["found"].as_str().unwrap();
    assert!(found.contains("bin/nemotermd (nemotermd-cuda does not start"), "{found}");
    assert_eq!(gpu["problem"], "CUDA_PROGRAM_FAILS", "{gpu}");
    assert!(gpu["found"].as_str().unwrap().contains("libcublas.so.12"), "{gpu}");

    let sound = format!("#!/bin/sh\nexec '{}' \"$@\"\n", nemotermd().display());
    let (program, gpu) = picked(&sound).unwrap();
    assert!(program["found"].as_str().unwrap().contains("bin/nemotermd-cuda (an NVIDIA driver"), "{program}");
    assert_eq!(gpu["ok"], true, "{gpu}");
}

#[test]
fn doctor_names_conflicts_and_asks_the_shell_it_runs_in() {
    let sandbox = Sandbox::new();
    let write = |name: &str, text: &str| {
        let file = sandbox.home().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write(
        ".zshrc",
        "source ~/.zsh/zsh-autosuggestions/zsh-autosuggestions.zsh\n# source zsh-autocomplete.plugin.zsh\nplugins=(git zsh-vi-mode)\neval \"$(nemoterm init zsh)\"\n",
    );
    write(".bashrc", "source ~/.local/share/blesh/ble.sh --noattach\neval \"$(nemoterm init bash)\"\n");
    write(".config/fish/conf.d/other.fish", "source ~/.inshellisense/init.fish\n");
    let printed = sandbox.nemoterm(&["doctor", "--json"]);
    let findings = json(&printed);
    let says = |check: &str, ok: bool, text: &str| {
        findings.as_array().unwrap().iter().any(|one| {
            one["check"] == check && one["ok"] == ok && one["found"].as_str().unwrap().contains(text)
        })
    };
    if find("zsh").is_some() {
        assert!(says("zsh", true, "asks nemoterm first") && says("zsh", false, "zsh-vi-mode"), "{findings}");
        assert!(!findings.to_string().contains("zsh-autocomplete"), "a comment is no conflict");
    }
    assert!(says("bash", true, "ble.sh draws the suggestions"), "{findings}");
    assert!(!findings.to_string().contains("inshellisense"), "fish does not load nemoterm");
    assert_eq!(printed.code, Some(1));
    // ble.sh has to be there already.
    write(".bashrc", "eval \"$(nemoterm init bash)\"\nsource ~/.local/share/blesh/ble.sh\n");
    let findings = json(&sandbox.nemoterm(&["doctor", "--json"]));
    let bash = findings.as_array().unwrap().iter().find(|one| one["problem"] == "BLE_SH");
    assert!(bash.is_some_and(|one| one["check"] == "bash" && one["ok"] == false), "{findings}");
    // The file that loads it is the one that is named, where install.sh put it too.
    write(".config/fish/conf.d/nemoterm.fish", "'/x/nemoterm' init fish | source\n");
    if find("fish").is_some() {
        let findings = json(&sandbox.nemoterm(&["doctor", "--json"]));
        let fish = findings.as_array().unwrap().iter().find(|one| one["check"] == "fish").unwrap();
        assert!(fish["found"].as_str().unwrap().contains("conf.d/nemoterm.fish"), "{findings}");
    }

    // A bash that has no client, as it is none that somebody types in.
    let Some(bash) = find("bash") else { return };
    let mut command = sandbox.command(bash);
    let nemoterm = nemoterm();
    command.arg("-c").arg(format!("{} doctor --json; true", nemoterm.display()));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if cfg!(target_os = "linux") {
        assert!(text.contains("has no client"), "{text}");
    }
    assert_eq!(sandbox.nemoterm(&["off"]).code, Some(0));
    let text = sandbox.nemoterm(&["doctor"]);
    assert!(text.stdout.contains("turned off in every shell"), "{}", text.stdout);
}

#[test]
fn completions_and_manual_pages_know_the_commands_of_both_programs() {
    let sandbox = Sandbox::new();
    for shell in ["zsh", "bash", "fish"] {
        let script = sandbox.nemoterm(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in
            ["complete", "alternatives", "no-daemon", "install", "model", "pull", "unset", "quantize", "q4_k"]
        {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
        for hidden in ["attach", "hotkey", "logprob", "serve"] {
            let named = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == hidden);
            assert!(
                !script.stdout.lines().any(|line| named(line) && !line.contains("Serve")),
                "{shell}: {hidden}"
            );
        }
        let Some(program) = find(shell) else { continue };
        let file = sandbox.home().join(shell);
        fs::write(&file, script.stdout).unwrap();
        let checked = printed(sandbox.command(program).arg("-n").arg(file).output().unwrap());
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{shell}");
    }
    assert_eq!(sandbox.nemoterm(&["completions", "tcsh"]).code, Some(2));
    let page = sandbox.nemoterm(&["man"]);
    assert!(page.stdout.starts_with(".ie") && page.stdout.contains("nemoterm"), "{}", page.stdout);
    assert_eq!(sandbox.nemoterm(&["man", "pages"]).code, Some(0));
    for name in ["nemoterm", "nemoterm-complete", "nemoterm-daemon-install", "nemoterm-model-pull"] {
        assert!(sandbox.home().join("pages").join(format!("{name}.1")).is_file(), "{name}");
    }
    assert!(!sandbox.home().join("pages/nemoterm-attach.1").exists());
    fs::write(sandbox.home().join("file"), "").unwrap();
    refused(&sandbox.nemoterm(&["man", "file"]), "file can't be written");
    let alone = printed(sandbox.command(nemotermd()).arg("man").output().unwrap());
    refused(&alone, "did not arrive");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("sh");
    command
        .args(["-c", "\"$0\" model list | true; exit ${PIPESTATUS:-0}"])
        .arg(env!("CARGO_BIN_EXE_nemoterm"));
    assert_eq!(printed(command.output().unwrap()).stderr, "");
}
