//! What the whole-program tests share: a home of their own, a terminal, daemons and servers that misbehave to order.

pub mod fake;
pub mod files;
pub mod home;
pub mod hub;
pub mod intact;
#[cfg(target_os = "linux")]
pub mod manager;
mod margin;
pub mod openai;
pub mod picture;
pub mod sandbox;
pub mod served;
pub mod terminal;

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long anything may take before a test fails. Nothing waits this long when it works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until something is so, and fails naming it where it never is.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets time pass, where nothing can be seen to happen at its end.
pub fn pass(time: Duration) {
    let since = Instant::now();
    eventually("the end of a while", || since.elapsed() > time);
}

/// The program under test.
pub fn nemoterm() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_nemoterm"))
}

/// Copies a program that is run afterwards. A process of its own writes it: what a thread here forks meanwhile would inherit
/// a file that is open for writing, and such a program can't be run ("text file busy").
pub fn copy_program(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").args([from, to]).status().unwrap().success());
}

/// The daemon's program, which another package builds beside ours.
pub fn nemotermd() -> PathBuf {
    let daemon = nemoterm().with_file_name("nemotermd");
    assert!(
        daemon.is_file(),
        "{} is missing: build it first with cargo build --profile {} -p nemotermd",
        daemon.display(),
        nemoterm().parent().and_then(Path::file_name).unwrap_or_default().display(),
    );
    daemon
}

/// Where a program lies; nothing, with a printed reason, where it is missing. `NEMOTERM_REQUIRE_SHELLS=1` makes that a
/// failure. `NEMOTERM_TEST_FISH` names another fish than the one that is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    if program == "fish"
        && let Some(named) = env::var_os("NEMOTERM_TEST_FISH").map(PathBuf::from)
    {
        assert!(named.is_file(), "NEMOTERM_TEST_FISH: {} is missing", named.display());
        return Some(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The first of these files that exists; see [`find`].
pub fn find_file(paths: &[&str]) -> Option<PathBuf> {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{} is not installed", paths[0]));
    }
    found
}

fn skip(reason: &str) {
    assert!(env::var_os("NEMOTERM_REQUIRE_SHELLS").is_none_or(|value| value != "1"), "{reason}");
    eprintln!("skipped: {reason}");
}
