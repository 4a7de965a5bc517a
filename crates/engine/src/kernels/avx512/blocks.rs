//! The block formats, 256 weights at a time. The layouts are spelled out in [`mod@super::super::dequantise`].

use std::arch::x86_64::*;

use super::super::avx2::{load16, load32, part};
use super::Format;

pub(super) struct Q4_0;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// Implements [`Format`] with one function that reads the scales and offsets of a chunk and one that reads the values of a pair of
/// its groups.
macro_rules! format {
    ($name:ident, $bytes:literal, halves: $halves:literal, $scales:ident, $values:ident) => {
        impl Format<$bytes> for $name {
            const HALVES: bool = $halves;

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn scales(chunk: &[u8; $bytes]) -> (__m512, __m512) {
                // SAFETY: the caller is compiled for these features.
                unsafe { $scales(chunk) }
            }

            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn values(chunk: &[u8; $bytes], pair: usize) -> __m512i {
                // SAFETY: as above.
                unsafe { $values(chunk, pair) }
            }
        }
    };
}

format!(Q4_0, 144, halves: false, q4_0_scales, q4_0);
format!(Q8_0, 272, halves: false, q8_0_scales, q8_0);
format!(Q4K, 144, halves: false, q4_k_scales, q4_k);
format!(Q5K, 176, halves: false, q5_k_scales, q5_k);
format!(Q6K, 210, halves: true, q6_k_scales, q6_k);

/// The half-precision numbers at the beginning of eight blocks of `SIZE` bytes.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn eight_halves<const SIZE: usize>(chunk: &[u8]) -> __m256 {
    let at = |block: usize| i16::from_le_bytes(*part::<2>(chunk, block * SIZE));
    _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)))
}

/// Scales, and so many times each as its offset.
#[inline]
#[target_feature(enable = "avx512f")]
fn with_offsets(scales: __m256, factor: f32) -> (__m512, __m512) {
    eights(scales, _mm256_mul_ps(scales, _mm256_set1_ps(factor)))
}

/// Eight scales and eight offsets.
#[inline]
#[target_feature(enable = "avx512f")]
fn eights(scales: __m256, offsets: __m256) -> (__m512, __m512) {
    (_mm512_castps256_ps512(scales), _mm512_castps256_ps512(offsets))
}

#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn q4_0_scales(chunk: &[u8; 144]) -> (__m512, __m512) {
    with_offsets(eight_halves::<18>(chunk), -8.0)
}

/// Of each block's sixteen bytes the low halves come first.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn q4_0(chunk: &[u8; 144], pair: usize) -> __m512i {
    let bytes = |block: usize| load16(part(chunk, block * 18 + 2));
    let both = _mm512_castsi256_si512(_mm256_set_m128i(bytes(2 * pair + 1), bytes(2 * pair)));
    // Each block twice.
    let twice = _mm512_shuffle_i64x2::<0b01_01_00_00>(both, both);
    let shifts = _mm512_setr_epi64(
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
    );
    _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), _mm512_set1_epi8(15))
}

/// 128 is added to the values.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn q8_0_scales(chunk: &[u8; 272]) -> (__m512, __m512) {
    with_offsets(eight_halves::<34>(chunk), -128.0)
}

#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn q8_0(chunk: &[u8; 272], pair: usize) -> __m512i {
    let bytes = |block: usize| load32(part(chunk, block * 34 + 2));
    let signed = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(bytes(2 * pair)), bytes(2 * pair + 1));
    _mm512_xor_si512(signed, _mm512_set1_epi8(-128))
}

/// Scales and offsets of Q4_K and Q5_K: numbers of six bits, eight of each, in twelve bytes.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn k_scales<const N: usize>(chunk: &[u8; N]) -> (__m256, __m256) {
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes(*part::<4>(chunk, 0))));
    let scale = _mm256_broadcastss_ps(both);
    let offset = _mm256_broadcastss_ps(_mm_shuffle_ps::<0b01>(both, both));
    let word = |at: usize| u32::from_le_bytes(*part::<4>(chunk, at));
    let (a, b, c) = (word(4), word(8), word(12));
    let low_six = 0x3F3F_3F3F;
    let upper = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    let scales = eight_bytes(a & low_six, c & 0x0F0F_0F0F | upper(a));
    let offsets = eight_bytes(b & low_six, c >> 4 & 0x0F0F_0F0F | upper(b));
    (_mm256_mul_ps(scales, scale), _mm256_fnmadd_ps(offsets, offset, _mm256_setzero_ps()))
}

/// Eight bytes as numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_bytes(low: u32, high: u32) -> __m256 {
    let bytes = _mm_cvtsi64_si128((u64::from(high) << 32 | u64::from(low)) as i64);
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

/// The high halves stay where they are, so that these values are sixteen times too large.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn q4_k_scales(chunk: &[u8; 144]) -> (__m512, __m512) {
    let (scales, offsets) = k_scales(chunk);
    let sixteenth = 1.0 / 16.0;
    let of_values = _mm256_setr_ps(1.0, sixteenth, 1.0, sixteenth, 1.0, sixteenth, 1.0, sixteenth);
    eights(_mm256_mul_ps(scales, of_values), offsets)
}

/// The low halves of 32 bytes, and then the high ones.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn q4_k(chunk: &[u8; 144], pair: usize) -> __m512i {
    let bytes = _mm512_broadcast_i64x4(load32(part(chunk, 16 + pair * 32)));
    let (low, high) = (0x0F0F_0F0F_0F0F_0F0F, 0xF0F0_F0F0_F0F0_F0F0_u64 as i64);
    _mm512_and_si512(bytes, _mm512_setr_epi64(low, low, low, low, high, high, high, high))
}

#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn q5_k_scales(chunk: &[u8; 176]) -> (__m512, __m512) {
    let (scales, offsets) = k_scales(chunk);
    eights(scales, offsets)
}

/// The low halves of 32 bytes, and then the high ones, shifted down.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn halves(bytes: &[u8; 32]) -> __m512i {
    let bytes = _mm512_broadcast_i64x4(load32(bytes));
    let four = 0x0004_0004_0004_0004;
    let shifted = _mm512_srlv_epi16(bytes, _mm512_setr_epi64(0, 0, 0, 0, four, four, four, four));
    _mm512_and_si512(shifted, _mm512_set1_epi8(15))
}

/// Bit `g` of 32 bytes is the fifth of group `g`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn q5_k(chunk: &[u8; 176], pair: usize) -> __m512i {
    let bits = _mm512_broadcast_i64x4(load32(part(chunk, 16)));
    let (first, second) = (_mm256_set1_epi8(1 << (2 * pair)), _mm256_set1_epi8((2u8 << (2 * pair)) as i8));
    let wanted = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    let low = halves(part(chunk, 48 + pair * 32));
    _mm512_mask_add_epi8(low, _mm512_test_epi8_mask(bits, wanted), low, _mm512_set1_epi8(16))
}

/// Every sixteen weights have a scale of eight bits, and 32 is added to the values.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn q6_k_scales(chunk: &[u8; 210]) -> (__m512, __m512) {
    let scale = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*part::<2>(chunk, 208)))));
    let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(part(chunk, 192))));
    let scales = _mm512_mul_ps(scales, _mm512_broadcastss_ps(scale));
    (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-32.0)))
}

/// Four groups share 64 bytes of low halves and 32 bytes of two more bits for each.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn q6_k(chunk: &[u8; 210], pair: usize) -> __m512i {
    let (half, second) = (pair / 2, pair % 2 == 1);
    let (a, b) = (part(chunk, half * 64), part(chunk, half * 64 + 32));
    let low = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(a)), load32(b));
    let low = if second { _mm512_srli_epi16::<4>(low) } else { low };
    let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
    let high = _mm512_broadcast_i64x4(load32(part(chunk, 128 + half * 32)));
    // To bits four and five; what crosses bytes is masked.
    let (zero, two, four) = (0, 0x0002_0002_0002_0002, 0x0004_0004_0004_0004);
    let high = if second {
        _mm512_srlv_epi16(high, _mm512_setr_epi64(zero, zero, zero, zero, two, two, two, two))
    } else {
        _mm512_sllv_epi16(high, _mm512_setr_epi64(four, four, four, four, two, two, two, two))
    };
    _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi8(0x30)))
}
