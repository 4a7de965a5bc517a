use super::{gains, interleave};
use crate::kernels::tests::{matrix, numbers};
use crate::kernels::{Activations, PART, multiply};
use crate::weights::ElementType;

const WIDTH: usize = 768;
const ALL: [ElementType; 5] =
    [ElementType::Q4_0, ElementType::Q4_1, ElementType::Q8_0, ElementType::Q4K, ElementType::Q6K];

/// The products `out[i * rows + row]` of a matrix in both orders; nothing where the processor has no other one.
fn products(
    element: ElementType,
    bytes: &[u8],
    width: usize,
    rows: usize,
    activations: &[f32],
) -> Option<[Vec<f32>; 2]> {
    if !gains(element, rows, width) {
        return None;
    }
    let mut interleaved = vec![0; bytes.len()];
    // In parts, as several threads do it.
    let part = PART * element.row_bytes(width);
    for (out, weights) in interleaved.chunks_mut(part).zip(bytes.chunks(part)) {
        interleave(element, weights, width, out);
    }
    let count = activations.len() / width;
    Some([(bytes, false), (&interleaved, true)].map(|(bytes, is_interleaved)| {
        let prepared = Activations::new(activations, width, element, is_interleaved);
        let mut products = vec![f32::NAN; rows * count];
        multiply(element, bytes, is_interleaved, &prepared, &mut products);
        if prepared.by_activations() {
            return products;
        }
        (0..products.len()).map(|i| products[i % rows * count + i / rows]).collect()
    }))
}

#[test]
fn matrices_are_what_they_were() {
    for element in ALL {
        if !gains(element, 16, WIDTH) {
            println!("skipped: this processor has no other order of {element:?}");
            continue;
        }
        for rows in [16, 32, 48, 80, 112] {
            // No multiple of 256 where the format allows that.
            let width = if element.block() == 256 { WIDTH } else { 96 };
            let (bytes, weights) = matrix(element, rows, width);
            for count in 1..=20 {
                // Whole numbers with a 127 in every group survive the quantisation of activations unchanged.
                let mut activations: Vec<f32> =
                    numbers(count * width, 11).iter().map(|x| (x * 120.0).round()).collect();
                activations.chunks_mut(32).for_each(|group| group[5] = 127.0);
                let [_, have] = products(element, &bytes, width, rows, &activations).unwrap();
                let pairs = have.chunks_exact(rows).zip(activations.chunks_exact(width));
                for (have, activations) in pairs {
                    for (have, weights) in have.iter().zip(weights.chunks_exact(width)) {
                        let products = weights.iter().zip(activations);
                        let want: f64 = products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let difference = (f64::from(*have) - want).abs();
                        assert!(difference < 2e-2, "{element:?} {rows} rows, {count}: {have} is not {want}");
                    }
                }
            }
        }
    }
}

/// Drafts rest on the former, and prompts are as they were.
#[test]
fn a_row_is_the_same_alone_and_with_others_and_so_are_panels() {
    let rows = 80;
    for element in ALL {
        let (bytes, _) = matrix(element, rows, WIDTH);
        let activations = numbers(20 * WIDTH, 3);
        let product = |from: usize, count: usize| {
            products(element, &bytes, WIDTH, rows, &activations[from * WIDTH..][..count * WIDTH])
        };
        let Some([_, first]) = product(0, 1) else {
            println!("skipped: this processor has no other order of {element:?}");
            continue;
        };
        for count in 2..=8 {
            let [in_file_order, together] = product(0, count).unwrap();
            assert_eq!(first, together[..rows], "{element:?} {count}");
            for (i, row) in together.chunks_exact(rows).enumerate() {
                assert_eq!(product(i, 1).unwrap()[1], row, "{element:?}, row {i} of {count}");
            }
            for (have, want) in together.iter().zip(&in_file_order) {
                assert!((have - want).abs() < 1e-4, "{element:?}: {have} is not {want}");
            }
        }
        // From so many rows on those in file order come in panels, but for the format that none are made of.
        for count in [9, 20].into_iter().filter(|_| element != ElementType::Q6K) {
            let [in_file_order, interleaved] = product(0, count).unwrap();
            assert_eq!(in_file_order, interleaved, "{element:?} {count}");
        }
    }
}

#[test]
fn what_is_no_sixteen_rows_of_certain_formats_stays_as_it_is() {
    for (element, rows, width) in [
        (ElementType::Q4K, 0, 256),
        (ElementType::Q4K, 15, 256),
        (ElementType::Q4_1, 24, 64),
        (ElementType::Q4_1, 16, 0),
        (ElementType::Q4K, 16, 64),
        (ElementType::Q8_0, 16, 48),
        (ElementType::Q5K, 16, 256),
        (ElementType::F16, 16, 32),
    ] {
        assert!(!gains(element, rows, width), "{element:?} {rows} {width}");
    }
}
