//! Attention of the queries that share keys and values, with heads of whole registers.
//!
//! What is summed up in which order is part of what a model writes: for each query it is the same however many are computed at a time.

use std::arch::x86_64::*;

use super::super::{Heads, LANES};
use super::exponentials::softmax;
use super::{load8f, store8f};

/// Positions that are looked at together: their sums across registers are taken at once.
const POSITIONS: usize = 4;
/// Sums of so many positions are taken in one way, those of the positions that are left over in another.
const EIGHT: usize = 2 * POSITIONS;

/// As [`super::super::attend`], for heads that are a multiple of [`LANES`].
#[target_feature(enable = "avx2,fma")]
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
#[target_feature(enable = "avx2,fma")]
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
        let left = (width - at) / LANES;
        at += LANES
            * match (Q, left) {
                (1, 4..) => weigh_values::<Q, 4>(heads, at, scores, &factors, out),
                (_, 2..) => weigh_values::<Q, 2>(heads, at, scores, &factors, out),
                _ => weigh_values::<Q, 1>(heads, at, scores, &factors, out),
            };
    }
}

/// The products of queries with the keys of all positions: those of a query side by side.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_keys<const Q: usize>(heads: &Heads<'_>, positions: usize, scores: &mut [f32]) {
    let width = heads.width;
    let eights = positions / EIGHT * EIGHT;
    // No closures: they would not be compiled for these features.
    let mut queries: [&[[f32; LANES]]; Q] = [&[]; Q];
    for (query, numbers) in queries.iter_mut().zip(heads.queries.chunks_exact(width)) {
        *query = numbers.as_chunks().0;
    }
    for first in (0..positions).step_by(POSITIONS) {
        let mut keys: [&[[f32; LANES]]; POSITIONS] = [&[]; POSITIONS];
        for (k, key) in keys.iter_mut().enumerate() {
            // Beyond the last one it comes again.
            let position = (first + k).min(positions - 1);
            *key = heads.keys[position * heads.stride..][..width].as_chunks().0;
        }
        let sums = products(queries, keys);
        for (sums, scores) in sums.iter().zip(scores.chunks_exact_mut(positions)) {
            let four = if first < eights { across_pairs(sums) } else { across_halves(sums) };
            let scores = &mut scores[first..];
            match scores.first_chunk_mut() {
                Some(scores) => *scores = store4f(four),
                None => scores.copy_from_slice(&store4f(four)[..scores.len()]),
            }
        }
    }
}

/// In eight lanes, the products of each query with each key.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn products<const Q: usize>(
    queries: [&[[f32; LANES]]; Q],
    keys: [&[[f32; LANES]]; POSITIONS],
) -> [[__m256; POSITIONS]; Q] {
    let mut sums = [[_mm256_setzero_ps(); POSITIONS]; Q];
    let registers = keys[0].len();
    // Said before the loop, so that it needs no bounds checks.
    if queries.iter().any(|query| query.len() < registers) || keys.iter().any(|key| key.len() < registers) {
        return sums;
    }
    for i in 0..registers {
        let mut parts = [_mm256_setzero_ps(); POSITIONS];
        for (part, key) in parts.iter_mut().zip(keys) {
            *part = load8f(&key[i]);
        }
        for (sums, query) in sums.iter_mut().zip(queries) {
            let query = load8f(&query[i]);
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = _mm256_fmadd_ps(query, part, *sum);
            }
        }
    }
    sums
}

/// The sums across four registers, neighbours first.
#[inline]
#[target_feature(enable = "avx2")]
fn across_pairs([a, b, c, d]: &[__m256; POSITIONS]) -> __m128 {
    let sums = _mm256_hadd_ps(_mm256_hadd_ps(*a, *b), _mm256_hadd_ps(*c, *d));
    _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums))
}

/// The sums across four registers in the order of [`super::super::math::total`].
#[inline]
#[target_feature(enable = "avx2")]
fn across_halves(sums: &[__m256; POSITIONS]) -> __m128 {
    let mut halves = [_mm_setzero_ps(); POSITIONS];
    for (half, sum) in halves.iter_mut().zip(sums) {
        *half = _mm_add_ps(_mm256_castps256_ps128(*sum), _mm256_extractf128_ps::<1>(*sum));
    }
    let [a, b, c, d] = halves;
    let first = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let second = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    _mm_hadd_ps(first, second)
}

/// Values of `R` registers from `at` on at each position, times its score, summed up for each query and multiplied by its factor.
/// Returns `R`.
#[inline]
#[target_feature(enable = "avx2,fma")]
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
    // Those of every other position.
    let (mut even, mut odd) = ([[_mm256_setzero_ps(); R]; Q], [[_mm256_setzero_ps(); R]; Q]);
    let mut rows = heads.values[at..].chunks(heads.stride);
    let mut position = 0;
    while position + 1 < positions {
        let (Some(first), Some(second)) = (rows.next(), rows.next()) else { break };
        add::<Q, R>(of_query, position, first, &mut even);
        add::<Q, R>(of_query, position + 1, second, &mut odd);
        position += 2;
    }
    if position < positions
        && let Some(row) = rows.next()
    {
        add::<Q, R>(of_query, position, row, &mut even);
    }
    for (q, out) in out.chunks_exact_mut(heads.width).enumerate() {
        let factor = _mm256_set1_ps(factors[q]);
        let out = out[at..][..R * LANES].as_chunks_mut::<LANES>().0;
        for (r, out) in out.iter_mut().enumerate() {
            *out = store8f(_mm256_mul_ps(_mm256_add_ps(even[q][r], odd[q][r]), factor));
        }
    }
    R
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add<const Q: usize, const R: usize>(
    scores: [&[f32]; Q],
    position: usize,
    values: &[f32],
    sums: &mut [[__m256; R]; Q],
) {
    let values = values[..R * LANES].as_chunks::<LANES>().0;
    let mut parts = [_mm256_setzero_ps(); R];
    for (part, value) in parts.iter_mut().zip(values) {
        *part = load8f(value);
    }
    for (sums, scores) in sums.iter_mut().zip(scores) {
        let score = _mm256_set1_ps(scores[position]);
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = _mm256_fmadd_ps(score, part, *sum);
        }
    }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store4f(numbers: __m128) -> [f32; 4] {
    let mut out = [0.0; 4];
    // SAFETY: four numbers are writable behind the reference, and the store needs no alignment.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), numbers) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{self, Level, math};

    /// The same in the order in which it has always been added up, one number after the other.
    fn reference(heads: &Heads<'_>, query: &[f32], positions: usize) -> Vec<f32> {
        let width = heads.width;
        let score = |p: usize| {
            let mut lanes = [0.0_f32; LANES];
            for (i, (q, k)) in query.iter().zip(&heads.keys[p * heads.stride..]).enumerate() {
                lanes[i % LANES] = q.mul_add(*k, lanes[i % LANES]);
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            let in_eight = p < positions / EIGHT * EIGHT;
            if in_eight { ((a + b) + (c + d)) + ((e + f) + (g + h)) } else { math::total(lanes) }
        };
        let mut scores: Vec<f32> = (0..positions).map(score).collect();
        let sum = math::softmax_body::<true>(&mut scores);
        let column = |i: usize| {
            let mut sums = [0.0_f32; 2];
            for (p, score) in scores.iter().enumerate() {
                sums[p % 2] = score.mul_add(heads.values[p * heads.stride + i], sums[p % 2]);
            }
            (sums[0] + sums[1]) * (1.0 / sum)
        };
        (0..width).map(column).collect()
    }

    #[test]
    fn the_order_of_sums_is_the_same_however_many_queries_there_are() {
        if kernels::level() != Level::Avx2 {
            return;
        }
        let number = |i: usize| ((i * i + 7 * i) % 1009) as f32 / 252.25 - 2.0;
        for (width, positions) in [(8, 1), (24, 7), (32, 8), (32, 31), (64, 70), (40, 133), (128, 12)] {
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
