//! Products with weights in plain formats, which are widened in registers.

use std::arch::aarch64::*;

use super::super::{LANES, Rest, TILE, Tiles};
use super::{FOUR, ROW_BLOCK, across_f, load4f, load16, load32, widen};
use crate::weights::ElementType;

/// How eight numbers in `N` bytes are widened.
trait Plain<const N: usize> {
    /// To be called only from code compiled for NEON.
    #[allow(unsafe_code)]
    unsafe fn widen(bytes: &[u8; N]) -> [float32x4_t; 2];
}

/// All products: `out[row * count + i]`.
#[target_feature(enable = "neon")]
pub(super) fn multiply(
    element: ElementType,
    weights: &[u8],
    tiles: &Tiles<[f32; LANES]>,
    count: usize,
    out: &mut [f32],
) {
    match element {
        ElementType::F32 => rows::<F32, 32>(weights, tiles, count, out),
        ElementType::F16 => rows::<F16, 16>(weights, tiles, count, out),
        ElementType::BF16 => rows::<BF16, 16>(weights, tiles, count, out),
        _ => debug_assert!(false, "{element:?} is no plain format"),
    }
}

/// All products of whole rows with all tiles.
#[inline]
#[target_feature(enable = "neon")]
fn rows<F: Plain<N>, const N: usize>(
    weights: &[u8],
    tiles: &Tiles<[f32; LANES]>,
    count: usize,
    out: &mut [f32],
) {
    let row_chunks = tiles.pieces;
    let weights = weights.as_chunks::<N>().0;
    for (weights, out) in weights.chunks(row_chunks * ROW_BLOCK).zip(out.chunks_mut(count * ROW_BLOCK)) {
        for (i, tile) in tiles.fours.chunks_exact(tiles.pieces).enumerate() {
            tile_rows::<F, N, 2, TILE>(weights, row_chunks, tile, i * TILE, count, out);
        }
        let first = count / TILE * TILE;
        match &tiles.rest {
            Rest::None => {}
            Rest::One(tile) => tile_rows::<F, N, 4, 1>(weights, row_chunks, tile, first, count, out),
            Rest::Two(tile) => tile_rows::<F, N, 4, 2>(weights, row_chunks, tile, first, count, out),
            Rest::Three(tile) => tile_rows::<F, N, 2, 3>(weights, row_chunks, tile, first, count, out),
        }
    }
}

/// The products of whole rows with one tile, whose first row of activations is number `first`.
///
/// Several sums can be added to in each cycle, and each of them every fourth; so `W` rows are multiplied at a time, to have eight sums
/// or more.
#[inline]
#[target_feature(enable = "neon")]
fn tile_rows<F: Plain<N>, const N: usize, const W: usize, const X: usize>(
    weights: &[[u8; N]],
    row_chunks: usize,
    tile: &[[[f32; LANES]; X]],
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    let several = weights.len() / (row_chunks * W) * W;
    let (weights, others) = weights.split_at(several * row_chunks);
    let (out, other_out) = out.split_at_mut(several * count);
    for (group, results) in weights.chunks_exact(row_chunks * W).zip(out.chunks_exact_mut(count * W)) {
        let mut rows = [group; W];
        for (row, chunks) in rows.iter_mut().zip(group.chunks_exact(row_chunks)) {
            *row = chunks;
        }
        let sums = tile_sums::<F, N, W, X>(rows, tile);
        for (sums, results) in sums.iter().zip(results.chunks_exact_mut(count)) {
            results[first..first + X].copy_from_slice(sums);
        }
    }
    for (row, results) in others.chunks_exact(row_chunks).zip(other_out.chunks_exact_mut(count)) {
        let [sums] = tile_sums::<F, N, 1, X>([row], tile);
        results[first..first + X].copy_from_slice(&sums);
    }
}

/// The products of `W` rows of weights with `X` rows of activations.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn tile_sums<F: Plain<N>, const N: usize, const W: usize, const X: usize>(
    rows: [&[[u8; N]]; W],
    tile: &[[[f32; LANES]; X]],
) -> [[f32; X]; W] {
    let mut sums = [[[vdupq_n_f32(0.0); 2]; X]; W];
    let mut results = [[0.0; X]; W];
    // Said before the loop, so that it needs no bounds checks.
    if rows.iter().any(|row| row.len() < tile.len()) {
        return results;
    }
    for (i, piece) in tile.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: NEON is there on every processor.
            let [low, high] = unsafe { F::widen(&row[i]) };
            for (sum, numbers) in sums.iter_mut().zip(piece) {
                let fours = numbers.as_chunks::<FOUR>().0;
                sum[0] = vfmaq_f32(sum[0], low, load4f(&fours[0]));
                sum[1] = vfmaq_f32(sum[1], high, load4f(&fours[1]));
            }
        }
    }
    for (results, sums) in results.iter_mut().zip(sums) {
        for (result, [low, high]) in results.iter_mut().zip(sums) {
            let sum = vaddq_f32(low, high);
            *result = vgetq_lane_f32::<0>(across_f([sum; FOUR]));
        }
    }
    results
}

struct F32;
struct F16;
struct BF16;

impl Plain<32> for F32 {
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn widen(bytes: &[u8; 32]) -> [float32x4_t; 2] {
        // SAFETY: the caller is compiled for NEON.
        unsafe {
            let [low, high] = load32(bytes);
            [vreinterpretq_f32_u8(low), vreinterpretq_f32_u8(high)]
        }
    }
}

impl Plain<16> for F16 {
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn widen(bytes: &[u8; 16]) -> [float32x4_t; 2] {
        // SAFETY: the caller is compiled for NEON.
        unsafe {
            let halves = vreinterpretq_u16_u8(load16(bytes));
            [widen(vget_low_u16(halves)), widen(vget_high_u16(halves))]
        }
    }
}

/// A bf16 is the upper half of an f32.
impl Plain<16> for BF16 {
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn widen(bytes: &[u8; 16]) -> [float32x4_t; 2] {
        // SAFETY: the caller is compiled for NEON.
        unsafe {
            let halves = vreinterpretq_u16_u8(load16(bytes));
            let (low, high) = (vshll_n_u16::<16>(vget_low_u16(halves)), vshll_high_n_u16::<16>(halves));
            [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)]
        }
    }
}
