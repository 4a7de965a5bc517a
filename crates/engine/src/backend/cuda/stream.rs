//! The one stream that everything of a model is queued on, its kernels, and memory of the card.
//!
//! What is queued runs in the order in which it was queued, so memory that the host has given up may be handed out again at once: who
//! gets it is queued behind who had it.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr as _, PinnedHostSlice, result,
};
use candle_core::{CudaDevice, Error, Result};

/// Larger pieces of memory go back to the driver at once, unless they belong to a pass that is recorded.
const KEPT: usize = 16 << 20;

/// The parameters of a kernel, in the order of its declaration.
pub(super) enum Arg<'a> {
    /// A pointer or a number of up to eight bytes, in the lower ones.
    Word(u64),
    /// A structure that is passed by value.
    Words(&'a [u64]),
}

impl Arg<'_> {
    pub(super) fn int(number: usize) -> Self {
        debug_assert!(i32::try_from(number).is_ok());
        Self::Word(number as u64)
    }

    pub(super) fn float(number: f32) -> Self {
        Self::Word(number.to_bits().into())
    }

    /// A null pointer where there is none.
    pub(super) fn maybe(pointer: Option<CUdeviceptr>) -> Self {
        Self::Word(pointer.unwrap_or(0))
    }
}

/// How a kernel is spread over threads.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) grid: (usize, usize, usize),
    pub(super) block: usize,
    /// Bytes.
    pub(super) shared: usize,
}

pub(super) struct Stream {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    modules: Vec<Arc<CudaModule>>,
    free: Mutex<HashMap<usize, Vec<CudaSlice<f32>>>>,
    /// Whether everything that is given up is kept, whatever its size.
    keeps_all: AtomicBool,
    /// Whether memory must not be asked of the driver.
    records: AtomicBool,
    /// Whether a recording ended as it needed more memory than was kept.
    lacked: AtomicBool,
    /// Where numbers are read back to; memory that the card can write without the driver's help.
    pinned: Mutex<Option<PinnedHostSlice<f32>>>,
}

impl Stream {
    /// `sources` are kernels in PTX.
    pub(super) fn new(device: CudaDevice, sources: &[&str]) -> Result<Arc<Self>> {
        let stream = device.cuda_stream();
        let load = |source: &&str| stream.context().load_module((*source).into()).map_err(Error::wrap);
        let modules = sources.iter().map(load).collect::<Result<_>>()?;
        Ok(Arc::new(Self {
            device,
            stream,
            modules,
            free: Mutex::default(),
            keeps_all: AtomicBool::new(false),
            records: AtomicBool::new(false),
            lacked: AtomicBool::new(false),
            pinned: Mutex::new(None),
        }))
    }

    pub(super) fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(super) fn queue(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// A kernel of the source with this number.
    pub(super) fn function(&self, source: usize, name: &str) -> Result<CudaFunction> {
        self.modules[source].load_function(name).map_err(Error::wrap)
    }

    /// From here on memory that is given up is kept, and with `records` none is asked of the driver.
    pub(super) fn keep(&self, keeps_all: bool, records: bool) {
        self.keeps_all.store(keeps_all, Ordering::Relaxed);
        self.records.store(records, Ordering::Relaxed);
    }

    /// Whether a recording has lacked memory since this was asked last.
    pub(super) fn has_lacked(&self) -> bool {
        self.lacked.swap(false, Ordering::Relaxed)
    }

    /// Memory for so many f32, of any content.
    pub(super) fn take(self: &Arc<Self>, count: usize) -> Result<Buffer> {
        let class = count.next_power_of_two().max(64);
        let kept =
            self.free.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&class).and_then(Vec::pop);
        let slice = match kept {
            Some(slice) => slice,
            None if self.records.load(Ordering::Relaxed) => {
                self.lacked.store(true, Ordering::Relaxed);
                return Err(Error::msg("a recorded pass needs memory that it did not need before"));
            }
            None => self.allocate(class)?,
        };
        let pointer = slice.device_ptr(&self.stream).0;
        Ok(Buffer(Arc::new(Memory { slice: Some(slice), pointer, class, stream: self.clone() })))
    }

    #[allow(unsafe_code)]
    fn allocate(&self, count: usize) -> Result<CudaSlice<f32>> {
        // SAFETY: whoever takes memory writes it before it is read: no kernel reads what the host has not filled or had filled.
        unsafe { self.stream.alloc(count) }.map_err(Error::wrap)
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// The parameters are those that the kernel declares, and what they point to is as large as the kernel takes it to be.
    #[allow(unsafe_code)]
    pub(super) unsafe fn launch(
        &self,
        function: &CudaFunction,
        spread: Spread,
        args: &[Arg<'_>],
    ) -> Result<()> {
        let mut pointers = [std::ptr::null_mut::<c_void>(); 16];
        for (pointer, arg) in pointers[..args.len()].iter_mut().zip(args) {
            *pointer = match arg {
                Arg::Word(word) => std::ptr::from_ref(word).cast_mut().cast(),
                Arg::Words(words) => words.as_ptr().cast_mut().cast(),
            };
        }
        self.stream.context().bind_to_thread().map_err(Error::wrap)?;
        let size = |of: usize| u32::try_from(of).map_err(Error::wrap);
        let (x, y, z) = spread.grid;
        // SAFETY: the caller's promise; the driver copies the parameters before it returns.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                (size(x)?, size(y)?, size(z)?),
                (size(spread.block)?, 1, 1),
                size(spread.shared)?,
                self.stream.cu_stream(),
                &mut pointers[..args.len()],
            )
        }
        .map_err(Error::wrap)
    }

    /// Queues a copy of `bytes` bytes on the card.
    ///
    /// # Safety
    /// Both places have so many bytes.
    #[allow(unsafe_code)]
    pub(super) unsafe fn copy(&self, to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// Queues a copy to the card; `from` may be changed as soon as this returns, as the driver copies pageable memory first.
    #[allow(unsafe_code)]
    pub(super) fn upload(&self, to: &Buffer, from: &[f32]) -> Result<()> {
        debug_assert!(from.len() <= to.0.class);
        self.stream.context().bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: the buffer has room for as many.
        unsafe { result::memcpy_htod_async(to.pointer(), from, self.stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// The first `count` numbers, once all that was queued before is done.
    #[allow(unsafe_code)]
    pub(super) fn download(&self, from: &Buffer, count: usize) -> Result<Vec<f32>> {
        debug_assert!(count <= from.0.class);
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = match &mut *pinned {
            Some(pinned) if pinned.len() >= count => pinned,
            pinned => pinned.insert(self.pin(count.next_power_of_two())?),
        };
        let to = &mut pinned.as_mut_slice().map_err(Error::wrap)?[..count];
        // SAFETY: both have so many numbers, and the memory is not looked at before the stream is done.
        unsafe { result::memcpy_dtoh_async(to, from.pointer(), self.stream.cu_stream()) }
            .map_err(Error::wrap)?;
        self.stream.synchronize().map_err(Error::wrap)?;
        Ok(to.to_vec())
    }

    #[allow(unsafe_code)]
    fn pin(&self, count: usize) -> Result<PinnedHostSlice<f32>> {
        // Memory that the processor reads fast: the library's default is for writing only.
        // SAFETY: only what was copied there is read.
        unsafe { self.stream.context().alloc_pinned_with_flags(count, 0) }.map_err(Error::wrap)
    }
}

/// Memory of the card, which is used again when nobody has it any more.
#[derive(Clone)]
pub(super) struct Buffer(Arc<Memory>);

impl Buffer {
    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.0.pointer
    }
}

struct Memory {
    /// There until the end.
    slice: Option<CudaSlice<f32>>,
    pointer: CUdeviceptr,
    class: usize,
    stream: Arc<Stream>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let stream = &self.stream;
        if self.class * size_of::<f32>() <= KEPT || stream.keeps_all.load(Ordering::Relaxed) {
            let mut free = stream.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.entry(self.class).or_default().extend(self.slice.take());
        }
    }
}
