//! Exponentials, and the sums of them that make probabilities of scores and logits.
//!
//! Exponentials are taken of blocks, in a loop that is too long to be unrolled: where there are eight of them the compiler writes them
//! out one by one, each in scalar instructions. Sums are in lanes of eight all the same, so they don't depend on that.

use super::{LANES, ROUND, dispatched, fma, total};

/// Numbers that are looked at together.
const BLOCK: usize = 8 * LANES;

/// The natural logarithm of 2, as a number of few bits and the rest.
pub(in super::super) const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// The coefficients, the highest power first.
pub(in super::super) const EXP_POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `e^x` to 2e-7 relative, by Cody and Waite's reduction and the polynomial of Cephes `expf`; branch-free, so that
/// loops over it vectorise. Below -87 the result is about 1e-38 rather than 0.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN_2.0, x);
    let r = fma::<FMA>(n, -LN_2.1, r);
    let mut p = EXP_POLYNOMIAL[0];
    for c in &EXP_POLYNOMIAL[1..] {
        p = fma::<FMA>(p, r, *c);
    }
    let p = fma::<FMA>(p * r, r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// Replaces every score by what it counts beside the others, and returns the sum of that.
#[inline(always)]
pub(in super::super) fn softmax_body<const FMA: bool>(scores: &mut [f32]) -> f32 {
    let largest = largest_body::<FMA>(scores);
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = scores.as_chunks_mut::<BLOCK>();
    for block in blocks {
        *block = exps::<FMA>(block, largest);
        add_to_lanes(block, &mut lanes);
    }
    let mut last = [0.0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    rest.copy_from_slice(&exps::<FMA>(&last, largest)[..rest.len()]);
    let tail = add_to_lanes(rest, &mut lanes);
    tail.iter().fold(total(lanes), |sum, x| sum + x)
}

dispatched! {
    /// The largest number; minus infinity where there is none.
    pub(crate) fn largest(values: &[f32]) -> f32 = largest_body;
}

#[inline(always)]
fn largest_body<const FMA: bool>(values: &[f32]) -> f32 {
    let (chunks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(chunk[i]);
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
}

/// `e^(x - largest)` for each number.
#[inline(always)]
fn exps<const FMA: bool>(values: &[f32; BLOCK], largest: f32) -> [f32; BLOCK] {
    let mut out = [0.0; BLOCK];
    for (out, x) in out.iter_mut().zip(values) {
        *out = exp::<FMA>(x - largest);
    }
    out
}

/// Adds each eight numbers to the lanes, and returns those that are left over.
#[inline(always)]
fn add_to_lanes<'a>(values: &'a [f32], lanes: &mut [f32; LANES]) -> &'a [f32] {
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    tail
}

/// Below the best, in the exponent: what is less likely than this can't be drawn in practice.
const NEGLIGIBLE: f32 = -20.0;

dispatched! {
    /// `e^((x - largest) * factor)` for each value, nothing where that is negligible; returns the sum.
    pub(crate) fn weigh(values: &[f32], largest: f32, factor: f32, out: &mut [f32]) -> f32 = weigh_body;
}

#[inline(always)]
fn weigh_body<const FMA: bool>(values: &[f32], largest: f32, factor: f32, out: &mut [f32]) -> f32 {
    for (out, x) in out.iter_mut().zip(values) {
        let exponent = (x - largest) * factor;
        let weight = exp::<FMA>(exponent);
        *out = if exponent > NEGLIGIBLE { weight } else { 0.0 };
    }
    let mut lanes = [0.0; LANES];
    let tail = add_to_lanes(out, &mut lanes);
    tail.iter().fold(total(lanes), |sum, x| sum + x)
}

dispatched! {
    /// The sum of some numbers.
    pub(crate) fn sum(values: &[f32]) -> f32 = sum_body;
}

#[inline(always)]
fn sum_body<const FMA: bool>(values: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let tail = add_to_lanes(values, &mut lanes);
    total(lanes) + tail.iter().sum::<f32>()
}

/// `ln(sum of e^x)`; minus infinity for no values at all.
#[allow(unsafe_code)]
pub(crate) fn log_sum_exp(values: &[f32]) -> f32 {
    let largest = largest(values);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    #[cfg(target_arch = "x86_64")]
    if crate::kernels::level() == crate::kernels::Level::Avx2 {
        // SAFETY: `level` has just found the features that the function is compiled for.
        return unsafe { crate::kernels::avx2::exponentials::log_sum_exp(values, largest) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: NEON is there on every processor.
    return unsafe { crate::kernels::neon::exponentials::log_sum_exp(values, largest) };
    #[cfg(not(target_arch = "aarch64"))]
    log_sum_exp_body::<false>(values, largest)
}

/// As [`log_sum_exp`], of numbers of which `largest` is.
#[cfg(any(test, not(target_arch = "aarch64")))]
pub(in super::super) fn log_sum_exp_body<const FMA: bool>(values: &[f32], largest: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    for block in blocks {
        add_to_lanes(&exps::<FMA>(block, largest), &mut sums);
    }
    let mut last = [0.0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let last = exps::<FMA>(&last, largest);
    let tail = add_to_lanes(&last[..rest.len()], &mut sums);
    largest + (total(sums) + tail.iter().sum::<f32>()).ln()
}
