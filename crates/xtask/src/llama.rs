//! `cargo xtask llama`: this engine and llama.cpp on the same files, threads and prompts, in turn.
//!
//! Each round runs one program after the other, so that what else the machine does meets both; a figure is the median of the
//! rounds. llama.cpp is that of the Python wheel which the tests run, which is built for AVX2, or with `--native` one that is
//! compiled here, for this processor. `benches/llama_cpp.py` runs it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{GGUF, LLAMA_CPP, packages, root, run, synthetic, walk, weights, weights_dir};

/// What holds llama.cpp's source, and what is needed to compile it.
const SOURCE: &str = "llama-cpp-python==0.3.36";
const COMPILERS: [&str; 2] = ["cmake==4.4.5", "ninja==1.13.2"];
/// What reads and writes GGUF files.
const GGUF_PACKAGE: &str = "gguf==0.19.0";

/// Models to measure with: name, the format they are in, and whether they have 4 billion weights.
const CONTENDERS: [(&str, &str, bool); 5] = [
    ("smollm2-135m-q4_1", "q4_1", false),
    ("smollm2-135m-q8_0", "q8_0", false),
    ("smollm2-135m-q4_0", "q4_0", false),
    ("minitron-4b-q4_k", "q4_k", true),
    ("minitron-4b-q8_0", "q8_0", true),
];

/// What is asked for.
struct Options {
    rounds: usize,
    threads: Vec<usize>,
    /// Models; all small ones where there are none.
    names: Vec<String>,
    large: bool,
    native: bool,
    library: Option<PathBuf>,
    /// Leaves the files of large models where they are.
    keep: bool,
}

/// What comes after `cargo xtask llama`.
pub fn from_arguments(mut args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut options = Options {
        rounds: 5,
        threads: vec![1, 2],
        names: Vec::new(),
        large: false,
        native: false,
        library: None,
        keep: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--large" => options.large = true,
            "--native" => options.native = true,
            "--keep" => options.keep = true,
            "--library" => options.library = Some(value()?.into()),
            "--rounds" => {
                options.rounds = value()?.parse::<usize>().context("--rounds wants a number")?.max(1);
            }
            "--threads" => {
                let numbers = value()?.split(',').map(str::parse).collect::<Result<_, _>>();
                options.threads = numbers.context("--threads wants numbers with commas between them")?;
            }
            name if CONTENDERS.iter().any(|(known, ..)| *known == name) => options.names.push(arg),
            other => {
                let known = CONTENDERS.map(|(name, ..)| name).join(", ");
                bail!(
                    "llama takes --rounds N, --threads N,N, --large, --native, --library FILE, --keep and {known}; not {other}"
                )
            }
        }
    }
    compare(&options)
}

fn compare(options: &Options) -> anyhow::Result<()> {
    let venv = root().join("target/llama.cpp/venv");
    let needed = [&[LLAMA_CPP, GGUF_PACKAGE], &COMPILERS[..]].concat();
    packages(&venv, &needed).context("nothing was measured: llama.cpp can't be had")?;
    let library = match &options.library {
        Some(library) => library.clone(),
        None if options.native => native(&venv)?,
        None => walk(&venv.join("lib"), "xllamacpp.abi3.so")
            .context("nothing was measured: the wheel holds no llama.cpp")?,
    };
    let program = match env::var_os("NEMOTERMD") {
        Some(program) => program.into(),
        None => {
            run(Command::new(env!("CARGO")).args([
                "build",
                "--release",
                "--locked",
                "--package",
                "nemotermd",
            ]))?;
            root().join("target/release/nemotermd")
        }
    };
    let python = venv.join("bin/python");
    let programs = Programs { program, python, library };

    let wanted = CONTENDERS.iter().filter(|(name, _, large)| match options.names.as_slice() {
        [] => options.large || !large,
        names => names.iter().any(|wanted| wanted == name),
    });
    let mut failures = Vec::new();
    let mut heading = true;
    for &(name, format, large) in wanted {
        let file = weights_dir().join(format!("{name}.gguf"));
        let measured = make(&file, format, large, &programs.python).and_then(|()| {
            for &threads in &options.threads {
                measure(&programs, name, &file, threads, large, options.rounds, &mut heading)?;
            }
            Ok(())
        });
        if large && !options.keep && file.exists() {
            std::fs::remove_file(&file)?;
        }
        if let Err(error) = measured {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!("these could not be measured, in part or at all:\n{}", failures.join("\n"));
    }
    Ok(())
}

/// Makes the file of a model, if it is not there.
fn make(file: &Path, format: &str, large: bool, python: &Path) -> anyhow::Result<()> {
    if file.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(weights_dir())?;
    if large {
        return synthetic::from_arguments([file.display().to_string(), format.to_owned()].into_iter());
    }
    weights()?;
    let source = weights_dir().join(GGUF);
    if format == "q4_1" {
        std::fs::hard_link(source, file)?;
        return Ok(());
    }
    let unfinished = file.with_extension("unfinished");
    run(Command::new(python).arg("benches/requantise.py").arg(source).arg(format).arg(&unfinished))?;
    Ok(std::fs::rename(unfinished, file)?)
}

/// Compiles llama.cpp as its own build does by default, for this processor.
fn native(venv: &Path) -> anyhow::Result<PathBuf> {
    let dir = root().join("target/llama.cpp");
    let library = dir.join("build/bin/libllama.so");
    if library.exists() {
        return Ok(library);
    }
    let bin = venv.join("bin");
    let (package, _) = SOURCE.split_once("==").context("a version of llama.cpp is named")?;
    run(Command::new(bin.join("python"))
        // The source of this one, but not of what its build asks for: a compiler of build files would be compiled first.
        .args(["-m", "pip", "download", "-q", "--no-deps", "--no-binary", package, "-d"])
        .arg(&dir)
        .arg(SOURCE))?;
    let archive = dir.join(format!("{}.tar.gz", SOURCE.replace("==", "-").replacen('-', "_", 2)));
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&dir))?;
    let source = archive.with_extension("").with_extension("").join("vendor/llama.cpp");
    let parts = ["TOOLS", "EXAMPLES", "TESTS", "SERVER", "COMMON"];
    // Some compilers lose what is written before a tile is configured, and the program with it.
    let safe = "-fno-tree-dse -fno-dse";
    run(Command::new(bin.join("cmake"))
        .args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON"])
        .arg(format!("-DCMAKE_MAKE_PROGRAM={}", bin.join("ninja").display()))
        .arg(format!("-DCMAKE_CXX_FLAGS={safe}"))
        .args(parts.map(|part| format!("-DLLAMA_BUILD_{part}=OFF")))
        .arg("-S")
        .arg(source)
        .arg("-B")
        .arg(dir.join("build")))?;
    run(Command::new(bin.join("cmake"))
        .args(["--build"])
        .arg(dir.join("build"))
        .args(["--target", "llama", "-j2"]))?;
    Ok(library)
}

/// What is run.
struct Programs {
    program: PathBuf,
    python: PathBuf,
    library: PathBuf,
}

impl Programs {
    /// What both print is JSON, with a number for each figure.
    fn ours(&self, file: &Path, threads: usize, figures: &[&str]) -> anyhow::Result<serde_json::Value> {
        let mut command = Command::new(&self.program);
        command.arg("bench").arg("--model").arg(file).arg("--only").arg(figures.join(","));
        command.args(["--json", "--threads", &threads.to_string(), "--repeat", "1"]);
        // Nothing that is set for daily use may change what is measured.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEMOTERM_")) {
            command.env_remove(name);
        }
        answer(command.env("XDG_CONFIG_HOME", weights_dir().join("no-configuration")))
    }

    fn theirs(&self, file: &Path, threads: usize, figures: &[&str]) -> anyhow::Result<serde_json::Value> {
        let mut command = Command::new(&self.python);
        command.arg(root().join("benches/llama_cpp.py")).arg(&self.library).arg(file);
        answer(command.args([&threads.to_string(), "1"]).args(figures))
    }
}

fn answer(command: &mut Command) -> anyhow::Result<serde_json::Value> {
    let output = command.output().with_context(|| format!("{command:?} can't be run"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, error.trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Prints a line for each figure of one model: both engines' medians over the rounds, in tokens a second, and their ratio.
fn measure(
    programs: &Programs,
    name: &str,
    file: &Path,
    threads: usize,
    large: bool,
    rounds: usize,
    heading: &mut bool,
) -> anyhow::Result<()> {
    // 128 tokens of a large model take minutes, and each takes as long as the other.
    let figures = if large { ["pp64", "pp256", "tg32"] } else { ["pp64", "pp256", "tg128"] };
    let mut all = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let ours = || programs.ours(file, threads, &figures);
        let theirs = || programs.theirs(file, threads, &figures);
        let (ours, theirs) = if round % 2 == 0 {
            let ours = ours()?;
            (ours, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        };
        if std::mem::take(heading) {
            println!("llama.cpp: {}", theirs["system"].as_str().unwrap_or("unknown"));
            println!(
                "{:<18} {:>7} {:>6} {:>10} {:>10} {:>7}",
                "model", "threads", "what", "nemoterm", "llama.cpp", "ratio"
            );
        }
        for (figure, values) in figures.iter().zip(&mut all) {
            let of = |figures: &serde_json::Value, whose: &str| {
                figures[*figure].as_f64().with_context(|| format!("no {figure} of {whose}"))
            };
            values.push([of(&ours, "nemoterm")?, of(&theirs, "llama.cpp")?]);
        }
    }
    for (figure, values) in figures.iter().zip(&all) {
        let [ours, theirs] = [0, 1].map(|which| median(values.iter().map(|pair| pair[which]).collect()));
        println!("{name:<18} {threads:>7} {figure:>6} {ours:>10.1} {theirs:>10.1} {:>7.2}", ours / theirs);
    }
    Ok(())
}

/// The middle of some numbers, of which there is at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
