//! NVIDIA's cards against the processor. This is compiled where the engine is built for them, and runs on a card or in the emulator
//! (`cargo xtask cuda`).

use candle_core::quantized::GgmlDType;
use tempfile::tempdir;

use super::drafts::{Twins, embedded};
use super::fabricate::{Fabricated, Shape, TYPES};
use crate::decoder::Run;
use crate::kernels::math;
use crate::{DeviceChoice, LoadOptions, Model, Recordings, Source};

fn load(source: &Source, device: DeviceChoice) -> Model {
    Model::load(source, &LoadOptions { device, threads: Some(1), ..LoadOptions::default() }).unwrap()
}

/// A model whose matrices are wide enough for every format, with half of each head rotated and a group of heads to each key.
fn fabricated() -> Fabricated {
    Fabricated::new(Shape { hidden: 256, feed_forward: 512, head_dim: 64, ..Shape::nemotron(8, 2, 0.5) })
}

/// Cosine of the angle between two rows.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn every_type_of_weights_gives_the_logits_of_the_processor() {
    let fabricated = fabricated();
    let tokens: Vec<u32> = (0..70).map(|i| 3 + i * 7 % 23).collect();
    for element in TYPES {
        let directory = tempdir().unwrap();
        let path = directory.path().join("model.gguf");
        std::fs::write(&path, fabricated.gguf(element)).unwrap();
        let source = Source::Gguf(path);
        let want = load(&source, DeviceChoice::Cpu).logits(&tokens).unwrap();
        let card = load(&source, DeviceChoice::Cuda(0));
        // A token at a time, which is recorded; some; and more than the kernels for few rows take.
        for at_once in [1, 3, 5, 8, 70] {
            let have = card.logits_by(&tokens, at_once).unwrap();
            for (i, (have, want)) in have.iter().zip(&want).enumerate() {
                let alike = likeness(have, want);
                assert!(alike > 0.9997, "{element:?}, {at_once} at once, position {i}: {alike}");
            }
        }
    }
}

/// Rows from position `before` on: alone, with others of their text, and beside other texts; the first time and recorded.
fn check_rows(card: &Model, before: usize) {
    let mut session = card.session(4).unwrap();
    let tokens: Vec<u32> = (0..before + 20).map(|i| (3 + i * 5 % 23) as u32).collect();
    session.forward_all(&[Run { slot: 0, tokens: &tokens[..before], rows: 0, cut: None }]).unwrap();
    let rest = &tokens[before..];
    let alone: Vec<f32> = rest.iter().flat_map(|&token| session.forward(0, &[token], 1).unwrap()).collect();
    for slot in 1..4 {
        session.fork(0, slot, before, 0).unwrap();
    }
    let width = card.info().vocabulary;
    for round in 0..4 {
        for slot in 0..4 {
            session.truncate(slot, before);
        }
        let mut row = 0;
        for some in rest.chunks(4) {
            let have = session.forward(0, some, some.len()).unwrap();
            assert_eq!(have, alone[row * width..][..have.len()], "round {round}, row {row}");
            row += some.len();
        }
        // Beside other texts, each in a cache of its own and at another position.
        session.truncate(0, before);
        session.forward(1, &rest[..3], 0).unwrap();
        let runs = [
            Run { slot: 0, tokens: &rest[..2], rows: 1, cut: None },
            Run { slot: 1, tokens: &rest[3..6], rows: 3, cut: None },
            Run { slot: 2, tokens: &rest[..1], rows: 1, cut: None },
        ];
        let have = session.forward_all(&runs).unwrap();
        let rows: Vec<&[f32]> = [1, 3, 4, 5, 0].map(|row| &alone[row * width..][..width]).to_vec();
        assert_eq!(have, rows.concat(), "round {round}, three texts");
    }
    let recordings = card.recordings().unwrap();
    assert_eq!(recordings.refusal, None);
    assert!(recordings.kept >= 3, "{recordings:?}");
}

#[test]
fn a_row_is_the_same_alone_and_with_others_and_from_a_recorded_pass() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, fabricated().gguf(GgmlDType::Q4K)).unwrap();
    // Across the end of a chunk of positions.
    check_rows(&load(&Source::Gguf(path), DeviceChoice::Cuda(0)), 60);
    // Across the end of what caches hold at first, and of what a recorded pass serves.
    check_rows(&load(&embedded(), DeviceChoice::Cuda(0)), 246);
}

#[test]
fn passes_of_two_caches_in_turn_are_recorded_both() {
    let card = load(&embedded(), DeviceChoice::Cuda(0));
    let mut session = card.session(2).unwrap();
    // What the first recording keeps, the second one has to find anew.
    for token in 5..10 {
        for slot in [0, 1] {
            session.forward(slot, &[token], 1).unwrap();
        }
    }
    assert_eq!(card.recordings().unwrap(), Recordings { kept: 2, refusal: None });
}

#[test]
fn the_likeliest_token_is_that_of_the_logits() {
    let card = load(&embedded(), DeviceChoice::Cuda(0));
    let mut session = card.session(1).unwrap();
    for tokens in [&[7, 8, 9][..], &[10], &[11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]] {
        let run = |rows| Run { slot: 0, tokens, rows, cut: None };
        let best = session.forward_best(&[run(tokens.len())]).unwrap();
        session.truncate(0, 0);
        let logits = session.forward_all(&[run(tokens.len())]).unwrap();
        session.truncate(0, 0);
        for (best, row) in best.into_iter().zip(logits.chunks_exact(card.info().vocabulary)) {
            let best = best.unwrap();
            assert_eq!(best.token as usize, math::argmax(row).unwrap());
            assert_eq!(best.logit, row[best.token as usize]);
            assert!((best.log_sum_exp - math::log_sum_exp(row)).abs() < 1e-4, "{best:?}");
        }
    }
}

#[test]
fn drafts_change_nothing() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["nemotron-3-1", "gemma3-3-1"] {
        let source = Source::Directory(fixtures.join(name));
        let mut twins = Twins::on(&source, DeviceChoice::Cuda(0), 1);
        twins.check_all(&["ab ab ab ab ab a"]);
        assert!(twins.drafted > 0 && twins.accepted > 0, "{} of {}", twins.accepted, twins.drafted);
    }
}
