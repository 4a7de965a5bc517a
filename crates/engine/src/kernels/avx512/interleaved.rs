//! Q4_K with the blocks of sixteen rows interleaved: a register holds the same part of all of them.
//!
//! A block of a file is 36 words of four bytes (spelled out in [`mod@super::super::dequantise`]); here the first words of sixteen
//! rows come first, then their second ones, and so on. So nothing is summed across a register, sixteen scales are read at a time,
//! and 256 weights take a third of the instructions that they take row by row. No bit is added: the order alone is another one.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{Block, PAIRS, Tiles};
use crate::kernels::avx2::part;
use crate::kernels::{GROUP, Rest, TILE};

/// Rows whose blocks are interleaved.
pub(in super::super) const ROWS: usize = 16;
/// Bytes of a block of the file, and the words it is made of.
const BYTES: usize = 144;
const WORDS: usize = BYTES / 4;
/// Words before the values: `d` and `dmin`, and scales and offsets of six bits.
const HEADER: usize = 4;
/// Words that hold the values of two groups, the first in the low halves.
const QUADS: usize = GROUP / 4;

/// A word of each row.
type Words = [u8; 4 * ROWS];
/// A block of each row.
pub(in super::super) type Blocks = [Words; WORDS];

/// The blocks of rows of `width` weights, so many whole rows times sixteen, from the order of the file into the other one.
pub(in super::super) fn interleave(weights: &[u8], width: usize, out: &mut [u8]) {
    let row = width / super::BLOCK * BYTES;
    for (rows, out) in weights.chunks_exact(row * ROWS).zip(out.chunks_exact_mut(row * ROWS)) {
        for (i, words) in
            out.as_chunks_mut::<{ 4 * ROWS }>().0.as_chunks_mut::<WORDS>().0.iter_mut().enumerate()
        {
            let blocks: [&[u8; BYTES]; ROWS] = std::array::from_fn(|r| part(rows, r * row + i * BYTES));
            for (w, words) in words.iter_mut().enumerate() {
                for (word, block) in words.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
                    *word = *part(block, 4 * w);
                }
            }
        }
    }
}

/// Whole blocks of such weights.
pub(in super::super) fn blocks(weights: &[u8]) -> &[Blocks] {
    weights.as_chunks().0.as_chunks().0
}

/// Scales and offsets of the groups of each row: weight = `scale * (a number of six bits) * value - offset * (another one)`.
pub(in super::super) struct Scales {
    pub(in super::super) scale: __m512,
    pub(in super::super) offset: __m512,
    /// A byte for each of the first four groups, and for each of the others.
    scales: [__m512i; 2],
    offsets: [__m512i; 2],
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f")]
    pub(in super::super) fn of(blocks: &Blocks) -> Self {
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
    pub(in super::super) fn of_group(&self, group: usize) -> __m512 {
        byte(self.scales[group / 4], group % 4)
    }

    /// The one that is multiplied with `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn offset_of_group(&self, group: usize) -> __m512 {
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
pub(in super::super) fn values(blocks: &Blocks, group: usize, quad: usize) -> __m512i {
    let both = words(&blocks[HEADER + group / 2 * QUADS + quad]);
    let shifted = if group % 2 == 1 { _mm512_srli_epi16::<4>(both) } else { both };
    _mm512_and_si512(shifted, _mm512_set1_epi8(15))
}

/// Multiplies whole rows, sixteen at a time, with every row of activations: `out[row * count + i] = weights[row] . activations[i]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in super::super) fn multiply(weights: &[u8], tiles: &Tiles<Block>, count: usize, out: &mut [f32]) {
    let length = tiles.pieces;
    for (rows, out) in blocks(weights).chunks_exact(length).zip(out.chunks_exact_mut(count * ROWS)) {
        for (i, tile) in tiles.fours.chunks_exact(length).enumerate() {
            put(products::<TILE>(rows, tile), i * TILE, count, out);
        }
        let first = count / TILE * TILE;
        match &tiles.rest {
            Rest::None => {}
            Rest::One(tile) => put(products::<1>(rows, tile), first, count, out),
            Rest::Two(tile) => put(products::<2>(rows, tile), first, count, out),
            Rest::Three(tile) => put(products::<3>(rows, tile), first, count, out),
        }
    }
}

/// Writes the products of sixteen rows of weights with some of `count` rows of activations, from number `first` on.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn put<const X: usize>(sums: [__m512; X], first: usize, count: usize, out: &mut [f32]) {
    for (x, sum) in sums.into_iter().enumerate() {
        for (result, product) in out[first + x..].iter_mut().step_by(count).zip(store16f(sum)) {
            *result = product;
        }
    }
}

/// The products of sixteen rows of weights with `X` rows of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const X: usize>(rows: &[Blocks], tile: &[[Block; X]]) -> [__m512; X] {
    // Where the compiler may write all of a block out, it puts the loads in an order of its own, which the processor doesn't foresee:
    // weights come from memory, and from the third-level cache, at a third of the speed. So it isn't told how long the loops are.
    let (pairs, quads) = (black_box(PAIRS).min(PAIRS), black_box(QUADS).min(QUADS));
    let (low_half, high_half) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(0xF0_u8 as i8));
    let mut totals = [_mm512_setzero_ps(); X];
    for (blocks, pieces) in rows.iter().zip(tile) {
        let scales = Scales::of(blocks);
        let (mut sums, mut offsets) = ([_mm512_setzero_ps(); X], [_mm512_setzero_ps(); X]);
        for pair in 0..pairs {
            let (mut low, mut high) = ([_mm512_setzero_si512(); X], [_mm512_setzero_si512(); X]);
            for (q, both) in blocks[HEADER + pair * QUADS..][..quads].iter().enumerate() {
                let both = words(both);
                let (of_first, of_second) =
                    (_mm512_and_si512(both, low_half), _mm512_and_si512(both, high_half));
                for x in 0..X {
                    let fours = pieces[x].values[pair].as_chunks::<4>().0;
                    low[x] = _mm512_dpbusd_epi32(low[x], of_first, four(fours[q]));
                    high[x] = _mm512_dpbusd_epi32(high[x], of_second, four(fours[QUADS + q]));
                }
            }
            let (first, second) = (2 * pair, 2 * pair + 1);
            let (scale, offset) = (scales.of_group(first), scales.offset_of_group(first));
            let (second_scale, second_offset) = (scales.of_group(second), scales.offset_of_group(second));
            for x in 0..X {
                let Block { scales, sums: of_groups, .. } = &pieces[x];
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(low[x]), _mm512_set1_ps(scales[first]));
                sums[x] = _mm512_fmadd_ps(products, scale, sums[x]);
                // The high halves are where they were, so that these values are sixteen times too large.
                let sixteenth = _mm512_set1_ps(scales[second] / 16.0);
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(high[x]), sixteenth);
                sums[x] = _mm512_fmadd_ps(products, second_scale, sums[x]);
                offsets[x] = _mm512_fmadd_ps(offset, _mm512_set1_ps(of_groups[first]), offsets[x]);
                offsets[x] = _mm512_fmadd_ps(second_offset, _mm512_set1_ps(of_groups[second]), offsets[x]);
            }
        }
        for x in 0..X {
            totals[x] = _mm512_fmadd_ps(sums[x], scales.scale, totals[x]);
            totals[x] = _mm512_fnmadd_ps(offsets[x], scales.offset, totals[x]);
        }
    }
    totals
}

/// Four neighbouring activations, for every row of weights.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(values: [i8; 4]) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(values.map(i8::cast_unsigned)))
}

// ---- loads and stores: the only places where memory is touched through pointers ---------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn words(words: &Words) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
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
