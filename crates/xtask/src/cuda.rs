//! `cargo xtask cuda`: compiles and links the daemon for CUDA, on a machine that needs neither a card nor a driver nor NVIDIA's
//! toolkit. The compiler and the libraries come from the wheels that NVIDIA publishes on PyPI; of the driver's library, which
//! comes with a driver only, a stub is made to link against. The engine's tests for cards run in an emulator.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{PROFILE, emulated, packages, root, run};

/// The compiler, its parts, the libraries that are linked, and what shows what was compiled.
const WHEELS: [&str; 9] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cublas==13.1.0.3",
    "nvidia-curand==10.4.0.35",
    "nvidia-cuda-cuobjdump==13.2.51",
];

/// Libraries that the wheels hold under the name that programs load only, and the version in it.
const LIBRARIES: [(&str, u32); 5] =
    [("cudart", 13), ("cublas", 13), ("cublasLt", 13), ("nvrtc", 13), ("curand", 10)];

/// The oldest cards that the kernels are compiled for: RTX 30, A100 and what came after them, by NVIDIA's compute capability.
/// For older ones the kernels in bf16, which the engine computes in, are left out by their authors.
const COMPUTE_CAP: &str = "80";

/// Cards that came after them: RTX 30 and 40, H100 and RTX 50.
const NEWER: [&str; 4] = ["86", "89", "90", "120"];

/// The kernels for quantised weights are compiled ahead, for cards of 8.x only (`code=sm_80`): such code never runs on a card
/// of another generation. With this their PTX is kept beside it, which the driver of a newer card (90, 100, 120) compiles when it
/// is first used. The other kernels are PTX anyway. release.yml sets the same, which a test looks at.
const NVCC_APPEND_FLAGS: &str = "-gencode=arch=compute_80,code=compute_80";

/// What the loader calls the driver's library.
const DRIVER: &str = "libcuda.so.1";

/// Builds `target/cuda/nemotermd-cuda` and says what is known of it.
pub fn cuda() -> anyhow::Result<()> {
    ensure!(cfg!(target_os = "linux"), "there is CUDA on Linux only");
    let toolkit = toolkit()?;
    let built = root().join("target/ci/nemotermd");
    // What the tests start must stay what it is: cargo would put the one for CUDA in its place.
    let usual = built.with_extension("usual");
    if built.exists() {
        fs::rename(&built, &usual)?;
    }
    let done = run(&mut command(&toolkit, "build", &DAEMON));
    let program = root().join("target/cuda/nemotermd-cuda");
    if done.is_ok() {
        fs::create_dir_all(root().join("target/cuda"))?;
        fs::rename(&built, &program)?;
    }
    if usual.exists() {
        fs::rename(usual, built)?;
    }
    done?;
    run(command(&toolkit, "clippy", &[&DAEMON[..], &["--lib", "--tests"]].concat())
        .args(["--", "-D", "warnings"]))?;
    run(command(&toolkit, "doc", &["--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    covers_newer_cards(&toolkit, &program)?;
    kernels_suit_newer_cards(&toolkit)?;
    starts_with_a_driver_only(&toolkit, &program)?;
    test(&toolkit)
}

/// Runs the engine's tests for cards in the emulator, which also looks for warps that use the same memory and don't wait for each
/// other. Another build of the whole workspace's libraries, for the reason that [`command`] gives, and no test of the others.
fn test(toolkit: &Path) -> anyhow::Result<()> {
    let libraries = emulated::libraries()?;
    run(command(toolkit, "test", &["--lib"])
        .args(["--", "tests::card", "on_a_card"])
        .env("LD_LIBRARY_PATH", libraries)
        .env("NEMOTERM_EMULATOR_RACES", "1"))
}

/// Where the compiler and the libraries lie.
fn venv() -> PathBuf {
    root().join("target/cuda-toolkit")
}

/// Installs the compiler and the libraries, unless they are there.
pub fn fetch() -> anyhow::Result<()> {
    packages(&venv(), &WHEELS).context("the CUDA toolkit could not be fetched")
}

/// Makes of what was fetched a toolkit that can be linked with, and returns its folder.
fn toolkit() -> anyhow::Result<PathBuf> {
    fetch()?;
    let site = Command::new(venv().join("bin/python"))
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()?;
    let toolkit = Path::new(String::from_utf8(site.stdout)?.trim()).join("nvidia/cu13");
    let libraries = toolkit.join("lib");
    for (name, version) in LIBRARIES {
        let link = libraries.join(format!("lib{name}.so"));
        if !link.exists() {
            symlink(format!("lib{name}.so.{version}"), link)?;
        }
    }
    stub(&toolkit)?;
    Ok(toolkit)
}

/// Makes a library with the names that the driver's header declares, so that a name no driver has does not link. Each
/// function says that there is no device. It lies where NVIDIA's own toolkit has such a stub, and no loader looks there.
fn stub(toolkit: &Path) -> anyhow::Result<()> {
    let stubs = toolkit.join("lib/stubs");
    let stub = stubs.join("libcuda.so");
    if stub.exists() {
        return Ok(());
    }
    let header = fs::read_to_string(toolkit.join("include/cuda.h"))?;
    let source: String =
        functions(&header).iter().map(|name| format!("int {name}(void) {{ return 100; }}\n")).collect();
    fs::create_dir_all(&stubs)?;
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-x", "c", "-", &format!("-Wl,-soname,{DRIVER}"), "-o"])
        .arg(stubs.join("unfinished"))
        .stdin(Stdio::piped())
        .spawn()
        .context("cc can't be run")?;
    compiler.stdin.take().context("cc takes no input")?.write_all(source.as_bytes())?;
    ensure!(compiler.wait()?.success(), "the stub of {DRIVER} could not be compiled");
    Ok(fs::rename(stubs.join("unfinished"), stub)?)
}

/// The names of functions in the driver's header: those of types begin with `CU`, those of macros are in capitals.
fn functions(header: &str) -> BTreeSet<&str> {
    header
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.strip_prefix("cu").is_some_and(|rest| rest.starts_with(char::is_uppercase)))
        .collect()
}

/// What is built for use.
const DAEMON: [&str; 2] = ["--bin", "nemotermd"];

/// A command of cargo for CUDA on these targets. Features are those of the whole workspace, so that what was built for the tests is
/// not built again.
fn command(toolkit: &Path, name: &str, targets: &[&str]) -> Command {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(env!("CARGO"));
    command
        .arg(name)
        .args(PROFILE)
        .args(["--locked", "--workspace", "--features", "nemotermd/cuda"])
        .args(targets)
        .env("PATH", with_tools(toolkit))
        .env("CUDA_HOME", toolkit)
        .env("CUDA_COMPUTE_CAP", COMPUTE_CAP)
        .env("NVCC_APPEND_FLAGS", NVCC_APPEND_FLAGS)
        // The compiler runs once for each file; by default on half of the processor.
        .env("CUDAFORGE_THREADS", threads.to_string());
    command
}

/// Where programs are looked for, the toolkit's first.
fn with_tools(toolkit: &Path) -> OsString {
    let mut path = OsString::from(toolkit.join("bin"));
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    path
}

/// Whether there is PTX beside all that was compiled ahead.
fn covers_newer_cards(toolkit: &Path, program: &Path) -> anyhow::Result<()> {
    let list = |what: &str| -> anyhow::Result<Vec<String>> {
        let mut command = Command::new(toolkit.join("bin/cuobjdump"));
        let output = command.arg(what).arg(program).output().context("cuobjdump can't be run")?;
        ensure!(output.status.success(), "cuobjdump: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    };
    let (compiled, ptx) = (list("--list-elf")?, list("--list-ptx")?);
    let is_for = |line: &String| line.contains(&format!("sm_{COMPUTE_CAP}."));
    ensure!(
        !compiled.is_empty() && compiled.len() == ptx.len() && compiled.iter().chain(&ptx).all(is_for),
        "not all that was compiled for sm_{COMPUTE_CAP} is there as PTX, for newer cards:\n{}\n{}",
        compiled.join("\n"),
        ptx.join("\n")
    );
    eprintln!("{} modules of kernels, compiled for sm_{COMPUTE_CAP} and as PTX", compiled.len());
    Ok(())
}

/// Whether our own kernels become code of newer cards, as their drivers have to make it.
fn kernels_suit_newer_cards(toolkit: &Path) -> anyhow::Result<()> {
    let sources = root().join("crates/engine/cuda");
    let code = root().join("target/cuda/kernels.cubin");
    for source in fs::read_dir(&sources)?.filter_map(Result::ok).map(|entry| entry.path()) {
        if source.extension().is_none_or(|extension| extension != "cu") {
            continue;
        }
        for cap in NEWER {
            let mut compiler = Command::new(toolkit.join("bin/nvcc"));
            run(compiler
                .args(["-std=c++17", "-O3", "-cubin", &format!("-arch=sm_{cap}"), "-o"])
                .args([&code, &source])
                .env("PATH", with_tools(toolkit)))?;
        }
    }
    Ok(fs::remove_file(code)?)
}

/// Whether the program is refused by the loader where there is no driver, for that reason and no other, and starts where there
/// is one.
fn starts_with_a_driver_only(toolkit: &Path, program: &Path) -> anyhow::Result<()> {
    let with = |more: &[&Path]| -> anyhow::Result<Output> {
        let libraries = toolkit.join("lib");
        let places = env::join_paths(more.iter().copied().chain([libraries.as_path()]))?;
        Ok(Command::new(program).arg("--version").env("LD_LIBRARY_PATH", places).output()?)
    };
    let alone = with(&[])?;
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    if alone.status.success() {
        eprintln!("nemotermd-cuda starts: this machine has an NVIDIA driver");
        return Ok(());
    }
    ensure!(said.contains(DRIVER), "without a driver nemotermd-cuda should miss {DRIVER}, and says: {said}");
    let driver = root().join("target/cuda/driver");
    fs::create_dir_all(&driver)?;
    fs::copy(toolkit.join("lib/stubs/libcuda.so"), driver.join(DRIVER))?;
    let beside = with(&[&driver])?;
    if !beside.status.success() {
        bail!("with the stub of a driver nemotermd-cuda says: {}", String::from_utf8_lossy(&beside.stderr));
    }
    eprintln!("nemotermd-cuda starts with the stub of a driver, and without one says: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_compiled_for_the_same_cards() {
        let workflow = fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
        for (name, value) in [("CUDA_COMPUTE_CAP", COMPUTE_CAP), ("NVCC_APPEND_FLAGS", NVCC_APPEND_FLAGS)] {
            assert!(workflow.contains(&format!("{name}: \"{value}\"")), "release.yml: {name} is not {value}");
        }
    }

    #[test]
    fn the_stub_has_functions_and_no_types() {
        let header = "#define cuMemAlloc cuMemAlloc_v2\ntypedef enum CUresult_enum\nCUresult CUDAAPI cuInit(unsigned int f);\n\
                      int curious; /* custom */ #define CUDA_VERSION 13000";
        assert_eq!(
            functions(header).into_iter().collect::<Vec<_>>(),
            ["cuInit", "cuMemAlloc", "cuMemAlloc_v2"]
        );
    }
}
