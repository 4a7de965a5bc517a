//! Matrices whose rows are put in another order when a model is loaded, so that sixteen of them are multiplied at a time. They take as
//! many bytes as in the file. On x86-64 with AVX-512 VNNI there is such an order for Q4_K.

use super::{Activations, Packed};
use crate::weights::ElementType;

/// Whether a matrix of so many rows is multiplied faster in the order into which [`interleave`] brings it.
pub(crate) fn gains(element: ElementType, rows: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return element == ElementType::Q4K
        && rows > 0
        && rows.is_multiple_of(super::avx512::interleaved::ROWS)
        && super::has_vnni();
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (element, rows);
        false
    }
}

/// Copies rows of `width` weights to `out`, a multiple of [`super::PART`] or all that there are, in the order that [`multiply`] wants.
pub(crate) fn interleave(weights: &[u8], width: usize, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    super::avx512::interleaved::interleave(weights, width, out);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (weights, width, out);
}

/// As [`super::multiply`], for weights that were interleaved.
#[allow(unsafe_code)]
pub(crate) fn multiply(weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    match &activations.packed {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `suit` has found the features that the function is compiled for when the activations were packed.
        Packed::Panels(packed) => unsafe { super::panels::multiply_interleaved(weights, packed, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Packed::Blocks(tiles) => unsafe {
            super::avx512::interleaved::multiply(weights, tiles, activations.count(), out);
        },
        _ => debug_assert!(
            false,
            "only Q4_K is interleaved, which is multiplied in these ways: {} {}",
            weights.len(),
            out.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{gains, interleave, multiply};
    use crate::kernels::tests::{matrix, numbers};
    use crate::kernels::{Activations, PART};
    use crate::weights::ElementType;

    const WIDTH: usize = 768;
    const Q4K: ElementType = ElementType::Q4K;

    /// The products `out[i * rows + row]` of a matrix in both orders; nothing where the processor has no other one.
    fn products(bytes: &[u8], rows: usize, activations: &[f32]) -> Option<[Vec<f32>; 2]> {
        if !gains(Q4K, rows) {
            return None;
        }
        let mut interleaved = vec![0; bytes.len()];
        // In parts, as several threads do it.
        let part = PART * Q4K.row_bytes(WIDTH);
        for (out, weights) in interleaved.chunks_mut(part).zip(bytes.chunks(part)) {
            interleave(weights, WIDTH, out);
        }
        let count = activations.len() / WIDTH;
        let prepared = Activations::new(activations, WIDTH, Q4K);
        let by_activation = |products: Vec<f32>| {
            if prepared.by_activations() {
                return products;
            }
            (0..products.len()).map(|i| products[i % rows * count + i / rows]).collect()
        };
        let mut both = [vec![f32::NAN; rows * count], vec![f32::NAN; rows * count]];
        crate::kernels::multiply(Q4K, bytes, &prepared, &mut both[0]);
        multiply(&interleaved, &prepared, &mut both[1]);
        Some(both.map(by_activation))
    }

    #[test]
    fn matrices_are_what_they_were() {
        for rows in [16, 32, 48, 112] {
            let (bytes, weights) = matrix(Q4K, rows, WIDTH);
            for count in 1..=20 {
                // Whole numbers with a 127 in every group survive the quantisation of activations unchanged.
                let mut activations: Vec<f32> =
                    numbers(count * WIDTH, 11).iter().map(|x| (x * 120.0).round()).collect();
                activations.chunks_mut(32).for_each(|group| group[5] = 127.0);
                let Some([_, have]) = products(&bytes, rows, &activations) else {
                    println!("skipped: this processor has no other order");
                    return;
                };
                let pairs = have.chunks_exact(rows).zip(activations.chunks_exact(WIDTH));
                for (have, activations) in pairs {
                    for (have, weights) in have.iter().zip(weights.chunks_exact(WIDTH)) {
                        let products = weights.iter().zip(activations);
                        let want: f64 = products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let difference = (f64::from(*have) - want).abs();
                        assert!(difference < 2e-2, "{rows} rows, {count}: {have} is not {want}");
                    }
                }
            }
        }
    }

    /// Drafts rest on the former, and prompts are as they were.
    #[test]
    fn a_row_is_the_same_alone_and_with_others_and_so_are_panels() {
        let rows = 48;
        let (bytes, _) = matrix(Q4K, rows, WIDTH);
        let activations = numbers(20 * WIDTH, 3);
        let product =
            |from: usize, count: usize| products(&bytes, rows, &activations[from * WIDTH..][..count * WIDTH]);
        let Some([_, first]) = product(0, 1) else {
            println!("skipped: this processor has no other order");
            return;
        };
        for count in 2..=8 {
            let [in_file_order, together] = product(0, count).unwrap();
            assert_eq!(first, together[..rows], "{count}");
            for (i, row) in together.chunks_exact(rows).enumerate() {
                assert_eq!(product(i, 1).unwrap()[1], row, "row {i} of {count}");
            }
            for (have, want) in together.iter().zip(&in_file_order) {
                assert!((have - want).abs() < 1e-4, "{have} is not {want}");
            }
        }
        for count in [9, 20] {
            let [in_file_order, interleaved] = product(0, count).unwrap();
            assert_eq!(in_file_order, interleaved, "{count}");
        }
    }

    #[test]
    fn what_is_no_sixteen_rows_of_q4_k_stays_as_it_is() {
        for (element, rows) in
            [(Q4K, 0), (Q4K, 15), (Q4K, 24), (ElementType::Q5K, 16), (ElementType::F16, 16)]
        {
            assert!(!gains(element, rows), "{element:?} {rows}");
        }
    }
}
