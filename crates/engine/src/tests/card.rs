//! NVIDIA's cards against the processor. This is compiled where the engine is built for them, and runs on a card or in the emulator
//! (`cargo xtask cuda`).

use candle_core::quantized::GgmlDType;
use tempfile::tempdir;

use super::drafts::Twins;
use super::fabricate::{Fabricated, Shape};
use crate::decoder::Run;
use crate::{DeviceChoice, LoadOptions, Model, Source};

const TYPES: [GgmlDType; 11] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q6K,
    GgmlDType::Q5K,
    GgmlDType::Q4K,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
];

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
                assert!(alike > 0.999, "{element:?}, {at_once} at once, position {i}: {alike}");
            }
        }
    }
}

#[test]
fn a_row_is_the_same_alone_and_with_others_and_from_a_recorded_pass() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, fabricated().gguf(GgmlDType::Q4K)).unwrap();
    let card = load(&Source::Gguf(path), DeviceChoice::Cuda(0));
    let mut session = card.session(4).unwrap();
    let tokens: Vec<u32> = (0..80).map(|i| 3 + i * 5 % 23).collect();
    let prompt = Run { slot: 0, tokens: &tokens[..60], rows: 0, cut: None };
    session.forward_all(&[prompt]).unwrap();
    // Across the end of a chunk of positions, and often enough to be recorded.
    let alone: Vec<f32> =
        tokens[60..].iter().flat_map(|&token| session.forward(0, &[token], 1).unwrap()).collect();
    for slot in 1..4 {
        session.fork(0, slot, 60, 0).unwrap();
    }
    session.truncate(0, 60);
    let width = alone.len() / 20;
    for round in 0..4 {
        for slot in 0..4 {
            session.truncate(slot, 60);
        }
        let mut row = 0;
        for some in tokens[60..].chunks(4) {
            let have = session.forward(0, some, some.len()).unwrap();
            assert_eq!(have, alone[row * width..][..have.len()], "round {round}, row {row}");
            row += some.len();
        }
        // Beside other texts, each in a cache of its own and at another position.
        session.truncate(0, 60);
        session.forward(1, &tokens[60..63], 0).unwrap();
        let runs = [
            Run { slot: 0, tokens: &tokens[60..62], rows: 1, cut: None },
            Run { slot: 1, tokens: &tokens[63..66], rows: 3, cut: None },
            Run { slot: 2, tokens: &tokens[60..61], rows: 1, cut: None },
        ];
        let have = session.forward_all(&runs).unwrap();
        let rows: Vec<&[f32]> = [1, 3, 4, 5, 0].map(|row| &alone[row * width..][..width]).to_vec();
        assert_eq!(have, rows.concat(), "round {round}, three texts");
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
