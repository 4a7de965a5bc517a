//! Exponentials of eight numbers, and what is made of them.

use std::arch::x86_64::*;

use super::super::LANES;
use super::super::math::{self, EXP_POLYNOMIAL, LN_2, ROUND};
use super::{load8f, store8f};

/// As [`math::softmax_body`], bit for bit: of as many numbers as there are, where that one takes them in blocks.
// Its constants would take registers from the loops around it.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(super) fn softmax(scores: &mut [f32]) -> f32 {
    let largest = math::largest(scores);
    let shift = _mm256_set1_ps(largest);
    let (eights, rest) = scores.as_chunks_mut::<LANES>();
    let mut lanes = _mm256_setzero_ps();
    for eight in eights {
        let weights = exp8(_mm256_sub_ps(load8f(eight), shift));
        lanes = _mm256_add_ps(lanes, weights);
        *eight = store8f(weights);
    }
    let mut last = [largest; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let last = store8f(exp8(_mm256_sub_ps(load8f(&last), shift)));
    rest.copy_from_slice(&last[..rest.len()]);
    rest.iter().fold(math::total(store8f(lanes)), |sum, x| sum + x)
}

/// As `log_sum_exp_body`, bit for bit.
#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn log_sum_exp(values: &[f32], largest: f32) -> f32 {
    let shift = _mm256_set1_ps(largest);
    let (eights, rest) = values.as_chunks::<LANES>();
    let mut lanes = _mm256_setzero_ps();
    for eight in eights {
        lanes = _mm256_add_ps(lanes, exp8(_mm256_sub_ps(load8f(eight), shift)));
    }
    let mut last = [largest; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let last = store8f(exp8(_mm256_sub_ps(load8f(&last), shift)));
    let tail: f32 = last[..rest.len()].iter().sum();
    largest + (math::total(store8f(lanes)) + tail).ln()
}

/// As [`math::exp`], bit for bit.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp8(x: __m256) -> __m256 {
    let round = _mm256_set1_ps(ROUND);
    // What is no number stays none.
    let x = _mm256_min_ps(_mm256_set1_ps(88.0), _mm256_max_ps(_mm256_set1_ps(-87.0), x));
    let shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E), round);
    let n = _mm256_sub_ps(shifted, round);
    let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LN_2.0), x);
    let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LN_2.1), r);
    let mut p = _mm256_set1_ps(EXP_POLYNOMIAL[0]);
    for c in &EXP_POLYNOMIAL[1..] {
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(*c));
    }
    let p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0));
    let power = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(round));
    let exponent = _mm256_slli_epi32::<23>(_mm256_add_epi32(power, _mm256_set1_epi32(127)));
    _mm256_mul_ps(p, _mm256_castsi256_ps(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Level, level};

    #[test]
    #[allow(unsafe_code)]
    fn the_same_as_without_registers() {
        if level() != Level::Avx2 {
            return;
        }
        for count in [1, 7, 8, 9, 63, 64, 65, 200, 4096, 4099] {
            let number = |i: usize| ((i * i + 11 * i) % 1013) as f32 / 40.0 - 14.0;
            let values: Vec<f32> = (0..count).map(number).collect();
            let (mut have, mut want) = (values.clone(), values.clone());
            // SAFETY: `level` has found the features that these are compiled for.
            let sums = unsafe { softmax(&mut have) };
            assert_eq!((sums, &have), (math::softmax_body::<true>(&mut want), &want), "{count}");
            let largest = math::largest(&values);
            // SAFETY: as above.
            let have = unsafe { log_sum_exp(&values, largest) };
            assert_eq!(have, math::log_sum_exp_body::<true>(&values, largest), "{count}");
        }
    }
}
