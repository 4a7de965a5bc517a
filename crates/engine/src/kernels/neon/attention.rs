//! Attention of the queries that share keys and values, with heads of whole registers.
//!
//! What is summed up in which order is part of what a model writes: for each query it is the same however many are computed at a time.

use std::arch::aarch64::*;

use super::super::Heads;
use super::exponentials::softmax;
use super::{FOUR, across_f, load4f, store4f};

/// As [`super::super::attend`], for heads that are a multiple of [`FOUR`].
#[target_feature(enable = "neon")]
pub(in super::super) fn attend(heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) {
    let width = heads.width;
    let positions = scores.len() * width / heads.queries.len();
    let mut rest = heads.queries.len() / width;
    let (mut queries, mut scores, mut out) = (heads.queries, scores, out);
    while rest > 0 {
        // As many as the registers hold the sums of; 2 and 2 rather than 3 and 1.
        let count = if rest == 4 { 2 } else { rest.min(3) };
        let (some_queries, more_queries) = queries.split_at(count * width);
        let (some_scores, more_scores) = scores.split_at_mut(count * positions);
        let (some_out, more_out) = out.split_at_mut(count * width);
        let some = Heads { queries: some_queries, ..*heads };
        match count {
            1 => attend_few::<1>(&some, some_scores, some_out),
            2 => attend_few::<2>(&some, some_scores, some_out),
            _ => attend_few::<3>(&some, some_scores, some_out),
        }
        (queries, scores, out) = (more_queries, more_scores, more_out);
        rest -= count;
    }
}

/// The same for `Q` queries: each key and value is loaded once for all of them.
#[inline]
#[target_feature(enable = "neon")]
fn attend_few<const Q: usize>(heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) {
    let (width, positions) = (heads.width, scores.len() / Q);
    multiply_keys::<Q>(heads, positions, scores);
    let mut factors = [0.0; Q];
    for (factor, scores) in factors.iter_mut().zip(scores.chunks_exact_mut(positions)) {
        *factor = 1.0 / softmax(scores);
    }
    let mut at = 0;
    while at < width {
        // Enough sums for the next position not to have to wait for the last, and no more than there are registers.
        at += FOUR
            * match (width - at) / FOUR {
                8.. => weigh_values::<Q, 8>(heads, at, scores, &factors, out),
                4.. => weigh_values::<Q, 4>(heads, at, scores, &factors, out),
                2.. => weigh_values::<Q, 2>(heads, at, scores, &factors, out),
                _ => weigh_values::<Q, 1>(heads, at, scores, &factors, out),
            };
    }
}

/// The products of queries with the keys of all positions: those of a query side by side.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_keys<const Q: usize>(heads: &Heads<'_>, positions: usize, scores: &mut [f32]) {
    // Eight positions are looked at together, to have enough sums; of up to four that are left over, four.
    let mut first = 0;
    while first < positions {
        first += match positions - first {
            5.. => multiply_some_keys::<Q, 8>(heads, first, positions, scores),
            _ => multiply_some_keys::<Q, 4>(heads, first, positions, scores),
        };
    }
}

/// The same for `P` positions, a multiple of four. Returns `P`.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_some_keys<const Q: usize, const P: usize>(
    heads: &Heads<'_>,
    first: usize,
    positions: usize,
    scores: &mut [f32],
) -> usize {
    let mut keys: [&[[f32; FOUR]]; P] = [&[]; P];
    for (k, key) in keys.iter_mut().enumerate() {
        // Beyond the last one it comes again.
        let position = (first + k).min(positions - 1);
        *key = heads.keys[position * heads.stride..][..heads.width].as_chunks().0;
    }
    let mut queries: [&[[f32; FOUR]]; Q] = [&[]; Q];
    for (query, numbers) in queries.iter_mut().zip(heads.queries.chunks_exact(heads.width)) {
        *query = numbers.as_chunks().0;
    }
    let sums = products(queries, keys);
    for (sums, scores) in sums.iter().zip(scores.chunks_exact_mut(positions)) {
        for (sums, scores) in sums.as_chunks::<FOUR>().0.iter().zip(scores[first..].chunks_mut(FOUR)) {
            let four = store4f(across_f(*sums));
            scores.copy_from_slice(&four[..scores.len()]);
        }
    }
    P
}

/// In four lanes, the products of each query with each key.
#[inline]
#[target_feature(enable = "neon")]
fn products<const Q: usize, const P: usize>(
    queries: [&[[f32; FOUR]]; Q],
    keys: [&[[f32; FOUR]]; P],
) -> [[float32x4_t; P]; Q] {
    let mut sums = [[vdupq_n_f32(0.0); P]; Q];
    let registers = keys[0].len();
    // Said before the loop, so that it needs no bounds checks.
    if queries.iter().any(|query| query.len() < registers) || keys.iter().any(|key| key.len() < registers) {
        return sums;
    }
    for i in 0..registers {
        let mut of_queries = [vdupq_n_f32(0.0); Q];
        for (part, query) in of_queries.iter_mut().zip(queries) {
            *part = load4f(&query[i]);
        }
        for (k, key) in keys.iter().enumerate() {
            let key = load4f(&key[i]);
            for (sums, query) in sums.iter_mut().zip(of_queries) {
                sums[k] = vfmaq_f32(sums[k], query, key);
            }
        }
    }
    sums
}

/// Values of `R` registers from `at` on at each position, times its score, summed up for each query and multiplied by its factor.
/// Returns `R`.
#[inline]
#[target_feature(enable = "neon")]
fn weigh_values<const Q: usize, const R: usize>(
    heads: &Heads<'_>,
    at: usize,
    scores: &[f32],
    factors: &[f32; Q],
    out: &mut [f32],
) -> usize {
    let positions = scores.len() / Q;
    let mut of_query: [&[f32]; Q] = [&[]; Q];
    for (of_query, scores) in of_query.iter_mut().zip(scores.chunks_exact(positions)) {
        *of_query = scores;
    }
    let mut sums = [[vdupq_n_f32(0.0); R]; Q];
    for (position, row) in heads.values[at..].chunks(heads.stride).take(positions).enumerate() {
        let values = row[..R * FOUR].as_chunks::<FOUR>().0;
        let mut weights = [0.0; Q];
        for (weight, scores) in weights.iter_mut().zip(of_query) {
            *weight = scores[position];
        }
        for (r, value) in values.iter().enumerate() {
            let value = load4f(value);
            for (sums, weight) in sums.iter_mut().zip(weights) {
                sums[r] = vfmaq_n_f32(sums[r], value, weight);
            }
        }
    }
    for ((sums, factor), out) in sums.iter().zip(factors).zip(out.chunks_exact_mut(heads.width)) {
        let out = out[at..][..R * FOUR].as_chunks_mut::<FOUR>().0;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = store4f(vmulq_n_f32(*sum, *factor));
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{self, math};

    /// The same added up one number after the other.
    fn reference(heads: &Heads<'_>, query: &[f32], positions: usize) -> Vec<f32> {
        let width = heads.width;
        let score = |p: usize| {
            let mut lanes = [0.0_f32; FOUR];
            for (i, (q, k)) in query.iter().zip(&heads.keys[p * heads.stride..]).enumerate() {
                lanes[i % FOUR] = q.mul_add(*k, lanes[i % FOUR]);
            }
            (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
        };
        let mut scores: Vec<f32> = (0..positions).map(score).collect();
        let sum = math::softmax_body::<true>(&mut scores);
        let column = |i: usize| {
            let of = |sum, (p, score): (usize, &f32)| score.mul_add(heads.values[p * heads.stride + i], sum);
            scores.iter().enumerate().fold(0.0_f32, of) * (1.0 / sum)
        };
        (0..width).map(column).collect()
    }

    #[test]
    fn the_order_of_sums_is_the_same_however_many_queries_there_are() {
        let number = |i: usize| ((i * i + 7 * i) % 1009) as f32 / 252.25 - 2.0;
        for (width, positions) in [(4, 3), (8, 1), (24, 7), (32, 8), (32, 31), (64, 70), (44, 133), (128, 12)]
        {
            let stride = 2 * width;
            let keys: Vec<f32> = (0..positions * stride).map(|i| number(i + 3)).collect();
            let values: Vec<f32> = (0..positions * stride).map(|i| number(3 * i + 5)).collect();
            for count in 1..=7 {
                let queries: Vec<f32> = (0..count * width).map(|i| 0.3 * number(5 * i + 11)).collect();
                let heads = Heads { queries: &queries, keys: &keys, values: &values, stride, width };
                let mut out = vec![f32::NAN; count * width];
                kernels::attend(&heads, &mut vec![0.0; count * positions], &mut out);
                for (query, out) in queries.chunks_exact(width).zip(out.chunks_exact(width)) {
                    assert_eq!(out, reference(&heads, query, positions), "{width} {positions} {count}");
                }
            }
        }
    }
}
