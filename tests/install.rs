//! install.sh with a release, and the walk from nothing to ghost text.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

use crate::{
    shells::CTRL_SPACE,
    util::{
        copy_program, files, find,
        hub::FakeHub,
        nemoterm, nemotermd,
        sandbox::{Printed, Sandbox, printed},
        terminal::Terminal,
    },
};

/// A home, and a place with a release of the programs under test.
struct Place {
    sandbox: Sandbox,
    releases: String,
}

/// How the archive of this machine is called.
fn archive() -> String {
    let system = if cfg!(target_os = "macos") { "macos" } else { "linux" };
    format!("nemoterm-{system}-{}.tar.gz", env::consts::ARCH)
}

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let built = sandbox.home().join("built");
        fs::create_dir(&built).unwrap();
        let builtin = nemoterm().with_file_name("libnemoterm_bash.so");
        let mut names = vec!["nemoterm", "nemotermd"];
        copy_program(nemoterm(), &built.join("nemoterm"));
        copy_program(&nemotermd(), &built.join("nemotermd"));
        if builtin.is_file() {
            copy_program(&builtin, &built.join("libnemoterm_bash.so"));
            names.push("libnemoterm_bash.so");
        }
        let published = sandbox.home().join("published-release");
        fs::create_dir(&published).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(published.join(archive())).args(["--use-compress-program", "gzip -1"]);
        assert!(tar.arg("-C").arg(&built).args(names).status().unwrap().success());
        fs::remove_dir_all(built).unwrap();
        let place = Self { releases: files::serve(&published), sandbox };
        place.publish_sums(&hex::encode(Sha256::digest(fs::read(place.published(&archive())).unwrap())));
        // Nothing is built here.
        let cargo = place.sandbox.home().join("bin/cargo");
        fs::create_dir(cargo.parent().unwrap()).unwrap();
        fs::write(&cargo, "#!/bin/sh\necho \"cargo $*\" >>\"$HOME/calls\"\nexit 1\n").unwrap();
        fs::set_permissions(cargo, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn published(&self, name: &str) -> PathBuf {
        self.sandbox.home().join("published-release").join(name)
    }

    fn publish_sums(&self, sum: &str) {
        fs::write(self.published("SHA256SUMS"), format!("{sum}  {}\n", archive())).unwrap();
    }

    /// A program that sees what a new user's shell does.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.sandbox.command(program);
        let bin = self.sandbox.home().join("bin");
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        for name in ["HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command
    }

    fn install(&self, releases: &str, options: &[&str]) -> Printed {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
        let mut command = self.command("/bin/sh");
        command.arg(script).args(options).env("NEMOTERM_RELEASES", releases);
        printed(command.output().unwrap())
    }

    fn installed(&self) -> PathBuf {
        self.sandbox.home().join(".local/bin/nemoterm")
    }

    fn built(&self) -> bool {
        self.sandbox.home().join("calls").exists()
    }
}

#[test]
fn a_release_that_fits_is_installed_and_taken_back() {
    let place = Place::new();
    let before = fs::read_dir(place.sandbox.home()).unwrap().count();
    let done = place.install(&place.releases, &["--no-hooks"]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(place.installed().is_file() && !place.built());
    let version = printed(place.command(place.installed()).arg("--version").output().unwrap());
    assert!(version.stdout.starts_with("nemoterm "), "{}", version.stderr);
    assert!(place.sandbox.home().join(".local/share/man/man1/nemoterm.1").is_file());
    // Once more is the same.
    assert_eq!(place.install(&place.releases, &["--no-hooks"]).code, Some(0));
    let gone = place.install("", &["--uninstall"]);
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    assert!(!place.installed().exists());
    assert!(
        fs::read_dir(place.sandbox.home()).unwrap().count() <= before + 1,
        "but for .local nothing is new"
    );
}

#[test]
fn what_is_not_the_release_that_was_published_is_not_installed() {
    let place = Place::new();
    place.publish_sums(&"0".repeat(64));
    let refused = place.install(&place.releases, &["--no-hooks"]);
    assert_eq!(refused.code, Some(1));
    let lines: Vec<_> = refused.stderr.lines().collect();
    let [said, hinted] = lines.as_slice() else { panic!("{}", refused.stderr) };
    assert!(said.contains("is not what was published") && hinted.starts_with("hint: "), "{}", refused.stderr);
    assert!(!place.installed().exists() && !place.built(), "and nothing is built behind one's back");
}

#[test]
fn where_no_release_fits_it_is_built() {
    let place = Place::new();
    for (releases, note) in
        [("", ""), ("http://127.0.0.1:9", "no release at"), (place.releases.as_str(), "has nothing for")]
    {
        if note == "has nothing for" {
            fs::write(place.published("SHA256SUMS"), "00  other.tar.gz\n").unwrap();
        }
        let built = place.install(releases, &["--no-hooks"]);
        assert_eq!(built.code, Some(1), "the cargo of this test fails");
        assert!(built.stdout.contains(note), "{}", built.stdout);
        let calls = fs::read_to_string(place.sandbox.home().join("calls")).unwrap();
        assert!(calls.starts_with("cargo build --release --locked"), "{calls}");
        fs::remove_file(place.sandbox.home().join("calls")).unwrap();
    }
    // One that does not run here.
    let broken = place.sandbox.home().join("broken");
    fs::create_dir(&broken).unwrap();
    for name in ["nemoterm", "nemotermd"] {
        fs::write(broken.join(name), "no program").unwrap();
    }
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(place.published(&archive())).arg("-C").arg(broken).args(["nemoterm", "nemotermd"]);
    assert!(tar.status().unwrap().success());
    place.publish_sums(&hex::encode(Sha256::digest(fs::read(place.published(&archive())).unwrap())));
    let built = place.install(&place.releases, &["--no-hooks"]);
    assert!(built.stdout.contains("does not run on this system") && place.built(), "{}", built.stdout);
    let unknown = place.install("", &["--fast"]);
    assert!(unknown.stderr.contains("what is --fast?\nhint: known are"), "{}", unknown.stderr);
}

#[test]
fn from_nothing_to_ghost_text() {
    let Some(zsh) = find("zsh") else { return };
    let place = Place::new();
    let home = place.sandbox.home();
    fs::write(home.join(".zshrc"), "PS1='> '\nunsetopt promptsp\n").unwrap();
    let installed = place.install(&place.releases, &[]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
    assert!(installed.stdout.contains("hooked        "), "{}", installed.stdout);

    // A real model where there is one, which is then what answers; else the embedded one, as if it were another.
    let published = home.join("hub");
    let (name, architecture) = match env::var_os("NEMOTERM_TEST_SMOLLM2").map(PathBuf::from) {
        Some(gguf) => {
            fs::create_dir(&published).unwrap();
            fs::copy(gguf, published.join("SmolLM2-135M-Instruct-Q4_1.gguf")).unwrap();
            ("o/smollm2:Q4_1", "llama")
        }
        None => {
            place.sandbox.copy_of_model("hub");
            ("o/ok", "Nemotron")
        }
    };
    let hub = FakeHub::serving(&published);
    let run = |args: &[&str]| {
        let mut command = place.command(place.installed());
        let printed = printed(command.env("HF_ENDPOINT", &hub.endpoint).args(args).output().unwrap());
        assert_eq!(printed.code, Some(0), "{args:?}: {}", printed.stderr);
        println!("$ nemoterm {}\n{}{}", args.join(" "), printed.stdout, printed.stderr);
        printed
    };
    run(&["model", "recommend"]);
    let pulled = run(&["model", "pull", name]);
    assert!(pulled.stderr.contains("is used from now on"), "{}", pulled.stderr);

    // The model is there before anybody types.
    run(&["daemon", "start"]);
    let mut command = place.command(zsh);
    command.args(["-d", "-i"]).env("NEMOTERM_TIMEOUT_MS", "20000");
    let terminal = Terminal::spawn(command);
    terminal.wait("the first prompt", |screen| screen.last_row() == ">" && screen.cursor.1 > 0);
    // Asked for, as a model that knows little of shells is not sure of anything.
    terminal.send(format!("find . -name{CTRL_SPACE}"));
    terminal.wait("a suggestion", |screen| !screen.ghost.is_empty());
    let status = run(&["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["model"]["name"], name);
    assert!(status["model"]["architecture"].as_str().unwrap().starts_with(architecture), "{status}");
    assert!(status["completions"].as_u64().unwrap() > 0, "the model answered");
}
