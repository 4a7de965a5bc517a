//! `cargo xtask emulated ARGS…`: runs the daemon for CUDA, which `cargo xtask cuda` made, on a machine that has neither a card nor a
//! driver. What stands in for both is built of `crates/cuda-emulator`, and says there what it is.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{root, run};

/// The library that the functions are in, by the name that the program loads it by.
const DRIVER: &str = "libcuda.so.1";

/// Libraries of which the program wants versions. Each is an empty one that has the version of its own name, as the loader
/// would complain otherwise; their functions are all in the driver's.
const VERSIONED: [&str; 3] = ["libcublas.so.13", "libcurand.so.10", "libcudart.so.13"];

/// Runs the daemon for CUDA with the emulator.
pub fn emulated(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let program = root().join("target/cuda/nemotermd-cuda");
    ensure!(program.exists(), "{} is missing: `cargo xtask cuda` makes it", program.display());
    let status = Command::new(&program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries()?)
        .status()
        .with_context(|| format!("{} can't be run", program.display()))?;
    if !status.success() {
        bail!("{} failed: {status}", program.display());
    }
    Ok(())
}

/// Builds the emulator, and returns the folder that programs find it in.
pub fn libraries() -> anyhow::Result<PathBuf> {
    ensure!(cfg!(target_os = "linux"), "there is CUDA on Linux only");
    run(Command::new(env!("CARGO")).args([
        "build",
        "--release",
        "--locked",
        "-p",
        "nemoterm-cuda-emulator",
    ]))?;
    let libraries = root().join("target/cuda/emulator");
    fs::create_dir_all(&libraries)?;
    link(&root().join("target/release/libnemoterm_cuda_emulator.so"), &libraries.join(DRIVER))?;
    for name in VERSIONED {
        if !libraries.join(name).is_file() {
            empty(&libraries, name)?;
        }
    }
    Ok(libraries)
}

/// Makes a symbolic link, or puts it in the place of another one.
fn link(to: &Path, at: &Path) -> anyhow::Result<()> {
    if at.is_symlink() {
        fs::remove_file(at)?;
    }
    symlink(to, at).with_context(|| format!("{} can't be linked", at.display()))
}

/// Makes a library that holds nothing but the version of its name.
fn empty(libraries: &Path, name: &str) -> anyhow::Result<()> {
    let versions = libraries.join("versions");
    fs::write(&versions, format!("{name} {{ }};\n"))?;
    let unfinished = libraries.join("unfinished");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-nostdlib", "-x", "c", "-"])
        .arg(format!("-Wl,-soname,{name}"))
        .arg(format!("-Wl,--version-script={}", versions.display()))
        .arg("-o")
        .arg(&unfinished)
        .stdin(Stdio::piped())
        .spawn()
        .context("cc can't be run")?;
    compiler.stdin.take().context("cc takes no input")?.write_all(b"\n")?;
    ensure!(compiler.wait()?.success(), "{name} could not be linked");
    fs::remove_file(versions)?;
    Ok(fs::rename(unfinished, libraries.join(name))?)
}
