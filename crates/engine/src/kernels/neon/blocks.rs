//! The block formats: how 32 elements become bytes, and where their scale and offset stand. The layouts are spelled
//! out in [`mod@super::super::dequantise`].

use std::arch::aarch64::*;

use super::super::dequantise::fifth_bits;
use super::{ROWS, load16, load32, part, widen};

/// A block format of `N` bytes.
pub(super) trait Block<const N: usize> {
    /// Groups of 32 in a block.
    const GROUPS: usize;
    /// Whether groups have an offset.
    const OFFSETS: bool;
    /// Whether the halves of a group have scales of their own besides.
    const HALVES: bool;

    /// The scales of four blocks. To be called only from code compiled for NEON.
    #[allow(unsafe_code)]
    unsafe fn scales(blocks: [&[u8; N]; ROWS]) -> Scales;

    /// The values of a group. As above.
    #[allow(unsafe_code)]
    unsafe fn values(block: &[u8; N], group: usize) -> [int8x16_t; 2];
}

/// Scales and offsets of four blocks by groups: weight = `scale * value + offset`. Small blocks have one group.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) scales: [float32x4_t; 8],
    pub(super) offsets: [float32x4_t; 8],
    /// Whole numbers that the values of either half are multiplied with first.
    pub(super) of_halves: [[int32x4_t; 2]; 8],
}

impl Scales {
    #[inline]
    #[target_feature(enable = "neon")]
    fn one(scale: float32x4_t, offset: float32x4_t) -> Self {
        Self { scales: [scale; 8], offsets: [offset; 8], of_halves: [[vdupq_n_s32(1); 2]; 8] }
    }
}

/// Implements [`Block`] for blocks of `$groups` groups, with one function that reads the scales of four blocks and one
/// that unpacks a group.
macro_rules! block {
    ($name:ident, $bytes:literal, groups: $groups:literal, offsets: $offsets:literal, halves: $halves:literal,
     $scales:ident, $values:ident) => {
        pub(super) struct $name;

        impl Block<$bytes> for $name {
            const GROUPS: usize = $groups;
            const OFFSETS: bool = $offsets;
            const HALVES: bool = $halves;

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn scales(blocks: [&[u8; $bytes]; ROWS]) -> Scales {
                // SAFETY: the caller is compiled for NEON.
                unsafe { $scales(blocks) }
            }

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn values(block: &[u8; $bytes], group: usize) -> [int8x16_t; 2] {
                // SAFETY: as above.
                unsafe { $values(block, group) }
            }
        }
    };
}

block!(Q4_0, 18, groups: 1, offsets: false, halves: false, one, q4_0);
block!(Q4_1, 20, groups: 1, offsets: true, halves: false, pair, q4_1);
block!(Q5_0, 22, groups: 1, offsets: false, halves: false, one, q5_0);
block!(Q5_1, 24, groups: 1, offsets: true, halves: false, pair, q5_1);
block!(Q8_0, 34, groups: 1, offsets: false, halves: false, one, q8_0);
block!(Q4K, 144, groups: 8, offsets: true, halves: false, k_scales, q4_k);
block!(Q5K, 176, groups: 8, offsets: true, halves: false, k_scales, q5_k);
block!(Q6K, 210, groups: 8, offsets: false, halves: true, q6_k_scales, q6_k);

/// The half-precision numbers at `at` in four blocks.
#[inline]
#[target_feature(enable = "neon")]
fn halves_at<const N: usize>(blocks: [&[u8; N]; ROWS], at: usize) -> float32x4_t {
    let bits = |r: usize| u64::from(u16::from_le_bytes(*part::<2>(blocks[r], at)));
    widen(vcreate_u16(bits(0) | bits(1) << 16 | bits(2) << 32 | bits(3) << 48))
}

/// One scale at the beginning of a block.
#[inline]
#[target_feature(enable = "neon")]
fn one<const N: usize>(blocks: [&[u8; N]; ROWS]) -> Scales {
    Scales::one(halves_at(blocks, 0), vdupq_n_f32(0.0))
}

/// Scale and offset at the beginning of a block.
#[inline]
#[target_feature(enable = "neon")]
fn pair<const N: usize>(blocks: [&[u8; N]; ROWS]) -> Scales {
    Scales::one(halves_at(blocks, 0), halves_at(blocks, 2))
}

/// Sixteen bytes to 32 values of four bits: low halves first.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(bytes: &[u8; 16]) -> [uint8x16_t; 2] {
    let bytes = load16(bytes);
    [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)]
}

/// Thirty-two bits to bytes of 16 or 0.
#[inline]
#[target_feature(enable = "neon")]
fn spread_bits(bits: u32) -> [uint8x16_t; 2] {
    // Byte j gets the byte that holds bit j; then all but bit j % 8 is masked.
    let two = |first: u64| vcombine_u8(vcreate_u8(first), vcreate_u8(first + 0x0101_0101_0101_0101));
    let places = vcombine_u8(vcreate_u8(0x8040_2010_0804_0201), vcreate_u8(0x8040_2010_0804_0201));
    let bytes = vreinterpretq_u8_u32(vdupq_n_u32(bits));
    let spread = |index| vandq_u8(vtstq_u8(vqtbl1q_u8(bytes, index), places), vdupq_n_u8(16));
    [spread(two(0)), spread(two(0x0202_0202_0202_0202))]
}

/// The bytes of both, and `middle` less.
#[inline]
#[target_feature(enable = "neon")]
fn joined(low: [uint8x16_t; 2], high: [uint8x16_t; 2], middle: i8) -> [int8x16_t; 2] {
    less([vorrq_u8(low[0], high[0]), vorrq_u8(low[1], high[1])], middle)
}

#[inline]
#[target_feature(enable = "neon")]
fn less([first, second]: [uint8x16_t; 2], middle: i8) -> [int8x16_t; 2] {
    let middle = vdupq_n_s8(middle);
    [vsubq_s8(vreinterpretq_s8_u8(first), middle), vsubq_s8(vreinterpretq_s8_u8(second), middle)]
}

#[inline]
#[target_feature(enable = "neon")]
fn q4_0(block: &[u8; 18], _: usize) -> [int8x16_t; 2] {
    less(nibbles(part(block, 2)), 8)
}

#[inline]
#[target_feature(enable = "neon")]
fn q4_1(block: &[u8; 20], _: usize) -> [int8x16_t; 2] {
    less(nibbles(part(block, 4)), 0)
}

#[inline]
#[target_feature(enable = "neon")]
fn q5_0(block: &[u8; 22], _: usize) -> [int8x16_t; 2] {
    joined(nibbles(part(block, 6)), spread_bits(fifth_bits(block, 2)), 16)
}

#[inline]
#[target_feature(enable = "neon")]
fn q5_1(block: &[u8; 24], _: usize) -> [int8x16_t; 2] {
    joined(nibbles(part(block, 8)), spread_bits(fifth_bits(block, 4)), 0)
}

#[inline]
#[target_feature(enable = "neon")]
fn q8_0(block: &[u8; 34], _: usize) -> [int8x16_t; 2] {
    less(load32(part(block, 2)), 0)
}

/// Scales and offsets of Q4_K and Q5_K, see [`mod@super::super::dequantise`]: eight of each, four bytes at a time.
#[inline]
#[target_feature(enable = "neon")]
fn k_scales<const N: usize>(blocks: [&[u8; N]; ROWS]) -> Scales {
    let packed = |r: usize| {
        let word = |at: usize| u64::from(u32::from_le_bytes(*part::<4>(blocks[r], at)));
        let (a, b, c) = (word(4), word(8), word(12));
        let (low_six, low_four) = (0x3F3F_3F3F, 0x0F0F_0F0F);
        let upper = |x: u64| (x >> 6 & 0x0303_0303) << 4;
        let scales = a & low_six | (c & low_four | upper(a)) << 32;
        let offsets = b & low_six | (c >> 4 & low_four | upper(b)) << 32;
        vcombine_u8(vcreate_u8(scales), vcreate_u8(offsets))
    };
    let columns = columns([packed(0), packed(1), packed(2), packed(3)]);
    let scale = halves_at(blocks, 0);
    let offset = vnegq_f32(halves_at(blocks, 2));
    let mut both = Scales::one(scale, offset);
    for (i, column) in columns.into_iter().enumerate() {
        let (numbers, factor) = if i < 2 { (&mut both.scales, scale) } else { (&mut both.offsets, offset) };
        let (low, high) = (vmovl_u8(vget_low_u8(column)), vmovl_high_u8(column));
        let fours = [
            vmovl_u16(vget_low_u16(low)),
            vmovl_high_u16(low),
            vmovl_u16(vget_low_u16(high)),
            vmovl_high_u16(high),
        ];
        for (number, four) in numbers[i % 2 * 4..].iter_mut().zip(fours) {
            *number = vmulq_f32(vcvtq_f32_u32(four), factor);
        }
    }
    both
}

/// Sixteen bytes of each of four blocks, first the first bytes of all, then the second ones.
#[inline]
#[target_feature(enable = "neon")]
fn columns([a, b, c, d]: [uint8x16_t; ROWS]) -> [uint8x16_t; 4] {
    let (ac, bd) = (vzip1q_u8(a, c), vzip1q_u8(b, d));
    let (ac_high, bd_high) = (vzip2q_u8(a, c), vzip2q_u8(b, d));
    [vzip1q_u8(ac, bd), vzip2q_u8(ac, bd), vzip1q_u8(ac_high, bd_high), vzip2q_u8(ac_high, bd_high)]
}

/// The low or high halves of 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn halves(bytes: &[u8; 32], high: bool) -> [uint8x16_t; 2] {
    let [first, second] = load32(bytes);
    // A negative number shifts to the right.
    let (shift, mask) = (vdupq_n_s8(if high { -4 } else { 0 }), vdupq_n_u8(15));
    [vandq_u8(vshlq_u8(first, shift), mask), vandq_u8(vshlq_u8(second, shift), mask)]
}

#[inline]
#[target_feature(enable = "neon")]
fn q4_k(block: &[u8; 144], group: usize) -> [int8x16_t; 2] {
    less(halves(part(block, 16 + group / 2 * 32), group % 2 == 1), 0)
}

#[inline]
#[target_feature(enable = "neon")]
fn q5_k(block: &[u8; 176], group: usize) -> [int8x16_t; 2] {
    let low = halves(part(block, 48 + group / 2 * 32), group % 2 == 1);
    let [first, second] = load32(part(block, 16));
    let (bit, sixteen) = (vdupq_n_u8(1 << group), vdupq_n_u8(16));
    let high = [vandq_u8(vtstq_u8(first, bit), sixteen), vandq_u8(vtstq_u8(second, bit), sixteen)];
    joined(low, high, 0)
}

#[inline]
#[target_feature(enable = "neon")]
fn q6_k_scales(blocks: [&[u8; 210]; ROWS]) -> Scales {
    let of_block = |r: usize| load16(part(blocks[r], 192));
    let mut scales = Scales::one(halves_at(blocks, 208), vdupq_n_f32(0.0));
    let columns = columns([of_block(0), of_block(1), of_block(2), of_block(3)]);
    for (groups, column) in scales.of_halves.as_chunks_mut::<2>().0.iter_mut().zip(columns) {
        let column = vreinterpretq_s8_u8(column);
        let (low, high) = (vmovl_s8(vget_low_s8(column)), vmovl_high_s8(column));
        groups[0] = [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low)];
        groups[1] = [vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
    }
    scales
}

#[inline]
#[target_feature(enable = "neon")]
fn q6_k(block: &[u8; 210], group: usize) -> [int8x16_t; 2] {
    let (half, quarter) = (group / 4, group % 4);
    let low = halves(part(block, half * 64 + quarter % 2 * 32), quarter >= 2);
    let [first, second] = load32(part(block, 128 + half * 32));
    // The two bits of this quarter come to stand above the low four.
    let (shift, mask) = (vdupq_n_s8(4 - 2 * quarter as i8), vdupq_n_u8(0x30));
    let high = [vandq_u8(vshlq_u8(first, shift), mask), vandq_u8(vshlq_u8(second, shift), mask)];
    joined(low, high, 32)
}
