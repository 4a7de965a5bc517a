//! Vector kernels for 64-bit ARM, where NEON and fused multiply-add are there on every processor.
//!
//! Four rows of weights in blocks are multiplied at a time, with up to four rows of activations. The products of a group are added up in
//! integers, which come out the same in any order, and stand in the lanes of a register then: one for each row of weights, with their
//! scales beside them. So nothing is left to be summed up across a register at the end of a row, and what a row of weights gives with a row
//! of activations is the same bit for bit, whatever else is multiplied. Processors with the instructions for scalar products of bytes
//! (`dotprod`, looked up at run time) take a third of the others' instructions for the products, and come to the same numbers.

pub(super) mod attention;
mod blocks;
pub(super) mod exponentials;
mod plain;
pub(super) mod quantise;
pub(super) mod stripes;

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::{Activations, Group, Packed, Rest, TILE, Tiles};
use crate::weights::ElementType;
use blocks::{Block, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// Numbers of a register.
pub(super) const FOUR: usize = 4;

/// Rows of weights that are multiplied at a time, a lane for each.
const ROWS: usize = FOUR;

/// Rows of weights that meet every tile of activations before the next rows do, so that both stay in the first-level
/// cache.
const ROW_BLOCK: usize = 16;

/// As [`super::multiply`].
#[target_feature(enable = "neon")]
pub(super) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    match &activations.packed {
        Packed::Plain(tiles) => plain::multiply(element, weights, tiles, activations.count(), out),
        Packed::Quantised(tiles) if has_dot() => {
            blocks::<true>(element, weights, tiles, activations.count(), out);
        }
        Packed::Quantised(tiles) => blocks::<false>(element, weights, tiles, activations.count(), out),
        Packed::None => super::portable::multiply(element, weights, activations, out),
        Packed::Stripes(_) => debug_assert!(false, "these are multiplied elsewhere"),
    }
}

/// Whether the processor has scalar products of bytes.
pub(super) fn has_dot() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

/// The products with weights in blocks. `DOT` only on processors that have scalar products.
#[target_feature(enable = "neon")]
fn blocks<const DOT: bool>(
    element: ElementType,
    weights: &[u8],
    tiles: &Tiles<Group>,
    count: usize,
    out: &mut [f32],
) {
    match element {
        ElementType::Q4_0 => rows::<Q4_0, 18, DOT>(weights, tiles, count, out),
        ElementType::Q4_1 => rows::<Q4_1, 20, DOT>(weights, tiles, count, out),
        ElementType::Q5_0 => rows::<Q5_0, 22, DOT>(weights, tiles, count, out),
        ElementType::Q5_1 => rows::<Q5_1, 24, DOT>(weights, tiles, count, out),
        ElementType::Q8_0 => rows::<Q8_0, 34, DOT>(weights, tiles, count, out),
        ElementType::Q4K => rows::<Q4K, 144, DOT>(weights, tiles, count, out),
        ElementType::Q5K => rows::<Q5K, 176, DOT>(weights, tiles, count, out),
        ElementType::Q6K => rows::<Q6K, 210, DOT>(weights, tiles, count, out),
        ElementType::F32 | ElementType::F16 | ElementType::BF16 => {
            debug_assert!(false, "{element:?} has no blocks");
        }
    }
}

/// All products of whole rows with all tiles.
#[target_feature(enable = "neon")]
fn rows<F: Block<N>, const N: usize, const DOT: bool>(
    weights: &[u8],
    tiles: &Tiles<Group>,
    count: usize,
    out: &mut [f32],
) {
    let row_blocks = tiles.pieces / F::GROUPS;
    let weights = weights.as_chunks::<N>().0;
    for (weights, out) in weights.chunks(row_blocks * ROW_BLOCK).zip(out.chunks_mut(count * ROW_BLOCK)) {
        for (i, tile) in tiles.fours.chunks_exact(tiles.pieces).enumerate() {
            tile_rows::<F, N, DOT, TILE>(weights, row_blocks, tile, i * TILE, count, out);
        }
        let first = count / TILE * TILE;
        match &tiles.rest {
            Rest::None => {}
            Rest::One(tile) => tile_rows::<F, N, DOT, 1>(weights, row_blocks, tile, first, count, out),
            Rest::Two(tile) => tile_rows::<F, N, DOT, 2>(weights, row_blocks, tile, first, count, out),
            Rest::Three(tile) => tile_rows::<F, N, DOT, 3>(weights, row_blocks, tile, first, count, out),
        }
    }
}

/// The products of whole rows with one tile, whose first row of activations is number `first`.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn tile_rows<F: Block<N>, const N: usize, const DOT: bool, const X: usize>(
    weights: &[[u8; N]],
    row_blocks: usize,
    tile: &[[Group; X]],
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    for (weights, results) in weights.chunks(row_blocks * ROWS).zip(out.chunks_mut(count * ROWS)) {
        // Where fewer are left, the last one comes several times.
        let last = weights.len() - row_blocks;
        let row = |r: usize| &weights[last.min(r * row_blocks)..][..row_blocks];
        let four = [row(0), row(1), row(2), row(3)];
        let sums = if DOT {
            // SAFETY: `multiply` has found that the processor has scalar products.
            unsafe { tile_sums_by_dot::<F, N, X>(four, tile) }
        } else {
            tile_sums_by_pairs::<F, N, X>(four, tile)
        };
        for r in 0..ROWS {
            let at = r * count + first;
            let Some(results) = results.get_mut(at..at + X) else { break };
            for (result, sums) in results.iter_mut().zip(&sums) {
                *result = sums[r];
            }
        }
    }
}

/// Declares `$name`, which gives the products of four rows of weights with `X` rows of activations: for each of these, those with
/// the rows of weights. It is compiled for `$features`, and `$dot` adds the products of sixteen bytes to four sums.
macro_rules! tile_sums {
    ($name:ident, $products:ident, $features:tt, $dot:ident) => {
        #[allow(unsafe_code)]
        #[target_feature(enable = $features)]
        fn $name<F: Block<N>, const N: usize, const X: usize>(
            [a, b, c, d]: [&[[u8; N]]; ROWS],
            tile: &[[Group; X]],
        ) -> [[f32; ROWS]; X] {
            let mut sums = [vdupq_n_f32(0.0); X];
            let blocks = a.iter().zip(b).zip(c).zip(d);
            for ((((a, b), c), d), pieces) in blocks.zip(tile.chunks_exact(F::GROUPS)) {
                let blocks = [a, b, c, d];
                // SAFETY: NEON is there on every processor.
                let scales = unsafe { F::scales(blocks) };
                // By twos, which differ in what is a constant then.
                let step = F::GROUPS.min(2);
                for first in (0..F::GROUPS).step_by(step) {
                    for g in first..first + step {
                        let mut weights = [[vdupq_n_s8(0); 2]; ROWS];
                        for (weights, block) in weights.iter_mut().zip(blocks) {
                            // SAFETY: as above.
                            *weights = unsafe { F::values(block, g) };
                        }
                        for (sum, group) in sums.iter_mut().zip(&pieces[g]) {
                            let values = load32i(&group.values);
                            let integers = if F::HALVES {
                                let [first, second] = scales.of_halves[g];
                                let products = vmulq_s32($products(&weights, values, &[0]), first);
                                vmlaq_s32(products, $products(&weights, values, &[1]), second)
                            } else {
                                $products(&weights, values, &[0, 1])
                            };
                            let products = vmulq_f32(vcvtq_f32_s32(integers), scales.scales[g]);
                            *sum = vfmaq_n_f32(*sum, products, group.scale);
                            if F::OFFSETS {
                                *sum = vfmaq_n_f32(*sum, scales.offsets[g], group.sum);
                            }
                        }
                    }
                }
            }
            let mut results = [[0.0; ROWS]; X];
            for (result, sum) in results.iter_mut().zip(sums) {
                *result = store4f(sum);
            }
            results
        }

        /// The products of these halves of a group.
        #[inline]
        #[target_feature(enable = $features)]
        fn $products(
            weights: &[[int8x16_t; 2]; ROWS],
            values: [int8x16_t; 2],
            halves: &[usize],
        ) -> int32x4_t {
            let mut sums = [vdupq_n_s32(0); ROWS];
            for (sum, weights) in sums.iter_mut().zip(weights) {
                for &half in halves {
                    *sum = $dot(*sum, weights[half], values[half]);
                }
            }
            across(sums)
        }
    };
}

tile_sums!(tile_sums_by_dot, products_by_dot, "neon,dotprod", dot);
tile_sums!(tile_sums_by_pairs, products_by_pairs, "neon", dot_by_pairs);

/// Adds to each sum the products of four bytes.
// The library's function for this instruction is not stable.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction changes nothing but the register of the sums, and the processor has it where this is called.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// As [`dot`] for any processor, with other bytes in each of the sums.
#[inline]
#[target_feature(enable = "neon")]
fn dot_by_pairs(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // At most 2 * 128 * 127, which fits.
    let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b);
    vpadalq_s16(sums, pairs)
}

/// The sums across four registers.
#[inline]
#[target_feature(enable = "neon")]
fn across([a, b, c, d]: [int32x4_t; FOUR]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}

/// The same of numbers: neighbours first.
#[inline]
#[target_feature(enable = "neon")]
fn across_f([a, b, c, d]: [float32x4_t; FOUR]) -> float32x4_t {
    vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))
}

/// Four half-precision numbers.
// The library's function for this instruction is younger than the compiler that we ask for.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn widen(halves: uint16x4_t) -> float32x4_t {
    let numbers;
    // SAFETY: the instruction changes nothing but the register of the result, and every processor has it.
    unsafe {
        asm!(
            "fcvtl {numbers:v}.4s, {halves:v}.4h",
            numbers = lateout(vreg) numbers, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    numbers
}

// ---- loads and stores: the only places where memory is touched through pointers ---------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn load16(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load32(bytes: &[u8; 32]) -> [uint8x16_t; 2] {
    let [first, second] = halves_of(bytes);
    [load16(first), load16(second)]
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn load32i(bytes: &[i8; 32]) -> [int8x16_t; 2] {
    let [first, second] = halves_of(bytes);
    // SAFETY: 16 bytes are readable behind each reference, and the loads need no alignment.
    unsafe { [vld1q_s8(first.as_ptr()), vld1q_s8(second.as_ptr())] }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn load4f(numbers: &[f32; 4]) -> float32x4_t {
    // SAFETY: four numbers are readable behind the reference, and the load needs no alignment.
    unsafe { vld1q_f32(numbers.as_ptr()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn store4f(numbers: float32x4_t) -> [f32; 4] {
    let mut out = [0.0; 4];
    // SAFETY: four numbers are writable behind the reference, and the store needs no alignment.
    unsafe { vst1q_f32(out.as_mut_ptr(), numbers) };
    out
}

/// The `N` bytes from `at` on, which lie inside `block`: offsets are constants of the formats.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    // The slice has N bytes, so the first chunk is all of it.
    &block[at..at + N].as_chunks::<N>().0[0]
}

/// Both sixteens of 32.
#[inline(always)]
fn halves_of<T>(all: &[T; 32]) -> [&[T; 16]; 2] {
    let (sixteens, _) = all.as_chunks::<16>();
    [&sixteens[0], &sixteens[1]]
}
