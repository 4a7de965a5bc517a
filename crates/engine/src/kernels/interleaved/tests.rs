use std::ops::Range;

use super::{Activations as Groups, Way, gains, layout, way};
use crate::kernels::tests::{matrix, numbers};
use crate::kernels::{Activations, PART, multiply};
use crate::team::Team;
use crate::weights::ElementType;

const WIDTH: usize = 768;
const ALL: [ElementType; 5] =
    [ElementType::Q4_0, ElementType::Q4_1, ElementType::Q8_0, ElementType::Q4K, ElementType::Q6K];

/// Every format in every way that this processor has for it.
fn ways() -> Vec<(Way, ElementType)> {
    let ways: Vec<_> = Way::all()
        .flat_map(|way| ALL.map(|element| (way, element)))
        .filter(|(way, element)| way.suits(*element))
        .collect();
    if ways.is_empty() {
        println!("skipped: this processor has no other order");
    }
    ways
}

/// The matrix in that order.
fn interleaved(way: Way, element: ElementType, bytes: &[u8], width: usize) -> Vec<u8> {
    let mut interleaved = vec![0; bytes.len()];
    // In parts, as several threads do it.
    let part = PART * element.row_bytes(width);
    for (out, weights) in interleaved.chunks_mut(part).zip(bytes.chunks(part)) {
        layout::interleave(element, weights, width, way.flip(element), out);
    }
    interleaved
}

/// The products `out[i * rows + row]` of a matrix that is in that order.
fn stripes(way: Way, element: ElementType, bytes: &[u8], rows: usize, activations: &[f32]) -> Vec<f32> {
    let width = bytes.len() / rows / element.row_bytes(element.block()) * element.block();
    let mut products = vec![f32::NAN; rows * (activations.len() / width)];
    way.multiply(element, bytes, &Groups::new(activations, width, &Team::alone()), &mut products, rows);
    products
}

/// The same in the way that is chosen.
fn chosen(
    element: ElementType,
    bytes: &[u8],
    is_interleaved: bool,
    rows: usize,
    activations: &[f32],
) -> Vec<f32> {
    let count = activations.len() / WIDTH;
    let prepared = Activations::new(activations, WIDTH, element, is_interleaved, &Team::alone());
    let mut products = vec![f32::NAN; rows * count];
    multiply(element, bytes, is_interleaved, &prepared, &mut products);
    if prepared.by_activations() {
        return products;
    }
    (0..products.len()).map(|i| products[i % rows * count + i / rows]).collect()
}

#[test]
fn matrices_are_what_they_were() {
    for (way, element) in ways() {
        for rows in [16, 32, 48, 80, 112] {
            // No multiple of 256 where the format allows that.
            let width = if element.block() == 256 { WIDTH } else { 96 };
            let (bytes, weights) = matrix(element, rows, width);
            let bytes = interleaved(way, element, &bytes, width);
            for count in 1..=20 {
                // Whole numbers with a 127 in every group survive the quantisation of activations unchanged.
                let mut activations: Vec<f32> =
                    numbers(count * width, 11).iter().map(|x| (x * 120.0).round()).collect();
                activations.chunks_mut(32).for_each(|group| group[5] = 127.0);
                let have = stripes(way, element, &bytes, rows, &activations);
                let pairs = have.chunks_exact(rows).zip(activations.chunks_exact(width));
                for (have, activations) in pairs {
                    for (have, weights) in have.iter().zip(weights.chunks_exact(width)) {
                        let products = weights.iter().zip(activations);
                        let want: f64 = products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let difference = (f64::from(*have) - want).abs();
                        assert!(
                            difference < 2e-2,
                            "{way:?}, {element:?} {rows} rows, {count}: {have} is not {want}"
                        );
                    }
                }
            }
        }
    }
}

/// Drafts rest on it.
#[test]
fn a_row_is_the_same_alone_and_with_others() {
    let rows = 80;
    for (way, element) in ways() {
        let (bytes, _) = matrix(element, rows, WIDTH);
        let in_order = interleaved(way, element, &bytes, WIDTH);
        let activations = numbers(8 * WIDTH, 3);
        let product = |from: usize, count: usize| {
            stripes(way, element, &in_order, rows, &activations[from * WIDTH..][..count * WIDTH])
        };
        for count in 1..=8 {
            let together = product(0, count);
            for (i, row) in together.chunks_exact(rows).enumerate() {
                assert_eq!(product(i, 1), row, "{way:?}, {element:?}, row {i} of {count}");
            }
            let in_file_order = chosen(element, &bytes, false, rows, &activations[..count * WIDTH]);
            for (have, want) in together.iter().zip(&in_file_order) {
                assert!((have - want).abs() < 1e-4, "{way:?}, {element:?}: {have} is not {want}");
            }
        }
    }
}

/// Where a block has its values, and its scales where they are whole numbers.
fn parts(element: ElementType) -> (Range<usize>, Range<usize>) {
    match element {
        ElementType::Q4K => (16..144, 4..16),
        ElementType::Q6K => (0..192, 192..208),
        _ => (layout::layout(element).unwrap().words, 0..0),
    }
}

/// The largest products there are fit, and no way adds up in an order of its own.
#[test]
fn every_way_gives_the_same_bits() {
    let rows = 32;
    for element in ALL {
        let (mut bytes, _) = matrix(element, rows, WIDTH);
        let block = element.row_bytes(element.block());
        let (values, scales) = parts(element);
        for (i, block) in bytes.chunks_exact_mut(block).enumerate() {
            match i % 5 {
                0 => block[values.clone()].fill(0xFF),
                1 => block[values.clone()].fill(0x80),
                2 => block[values.clone()].fill(0x7F),
                _ => {}
            }
            match i % 7 {
                0 => block[scales.clone()].fill(0x80),
                1 => block[scales.clone()].fill(0x7F),
                2 => block[scales.clone()].fill(0xFF),
                _ => {}
            }
        }
        let mut activations = numbers(7 * WIDTH, 3);
        activations[WIDTH..2 * WIDTH].fill(1.0);
        activations[2 * WIDTH..3 * WIDTH].fill(-1.0);
        let mut products = Way::all().filter(|way| way.suits(element)).map(|way| {
            let in_order = interleaved(way, element, &bytes, WIDTH);
            (way, stripes(way, element, &in_order, rows, &activations))
        });
        let Some((first, want)) = products.next() else { continue };
        for (way, have) in products {
            assert_eq!(have, want, "{way:?} and {first:?}, {element:?}");
        }
        let in_file_order = chosen(element, &bytes, false, rows, &activations);
        for (have, want) in want.iter().zip(&in_file_order) {
            assert!((have - want).abs() <= 1e-5 * want.abs().max(10.0), "{element:?}: {have} is not {want}");
        }
    }
}

/// Prompts are as they were where panels are made of stripes.
#[test]
fn the_chosen_way_is_taken_and_panels_are_the_same_in_both_orders() {
    let rows = 80;
    let activations = numbers(20 * WIDTH, 3);
    for element in ALL {
        let Some(way) = way().filter(|way| way.gains(element, rows, WIDTH)) else { continue };
        let (bytes, _) = matrix(element, rows, WIDTH);
        let in_order = interleaved(way, element, &bytes, WIDTH);
        for count in [1, 8, 9, 20] {
            let activations = &activations[..count * WIDTH];
            let have = chosen(element, &in_order, true, rows, activations);
            let want = if super::makes_panels(element, count) {
                chosen(element, &bytes, false, rows, activations)
            } else {
                stripes(way, element, &in_order, rows, activations)
            };
            assert_eq!(have, want, "{element:?} {count}");
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
        for way in Way::all() {
            assert!(!way.gains(element, rows, width), "{way:?}, {element:?} {rows} {width}");
        }
    }
}
