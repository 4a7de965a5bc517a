//! Operations written out for the CPU, forward and backward.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};

use super::{Differentiable, Segments, TrainRope};
use crate::backend::{Attention, RopeTable};
use crate::config::{AttentionShape, NormKind, RopeStyle};
use crate::kernels::math;

/// The numbers of a contiguous tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
        bail!("contiguous f32 values are expected");
    };
    Ok(&values[start..end])
}

/// The numbers of any tensor, copied.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Rows brought to mean 0 (for [`NormKind::Layer`]) and deviation 1.
pub(super) fn normalise(x: &Tensor, kind: NormKind, epsilon: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Normalise { kind, epsilon })
}

struct Normalise {
    kind: NormKind,
    epsilon: f32,
}

impl Normalise {
    /// The mean, where it is subtracted, and the reciprocal of the deviation.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = match self.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => row.iter().sum::<f32>() / count,
        };
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
        (mean, (variance + self.epsilon).sqrt().recip())
    }
}

impl CustomOp1 for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut rows = slice(storage, layout)?.to_vec();
        let width = layout.dims()[1];
        for row in rows.chunks_exact_mut(width) {
            let (mean, scale) = self.moments(row);
            for value in row {
                *value = (*value - mean) * scale;
            }
        }
        Ok((CpuStorage::F32(rows), layout.shape().clone()))
    }

    /// With y the normalised row and g its gradient: `(g - mean(g) - y mean(g y)) / deviation`, and without the
    /// mean of g where no mean was subtracted.
    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (x, y, mut grad) = (values(arg)?, values(res)?, values(grad)?);
        let width = arg.dim(1)?;
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
        for ((x, y), grad) in rows.zip(grad.chunks_exact_mut(width)) {
            let (_, scale) = self.moments(x);
            let mean = match self.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => grad.iter().sum::<f32>() / width as f32,
            };
            let along = math::dot(grad, y) / width as f32;
            for (grad, y) in grad.iter_mut().zip(y) {
                *grad = (*grad - mean - y * along) * scale;
            }
        }
        Tensor::from_vec(grad, arg.shape(), &Device::Cpu).map(Some)
    }
}

/// As [`Differentiable::cross_entropy`].
pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let op =
        CrossEntropy { targets: targets.to_vec(), weights: weights.to_vec(), normalisers: OnceLock::new() };
    logits.contiguous()?.apply_op1(op)
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
    /// The logarithm of each row's sum of exponentials, kept for the gradient.
    normalisers: OnceLock<Vec<f32>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let logits = slice(storage, layout)?;
        let normalisers: Vec<f32> = logits.chunks_exact(width).map(math::log_sum_exp).collect();
        let losses = logits.chunks_exact(width).zip(&normalisers).zip(self.targets.iter().zip(&self.weights));
        let sum: f64 = losses
            .map(|((row, normaliser), (&target, weight))| {
                f64::from((normaliser - row[target as usize]) * weight)
            })
            .sum();
        // A second forward pass of the same operation gives the same numbers.
        let _ = self.normalisers.set(normalisers);
        Ok((CpuStorage::F32(vec![(sum / rows as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = arg.dims2()?;
        let factor = grad.to_scalar::<f32>()? / rows as f32;
        let Some(normalisers) = self.normalisers.get() else { bail!("no forward pass was run") };
        let mut out = values(arg)?;
        let targets = self.targets.iter().zip(&self.weights).zip(normalisers);
        for (row, ((&target, weight), normaliser)) in out.chunks_exact_mut(width).zip(targets) {
            let factor = factor * weight;
            for value in row.iter_mut() {
                *value = math::exp::<false>(*value - normaliser) * factor;
            }
            row[target as usize] -= factor;
        }
        Tensor::from_vec(out, arg.shape(), &Device::Cpu).map(Some)
    }
}

/// Causal attention within each text.
pub(super) fn attend(
    qkv: &Tensor,
    segments: &Segments,
    attention: &Attention<'_, Differentiable>,
    rope: &TrainRope,
) -> Result<Tensor> {
    qkv.contiguous()?.apply_op1(Attend {
        shape: attention.shape.clone(),
        segments: Arc::clone(&segments.0),
        rope: Arc::clone(&rope.table),
        window: attention.window.unwrap_or(usize::MAX),
    })
}

struct Attend {
    shape: AttentionShape,
    segments: Arc<Vec<usize>>,
    rope: Arc<RopeTable>,
    window: usize,
}

impl Attend {
    /// Turns the queries and keys of all positions, or turns them back.
    fn rotate(&self, qkv: &mut [f32], back: bool) {
        let AttentionShape { heads, kv_heads, head_dim, rotary_dim, .. } = self.shape;
        let width = (heads + 2 * kv_heads) * head_dim;
        let half = self.rope.half;
        let sign = if back { -1.0 } else { 1.0 };
        let sines: Vec<f32> = self.rope.sin.iter().map(|sin| sin * sign).collect();
        let positions = self.segments.iter().flat_map(|&count| 0..count);
        for (row, position) in qkv.chunks_exact_mut(width).zip(positions) {
            let cos = &self.rope.cos[position * half..][..half];
            let sin = &sines[position * half..][..half];
            for head in row[..(heads + kv_heads) * head_dim].chunks_exact_mut(head_dim) {
                match self.shape.rope_style {
                    RopeStyle::Halves => math::rotate_halves(&mut head[..rotary_dim], cos, sin),
                    RopeStyle::Pairs => math::rotate_pairs(&mut head[..rotary_dim], cos, sin),
                }
            }
        }
    }

    /// Calls `visit` for each query: its row, its head, the rows it sees and the softmax of its scores.
    fn visit(&self, rotated: &[f32], mut visit: impl FnMut(usize, usize, usize, &[f32])) {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let width = (heads + 2 * kv_heads) * head_dim;
        let at = |row: usize, head: usize| &rotated[row * width + head * head_dim..][..head_dim];
        let scale = self.shape.scale as f32;
        let mut weights = Vec::new();
        let mut first = 0;
        for &count in self.segments.iter() {
            for head in 0..heads {
                let key = heads + head * kv_heads / heads;
                for row in first..first + count {
                    let seen = first.max((row + 1).saturating_sub(self.window));
                    let query = at(row, head);
                    weights.clear();
                    weights.extend((seen..=row).map(|other| math::dot(query, at(other, key)) * scale));
                    let normaliser = math::log_sum_exp(&weights);
                    for weight in &mut weights {
                        *weight = math::exp::<false>(*weight - normaliser);
                    }
                    visit(row, head, seen, &weights);
                }
            }
            first += count;
        }
    }
}

/// `into += factor * from`
fn add_scaled(into: &mut [f32], from: &[f32], factor: f32) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from * factor;
    }
}

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let (rows, width) = layout.shape().dims2()?;
        if self.segments.iter().sum::<usize>() != rows {
            bail!("the texts have other lengths than the tokens");
        }
        let mut rotated = slice(storage, layout)?.to_vec();
        self.rotate(&mut rotated, false);
        let mut out = vec![0.0; rows * heads * head_dim];
        self.visit(&rotated, |row, head, seen, weights| {
            let value = heads + kv_heads + head * kv_heads / heads;
            let out = &mut out[(row * heads + head) * head_dim..][..head_dim];
            for (other, &weight) in (seen..).zip(weights) {
                add_scaled(out, &rotated[other * width + value * head_dim..][..head_dim], weight);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, heads * head_dim))))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let width = (heads + 2 * kv_heads) * head_dim;
        let scale = self.shape.scale as f32;
        let mut rotated = values(arg)?;
        self.rotate(&mut rotated, false);
        let grad = values(grad)?;
        let mut out = vec![0.0; rotated.len()];
        let mut slopes = Vec::new();
        self.visit(&rotated, |row, head, seen, weights| {
            let key = heads + head * kv_heads / heads;
            let value = key + kv_heads;
            let grad = &grad[(row * heads + head) * head_dim..][..head_dim];
            slopes.clear();
            slopes.extend(
                (seen..=row)
                    .map(|other| math::dot(grad, &rotated[other * width + value * head_dim..][..head_dim])),
            );
            let mean = math::dot(&slopes, weights);
            let query = &rotated[row * width + head * head_dim..][..head_dim];
            for ((other, &weight), slope) in (seen..).zip(weights).zip(&slopes) {
                add_scaled(&mut out[other * width + value * head_dim..][..head_dim], grad, weight);
                let slope = weight * (slope - mean) * scale;
                add_scaled(&mut out[other * width + key * head_dim..][..head_dim], query, slope);
                let key = &rotated[other * width + key * head_dim..][..head_dim];
                add_scaled(&mut out[row * width + head * head_dim..][..head_dim], key, slope);
            }
        });
        self.rotate(&mut out, true);
        Tensor::from_vec(out, arg.shape(), &Device::Cpu).map(Some)
    }
}
