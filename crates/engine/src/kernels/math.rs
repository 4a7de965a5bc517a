//! The arithmetic between the matrix products: norms, rotary embedding, attention, activations, softmax.
//!
//! Every function is plain Rust, written in lanes of eight so that the compiler can use vector registers, and is
//! compiled twice on x86-64: once for AVX2 and FMA, once for any machine. On 64-bit ARM any machine has what it takes.

mod softmax;

use super::{GROUP, Group, Heads, LANES, Tiles, interleaved};
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use softmax::log_sum_exp_body;
pub(super) use softmax::softmax_body;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use softmax::{EXP_POLYNOMIAL, LN_2};
pub(crate) use softmax::{exp, largest, log_sum_exp, sum, weigh};

/// Whether any processor that this is compiled for multiplies and adds in one instruction.
pub(super) const ALWAYS_FMA: bool = cfg!(target_arch = "aarch64");

/// Declares `$name`, which runs `$body::<true>` where the processor has what that takes, else `$body::<false>`. For AVX2 it is
/// compiled once more.
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn fast($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                if $crate::kernels::level() == $crate::kernels::Level::Avx2 {
                    // SAFETY: `level` has just found the features that `fast` is compiled for.
                    return unsafe { fast($($arg),*) };
                }
            }
            $body::<{ $crate::kernels::math::ALWAYS_FMA }>($($arg),*)
        }
    };
}

pub(super) use dispatched;

/// `a * b + c`, in one rounding where that is one instruction.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adding it rounds to an integer, which then stands in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Sum of `LANES` partial sums. Sums in a fixed number of lanes can be vectorised without reordering them.
#[inline(always)]
pub(super) fn total(lanes: [f32; LANES]) -> f32 {
    let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (half[0] + half[2]) + (half[1] + half[3])
}

dispatched! {
    /// Scalar product of two equally long slices.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = fma::<FMA>(x[i], y[i], lanes[i]);
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| x * y).sum();
    total(lanes) + tail
}

/// The scalar products of `a` with four others, each in the order of [`dot_body`].
#[inline(always)]
fn dots_body<const FMA: bool>(a: &[f32], others: [&[f32]; 4]) -> [f32; 4] {
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let chunks = others.map(|other| other.as_chunks::<LANES>().0);
    let mut lanes = [[0.0; LANES]; 4];
    for (c, x) in a_chunks.iter().enumerate() {
        for (lanes, chunks) in lanes.iter_mut().zip(chunks) {
            let y = &chunks[c];
            for i in 0..LANES {
                lanes[i] = fma::<FMA>(x[i], y[i], lanes[i]);
            }
        }
    }
    let done = a_chunks.len() * LANES;
    std::array::from_fn(|k| {
        let tail: f32 = a_tail.iter().zip(&others[k][done..]).map(|(x, y)| x * y).sum();
        total(lanes[k]) + tail
    })
}

dispatched! {
    /// Quantises rows of `width` numbers to signed bytes, and packs them.
    pub(super) fn quantise(rows: &[f32], width: usize) -> Tiles<Group> = quantise_body;
}

#[inline(always)]
fn quantise_body<const FMA: bool>(rows: &[f32], width: usize) -> Tiles<Group> {
    let empty = Group { values: [0; GROUP], scale: 0.0, sum: 0.0 };
    Tiles::pack(rows, width, empty, quantise_group::<FMA>)
}

dispatched! {
    /// Quantises groups of numbers.
    pub(super) fn quantise_groups(numbers: &[[f32; GROUP]], groups: &mut [interleaved::Group]) = quantise_groups_body;
}

#[inline(always)]
fn quantise_groups_body<const FMA: bool>(numbers: &[[f32; GROUP]], groups: &mut [interleaved::Group]) {
    for (group, numbers) in groups.iter_mut().zip(numbers) {
        *group = interleaved_group::<FMA>(numbers);
    }
}

#[inline(always)]
#[allow(unsafe_code)]
fn interleaved_group<const FMA: bool>(numbers: &[f32; GROUP]) -> interleaved::Group {
    #[cfg(target_arch = "x86_64")]
    if FMA {
        // SAFETY: `FMA` is true only in functions that are compiled for AVX2 and FMA.
        return unsafe { super::avx2::quantise::words(numbers) };
    }
    let Group { values, scale, sum } = quantise_group::<FMA>(numbers);
    let mut quads = [0; GROUP / 4];
    for (quad, values) in quads.iter_mut().zip(values.as_chunks::<4>().0) {
        let [a, b, c, d] = *values;
        *quad = i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]);
    }
    let (mut first, mut total) = (0, 0);
    for (i, value) in values.into_iter().enumerate() {
        total += i32::from(value);
        first += if i < GROUP / 2 { i32::from(value) } else { 0 };
    }
    interleaved::Group { quads, scale, sum, bias: -128 * total, first_bias: -128 * first }
}

#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn quantise_group<const FMA: bool>(group: &[f32; GROUP]) -> Group {
    #[cfg(target_arch = "x86_64")]
    if FMA {
        // SAFETY: `FMA` is true only in functions that are compiled for AVX2 and FMA.
        return unsafe { super::avx2::quantise::group(group) };
    }
    #[cfg(target_arch = "aarch64")]
    if FMA {
        // SAFETY: NEON is there on every processor.
        return unsafe { super::neon::quantise::group(group) };
    }
    let mut lanes = [0.0f32; LANES];
    for chunk in group.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(chunk[i].abs());
        }
    }
    let largest = lanes.iter().fold(0.0f32, |a, &b| a.max(b));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut values = [0; GROUP];
    let mut sum = 0i32;
    for (value, &x) in values.iter_mut().zip(group) {
        let integer = (fma::<FMA>(x, inverse, ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        *value = integer as i8;
        sum = sum.wrapping_add(integer);
    }
    let scale = largest / 127.0;
    Group { values, scale, sum: scale * sum as f32 }
}

dispatched! {
    /// `x / rms(x) * weight` for every row of `weight.len()`.
    pub(crate) fn rms_norm(rows: &mut [f32], weight: &[f32], epsilon: f32) = rms_norm_body;
}

#[inline(always)]
pub(super) fn rms_norm_body<const FMA: bool>(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mean = dot_body::<FMA>(row, row) / row.len() as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        for (x, w) in row.iter_mut().zip(weight) {
            *x *= scale * w;
        }
    }
}

dispatched! {
    /// `(x - mean) / deviation * weight + bias` for every row of `weight.len()`.
    pub(crate) fn layer_norm(rows: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) = layer_norm_body;
}

#[inline(always)]
fn layer_norm_body<const FMA: bool>(rows: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let width = weight.len();
    for row in rows.chunks_exact_mut(width) {
        let (chunks, tail) = row.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += chunk[i];
            }
        }
        let mean = (total(lanes) + tail.iter().sum::<f32>()) / width as f32;
        for x in row.iter_mut() {
            *x -= mean;
        }
        let variance = dot_body::<FMA>(row, row) / width as f32;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *x = fma::<FMA>(*x * scale, *w, *b);
        }
    }
}

dispatched! {
    /// `silu(gate) * up` for rows of `gate` followed by `up`, `width` numbers each.
    pub(crate) fn silu_gate(gate_up: &[f32], width: usize, out: &mut [f32]) = silu_gate_body;
}

#[inline(always)]
fn silu_gate_body<const FMA: bool>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp::<FMA>(-g)) * u;
        }
    }
}

dispatched! {
    /// `gelu(gate) * up` for rows as those of [`silu_gate`], with `gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x +
    /// 0.044715 x³)))`, which is `x * sigmoid` of twice the tangent's argument.
    pub(crate) fn gelu_gate(gate_up: &[f32], width: usize, out: &mut [f32]) = gelu_gate_body;
}

#[inline(always)]
fn gelu_gate_body<const FMA: bool>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    const TWICE: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            let argument = TWICE * g * fma::<FMA>(0.044_715 * g, g, 1.0);
            *out = g / (1.0 + exp::<FMA>(-argument)) * u;
        }
    }
}

/// `max(x, 0)²` in place.
pub(crate) fn relu_squared(values: &mut [f32]) {
    for x in values {
        let positive = x.max(0.0);
        *x = positive * positive;
    }
}

/// `into += from`.
pub(crate) fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}

/// Rotates pairs `(i, i + half)` of the first `2 * half` elements by the angles whose cosines and sines are given.
pub(crate) fn rotate_halves(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, rest) = head.split_at_mut(cos.len());
    for ((a, b), (c, s)) in first.iter_mut().zip(rest).zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

/// As [`rotate_halves`] with pairs `(2 i, 2 i + 1)`.
pub(crate) fn rotate_pairs(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ([a, b], (c, s)) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

dispatched! {
    /// As [`super::attend`], for heads of any width.
    pub(super) fn attend(heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) = attend_body;
}

#[inline(always)]
fn attend_body<const FMA: bool>(heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) {
    let positions = scores.len() * heads.width / heads.queries.len();
    let queries = heads.queries.chunks_exact(heads.width).zip(scores.chunks_exact_mut(positions));
    for ((query, scores), out) in queries.zip(out.chunks_exact_mut(heads.width)) {
        attend_one::<FMA>(query, heads, scores, out);
    }
}

#[inline(always)]
fn attend_one<const FMA: bool>(query: &[f32], heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) {
    let Heads { keys, values, stride, width, .. } = *heads;
    let positions = scores.len();
    let at = |of: usize| of * stride..of * stride + width;
    // Four at a time: the sum of one would have to wait for each of its products.
    let (fours, rest) = scores.as_chunks_mut::<4>();
    for (i, four) in fours.iter_mut().enumerate() {
        *four = dots_body::<FMA>(query, std::array::from_fn(|k| &keys[at(4 * i + k)]));
    }
    for (i, score) in rest.iter_mut().enumerate() {
        *score = dot_body::<FMA>(query, &keys[at(positions / 4 * 4 + i)]);
    }
    let sum = softmax_body::<FMA>(scores);
    out.fill(0.0);
    // Likewise, so that what was summed up is read and written once for four.
    let (fours, rest) = scores.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        let [a, b, c, d] = std::array::from_fn(|k| &values[at(4 * i + k)]);
        for (((o, a), (b, c)), d) in out.iter_mut().zip(a).zip(b.iter().zip(c)).zip(d) {
            let two = fma::<FMA>(four[1], *b, fma::<FMA>(four[0], *a, *o));
            *o = fma::<FMA>(four[3], *d, fma::<FMA>(four[2], *c, two));
        }
    }
    for (i, &score) in rest.iter().enumerate() {
        for (o, v) in out.iter_mut().zip(&values[at(positions / 4 * 4 + i)]) {
            *o = fma::<FMA>(score, *v, *o);
        }
    }
    let inverse = 1.0 / sum;
    for o in out {
        *o *= inverse;
    }
}

/// The index of the largest value, the first of equals; `None` for no values.
pub(crate) fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = None;
    let mut largest = f32::NEG_INFINITY;
    // Blocks first: the maximum of a block vectorises, the search for an index does not.
    for (b, block) in values.chunks(64).enumerate() {
        let top = block.iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
        if top > largest || best.is_none() {
            let at = block.iter().position(|&x| x == top).unwrap_or(0);
            largest = top;
            best = Some(b * 64 + at);
        }
    }
    best
}
