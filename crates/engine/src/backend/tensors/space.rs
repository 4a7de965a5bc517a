//! State-space mixers through the tensor library, in f32 whatever the working type is.
//!
//! Positions are computed some at a time, as sums over the positions before them (the quadratic form in Dao and Gu 2024), and
//! what they leave behind is the state of the next ones.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::backend::StateSpace;
use crate::config::StateSpaceShape;

/// Positions that are computed at a time: each head has a square matrix of so many.
const CHUNK: usize = 64;

pub(crate) struct TensorSpace {
    shape: StateSpaceShape,
    /// A tensor of the width of all channels for each position of the convolution, the oldest first.
    convolution: Vec<Tensor>,
    convolution_bias: Tensor,
    /// Shape `[heads]`.
    step_bias: Tensor,
    /// Shape `[heads]`.
    decay: Tensor,
    /// Shape `[heads]`.
    skip: Tensor,
    /// Shape `[inner]`.
    norm: Tensor,
    epsilon: f64,
    device: Device,
}

/// The states of one layer; none before the first position.
#[derive(Clone, Default)]
pub(crate) struct TensorState(Option<States>);

#[derive(Clone)]
struct States {
    /// Channels of the last positions, [kernel - 1, channels].
    window: Tensor,
    /// Shape `[heads, head, state]`.
    heads: Tensor,
}

/// Some positions, in f32.
struct Positions {
    /// [heads, count, head]
    x: Tensor,
    /// [groups, count, state]
    b: Tensor,
    /// [groups, count, state]
    c: Tensor,
    /// [heads, count]
    steps: Tensor,
}

impl TensorSpace {
    pub(crate) fn new(shape: &StateSpaceShape, weights: StateSpace, device: &Device) -> Result<Self> {
        let vector = |values: &[f32]| Tensor::from_slice(values, values.len(), device);
        Ok(Self {
            shape: shape.clone(),
            convolution: weights
                .convolution
                .chunks_exact(shape.channels())
                .map(vector)
                .collect::<Result<_>>()?,
            convolution_bias: vector(&weights.convolution_bias)?,
            step_bias: vector(&weights.step_bias)?,
            decay: vector(&weights.decay)?,
            skip: vector(&weights.skip)?,
            norm: vector(&weights.norm)?,
            epsilon: f64::from(weights.epsilon),
            device: device.clone(),
        })
    }

    /// See [`crate::backend::Backend::scan`].
    pub(crate) fn scan(&self, projected: &Tensor, state: &mut TensorState) -> Result<Tensor> {
        let count = projected.dim(0)?;
        let mut parts = Vec::with_capacity(count.div_ceil(CHUNK));
        for first in (0..count).step_by(CHUNK) {
            let rows = projected.narrow(0, first, CHUNK.min(count - first))?.to_dtype(DType::F32)?;
            parts.push(self.chunk(&rows, state)?);
        }
        let all = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? };
        all.to_dtype(projected.dtype())
    }

    fn chunk(&self, rows: &Tensor, state: &mut TensorState) -> Result<Tensor> {
        let StateSpaceShape { heads, head_dim, state: columns, groups, kernel, .. } = self.shape;
        let (inner, channels) = (self.shape.inner(), self.shape.channels());
        let count = rows.dim(0)?;
        let before = match state.0.take() {
            Some(states) => states,
            None => States {
                window: Tensor::zeros((kernel - 1, channels), DType::F32, &self.device)?,
                heads: Tensor::zeros((heads, head_dim, columns), DType::F32, &self.device)?,
            },
        };
        let (convolved, window) = self.convolve(&rows.narrow(1, inner, channels)?, &before.window)?;
        // [count, parts * width] to [parts, count, width]
        let split = |first: usize, parts: usize, width: usize| {
            convolved
                .narrow(1, first, parts * width)?
                .reshape((count, parts, width))?
                .transpose(0, 1)?
                .contiguous()
        };
        let steps = rows.narrow(1, inner + channels, heads)?.broadcast_add(&self.step_bias)?;
        let positions = Positions {
            x: split(0, heads, head_dim)?,
            b: split(inner, groups, columns)?,
            c: split(inner + groups * columns, groups, columns)?,
            steps: softplus(&steps)?.t()?.contiguous()?,
        };
        let (read, after) = self.advance(&positions, &before.heads)?;
        state.0 = Some(States { window, heads: after });
        // [heads, count, head] to [count, heads * head]
        let read = read.transpose(0, 1)?.contiguous()?.reshape((count, inner))?;
        let gated = (read * rows.narrow(1, 0, inner)?.contiguous()?.silu()?)?;
        let groups = gated.reshape((count, groups, inner / groups))?;
        let mean = groups.sqr()?.mean_keepdim(D::Minus1)?;
        groups
            .broadcast_div(&(mean + self.epsilon)?.sqrt()?)?
            .reshape((count, inner))?
            .broadcast_mul(&self.norm)
    }

    /// The convolved channels, and the window for the next positions.
    fn convolve(&self, channels: &Tensor, window: &Tensor) -> Result<(Tensor, Tensor)> {
        let count = channels.dim(0)?;
        let seen = Tensor::cat(&[window, channels], 0)?;
        let mut sum = self.convolution_bias.broadcast_as(channels.shape())?.contiguous()?;
        for (k, weights) in self.convolution.iter().enumerate() {
            sum = (sum + seen.narrow(0, k, count)?.broadcast_mul(weights)?)?;
        }
        Ok((sum.silu()?, seen.narrow(0, count, self.shape.kernel - 1)?.contiguous()?))
    }

    /// What is read at each position, [heads, count, head], and the state after the last.
    fn advance(&self, at: &Positions, state: &Tensor) -> Result<(Tensor, Tensor)> {
        let (heads, count, _) = at.x.dims3()?;
        let (groups, columns, group_heads) = (self.shape.groups, self.shape.state, self.shape.group_heads());
        // Logarithm of how much is left of the state before the first position: [heads, count].
        let rates = at.steps.broadcast_mul(&self.decay.reshape((heads, 1))?)?;
        let left = rates.cumsum(1)?;
        let taken = at.x.broadcast_mul(&at.steps.unsqueeze(2)?)?;

        // What each position has left of those up to it: [heads, count, count].
        let mask: Vec<f32> = (0..count)
            .flat_map(|row| (0..count).map(move |p| if p <= row { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        let mask = Tensor::from_vec(mask, (1, count, count), &self.device)?;
        let between = left.unsqueeze(2)?.broadcast_sub(&left.unsqueeze(1)?)?;
        let between = between.broadcast_add(&mask)?.exp()?;
        let scores = at.c.matmul(&at.b.t()?.contiguous()?)?;
        let weights = between
            .reshape((groups, group_heads, count, count))?
            .broadcast_mul(&scores.unsqueeze(1)?)?
            .reshape((heads, count, count))?;
        let inside = weights.matmul(&taken)?;

        // [groups, count, state] to [heads, count, state]
        let of_heads = |of_groups: &Tensor| {
            of_groups
                .unsqueeze(1)?
                .broadcast_as((groups, group_heads, count, columns))?
                .contiguous()?
                .reshape((heads, count, columns))
        };
        let before = of_heads(&at.c)?.matmul(&state.t()?.contiguous()?)?;
        let before = before.broadcast_mul(&left.exp()?.unsqueeze(2)?)?;
        let skipped = at.x.broadcast_mul(&self.skip.reshape((heads, 1, 1))?)?;
        let read = ((inside + before)? + skipped)?;

        // What is left of everything after the last position.
        let last = left.narrow(1, count - 1, 1)?;
        let kept = last.broadcast_sub(&left)?.exp()?.unsqueeze(2)?;
        let taken = taken.broadcast_mul(&kept)?.transpose(1, 2)?.contiguous()?;
        let after = taken.matmul(&of_heads(&at.b)?)?;
        let state = (state.broadcast_mul(&last.exp()?.unsqueeze(2)?)? + after)?;
        Ok((read, state))
    }
}

/// `ln(1 + e^x)`, without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
