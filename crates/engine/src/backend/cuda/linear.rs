//! Matrices on the card, and what they are multiplied with.

use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, DevicePtr as _};
use candle_core::cuda_backend::{CudaDType, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::quantized::QMatMul;
use candle_core::{DType, Device, Error, Module as _, Result, Storage, Tensor};

use super::stream::{Arg, Spread};
use super::{Cuda, FEW, LINEAR, Rows, each};
use crate::backend::tensors::quantised;
use crate::weights::{ElementType, RawTensor};

/// Rows of activations that the kernels of `linear.cu` are compiled for.
const COMPILED: [usize; 4] = [1, 2, 4, FEW];
/// Warps that a block of these kernels has.
const WARPS: usize = 4;
/// Warps that a matrix should have at least, so that a card of a hundred multiprocessors has its memory busy.
const MANY_WARPS: usize = 6144;

/// One or more matrices with the same input.
pub(crate) struct CudaLinear {
    matrices: Vec<Matrix>,
    bias: Option<Tensor>,
    outputs: usize,
}

struct Matrix {
    weights: Weights,
    /// Where they begin.
    pointer: CUdeviceptr,
    row_bytes: usize,
    outputs: usize,
    inputs: usize,
    /// One for each of [`COMPILED`].
    kernels: Vec<CudaFunction>,
    /// Warps that share a row.
    split: usize,
}

enum Weights {
    /// [outputs, inputs]
    Plain(Tensor),
    Quantised(QMatMul),
}

impl Cuda {
    pub(super) fn load_linear(&self, parts: &[RawTensor], bias: Option<Vec<f32>>) -> Result<CudaLinear> {
        let matrices: Vec<_> = parts
            .chunk_by(|a, b| a.element == b.element)
            .map(|same| self.matrix(same))
            .collect::<Result<_>>()?;
        let outputs = matrices.iter().map(|matrix| matrix.outputs).sum();
        Ok(CudaLinear { matrices, bias: bias.map(|bias| self.vector(bias)).transpose()?, outputs })
    }

    /// Rows of one type stand behind one another in one matrix.
    fn matrix(&self, parts: &[RawTensor]) -> Result<Matrix> {
        let element = parts[0].element;
        let inputs = parts[0].shape[1];
        let outputs = parts.iter().map(|part| part.shape[0]).sum();
        let device = self.tensor_device();
        let (weights, pointer) = if element.is_quantised() {
            let tensor = quantised(parts, &device)?;
            let pointer = tensor.device_ptr()? as CUdeviceptr;
            (Weights::Quantised(QMatMul::from_qtensor(tensor)?), pointer)
        } else {
            if !inputs.is_multiple_of(8) {
                candle_core::bail!("rows of {inputs} weights are not a multiple of 8");
            }
            let load =
                |raw: &RawTensor| Tensor::from_raw_buffer(&raw.bytes, dtype(element), &raw.shape, &device);
            let tensor = Tensor::cat(&parts.iter().map(load).collect::<Result<Vec<_>>>()?, 0)?;
            let pointer = self.pointer(&tensor)?;
            (Weights::Plain(tensor), pointer)
        };
        let name = match element {
            ElementType::Q4K => "Q4_K",
            ElementType::Q5K => "Q5_K",
            ElementType::Q6K => "Q6_K",
            other => other.name(),
        };
        let kernels = COMPILED.map(|rows| self.stream.function(LINEAR, &format!("product_{name}_{rows}")));
        Ok(Matrix {
            weights,
            pointer,
            row_bytes: element.row_bytes(inputs),
            outputs,
            inputs,
            kernels: kernels.into_iter().collect::<Result<_>>()?,
            split: split(outputs, inputs / unit(element)),
        })
    }

    /// The products with `x`, the outputs of all matrices side by side, in place of what is in `into` or on top of it.
    pub(super) fn multiply(&self, linear: &CudaLinear, x: &Rows, into: &Rows, onto: bool) -> Result<()> {
        debug_assert_eq!((into.rows, into.width), (x.rows, linear.outputs));
        let mut first = 0;
        for matrix in &linear.matrices {
            debug_assert_eq!(matrix.inputs, x.width);
            let bias = linear.bias.as_ref().map(|bias| self.pointer(bias)).transpose()?;
            let bias = bias.map(|bias| bias + (first * size_of::<f32>()) as u64);
            let place = Place { at: into.at(first), stride: linear.outputs, bias, onto };
            if x.rows <= FEW {
                self.multiply_few(matrix, x, &place)?;
            } else {
                self.multiply_many(matrix, x, &place)?;
            }
            first += matrix.outputs;
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn multiply_few(&self, matrix: &Matrix, x: &Rows, place: &Place) -> Result<()> {
        let which = COMPILED.iter().position(|&rows| x.rows <= rows).unwrap_or(COMPILED.len() - 1);
        let spread = Spread {
            grid: ((matrix.outputs * matrix.split).div_ceil(WARPS), 1, 1),
            block: WARPS * 32,
            shared: 0,
        };
        let mut args = vec![Arg::Word(matrix.pointer)];
        let rounded;
        match &matrix.weights {
            Weights::Plain(_) => args.push(Arg::Word(x.at(0))),
            Weights::Quantised(_) => {
                rounded = self.rounded(x)?;
                args.extend([
                    Arg::int(matrix.row_bytes),
                    Arg::Word(rounded.numbers()),
                    Arg::Word(rounded.scales(x)),
                ]);
            }
        }
        args.extend([
            Arg::maybe(place.bias),
            Arg::Word(place.at),
            Arg::int(x.rows),
            Arg::int(matrix.inputs),
            Arg::int(matrix.outputs),
            Arg::int(place.stride),
            Arg::int(matrix.split),
            Arg::int(place.onto.into()),
        ]);
        // SAFETY: the parameters of `product_*` in linear.cu; the sizes are those of the tensors they belong to.
        unsafe { self.stream.launch(&matrix.kernels[which], spread, &args) }
    }

    /// Many rows are multiplied by the library, whose kernels take some of them at a time.
    #[allow(unsafe_code)]
    fn multiply_many(&self, matrix: &Matrix, x: &Rows, place: &Place) -> Result<()> {
        let x = match &matrix.weights {
            Weights::Quantised(_) => self.to_rounded_tensor(x)?,
            Weights::Plain(_) => self.to_tensor(x)?,
        };
        let product = match &matrix.weights {
            Weights::Quantised(weights) => weights.forward(&x)?,
            // What comes out of a squared activation may be too large for f16, so rows are scaled to 1 at most.
            Weights::Plain(weights) if weights.dtype() == DType::F16 => {
                let most = x.abs()?.max_keepdim(1)?.maximum(f64::from(f32::MIN_POSITIVE))?;
                let scaled = x.broadcast_div(&most)?.to_dtype(DType::F16)?;
                scaled.matmul(&weights.t()?)?.to_dtype(DType::F32)?.broadcast_mul(&most)?
            }
            Weights::Plain(weights) => {
                x.to_dtype(weights.dtype())?.matmul(&weights.t()?)?.to_dtype(DType::F32)?
            }
        };
        let (rows, width) = product.dims2()?;
        self.place(&product, rows, width, place)
    }

    /// Puts a tensor of [rows, width] where a product belongs.
    #[allow(unsafe_code)]
    pub(super) fn place(&self, product: &Tensor, rows: usize, width: usize, place: &Place) -> Result<()> {
        let product = product.to_dtype(DType::F32)?.contiguous()?;
        let args = [
            Arg::Word(self.pointer(&product)?),
            Arg::maybe(place.bias),
            Arg::Word(place.at),
            Arg::int(width),
            Arg::int(place.stride),
            Arg::int(place.onto.into()),
        ];
        let spread = Spread { grid: (width.div_ceil(256), rows, 1), block: 256, shared: 0 };
        // SAFETY: the parameters of `place` in rows.cu. The tensor's memory is freed behind the kernel in the same stream.
        unsafe { self.stream.launch(&self.kernels.place, spread, &args) }
    }

    /// Where a contiguous tensor on the card begins.
    pub(super) fn pointer(&self, tensor: &Tensor) -> Result<CUdeviceptr> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { candle_core::bail!("a tensor is not on the card") };
        let start = layout.start_offset() * tensor.dtype().size_in_bytes();
        let stream = self.stream.queue();
        let pointer = match tensor.dtype() {
            DType::F16 => storage.as_cuda_slice::<half::f16>()?.device_ptr(stream).0,
            DType::BF16 => storage.as_cuda_slice::<half::bf16>()?.device_ptr(stream).0,
            _ => storage.as_cuda_slice::<f32>()?.device_ptr(stream).0,
        };
        Ok(pointer + start as u64)
    }

    /// A copy of the rows as the library has them.
    #[allow(unsafe_code)]
    pub(super) fn to_tensor(&self, x: &Rows) -> Result<Tensor> {
        // SAFETY: both have as many numbers.
        self.new_tensor(x, |to| unsafe { self.stream.copy(to, x.at(0), x.count() * size_of::<f32>()) })
    }

    /// The same, of what the rows are rounded to eight bits.
    #[allow(unsafe_code)]
    fn to_rounded_tensor(&self, x: &Rows) -> Result<Tensor> {
        self.new_tensor(x, |to| {
            let args = [Arg::Word(x.at(0)), Arg::Word(to), Arg::int(x.count())];
            // SAFETY: the parameters of `as_rounded`; quantised weights have rows of whole blocks of 32.
            unsafe { self.stream.launch(&self.kernels.as_rounded, each(x.count()), &args) }
        })
    }

    /// A tensor of the same shape, which `fill` fills.
    #[allow(unsafe_code)]
    fn new_tensor(&self, like: &Rows, fill: impl FnOnce(CUdeviceptr) -> Result<()>) -> Result<Tensor> {
        // SAFETY: all of it is written before it is read.
        let slice = unsafe { self.stream.queue().alloc::<f32>(like.count()) }.map_err(Error::wrap)?;
        fill(slice.device_ptr(self.stream.queue()).0)?;
        let storage: CudaStorage = f32::wrap_cuda_slice(slice, self.stream.device().clone());
        Ok(Tensor::from_storage(Storage::Cuda(storage), (like.rows, like.width), BackpropOp::none(), false))
    }

    pub(super) fn tensor_device(&self) -> Device {
        Device::Cuda(self.stream.device().clone())
    }
}

impl CudaLinear {
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Where a product belongs.
pub(super) struct Place {
    pub(super) at: CUdeviceptr,
    /// Numbers from one row to the next.
    pub(super) stride: usize,
    pub(super) bias: Option<CUdeviceptr>,
    pub(super) onto: bool,
}

fn dtype(element: ElementType) -> DType {
    match element {
        ElementType::F16 => DType::F16,
        ElementType::BF16 => DType::BF16,
        _ => DType::F32,
    }
}

/// Weights that a lane of a kernel takes at a time.
fn unit(element: ElementType) -> usize {
    match element {
        ElementType::Q4K | ElementType::Q5K => 32,
        ElementType::Q4_0 | ElementType::Q4_1 | ElementType::Q5_0 | ElementType::Q5_1 => 16,
        _ => 8,
    }
}

/// Warps that share a row of so many units, so that there are many warps, and each has something to do. It follows from the matrix
/// alone, as the sums of a row must not depend on how many there are.
fn split(outputs: usize, units: usize) -> usize {
    let useful = match units / 32 {
        0..2 => 1,
        2..4 => 2,
        _ => WARPS,
    };
    [1, 2, WARPS].into_iter().find(|split| outputs * split >= MANY_WARPS).unwrap_or(WARPS).min(useful)
}
