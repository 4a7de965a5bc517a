//! install.sh with a release, and the walk from nothing to ghost text.

use std::{
    collections::BTreeSet,
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
        let script =
            "#!/bin/sh\ncase $1 in --version) exit;; esac\necho \"cargo $*\" >>\"$HOME/calls\"\nexit 1\n";
        fs::write(&cargo, script).unwrap();
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
    assert!(done.stdout.ends_with("To undo: ./install.sh --uninstall\n"), "{}", done.stdout);
    // Once more is the same, from a pipe, too.
    let script = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh")).unwrap();
    let mut command = place.command("/bin/sh");
    command.args(["-s", "--", "--no-hooks"]).env("NEMOTERM_RELEASES", &place.releases).stdin(script);
    let piped = printed(command.output().unwrap());
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert!(piped.stdout.ends_with("To undo: pipe it into: sh -s -- --uninstall\n"), "{}", piped.stdout);
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
    println!("$ ./install.sh\n{}{}", installed.stdout, installed.stderr);

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
    let screen = terminal.wait("a suggestion", |screen| !screen.ghost.is_empty());
    println!("$ zsh\n{}\n(as ghost text:{})", screen.text(), screen.ghost);
    let status = run(&["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["model"]["name"], name);
    assert!(status["model"]["architecture"].as_str().unwrap().starts_with(architecture), "{status}");
    assert!(status["completions"].as_u64().unwrap() > 0, "the model answered");
}

/// The workflow that makes releases.
fn workflow() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows/release.yml")).unwrap()
}

#[test]
fn archives_of_a_release_are_called_as_they_are_asked_for() {
    let workflow = workflow();
    let targets: BTreeSet<_> = workflow
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { target: "))
        .map(|line| line.split([',', ' ']).next().unwrap())
        .collect();
    let place = Place::new();
    let uname = place.sandbox.home().join("bin/uname");
    let script = "#!/bin/sh\ncase $1 in -s) echo \"$SYSTEM\";; -m) echo \"$MACHINE\";; esac\n";
    fs::write(&uname, script).unwrap();
    fs::set_permissions(uname, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.published("SHA256SUMS"), "").unwrap();
    let mut asked = BTreeSet::new();
    // What uname says of the systems there are releases for; some say aarch64, some arm64.
    for (system, machine) in [
        ("Linux", "x86_64"),
        ("Linux", "amd64"),
        ("Linux", "aarch64"),
        ("Linux", "arm64"),
        ("Darwin", "arm64"),
        ("Darwin", "x86_64"),
    ] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
        let mut command = place.command("/bin/sh");
        command.arg(script).env("NEMOTERM_RELEASES", &place.releases);
        let output = printed(command.env("SYSTEM", system).env("MACHINE", machine).output().unwrap());
        let note = "note          the release has nothing for ";
        let target = output.stdout.lines().find_map(|line| line.strip_prefix(note));
        asked.insert(target.unwrap_or_else(|| panic!("{}{}", output.stdout, output.stderr)).to_owned());
    }
    assert_eq!(asked.iter().map(String::as_str).collect::<BTreeSet<_>>(), targets);
    // What is before a target, on both sides.
    let made = words_after(&workflow, "cargo xtask pack ", "${{ matrix.target }}");
    let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh")).unwrap();
    assert_eq!(made, words_after(&script, "unpack \"", "$target.tar.gz\""));
    assert_eq!(made, BTreeSet::from(["nemoterm-", "nemoterm-cuda-"]));
}

/// What stands between two texts, everywhere in a line.
fn words_after<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| Some(line.split_once(before)?.1.split_once(after)?.0)).collect()
}

#[test]
fn what_the_workflow_publishes_installs_itself() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workflow = workflow();
    let (_, step) = workflow.split_once("- name: Checksums").unwrap();
    let (_, step) = step.split_once("run: |\n").unwrap();
    let step: String = step
        .lines()
        .take_while(|line| line.starts_with("          "))
        .map(|line| format!("{line}\n"))
        .collect();
    // The step finds the archives in dist, beside a checkout.
    let checkout = place.sandbox.home().join("checkout");
    fs::create_dir_all(checkout.join("dist")).unwrap();
    fs::copy(root.join("install.sh"), checkout.join("install.sh")).unwrap();
    fs::rename(place.published(&archive()), checkout.join("dist").join(archive())).unwrap();
    let mut command = place.sandbox.command("bash");
    command.args(["-eo", "pipefail", "-c", &step]).current_dir(&checkout);
    command.env("GITHUB_SERVER_URL", &place.releases).env("GITHUB_REPOSITORY", "o/n");
    let made = printed(command.env("GITHUB_REF_NAME", "v9.8.7").output().unwrap());
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let published = place.published("o/n/releases/download/v9.8.7");
    fs::create_dir_all(published.parent().unwrap()).unwrap();
    fs::rename(checkout.join("dist"), &published).unwrap();
    fs::remove_dir_all(checkout).unwrap();

    // A person fetches it, reads it and runs it, with nothing said of where releases lie.
    let script = place.sandbox.home().join("install.sh");
    fs::copy(published.join("install.sh"), &script).unwrap();
    let mut command = place.command("/bin/sh");
    let done = printed(command.arg(script).arg("--no-hooks").output().unwrap());
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(place.installed().is_file() && !place.built(), "{}", done.stdout);
}

#[test]
fn a_toolchain_that_is_missing_or_too_old_is_named() {
    let place = Place::new();
    let bin = place.sandbox.home().join("bin");
    let program = |name: &str, text: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("cargo", "echo 'cargo 1.63.0 (fd9c4297c 2022-07-01)'");
    let old = place.install("", &[]);
    assert_eq!(old.code, Some(1));
    assert!(
        old.stderr.contains("the Rust toolchain is 1.63.0, and 1.89 or later is needed\nhint: rustup"),
        "{}",
        old.stderr
    );
    assert!(!place.installed().exists());
    program(
        "cargo",
        "case $1 in --version) echo 'cargo 1.100.2';; *) echo \"cargo $*\" >>\"$HOME/calls\"; exit 1;; esac",
    );
    assert_eq!(place.install("", &[]).code, Some(1));
    assert!(place.built());

    // Where there is none it is a package, of a list that is read first; and where it is none, that is said.
    fs::remove_file(bin.join("cargo")).unwrap();
    program("sudo", "exec \"$@\"");
    program(
        "apt-get",
        "echo \"apt-get $*\" >>\"$HOME/packages\"; case $1 in update) exit 0;; esac; exit 100",
    );
    // The tools that the script needs, and no toolchain of this machine.
    for tool in ["cat", "chmod", "cut", "dirname", "id", "mktemp", "rm", "sed", "sh", "tr", "uname"] {
        std::os::unix::fs::symlink(find(tool).unwrap(), bin.join(tool)).unwrap();
    }
    program("cc", "exit 0");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
    let mut command = place.command("/bin/sh");
    command.arg(script).env("PATH", &bin).env("NEMOTERM_RELEASES", "");
    let missing = printed(command.output().unwrap());
    assert_eq!(missing.code, Some(1));
    let expected = "install.sh: there is no Rust toolchain\nhint: install rustup";
    assert!(missing.stderr.contains(expected), "{}", missing.stderr);
    let packages = fs::read_to_string(place.sandbox.home().join("packages")).unwrap();
    let install = "apt-get install -y --no-install-recommends rustup ca-certificates";
    assert_eq!(packages.lines().collect::<Vec<_>>(), ["apt-get update -qq", install]);
}
