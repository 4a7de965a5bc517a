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
