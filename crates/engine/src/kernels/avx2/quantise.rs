//! Activations made into groups of 8 bits.

use std::arch::x86_64::*;

use super::super::{GROUP, Group, LANES, interleaved, math};
use super::load8f;

/// As [`math::quantise_group`], bit for bit but for what is no number.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn group(numbers: &[f32; GROUP]) -> Group {
    let (bytes, scale, total) = rounded(numbers);
    Group { values: store32i(bytes), scale, sum: scale * total as f32 }
}

/// The same in fours, and 128 added to each value; with scale and sum, the latter of the elements.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn biased_quads(numbers: &[f32; GROUP]) -> ([[u8; 4]; GROUP / 4], f32, f32) {
    let (bytes, scale, total) = rounded(numbers);
    (store_quads(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128))), scale, scale * total as f32)
}

/// The same for weights that were interleaved.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn words(numbers: &[f32; GROUP]) -> interleaved::Group {
    let (bytes, scale, total) = rounded(numbers);
    // Neighbours are added up in two steps: as one factor has to be unsigned, ones are what the values are multiplied with.
    let first = _mm_maddubs_epi16(_mm_set1_epi8(1), _mm256_castsi256_si128(bytes));
    let first = _mm_madd_epi16(first, _mm_set1_epi16(1));
    let first = _mm_hadd_epi32(first, first);
    let first = _mm_cvtsi128_si32(_mm_hadd_epi32(first, first));
    interleaved::Group {
        quads: store_words(bytes),
        scale,
        sum: scale * total as f32,
        bias: -128 * total,
        first_bias: -128 * first,
    }
}

/// The values as bytes, their scale, and the sum of the values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn rounded(numbers: &[f32; GROUP]) -> (__m256i, f32, i32) {
    // No closures: they would not be compiled for these features.
    let mut parts = [_mm256_setzero_ps(); GROUP / LANES];
    let mut largest = _mm256_setzero_ps();
    for (part, numbers) in parts.iter_mut().zip(numbers.as_chunks::<LANES>().0) {
        *part = load8f(numbers);
        // The number first: where it is none, the other one stays.
        largest = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), *part), largest);
    }
    let four = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps::<1>(largest));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    let largest = _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<0b01>(two, two)));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let (factor, round) = (_mm256_set1_ps(inverse), _mm256_set1_ps(math::ROUND));
    let mut integers = [_mm256_setzero_si256(); GROUP / LANES];
    for (integer, part) in integers.iter_mut().zip(parts) {
        let shifted = _mm256_castps_si256(_mm256_fmadd_ps(part, factor, round));
        *integer = _mm256_sub_epi32(shifted, _mm256_castps_si256(round));
    }
    let [a, b, c, d] = integers;
    let sums = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
    let total = _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0b10_11_00_01>(sums)));
    // Packing goes on within each half of a register, so fours come in the order 0 2 4 6, 1 3 5 7.
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    let scale = largest / 127.0;
    (bytes, scale, total)
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store32i(numbers: __m256i) -> [i8; 32] {
    let mut out = [0; 32];
    // SAFETY: 32 bytes are writable behind the reference, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), numbers) };
    out
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store_words(numbers: __m256i) -> [i32; 8] {
    let mut out = [0; 8];
    // SAFETY: 32 bytes are writable behind the reference, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), numbers) };
    out
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store_quads(numbers: __m256i) -> [[u8; 4]; 8] {
    let mut out = [[0; 4]; 8];
    // SAFETY: 32 bytes are writable behind the reference, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), numbers) };
    out
}
