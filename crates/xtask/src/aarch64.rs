//! `cargo xtask aarch64`: builds the engine's tests for 64-bit ARM and runs them in an emulator, as the kernels for its processors are
//! compiled nowhere else. What they compute is tested so, and not how fast they are.

use std::{env, fs, path::PathBuf, process::Command};

use crate::{PROFILE, find, root, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Debian's cross compiler, which links, and its libraries.
const LINKER: &str = "aarch64-linux-gnu-gcc";
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

const EMULATOR: &str = "qemu-aarch64";

/// Tests that would take minutes in it. That a row is the same with others, which drafts rest on, is among the kernels' own.
const SLOW: [&str; 2] = ["tests::drafts", "tests::hybrid::a_warm_cache"];

/// Builds and runs the tests, or says what is missing.
pub fn aarch64() -> anyhow::Result<()> {
    if cfg!(target_arch = "aarch64") {
        eprintln!("skipped: this processor is one, so all other tests run on it");
        return Ok(());
    }
    let missing: Vec<&str> = [
        (has_library(), "`rustup target add aarch64-unknown-linux-gnu`"),
        (find(LINKER).is_some(), "gcc-aarch64-linux-gnu"),
        (find(EMULATOR).is_some(), "qemu-user"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| (!is_there).then_some(what))
    .collect();
    if !missing.is_empty() {
        eprintln!("skipped: no test was built for 64-bit ARM; these are missing: {}", missing.join(", "));
        return Ok(());
    }
    // Everything that the emulator knows; then a processor without scalar products of bytes, that of a Raspberry Pi 4.
    test("max", &["--skip", SLOW[0], "--skip", SLOW[1]])?;
    test("cortex-a72", &["kernels"])
}

/// Whether the compiler that cargo takes has the standard library for the target.
fn has_library() -> bool {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = Command::new(compiler)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root())
        .output()
    else {
        return false;
    };
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(files) = fs::read_dir(dir) else { return false };
    files.filter_map(Result::ok).any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Runs tests of the engine on this processor.
fn test(processor: &str, which: &[&str]) -> anyhow::Result<()> {
    println!("the engine's tests for 64-bit ARM on {processor}");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--package", "nemoterm-engine", "--lib", "--locked", "--target", TARGET])
        .args(PROFILE);
    command
        .arg("--")
        .args(which)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("{EMULATOR} -cpu {processor} -L {LIBRARIES}"),
        )
        .env("CC_aarch64_unknown_linux_gnu", LINKER);
    run(&mut command)
}
