//! Composed of the tensor library's operations, which know their own gradients.

use candle_core::{D, Result, Tensor};

use super::{Differentiable, Segments, TrainRope};
use crate::backend::Attention;
use crate::config::{AttentionShape, NormKind, RopeStyle};

pub(super) fn normalise(x: &Tensor, kind: NormKind, epsilon: f32) -> Result<Tensor> {
    let x = match kind {
        NormKind::Rms => x.clone(),
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let variance = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(epsilon))?;
    x.broadcast_div(&variance.sqrt()?)
}

pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let rows = targets.len();
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let targets = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    let weights = Tensor::from_slice(weights, (rows, 1), logits.device())?;
    log_probabilities.gather(&targets, 1)?.mul(&weights)?.sum_all()?.affine(-1.0 / rows as f64, 0.0)
}

pub(super) fn attend(
    qkv: &Tensor,
    segments: &Segments,
    attention: &Attention<'_, Differentiable>,
    rope: &TrainRope,
) -> Result<Tensor> {
    let mut first = 0;
    let mut outputs = Vec::with_capacity(segments.0.len());
    for &count in segments.0.iter() {
        outputs.push(attend_one(&qkv.narrow(0, first, count)?, count, attention, rope)?);
        first += count;
    }
    Tensor::cat(&outputs, 0)
}

/// Attention within one text.
fn attend_one(
    qkv: &Tensor,
    count: usize,
    attention: &Attention<'_, Differentiable>,
    rope: &TrainRope,
) -> Result<Tensor> {
    let shape = attention.shape;
    let head = shape.head_dim;
    let group = shape.heads / shape.kv_heads;
    // [count, heads * head] to [heads, count, head]
    let heads = |first: usize, heads: usize| {
        qkv.narrow(1, first * head, heads * head)?
            .reshape((count, heads, head))?
            .transpose(0, 1)?
            .contiguous()
    };
    let query = rotate(&heads(0, shape.heads)?, rope, shape)?;
    let key = rotate(&heads(shape.heads, shape.kv_heads)?, rope, shape)?;
    let value = heads(shape.heads + shape.kv_heads, shape.kv_heads)?;
    let query = (query.reshape((shape.kv_heads, group * count, head))? * shape.scale)?;
    let scores = query.matmul(&key.t()?.contiguous()?)?;
    let mask: Vec<f32> = (0..count)
        .flat_map(|row| {
            let visible = attention.first_seen(row)..=row;
            (0..count).map(move |p| if visible.contains(&p) { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    let mask = Tensor::from_vec(mask, (1, 1, count, count), qkv.device())?;
    let grouped = scores.reshape((shape.kv_heads, group, count, count))?.broadcast_add(&mask)?;
    let weights = candle_nn::ops::softmax(&grouped, D::Minus1)?;
    weights
        .reshape((shape.kv_heads, group * count, count))?
        .matmul(&value)?
        .reshape((shape.heads, count, head))?
        .transpose(0, 1)?
        .reshape((count, shape.heads * head))
}

/// `x` has shape [heads, count, head].
fn rotate(x: &Tensor, rope: &TrainRope, shape: &AttentionShape) -> Result<Tensor> {
    let (_, count, head) = x.dims3()?;
    let (cos, sin) = (rope.cos.narrow(0, 0, count)?, rope.sin.narrow(0, 0, count)?);
    let part = x.narrow(2, 0, shape.rotary_dim)?.contiguous()?.unsqueeze(0)?;
    let turned = match shape.rope_style {
        RopeStyle::Halves => candle_nn::rotary_emb::rope_slow(&part, &cos, &sin)?,
        RopeStyle::Pairs => candle_nn::rotary_emb::rope_i_slow(&part, &cos, &sin)?,
    };
    let turned = turned.squeeze(0)?;
    if shape.rotary_dim == head {
        return Ok(turned);
    }
    Tensor::cat(&[&turned, &x.narrow(2, shape.rotary_dim, head - shape.rotary_dim)?], 2)
}
