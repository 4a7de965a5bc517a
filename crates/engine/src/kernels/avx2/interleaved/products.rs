//! How weights and activations are multiplied: by one instruction where the processor has it, else by several.

use std::arch::x86_64::*;

use super::{Format, q4_k, q6_k, tile_sums};
use crate::kernels::interleaved::q6_k::{BLOCK_BYTES, D_BYTES};
use crate::kernels::interleaved::{Group, Stripe, q4_k::Blocks};

/// How the weights of a group are multiplied with activations, and added. Everything is called only from code that is compiled for
/// what [`Products::tile_sums`] says.
#[allow(unsafe_code)]
pub(super) trait Products {
    /// What the sum of a group begins with; `bias` is to be in it at the end.
    unsafe fn start(bias: i32) -> __m256i;

    /// Of four weights of each row, what is the same for all rows of activations.
    unsafe fn magnitudes(weights: __m256i) -> __m256i;

    /// Adds the products of four weights of each row with four activations.
    unsafe fn add(sum: __m256i, weights: __m256i, magnitudes: __m256i, four: __m256i) -> __m256i;

    /// The sum of each row.
    unsafe fn finish(sum: __m256i, bias: i32) -> __m256i;

    /// As [`tile_sums`], compiled for what these need.
    unsafe fn tile_sums<F: Format<S, V>, const S: usize, const V: usize, const P: usize, const X: usize>(
        stripes: [Stripe<'_, S, V>; P],
        tile: [&[Group]; X],
        out: &mut [f32],
        stride: usize,
    );

    /// As [`q4_k::tile_sums`].
    unsafe fn tile_sums_of_q4_k<const X: usize>(
        rows: &[Blocks],
        tile: [&[Group]; X],
        out: &mut [f32],
        stride: usize,
    );

    /// As [`q6_k::tile_sums`].
    unsafe fn tile_sums_of_q6_k<const X: usize>(
        stripe: Stripe<'_, D_BYTES, BLOCK_BYTES>,
        tile: [&[Group]; X],
        out: &mut [f32],
        stride: usize,
    );
}

/// Unsigned weights of few bits, whose products are added in 16 bits before [`Products::finish`]: of weights below 16 those of a
/// whole group, at most 8 * 2 * 15 * 127, and of weights below 64 those of two quads, at most 2 * 2 * 63 * 127, which fit.
pub(super) struct Unsigned;
/// Signed weights: their signs go to the activations. Two products are at most 2 * 128 * 127, which fits 16 bits.
pub(super) struct Signed;
/// Unsigned weights, where the processor has one instruction for all of it (AVX-VNNI).
pub(super) struct Vnni;
/// The same where it is part of AVX-512: these processors have faster kernels, but tests can be run there.
#[cfg(test)]
pub(super) struct WideVnni;

macro_rules! products {
    ($(#[$attribute:meta])* $name:ident, $features:tt, start: |$start_bias:ident| $start:expr,
     magnitudes: |$all:ident| $magnitudes:expr, add: |$sum:ident, $weights:ident, $magnitude:ident, $four:ident| $add:expr,
     finish: |$last:ident, $bias:ident| $finish:expr) => {
        $(#[$attribute])*
        #[allow(unsafe_code)]
        #[allow(unused_variables)]
        impl Products for $name {
            #[inline(always)]
            unsafe fn start($start_bias: i32) -> __m256i {
                // SAFETY: the caller is compiled for these features, here and below.
                unsafe { $start }
            }

            #[inline(always)]
            #[allow(unused_unsafe)]
            unsafe fn magnitudes($all: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { $magnitudes }
            }

            #[inline(always)]
            unsafe fn add(
                $sum: __m256i,
                $weights: __m256i,
                $magnitude: __m256i,
                $four: __m256i,
            ) -> __m256i {
                // SAFETY: as above.
                unsafe { $add }
            }

            #[inline(always)]
            #[allow(unused_unsafe)]
            unsafe fn finish($last: __m256i, $bias: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { $finish }
            }

            #[target_feature(enable = $features)]
            unsafe fn tile_sums<F: Format<S, V>, const S: usize, const V: usize, const P: usize, const X: usize>(
                stripes: [Stripe<'_, S, V>; P],
                tile: [&[Group]; X],
                out: &mut [f32],
                stride: usize,
            ) {
                // SAFETY: this function is compiled for all that is called.
                unsafe { tile_sums::<F, Self, S, V, P, X>(stripes, tile, out, stride) }
            }

            #[target_feature(enable = $features)]
            unsafe fn tile_sums_of_q4_k<const X: usize>(
                rows: &[Blocks],
                tile: [&[Group]; X],
                out: &mut [f32],
                stride: usize,
            ) {
                // SAFETY: as above.
                unsafe { q4_k::tile_sums::<Self, X>(rows, tile, out, stride) }
            }

            #[target_feature(enable = $features)]
            unsafe fn tile_sums_of_q6_k<const X: usize>(
                stripe: Stripe<'_, D_BYTES, BLOCK_BYTES>,
                tile: [&[Group]; X],
                out: &mut [f32],
                stride: usize,
            ) {
                // SAFETY: as above.
                unsafe { q6_k::tile_sums::<Self, X>(stripe, tile, out, stride) }
            }
        }
    };
}

products!(
    Unsigned, "avx2,fma,f16c",
    start: |_bias| _mm256_setzero_si256(),
    magnitudes: |weights| weights,
    add: |sum, weights, magnitudes, four| _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, four)),
    finish: |sum, bias| _mm256_add_epi32(
        _mm256_madd_epi16(sum, _mm256_set1_epi16(1)),
        _mm256_set1_epi32(bias)
    )
);
products!(
    Signed, "avx2,fma,f16c",
    start: |_bias| _mm256_setzero_si256(),
    magnitudes: |weights| _mm256_abs_epi8(weights),
    add: |sum, weights, magnitudes, four| _mm256_add_epi32(
        sum,
        _mm256_madd_epi16(
            _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(four, weights)),
            _mm256_set1_epi16(1)
        )
    ),
    finish: |sum, _bias| sum
);
products!(
    Vnni, "avx2,fma,f16c,avxvnni",
    start: |bias| _mm256_set1_epi32(bias),
    magnitudes: |weights| weights,
    add: |sum, weights, magnitudes, four| _mm256_dpbusd_avx_epi32(sum, weights, four),
    finish: |sum, _bias| sum
);
products!(
    #[cfg(test)]
    WideVnni, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
    start: |bias| _mm256_set1_epi32(bias),
    magnitudes: |weights| weights,
    add: |sum, weights, magnitudes, four| _mm256_dpbusd_epi32(sum, weights, four),
    finish: |sum, _bias| sum
);
