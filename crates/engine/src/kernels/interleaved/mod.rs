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
mod stripe;
#[cfg(test)]
mod tests;

pub(crate) use activations::Activations;
pub(super) use activations::Group;
pub(crate) use kept::Kept;
#[cfg(target_arch = "x86_64")]
pub(super) use stripe::{GROUPS, q4_k, q6_k};
pub(super) use stripe::{Stripe, cut};

use super::GROUP;
use crate::weights::ElementType;

/// Rows of a stripe.
pub(super) const ROWS: usize = 16;
/// Bytes of a word of each row.
pub(super) const WORDS: usize = 4 * ROWS;

/// The kernels that there are for stripes. Weights are put in order for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Registers of 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Registers of 256 bits, with the same instruction.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// The same where that instruction is part of AVX-512, to test them there.
    #[cfg(all(target_arch = "x86_64", test))]
    WideVnni,
    /// Registers of 256 bits, without it.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Registers of 128 bits, with scalar products of bytes.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Way {
    /// From the fastest on.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(all(target_arch = "x86_64", test))]
        Self::WideVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
    ];

    /// Those that this processor has, from the fastest on.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|way| way.is_here())
    }

    fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => super::has_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => super::level() == super::Level::Avx2 && is_x86_feature_detected!("avxvnni"),
            #[cfg(all(target_arch = "x86_64", test))]
            Self::WideVnni => super::has_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => super::level() == super::Level::Avx2,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => super::neon::has_dot(),
        }
    }

    /// Whether there are kernels for a format.
    fn suits(self, element: ElementType) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            _ => layout::layout(element).is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => super::neon::stripes::suit(element),
        }
    }

    /// What is added to each byte of values: one instruction multiplies signed bytes with unsigned ones only.
    fn flip(self, element: ElementType) -> u8 {
        let takes_signed = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => true,
            #[cfg(target_arch = "x86_64")]
            _ => false,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
        };
        if element == ElementType::Q8_0 && !takes_signed { 0x80 } else { 0 }
    }

    /// As [`gains`].
    fn gains(self, element: ElementType, rows: usize, width: usize) -> bool {
        self.suits(element)
            && width.is_multiple_of(element.block())
            && width > 0
            && rows > 0
            && rows.is_multiple_of(ROWS)
    }

    /// As [`multiply`], with stripes that were made for this way.
    #[allow(unsafe_code)]
    fn multiply(
        self,
        element: ElementType,
        weights: &[u8],
        activations: &Activations,
        out: &mut [f32],
        stride: usize,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `is_here` has found the features that the function is compiled for.
            Self::Avx512 => unsafe {
                super::avx512::interleaved::multiply(element, weights, activations, out, stride);
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `is_here` has found the features that the function is compiled for.
            Self::AvxVnni => unsafe {
                super::avx2::interleaved::multiply_vnni(element, weights, activations, out, stride);
            },
            #[cfg(all(target_arch = "x86_64", test))]
            // SAFETY: `is_here` has found the features that the function is compiled for.
            Self::WideVnni => unsafe {
                super::avx2::interleaved::multiply_wide_vnni(element, weights, activations, out, stride);
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `is_here` has found the features that the function is compiled for.
            Self::Avx2 => unsafe {
                super::avx2::interleaved::multiply(element, weights, activations, out, stride);
            },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `is_here` has found the features that the function is compiled for.
            Self::Neon => unsafe {
                super::neon::stripes::multiply(element, weights, activations, out, stride);
            },
        }
    }
}

/// The way that is taken: the fastest one.
fn way() -> Option<Way> {
    Way::all().next()
}

/// Whether a matrix of so many rows of `width` weights is multiplied faster in the order into which [`interleave`] brings it.
pub(crate) fn gains(element: ElementType, rows: usize, width: usize) -> bool {
    way().is_some_and(|way| way.gains(element, rows, width))
}

/// Copies whole stripes of rows of `width` weights, a multiple of [`super::PART`] rows or all that there are.
pub(crate) fn interleave(element: ElementType, weights: &[u8], width: usize, out: &mut [u8]) {
    if let Some(way) = way() {
        layout::interleave(element, weights, width, way.flip(element), out);
    }
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
pub(crate) fn multiply(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    match way() {
        Some(way) => way.multiply(element, weights, activations, out, stride),
        None => {
            debug_assert!(false, "{element:?} is not interleaved here, {} groups wide", activations.groups());
        }
    }
}
