//! Products of quantised weights with few rows of activations, as generating has them, on x86-64 with AVX-512 VNNI.
//!
//! Weights and activations are multiplied 64 at a time, in blocks of 256, whose scales are read and multiplied all at once: a
//! block takes half as many instructions as in [`super::avx2`], so a large model is read about as fast as memory brings it.
//!
//! Weights are unsigned here, as one factor has to be: what is added to make them so is taken away with the sums of the
//! activations, as the offsets of formats that have some.

mod blocks;
pub(super) mod interleaved;

use std::arch::x86_64::*;

use super::{GROUP, Group, Rest, TILE, Tiles, math};
use crate::weights::ElementType;
use blocks::{Q4_0, Q4K, Q5K, Q6K, Q8_0};

/// Weights that are multiplied at a time, whatever the format calls a block.
pub(super) const BLOCK: usize = 256;
/// Numbers in a register, and parts of a block that may have scales of their own.
const LANES: usize = 16;
/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;
/// Pairs of groups in a block. The values of a pair fill a register.
const PAIRS: usize = GROUPS / 2;
/// Rows of weights that meet every tile of activations before the next rows do, so that both stay in the first-level cache.
const ROW_BLOCK: usize = 16;
/// A block of one row of activations: element = `scale * value`, with a scale for each group.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block {
    values: [[i8; 2 * GROUP]; PAIRS],
    scales: [f32; GROUPS],
    /// Sums of the elements of each group, and of each half of one.
    sums: [f32; GROUPS],
    half_sums: [f32; LANES],
}

const EMPTY: Block = Block {
    values: [[0; 2 * GROUP]; PAIRS],
    scales: [0.0; GROUPS],
    sums: [0.0; GROUPS],
    half_sums: [0.0; LANES],
};

/// Whether rows of so many numbers are multiplied here with weights of this type.
pub(super) fn suit(element: ElementType, width: usize) -> bool {
    use ElementType::{Q4_0, Q4K, Q5K, Q6K, Q8_0};
    width.is_multiple_of(BLOCK) && matches!(element, Q4_0 | Q8_0 | Q4K | Q5K | Q6K) && super::has_vnni()
}

/// Quantises rows of `width` numbers, and packs them.
#[allow(unsafe_code)]
pub(super) fn pack(rows: &[f32], width: usize) -> Tiles<Block> {
    #[target_feature(enable = "avx2,fma")]
    fn fast(rows: &[f32], width: usize) -> Tiles<Block> {
        Tiles::pack(rows, width, EMPTY, block)
    }
    // SAFETY: rows are multiplied here only where `suit` has found more than that.
    unsafe { fast(rows, width) }
}

#[inline(always)]
fn block(numbers: &[f32; BLOCK]) -> Block {
    let mut packed = EMPTY;
    for (g, numbers) in numbers.as_chunks::<GROUP>().0.iter().enumerate() {
        let Group { values, scale, sum } = math::quantise_group::<true>(numbers);
        packed.values[g / 2][g % 2 * GROUP..][..GROUP].copy_from_slice(&values);
        packed.scales[g] = scale;
        packed.sums[g] = sum;
        for (half, values) in values.as_chunks::<16>().0.iter().enumerate() {
            let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
            packed.half_sums[2 * g + half] = scale * sum as f32;
        }
    }
    packed
}

/// A format, in chunks of `N` bytes that hold [`BLOCK`] weights. What is said here is called only from code that is compiled for
/// all that [`suit`] asks for.
trait Format<const N: usize> {
    /// Whether each half of a group has scale and offset of its own.
    const HALVES: bool;

    /// Scales and offsets: weight = `scale * value + offset`. Of whole groups there are eight of each.
    #[allow(unsafe_code)]
    unsafe fn scales(chunk: &[u8; N]) -> (__m512, __m512);

    /// The values of a pair of groups, as unsigned bytes.
    #[allow(unsafe_code)]
    unsafe fn values(chunk: &[u8; N], pair: usize) -> __m512i;
}

/// Multiplies whole rows of `weights` with every row of activations: `out[row * count + i] = weights[row] . activations[i]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(
    element: ElementType,
    weights: &[u8],
    tiles: &Tiles<Block>,
    count: usize,
    out: &mut [f32],
) {
    match element {
        ElementType::Q4_0 => rows::<Q4_0, 144>(weights, tiles, count, out),
        ElementType::Q8_0 => rows::<Q8_0, 272>(weights, tiles, count, out),
        ElementType::Q4K => rows::<Q4K, 144>(weights, tiles, count, out),
        ElementType::Q5K => rows::<Q5K, 176>(weights, tiles, count, out),
        ElementType::Q6K => rows::<Q6K, 210>(weights, tiles, count, out),
        _ => debug_assert!(false, "{element:?} is multiplied elsewhere"),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows<F: Format<N>, const N: usize>(weights: &[u8], tiles: &Tiles<Block>, count: usize, out: &mut [f32]) {
    let chunks = tiles.pieces;
    let weights = weights.as_chunks::<N>().0;
    for (weights, out) in weights.chunks(chunks * ROW_BLOCK).zip(out.chunks_mut(count * ROW_BLOCK)) {
        for (i, tile) in tiles.fours.chunks_exact(chunks).enumerate() {
            tile_rows::<F, N, TILE>(weights, tile, i * TILE, count, out);
        }
        let first = count / TILE * TILE;
        match &tiles.rest {
            Rest::None => {}
            Rest::One(tile) => tile_rows::<F, N, 1>(weights, tile, first, count, out),
            Rest::Two(tile) => tile_rows::<F, N, 2>(weights, tile, first, count, out),
            Rest::Three(tile) => tile_rows::<F, N, 3>(weights, tile, first, count, out),
        }
    }
}

/// The products of whole rows with one tile, whose first row of activations is number `first`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile_rows<F: Format<N>, const N: usize, const X: usize>(
    weights: &[[u8; N]],
    tile: &[[Block; X]],
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    for (row, results) in weights.chunks_exact(tile.len()).zip(out.chunks_exact_mut(count)) {
        results[first..first + X].copy_from_slice(&row_sums::<F, N, X>(row, tile));
    }
}

/// The products of one row of weights with `X` rows of activations.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_sums<F: Format<N>, const N: usize, const X: usize>(row: &[[u8; N]], tile: &[[Block; X]]) -> [f32; X] {
    // Each is added to twice a block, so that the next addition need not wait for the one before.
    let mut sums = [[_mm512_setzero_ps(); 2]; X];
    let (mut offsets, mut group_offsets) = ([_mm512_setzero_ps(); X], [_mm256_setzero_ps(); X]);
    for (chunk, blocks) in row.iter().zip(tile) {
        // SAFETY: this function is compiled for what these need.
        let (scale, offset) = unsafe { F::scales(chunk) };
        let mut scales = [_mm512_setzero_ps(); X];
        for (scales, block) in scales.iter_mut().zip(blocks) {
            *scales = if F::HALVES {
                let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                let both = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(load8f(&block.scales)));
                _mm512_mul_ps(scale, both)
            } else {
                _mm512_castps256_ps512(_mm256_mul_ps(_mm512_castps512_ps256(scale), load8f(&block.scales)))
            };
        }
        for pair in 0..PAIRS {
            // SAFETY: as above.
            let values = unsafe { F::values(chunk, pair) };
            for x in 0..X {
                let products =
                    _mm512_dpbusd_epi32(_mm512_setzero_si512(), values, load64(&blocks[x].values[pair]));
                let scale = _mm512_permutexvar_ps(lanes::<F, N>(pair), scales[x]);
                sums[x][pair % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[x][pair % 2]);
            }
        }
        for x in 0..X {
            if F::HALVES {
                offsets[x] = _mm512_fmadd_ps(offset, load16f(&blocks[x].half_sums), offsets[x]);
            } else {
                let sums = load8f(&blocks[x].sums);
                group_offsets[x] = _mm256_fmadd_ps(_mm512_castps512_ps256(offset), sums, group_offsets[x]);
            }
        }
    }
    std::array::from_fn(|x| {
        let offsets = if F::HALVES { offsets[x] } else { _mm512_zextps256_ps512(group_offsets[x]) };
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[x][0], sums[x][1]), offsets))
    })
}

/// Where the scales of a pair stand, for each sum of four neighbouring products.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes<F: Format<N>, const N: usize>(pair: usize) -> __m512i {
    if F::HALVES {
        let first = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        _mm512_add_epi32(first, _mm512_set1_epi32(4 * pair as i32))
    } else {
        let first = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        _mm512_add_epi32(first, _mm512_set1_epi32(2 * pair as i32))
    }
}

// ---- loads: the only places where memory is touched through pointers -------------------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load64(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load16f(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen numbers are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load8f(numbers: &[f32; GROUPS]) -> __m256 {
    // SAFETY: eight numbers are readable behind the reference, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
}
