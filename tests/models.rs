//! From a name to a model in use: pulls from a Hub on this machine, good and bad.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    openai::clients::python,
    util::{
        hub::{COMMIT, FakeHub, TOKEN},
        intact::{Intact, refused},
        sandbox::{Printed, Sandbox, printed},
        terminal::Terminal,
    },
};

/// A home, and a Hub that has the embedded model in every repository.
struct Place {
    sandbox: Sandbox,
    hub: FakeHub,
}

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let hub = FakeHub::serving(&sandbox.copy_of_model("published"));
        Self { sandbox, hub }
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Printed {
        let limit = env.iter().find(|(name, _)| *name == "LIMIT");
        let mut command =
            self.sandbox.command(limit.map_or(crate::util::nemoterm(), |_| Path::new("/bin/sh")));
        if let Some((_, blocks)) = limit {
            // No file may grow beyond so many blocks of 512 bytes, and the signal that says so is ignored: writing fails, as
            // on a full disk.
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            command.args(["-c", &script]).arg(crate::util::nemoterm());
        }
        for name in ["HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.hub.endpoint).envs(env.iter().copied());
        printed(command.args(args).output().unwrap())
    }

    fn model(&self, args: &[&str]) -> Printed {
        self.run(&[&["model"], args].concat(), &[])
    }

    fn cache(&self) -> PathBuf {
        self.sandbox.home().join(".cache/huggingface/hub")
    }

    /// What the daemon says it runs.
    fn running(&self) -> String {
        let status = self.run(&["daemon", "status", "--json"], &[]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["model"]["name"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_model_is_pulled_and_the_running_daemon_takes_it() {
    let place = Place::new();
    assert_eq!(place.run(&["daemon", "start"], &[]).code, Some(0));
    assert_eq!(place.running(), "nemoterm-mini");
    let pulled = place.model(&["pull", "o/ok"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    assert!(pulled.stderr.contains("licence: apache-2.0"), "{}", pulled.stderr);
    assert!(
        !pulled.stderr.contains('\r') && !pulled.stderr.contains('\u{1b}'),
        "a bar where there is no terminal"
    );
    assert_eq!(place.running(), "o/ok");
    let listed = place.model(&["list"]).stdout;
    assert!(listed.lines().any(|line| line.starts_with("* o/ok") && line.contains("here")), "{listed}");

    // Again, and everything is there.
    let before = place.hub.log().len();
    assert_eq!(place.model(&["pull", "o/ok", "--no-use"]).code, Some(0));
    assert!(place.hub.log()[before..].iter().all(|request| !request.starts_with("GET /cdn")));
    // And without a network.
    let offline = place
        .run(&["model", "info", "o/ok"], &[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert_eq!(offline.code, Some(0), "{}", offline.stderr);

    let used = place.model(&["remove", "o/ok"]);
    assert!(used.stderr.contains("o/ok is in use"), "{}", used.stderr);
    assert_eq!(place.model(&["use", "nemoterm-mini"]).code, Some(0));
    assert_eq!(place.model(&["remove", "o/ok"]).code, Some(0));
    assert_eq!(fs::read_dir(place.cache().join("models--o--ok/blobs")).unwrap().count(), 0);
    assert!(place.model(&["use", "o/ok"]).stderr.contains("nemoterm model pull o/ok"));
}

#[test]
fn a_cut_download_goes_on_where_it_ended() {
    let place = Place::new();
    for (repository, is_resumed) in [("o/cut", true), ("o/rangeless", true), ("o/ok", false)] {
        let pulled = place.model(&["pull", repository, "--no-use"]);
        assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
        let ranged = format!("GET /cdn/{repository}/model.safetensors ");
        assert_eq!(
            place.hub.log().iter().any(|request| request.starts_with(&ranged)),
            is_resumed,
            "{repository}"
        );
        let snapshot =
            place.cache().join(format!("models--{}/snapshots/{COMMIT}", repository.replace('/', "--")));
        let published = place.sandbox.home().join("published");
        for file in ["model.safetensors", "config.json", "tokenizer.json"] {
            assert_eq!(fs::read(snapshot.join(file)).unwrap(), fs::read(published.join(file)).unwrap());
        }
    }
}

#[test]
fn a_server_that_dies_leaves_what_has_arrived() {
    let place = Place::new();
    let size = fs::metadata(place.sandbox.home().join("published/model.safetensors")).unwrap().len();
    let cut = place.model(&["pull", "o/dying"]);
    refused(&cut, "o/dying", "can't be reached", "what has arrived is kept");
    let blobs = place.cache().join("models--o--dying/blobs");
    let part = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "incomplete"));
    assert_eq!(fs::metadata(part.unwrap()).unwrap().len(), size / 2);
    // The next run, by a Hub that is well again, asks for the other half only.
    fs::create_dir_all(place.cache().join("models--o--ok")).unwrap();
    fs::rename(&blobs, place.cache().join("models--o--ok/blobs")).unwrap();
    assert_eq!(place.model(&["pull", "o/ok", "--no-use"]).code, Some(0));
    let expected = format!("GET /cdn/o/ok/model.safetensors {}-", size / 2);
    assert!(place.hub.log().contains(&expected), "{:?}", place.hub.log());
}

/// A way to break a pull, a use or a removal: arguments after `model`, variables, and what is said about it.
type Way = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str, &'static str);

const WAYS: &[Way] = &[
    // What the Hub says.
    (&["pull", "o/gated"], &[], "open only to those who accept its conditions", "HF_TOKEN"),
    (&["pull", "o/absent"], &[], "the Hub knows no o/absent", "check the name"),
    (&["pull", "o/hidden"], &[], "the Hub knows no o/hidden", "HF_TOKEN"),
    (&["pull", "o/private"], &[], "wants to know who asks", "HF_TOKEN"),
    (&["pull", "o/private"], &[("HF_TOKEN", "hf_wrong")], "wants to know who asks", "HF_TOKEN"),
    (&["pull", "o/forbidden"], &[], "does not let us have o/forbidden", "HF_TOKEN"),
    (&["pull", "o/limited"], &[], "come back later", "try again in 1 s"),
    (&["pull", "o/broken"], &[], "failed with status 500", "try again"),
    (&["pull", "o/ok@v9"], &[], "o/ok has no revision v9", "leave the revision out"),
    (&["pull", "o/ok:Q4_K_M"], &[], "it has no file \"Q4_K_M\"", "name one"),
    // What it says makes no sense, or is no model.
    (&["pull", "o/garbage"], &[], "makes no sense", "HF_ENDPOINT"),
    (&["pull", "o/evil"], &[], "makes no sense: a file called", "HF_ENDPOINT"),
    (&["pull", "o/empty"], &[], "it holds no weights", "nemoterm model list"),
    (&["pull", "o/nameless"], &[], "has no etag", "HF_ENDPOINT"),
    (&["pull", "o/unreadable"], &[], "config.json", "nemoterm model list"),
    // The way here.
    (&["pull", "o/wrong"], &[], "did not arrive as it was sent: its SHA-256 is", "run it again"),
    (&["pull", "o/dying"], &[], "can't be reached", "what has arrived is kept"),
    (
        &["pull", "o/other"],
        &[("HF_ENDPOINT", "http://127.0.0.1:9")],
        "127.0.0.1:9 can't be reached",
        "network",
    ),
    (&["pull", "o/other"], &[("HF_ENDPOINT", "nonsense")], "makes no sense", "HF_ENDPOINT"),
    (&["pull", "o/other"], &[("HF_HUB_OFFLINE", "1")], "o/other is not in", "nemoterm model pull o/other"),
    // The disk.
    (&["pull", "o/huge"], &[], "are to be fetched", "make room"),
    (&["pull", "o/other"], &[("LIMIT", "1000")], ".incomplete: File too large", "make room"),
    (&["pull", "o/other"], &[("HF_HOME", "/dev/null")], "Not a directory", "HF_HOME"),
    // What is named.
    (&["pull", "o/../x"], &[], "no model is called", "nemoterm model list"),
    (&["pull", "nosuch"], &[], "no model is called nosuch", "nemoterm model list"),
    (&["pull", "bare"], &[], "bare: not a model directory: config.json is missing", "nemoterm model list"),
    (&["pull", "notes.gguf"], &[], "notes.gguf", "nemoterm model list"),
    (&["use", "o/absent"], &[], "o/absent has not been fetched", "nemoterm model pull o/absent"),
    (&["use", "nosuch"], &[], "no model is called nosuch", "nemoterm model list"),
    (&["use", "./no/such"], &[], "there is no model at ./no/such", "config.json"),
    (&["use", "cut"], &[], "cut/model.safetensors", "nemoterm model list"),
    (&["remove", "o/ok"], &[], "o/ok is in use", "nemoterm model use nemoterm-mini"),
    (&["remove", "o/absent"], &[], "o/absent is not in", "nemoterm model list"),
    (&["remove", "nosuch"], &[], "nosuch is no model that was fetched", "nemoterm model list"),
];

#[test]
fn every_way_to_break_a_pull_says_what_to_do_and_changes_nothing() {
    let place = Place::new();
    let home = place.sandbox.home();
    // Somebody has a model, and a configuration with a comment of their own.
    assert_eq!(place.model(&["pull", "o/ok"]).code, Some(0));
    assert_eq!(place.run(&["config", "set", "threads", "1"], &[]).code, Some(0));
    assert_eq!(place.run(&["daemon", "start"], &[]).code, Some(0));
    let daemon = place.sandbox.daemon_pid();
    fs::create_dir(home.join("bare")).unwrap();
    fs::write(home.join("notes.gguf"), "buy milk\n").unwrap();
    let cut = place.sandbox.copy_of_model("cut");
    fs::File::options().write(true).open(cut.join("model.safetensors")).unwrap().set_len(100_000).unwrap();

    let intact = Intact::of(home);
    assert!(WAYS.len() >= 34);
    for (args, env, message, hint) in WAYS {
        let way = format!("{} {env:?}", args.join(" "));
        refused(&place.run(&[&["model"], *args].concat(), env), &way, message, hint);
        // What has arrived of other models is kept, and of the one that is there nothing may be touched.
        intact.check(&way, |path| {
            let path = path.to_string_lossy();
            let model = path.strip_prefix(".cache/huggingface/hub/models--");
            model.is_some_and(|model| !model.starts_with("o--ok/"))
        });
    }
    assert_eq!((place.running().as_str(), place.sandbox.daemon_pid()), ("o/ok", daemon));
    // The damaged file was thrown away.
    let blobs = fs::read_dir(place.cache().join("models--o--wrong/blobs")).unwrap();
    assert!(blobs.map(|entry| fs::metadata(entry.unwrap().path()).unwrap().len()).all(|size| size < 1 << 20));
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let place = Place::new();
    let mut command = place.sandbox.command(crate::util::nemoterm());
    command.env("HF_ENDPOINT", &place.hub.endpoint).args(["model", "pull", "o/held", "--no-use"]);
    let terminal = Terminal::spawn(command);
    let size = fs::metadata(place.sandbox.home().join("published/model.safetensors")).unwrap().len();
    // A name, what is there of what will be, how fast it comes, and how long the rest takes.
    let bar = terminal.wait("a bar", |screen| {
        screen.last_row().starts_with("model.safetensors ") && screen.last_row().contains(" MiB/")
    });
    let row = bar.last_row();
    assert!(bar.rows[0].contains("licence: apache-2.0"), "{}", bar.text());
    assert!(size > 4 << 20 && row.contains("iB/s ") && row.ends_with('s'), "{row}");
    place.hub.release();
    let done = terminal.wait("the end", |screen| screen.text().contains("o/held is in "));
    assert!(!done.text().contains("iB/s"), "the bar is gone: {}", done.text());
}

#[test]
fn a_files_name_may_hold_what_means_something_in_an_address() {
    let sandbox = Sandbox::new();
    let dir = sandbox.home().join("published");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("model #1-Q4_0.gguf"), "contents").unwrap();
    let place = Place { hub: FakeHub::serving(&dir), sandbox };
    let pulled = place.model(&["pull", "o/ok:Q4_0", "--no-use"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    let file = place.cache().join(format!("models--o--ok/snapshots/{COMMIT}/model #1-Q4_0.gguf"));
    assert_eq!(fs::read_to_string(file).unwrap(), "contents");
}

#[test]
fn a_token_opens_what_is_private() {
    let place = Place::new();
    let with_variable = place.run(&["model", "pull", "o/private", "--no-use"], &[("HF_TOKEN", TOKEN)]);
    assert_eq!(with_variable.code, Some(0), "{}", with_variable.stderr);
    fs::write(place.sandbox.home().join(".cache/huggingface/token"), format!("{TOKEN}\n")).unwrap();
    let with_file = place.model(&["pull", "o/private", "--no-use"]);
    assert_eq!(with_file.code, Some(0), "{}", with_file.stderr);
    // A cache that can't be written is named. The superuser may write anywhere.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(place.cache(), fs::Permissions::from_mode(0o500)).unwrap();
        refused(&place.model(&["pull", "o/ok"]), "a closed cache", "Permission denied", "HF_HOME");
        fs::set_permissions(place.cache(), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_machine_is_told_what_suits_it() {
    let place = Place::new();
    let help = place.model(&["pull", "--help"]).stdout;
    assert!(help.contains("Usage: nemoterm model pull"), "{help}");
    let printed = place.model(&["recommend", "--json"]);
    let advice: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    assert!(
        advice["machine"]["cores"].as_u64().unwrap() >= 1
            && advice["machine"]["memory"].as_u64().unwrap() > 1 << 28
    );
    assert!(advice["machine"]["bandwidth"].as_u64().unwrap() > 100_000_000);
    if !advice["machine"]["gpu"].is_null() {
        return;
    }
    assert_eq!(advice["model"], "nemoterm-mini");
    assert!(advice["tokens_per_second"].as_u64().unwrap() > 10, "{advice}");
    let other = place.sandbox.copy_of_model("other");
    assert_eq!(place.model(&["use", other.to_str().unwrap()]).code, Some(0));
    let pulled = place.model(&["pull"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    assert!(pulled.stderr.contains("nothing has to be fetched") && place.hub.log().is_empty());
    assert!(pulled.stderr.contains("nemoterm-mini is used from now on"), "{}", pulled.stderr);
    // A card that no program here can use is no reason to fetch what would crawl.
    let bin = place.sandbox.home().join("bin");
    fs::create_dir(&bin).unwrap();
    let smi = bin.join("nvidia-smi");
    fs::write(&smi, "#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564, 24000'\n").unwrap();
    fs::set_permissions(&smi, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let advised = place.run(&["model", "recommend"], &[("PATH", &path)]);
    assert!(advised.stdout.starts_with("nemoterm-mini: there is NVIDIA GeForce RTX 4090, and no program"));
    assert!(advised.stdout.contains(" tokens/s here (measured just now)\n"), "{}", advised.stdout);
}

#[test]
fn what_is_here_is_taken_without_the_hub() {
    let place = Place::new();
    place.sandbox.copy_of_model("mine");
    let pulled = place.model(&["pull", "mine"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    let lines: Vec<_> = pulled.stderr.lines().collect();
    assert_eq!(lines[0], "mine is here; nothing has to be fetched");
    assert!(lines[1].starts_with("mine is used from now on"), "{}", pulled.stderr);
    assert!(place.hub.log().is_empty());
    // A preset's name is the preset, whatever lies here.
    place.sandbox.copy_of_model("smollm2-135m");
    let absent = place.model(&["use", "smollm2-135m"]);
    refused(&absent, "a directory", "smollm2-135m has not been fetched", "nemoterm model pull smollm2-135m");
    assert_eq!(place.model(&["use", "./smollm2-135m"]).code, Some(0));
}

#[test]
fn the_cache_is_shared_with_pythons_client() {
    let Some(python) = python("huggingface_hub") else { return };
    let place = Place::new();
    assert_eq!(place.model(&["pull", "o/ok", "--no-use"]).code, Some(0));
    let ask = |script: &str, offline: &str| {
        let mut command = place.sandbox.command(&python);
        command.env("HF_ENDPOINT", &place.hub.endpoint).env("HF_HUB_OFFLINE", offline);
        printed(command.args(["-c", script]).output().unwrap())
    };
    let found = ask("import huggingface_hub as h; print(h.snapshot_download('o/ok'))", "1");
    assert!(found.stdout.trim().ends_with(COMMIT), "{}", found.stderr);
    // And the other way round.
    let fetched = ask("import huggingface_hub as h; h.snapshot_download('o/theirs')", "0");
    assert_eq!(fetched.code, Some(0), "{}", fetched.stderr);
    let offline = place.run(&["model", "pull", "o/theirs", "--no-use"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(offline.code, Some(0), "{}", offline.stderr);
    let before = place.hub.log().len();
    assert_eq!(place.model(&["pull", "o/theirs", "--no-use"]).code, Some(0));
    assert!(place.hub.log()[before..].iter().all(|request| !request.starts_with("GET /cdn")));
}
