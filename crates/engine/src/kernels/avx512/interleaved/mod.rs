//! Products of stripes: sixteen rows of weights, whose sums fill a register.
//!
//! Weights are unsigned here, as one factor has to be: what is added to make them so is taken away before anything is added up, so
//! that no bit is lost.

pub(in super::super) mod q4_k;
mod q6_k;

use std::arch::x86_64::*;
use std::hint::black_box;

use crate::kernels::GROUP;
use crate::kernels::avx2::prefetch;
use crate::kernels::interleaved::{Activations, Group, ROWS, Stripe, WORDS, cut};
use crate::weights::ElementType;

/// Words of a group, each of four neighbouring weights, that are multiplied and added at once.
const QUADS: usize = GROUP / 4;
/// Rows of activations that are multiplied together.
const TILE: usize = 6;
/// Bytes of weights that are multiplied with every tile before the next ones are, so that they stay in the second-level cache.
const NEAR: usize = 1 << 17;

/// A format whose groups stand alone, in `S` bytes of scales for a group of sixteen rows and `V` of values.
pub(in super::super) trait Format<const S: usize, const V: usize> {
    /// Of 128 added to each weight, so many halvings are what is added in fact; `None` where the format has offsets of its own.
    const HALVED: Option<u32>;

    /// What the values of each row are multiplied with. This and the others are called only from code that is compiled for
    /// all that [`multiply`] asks for.
    #[allow(unsafe_code)]
    unsafe fn scale(scales: &[u8; S]) -> __m512;

    /// What is added to each weight then.
    #[allow(unsafe_code)]
    unsafe fn offset(scales: &[u8; S]) -> __m512;

    /// Words of a group. Where there are half as many as quads, each holds two of them, the first four quads in the low halves.
    const WORDS_OF_GROUP: usize = V / WORDS;

    /// The quads of a word of each row, as unsigned bytes.
    #[allow(unsafe_code)]
    unsafe fn quads(word: &[u8; WORDS]) -> [__m512i; 2];
}

pub(in super::super) struct Q4_0;
pub(in super::super) struct Q4_1;
struct Q8_0;

macro_rules! format {
    ($name:ident, $scales:literal, $values:literal, halved: $halved:expr, $quads:ident) => {
        impl Format<$scales, $values> for $name {
            const HALVED: Option<u32> = $halved;

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn scale(scales: &[u8; $scales]) -> __m512 {
                // SAFETY: the caller is compiled for these features.
                unsafe { halves(&scales.as_chunks().0[0]) }
            }

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn offset(scales: &[u8; $scales]) -> __m512 {
                // SAFETY: as above. Formats without offsets are not asked for one.
                unsafe { halves(&scales.as_chunks().0[$scales / (2 * ROWS) - 1]) }
            }

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn quads(word: &[u8; WORDS]) -> [__m512i; 2] {
                // SAFETY: as above.
                unsafe { $quads(word) }
            }
        }
    };
}

format!(Q4_0, 32, 256, halved: Some(4), nibbles);
format!(Q4_1, 64, 256, halved: None, nibbles);
format!(Q8_0, 32, 512, halved: Some(0), bytes);

/// A half-precision number of each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(numbers: &[u8; 2 * ROWS]) -> __m512 {
    _mm512_cvtph_ps(load32(numbers))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nibbles(word: &[u8; WORDS]) -> [__m512i; 2] {
    let (both, low_half) = (load64(word), _mm512_set1_epi8(15));
    [_mm512_and_si512(both, low_half), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low_half)]
}

/// The sign was turned when the stripe was made.
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(word: &[u8; WORDS]) -> [__m512i; 2] {
    [load64(word); 2]
}

/// Multiplies stripes with every row of activations: `out[i * stride + row]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in super::super) fn multiply(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    match element {
        ElementType::Q4_0 => stripes::<Q4_0, 32, 256>(weights, activations, out, stride),
        ElementType::Q4_1 => stripes::<Q4_1, 64, 256>(weights, activations, out, stride),
        ElementType::Q8_0 => stripes::<Q8_0, 32, 512>(weights, activations, out, stride),
        ElementType::Q4K => q4_k::multiply(weights, activations, out, stride),
        ElementType::Q6K => q6_k::multiply(weights, activations, out, stride),
        _ => debug_assert!(false, "{element:?} is not interleaved"),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn stripes<F: Format<S, V>, const S: usize, const V: usize>(
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    let groups = activations.groups();
    let length = groups * (S + V);
    let together = (NEAR / length).max(4) / 4 * 4;
    for (n, near) in weights.chunks(length * together).enumerate() {
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride + n * together * ROWS..];
            match tile {
                1 => tile_products::<F, S, V, 4, 1>(near, activations.rows(first), out, stride),
                2 => tile_products::<F, S, V, 4, 2>(near, activations.rows(first), out, stride),
                3 => tile_products::<F, S, V, 4, 3>(near, activations.rows(first), out, stride),
                4 => tile_products::<F, S, V, 2, 4>(near, activations.rows(first), out, stride),
                5 => tile_products::<F, S, V, 2, 5>(near, activations.rows(first), out, stride),
                _ => tile_products::<F, S, V, 2, TILE>(near, activations.rows(first), out, stride),
            }
            first += tile;
        }
    }
}

/// The products with a tile of `X` rows of activations, `P` stripes at a time: as many as the registers hold the sums of. A core reads
/// four places in turn faster than one, whose end it comes to sooner.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile_products<F: Format<S, V>, const S: usize, const V: usize, const P: usize, const X: usize>(
    weights: &[u8],
    tile: [&[Group]; X],
    out: &mut [f32],
    stride: usize,
) {
    let groups = tile[0].len();
    let length = groups * (S + V);
    let mut several = weights.chunks_exact(length * P);
    let mut row = 0;
    for weights in &mut several {
        let mut stripes = [Stripe { scales: &[], values: &[] }; P];
        for (stripe, weights) in stripes.iter_mut().zip(weights.chunks_exact(length)) {
            *stripe = cut(weights, groups);
        }
        put(tile_sums::<F, S, V, P, X>(stripes, tile), row, out, stride);
        row += P * ROWS;
    }
    for weights in several.remainder().chunks_exact(length) {
        put(tile_sums::<F, S, V, 1, X>([cut(weights, groups)], tile), row, out, stride);
        row += ROWS;
    }
}

/// Writes the products of `P` stripes that begin with row number `row`.
#[inline]
#[target_feature(enable = "avx512f")]
fn put<const P: usize, const X: usize>(sums: [[__m512; P]; X], row: usize, out: &mut [f32], stride: usize) {
    for (x, sums) in sums.into_iter().enumerate() {
        let out = out[x * stride + row..][..P * ROWS].as_chunks_mut::<ROWS>().0;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = store16f(sum);
        }
    }
}

/// The products of `P` stripes with `X` rows of activations.
#[inline]
#[allow(unsafe_code)]
#[allow(clippy::needless_range_loop, reason = "what iterators give here does not stay in registers")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile_sums<F: Format<S, V>, const S: usize, const V: usize, const P: usize, const X: usize>(
    stripes: [Stripe<'_, S, V>; P],
    tile: [&[Group]; X],
) -> [[__m512; P]; X] {
    let mut sums = [[_mm512_setzero_ps(); P]; X];
    let groups = tile[0].len();
    // Said before the loop, so that it needs no bounds checks.
    if tile.iter().any(|row| row.len() < groups)
        || stripes.iter().any(|stripe| stripe.scales.len() < groups || stripe.values.len() < groups)
    {
        return sums;
    }
    // Where the compiler may write all of a group out, it puts the loads in an order of its own, which the processor doesn't foresee:
    // weights come from memory, and from the third-level cache, at a fraction of the speed. So it isn't told how long the loop is.
    let words = black_box(F::WORDS_OF_GROUP).min(F::WORDS_OF_GROUP);
    let quads_of_word = QUADS / F::WORDS_OF_GROUP;
    // Where the next stripes are at the same group. A single row keeps memory busy without that.
    let ahead = P * groups * (S + V);
    for g in 0..groups {
        if X > 1 {
            for p in 0..P {
                prefetch(stripes[p].values[g].as_chunks::<WORDS>().0, ahead);
            }
        }
        let mut integers = [[_mm512_setzero_si512(); P]; X];
        if let Some(halved) = F::HALVED {
            for x in 0..X {
                integers[x] = [_mm512_set1_epi32(tile[x][g].bias >> halved); P];
            }
        }
        for w in 0..words {
            let mut weights = [[_mm512_setzero_si512(); 2]; P];
            for p in 0..P {
                // SAFETY: this function is compiled for what that needs.
                weights[p] = unsafe { F::quads(&stripes[p].values[g].as_chunks().0[w]) };
            }
            for x in 0..X {
                for i in 0..quads_of_word {
                    let four = _mm512_set1_epi32(tile[x][g].quads[i * F::WORDS_OF_GROUP + w]);
                    for p in 0..P {
                        integers[x][p] = _mm512_dpbusd_epi32(integers[x][p], weights[p][i], four);
                    }
                }
            }
        }
        for p in 0..P {
            let of_rows = &stripes[p].scales[g];
            // SAFETY: as above.
            let scales = unsafe { F::scale(of_rows) };
            for x in 0..X {
                let Group { scale, sum, .. } = tile[x][g];
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[x][p]), scales);
                sums[x][p] = _mm512_fmadd_ps(products, _mm512_set1_ps(scale), sums[x][p]);
                if F::HALVED.is_none() {
                    // SAFETY: as above.
                    let offsets = unsafe { F::offset(of_rows) };
                    sums[x][p] = _mm512_fmadd_ps(offsets, _mm512_set1_ps(sum), sums[x][p]);
                }
            }
        }
    }
    sums
}

// ---- loads and stores: the only places where memory is touched through pointers ---------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn store16f(numbers: __m512) -> [f32; ROWS] {
    let mut out = [0.0; ROWS];
    // SAFETY: sixteen numbers are writable behind the reference, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), numbers) };
    out
}
