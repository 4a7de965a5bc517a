//! Attention of one query, with heads of whole registers.

use std::arch::x86_64::*;

use super::super::{LANES, math};
use super::load8f;

/// Positions that are looked at together: their sums across registers are taken at once.
const POSITIONS: usize = 8;
/// Registers of values that are summed up at a time, twice: the next position need not wait for the last.
const REGISTERS: usize = 4;

/// As [`super::super::attend`], for heads that are a multiple of [`LANES`].
#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn attend(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    stride: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let query = query.as_chunks::<LANES>().0;
    let positions = scores.len();
    let (eights, rest) = scores.as_chunks_mut::<POSITIONS>();
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = eight_products(query, &keys[i * POSITIONS * stride..], stride);
    }
    for (i, score) in rest.iter_mut().enumerate() {
        let key = &keys[(positions / POSITIONS * POSITIONS + i) * stride..][..query.len() * LANES];
        *score = math::dot(query.as_flattened(), key);
    }
    let sum = math::softmax(scores);
    let inverse = 1.0 / sum;
    let mut at = 0;
    for out in out.chunks_mut(REGISTERS * LANES) {
        match out.len() / LANES {
            1 => weighed::<1>(scores, &values[at..], stride, inverse, out),
            2 => weighed::<2>(scores, &values[at..], stride, inverse, out),
            3 => weighed::<3>(scores, &values[at..], stride, inverse, out),
            _ => weighed::<REGISTERS>(scores, &values[at..], stride, inverse, out),
        }
        at += out.len();
    }
}

/// The products of a query with the keys of so many positions.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn eight_products(query: &[[f32; LANES]], keys: &[f32], stride: usize) -> [f32; POSITIONS] {
    let width = query.len() * LANES;
    // No closure: it would not be compiled for these features.
    let mut rows = [query; POSITIONS];
    for (k, row) in rows.iter_mut().enumerate() {
        *row = &keys[k * stride..][..width].as_chunks::<LANES>().0[..query.len()];
    }
    let mut sums = [_mm256_setzero_ps(); POSITIONS];
    for (i, part) in query.iter().enumerate() {
        let part = load8f(part);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = _mm256_fmadd_ps(part, load8f(&row[i]), *sum);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let first = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let second = _mm256_hadd_ps(_mm256_hadd_ps(e, f), _mm256_hadd_ps(g, h));
    super::store8f(_mm256_add_ps(
        _mm256_permute2f128_ps::<0x20>(first, second),
        _mm256_permute2f128_ps::<0x31>(first, second),
    ))
}

/// Values of `R` registers at each position, times its score, summed up and multiplied by `factor`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn weighed<const R: usize>(scores: &[f32], values: &[f32], stride: usize, factor: f32, out: &mut [f32]) {
    let (mut even, mut odd) = ([_mm256_setzero_ps(); R], [_mm256_setzero_ps(); R]);
    let (pairs, last) = scores.as_chunks::<2>();
    for (i, pair) in pairs.iter().enumerate() {
        add::<R>(pair[0], &values[2 * i * stride..], &mut even);
        add::<R>(pair[1], &values[(2 * i + 1) * stride..], &mut odd);
    }
    if let [score] = last {
        add::<R>(*score, &values[(scores.len() - 1) * stride..], &mut even);
    }
    let factor = _mm256_set1_ps(factor);
    for (r, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(R) {
        *out = super::store8f(_mm256_mul_ps(_mm256_add_ps(even[r], odd[r]), factor));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add<const R: usize>(score: f32, values: &[f32], sums: &mut [__m256; R]) {
    let score = _mm256_set1_ps(score);
    for (sum, value) in sums.iter_mut().zip(values[..R * LANES].as_chunks::<LANES>().0) {
        *sum = _mm256_fmadd_ps(score, load8f(value), *sum);
    }
}
