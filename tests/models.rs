//! From a name to a model in use: pulls from a Hub on this machine, good and bad.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::{
    openai::clients::python,
    util::{
        hub::{COMMIT, FakeHub, TOKEN},
        sandbox::{Printed, Sandbox, printed},
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
        let mut command = self.sandbox.command(crate::util::nemoterm());
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

    /// Fails with a message and a hint, each of one line, and leaves the configuration and whole files as they were.
    #[track_caller]
    fn fails(&self, printed: &Printed, message: &str, hint: &str) {
        assert_eq!(printed.code, Some(1), "{}", printed.stderr);
        // What would be fetched is said as soon as it is known.
        let lines: Vec<_> = printed.stderr.lines().filter(|line| !line.contains("; licence: ")).collect();
        let [said, hinted] = lines.as_slice() else { panic!("{}", printed.stderr) };
        assert!(said.starts_with("nemoterm: ") && said.contains(message), "{said}");
        assert!(hinted.starts_with("hint: ") && hinted.contains(hint), "{hinted}");
        assert!(!self.sandbox.home().join(".config/nemoterm/config.toml").exists());
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
    place.fails(&place.model(&["pull", "o/dying"]), "can't be reached", "what has arrived is kept");
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

#[test]
fn every_failure_says_what_to_do_and_changes_nothing() {
    let place = Place::new();
    for (name, message, hint) in [
        ("o/gated", "open only to those who accept its conditions", "HF_TOKEN"),
        ("o/absent", "the Hub knows no o/absent", "check the name"),
        ("o/hidden", "the Hub knows no o/hidden", "HF_TOKEN"),
        ("o/private", "wants to know who asks", "HF_TOKEN"),
        ("o/limited", "come back later", "try again in 1 s"),
        ("o/broken", "failed with status 500", "try again"),
        ("o/garbage", "makes no sense", "HF_ENDPOINT"),
        ("o/evil", "makes no sense: a file called", "HF_ENDPOINT"),
        ("o/empty", "it holds no weights", "nemoterm model list"),
        ("o/nameless", "has no etag", "HF_ENDPOINT"),
        ("o/huge", "are to be fetched", "make room"),
        ("o/wrong", "did not arrive as it was sent: its SHA-256 is", "run it again"),
        ("o/ok@v9", "o/ok has no revision v9", "leave the revision out"),
        ("o/ok:Q4_K_M", "it has no file \"Q4_K_M\"", "name one"),
        ("o/../x", "no model is called", "nemoterm model list"),
        ("nosuch", "no model is called nosuch", "nemoterm model list"),
        ("published", "published is here already", "nemoterm model use published"),
    ] {
        place.fails(&place.model(&["pull", name]), message, hint);
    }
    // The damaged file was thrown away.
    assert!(fs::read_dir(place.cache().join("models--o--wrong/blobs")).unwrap().all(|entry| {
        let path = entry.unwrap().path();
        fs::metadata(path).unwrap().len() < 1 << 20
    }));
    let unreachable = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    place.fails(
        &place.run(&["model", "pull", "o/ok"], &unreachable),
        "127.0.0.1:9 can't be reached",
        "network",
    );
    place.fails(
        &place.run(&["model", "pull", "o/ok"], &[("HF_ENDPOINT", "nonsense")]),
        "makes no sense",
        "HF_ENDPOINT",
    );
    let offline = [("HF_HUB_OFFLINE", "1")];
    place.fails(
        &place.run(&["model", "pull", "o/ok"], &offline),
        "o/ok is not in",
        "nemoterm model pull o/ok",
    );
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
    place.fails(
        &place.run(&["model", "pull", "o/private", "--no-use"], &[("HF_TOKEN", "hf_wrong")]),
        "wants to know who asks",
        "HF_TOKEN",
    );
    fs::write(place.sandbox.home().join(".cache/huggingface/token"), format!("{TOKEN}\n")).unwrap();
    let with_file = place.model(&["pull", "o/private", "--no-use"]);
    assert_eq!(with_file.code, Some(0), "{}", with_file.stderr);
    // A cache that can't be written is named. The superuser may write anywhere.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(place.cache(), fs::Permissions::from_mode(0o500)).unwrap();
        place.fails(&place.model(&["pull", "o/ok"]), "Permission denied", "HF_HOME");
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
    if advice["machine"]["gpu"].is_null() {
        assert_eq!(advice["model"], "nemoterm-mini");
        let pulled = place.model(&["pull"]);
        assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
        assert!(pulled.stderr.contains("nothing has to be fetched") && place.hub.log().is_empty());
    }
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
