//! Activations made into groups of 8 bits.

use std::arch::aarch64::*;

use super::super::{GROUP, Group, math};
use super::{FOUR, load4f};

/// As [`math::quantise_group`] in plain Rust, bit for bit but for what is no number.
#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
pub(in super::super) fn group(numbers: &[f32; GROUP]) -> Group {
    const PARTS: usize = GROUP / FOUR;
    let mut parts = [vdupq_n_f32(0.0); PARTS];
    for (part, numbers) in parts.iter_mut().zip(numbers.as_chunks::<FOUR>().0) {
        *part = load4f(numbers);
    }
    let [a, b, c, d, e, f, g, h] = parts;
    // Of a number and none, the number stays.
    let two = |a, b| vmaxnmq_f32(vabsq_f32(a), vabsq_f32(b));
    let four = |a, b, c, d| vmaxnmq_f32(two(a, b), two(c, d));
    let largest = vmaxnmvq_f32(vmaxnmq_f32(four(a, b, c, d), four(e, f, g, h)));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let round = vdupq_n_f32(math::ROUND);
    let mut integers = [vdupq_n_s32(0); PARTS];
    for (integer, part) in integers.iter_mut().zip(parts) {
        let shifted = vreinterpretq_s32_f32(vfmaq_n_f32(round, part, inverse));
        *integer = vsubq_s32(shifted, vreinterpretq_s32_f32(round));
    }
    let [a, b, c, d, e, f, g, h] = integers;
    let four = |a, b, c, d| vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d));
    let sum = vaddvq_s32(vaddq_s32(four(a, b, c, d), four(e, f, g, h)));
    // The lower halves of both: nothing is lost, as no number is larger than 127.
    let shorts = |a, b| vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
    let bytes = |a, b| vuzp1q_s8(vreinterpretq_s8_s16(a), vreinterpretq_s8_s16(b));
    let mut values = [0; GROUP];
    let sixteens = values.as_chunks_mut::<16>().0;
    // SAFETY: sixteen bytes are writable behind each reference, and the stores need no alignment.
    unsafe {
        vst1q_s8(sixteens[0].as_mut_ptr(), bytes(shorts(a, b), shorts(c, d)));
        vst1q_s8(sixteens[1].as_mut_ptr(), bytes(shorts(e, f), shorts(g, h)));
    }
    let scale = largest / 127.0;
    Group { values, scale, sum: scale * sum as f32 }
}
