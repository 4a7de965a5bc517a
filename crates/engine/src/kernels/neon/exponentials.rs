//! Exponentials of eight numbers, and what is made of them.

use std::arch::aarch64::*;

use super::super::LANES;
use super::super::math::{self, EXP_POLYNOMIAL, LN_2, ROUND};
use super::{FOUR, load4f, store4f};

/// Eight numbers in two registers.
type Eight = [float32x4_t; 2];

/// As [`math::softmax_body`], bit for bit: of as many numbers as there are, where that one takes them in blocks.
// Its constants would take registers from the loops around it.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) fn softmax(scores: &mut [f32]) -> f32 {
    let largest = math::largest(scores);
    let (eights, rest) = scores.as_chunks_mut::<LANES>();
    let mut lanes = [vdupq_n_f32(0.0); 2];
    for eight in eights {
        let weights = exp8(eight, largest);
        lanes = [vaddq_f32(lanes[0], weights[0]), vaddq_f32(lanes[1], weights[1])];
        *eight = store8f(weights);
    }
    let mut last = [largest; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let last = store8f(exp8(&last, largest));
    rest.copy_from_slice(&last[..rest.len()]);
    rest.iter().fold(math::total(store8f(lanes)), |sum, x| sum + x)
}

/// As `log_sum_exp_body`, bit for bit.
#[target_feature(enable = "neon")]
pub(in super::super) fn log_sum_exp(values: &[f32], largest: f32) -> f32 {
    let (eights, rest) = values.as_chunks::<LANES>();
    let mut lanes = [vdupq_n_f32(0.0); 2];
    for eight in eights {
        let weights = exp8(eight, largest);
        lanes = [vaddq_f32(lanes[0], weights[0]), vaddq_f32(lanes[1], weights[1])];
    }
    let mut last = [largest; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let last = store8f(exp8(&last, largest));
    let tail: f32 = last[..rest.len()].iter().sum();
    largest + (math::total(store8f(lanes)) + tail).ln()
}

/// `e^(x - largest)` of each number.
#[inline]
#[target_feature(enable = "neon")]
fn exp8(values: &[f32; LANES], largest: f32) -> Eight {
    let (fours, shift) = (values.as_chunks::<FOUR>().0, vdupq_n_f32(largest));
    [exp4(vsubq_f32(load4f(&fours[0]), shift)), exp4(vsubq_f32(load4f(&fours[1]), shift))]
}

/// As [`math::exp`], bit for bit.
#[inline]
#[target_feature(enable = "neon")]
fn exp4(x: float32x4_t) -> float32x4_t {
    let round = vdupq_n_f32(ROUND);
    // What is no number stays none.
    let x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-87.0)), vdupq_n_f32(88.0));
    let shifted = vfmaq_f32(round, x, vdupq_n_f32(std::f32::consts::LOG2_E));
    let n = vsubq_f32(shifted, round);
    let r = vfmaq_f32(x, n, vdupq_n_f32(-LN_2.0));
    let r = vfmaq_f32(r, n, vdupq_n_f32(-LN_2.1));
    let mut p = vdupq_n_f32(EXP_POLYNOMIAL[0]);
    for c in &EXP_POLYNOMIAL[1..] {
        p = vfmaq_f32(vdupq_n_f32(*c), p, r);
    }
    let p = vaddq_f32(vfmaq_f32(r, vmulq_f32(p, r), r), vdupq_n_f32(1.0));
    let power = vsubq_s32(vreinterpretq_s32_f32(shifted), vreinterpretq_s32_f32(round));
    let exponent = vshlq_n_s32::<23>(vaddq_s32(power, vdupq_n_s32(127)));
    vmulq_f32(p, vreinterpretq_f32_s32(exponent))
}

#[inline]
#[target_feature(enable = "neon")]
fn store8f([low, high]: Eight) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    let fours = out.as_chunks_mut::<FOUR>().0;
    (fours[0], fours[1]) = (store4f(low), store4f(high));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn the_same_as_without_registers() {
        for count in [1, 7, 8, 9, 63, 64, 65, 200, 4096, 4099] {
            let number = |i: usize| ((i * i + 11 * i) % 1013) as f32 / 40.0 - 14.0;
            let values: Vec<f32> = (0..count).map(number).collect();
            let (mut have, mut want) = (values.clone(), values.clone());
            // SAFETY: NEON is there on every processor.
            let sums = unsafe { softmax(&mut have) };
            assert_eq!((sums, &have), (math::softmax_body::<true>(&mut want), &want), "{count}");
            let largest = math::largest(&values);
            // SAFETY: as above.
            let have = unsafe { log_sum_exp(&values, largest) };
            assert_eq!(have, math::log_sum_exp_body::<true>(&values, largest), "{count}");
        }
    }
}
