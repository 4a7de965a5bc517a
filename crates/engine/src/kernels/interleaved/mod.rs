//! Matrices whose rows are put in another order when a model is loaded, so that sixteen of them are multiplied at a time: a register
//! holds the same part of all sixteen, and nothing is summed across it. They take as many bytes as in the file.
//!
//! Sixteen rows are a *stripe*, and what is in one is cut into words of four bytes. Of formats whose groups of 32 weights stand alone,
//! the scales of all groups of a stripe come first, then the values: of each group the first words of all rows, their second
//! ones, and so on. Of Q4_K the same is done with whole blocks. Of Q6_K a half-precision number of each block comes first, and what its words hold
//! is ours, see [`layout`].

mod activations;
mod kept;
mod layout;
#[cfg(test)]
mod tests;

pub(crate) use activations::Activations;
pub(super) use activations::Group;
pub(crate) use kept::Kept;
pub(crate) use layout::interleave;

use super::GROUP;
use crate::weights::ElementType;

/// Rows of a stripe.
pub(super) const ROWS: usize = 16;
/// Bytes of a word of each row.
pub(super) const WORDS: usize = 4 * ROWS;

/// Whether a matrix of so many rows of `width` weights is multiplied faster in the order into which [`interleave`] brings it.
pub(crate) fn gains(element: ElementType, rows: usize, width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    let has_kernels = super::has_vnni();
    #[cfg(target_arch = "aarch64")]
    let has_kernels = super::neon::stripes::suit(element);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_kernels = false;
    has_kernels
        && layout::layout(element).is_some()
        && width.is_multiple_of(element.block())
        && width > 0
        && rows > 0
        && rows.is_multiple_of(ROWS)
}

/// Whether stripes are made into panels for so many rows of activations, which takes their values apart once for all of them. Values
/// that are bytes need not be taken apart.
pub(super) fn makes_panels(element: ElementType, count: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return element != ElementType::Q8_0 && super::panels::suit(element, count);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (element, count);
        false
    }
}

/// The products of stripes of weights with every row of activations: `out[i * stride + row] = weights[row] . activations[i]`. The same
/// bit for bit for a row of activations whichever others there are, up to eight of them, and for groups that stand alone with any.
#[allow(unsafe_code)]
pub(crate) fn multiply(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if super::has_vnni() {
        // SAFETY: `has_vnni` has just found the features that the function is compiled for.
        return unsafe { super::avx512::interleaved::multiply(element, weights, activations, out, stride) };
    }
    #[cfg(target_arch = "aarch64")]
    if super::neon::stripes::suit(element) {
        // SAFETY: `suit` has just found the features that the function is compiled for.
        return unsafe { super::neon::stripes::multiply(element, weights, activations, out, stride) };
    }
    let _ = (weights, out, stride);
    debug_assert!(false, "{element:?} is not interleaved here, {} groups wide", activations.groups());
}
