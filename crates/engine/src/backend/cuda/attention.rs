//! Caches on the card, and attention over them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr as _};
use candle_core::{Error, Result};
use half::f16;

use super::stream::{Arg, Spread};
use super::{Cuda, CudaNorm, FEW, Rows};
use crate::backend::{Attention, Stretch};
use crate::config::{AttentionShape, NormKind, RopeStyle};

/// Texts that one launch takes. This and the following as in attention.cu.
pub(super) const TEXTS: usize = 8;
const GROUP: usize = 8;
const CHUNK: usize = 64;
const MOST_HEAD: usize = 256;
const THREADS: usize = 128;

/// Positions by which a cache grows, at least: a cache that grows is another one to the passes that were recorded.
const KV_STEP: usize = 256;

/// Keys and values of shape [positions, heads, head].
pub(crate) struct CudaKv {
    keys: CudaSlice<f16>,
    values: CudaSlice<f16>,
    /// Numbers of a position.
    width: usize,
    limit: usize,
    identity: u64,
}

impl CudaKv {
    /// Differs from that of every other cache, and from what it was before the cache grew.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    fn capacity(&self) -> usize {
        self.keys.len() / self.width
    }
}

fn new_identity() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Chunks that a launch with few rows computes at once. It stays the same for some positions, so that a recorded pass serves them all.
pub(super) fn chunks(end: usize) -> usize {
    end.next_multiple_of(KV_STEP) / CHUNK
}

impl Cuda {
    pub(super) fn new_kv(&self, shape: &AttentionShape, limit: usize) -> Result<CudaKv> {
        if shape.head_dim > MOST_HEAD || !shape.head_dim.is_multiple_of(2) {
            candle_core::bail!("heads of {} are not what the kernels take", shape.head_dim);
        }
        let width = shape.kv_heads * shape.head_dim;
        let empty = || self.stream.queue().alloc_zeros(KV_STEP.min(limit) * width).map_err(Error::wrap);
        Ok(CudaKv { keys: empty()?, values: empty()?, width, limit, identity: new_identity() })
    }

    pub(super) fn grow_kv(&self, kv: &mut CudaKv, positions: usize) -> Result<()> {
        let have = kv.capacity();
        if positions <= have {
            return Ok(());
        }
        let wanted = positions.next_multiple_of(KV_STEP).max(2 * have).min(kv.limit.max(positions));
        let stream = self.stream.queue();
        for cache in [&mut kv.keys, &mut kv.values] {
            let mut grown = stream.alloc_zeros(wanted * kv.width).map_err(Error::wrap)?;
            stream.memcpy_dtod(&*cache, &mut grown.slice_mut(..have * kv.width)).map_err(Error::wrap)?;
            *cache = grown;
        }
        kv.identity = new_identity();
        Ok(())
    }

    pub(super) fn copy_positions(
        &self,
        from: &CudaKv,
        to: &mut CudaKv,
        positions: Range<usize>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        self.grow_kv(to, positions.end)?;
        let range = positions.start * from.width..positions.end * from.width;
        for (from, to) in [(&from.keys, &mut to.keys), (&from.values, &mut to.values)] {
            let stream = self.stream.queue();
            stream
                .memcpy_dtod(&from.slice(range.clone()), &mut to.slice_mut(range.clone()))
                .map_err(Error::wrap)?;
        }
        Ok(())
    }

    /// See [`crate::backend::Backend::attend_all`]. Where rows stand was told when the pass began.
    pub(super) fn attend_stretches(
        &self,
        qkv: &Rows,
        stretches: &[Stretch<'_, Self>],
        attention: &Attention<'_, Self>,
    ) -> Result<Rows> {
        let shape = attention.shape;
        let mut out = self.empty(qkv.rows, shape.query_width())?;
        if shape.head_dim.is_multiple_of(32) {
            out.rounded = self.rounding(&out)?;
        }
        let end = stretches.iter().map(|stretch| stretch.start + stretch.count).max().unwrap_or(0);
        // Many rows keep the card busy without being cut.
        let parts = match qkv.rows {
            0..=FEW => chunks(end),
            rows => (64 / rows).clamp(1, chunks(end)),
        };
        let mut first = 0;
        for some in stretches.chunks(TEXTS) {
            let rows: usize = some.iter().map(|stretch| stretch.count).sum();
            self.attend_some(qkv, &out, some, attention, first..first + rows, parts)?;
            first += rows;
        }
        Ok(out)
    }

    #[allow(unsafe_code)]
    fn attend_some(
        &self,
        qkv: &Rows,
        out: &Rows,
        stretches: &[Stretch<'_, Self>],
        attention: &Attention<'_, Self>,
        rows: Range<usize>,
        parts: usize,
    ) -> Result<()> {
        let shape = attention.shape;
        let (heads, kv_heads, head) = (shape.heads, shape.kv_heads, shape.head_dim);
        let mut caches = [0_u64; 2 * TEXTS];
        for (i, stretch) in stretches.iter().enumerate() {
            debug_assert!(stretch.start + stretch.count <= stretch.kv.capacity());
            caches[i] = stretch.kv.keys.device_ptr(self.stream.queue()).0;
            caches[TEXTS + i] = stretch.kv.values.device_ptr(self.stream.queue()).0;
        }
        let (positions, spans) = self.places.of(rows.start);
        let [cosines, sines] = match attention.rope {
            Some(rope) => [self.pointer(&rope.cosines)?, self.pointer(&rope.sines)?],
            None => [0; 2],
        };
        let from = qkv.at(rows.start * qkv.width);
        let args = [
            Arg::Word(from),
            Arg::Words(&caches),
            Arg::Word(positions),
            Arg::Word(spans),
            Arg::Word(cosines),
            Arg::Word(sines),
            Arg::Words(&self.head_norm(attention.query_norm)?),
            Arg::Words(&self.head_norm(attention.key_norm)?),
            Arg::int(heads),
            Arg::int(kv_heads),
            Arg::int(head),
            Arg::int(if attention.rope.is_some() { shape.rotary_dim } else { 0 }),
            Arg::int((shape.rope_style == RopeStyle::Pairs).into()),
            Arg::float(shape.scale as f32),
        ];
        let spread = Spread { grid: (heads + 2 * kv_heads, rows.len(), 1), block: THREADS, shared: 0 };
        // SAFETY: the parameters of `rotate`. Positions are within the caches, which were grown before the pass, and within the table
        // of angles, which has the whole context.
        unsafe { self.stream.launch(&self.kernels.rotate, spread, &args) }?;

        let pieces = rows.len() * heads * parts;
        let partial = self.stream.take(pieces * head)?;
        let weights = self.stream.take(pieces * 2)?;
        let group = heads / kv_heads;
        let args = [
            Arg::Word(from),
            Arg::Words(&caches),
            Arg::Word(positions),
            Arg::Word(spans),
            Arg::Word(partial.pointer()),
            Arg::Word(weights.pointer()),
            Arg::int(heads),
            Arg::int(kv_heads),
            Arg::int(head),
            Arg::int(group),
            Arg::int(attention.window.unwrap_or(0)),
        ];
        let spread =
            Spread { grid: (kv_heads * group.div_ceil(GROUP), parts, rows.len()), block: THREADS, shared: 0 };
        // SAFETY: the parameters of `attend`, with room for the parts of each row's heads.
        unsafe { self.stream.launch(&self.kernels.attend, spread, &args) }?;

        let [numbers, scales] = match &out.rounded {
            Some(rounded) => {
                let before = rows.start * out.width;
                [rounded.numbers() + before as u64, rounded.scales(out) + (before / 32 * 4) as u64]
            }
            None => [0; 2],
        };
        let args = [
            Arg::Word(partial.pointer()),
            Arg::Word(weights.pointer()),
            Arg::Word(out.at(rows.start * out.width)),
            Arg::Word(numbers),
            Arg::Word(scales),
            Arg::int(head),
            Arg::int(parts),
        ];
        let spread = Spread { grid: (heads, rows.len(), 1), block: head.next_multiple_of(32), shared: 0 };
        // SAFETY: the parameters of `combine`; what is rounded has a byte for each number of the result.
        unsafe { self.stream.launch(&self.kernels.combine, spread, &args) }
    }

    /// The structure `HeadNorm` of attention.cu.
    fn head_norm(&self, norm: Option<&CudaNorm>) -> Result<[u64; 3]> {
        let Some(norm) = norm else { return Ok([0; 3]) };
        let bias: CUdeviceptr = norm.bias.as_ref().map_or(Ok(0), |bias| self.pointer(bias))?;
        let centred = u64::from(norm.kind == NormKind::Layer);
        Ok([self.pointer(&norm.weight)?, bias, u64::from(norm.epsilon.to_bits()) | centred << 32])
    }
}
