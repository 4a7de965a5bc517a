//! NVIDIA's cards, with kernels of our own (`cuda/*.cu`, compiled to PTX when the engine is built).
//!
//! Passes of up to eight rows, as they are run for each token, read the weights once and launch ten kernels a layer. Passes over the same
//! caches with as many rows are recorded the second time, and queued as one from then on (`replay.rs`): nothing in them depends on
//! the tokens or their positions but what lies in the card's memory. Products of more rows, which prompts have, are the tensor library's
//! (`linear.rs`), as are state-space mixers.
//!
//! Activations are f32, rounded to eight bits where they meet quantised weights, and caches f16.

mod attention;
mod linear;
mod replay;
mod stream;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaFunction;
use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::{CudaDevice, Result, Tensor};

use super::tensors::space::{TensorSpace, TensorState};
use super::{Attention, Backend, Best, Recordings, RopeTable, Section, StateSpace, Stretch};
use crate::config::{Activation, AttentionShape, NormKind, StateSpaceShape};
use crate::weights::RawTensor;
pub(crate) use attention::CudaKv;
use linear::{CudaLinear, Place};
use replay::{Places, Replays};
use stream::{Arg, Buffer, Spread, Stream};

/// Rows of a pass that the kernels for few rows take.
const FEW: usize = 8;
/// The widest row that is normalised: it has to fit into what every card has of shared memory for a block.
const WIDEST: usize = 48 * 1024 / size_of::<f32>() - 64;

/// Parts of a row of logits that are looked through at once.
const BEST_PARTS: usize = 64;

mod sources {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// The kernels by source.
const SOURCES: [&str; 3] = [sources::ROWS, sources::LINEAR, sources::ATTENTION];
const ROWS: usize = 0;
const LINEAR: usize = 1;
const ATTENTION: usize = 2;

pub(crate) struct Cuda {
    stream: Arc<Stream>,
    kernels: Kernels,
    places: Places,
    replays: Mutex<Replays>,
    /// Held during a pass: what is recorded must be of one.
    running: Mutex<()>,
}

/// All but those of products.
struct Kernels {
    norm: CudaFunction,
    round: CudaFunction,
    as_rounded: CudaFunction,
    activate: CudaFunction,
    add: CudaFunction,
    scale: CudaFunction,
    place: CudaFunction,
    rotate: CudaFunction,
    attend: CudaFunction,
    combine: CudaFunction,
    best_of_parts: CudaFunction,
    best: CudaFunction,
}

/// Rows of f32, one behind the other.
pub(crate) struct Rows {
    values: Buffer,
    /// The same rounded to eight bits, if that was done already.
    rounded: Option<Rounded>,
    rows: usize,
    width: usize,
}

/// Eight-bit numbers, and behind them a scale for each 32 of these.
#[derive(Clone)]
struct Rounded(Buffer);

impl Rows {
    /// Where number `index` of the first row lies.
    fn at(&self, index: usize) -> CUdeviceptr {
        self.values.pointer() + (index * size_of::<f32>()) as u64
    }

    fn count(&self) -> usize {
        self.rows * self.width
    }
}

impl Rounded {
    fn numbers(&self) -> CUdeviceptr {
        self.0.pointer()
    }

    fn scales(&self, of: &Rows) -> CUdeviceptr {
        self.0.pointer() + of.count() as u64
    }
}

pub(crate) struct CudaNorm {
    kind: NormKind,
    epsilon: f32,
    width: usize,
    weight: Tensor,
    bias: Option<Tensor>,
}

/// [positions, half]
pub(crate) struct CudaRope {
    cosines: Tensor,
    sines: Tensor,
}

impl Cuda {
    /// # Errors
    /// Where the driver does not take the kernels.
    #[allow(unsafe_code)]
    pub(crate) fn new(device: CudaDevice) -> Result<Self> {
        // SAFETY: there is one stream. Memory is freed and handed out again in its order, so that no use has to be waited for.
        unsafe { device.disable_event_tracking() };
        let stream = Stream::new(device, &SOURCES)?;
        let rows = |name: &str| stream.function(ROWS, name);
        let attention = |name: &str| stream.function(ATTENTION, name);
        let kernels = Kernels {
            norm: rows("norm_rows")?,
            round: rows("round_rows")?,
            as_rounded: rows("as_rounded")?,
            activate: rows("activate")?,
            add: rows("add")?,
            scale: rows("scale")?,
            place: rows("place")?,
            rotate: attention("rotate")?,
            attend: attention("attend")?,
            combine: attention("combine")?,
            best_of_parts: rows("best_of_parts")?,
            best: rows("best")?,
        };
        let places = Places::new(&stream)?;
        Ok(Self { stream, kernels, places, replays: Mutex::default(), running: Mutex::new(()) })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let width = values.len();
        Tensor::from_vec(values, width, &self.tensor_device())
    }

    fn empty(&self, rows: usize, width: usize) -> Result<Rows> {
        Ok(Rows { values: self.stream.take(rows * width)?, rounded: None, rows, width })
    }

    /// Memory for the rounded numbers of `rows`, where these are few and can be rounded: products with quantised weights want them,
    /// and other weights are rare.
    fn rounding(&self, rows: &Rows) -> Result<Option<Rounded>> {
        if rows.rows > FEW || !rows.width.is_multiple_of(32) {
            return Ok(None);
        }
        Ok(Some(Rounded(self.stream.take(rows.count() / 4 + rows.count() / 32)?)))
    }

    /// The parameters for `numbers` and `scales` of a kernel that rounds on its way.
    fn rounding_args<'a>(rounded: Option<&Rounded>, rows: &Rows) -> [Arg<'a>; 2] {
        [Arg::maybe(rounded.map(Rounded::numbers)), Arg::maybe(rounded.map(|rounded| rounded.scales(rows)))]
    }

    /// The rows rounded to eight bits.
    #[allow(unsafe_code)]
    fn rounded(&self, x: &Rows) -> Result<Rounded> {
        if let Some(rounded) = &x.rounded {
            return Ok(rounded.clone());
        }
        let Some(rounded) = self.rounding(x)? else {
            candle_core::bail!("{} rows of {} can't be rounded", x.rows, x.width)
        };
        let args = [
            Arg::Word(x.at(0)),
            Arg::Word(rounded.numbers()),
            Arg::Word(rounded.scales(x)),
            Arg::int(x.count()),
        ];
        // SAFETY: the parameters of `round_rows`; the buffer has a byte for each number and four for each 32.
        unsafe { self.stream.launch(&self.kernels.round, each(x.count()), &args) }?;
        Ok(rounded)
    }
}

/// A thread for each of `count` numbers.
fn each(count: usize) -> Spread {
    Spread { grid: (count.div_ceil(256), 1, 1), block: 256, shared: 0 }
}

impl Backend for Cuda {
    const ROWS_STAND_ALONE: bool = true;
    const CHOOSES: bool = true;

    type Hidden = Rows;
    type Linear = CudaLinear;
    /// Rows are dequantised by the host as they are asked for: the table stays where it was read.
    type Embedding = RawTensor;
    type Norm = CudaNorm;
    type Rope = CudaRope;
    type Kv = CudaKv;
    type Space = TensorSpace;
    type State = TensorState;

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    fn pass(
        &self,
        sections: &[Section],
        x: Rows,
        work: &mut dyn FnMut(Rows) -> Result<Rows>,
    ) -> Result<Rows> {
        self.run_pass(sections, x, work)
    }

    fn recordings(&self) -> Option<Recordings> {
        Some(self.replays.lock().unwrap_or_else(PoisonError::into_inner).summary())
    }

    fn linear(&self, parts: Vec<RawTensor>, bias: Option<Vec<f32>>) -> Result<CudaLinear> {
        self.load_linear(&parts, bias)
    }

    fn embedding(&self, table: RawTensor) -> Result<RawTensor> {
        Ok(table)
    }

    fn norm(&self, kind: NormKind, epsilon: f32, weight: Vec<f32>, bias: Vec<f32>) -> Result<CudaNorm> {
        let width = weight.len();
        if width > WIDEST {
            candle_core::bail!("rows of {width} are too wide for the kernels, which take {WIDEST}");
        }
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.vector(bias)?),
        };
        Ok(CudaNorm { kind, epsilon, width, weight: self.vector(weight)?, bias })
    }

    fn rope(&self, table: RopeTable) -> Result<CudaRope> {
        Ok(CudaRope { cosines: self.vector(table.cos)?, sines: self.vector(table.sin)? })
    }

    fn state_space(&self, shape: &StateSpaceShape, weights: StateSpace) -> Result<TensorSpace> {
        TensorSpace::new(shape, weights, &self.tensor_device())
    }

    fn kv(&self, shape: &AttentionShape, limit: usize) -> Result<CudaKv> {
        self.new_kv(shape, limit)
    }

    fn reserve(&self, kv: &mut CudaKv, positions: usize) -> Result<()> {
        self.grow_kv(kv, positions)
    }

    fn identity(&self, kv: &CudaKv) -> u64 {
        kv.identity()
    }

    fn copy_kv(&self, from: &CudaKv, to: &mut CudaKv, positions: Range<usize>) -> Result<()> {
        self.copy_positions(from, to, positions)
    }

    fn embed(&self, table: &RawTensor, tokens: &[u32]) -> Result<Rows> {
        let width = table.shape[1];
        let row_bytes = table.element.row_bytes(width);
        let mut values = vec![0.0; tokens.len() * width];
        for (row, &token) in values.chunks_exact_mut(width).zip(tokens) {
            let bytes = &table.bytes[token as usize * row_bytes..][..row_bytes];
            crate::kernels::dequantise(table.element, bytes, row);
        }
        let rows = self.empty(tokens.len(), width)?;
        self.stream.upload(&rows.values, &values)?;
        Ok(rows)
    }

    #[allow(unsafe_code)]
    fn apply_norm(&self, norm: &CudaNorm, x: &Rows) -> Result<Rows> {
        debug_assert_eq!(norm.width, x.width);
        let mut out = self.empty(x.rows, x.width)?;
        out.rounded = self.rounding(&out)?;
        let [numbers, scales] = Self::rounding_args(out.rounded.as_ref(), &out);
        let args = [
            Arg::Word(x.at(0)),
            Arg::Word(self.pointer(&norm.weight)?),
            Arg::maybe(norm.bias.as_ref().map(|bias| self.pointer(bias)).transpose()?),
            Arg::Word(out.at(0)),
            numbers,
            scales,
            Arg::int(x.width),
            Arg::float(norm.epsilon),
            Arg::int((norm.kind == NormKind::Layer).into()),
        ];
        let spread = Spread {
            grid: (x.rows, 1, 1),
            block: x.width.next_multiple_of(32).min(512),
            shared: x.width * size_of::<f32>(),
        };
        // SAFETY: the parameters of `norm_rows`.
        unsafe { self.stream.launch(&self.kernels.norm, spread, &args) }?;
        Ok(out)
    }

    fn apply(&self, linear: &CudaLinear, x: &Rows) -> Result<Rows> {
        let out = self.empty(x.rows, linear.outputs())?;
        self.multiply(linear, x, &out, false)?;
        Ok(out)
    }

    fn apply_onto(&self, linear: &CudaLinear, x: &Rows, into: &mut Rows) -> Result<()> {
        into.rounded = None;
        self.multiply(linear, x, into, true)
    }

    fn attend(
        &self,
        qkv: Rows,
        kv: &mut CudaKv,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Rows> {
        let count = qkv.rows;
        self.attend_all(qkv, &mut [Stretch { kv, start, count }], attention)
    }

    fn attend_all(
        &self,
        qkv: Rows,
        stretches: &mut [Stretch<'_, Self>],
        attention: &Attention<'_, Self>,
    ) -> Result<Rows> {
        self.attend_stretches(&qkv, stretches, attention)
    }

    #[allow(unsafe_code)]
    fn scan(&self, projected: Rows, space: &TensorSpace, state: &mut TensorState) -> Result<Rows> {
        let scanned = space.scan(&self.to_tensor(&projected)?, state)?;
        let (rows, width) = scanned.dims2()?;
        let out = self.empty(rows, width)?;
        self.place(&scanned, rows, width, &Place { at: out.at(0), stride: width, bias: None, onto: false })?;
        Ok(out)
    }

    #[allow(unsafe_code)]
    fn activate(&self, activation: Activation, x: Rows) -> Result<Rows> {
        let (kind, width) = match activation {
            Activation::ReluSquared => (0, x.width),
            Activation::SiluGate => (1, x.width / 2),
            Activation::GeluGate => (2, x.width / 2),
        };
        let mut out = self.empty(x.rows, width)?;
        out.rounded = self.rounding(&out)?;
        let [numbers, scales] = Self::rounding_args(out.rounded.as_ref(), &out);
        let args =
            [Arg::Word(x.at(0)), Arg::Word(out.at(0)), numbers, scales, Arg::int(width), Arg::int(kind)];
        let spread = Spread { grid: (width.div_ceil(256), x.rows, 1), block: 256, shared: 0 };
        // SAFETY: the parameters of `activate`.
        unsafe { self.stream.launch(&self.kernels.activate, spread, &args) }?;
        Ok(out)
    }

    #[allow(unsafe_code)]
    fn scale(&self, x: &mut Rows, factor: f32) -> Result<()> {
        x.rounded = None;
        let args = [Arg::Word(x.at(0)), Arg::float(factor), Arg::int(x.count())];
        // SAFETY: the parameters of `scale`.
        unsafe { self.stream.launch(&self.kernels.scale, each(x.count()), &args) }
    }

    #[allow(unsafe_code)]
    fn add(&self, into: &mut Rows, x: Rows) -> Result<()> {
        debug_assert_eq!((into.rows, into.width), (x.rows, x.width));
        into.rounded = None;
        let args = [Arg::Word(into.at(0)), Arg::Word(x.at(0)), Arg::int(x.count())];
        // SAFETY: the parameters of `add`; both have as many numbers.
        unsafe { self.stream.launch(&self.kernels.add, each(x.count()), &args) }
    }

    #[allow(unsafe_code)]
    fn rows(&self, x: &Rows, ranges: &[Range<usize>]) -> Result<Rows> {
        let out = self.empty(ranges.iter().map(ExactSizeIterator::len).sum(), x.width)?;
        let mut at = 0;
        for range in ranges {
            debug_assert!(range.end <= x.rows);
            let bytes = range.len() * x.width * size_of::<f32>();
            // SAFETY: the rows are there, and the result has room for the rows of all ranges.
            unsafe { self.stream.copy(out.at(at * x.width), x.at(range.start * x.width), bytes) }?;
            at += range.len();
        }
        Ok(out)
    }

    #[allow(unsafe_code)]
    fn join(&self, parts: Vec<Rows>) -> Result<Rows> {
        let width = parts.first().map_or(0, |part| part.width);
        let out = self.empty(parts.iter().map(|part| part.rows).sum(), width)?;
        let mut at = 0;
        for part in &parts {
            // SAFETY: the result has room for the rows of all parts.
            unsafe { self.stream.copy(out.at(at * width), part.at(0), part.count() * size_of::<f32>()) }?;
            at += part.rows;
        }
        Ok(out)
    }

    fn read(&self, x: Rows) -> Result<Vec<f32>> {
        self.stream.download(&x.values, x.count())
    }

    #[allow(unsafe_code)]
    fn best(&self, x: Rows, width: usize) -> Result<Vec<Option<Best>>> {
        debug_assert_eq!(x.width, width);
        // Three numbers for each part, and for each row.
        let parts = self.stream.take(x.rows * BEST_PARTS * 3)?;
        let best = self.stream.take(x.rows * 3)?;
        let args = [Arg::Word(x.at(0)), Arg::Word(parts.pointer()), Arg::int(width)];
        let spread = Spread { grid: (BEST_PARTS, x.rows, 1), block: 256, shared: 0 };
        // SAFETY: the parameters of `best_of_parts`.
        unsafe { self.stream.launch(&self.kernels.best_of_parts, spread, &args) }?;
        let args = [Arg::Word(parts.pointer()), Arg::Word(best.pointer()), Arg::int(BEST_PARTS)];
        let spread = Spread { grid: (x.rows, 1, 1), block: 32, shared: 0 };
        // SAFETY: the parameters of `best`.
        unsafe { self.stream.launch(&self.kernels.best, spread, &args) }?;
        let found = self.stream.download(&best, x.rows * 3)?;
        let best = |row: &[f32]| {
            let token = row[0].to_bits();
            ((token as usize) < width).then_some(Best { token, logit: row[1], log_sum_exp: row[2] })
        };
        Ok(found.chunks_exact(3).map(best).collect())
    }
}
