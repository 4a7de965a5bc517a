//! The same weights in every file format, on both backends, give the same logits.

use candle_core::quantized::GgmlDType;
use tempfile::tempdir;

use super::fabricate::{Fabricated, Shape};
use crate::{DeviceChoice, LoadOptions, Model, Source};

const TEXT: &str = "git add ls <file> -la größe";

fn cpu(threads: usize) -> LoadOptions {
    LoadOptions { device: DeviceChoice::Cpu, threads: Some(threads), ..LoadOptions::default() }
}

fn logits(model: &Model) -> Vec<f32> {
    let tokens = model.encode(TEXT).unwrap();
    assert_eq!(tokens[0], 256, "begin-of-text");
    assert_eq!(model.decode(&tokens), TEXT);
    model.logits(&tokens).unwrap().concat()
}

fn assert_close(have: &[f32], want: &[f32], most: f32, what: &str) {
    assert_eq!(have.len(), want.len(), "{what}");
    let largest = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < most, "{what}: {largest}");
    assert!(want.iter().any(|x| x.abs() > 0.5), "{what}: logits are all small");
}

#[test]
fn formats_and_backends_agree() {
    let shapes = [
        Shape::llama(3, 3, false),
        Shape::llama(6, 2, true),
        Shape::llama(8, 1, false),
        Shape::nemotron(3, 3, 0.25),
        Shape::nemotron(6, 2, 0.5),
        Shape::nemotron(8, 1, 1.0),
    ];
    for shape in shapes {
        let what = format!("{shape:?}");
        let directory = tempdir().unwrap();
        let fabricated = Fabricated::new(shape);
        let single = directory.path().join("single");
        fabricated.write_directory(&single, 1);
        let want = logits(&Model::load(&Source::Directory(single.clone()), &cpu(1)).unwrap());

        let sharded = directory.path().join("sharded");
        fabricated.write_directory(&sharded, 3);
        let have = logits(&Model::load(&Source::Directory(sharded), &cpu(1)).unwrap());
        assert_eq!(have, want, "sharded {what}");

        let gguf = directory.path().join("model.gguf");
        std::fs::write(&gguf, fabricated.gguf(GgmlDType::F32)).unwrap();
        let have = logits(&Model::load(&Source::Gguf(gguf.clone()), &cpu(2)).unwrap());
        assert_close(&have, &want, 1e-4, &format!("gguf {what}"));

        for source in [Source::Directory(single), Source::Gguf(gguf)] {
            let have = logits(&Model::load_through_tensors(&source).unwrap());
            assert_close(&have, &want, 1e-3, &format!("tensors {source:?} {what}"));
        }
    }
}

#[test]
fn quantised_weights_are_close_to_the_numbers_they_stand_for() {
    // Blocks of 256 need wider rows.
    let shape = Shape { hidden: 256, feed_forward: 512, head_dim: 64, ..Shape::llama(8, 2, true) };
    let fabricated = Fabricated::new(shape);
    for (element, most) in [
        (GgmlDType::F16, 0.02),
        (GgmlDType::BF16, 0.1),
        (GgmlDType::Q8_0, 0.15),
        (GgmlDType::Q6K, 0.4),
        (GgmlDType::Q5K, 0.8),
        (GgmlDType::Q4K, 1.6),
        (GgmlDType::Q5_0, 0.8),
        (GgmlDType::Q5_1, 0.8),
        (GgmlDType::Q4_0, 1.6),
        (GgmlDType::Q4_1, 1.6),
    ] {
        let directory = tempdir().unwrap();
        let write = |name: &str, element| {
            let path = directory.path().join(name);
            std::fs::write(&path, fabricated.gguf(element)).unwrap();
            Source::Gguf(path)
        };
        let exact = logits(&Model::load(&write("f32.gguf", GgmlDType::F32), &cpu(1)).unwrap());
        let source = write("quantised.gguf", element);
        let host = Model::load(&source, &cpu(2)).unwrap();
        assert_eq!(host.info().quantisation.replace('_', ""), format!("{element:?}").replace('_', ""));
        assert_close(&logits(&host), &exact, most, &format!("{element:?} on the host"));
        let tensors = Model::load_through_tensors(&source).unwrap();
        assert_close(&logits(&tensors), &exact, most, &format!("{element:?} through tensors"));
    }
}

#[test]
fn caches_grow_fork_and_shrink_alike_on_both_backends() {
    let directory = tempdir().unwrap();
    Fabricated::new(Shape::nemotron(6, 2, 0.5)).write_directory(directory.path(), 1);
    let source = Source::Directory(directory.path().to_owned());
    for model in [Model::load(&source, &cpu(1)).unwrap(), Model::load_through_tensors(&source).unwrap()] {
        let tokens: Vec<u32> = (0..120).map(|i| i * 37 % 256).collect();
        let want = model.logits(&tokens).unwrap();
        let mut session = model.session(2).unwrap();
        // In pieces, one of them a wrong turn that is taken back.
        session.forward(0, &tokens[..50], 0).unwrap();
        session.forward(0, &[1, 2, 3, 4], 1).unwrap();
        session.truncate(0, 50);
        session.forward(0, &tokens[50..51], 1).unwrap();
        session.fork(0, 1, 40, 0).unwrap();
        let first = session.forward(0, &tokens[51..], 1).unwrap();
        let second = session.forward(1, &tokens[40..], 1).unwrap();
        assert_close(&first, &want[119], 1e-3, "truncated");
        assert_close(&second, &want[119], 1e-3, "forked");
    }
}

#[test]
fn llama3_scaling_stretches_low_frequencies_only() {
    let directory = tempdir().unwrap();
    Fabricated::new(Shape::llama(3, 3, false)).write_directory(directory.path(), 1);
    let path = directory.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["rope_scaling"] = serde_json::json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let plain = crate::config::Config::from_json(&std::fs::read(&path).unwrap(), "plain").unwrap();
    let scaled = crate::config::Config::from_json(config.to_string().as_bytes(), "scaled").unwrap();
    let ratios: Vec<f64> =
        plain.rope.frequencies(24).iter().zip(scaled.rope.frequencies(24)).map(|(a, b)| a / b).collect();
    assert!((ratios[0] - 1.0).abs() < 1e-9 && (ratios[11] - 8.0).abs() < 1e-9, "{ratios:?}");
    assert!(ratios.is_sorted(), "{ratios:?}");
}
