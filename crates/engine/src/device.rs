//! The one place that knows which accelerators this build and this machine have.

use std::fmt;

use candle_core::{DType, Device};

use crate::error::LoadError;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best device this build can use here: CUDA, then Metal, then the CPU.
    #[default]
    Auto,
    /// The accelerator this build is for, and the CPU only where it is for none. An accelerator that can't be used is an
    /// error.
    Accelerator,
    /// The processor.
    Cpu,
    /// The CUDA device with this ordinal.
    Cuda(usize),
    /// The Apple GPU.
    Metal,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Accelerator => write!(f, "accelerator"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => write!(f, "metal"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device. `Auto` never fails, a device asked for by name does when it is not there.
    ///
    /// The CUDA driver is opened by the loader before `main`, so where it is absent this code does not run at all:
    /// whoever starts a CUDA build looks for `libcuda.so.1` first.
    pub(crate) fn open(self) -> Result<Device, LoadError> {
        let failed = |reason: String| LoadError::Device { device: self.to_string(), reason };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => open_cuda(ordinal).map_err(|e| failed(e.to_string())),
            Self::Metal => Device::new_metal(0).map_err(|e| failed(e.to_string())),
            Self::Accelerator if candle_core::utils::cuda_is_available() => Self::Cuda(0).open(),
            Self::Accelerator if candle_core::utils::metal_is_available() => Self::Metal.open(),
            Self::Accelerator => Ok(Device::Cpu),
            Self::Auto => {
                if candle_core::utils::cuda_is_available()
                    && let Ok(device) = open_cuda(0)
                {
                    return Ok(device);
                }
                if candle_core::utils::metal_is_available()
                    && let Ok(device) = Device::new_metal(0)
                {
                    return Ok(device);
                }
                Ok(Device::Cpu)
            }
        }
    }
}

/// A card with one stream, whatever thread uses it: by default each thread has one of its own, and weights are loaded by another
/// thread than that which runs the model. Nor can the default stream be recorded.
fn open_cuda(ordinal: usize) -> candle_core::Result<Device> {
    Device::new_cuda_with_stream(ordinal)
}

/// The type of unquantised weights, activations and caches where the tensor library computes. With quantised weights, which its kernels
/// for Apple's cards multiply with f32 only, nothing is won by another one, and what a squared activation gives may be too large
/// for f16. Our own kernels for NVIDIA's cards keep caches in f16.
pub(crate) fn working_type(device: &Device, is_quantised: bool) -> DType {
    match device {
        Device::Cuda(_) => DType::F16,
        Device::Metal(_) if !is_quantised => DType::F16,
        Device::Cpu | Device::Metal(_) => DType::F32,
    }
}

/// A short name for status output.
pub(crate) fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}
