//! Q4_K with the blocks of sixteen rows interleaved: a register holds the same part of all of them.
//!
//! A block of a file is 36 words of four bytes (spelled out in [`mod@crate::kernels::dequantise`]); here the first words of sixteen
//! rows come first, then their second ones, and so on. So nothing is summed across a register, sixteen scales are read at a time,
//! and 256 weights take a third of the instructions that they take row by row. No bit is added: the order alone is another one.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::PAIRS;
use super::{load64 as words, put};
use crate::kernels::avx2::prefetch;
use crate::kernels::interleaved::q4_k::{Blocks, HEADER, QUADS, blocks};
use crate::kernels::interleaved::{Activations, GROUPS, Group, ROWS};

/// Rows of activations that are multiplied together.
const TILE: usize = 6;
/// How far ahead weights are brought near where several rows of activations are multiplied, which takes so long that the processor does
/// not look far enough ahead by itself. Beside a single row, which keeps memory busy, it would cost a third.
const BYTES_AHEAD: usize = 6 << 10;

/// Scales and offsets of the groups of each row: weight = `scale * (a number of six bits) * value - offset * (another one)`.
pub(in super::super::super) struct Scales {
    pub(in super::super::super) scale: __m512,
    pub(in super::super::super) offset: __m512,
    /// A byte for each of the first four groups, and for each of the others.
    scales: [__m512i; 2],
    offsets: [__m512i; 2],
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f")]
    pub(in super::super::super) fn of(blocks: &Blocks) -> Self {
        let [both, a, b, c] = [0, 1, 2, 3].map(|word| &blocks[word]);
        let (both, a, b, c) = (words(both), words(a), words(b), words(c));
        let (low_four, low_six) = (_mm512_set1_epi32(0x0F0F_0F0F), _mm512_set1_epi32(0x3F3F_3F3F));
        let upper = _mm512_set1_epi32(0x3030_3030);
        let upper_of_scales = _mm512_and_si512(_mm512_srli_epi32::<2>(a), upper);
        let upper_of_offsets = _mm512_and_si512(_mm512_srli_epi32::<2>(b), upper);
        let others = _mm512_or_si512(_mm512_and_si512(c, low_four), upper_of_scales);
        let other_offsets =
            _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32::<4>(c), low_four), upper_of_offsets);
        Self {
            scale: _mm512_cvtph_ps(_mm512_cvtepi32_epi16(both)),
            offset: _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(both))),
            scales: [_mm512_and_si512(a, low_six), others],
            offsets: [_mm512_and_si512(b, low_six), other_offsets],
        }
    }

    /// The number of group `group` of each row that is multiplied with `scale`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super::super) fn of_group(&self, group: usize) -> __m512 {
        byte(self.scales[group / 4], group % 4)
    }

    /// The one that is multiplied with `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super::super) fn offset_of_group(&self, group: usize) -> __m512 {
        byte(self.offsets[group / 4], group % 4)
    }
}

/// One byte of each word, as a number.
#[inline]
#[target_feature(enable = "avx512f")]
fn byte(words: __m512i, number: usize) -> __m512 {
    let shifted = _mm512_srlv_epi32(words, _mm512_set1_epi32(8 * number as i32));
    _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(0xFF)))
}

/// Four values of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in super::super::super) fn values(blocks: &Blocks, group: usize, quad: usize) -> __m512i {
    let both = words(&blocks[HEADER + group / 2 * QUADS + quad]);
    let shifted = if group % 2 == 1 { _mm512_srli_epi16::<4>(both) } else { both };
    _mm512_and_si512(shifted, _mm512_set1_epi8(15))
}

/// Multiplies stripes with every row of activations: `out[i * stride + row]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(weights: &[u8], activations: &Activations, out: &mut [f32], stride: usize) {
    for (n, rows) in blocks(weights).chunks_exact(activations.groups() / GROUPS).enumerate() {
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride..];
            match tile {
                1 => put(products(rows, activations.rows::<1>(first)), n * ROWS, out, stride),
                2 => put(products(rows, activations.rows::<2>(first)), n * ROWS, out, stride),
                3 => put(products(rows, activations.rows::<3>(first)), n * ROWS, out, stride),
                4 => put(products(rows, activations.rows::<4>(first)), n * ROWS, out, stride),
                5 => put(products(rows, activations.rows::<5>(first)), n * ROWS, out, stride),
                _ => put(products(rows, activations.rows::<TILE>(first)), n * ROWS, out, stride),
            }
            first += tile;
        }
    }
}

/// The products of sixteen rows of weights with `X` rows of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const X: usize>(rows: &[Blocks], tile: [&[Group]; X]) -> [[__m512; 1]; X] {
    // Where the compiler may write all of a block out, it puts the loads in an order of its own, which the processor doesn't foresee:
    // weights come from memory, and from the third-level cache, at a third of the speed. So it isn't told how long the loops are.
    let (pairs, quads) = (black_box(PAIRS).min(PAIRS), black_box(QUADS).min(QUADS));
    let (low_half, high_half) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(0xF0_u8 as i8));
    let mut totals = [[_mm512_setzero_ps()]; X];
    let mut groups = [const { &[] as &[[Group; GROUPS]] }; X];
    for (groups, row) in groups.iter_mut().zip(tile) {
        *groups = row.as_chunks().0;
    }
    // Said before the loop, so that it needs no bounds checks.
    if groups.iter().any(|groups| groups.len() < rows.len()) {
        return totals;
    }
    for (b, blocks) in rows.iter().enumerate() {
        let scales = Scales::of(blocks);
        let (mut sums, mut offsets) = ([_mm512_setzero_ps(); X], [_mm512_setzero_ps(); X]);
        for pair in 0..pairs {
            let (mut low, mut high) = ([_mm512_setzero_si512(); X], [_mm512_setzero_si512(); X]);
            let values = &blocks[HEADER + pair * QUADS..][..QUADS];
            if X > 1 {
                prefetch(values, BYTES_AHEAD);
            }
            for (q, both) in values[..quads].iter().enumerate() {
                let both = words(both);
                let (of_first, of_second) =
                    (_mm512_and_si512(both, low_half), _mm512_and_si512(both, high_half));
                for x in 0..X {
                    let (first, second) = (&groups[x][b][2 * pair], &groups[x][b][2 * pair + 1]);
                    low[x] = _mm512_dpbusd_epi32(low[x], of_first, _mm512_set1_epi32(first.quads[q]));
                    high[x] = _mm512_dpbusd_epi32(high[x], of_second, _mm512_set1_epi32(second.quads[q]));
                }
            }
            let (first, second) = (2 * pair, 2 * pair + 1);
            let (scale, offset) = (scales.of_group(first), scales.offset_of_group(first));
            let (second_scale, second_offset) = (scales.of_group(second), scales.offset_of_group(second));
            for x in 0..X {
                let (of_first, of_second) = (&groups[x][b][first], &groups[x][b][second]);
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(low[x]), _mm512_set1_ps(of_first.scale));
                sums[x] = _mm512_fmadd_ps(products, scale, sums[x]);
                // The high halves are where they were, so that these values are sixteen times too large.
                let sixteenth = _mm512_set1_ps(of_second.scale / 16.0);
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(high[x]), sixteenth);
                sums[x] = _mm512_fmadd_ps(products, second_scale, sums[x]);
                offsets[x] = _mm512_fmadd_ps(offset, _mm512_set1_ps(of_first.sum), offsets[x]);
                offsets[x] = _mm512_fmadd_ps(second_offset, _mm512_set1_ps(of_second.sum), offsets[x]);
            }
        }
        for x in 0..X {
            totals[x][0] = _mm512_fmadd_ps(sums[x], scales.scale, totals[x][0]);
            totals[x][0] = _mm512_fnmadd_ps(offsets[x], scales.offset, totals[x][0]);
        }
    }
    totals
}
