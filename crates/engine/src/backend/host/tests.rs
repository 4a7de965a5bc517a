//! A prompt on several threads gives the same bits as on one.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;
use crate::weights::{Bytes, ElementType};

/// Of three heads with one of keys, half of each rotated.
const SHAPE: AttentionShape = AttentionShape {
    heads: 6,
    kv_heads: 2,
    head_dim: 32,
    rotary_dim: 16,
    rope_style: RopeStyle::Halves,
    scale: 0.17,
};
const WIDTH: usize = 192;
const UP: usize = 416;
/// More rows than are worked on by one thread, and no multiple of any tile.
const COUNT: usize = 131;
/// Positions before them.
const START: usize = 5;

/// Numbers in [-1, 1] that are the same every time.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + seed) as f32 * 0.37).sin()).collect()
}

fn linear(host: &Host, format: (ElementType, GgmlDType), outputs: &[usize], inputs: usize) -> HostLinear {
    let parts = outputs.iter().enumerate().map(|(seed, &outputs)| {
        let source =
            Tensor::from_vec(numbers(outputs * inputs, seed), (outputs, inputs), &Device::Cpu).unwrap();
        let bytes = QTensor::quantize(&source, format.1).unwrap().data().unwrap().to_vec();
        RawTensor::new(format.0, vec![outputs, inputs], Bytes::from_vec(bytes)).unwrap()
    });
    let bias = numbers(outputs.iter().sum(), 9);
    host.linear(parts.collect(), Some(bias)).unwrap()
}

/// What a layer makes of a prompt, and of a row after it.
fn layer(host: &Host, format: (ElementType, GgmlDType), activation: Activation) -> Vec<Vec<f32>> {
    let norm = |width, seed| {
        host.norm(NormKind::Layer, 1e-5, numbers(width, seed), numbers(width, seed + 1)).unwrap()
    };
    let norms = [norm(WIDTH, 3), norm(SHAPE.head_dim, 4), norm(SHAPE.head_dim, 5)];
    let half = SHAPE.rotary_dim / 2;
    let positions = START + COUNT + 1;
    let rope =
        RopeTable { cos: numbers(positions * half, 6), sin: numbers(positions * half, 7), positions, half };
    let up_width = if activation == Activation::ReluSquared { vec![UP] } else { vec![UP, UP] };
    let qkv = linear(host, format, &[SHAPE.query_width(), SHAPE.kv_width(), SHAPE.kv_width()], WIDTH);
    let (output, up) = (linear(host, format, &[WIDTH], WIDTH), linear(host, format, &up_width, WIDTH));
    let down = linear(host, format, &[WIDTH], UP);
    let mut kv = host.kv(&SHAPE, positions).unwrap();
    host.run(|| {
        let mut pass = |start: usize, count: usize| -> Vec<f32> {
            let mut x = Rows { values: numbers(count * WIDTH, start), count };
            let attention = Attention {
                shape: &SHAPE,
                rope: Some(&rope),
                query_norm: Some(&norms[1]),
                key_norm: Some(&norms[2]),
                window: None,
            };
            let normed = host.apply_norm(&norms[0], &x).unwrap();
            let attended =
                host.attend(host.apply(&qkv, &normed).unwrap(), &mut kv, &attention, start).unwrap();
            host.apply_onto(&output, &attended, &mut x).unwrap();
            let normed = host.apply_norm(&norms[0], &x).unwrap();
            let up = host.activate(activation, host.apply(&up, &normed).unwrap()).unwrap();
            host.apply_onto(&down, &up, &mut x).unwrap();
            x.values.clone()
        };
        vec![pass(0, START), pass(START, COUNT), pass(START + COUNT, 1)]
    })
}

#[test]
fn a_prompt_gives_the_same_bits_on_several_threads() {
    assert!(Team::new(2).unwrap().rows_of_each(COUNT, WIDTH).is_some(), "there are enough numbers to share");
    let (alone, shared) = (Host::new(1).unwrap(), Host::new(3).unwrap());
    for format in [
        (ElementType::Q8_0, GgmlDType::Q8_0),
        (ElementType::Q4_1, GgmlDType::Q4_1),
        (ElementType::F16, GgmlDType::F16),
    ] {
        for activation in [Activation::ReluSquared, Activation::SiluGate, Activation::GeluGate] {
            let same = layer(&alone, format, activation) == layer(&shared, format, activation);
            assert!(same, "{format:?}, {activation:?}");
        }
    }
}
