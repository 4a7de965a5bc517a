//! Panels out of rows of weights.

use std::arch::x86_64::*;

use super::{ROWS, WeightGroup, load, store16f};
use crate::kernels::avx2::blocks::Block;
use crate::kernels::avx512::interleaved::Format;
use crate::kernels::avx512::interleaved::q4_k::{Scales, values};
use crate::kernels::interleaved::q4_k::Blocks;
use crate::kernels::interleaved::{GROUPS, Stripe};

/// Makes a panel of the first rows. Where there are fewer, the last one comes several times.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn fill<F: Block<N>, const N: usize>(
    weights: &[[u8; N]],
    chunks: usize,
    panel: &mut [WeightGroup],
) {
    let last = weights.len() / chunks - 1;
    for c in 0..chunks {
        let mut blocks = [&weights[c]; ROWS];
        for (r, block) in blocks.iter_mut().enumerate() {
            *block = &weights[r.min(last) * chunks + c];
        }
        let groups = &mut panel[c * F::GROUPS..][..F::GROUPS];
        for (r, block) in blocks.iter().enumerate() {
            // SAFETY: this function is compiled for more than these need.
            let scales = unsafe { F::scales(block) };
            for (g, group) in groups.iter_mut().enumerate() {
                group.scales[r] = scales.scales[g];
                group.offsets[r] = scales.offsets[g];
            }
        }
        for (g, group) in groups.iter_mut().enumerate() {
            for half in 0..2 {
                let mut values = [_mm256_setzero_si256(); 8];
                for (value, block) in values.iter_mut().zip(&blocks[half * 8..]) {
                    // SAFETY: as above.
                    let unpacked = unsafe { F::values(block, g) };
                    *value = _mm256_sub_epi8(unpacked, _mm256_set1_epi8(F::MIDDLE));
                }
                for (quad, rows) in group.quads.iter_mut().zip(transposed(values)) {
                    store8i(&mut quad.as_chunks_mut::<32>().0[half], rows);
                }
            }
            correct(group);
        }
    }
}

/// The same of a stripe, to the last bit.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn fill_of_stripe<F: Format<S, V>, const S: usize, const V: usize>(
    stripe: &Stripe<'_, S, V>,
    panel: &mut [WeightGroup],
) {
    let middle = _mm512_set1_epi8(F::HALVED.map_or(0, |halved| (128_u32 >> halved) as i8));
    for ((scales, values), group) in stripe.scales.iter().zip(stripe.values).zip(panel) {
        for (w, word) in values.as_chunks().0.iter().enumerate() {
            // SAFETY: this function is compiled for more than these need.
            let quads = unsafe { F::quads(word) };
            for (quad, values) in group.quads[w..].iter_mut().step_by(F::WORDS_OF_GROUP).zip(quads) {
                store64(quad, _mm512_sub_epi8(values, middle));
            }
        }
        // SAFETY: as above.
        group.scales = store16f(unsafe { F::scale(scales) });
        if F::HALVED.is_none() {
            // SAFETY: as above.
            group.offsets = store16f(unsafe { F::offset(scales) });
        }
        correct(group);
    }
}

/// The same of blocks of Q4_K that are interleaved, to the last bit.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn fill_of_blocks(rows: &[Blocks], panel: &mut [WeightGroup]) {
    for (blocks, groups) in rows.iter().zip(panel.as_chunks_mut::<GROUPS>().0) {
        let scales = Scales::of(blocks);
        let offset = _mm512_sub_ps(_mm512_setzero_ps(), scales.offset);
        for (g, group) in groups.iter_mut().enumerate() {
            for (q, quad) in group.quads.iter_mut().enumerate() {
                store64(quad, values(blocks, g, q));
            }
            group.scales = store16f(_mm512_mul_ps(scales.of_group(g), scales.scale));
            group.offsets = store16f(_mm512_mul_ps(scales.offset_of_group(g), offset));
            correct(group);
        }
    }
}

/// Writes what the 128 of the activations adds too much.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn correct(group: &mut WeightGroup) {
    let mut sum = _mm512_setzero_si512();
    for quad in &group.quads {
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(-128), load(quad));
    }
    group.corrections = store16i(_mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

/// Number `j` of vector `i` becomes number `i` of vector `j`.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |a, b| (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let fours = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((ab_low, ab_high), (cd_low, cd_high)) = (pairs(a, b), pairs(c, d));
    let ((ef_low, ef_high), (gh_low, gh_high)) = (pairs(e, f), pairs(g, h));
    let ((first, second), (third, fourth)) = (fours(ab_low, cd_low), fours(ab_high, cd_high));
    let ((fifth, sixth), (seventh, eighth)) = (fours(ef_low, gh_low), fours(ef_high, gh_high));
    let low = |a, b| _mm256_permute2x128_si256::<0x20>(a, b);
    let high = |a, b| _mm256_permute2x128_si256::<0x31>(a, b);
    [
        low(first, fifth),
        low(second, sixth),
        low(third, seventh),
        low(fourth, eighth),
        high(first, fifth),
        high(second, sixth),
        high(third, seventh),
        high(fourth, eighth),
    ]
}

// ---- stores: the only places where memory is touched through pointers ------------------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn store16i(numbers: __m512i) -> [i32; 16] {
    let mut out = [0; 16];
    // SAFETY: sixteen numbers are writable behind the reference, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), numbers) };
    out
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store8i(bytes: &mut [i8; 32], numbers: __m256i) {
    // SAFETY: 32 bytes are writable behind the reference, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), numbers) };
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn store64(bytes: &mut [i8; 64], numbers: __m512i) {
    // SAFETY: 64 bytes are writable behind the reference, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), numbers) };
}
