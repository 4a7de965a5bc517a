//! Stripes of Q4_K. All is added in the order in which the kernel for registers of 512 bits does it.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{BLOCKS_AHEAD, HALVES, Products};
use crate::kernels::LANES;
use crate::kernels::avx2::{load32, part, prefetch, store8f};
use crate::kernels::interleaved::q4_k::{Blocks, HEADER, QUADS, blocks};
use crate::kernels::interleaved::{Activations, GROUPS, Group, ROWS};

/// Pairs of groups in a block.
const PAIRS: usize = GROUPS / 2;
/// Rows of activations that are multiplied together.
const TILE: usize = 6;

/// Scales and offsets of the groups of eight rows: weight = `scale * (a number of six bits) * value - offset * (another one)`.
struct Scales {
    scale: __m256,
    offset: __m256,
    /// A byte for each of the first four groups, and for each of the others.
    scales: [__m256i; 2],
    offsets: [__m256i; 2],
}

impl Scales {
    /// Those of one half of the rows.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn of(blocks: &Blocks, half: usize) -> Self {
        let (both, a) = (words(blocks, 0, half), words(blocks, 1, half));
        let (b, c) = (words(blocks, 2, half), words(blocks, 3, half));
        let (low_four, low_six) = (_mm256_set1_epi32(0x0F0F_0F0F), _mm256_set1_epi32(0x3F3F_3F3F));
        let upper = _mm256_set1_epi32(0x3030_3030);
        let upper_of_scales = _mm256_and_si256(_mm256_srli_epi32::<2>(a), upper);
        let upper_of_offsets = _mm256_and_si256(_mm256_srli_epi32::<2>(b), upper);
        let others = _mm256_or_si256(_mm256_and_si256(c, low_four), upper_of_scales);
        let other_offsets =
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32::<4>(c), low_four), upper_of_offsets);
        Self {
            scale: low_halves(_mm256_and_si256(both, _mm256_set1_epi32(0xFFFF))),
            offset: low_halves(_mm256_srli_epi32::<16>(both)),
            scales: [_mm256_and_si256(a, low_six), others],
            offsets: [_mm256_and_si256(b, low_six), other_offsets],
        }
    }

    /// The number of group `group` of each row that is multiplied with `scale`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of_group(&self, group: usize) -> __m256 {
        byte(self.scales[group / 4], group % 4)
    }

    /// The one that is multiplied with `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn offset_of_group(&self, group: usize) -> __m256 {
        byte(self.offsets[group / 4], group % 4)
    }
}

/// A word of each of eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn words(blocks: &Blocks, word: usize, half: usize) -> __m256i {
    load32(part(&blocks[word], half * 4 * LANES))
}

/// Half-precision numbers, alone in the low bits of each word.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn low_halves(words: __m256i) -> __m256 {
    let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm256_cvtph_ps(_mm_packus_epi32(low, high))
}

/// One byte of each word, as a number.
#[inline]
#[target_feature(enable = "avx2")]
fn byte(words: __m256i, number: usize) -> __m256 {
    let shifted = _mm256_srlv_epi32(words, _mm256_set1_epi32(8 * number as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(0xFF)))
}

/// Multiplies stripes with every row of activations: `out[i * stride + row]`.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply<M: Products>(
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    for (n, rows) in blocks(weights).chunks_exact(activations.groups() / GROUPS).enumerate() {
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride + n * ROWS..];
            // SAFETY: who takes `M` is compiled for what it needs.
            unsafe {
                match tile {
                    1 => M::tile_sums_of_q4_k::<1>(rows, activations.rows(first), out, stride),
                    2 => M::tile_sums_of_q4_k::<2>(rows, activations.rows(first), out, stride),
                    3 => M::tile_sums_of_q4_k::<3>(rows, activations.rows(first), out, stride),
                    4 => M::tile_sums_of_q4_k::<4>(rows, activations.rows(first), out, stride),
                    5 => M::tile_sums_of_q4_k::<5>(rows, activations.rows(first), out, stride),
                    _ => M::tile_sums_of_q4_k::<TILE>(rows, activations.rows(first), out, stride),
                }
            }
            first += tile;
        }
    }
}

/// Writes the products of a stripe with `X` rows of activations: `out[x * stride + row]`. It is compiled with its caller, whose
/// features `M` needs.
#[inline(always)]
#[allow(unsafe_code)]
#[allow(clippy::needless_range_loop, reason = "what iterators give here does not stay in registers")]
pub(super) unsafe fn tile_sums<M: Products, const X: usize>(
    rows: &[Blocks],
    tile: [&[Group]; X],
    out: &mut [f32],
    stride: usize,
) {
    // SAFETY: the caller is compiled for all that is called here.
    unsafe {
        // Written out, the loads would come in another order than the words lie in, see the kernel for registers of 512 bits.
        let (pairs, quads) = (black_box(PAIRS).min(PAIRS), black_box(QUADS).min(QUADS));
        let low_half = _mm256_set1_epi8(0x0F);
        let mut totals = [[_mm256_setzero_ps(); HALVES]; X];
        let mut groups = [const { &[] as &[[Group; GROUPS]] }; X];
        for x in 0..X {
            groups[x] = tile[x].as_chunks().0;
        }
        // Said before the loop, so that it needs no bounds checks.
        if groups.iter().any(|groups| groups.len() < rows.len()) {
            return;
        }
        // As many sums as the registers hold: of few rows of activations those of both halves, which share what is read of these.
        let together = if X <= 3 { HALVES } else { 1 };
        for b in 0..rows.len() {
            let blocks = &rows[b];
            let (header, values) = blocks.split_at(HEADER);
            prefetch(header, BLOCKS_AHEAD);
            let scales = [Scales::of(blocks, 0), Scales::of(blocks, 1)];
            let mut sums = [[_mm256_setzero_ps(); HALVES]; X];
            let mut offsets = sums;
            for pair in 0..pairs {
                let (first, second) = (2 * pair, 2 * pair + 1);
                let values = &values[pair * QUADS..][..QUADS];
                prefetch(values, BLOCKS_AHEAD);
                for half in (0..HALVES).step_by(together) {
                    let mut low = [[M::start(0); HALVES]; X];
                    let mut high = low;
                    for q in 0..quads {
                        let mut of_first = [_mm256_setzero_si256(); HALVES];
                        let mut of_second = of_first;
                        for h in 0..together {
                            let both = load32(part(&values[q], (half + h) * 4 * LANES));
                            of_first[h] = _mm256_and_si256(both, low_half);
                            of_second[h] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low_half);
                        }
                        for x in 0..X {
                            let four = _mm256_set1_epi32(groups[x][b][first].quads[q]);
                            for h in 0..together {
                                low[x][h] = M::add(low[x][h], of_first[h], M::magnitudes(of_first[h]), four);
                            }
                            let four = _mm256_set1_epi32(groups[x][b][second].quads[q]);
                            for h in 0..together {
                                high[x][h] =
                                    M::add(high[x][h], of_second[h], M::magnitudes(of_second[h]), four);
                            }
                        }
                    }
                    for h in 0..together {
                        let of_rows = &scales[half + h];
                        let (scale, second_scale) = (of_rows.of_group(first), of_rows.of_group(second));
                        let (offset, second_offset) =
                            (of_rows.offset_of_group(first), of_rows.offset_of_group(second));
                        for x in 0..X {
                            let (of_first, of_second) = (&groups[x][b][first], &groups[x][b][second]);
                            let (sum, of_offsets) = (&mut sums[x][half + h], &mut offsets[x][half + h]);
                            let integers = _mm256_cvtepi32_ps(M::finish(low[x][h], 0));
                            let products = _mm256_mul_ps(integers, _mm256_set1_ps(of_first.scale));
                            *sum = _mm256_fmadd_ps(products, scale, *sum);
                            let integers = _mm256_cvtepi32_ps(M::finish(high[x][h], 0));
                            let products = _mm256_mul_ps(integers, _mm256_set1_ps(of_second.scale));
                            *sum = _mm256_fmadd_ps(products, second_scale, *sum);
                            *of_offsets = _mm256_fmadd_ps(offset, _mm256_set1_ps(of_first.sum), *of_offsets);
                            *of_offsets =
                                _mm256_fmadd_ps(second_offset, _mm256_set1_ps(of_second.sum), *of_offsets);
                        }
                    }
                }
            }
            for x in 0..X {
                for h in 0..HALVES {
                    totals[x][h] = _mm256_fmadd_ps(sums[x][h], scales[h].scale, totals[x][h]);
                    totals[x][h] = _mm256_fnmadd_ps(offsets[x][h], scales[h].offset, totals[x][h]);
                }
            }
        }
        for x in 0..X {
            let out = out[x * stride..][..ROWS].as_chunks_mut::<LANES>().0;
            for h in 0..HALVES {
                out[h] = store8f(totals[x][h]);
            }
        }
    }
}
