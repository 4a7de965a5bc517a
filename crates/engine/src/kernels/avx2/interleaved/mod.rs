//! Products of stripes with registers of 256 bits, two of which hold a word of each of the sixteen rows.
//!
//! All of it gives the same numbers, bit for bit, as the kernels for registers of 512 bits do: the products of a group are added as
//! integers, so that only their order in the sum of the groups counts.

mod products;
mod q4_k;
mod q6_k;

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{AHEAD, load16, load32, part, prefetch, store8f};
use crate::kernels::interleaved::{Activations, Group, ROWS, Stripe, WORDS, cut};
use crate::kernels::{GROUP, LANES};
use crate::weights::ElementType;
use products::{Products, Signed, Unsigned, Vnni};

/// Registers that hold something of each row of a stripe.
const HALVES: usize = ROWS / LANES;
/// Words of a group, each of four neighbouring weights, that are multiplied and added at once.
const QUADS: usize = GROUP / 4;
/// Rows of activations that are multiplied together.
const TILE: usize = 6;
/// Bytes of weights that are multiplied with every tile before the next ones are, so that they stay in the second-level cache.
const NEAR: usize = 1 << 17;
/// Bytes by which what is in blocks is brought near before it is needed: two or three of them, so that it is there in time from the
/// third-level cache too.
const BLOCKS_AHEAD: usize = 6 << 10;

/// A format whose groups stand alone, in `S` bytes of scales for a group of sixteen rows and `V` of values.
trait Format<const S: usize, const V: usize> {
    /// Where weights are unsigned, 128 added to each, so many halvings are what is added in fact; `None` where the format has offsets
    /// of its own.
    const HALVED: Option<u32>;

    /// Words of a group. Where there are half as many as quads, each holds two of them, the first four quads in the low halves.
    const WORDS_OF_GROUP: usize = V / WORDS;

    /// The quads of a word of eight rows, as bytes. Called only from code that is compiled for AVX2.
    #[allow(unsafe_code)]
    unsafe fn quads(word: &[u8; WORDS / HALVES]) -> [__m256i; 2];
}

struct Q4_0;
struct Q4_1;
struct Q8_0;

macro_rules! format {
    ($name:ident, $scales:literal, $values:literal, halved: $halved:expr, $quads:ident) => {
        impl Format<$scales, $values> for $name {
            const HALVED: Option<u32> = $halved;

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn quads(word: &[u8; WORDS / HALVES]) -> [__m256i; 2] {
                // SAFETY: the caller is compiled for these features.
                unsafe { $quads(word) }
            }
        }
    };
}

format!(Q4_0, 32, 256, halved: Some(4), nibbles);
format!(Q4_1, 64, 256, halved: None, nibbles);
format!(Q8_0, 32, 512, halved: Some(0), bytes);

#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(word: &[u8; WORDS / HALVES]) -> [__m256i; 2] {
    let (both, low_half) = (load32(word), _mm256_set1_epi8(15));
    [_mm256_and_si256(both, low_half), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low_half)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(word: &[u8; WORDS / HALVES]) -> [__m256i; 2] {
    [load32(word); 2]
}

/// Multiplies stripes with every row of activations: `out[i * stride + row]`. Bytes of weights are signed.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn multiply(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    multiply_by::<Unsigned, Signed>(element, weights, activations, out, stride);
}

/// The same where bytes of weights are unsigned.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(in super::super) fn multiply_vnni(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    multiply_by::<Vnni, Vnni>(element, weights, activations, out, stride);
}

/// The same with another instruction.
#[cfg(test)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
pub(in super::super) fn multiply_wide_vnni(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    multiply_by::<products::WideVnni, products::WideVnni>(element, weights, activations, out, stride);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_by<N: Products, B: Products>(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    match element {
        ElementType::Q4_0 => stripes::<Q4_0, N, 32, 256>(weights, activations, out, stride),
        ElementType::Q4_1 => stripes::<Q4_1, N, 64, 256>(weights, activations, out, stride),
        ElementType::Q8_0 => stripes::<Q8_0, B, 32, 512>(weights, activations, out, stride),
        ElementType::Q4K => q4_k::multiply::<N>(weights, activations, out, stride),
        ElementType::Q6K => q6_k::multiply::<N>(weights, activations, out, stride),
        _ => debug_assert!(false, "{element:?} is not interleaved"),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn stripes<F: Format<S, V>, M: Products, const S: usize, const V: usize>(
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
                // A core reads four places in turn faster than one.
                1 => tile_products::<F, M, S, V, 4, 1>(near, activations.rows(first), out, stride),
                2 => tile_products::<F, M, S, V, 1, 2>(near, activations.rows(first), out, stride),
                3 => tile_products::<F, M, S, V, 1, 3>(near, activations.rows(first), out, stride),
                4 => tile_products::<F, M, S, V, 1, 4>(near, activations.rows(first), out, stride),
                5 => tile_products::<F, M, S, V, 1, 5>(near, activations.rows(first), out, stride),
                _ => tile_products::<F, M, S, V, 1, TILE>(near, activations.rows(first), out, stride),
            }
            first += tile;
        }
    }
}

/// The products with a tile of `X` rows of activations, `P` stripes at a time.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_products<
    F: Format<S, V>,
    M: Products,
    const S: usize,
    const V: usize,
    const P: usize,
    const X: usize,
>(
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
        // SAFETY: who takes `M` is compiled for what it needs.
        unsafe { M::tile_sums::<F, S, V, P, X>(stripes, tile, &mut out[row..], stride) };
        row += P * ROWS;
    }
    for weights in several.remainder().chunks_exact(length) {
        // SAFETY: as above.
        unsafe { M::tile_sums::<F, S, V, 1, X>([cut(weights, groups)], tile, &mut out[row..], stride) };
        row += ROWS;
    }
}

/// Writes the products of `P` stripes with `X` rows of activations: `out[x * stride + row]`. It is compiled with its caller, whose
/// features `M` needs.
#[inline(always)]
#[allow(unsafe_code)]
#[allow(clippy::needless_range_loop, reason = "what iterators give here does not stay in registers")]
unsafe fn tile_sums<
    F: Format<S, V>,
    M: Products,
    const S: usize,
    const V: usize,
    const P: usize,
    const X: usize,
>(
    stripes: [Stripe<'_, S, V>; P],
    tile: [&[Group]; X],
    out: &mut [f32],
    stride: usize,
) {
    // SAFETY: the caller is compiled for all that is called here.
    unsafe {
        let mut sums = [[[_mm256_setzero_ps(); HALVES]; P]; X];
        let groups = tile[0].len();
        // Said before the loop, so that it needs no bounds checks.
        if tile.iter().any(|row| row.len() < groups)
            || stripes.iter().any(|stripe| stripe.scales.len() < groups || stripe.values.len() < groups)
        {
            return;
        }
        // As in the kernels for 512 bits: loads stay in the order of memory where the compiler can't write all of a group out.
        let words = black_box(F::WORDS_OF_GROUP).min(F::WORDS_OF_GROUP);
        let quads_of_word = QUADS / F::WORDS_OF_GROUP;
        for g in 0..groups {
            // What is read in one place comes too late otherwise.
            if P == 1 {
                prefetch(&stripes[0].values[g..=g], AHEAD);
            }
            let mut biases = [0; X];
            let mut integers = [[[_mm256_setzero_si256(); HALVES]; P]; X];
            for x in 0..X {
                if let Some(halved) = F::HALVED {
                    biases[x] = tile[x][g].bias >> halved;
                }
                integers[x] = [[M::start(biases[x]); HALVES]; P];
            }
            for w in 0..words {
                let mut weights = [[[_mm256_setzero_si256(); 2]; HALVES]; P];
                let mut magnitudes = weights;
                for p in 0..P {
                    for h in 0..HALVES {
                        weights[p][h] = F::quads(&stripes[p].values[g].as_chunks().0[HALVES * w + h]);
                        for i in 0..quads_of_word {
                            magnitudes[p][h][i] = M::magnitudes(weights[p][h][i]);
                        }
                    }
                }
                for x in 0..X {
                    for i in 0..quads_of_word {
                        let four = _mm256_set1_epi32(tile[x][g].quads[i * F::WORDS_OF_GROUP + w]);
                        for p in 0..P {
                            for h in 0..HALVES {
                                integers[x][p][h] =
                                    M::add(integers[x][p][h], weights[p][h][i], magnitudes[p][h][i], four);
                            }
                        }
                    }
                }
            }
            for p in 0..P {
                let of_rows = &stripes[p].scales[g];
                for h in 0..HALVES {
                    let scales = halves(of_rows, h);
                    for x in 0..X {
                        let Group { scale, sum, .. } = tile[x][g];
                        let integers = M::finish(integers[x][p][h], biases[x]);
                        let products = _mm256_mul_ps(_mm256_cvtepi32_ps(integers), scales);
                        sums[x][p][h] = _mm256_fmadd_ps(products, _mm256_set1_ps(scale), sums[x][p][h]);
                        if F::HALVED.is_none() {
                            let offsets = halves(of_rows, HALVES + h);
                            sums[x][p][h] = _mm256_fmadd_ps(offsets, _mm256_set1_ps(sum), sums[x][p][h]);
                        }
                    }
                }
            }
        }
        for x in 0..X {
            let out = out[x * stride..][..P * ROWS].as_chunks_mut::<LANES>().0;
            for p in 0..P {
                for h in 0..HALVES {
                    out[HALVES * p + h] = store8f(sums[x][p][h]);
                }
            }
        }
    }
}

/// Eight half-precision numbers.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(numbers: &[u8], eighth: usize) -> __m256 {
    _mm256_cvtph_ps(load16(part(numbers, eighth * 2 * LANES)))
}
