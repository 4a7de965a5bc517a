//! The block formats: how 32 elements become bytes, and where their scale and offset stand. The layouts are spelled
//! out in [`mod@super::super::dequantise`].

use std::arch::x86_64::*;

use super::super::Group;
use super::super::dequantise::fifth_bits;
use super::{Format, Sum, load16, load32, load32i, part, store8f};

/// A block format as such, for weights that are put in another order before they are multiplied.
pub(in super::super) trait Block<const N: usize> {
    /// Groups of 32 in a block.
    const GROUPS: usize;
    /// What is taken from the values, so that they need no offset; nothing where they have one of their own.
    const MIDDLE: i8;

    /// The scale and the offset of each group. To be called only from code compiled for AVX2, FMA and F16C.
    #[allow(unsafe_code)]
    unsafe fn scales(block: &[u8; N]) -> Scales;

    /// The values of a group, in bytes. As above.
    #[allow(unsafe_code)]
    unsafe fn values(block: &[u8; N], group: usize) -> __m256i;
}

/// 32 unpacked weights, still without scale and offset.
#[derive(Clone, Copy)]
struct Unpacked {
    values: __m256i,
    /// Factors of the sixteen sums of neighbouring products: ones, unless a group's halves have their own scales.
    pair_scales: __m256i,
}

impl Unpacked {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: __m256i) -> Self {
        Self { values, pair_scales: _mm256_set1_epi16(1) }
    }
}

/// Scale and offset of each group of a block: weight = `scale * value + offset`. Small blocks have one group.
#[derive(Clone, Copy)]
pub(in super::super) struct Scales {
    pub(in super::super) scales: [f32; 8],
    pub(in super::super) offsets: [f32; 8],
}

impl Scales {
    #[inline(always)]
    fn one(scale: f32, offset: f32) -> Self {
        Self { scales: [scale; 8], offsets: [offset; 8] }
    }
}

/// Implements [`Format`] for blocks of `$groups` groups, with one function that reads the scales of a block and one
/// that unpacks a group of it.
macro_rules! block_format {
    ($name:ident, $bytes:literal, groups: $groups:literal, signed: $signed:literal, offset: $offset:literal,
     $scales:ident, $unpack:ident) => {
        pub(in super::super) struct $name;

        impl Format<Group, $bytes> for $name {
            const PIECES: usize = $groups;
            const LIGHT: bool = false;

            #[inline(always)]
            #[allow(unsafe_code)]
            fn accumulate<const W: usize, const X: usize>(
                chunks: [&[u8; $bytes]; W],
                pieces: &[[Group; X]],
                sums: &mut [[Sum; X]; W],
            ) {
                let Some(pieces) = pieces.first_chunk::<$groups>() else { return };
                let mut scales = [Scales::one(0.0, 0.0); W];
                for w in 0..W {
                    // SAFETY: only `multiply`, which is compiled for these features, gets here.
                    scales[w] = unsafe { $scales(chunks[w]) };
                }
                for g in 0..$groups {
                    for w in 0..W {
                        // SAFETY: as above.
                        unsafe {
                            let weights = $unpack(chunks[w], g);
                            let (scale, offset) = (scales[w].scales[g], scales[w].offsets[g]);
                            accumulate_group::<$signed, $offset, X>(
                                weights,
                                scale,
                                offset,
                                &pieces[g],
                                &mut sums[w],
                            );
                        }
                    }
                }
            }
        }
    };
}

block_format!(Q4_0, 18, groups: 1, signed: false, offset: true, q4_0_scales, q4_0);
block_format!(Q4_1, 20, groups: 1, signed: false, offset: true, pair, q4_1);
block_format!(Q5_0, 22, groups: 1, signed: false, offset: true, q5_0_scales, q5_0);
block_format!(Q5_1, 24, groups: 1, signed: false, offset: true, pair, q5_1);
block_format!(Q8_0, 34, groups: 1, signed: true, offset: false, q8_0_scales, q8_0);
block_format!(Q4K, 144, groups: 8, signed: false, offset: true, k_scales, q4_k);
block_format!(Q5K, 176, groups: 8, signed: false, offset: true, k_scales, q5_k);
block_format!(Q6K, 210, groups: 8, signed: true, offset: false, q6_k_scales, q6_k);

/// Implements [`Block`] for formats whose groups have one scale.
macro_rules! block {
    ($name:ident, $bytes:literal, groups: $groups:literal, middle: $middle:literal, $scales:ident, $unpack:ident) => {
        impl Block<$bytes> for $name {
            const GROUPS: usize = $groups;
            const MIDDLE: i8 = $middle;

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn scales(block: &[u8; $bytes]) -> Scales {
                // SAFETY: the caller is compiled for these features.
                unsafe { $scales(block) }
            }

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn values(block: &[u8; $bytes], group: usize) -> __m256i {
                // SAFETY: as above.
                unsafe { $unpack(block, group).values }
            }
        }
    };
}

block!(Q4_0, 18, groups: 1, middle: 8, q4_0_scales, q4_0);
block!(Q4_1, 20, groups: 1, middle: 0, pair, q4_1);
block!(Q5_0, 22, groups: 1, middle: 16, q5_0_scales, q5_0);
block!(Q5_1, 24, groups: 1, middle: 0, pair, q5_1);
block!(Q8_0, 34, groups: 1, middle: 0, q8_0_scales, q8_0);
block!(Q4K, 144, groups: 8, middle: 0, k_scales, q4_k);
block!(Q5K, 176, groups: 8, middle: 0, k_scales, q5_k);

/// Adds the products of 32 weights with `X` groups of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate_group<const SIGNED: bool, const OFFSET: bool, const X: usize>(
    weights: Unpacked,
    scale: f32,
    offset: f32,
    piece: &[Group; X],
    sums: &mut [Sum; X],
) {
    let magnitude = if SIGNED { _mm256_abs_epi8(weights.values) } else { weights.values };
    for x in 0..X {
        let values = load32i(&piece[x].values);
        // Unsigned times signed bytes, neighbours added in 16 bits: at most 2 * 128 * 127, which fits.
        let values = if SIGNED { _mm256_sign_epi8(values, weights.values) } else { values };
        let pairs = _mm256_maddubs_epi16(magnitude, values);
        let quads = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, weights.pair_scales));
        let scale = _mm256_set1_ps(scale * piece[x].scale);
        sums[x].lanes = _mm256_fmadd_ps(quads, scale, sums[x].lanes);
        if OFFSET {
            sums[x].scalar += offset * piece[x].sum;
        }
    }
}

/// The half-precision number at `at`. The conversion of the `half` crate asks for the processor's features each time.
#[inline]
#[target_feature(enable = "f16c")]
fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*part::<2>(block, at));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// The two half-precision numbers at the beginning of a block: scale and offset.
#[inline]
#[target_feature(enable = "f16c")]
fn halves_at_start(block: &[u8]) -> (f32, f32) {
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes(*part::<4>(block, 0))));
    (_mm_cvtss_f32(both), _mm_cvtss_f32(_mm_shuffle_ps::<0b01>(both, both)))
}

/// Sixteen bytes to 32 values of four bits: low halves first.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let bytes = load16(bytes);
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Thirty-two bits to bytes of 16 or 0.
#[inline]
#[target_feature(enable = "avx2")]
fn spread_bits(bits: u32) -> __m256i {
    // Byte j gets the byte that holds bit j; then all but bit j % 8 is masked.
    let index = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), index);
    let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "f16c")]
fn pair<const N: usize>(block: &[u8; N]) -> Scales {
    let (scale, offset) = halves_at_start(block);
    Scales::one(scale, offset)
}

#[inline]
#[target_feature(enable = "f16c")]
fn q4_0_scales(block: &[u8; 18]) -> Scales {
    let d = half_at(block, 0);
    Scales::one(d, -8.0 * d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q4_0(block: &[u8; 18], _: usize) -> Unpacked {
    Unpacked::new(nibbles(part(block, 2)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q4_1(block: &[u8; 20], _: usize) -> Unpacked {
    Unpacked::new(nibbles(part(block, 4)))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q5_0_scales(block: &[u8; 22]) -> Scales {
    let d = half_at(block, 0);
    Scales::one(d, -16.0 * d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_0(block: &[u8; 22], _: usize) -> Unpacked {
    Unpacked::new(_mm256_or_si256(nibbles(part(block, 6)), spread_bits(fifth_bits(block, 2))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_1(block: &[u8; 24], _: usize) -> Unpacked {
    Unpacked::new(_mm256_or_si256(nibbles(part(block, 8)), spread_bits(fifth_bits(block, 4))))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q8_0_scales(block: &[u8; 34]) -> Scales {
    Scales::one(half_at(block, 0), 0.0)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q8_0(block: &[u8; 34], _: usize) -> Unpacked {
    Unpacked::new(load32(part(block, 2)))
}

/// Scales and offsets of Q4_K and Q5_K, see [`mod@super::super::dequantise`]: eight of each at once, four bytes at a time.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn k_scales<const N: usize>(block: &[u8; N]) -> Scales {
    let (d, dmin) = halves_at_start(block);
    let word = |at: usize| u32::from_le_bytes(*part::<4>(block, at));
    let (a, b, c) = (word(4), word(8), word(12));
    let low_six = 0x3F3F_3F3F;
    let upper = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    let scales = [a & low_six, c & 0x0F0F_0F0F | upper(a)];
    let offsets = [b & low_six, c >> 4 & 0x0F0F_0F0F | upper(b)];
    Scales { scales: eight_bytes(scales, d), offsets: eight_bytes(offsets, -dmin) }
}

/// Eight bytes as numbers, multiplied by `factor`.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_bytes([low, high]: [u32; 2], factor: f32) -> [f32; 8] {
    let bytes = _mm_set_epi32(0, 0, high as i32, low as i32);
    let numbers = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    store8f(_mm256_mul_ps(numbers, _mm256_set1_ps(factor)))
}

/// The low or high halves of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: &[u8; 32], high: bool) -> __m256i {
    let bytes = load32(bytes);
    let shifted = if high { _mm256_srli_epi16::<4>(bytes) } else { bytes };
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q4_k(block: &[u8; 144], group: usize) -> Unpacked {
    Unpacked::new(halves(part(block, 16 + group / 2 * 32), group % 2 == 1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_k(block: &[u8; 176], group: usize) -> Unpacked {
    let low = halves(part(block, 48 + group / 2 * 32), group % 2 == 1);
    let bit = _mm256_set1_epi8((1u8 << group) as i8);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(load32(part(block, 16)), bit), bit);
    Unpacked::new(_mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16))))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q6_k_scales(block: &[u8; 210]) -> Scales {
    Scales::one(half_at(block, 208), 0.0)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q6_k(block: &[u8; 210], group: usize) -> Unpacked {
    let (half, quarter) = (group / 4, group % 4);
    let low = halves(part(block, half * 64 + quarter % 2 * 32), quarter >= 2);
    let high = load32(part(block, 128 + half * 32));
    // Shifting 16-bit lanes moves bits across bytes, into positions that the mask then clears.
    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(quarter as i32 * 2));
    let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
    let values = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
    let scale = |at: usize| i16::from(block[192 + group * 2 + at] as i8);
    let pair_scales = _mm256_set_m128i(_mm_set1_epi16(scale(1)), _mm_set1_epi16(scale(0)));
    Unpacked { values, pair_scales }
}
