//! Stripes of Q6_K: blocks of 256 weights in groups of 32, each half of which has a scale.
//!
//! What its words hold is told where they are written, in [`mod@crate::kernels::interleaved`].

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{halves, load64, put};
use crate::kernels::interleaved::q6_k::{BLOCK_BYTES, D_BYTES, HALVED, PARTS, QUADS, SCALES, TOGETHER};
use crate::kernels::interleaved::{Activations, GROUPS, Group, ROWS, Stripe, WORDS, cut};

/// Rows of activations that are multiplied together.
const TILE: usize = 4;

/// Multiplies stripes with every row of activations: `out[i * stride + row]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(weights: &[u8], activations: &Activations, out: &mut [f32], stride: usize) {
    let blocks = activations.groups() / GROUPS;
    for (n, weights) in weights.chunks_exact(blocks * (D_BYTES + BLOCK_BYTES)).enumerate() {
        let stripe = cut(weights, blocks);
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride..];
            match tile {
                1 => put(products(stripe, activations.rows::<1>(first)), n * ROWS, out, stride),
                2 => put(products(stripe, activations.rows::<2>(first)), n * ROWS, out, stride),
                3 => put(products(stripe, activations.rows::<3>(first)), n * ROWS, out, stride),
                _ => put(products(stripe, activations.rows::<TILE>(first)), n * ROWS, out, stride),
            }
            first += tile;
        }
    }
}

/// The products of a stripe with `X` rows of activations.
#[inline]
#[allow(clippy::needless_range_loop, reason = "what iterators give here does not stay in registers")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const X: usize>(
    stripe: Stripe<'_, D_BYTES, BLOCK_BYTES>,
    tile: [&[Group]; X],
) -> [[__m512; 1]; X] {
    let mut totals = [[_mm512_setzero_ps()]; X];
    let mut groups = [const { &[] as &[[Group; GROUPS]] }; X];
    for (groups, row) in groups.iter_mut().zip(tile) {
        *groups = row.as_chunks().0;
    }
    // Said before the loop, so that it needs no bounds checks.
    let length = stripe.values.len();
    if stripe.scales.len() < length || groups.iter().any(|groups| groups.len() < length) {
        return totals;
    }
    // Written out, the loads would come in another order than the words lie in.
    let (octets, quads) = (black_box(4).min(4), black_box(QUADS).min(QUADS));
    for (b, block) in stripe.values.iter().enumerate() {
        let (scales, words) = block.split_at(SCALES * ROWS);
        let (scales, words) = (scales.as_chunks::<ROWS>().0, words.as_chunks::<WORDS>().0);
        let mut sums = [_mm512_setzero_ps(); X];
        // Four half groups at a time: the first halves of the first four groups, the second ones, those of the others.
        for octet in 0..octets {
            let (first_group, second_half) = (octet / 2 * PARTS, octet % 2);
            let mut integers = [[_mm512_setzero_si512(); PARTS]; X];
            for x in 0..X {
                for part in 0..PARTS {
                    let group = &groups[x][b][first_group + part];
                    let bias =
                        if second_half == 1 { group.bias - group.first_bias } else { group.first_bias };
                    integers[x][part] = _mm512_set1_epi32(bias >> HALVED);
                }
            }
            for q in 0..quads {
                let [first, second, third] = &words.as_chunks::<TOGETHER>().0[octet * QUADS + q];
                let values = values(first, second, third);
                for x in 0..X {
                    for part in 0..PARTS {
                        let group = &groups[x][b][first_group + part];
                        let four = _mm512_set1_epi32(group.quads[second_half * QUADS + q]);
                        integers[x][part] = _mm512_dpbusd_epi32(integers[x][part], values[part], four);
                    }
                }
            }
            for part in 0..PARTS {
                let group = first_group + part;
                let scale = signed(&scales[2 * group + second_half]);
                for x in 0..X {
                    let of_group = _mm512_set1_ps(groups[x][b][group].scale);
                    let products = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[x][part]), of_group);
                    sums[x] = _mm512_fmadd_ps(products, scale, sums[x]);
                }
            }
        }
        let scale = halves(&stripe.scales[b]);
        for x in 0..X {
            totals[x][0] = _mm512_fmadd_ps(sums[x], scale, totals[x][0]);
        }
    }
    totals
}

/// A quad of each of four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn values(first: &[u8; WORDS], second: &[u8; WORDS], third: &[u8; WORDS]) -> [__m512i; PARTS] {
    /// `a | b & mask`, as the instruction for any function of three bits has it.
    const OR_MASKED: i32 = 0b1111_1000;
    let words = [load64(first), load64(second), load64(third)];
    let low = _mm512_set1_epi8(0x3F);
    let fourth = _mm512_and_si512(_mm512_srli_epi16::<6>(words[0]), _mm512_set1_epi8(0x03));
    let (upper, last) = (_mm512_srli_epi16::<4>(words[1]), _mm512_srli_epi16::<2>(words[2]));
    let fourth = _mm512_ternarylogic_epi32::<OR_MASKED>(fourth, upper, _mm512_set1_epi8(0x0C));
    let fourth = _mm512_ternarylogic_epi32::<OR_MASKED>(fourth, last, _mm512_set1_epi8(0x30));
    [
        _mm512_and_si512(words[0], low),
        _mm512_and_si512(words[1], low),
        _mm512_and_si512(words[2], low),
        fourth,
    ]
}

/// A signed byte of each row, as a number.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn signed(bytes: &[u8; ROWS]) -> __m512 {
    // SAFETY: sixteen bytes are readable behind the reference, and the load needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}
