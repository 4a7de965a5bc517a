//! The decoder's operations with gradients, through the tensor library, for training.
//!
//! A forward pass runs several texts at once: their tokens stand behind one another, and the cache of a layer only
//! says how long each text is. On the CPU the operations that would take the library many passes over memory are
//! written out, forward and backward (`fused`); elsewhere they are composed of the library's own.

pub(crate) mod dropout;
pub(crate) mod fused;
mod plain;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var, bail};

use super::{Attention, Backend, RopeTable, StateSpace, tensors};
use crate::config::{Activation, AttentionShape, NormKind, StateSpaceShape};
use crate::weights::RawTensor;

pub(crate) struct Differentiable {
    device: Device,
    /// Whether the operations of `fused` are used.
    fused: bool,
    /// The share of what a layer adds to the hidden state that is left out, at random.
    pub(crate) dropout: f32,
}

impl Differentiable {
    pub(crate) fn new(device: Device) -> Self {
        Self { fused: device.is_cpu(), device, dropout: 0.0 }
    }

    /// On the CPU, but without the operations of `fused`: what the tests hold those against.
    #[cfg(test)]
    pub(crate) fn unfused() -> Self {
        Self { device: Device::Cpu, fused: false, dropout: 0.0 }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    fn var(&self, values: Vec<f32>, shape: &[usize]) -> Result<Var> {
        Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?)
    }

    /// The mean over rows of `-log softmax(logits)[target]`, times the weight of each row; a scalar.
    pub(crate) fn cross_entropy(&self, logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
        if self.fused {
            fused::cross_entropy(logits, targets, weights)
        } else {
            plain::cross_entropy(logits, targets, weights)
        }
    }
}

pub(crate) struct TrainLinear {
    /// [outputs, inputs], the parts below one another.
    pub(crate) weight: Var,
    pub(crate) bias: Option<Var>,
}

pub(crate) struct TrainNorm {
    kind: NormKind,
    epsilon: f32,
    pub(crate) weight: Var,
    pub(crate) bias: Option<Var>,
}

pub(crate) struct TrainRope {
    table: Arc<RopeTable>,
    /// [positions, half]
    cos: Tensor,
    sin: Tensor,
}

/// The lengths of the texts that are run at once.
#[derive(Clone, Default)]
pub(crate) struct Segments(pub(crate) Arc<Vec<usize>>);

impl Backend for Differentiable {
    // Nothing is written with it.
    const ROWS_STAND_ALONE: bool = false;

    /// [tokens, width]
    type Hidden = Tensor;
    type Linear = TrainLinear;
    type Embedding = Var;
    type Norm = TrainNorm;
    type Rope = TrainRope;
    type Kv = Segments;
    /// [`crate::train::Trainable`] takes no model that has any.
    type Space = ();
    type State = ();

    fn linear(&self, parts: Vec<RawTensor>, bias: Option<Vec<f32>>) -> Result<TrainLinear> {
        let width = parts[0].shape[1];
        let rows = parts.iter().map(|part| part.shape[0]).sum();
        let values = parts.iter().flat_map(RawTensor::to_f32).collect();
        let bias = bias.map(|bias| self.var(bias, &[rows])).transpose()?;
        Ok(TrainLinear { weight: self.var(values, &[rows, width])?, bias })
    }

    fn embedding(&self, table: RawTensor) -> Result<Var> {
        self.var(table.to_f32(), &table.shape)
    }

    fn norm(&self, kind: NormKind, epsilon: f32, weight: Vec<f32>, bias: Vec<f32>) -> Result<TrainNorm> {
        let width = [weight.len()];
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.var(bias, &width)?),
        };
        Ok(TrainNorm { kind, epsilon, weight: self.var(weight, &width)?, bias })
    }

    fn rope(&self, table: RopeTable) -> Result<TrainRope> {
        let shape = (table.positions, table.half);
        let tensor = |values: &[f32]| Tensor::from_slice(values, shape, &self.device);
        let (cos, sin) = (tensor(&table.cos)?, tensor(&table.sin)?);
        Ok(TrainRope { table: Arc::new(table), cos, sin })
    }

    fn state_space(&self, _shape: &StateSpaceShape, _weights: StateSpace) -> Result<()> {
        bail!("training does not cover state-space layers")
    }

    fn kv(&self, _shape: &AttentionShape, _limit: usize) -> Result<Segments> {
        Ok(Segments::default())
    }

    fn copy_kv(&self, _from: &Segments, _to: &mut Segments, _positions: Range<usize>) -> Result<()> {
        bail!("a text that is trained on has no cache")
    }

    fn embed(&self, table: &Var, tokens: &[u32]) -> Result<Tensor> {
        table.index_select(&Tensor::new(tokens, &self.device)?, 0)
    }

    fn apply_norm(&self, norm: &TrainNorm, x: &Tensor) -> Result<Tensor> {
        let normed = if self.fused {
            fused::normalise(x, norm.kind, norm.epsilon)?
        } else {
            plain::normalise(x, norm.kind, norm.epsilon)?
        };
        let scaled = normed.broadcast_mul(&norm.weight)?;
        match &norm.bias {
            Some(bias) => scaled.broadcast_add(bias),
            None => Ok(scaled),
        }
    }

    fn apply(&self, linear: &TrainLinear, x: &Tensor) -> Result<Tensor> {
        let product = x.matmul(&linear.weight.t()?)?;
        match &linear.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn attend(
        &self,
        qkv: Tensor,
        segments: &mut Segments,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Tensor> {
        if start != 0 || attention.query_norm.is_some() || attention.key_norm.is_some() {
            bail!("training covers neither norms of queries and keys nor texts that were begun before");
        }
        let Some(rope) = attention.rope else { bail!("training does not cover attention without positions") };
        if self.fused {
            fused::attend(&qkv, segments, attention, rope)
        } else {
            plain::attend(&qkv, segments, attention, rope)
        }
    }

    fn scan(&self, _projected: Tensor, _space: &(), _state: &mut ()) -> Result<Tensor> {
        bail!("training does not cover state-space layers")
    }

    fn activate(&self, activation: Activation, x: Tensor) -> Result<Tensor> {
        tensors::activate(activation, &x)
    }

    fn scale(&self, x: &mut Tensor, factor: f32) -> Result<()> {
        *x = (&*x * f64::from(factor))?;
        Ok(())
    }

    fn add(&self, into: &mut Tensor, x: Tensor) -> Result<()> {
        let x = if self.dropout > 0.0 { dropout::apply(&x, self.dropout)? } else { x };
        *into = (&*into + x)?;
        Ok(())
    }

    fn rows(&self, x: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
        tensors::rows(x, ranges)
    }

    fn join(&self, parts: Vec<Tensor>) -> Result<Tensor> {
        Tensor::cat(&parts, 0)
    }

    fn read(&self, x: Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }
}
