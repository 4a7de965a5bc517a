//! The graphics card, its driver, and whether there is a program that uses them.

use std::fs;

use super::{
    Finding,
    problems::{CUDA_PROGRAM_FAILS, NO_CUDA_PROGRAM, NO_DRIVER},
};
use crate::daemon_process::{Program, cuda_driver};

/// What there is of NVIDIA's; nothing on other systems than Linux, where the program knows by itself what to use.
pub(super) fn gpu() -> Option<Finding> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let cards = cards();
    let driver = cuda_driver();
    let version = fs::read_to_string("/proc/driver/nvidia/version").ok().and_then(|text| version(&text));
    let named = if cards.is_empty() { "an NVIDIA card".to_owned() } else { cards.join(", ") };
    let named = version.map_or_else(|| named.clone(), |version| format!("{named}, driver {version}"));
    if !driver {
        return Some(if cards.is_empty() {
            Finding::good("gpu", "no NVIDIA card is here: the model runs on the processor")
        } else {
            Finding::bad(&NO_DRIVER, format!("{named}: its library libcuda.so.1 can't be loaded"))
        });
    }
    let program = Program::find().ok();
    if let Some(why) = program.as_ref().and_then(|program| program.cuda_fails.as_ref()) {
        return Some(Finding::bad(&CUDA_PROGRAM_FAILS, format!("{named}: {why}")));
    }
    let uses_it = program.is_some_and(|program| {
        program.path.file_name().is_some_and(|name| name.to_string_lossy().contains("cuda"))
    });
    // Who names a program has a reason.
    let is_named = std::env::var_os("NEMOTERM_DAEMON").is_some();
    Some(if uses_it || is_named {
        Finding::good("gpu", named)
    } else {
        Finding::bad(&NO_CUDA_PROGRAM, format!("{named}: there is no nemotermd-cuda to use it"))
    })
}

/// The cards the kernel's module knows.
fn cards() -> Vec<String> {
    let entries = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path().join("information")).ok());
    texts.filter_map(|text| model(&text)).collect()
}

/// The name of a card, of what the module says about it.
fn model(text: &str) -> Option<String> {
    let (_, model) = text.lines().next()?.split_once(':')?;
    Some(model.trim().to_owned()).filter(|model| !model.is_empty())
}

/// The release of a driver, of what it says about itself.
fn version(text: &str) -> Option<String> {
    let words = text.lines().next()?.split_whitespace();
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    words.into_iter().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_drivers_are_named() {
        let text = "Model: \t\t NVIDIA GeForce RTX 4070\nIRQ:   \t\t 159\n";
        assert_eq!(model(text).as_deref(), Some("NVIDIA GeForce RTX 4070"));
        assert_eq!(model(""), None);
        let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version:\n";
        assert_eq!(version(text).as_deref(), Some("550.54.14"));
        assert_eq!(version("nonsense"), None);
    }
}
