//! Products of stripes ([`mod@super::super::interleaved`]): sixteen rows of weights, whose sums are lanes of four registers. Only with scalar
//! products of bytes, which take the four bytes of activations that meet a word of every row from a lane.
//!
//! What is added up and in which order is as with weights in the order of the file, so the sums are the same bit for bit.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{FOUR, load16, store4f, widen};
use crate::kernels::interleaved::{Activations, Group, ROWS, Stripe, WORDS, cut};
use crate::weights::ElementType;

/// Registers that a word of each row fills.
const REGISTERS: usize = ROWS / FOUR;
/// Rows of activations that are multiplied together.
const TILE: usize = 4;
/// Bytes of weights that meet every tile of activations before the next ones do, so that they stay in the first-level cache.
const NEAR: usize = 1 << 14;

/// A format whose groups stand alone, in `S` bytes of scales for a group of sixteen rows and `V` of values.
trait Format<const S: usize, const V: usize> {
    /// What is taken from each value: 128 by so many halvings. `None` where nothing is.
    const HALVED: Option<u32>;
    /// Whether an offset of each row comes behind the scales.
    const OFFSETS: bool;
}

struct Q4_0;
struct Q4_1;
struct Q8_0;

impl Format<32, 256> for Q4_0 {
    const HALVED: Option<u32> = Some(4);
    const OFFSETS: bool = false;
}

impl Format<64, 256> for Q4_1 {
    const HALVED: Option<u32> = None;
    const OFFSETS: bool = true;
}

impl Format<32, 512> for Q8_0 {
    const HALVED: Option<u32> = None;
    const OFFSETS: bool = false;
}

/// Whether there are kernels for stripes of a format.
pub(in super::super) fn suit(element: ElementType) -> bool {
    matches!(element, ElementType::Q4_0 | ElementType::Q4_1 | ElementType::Q8_0) && super::has_dot()
}

/// Multiplies stripes with every row of activations: `out[i * stride + row]`. To be called only where [`suit`] says so.
#[target_feature(enable = "neon,dotprod")]
pub(in super::super) fn multiply(
    element: ElementType,
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    match element {
        ElementType::Q4_0 => stripes::<Q4_0, 32, 256>(weights, activations, out, stride),
        ElementType::Q4_1 => stripes::<Q4_1, 64, 256>(weights, activations, out, stride),
        ElementType::Q8_0 => stripes::<Q8_0, 32, 512>(weights, activations, out, stride),
        _ => debug_assert!(false, "{element:?} is not interleaved here"),
    }
}

#[target_feature(enable = "neon,dotprod")]
fn stripes<F: Format<S, V>, const S: usize, const V: usize>(
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
    stride: usize,
) {
    let length = activations.groups() * (S + V);
    let together = (NEAR / length).max(1);
    for (n, near) in weights.chunks(length * together).enumerate() {
        let mut first = 0;
        while first < activations.count() {
            let tile = (activations.count() - first).min(TILE);
            let out = &mut out[first * stride + n * together * ROWS..];
            // As many registers of weights as there is room for the sums of.
            match tile {
                1 => tile_products::<F, S, V, 4, 1>(near, activations.rows(first), out, stride),
                2 => tile_products::<F, S, V, 4, 2>(near, activations.rows(first), out, stride),
                3 => tile_products::<F, S, V, 2, 3>(near, activations.rows(first), out, stride),
                _ => tile_products::<F, S, V, 2, TILE>(near, activations.rows(first), out, stride),
            }
            first += tile;
        }
    }
}

/// The products with a tile of `X` rows of activations, of `R` registers of weights at a time.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile_products<F: Format<S, V>, const S: usize, const V: usize, const R: usize, const X: usize>(
    weights: &[u8],
    tile: [&[Group]; X],
    out: &mut [f32],
    stride: usize,
) {
    let groups = tile[0].len();
    for (n, stripe) in weights.chunks_exact(groups * (S + V)).enumerate() {
        let stripe = cut(stripe, groups);
        for first in (0..REGISTERS).step_by(R) {
            let sums = tile_sums::<F, S, V, R, X>(stripe, first, tile);
            for (x, sums) in sums.iter().enumerate() {
                let out = &mut out[x * stride + n * ROWS + first * FOUR..][..R * FOUR];
                for (out, sum) in out.as_chunks_mut::<FOUR>().0.iter_mut().zip(sums) {
                    *out = store4f(*sum);
                }
            }
        }
    }
}

/// The products of the rows of `R` registers from number `first` on with `X` rows of activations.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile_sums<F: Format<S, V>, const S: usize, const V: usize, const R: usize, const X: usize>(
    Stripe { scales, values }: Stripe<'_, S, V>,
    first: usize,
    tile: [&[Group]; X],
) -> [[float32x4_t; R]; X] {
    let mut sums = [[vdupq_n_f32(0.0); R]; X];
    let groups = scales.len();
    // Said before the loop, so that it needs no bounds checks.
    if values.len() < groups || first + R > REGISTERS || tile.iter().any(|row| row.len() < groups) {
        return sums;
    }
    for g in 0..groups {
        let mut quads = [[vdupq_n_s8(0); 2]; X];
        let mut integers = [[vdupq_n_s32(0); R]; X];
        for x in 0..X {
            quads[x] = load_quads(&tile[x][g]);
            if let Some(halved) = F::HALVED {
                integers[x] = [vdupq_n_s32(tile[x][g].bias >> halved); R];
            }
        }
        let words = values[g].as_chunks::<WORDS>().0;
        // Lanes are part of the instruction, so each of the words is written out.
        macro_rules! add {
            ($($word:literal in $half:literal at $lane:literal),*) => {$(
                for r in 0..R {
                    let weights = register(&words[$word], first + r);
                    for x in 0..X {
                        integers[x][r] = dot_lane::<$lane>(integers[x][r], weights, quads[x][$half]);
                    }
                }
            )*};
        }
        // Each word holds two quads, the first four of the group in the low halves.
        macro_rules! add_halves {
            ($($word:literal),*) => {$(
                for r in 0..R {
                    let both = vreinterpretq_u8_s8(register(&words[$word], first + r));
                    let low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
                    let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(both));
                    for x in 0..X {
                        let sum = dot_lane::<$word>(integers[x][r], low, quads[x][0]);
                        integers[x][r] = dot_lane::<$word>(sum, high, quads[x][1]);
                    }
                }
            )*};
        }
        if V == 8 * WORDS {
            add!(0 in 0 at 0, 1 in 0 at 1, 2 in 0 at 2, 3 in 0 at 3, 4 in 1 at 0, 5 in 1 at 1, 6 in 1 at 2, 7 in 1 at 3);
        } else {
            add_halves!(0, 1, 2, 3);
        }
        for r in 0..R {
            let scale = halves(&scales[g], first + r);
            for x in 0..X {
                let Group { scale: of_group, sum, .. } = tile[x][g];
                let products = vmulq_f32(vcvtq_f32_s32(integers[x][r]), scale);
                sums[x][r] = vfmaq_n_f32(sums[x][r], products, of_group);
                if F::OFFSETS {
                    sums[x][r] = vfmaq_n_f32(sums[x][r], halves(&scales[g], REGISTERS + first + r), sum);
                }
            }
        }
    }
    sums
}

/// Adds to each sum the products of four bytes with those in a lane.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon,dotprod")]
fn dot_lane<const LANE: usize>(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction changes nothing but the register of the sums, and the processor has it where this is called.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// A word of each of four rows.
#[inline]
#[target_feature(enable = "neon")]
fn register(words: &[u8; WORDS], number: usize) -> int8x16_t {
    vreinterpretq_s8_u8(load16(&words.as_chunks().0[number]))
}

/// Half-precision numbers of four rows.
#[inline]
#[target_feature(enable = "neon")]
fn halves(numbers: &[u8], number: usize) -> float32x4_t {
    widen(vcreate_u16(u64::from_le_bytes(numbers.as_chunks().0[number])))
}

// ---- loads: the only places where memory is touched through pointers --------------------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
fn load_quads(group: &Group) -> [int8x16_t; 2] {
    let fours = group.quads.as_chunks::<FOUR>().0;
    // SAFETY: four words are readable behind each reference, and the loads need no alignment.
    unsafe {
        [
            vreinterpretq_s8_s32(vld1q_s32(fours[0].as_ptr())),
            vreinterpretq_s8_s32(vld1q_s32(fours[1].as_ptr())),
        ]
    }
}
