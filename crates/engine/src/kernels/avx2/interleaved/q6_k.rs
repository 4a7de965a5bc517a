//! Stripes of Q6_K. All is added in the order in which the kernel for registers of 512 bits does it.
//!
//! What the words of a block hold is told where they are written, in [`mod@crate::kernels::interleaved`].

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{BLOCKS_AHEAD, HALVES, Products, halves};
use crate::kernels::LANES;
use crate::kernels::avx2::{load32, part, prefetch, store8f};
use crate::kernels::interleaved::q6_k::{BLOCK_BYTES, D_BYTES, HALVED, PARTS, QUADS, SCALES, TOGETHER};
use crate::kernels::interleaved::{Activations, GROUPS, Group, ROWS, Stripe, WORDS, cut};

/// Parts of a block, each of which has the words of one half of four groups.
const OCTETS: usize = GROUPS / 2;
/// Rows of activations that are multiplied together.
const TILE: usize = 6;

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
    let blocks = activations.groups() / GROUPS;
    for (n, weights) in weights.chunks_exact(blocks * (D_BYTES + BLOCK_BYTES)).enumerate() {
        let stripe = cut(weights, blocks);
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride + n * ROWS..];
            // SAFETY: who takes `M` is compiled for what it needs.
            unsafe {
                match tile {
                    1 => M::tile_sums_of_q6_k::<1>(stripe, activations.rows(first), out, stride),
                    2 => M::tile_sums_of_q6_k::<2>(stripe, activations.rows(first), out, stride),
                    3 => M::tile_sums_of_q6_k::<3>(stripe, activations.rows(first), out, stride),
                    4 => M::tile_sums_of_q6_k::<4>(stripe, activations.rows(first), out, stride),
                    5 => M::tile_sums_of_q6_k::<5>(stripe, activations.rows(first), out, stride),
                    _ => M::tile_sums_of_q6_k::<TILE>(stripe, activations.rows(first), out, stride),
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
    stripe: Stripe<'_, D_BYTES, BLOCK_BYTES>,
    tile: [&[Group]; X],
    out: &mut [f32],
    stride: usize,
) {
    // SAFETY: the caller is compiled for all that is called here.
    unsafe {
        let mut totals = [[_mm256_setzero_ps(); HALVES]; X];
        let mut groups = [const { &[] as &[[Group; GROUPS]] }; X];
        for x in 0..X {
            groups[x] = tile[x].as_chunks().0;
        }
        // Said before the loop, so that it needs no bounds checks.
        let length = stripe.values.len();
        if stripe.scales.len() < length || groups.iter().any(|groups| groups.len() < length) {
            return;
        }
        // Written out, the loads would come in another order than the words lie in.
        let (octets, parts) = (black_box(OCTETS).min(OCTETS), black_box(PARTS).min(PARTS));
        for b in 0..length {
            let (scales, words) = stripe.values[b].split_at(SCALES * ROWS);
            let (scales, words) = (scales.as_chunks::<ROWS>().0, words.as_chunks::<WORDS>().0);
            prefetch(scales, BLOCKS_AHEAD);
            let mut sums = [[_mm256_setzero_ps(); HALVES]; X];
            // Four half groups at a time: the first halves of the first four groups, the second ones, those of the others.
            for octet in 0..octets {
                let (first_group, second_half) = (octet / 2 * PARTS, octet % 2);
                let words = &words.as_chunks::<{ QUADS * TOGETHER }>().0[octet];
                prefetch(words, BLOCKS_AHEAD);
                // They are taken apart once for all rows of activations. There are more than registers.
                let mut weights = [[[_mm256_setzero_si256(); HALVES]; QUADS]; PARTS];
                for q in 0..QUADS {
                    for h in 0..HALVES {
                        let values = values(&words.as_chunks::<TOGETHER>().0[q], h);
                        for part in 0..PARTS {
                            weights[part][q][h] = values[part];
                        }
                    }
                }
                for part in 0..parts {
                    let weights = &weights[part];
                    let of_rows = &scales[2 * (first_group + part) + second_half];
                    let scales = [signed(of_rows, 0), signed(of_rows, 1)];
                    for x in 0..X {
                        let group = &groups[x][b][first_group + part];
                        let biases = [group.first_bias, group.bias - group.first_bias];
                        let bias = biases[second_half] >> HALVED;
                        let fours = &group.quads.as_chunks::<QUADS>().0[second_half];
                        let (mut first, mut last) = ([M::start(bias); HALVES], [M::start(0); HALVES]);
                        for q in 0..QUADS / 2 {
                            let four = _mm256_set1_epi32(fours[q]);
                            let another = _mm256_set1_epi32(fours[QUADS / 2 + q]);
                            for h in 0..HALVES {
                                let (of_first, of_last) = (weights[q][h], weights[QUADS / 2 + q][h]);
                                first[h] = M::add(first[h], of_first, M::magnitudes(of_first), four);
                                last[h] = M::add(last[h], of_last, M::magnitudes(of_last), another);
                            }
                        }
                        let of_group = _mm256_set1_ps(group.scale);
                        for h in 0..HALVES {
                            let integers = _mm256_add_epi32(M::finish(first[h], bias), M::finish(last[h], 0));
                            let products = _mm256_mul_ps(_mm256_cvtepi32_ps(integers), of_group);
                            sums[x][h] = _mm256_fmadd_ps(products, scales[h], sums[x][h]);
                        }
                    }
                }
            }
            for h in 0..HALVES {
                let scale = halves(&stripe.scales[b], h);
                for x in 0..X {
                    totals[x][h] = _mm256_fmadd_ps(sums[x][h], scale, totals[x][h]);
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

/// A quad of each of four groups, of one half of the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn values(words: &[[u8; WORDS]; TOGETHER], half: usize) -> [__m256i; PARTS] {
    let [first, second, third] = words;
    let at = half * 4 * LANES;
    let (first, second, third) = (load32(part(first, at)), load32(part(second, at)), load32(part(third, at)));
    let low = _mm256_set1_epi8(0x3F);
    // Shifting 16-bit lanes moves bits across bytes, into positions that the masks clear.
    let lowest = _mm256_and_si256(_mm256_srli_epi16::<6>(first), _mm256_set1_epi8(0x03));
    let middle = _mm256_and_si256(_mm256_srli_epi16::<4>(second), _mm256_set1_epi8(0x0C));
    let upper = _mm256_and_si256(_mm256_srli_epi16::<2>(third), _mm256_set1_epi8(0x30));
    [
        _mm256_and_si256(first, low),
        _mm256_and_si256(second, low),
        _mm256_and_si256(third, low),
        _mm256_or_si256(_mm256_or_si256(lowest, middle), upper),
    ]
}

/// A signed byte of each of eight rows, as a number.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn signed(bytes: &[u8; ROWS], half: usize) -> __m256 {
    let bytes: &[u8; LANES] = part(bytes, half * LANES);
    // SAFETY: eight bytes are readable behind the reference, and the load needs no alignment.
    let bytes = unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}
