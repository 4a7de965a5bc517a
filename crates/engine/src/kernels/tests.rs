//! Every format against the tensor library's quantiser, and the vector kernels against plain arithmetic.

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::interleaved::Way;
use super::{Activations, Heads, Kept, Kind, attend, dequantise, math, multiply, quantise_q8_0};
use crate::team::Team;
use crate::weights::ElementType;

const ALL: [ElementType; 11] = [
    ElementType::F32,
    ElementType::F16,
    ElementType::BF16,
    ElementType::Q4_0,
    ElementType::Q4_1,
    ElementType::Q5_0,
    ElementType::Q5_1,
    ElementType::Q8_0,
    ElementType::Q4K,
    ElementType::Q5K,
    ElementType::Q6K,
];

/// Numbers in [-1, 1) that look random and are the same every time.
pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The bytes of a matrix, and what the tensor library takes them for.
pub(super) fn matrix(element: ElementType, rows: usize, width: usize) -> (Vec<u8>, Vec<f32>) {
    let source = Tensor::from_vec(numbers(rows * width, 7), (rows, width), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&source, element.to_candle()).unwrap();
    let values = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (quantised.data().unwrap().into_owned(), values)
}

#[test]
fn formats_are_read_as_the_tensor_library_reads_them() {
    for element in ALL {
        let (bytes, want) = matrix(element, 3, 512);
        let mut have = vec![0.0; want.len()];
        dequantise(element, &bytes, &mut have);
        for (i, (have, want)) in have.iter().zip(&want).enumerate() {
            assert!((have - want).abs() <= want.abs() * 1e-6, "{element:?} {i}: {have} is not {want}");
        }
    }
}

#[test]
fn groups_are_quantised_alike_in_vectors() {
    let mut all = numbers(64 * 32, 5);
    all[32..64].fill(0.0);
    all[64..96].copy_from_slice(&std::array::from_fn::<f32, 32, _>(|i| 15.5 - i as f32));
    all[96..128].iter_mut().for_each(|x| *x *= 1e-30);
    for numbers in all.as_chunks::<32>().0 {
        let packed = math::quantise(numbers, 32);
        let super::Rest::One(groups) = &packed.rest else { panic!("one row") };
        let have = groups[0][0];
        let largest = numbers.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let scale = largest / 127.0;
        assert_eq!(have.scale.to_bits(), scale.to_bits());
        for (value, x) in have.values.iter().zip(numbers) {
            assert!((f32::from(*value) * scale - x).abs() <= 0.501 * scale, "{value} {x}");
        }
        let sum: i32 = have.values.iter().map(|&value| i32::from(value)).sum();
        assert_eq!(have.sum.to_bits(), (scale * sum as f32).to_bits());
        #[cfg(target_arch = "x86_64")]
        if super::has_vnni() {
            let same = super::panels::Activations::new(numbers, 32, &Team::alone());
            assert_eq!(same.first_group(), (have.values.map(|v| v.cast_unsigned() ^ 0x80), scale, have.sum));
        }
    }
}

#[test]
fn blocks_of_eight_bits_are_those_of_the_tensor_library() {
    let mut all = numbers(64 * 32, 11);
    all[32..64].fill(0.0);
    // Halves between two integers, and a scale below what half precision can hold.
    all[64..96].copy_from_slice(&std::array::from_fn::<f32, 32, _>(|i| i as f32 - 15.5));
    all[95] = 127.0;
    all[96..128].iter_mut().for_each(|x| *x *= 1e-8);
    let source = Tensor::from_vec(all.clone(), (1, 64 * 32), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&source, ElementType::Q8_0.to_candle()).unwrap();
    assert_eq!(quantise_q8_0(&all), quantised.data().unwrap().into_owned());
}

/// Rows of weights and of activations: few and many of both, and no multiples of what is taken together.
const SHAPES: [(usize, usize); 13] = [
    (1, 1),
    (3, 1),
    (21, 1),
    (5, 2),
    (5, 3),
    (35, 4),
    (18, 5),
    (7, 11),
    (16, 9),
    (33, 13),
    (48, 14),
    (61, 16),
    (64, 24),
];

#[test]
fn products_are_those_of_plain_arithmetic() {
    for element in ALL {
        for (rows, count) in SHAPES {
            let width = 512;
            let (bytes, weights) = matrix(element, rows, width);
            // Whole numbers with a 127 in every group survive the quantisation of activations unchanged.
            let mut activations: Vec<f32> =
                numbers(count * width, 11).iter().map(|x| (x * 120.0).round()).collect();
            for group in activations.chunks_mut(32) {
                group[5] = 127.0;
            }
            for &kind in Kind::ALL.iter().filter(|kind| kind.suits(element, width, count)) {
                let mut have = vec![f32::NAN; rows * count];
                let prepared = Activations::of(kind, &activations, width, &Team::alone());
                multiply(element, &bytes, false, &prepared, &mut have);
                for (r, weights) in weights.chunks_exact(width).enumerate() {
                    for (i, activations) in activations.chunks_exact(width).enumerate() {
                        let pairs = weights.iter().zip(activations);
                        let want: f64 = pairs.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let have = have[if prepared.by_activations() { i * rows + r } else { r * count + i }];
                        let difference = (f64::from(have) - want).abs();
                        assert!(
                            difference < 2e-2,
                            "{kind:?}, {element:?} {rows}x{count} ({r}, {i}): {have} is not {want}"
                        );
                    }
                }
            }
        }
    }
}

/// Matrices that stay in another order are those they were, and each row is the same with any others.
#[test]
fn kept_matrices_are_multiplied_as_others_are() {
    for way in Way::all() {
        for (elements, rows) in [
            (&[ElementType::Q8_0][..], &[16][..]),
            (&[ElementType::Q8_0, ElementType::Q8_0, ElementType::Q4_0], &[64, 32, 48]),
            (&[ElementType::Q4_1], &[80]),
            (&[ElementType::Q4K, ElementType::Q4_1], &[80, 112]),
        ] {
            check_kept(way, elements, rows);
        }
    }
}

fn check_kept(way: Way, elements: &[ElementType], rows: &[usize]) {
    const WIDTH: usize = 256;
    let matrices: Vec<(Vec<u8>, Vec<f32>)> =
        elements.iter().zip(rows).map(|(&element, &rows)| matrix(element, rows, WIDTH)).collect();
    let parts = elements.iter().zip(rows).zip(&matrices);
    let parts = parts.map(|((&element, &rows), (bytes, _))| (element, bytes.as_slice(), rows));
    let Some(kept) = Kept::by(way, parts.clone(), WIDTH) else {
        println!("skipped: {way:?} keeps no {elements:?}");
        return;
    };
    // Rows that make no whole stripe, and formats of which there are none.
    let fewer = parts.clone().map(|(element, bytes, rows)| (element, bytes, rows - 1));
    assert!(Kept::by(way, fewer, WIDTH).is_none());
    let halves = [(ElementType::F16, &[0; 16 * WIDTH * 2][..], 16)];
    assert!(Kept::by(way, halves.into_iter(), WIDTH).is_none());
    let weights: Vec<f32> = matrices.iter().flat_map(|(_, weights)| weights.clone()).collect();
    let outputs = weights.len() / WIDTH;
    let activations: Vec<f32> = numbers(19 * WIDTH, 11)
        .iter()
        .enumerate()
        .map(|(i, x)| if i % 32 == 5 { 127.0 } else { (x * 120.0).round() })
        .collect();
    let product = |activations: &[f32]| {
        let mut out = vec![f32::NAN; activations.len() / WIDTH * outputs];
        kept.multiply(activations, WIDTH, &mut out);
        out
    };
    let alone: Vec<Vec<f32>> = activations.chunks_exact(WIDTH).map(product).collect();
    for (have, activations) in alone.iter().zip(activations.chunks_exact(WIDTH)) {
        for (have, weights) in have.iter().zip(weights.chunks_exact(WIDTH)) {
            let want: f64 = weights.iter().zip(activations).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            assert!((f64::from(*have) - want).abs() < 1e-2, "{way:?}, {elements:?}: {have} is not {want}");
        }
    }
    for count in 2..=19 {
        let together = product(&activations[..count * WIDTH]);
        for (i, (have, alone)) in together.chunks_exact(outputs).zip(&alone).enumerate() {
            assert_eq!(have, alone, "{way:?}, {elements:?}, row {i} of {count}");
        }
    }
}

#[test]
fn widths_that_are_no_multiple_of_a_register_work() {
    let (width, rows) = (37, 5);
    let (bytes, weights) = matrix(ElementType::F16, rows, width);
    let activations = numbers(2 * width, 3);
    let mut have = vec![0.0; rows * 2];
    let prepared = Activations::new(&activations, width, ElementType::F16, false, &Team::alone());
    multiply(ElementType::F16, &bytes, false, &prepared, &mut have);
    for (r, have) in have.chunks(2).enumerate() {
        for (i, have) in have.iter().enumerate() {
            let want =
                math::dot(&weights[r * width..(r + 1) * width], &activations[i * width..(i + 1) * width]);
            assert!((have - want).abs() < 1e-4);
        }
    }
}

#[test]
fn attention_is_that_of_plain_arithmetic() {
    // Heads that are no multiple of a register, and counts of positions that are none of four or eight.
    for (head, positions) in
        [(8, 1), (20, 3), (32, 4), (64, 9), (5, 14), (32, 24), (40, 29), (16, 8), (128, 17), (24, 16)]
    {
        let stride = 2 * head + 3;
        for count in 1..=7 {
            let (queries, keys, values) =
                (numbers(count * head, 2), numbers(positions * stride, 4), numbers(positions * stride, 6));
            for attend in [attend, math::attend] {
                let heads = Heads { queries: &queries, keys: &keys, values: &values, stride, width: head };
                let mut have = vec![f32::NAN; count * head];
                attend(&heads, &mut vec![0.0; count * positions], &mut have);
                for (query, have) in queries.chunks_exact(head).zip(have.chunks_exact(head)) {
                    let score = |p: usize| -> f64 {
                        query
                            .iter()
                            .zip(&keys[p * stride..])
                            .map(|(&q, &k)| f64::from(q) * f64::from(k))
                            .sum()
                    };
                    let weights: Vec<f64> = (0..positions).map(|p| score(p).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (i, have) in have.iter().enumerate() {
                        let of = |(p, w): (usize, &f64)| w * f64::from(values[p * stride + i]);
                        let want: f64 = weights.iter().enumerate().map(of).sum();
                        assert!(
                            (f64::from(*have) - want / total).abs() < 1e-5,
                            "{head} {positions} {count} {i}: {have}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn log_sum_exp_is_accurate() {
    for count in [1, 7, 8, 100] {
        let values: Vec<f32> = numbers(count, 5).iter().map(|x| x * 30.0).collect();
        let want = values.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(math::log_sum_exp(&values)) - want).abs() < 1e-5);
    }
    assert_eq!(math::log_sum_exp(&[]), f32::NEG_INFINITY);
}

#[test]
fn weights_are_exponentials_and_nothing_where_negligible() {
    let mut values: Vec<f32> = numbers(37, 3).iter().map(|x| 12.0 * x).collect();
    values[5] = 12.0;
    values[11] = f32::NEG_INFINITY;
    let mut weights = vec![1.0; values.len()];
    let sum = math::weigh(&values, 12.0, 1.25, &mut weights);
    let mut expected = 0.0;
    for (value, weight) in values.iter().zip(&weights) {
        let exponent = (f64::from(*value) - 12.0) * 1.25;
        let exact = if exponent > -20.0 { exponent.exp() } else { 0.0 };
        assert!((f64::from(*weight) - exact).abs() <= 2e-6 * exact, "{value}: {weight}, {exact}");
        expected += exact;
    }
    assert!((f64::from(sum) - expected).abs() < 1e-5 && (math::sum(&weights) - sum).abs() < 1e-5);
    assert!(weights.contains(&0.0));
}

#[test]
fn argmax_finds_the_first_of_equals() {
    assert_eq!(math::argmax(&[]), None);
    assert_eq!(math::argmax(&[f32::NEG_INFINITY; 3]), Some(0));
    let mut values = numbers(300, 9);
    values[130] = 2.0;
    values[200] = 2.0;
    assert_eq!(math::argmax(&values), Some(130));
}

/// So many rows of activations may be multiplied in another way than fewer.
#[cfg(target_arch = "x86_64")]
const MANY: usize = super::panels::LEAST;
#[cfg(not(target_arch = "x86_64"))]
const MANY: usize = 9;

/// Drafts rest on this: a row that is verified with others has to give what it gives alone.
#[test]
fn a_row_is_the_same_bit_for_bit_alone_and_with_others() {
    const WIDTH: usize = 512;
    const OUTPUTS: usize = 37;
    let rows = numbers(MANY * WIDTH, 11);
    for element in ALL {
        let (bytes, _) = matrix(element, OUTPUTS, WIDTH);
        // Every way a row that stands alone may be multiplied.
        for &kind in Kind::ALL.iter().filter(|kind| kind.suits(element, WIDTH, 1)) {
            let product = |rows: &[f32]| {
                let count = rows.len() / WIDTH;
                let mut out = vec![0.0; OUTPUTS * count];
                multiply(
                    element,
                    &bytes,
                    false,
                    &Activations::of(kind, rows, WIDTH, &Team::alone()),
                    &mut out,
                );
                out
            };
            let alone: Vec<Vec<f32>> = rows.chunks_exact(WIDTH).map(product).collect();
            // From so many rows on, panels may add up in another order; what is drafted stays below.
            for count in 2..MANY {
                // The way that is taken is the same for all of them.
                assert_eq!(super::kind(element, WIDTH, count, false), super::kind(element, WIDTH, 1, false));
                let together = product(&rows[..count * WIDTH]);
                for (i, alone) in alone[..count].iter().enumerate() {
                    for (output, value) in alone.iter().enumerate() {
                        let other = together[output * count + i];
                        assert_eq!(
                            value.to_bits(),
                            other.to_bits(),
                            "{kind:?}, {element:?}, row {i} of {count}"
                        );
                    }
                }
            }
        }
    }
}
