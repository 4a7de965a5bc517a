//! The models of `tests/fixtures` against the logits that Hugging Face transformers computes for them
//! (`tests/fixtures/make.py`), from both file formats, on both backends, however the positions come into the cache.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::decoder::Run;
use crate::{DeviceChoice, LoadOptions, Model, Source};

/// What the logits may be off by.
const TOLERANCE: f32 = 1e-3;
/// The same on a card, whose caches are f16.
#[cfg(feature = "cuda")]
const CARD_TOLERANCE: f32 = 1e-2;

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    /// One row a position.
    logits: Vec<Vec<f32>>,
}

fn directories() -> Vec<PathBuf> {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<PathBuf> = fixtures
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    assert_eq!(found.len(), 12, "{found:?}");
    found
}

/// The largest difference, which must be within the tolerance.
fn close(have: &[f32], want: &[f32], tolerance: f32, what: &str) -> f32 {
    assert_eq!(have.len(), want.len(), "{what}");
    let largest = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < tolerance, "{what}: {largest}");
    largest
}

/// In one go, token by token, after a wrong turn that is taken back, and forked.
fn check(model: &Model, reference: &Reference, tolerance: f32, what: &str) -> f32 {
    let close = |have: &[f32], want: &[f32], what: &str| close(have, want, tolerance, what);
    let Reference { tokens, logits } = reference;
    let whole = logits.concat();
    assert!(whole.iter().any(|x| x.abs() > 2.0), "{what}: logits are all small");
    let mut largest = close(&model.logits(tokens).unwrap().concat(), &whole, &format!("{what}, in one go"));

    let mut session = model.session(2).unwrap();
    for (i, token) in tokens.iter().enumerate() {
        let row = session.forward(0, &[*token], 1).unwrap();
        largest = largest.max(close(&row, &logits[i], &format!("{what}, token {i} alone")));
    }

    let (reused, wrong) = (9, [3, 1, 4, 1, 5, 9, 2]);
    let left = session.truncate(0, reused);
    if left < reused {
        let tokens = &tokens[left..reused];
        session.forward_all(&[Run { slot: 0, tokens, rows: 0, cut: Some(tokens.len()) }]).unwrap();
    }
    session.forward(0, &wrong, 0).unwrap();
    assert_eq!(session.truncate(0, reused), reused, "{what}");
    assert_eq!(session.fork(0, 1, reused + 5, 0).unwrap(), reused, "{what}");
    for slot in [0, 1] {
        let rest = &tokens[reused..];
        let rows = session.forward(slot, rest, rest.len()).unwrap();
        let what = format!("{what}, reused prefix in cache {slot}");
        largest = largest.max(close(&rows, &logits[reused..].concat(), &what));
    }

    // Cut back to where nothing is kept, in the middle of two texts that are run in one pass.
    assert_eq!(session.truncate(0, 0) + session.truncate(1, 0), 0, "{what}");
    let all = |slot, cut| Run { slot, tokens: tokens.as_slice(), rows: 2, cut: Some(cut) };
    session.forward_all(&[all(0, 6), all(1, tokens.len())]).unwrap();
    let mut lefts = [0; 2];
    for slot in [0, 1] {
        lefts[slot] = session.truncate(slot, 13);
        let rest = &tokens[lefts[slot]..];
        let rows = session.forward(slot, rest, rest.len()).unwrap();
        let what = format!("{what}, cut back to {}", lefts[slot]);
        largest = largest.max(close(&rows, &logits[lefts[slot]..].concat(), &what));
    }
    let expected = if what.contains("nemotron-h") { [6, 0] } else { [13, 13] };
    assert_eq!(lefts, expected, "{what}");
    largest
}

fn load(path: &Path, gguf: bool) -> Source {
    if gguf { Source::Gguf(path.join("model.gguf")) } else { Source::Directory(path.to_owned()) }
}

#[test]
fn logits_are_those_of_transformers() {
    let (mut files, mut largest) = (0, 0.0f32);
    for path in directories() {
        let reference: Reference =
            serde_json::from_slice(&std::fs::read(path.join("logits.json")).unwrap()).unwrap();
        for gguf in [false, true] {
            if gguf && !path.join("model.gguf").is_file() {
                continue;
            }
            let source = load(&path, gguf);
            for threads in [1, 2] {
                let options = LoadOptions {
                    device: DeviceChoice::Cpu,
                    threads: Some(threads),
                    ..LoadOptions::default()
                };
                let model = Model::load(&source, &options).unwrap();
                let what = format!("{source:?} with {threads} threads");
                largest = largest.max(check(&model, &reference, TOLERANCE, &what));
            }
            let model = Model::load_through_tensors(&source).unwrap();
            let what = format!("{source:?} through tensors");
            largest = largest.max(check(&model, &reference, TOLERANCE, &what));
            files += 1;
        }
    }
    println!("largest difference {largest:e}");
    // Three models have what GGUF has no key for, or llama.cpp no use.
    assert_eq!(files, 21);
}

#[cfg(feature = "cuda")]
#[test]
fn logits_on_a_card_are_those_of_transformers() {
    let mut largest = 0.0_f32;
    for path in directories() {
        let reference: Reference =
            serde_json::from_slice(&std::fs::read(path.join("logits.json")).unwrap()).unwrap();
        let options = LoadOptions { device: DeviceChoice::Cuda(0), ..LoadOptions::default() };
        let model = Model::load(&load(&path, false), &options).unwrap();
        let apart = check(&model, &reference, CARD_TOLERANCE, &format!("{}", path.display()));
        println!("{apart:.1e} {}", path.display());
        largest = largest.max(apart);
    }
    println!("largest difference {largest:e}");
}
