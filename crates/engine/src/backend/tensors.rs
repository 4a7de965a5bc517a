//! Apple's accelerators, through the tensor library. It also runs on the library's CPU device, which is how the tests hold
//! it against [`super::host`].

pub(super) mod space;

use std::ops::Range;
use std::sync::Mutex;

use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{D, DType, Device, Module, Result, Tensor};

use super::{Attention, Backend, RopeTable, StateSpace};
use crate::config::{Activation, AttentionShape, NormKind, RopeStyle, StateSpaceShape};
use crate::weights::{ElementType, RawTensor};
use space::{TensorSpace, TensorState};

/// Positions by which a cache grows.
const KV_STEP: usize = 256;

pub(crate) struct Tensors {
    device: Device,
    /// Type of the hidden states and of unquantised weights.
    dtype: DType,
    /// The mask that was made last. The layers of a pass want the same one after the other, and each making is a copy to the
    /// device.
    mask: Mutex<Option<(Seen, Tensor)>>,
}

/// What a mask follows from: positions of the rows, the first that is not left out, and how many each row sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    rows: Range<usize>,
    first: usize,
    window: Option<usize>,
}

impl Tensors {
    pub(crate) fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype, mask: Mutex::new(None) }
    }

    /// Zeros where a row sees a position and negative infinity elsewhere, of shape [1, 1, rows, positions].
    fn mask(&self, rows: Range<usize>, attention: &Attention<'_, Self>) -> Result<Tensor> {
        let seen = Seen { first: attention.first_seen(rows.start), rows, window: attention.window };
        let mut last = self.mask.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, mask)) = &*last
            && *of == seen
        {
            return Ok(mask.clone());
        }
        let columns = seen.first..seen.rows.end;
        let numbers: Vec<f32> = seen
            .rows
            .clone()
            .flat_map(|row| {
                let visible = attention.first_seen(row)..=row;
                columns.clone().map(move |p| if visible.contains(&p) { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        let mask = Tensor::from_vec(numbers, (1, 1, seen.rows.len(), columns.len()), &self.device)?;
        *last = Some((seen, mask.clone()));
        Ok(mask)
    }

    fn dense(&self, raw: &RawTensor) -> Result<Tensor> {
        let dtype = match raw.element {
            ElementType::F16 => DType::F16,
            ElementType::BF16 => DType::BF16,
            _ => DType::F32,
        };
        if raw.element.is_quantised() {
            Tensor::from_vec(raw.to_f32(), raw.shape.as_slice(), &self.device)?.to_dtype(self.dtype)
        } else {
            Tensor::from_raw_buffer(&raw.bytes, dtype, &raw.shape, &self.device)?.to_dtype(self.dtype)
        }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let width = values.len();
        Tensor::from_vec(values, width, &self.device)?.to_dtype(self.dtype)
    }
}

/// Rows of one type as one matrix on the device, one part behind the other.
pub(super) fn quantised(parts: &[RawTensor], device: &Device) -> Result<QTensor> {
    // The copy is what the library's alignment checks ask for; a vector of u64 has more than any block needs.
    let length: usize = parts.iter().map(|part| part.bytes.len()).sum();
    let mut aligned = vec![0u64; length.div_ceil(8)];
    let bytes: &mut [u8] = first_bytes(&mut aligned, length);
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.bytes.len()].copy_from_slice(&part.bytes);
        at += part.bytes.len();
    }
    let rows: usize = parts.iter().map(|part| part.shape[0]).sum();
    let storage = QStorage::from_data((&*bytes).into(), device, parts[0].element.to_candle())?;
    QTensor::new(storage, (rows, parts[0].shape[1]))
}

/// The first `length` bytes of `words`.
#[allow(unsafe_code)]
fn first_bytes(words: &mut [u64], length: usize) -> &mut [u8] {
    debug_assert!(length <= words.len() * 8);
    // SAFETY: the words are initialised memory of at least `length` bytes, every byte is a valid u8, and the
    // borrow of `words` lasts as long as the result.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), length) }
}

pub(crate) enum Matrix {
    /// Transposed, [inputs, outputs].
    Dense(Tensor),
    Quantised(QMatMul),
}

pub(crate) struct TensorLinear {
    matrices: Vec<Matrix>,
    bias: Option<Tensor>,
}

pub(crate) enum Table {
    Dense(Tensor),
    /// Rows are dequantised as they are asked for; the table stays where it was read.
    Quantised(RawTensor),
}

pub(crate) struct TensorNorm {
    kind: NormKind,
    epsilon: f32,
    weight: Tensor,
    bias: Option<Tensor>,
}

pub(crate) struct TensorRope {
    cos: Tensor,
    sin: Tensor,
}

/// Keys and values of shape [heads, capacity, head].
pub(crate) struct TensorKv {
    keys: Tensor,
    values: Tensor,
    limit: usize,
}

impl TensorKv {
    fn capacity(&self) -> Result<usize> {
        self.keys.dim(1)
    }

    fn reserve(&mut self, positions: usize) -> Result<()> {
        let have = self.capacity()?;
        if positions <= have {
            return Ok(());
        }
        let wanted = positions.next_multiple_of(KV_STEP).min(self.limit.max(positions));
        for cache in [&mut self.keys, &mut self.values] {
            let (heads, _, head) = cache.dims3()?;
            let grown = Tensor::zeros((heads, wanted, head), cache.dtype(), cache.device())?;
            grown.slice_set(cache, 1, 0)?;
            *cache = grown;
        }
        Ok(())
    }
}

impl Backend for Tensors {
    // The library takes another kernel for one row than for several, which adds up in another order.
    const ROWS_STAND_ALONE: bool = false;

    /// [tokens, width]
    type Hidden = Tensor;
    type Linear = TensorLinear;
    type Embedding = Table;
    type Norm = TensorNorm;
    type Rope = TensorRope;
    type Kv = TensorKv;
    type Space = TensorSpace;
    type State = TensorState;

    fn linear(&self, parts: Vec<RawTensor>, bias: Option<Vec<f32>>) -> Result<TensorLinear> {
        let matrices = parts
            .chunk_by(|a, b| a.element == b.element)
            .map(|same| {
                if same[0].element.is_quantised() {
                    Ok(Matrix::Quantised(QMatMul::from_qtensor(quantised(same, &self.device)?)?))
                } else {
                    let tensors = same.iter().map(|raw| self.dense(raw)).collect::<Result<Vec<_>>>()?;
                    Ok(Matrix::Dense(Tensor::cat(&tensors, 0)?.t()?))
                }
            })
            .collect::<Result<_>>()?;
        Ok(TensorLinear { matrices, bias: bias.map(|bias| self.vector(bias)).transpose()? })
    }

    fn embedding(&self, table: RawTensor) -> Result<Table> {
        if table.element.is_quantised() {
            Ok(Table::Quantised(table))
        } else {
            Ok(Table::Dense(self.dense(&table)?))
        }
    }

    fn norm(&self, kind: NormKind, epsilon: f32, weight: Vec<f32>, bias: Vec<f32>) -> Result<TensorNorm> {
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.vector(bias)?),
        };
        Ok(TensorNorm { kind, epsilon, weight: self.vector(weight)?, bias })
    }

    fn rope(&self, table: RopeTable) -> Result<TensorRope> {
        // In f32 until the last step: angles beyond position 2048 do not survive f16 arithmetic, cosines do.
        let shape = (table.positions, table.half);
        let tensor = |values| Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype);
        Ok(TensorRope { cos: tensor(table.cos)?, sin: tensor(table.sin)? })
    }

    fn state_space(&self, shape: &StateSpaceShape, weights: StateSpace) -> Result<TensorSpace> {
        TensorSpace::new(shape, weights, &self.device)
    }

    fn kv(&self, shape: &AttentionShape, limit: usize) -> Result<TensorKv> {
        let capacity = KV_STEP.min(limit);
        let empty = || Tensor::zeros((shape.kv_heads, capacity, shape.head_dim), self.dtype, &self.device);
        Ok(TensorKv { keys: empty()?, values: empty()?, limit })
    }

    fn copy_kv(&self, from: &TensorKv, to: &mut TensorKv, positions: Range<usize>) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        to.reserve(positions.end)?;
        let (start, count) = (positions.start, positions.len());
        to.keys.slice_set(&from.keys.narrow(1, start, count)?.contiguous()?, 1, start)?;
        to.values.slice_set(&from.values.narrow(1, start, count)?.contiguous()?, 1, start)
    }

    fn embed(&self, table: &Table, tokens: &[u32]) -> Result<Tensor> {
        match table {
            Table::Dense(table) => table.index_select(&Tensor::new(tokens, &self.device)?, 0),
            Table::Quantised(raw) => {
                let width = raw.shape[1];
                let row_bytes = raw.element.row_bytes(width);
                let mut values = vec![0.0; tokens.len() * width];
                for (row, &token) in values.chunks_exact_mut(width).zip(tokens) {
                    let bytes = &raw.bytes[token as usize * row_bytes..][..row_bytes];
                    crate::kernels::dequantise(raw.element, bytes, row);
                }
                Tensor::from_vec(values, (tokens.len(), width), &self.device)?.to_dtype(self.dtype)
            }
        }
    }

    fn apply_norm(&self, norm: &TensorNorm, x: &Tensor) -> Result<Tensor> {
        match (norm.kind, &norm.bias) {
            (NormKind::Layer, Some(bias)) => candle_nn::ops::layer_norm(x, &norm.weight, bias, norm.epsilon),
            _ => candle_nn::ops::rms_norm(x, &norm.weight, norm.epsilon),
        }
    }

    fn apply(&self, linear: &TensorLinear, x: &Tensor) -> Result<Tensor> {
        let mut products = linear
            .matrices
            .iter()
            .map(|matrix| match matrix {
                Matrix::Dense(weight) => x.matmul(weight),
                Matrix::Quantised(weight) => weight.forward(x),
            })
            .collect::<Result<Vec<_>>>()?;
        let product = match products.len() {
            1 => products.remove(0),
            _ => Tensor::cat(&products, D::Minus1)?,
        };
        match &linear.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn attend(
        &self,
        qkv: Tensor,
        kv: &mut TensorKv,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Tensor> {
        let Attention { shape, rope, .. } = *attention;
        let (count, head) = (qkv.dim(0)?, shape.head_dim);
        let group = shape.heads / shape.kv_heads;
        let end = start + count;
        kv.reserve(end)?;

        // [count, heads * head] to [heads, count, head]
        let heads = |first: usize, heads: usize| {
            qkv.narrow(1, first * head, heads * head)?
                .reshape((count, heads, head))?
                .transpose(0, 1)?
                .contiguous()
        };
        let normed = |norm: Option<&TensorNorm>, x: Tensor| match norm {
            Some(norm) => self.apply_norm(norm, &x),
            None => Ok(x),
        };
        let (query, key) = if attention.query_norm.is_none() && attention.key_norm.is_none() {
            // Both are turned by the same angles, so one launch of each kernel does for both.
            let both = self.rotate(&heads(0, shape.heads + shape.kv_heads)?, rope, shape, start)?;
            (both.narrow(0, 0, shape.heads)?, both.narrow(0, shape.heads, shape.kv_heads)?)
        } else {
            let query = normed(attention.query_norm, heads(0, shape.heads)?)?;
            let key = normed(attention.key_norm, heads(shape.heads, shape.kv_heads)?)?;
            (self.rotate(&query, rope, shape, start)?, self.rotate(&key, rope, shape, start)?)
        };
        let value = heads(shape.heads + shape.kv_heads, shape.kv_heads)?;
        kv.keys.slice_set(&key, 1, start)?;
        kv.values.slice_set(&value, 1, start)?;
        // What no row sees is left out, what only some see is masked.
        let first = attention.first_seen(start);
        let seen = end - first;
        let keys = kv.keys.narrow(1, first, seen)?;
        let values = kv.values.narrow(1, first, seen)?;

        // The heads of a group share keys and values, so they go into one product as further rows.
        let query = (query.reshape((shape.kv_heads, group * count, head))? * shape.scale)?;
        let scores = query.matmul(&keys.t()?)?.to_dtype(DType::F32)?;
        let scores = if count == 1 {
            scores
        } else {
            let mask = self.mask(start..end, attention)?;
            scores.reshape((shape.kv_heads, group, count, seen))?.broadcast_add(&mask)?.reshape((
                shape.kv_heads,
                group * count,
                seen,
            ))?
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(self.dtype)?;
        weights
            .matmul(&values)?
            .reshape((shape.heads, count, head))?
            .transpose(0, 1)?
            .reshape((count, shape.heads * head))
    }

    fn scan(&self, projected: Tensor, space: &TensorSpace, state: &mut TensorState) -> Result<Tensor> {
        space.scan(&projected, state)
    }

    fn activate(&self, activation: Activation, x: Tensor) -> Result<Tensor> {
        activate(activation, &x)
    }

    fn scale(&self, x: &mut Tensor, factor: f32) -> Result<()> {
        *x = (&*x * f64::from(factor))?;
        Ok(())
    }

    fn add(&self, into: &mut Tensor, x: Tensor) -> Result<()> {
        *into = (&*into + x)?;
        Ok(())
    }

    fn rows(&self, x: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
        rows(x, ranges)
    }

    fn join(&self, parts: Vec<Tensor>) -> Result<Tensor> {
        Tensor::cat(&parts, 0)
    }

    fn read(&self, x: Tensor) -> Result<Vec<f32>> {
        x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}

/// As [`Backend::activate`], for every backend on tensors.
pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::ReluSquared => x.relu()?.sqr(),
        Activation::SiluGate | Activation::GeluGate => {
            let width = x.dim(1)? / 2;
            let gate = x.narrow(1, 0, width)?.contiguous()?;
            // The library's `gelu` is the approximation by a hyperbolic tangent.
            let gate = if activation == Activation::GeluGate { gate.gelu()? } else { gate.silu()? };
            gate * x.narrow(1, width, width)?.contiguous()?
        }
    }
}

/// As [`Backend::rows`].
pub(super) fn rows(x: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
    let parts = ranges.iter().map(|range| x.narrow(0, range.start, range.len()));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
}

impl Tensors {
    /// Rotates the first part of each head; `x` has shape [heads, count, head].
    fn rotate(
        &self,
        x: &Tensor,
        rope: Option<&TensorRope>,
        shape: &AttentionShape,
        start: usize,
    ) -> Result<Tensor> {
        let Some(rope) = rope else { return Ok(x.clone()) };
        let (_, count, head) = x.dims3()?;
        let cos = rope.cos.narrow(0, start, count)?;
        let sin = rope.sin.narrow(0, start, count)?;
        let rotary = shape.rotary_dim;
        let part = x.narrow(2, 0, rotary)?.contiguous()?.unsqueeze(0)?;
        let turned = match shape.rope_style {
            RopeStyle::Halves => candle_nn::rotary_emb::rope(&part, &cos, &sin)?,
            RopeStyle::Pairs => candle_nn::rotary_emb::rope_i(&part, &cos, &sin)?,
        };
        let turned = turned.squeeze(0)?;
        if rotary == head {
            return Ok(turned);
        }
        // Concatenation along the last axis may return a transposed view.
        Tensor::cat(&[&turned, &x.narrow(2, rotary, head - rotary)?], 2)?.contiguous()
    }
}
