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
            Self::Cuda(ordinal) => Device::new_cuda(ordinal).map_err(|e| failed(e.to_string())),
            Self::Metal => Device::new_metal(0).map_err(|e| failed(e.to_string())),
            Self::Accelerator if candle_core::utils::cuda_is_available() => Self::Cuda(0).open(),
            Self::Accelerator if candle_core::utils::metal_is_available() => Self::Metal.open(),
            Self::Accelerator => Ok(Device::Cpu),
            Self::Auto => {
                if candle_core::utils::cuda_is_available()
                    && let Ok(device) = Device::new_cuda(0)
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

/// The type unquantised weights and activations have on an accelerator.
pub(crate) fn working_type(device: &Device) -> DType {
    match device {
        Device::Cpu => DType::F32,
        Device::Cuda(_) if has_bf16(device) => DType::BF16,
        Device::Cuda(_) | Device::Metal(_) => DType::F16,
    }
}

/// Whether there are kernels in bf16 for this card. The library says so of all, but leaves them out of what it compiles for
/// cards before compute capability 8.0.
#[cfg(feature = "cuda")]
fn has_bf16(device: &Device) -> bool {
    let capability =
        |device: &candle_core::CudaDevice| device.cuda_stream().context().compute_capability().ok();
    device.as_cuda_device().ok().and_then(capability).is_some_and(|(major, _)| major >= 8)
}

/// There is no card without CUDA.
#[cfg(not(feature = "cuda"))]
fn has_bf16(_device: &Device) -> bool {
    false
}

/// A short name for status output.
pub(crate) fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}
