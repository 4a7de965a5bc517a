//! The arithmetic of a state-space mixer between its two matrices, see [`crate::backend::StateSpace`].
//!
//! As in [`super::math`], every function is plain Rust in lanes of eight, compiled for AVX2 and for any machine. A position is
//! computed alike, whatever else is computed with it.

use super::LANES;
use super::math::{dispatched, exp, fma, rms_norm_body};

dispatched! {
    /// One position of the convolution: `out` is SiLU of the bias plus the sum of the positions in `window` and of `x`, the newest,
    /// times their weights. `weights` has a row of `x.len()` for each position, `window` all but the newest, at least one, the
    /// oldest first. `x` becomes the last of them, and the oldest is dropped.
    pub(crate) fn convolve(x: &[f32], weights: &[f32], bias: &[f32], window: &mut [f32], out: &mut [f32]) = convolve_body;
}

#[inline(always)]
fn convolve_body<const FMA: bool>(
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
    window: &mut [f32],
    out: &mut [f32],
) {
    let width = x.len();
    out.copy_from_slice(bias);
    let mut rows = weights.chunks_exact(width);
    for position in window.chunks_exact(width).chain(std::iter::once(x)) {
        let Some(row) = rows.next() else { break };
        for ((out, w), x) in out.iter_mut().zip(row).zip(position) {
            *out = fma::<FMA>(*w, *x, *out);
        }
    }
    for out in out.iter_mut() {
        *out /= 1.0 + exp::<FMA>(-*out);
    }
    window.copy_within(width.., 0);
    let newest = window.len() - width;
    window[newest..].copy_from_slice(x);
}

/// What a head needs of one position.
#[derive(Clone, Copy)]
pub(crate) struct Position<'a> {
    /// The time that passes, positive.
    pub(crate) step: f32,
    /// What passes through the state; a number for each row of it.
    pub(crate) x: &'a [f32],
    /// What it is written to; a number for each column.
    pub(crate) b: &'a [f32],
    /// What it is read with.
    pub(crate) c: &'a [f32],
}

dispatched! {
    /// One position of one head: the state, rows of `at.b.len()`, decays, takes up `at.x ⊗ at.b`, and is read into `out`.
    pub(crate) fn advance(state: &mut [f32], at: Position<'_>, decay: f32, skip: f32, out: &mut [f32]) = advance_body;
}

#[inline(always)]
fn advance_body<const FMA: bool>(
    state: &mut [f32],
    at: Position<'_>,
    decay: f32,
    skip: f32,
    out: &mut [f32],
) {
    let Position { step, x, b, c } = at;
    let decay = (step * decay).exp();
    let ((b_chunks, b_tail), (c_chunks, c_tail)) = (b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    for ((row, x), out) in state.chunks_exact_mut(b.len()).zip(x).zip(out) {
        let taken = step * x;
        let (chunks, tail) = row.as_chunks_mut::<LANES>();
        let mut lanes = [0.0; LANES];
        for ((row, b), c) in chunks.iter_mut().zip(b_chunks).zip(c_chunks) {
            for i in 0..LANES {
                row[i] = fma::<FMA>(taken, b[i], row[i] * decay);
                lanes[i] = fma::<FMA>(row[i], c[i], lanes[i]);
            }
        }
        let mut sum = 0.0;
        for ((value, b), c) in tail.iter_mut().zip(b_tail).zip(c_tail) {
            *value = fma::<FMA>(taken, *b, *value * decay);
            sum = fma::<FMA>(*value, *c, sum);
        }
        let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
        *out = fma::<FMA>(skip, *x, (half[0] + half[2]) + (half[1] + half[3]) + sum);
    }
}

dispatched! {
    /// Multiplies `values` by SiLU of `gate`, then normalises (RMS) each piece of `width` numbers and multiplies it by its weights.
    pub(crate) fn gated_norm(values: &mut [f32], gate: &[f32], width: usize, weight: &[f32], epsilon: f32) = gated_norm_body;
}

#[inline(always)]
fn gated_norm_body<const FMA: bool>(
    values: &mut [f32],
    gate: &[f32],
    width: usize,
    weight: &[f32],
    epsilon: f32,
) {
    for (x, g) in values.iter_mut().zip(gate) {
        *x *= g / (1.0 + exp::<FMA>(-g));
    }
    for (group, weight) in values.chunks_exact_mut(width).zip(weight.chunks_exact(width)) {
        rms_norm_body::<FMA>(group, weight, epsilon);
    }
}

/// `ln(1 + e^x)`: the time that passes in a step, which is never negative.
pub(crate) fn softplus(x: f32) -> f32 {
    // Beyond this the one is lost in rounding.
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of no pattern between -1 and 1.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * (i + 7 * seed) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn close(have: f32, want: f64) {
        assert!((f64::from(have) - want).abs() < 1e-5 * (1.0 + want.abs()), "{have} {want}");
    }

    fn silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    #[test]
    fn the_convolution_sees_the_last_positions() {
        let (width, kernel, count) = (19, 4, 9);
        let (weights, bias) = (numbers(kernel * width, 3), numbers(width, 5));
        let rows = numbers(count * width, 11);
        let mut window = vec![0.0; (kernel - 1) * width];
        let mut out = vec![0.0; width];
        for position in 0..count {
            convolve(&rows[position * width..][..width], &weights, &bias, &mut window, &mut out);
            for channel in 0..width {
                let seen = (0..kernel).filter_map(|k| {
                    let at = (position + k).checked_sub(kernel - 1)?;
                    Some(f64::from(weights[k * width + channel]) * f64::from(rows[at * width + channel]))
                });
                close(out[channel], silu(f64::from(bias[channel]) + seen.sum::<f64>()));
            }
        }
    }

    #[test]
    fn a_state_decays_and_is_written_and_read() {
        for columns in [1, 8, 12, 128] {
            let rows = 5;
            let mut state = numbers(rows * columns, 2);
            let mut want: Vec<f64> = state.iter().map(|&x| f64::from(x)).collect();
            let mut out = vec![0.0; rows];
            for round in 1..4 {
                let (x, b, c) =
                    (numbers(rows, round), numbers(columns, 40 + round), numbers(columns, 90 + round));
                let (step, rate, skip) = (0.1 * round as f32, -0.7, 0.3);
                advance(&mut state, Position { step, x: &x, b: &b, c: &c }, rate, skip, &mut out);
                let decay = (f64::from(step) * f64::from(rate)).exp();
                for row in 0..rows {
                    let mut sum = f64::from(skip) * f64::from(x[row]);
                    for column in 0..columns {
                        let at = row * columns + column;
                        let taken = f64::from(step) * f64::from(x[row]) * f64::from(b[column]);
                        want[at] = want[at] * decay + taken;
                        close(state[at], want[at]);
                        sum += want[at] * f64::from(c[column]);
                    }
                    close(out[row], sum);
                }
            }
        }
    }

    #[test]
    fn groups_are_normalised_after_the_gate() {
        let (groups, width) = (3, 10);
        let mut values = numbers(groups * width, 4);
        let before = values.clone();
        let (gate, weight) = (numbers(groups * width, 6), numbers(groups * width, 8));
        gated_norm(&mut values, &gate, width, &weight, 1e-5);
        for group in 0..groups {
            let range = group * width..(group + 1) * width;
            let gated: Vec<f64> =
                range.clone().map(|i| f64::from(before[i]) * silu(f64::from(gate[i]))).collect();
            let mean = gated.iter().map(|x| x * x).sum::<f64>() / width as f64;
            for (i, x) in range.zip(&gated) {
                close(values[i], x / (mean + 1e-5).sqrt() * f64::from(weight[i]));
            }
        }
    }

    #[test]
    fn steps_are_positive() {
        for x in [-30.0, -3.0, 0.0, 3.0, 19.0, 25.0] {
            let want = f64::from(x).exp().ln_1p();
            assert!((f64::from(softplus(x)) / want - 1.0).abs() < 1e-5, "{x}: {}", softplus(x));
        }
    }
}
