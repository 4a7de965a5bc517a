//! The functions of NVIDIA's libraries, by the names that programs link to.
//!
//! All work is done at the call, so nothing is ever waited for. Only while a stream is capturing work is kept instead, and done
//! whenever the graph is launched that comes of it; what a real driver refuses meanwhile is refused here too. The card is one of
//! compute capability 8.0, like an A100.

pub mod blas;
pub mod capture;
mod card;
mod container;
pub mod context;
pub mod modules;
pub mod rand;
pub mod runtime;
mod state;
pub mod stream;
pub mod transfer;
mod work;

/// A code that says how a call went, 0 meaning well.
pub type Code = u32;

/// How a call went.
type Answer = Result<(), Code>;

/// The errors of the driver that occur here. The runtime's have the same numbers.
mod code {
    use super::Code;

    pub const INVALID_VALUE: Code = 1;
    pub const OUT_OF_MEMORY: Code = 2;
    pub const INVALID_DEVICE: Code = 101;
    pub const INVALID_IMAGE: Code = 200;
    pub const NO_BINARY: Code = 209;
    pub const INVALID_PTX: Code = 218;
    pub const FILE_NOT_FOUND: Code = 301;
    pub const INVALID_HANDLE: Code = 400;
    pub const NOT_FOUND: Code = 500;
    pub const ILLEGAL_ADDRESS: Code = 700;
    pub const ASSERT: Code = 710;
    pub const MISALIGNED: Code = 716;
    pub const LAUNCH_FAILED: Code = 719;
    pub const NOT_SUPPORTED: Code = 801;
    pub const CAPTURE_UNSUPPORTED: Code = 900;
    pub const CAPTURE_INVALIDATED: Code = 901;
    pub const CAPTURE_UNMATCHED: Code = 903;
    pub const CAPTURE_ISOLATION: Code = 905;
    pub const CAPTURE_IMPLICIT: Code = 906;
    pub const CAPTURED_EVENT: Code = 907;

    /// Their names, of the driver and of the runtime, and what they mean.
    pub const NAMES: [(Code, &std::ffi::CStr, &std::ffi::CStr, &std::ffi::CStr); 21] = [
        (0, c"CUDA_SUCCESS", c"cudaSuccess", c"no error"),
        (INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"cudaErrorInvalidValue", c"invalid argument"),
        (OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"cudaErrorMemoryAllocation", c"out of memory"),
        (INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"cudaErrorInvalidDevice", c"invalid device ordinal"),
        (
            INVALID_IMAGE,
            c"CUDA_ERROR_INVALID_IMAGE",
            c"cudaErrorInvalidKernelImage",
            c"device kernel image is invalid",
        ),
        (
            NO_BINARY,
            c"CUDA_ERROR_NO_BINARY_FOR_GPU",
            c"cudaErrorNoKernelImageForDevice",
            c"no kernel image is available for execution on the device",
        ),
        (
            INVALID_PTX,
            c"CUDA_ERROR_INVALID_PTX",
            c"cudaErrorInvalidPtx",
            c"a PTX JIT compilation failed (see what the emulator says)",
        ),
        (FILE_NOT_FOUND, c"CUDA_ERROR_FILE_NOT_FOUND", c"cudaErrorFileNotFound", c"file not found"),
        (
            INVALID_HANDLE,
            c"CUDA_ERROR_INVALID_HANDLE",
            c"cudaErrorInvalidResourceHandle",
            c"invalid resource handle",
        ),
        (NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"cudaErrorSymbolNotFound", c"named symbol not found"),
        (
            ILLEGAL_ADDRESS,
            c"CUDA_ERROR_ILLEGAL_ADDRESS",
            c"cudaErrorIllegalAddress",
            c"an illegal memory access was encountered",
        ),
        (ASSERT, c"CUDA_ERROR_ASSERT", c"cudaErrorAssert", c"device-side assert triggered"),
        (MISALIGNED, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"cudaErrorMisalignedAddress", c"misaligned address"),
        (
            LAUNCH_FAILED,
            c"CUDA_ERROR_LAUNCH_FAILED",
            c"cudaErrorLaunchFailure",
            c"unspecified launch failure (see what the emulator says)",
        ),
        (NOT_SUPPORTED, c"CUDA_ERROR_NOT_SUPPORTED", c"cudaErrorNotSupported", c"operation not supported"),
        (
            CAPTURE_UNSUPPORTED,
            c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
            c"cudaErrorStreamCaptureUnsupported",
            c"operation not permitted when stream is capturing",
        ),
        (
            CAPTURE_INVALIDATED,
            c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
            c"cudaErrorStreamCaptureInvalidated",
            c"operation failed due to a previous error during capture",
        ),
        (
            CAPTURE_UNMATCHED,
            c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
            c"cudaErrorStreamCaptureUnmatched",
            c"no capture of this stream was begun",
        ),
        (
            CAPTURE_ISOLATION,
            c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
            c"cudaErrorStreamCaptureIsolation",
            c"dependency created on uncaptured work in another stream",
        ),
        (
            CAPTURED_EVENT,
            c"CUDA_ERROR_CAPTURED_EVENT",
            c"cudaErrorCapturedEvent",
            c"operation not permitted on an event last recorded in a capturing stream",
        ),
        (
            CAPTURE_IMPLICIT,
            c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
            c"cudaErrorStreamCaptureImplicit",
            c"operation would make the legacy stream depend on a capturing blocking stream",
        ),
    ];
}

/// Says what went wrong, on standard error: a code alone helps nobody.
fn complain(what: &str) {
    eprintln!("CUDA emulator: {what}");
}

/// The code of an answer.
fn answer(name: &str, answer: Answer) -> Code {
    match answer {
        Ok(()) => 0,
        // Programs look for a kernel in one module after the other.
        Err(code::NOT_FOUND) => code::NOT_FOUND,
        Err(code) => {
            let known = code::NAMES.iter().find(|&&(known, ..)| known == code);
            let meaning = known.map(|&(_, name, ..)| name.to_string_lossy()).unwrap_or_default();
            complain(&format!("{name} returns {code} {meaning}"));
            code
        }
    }
}

/// Writes what a call returns to where the caller said.
fn put<T>(place: *mut T, value: T) -> Answer {
    if place.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a caller of these libraries promises that there is room for what he asks for.
    #[allow(unsafe_code)]
    unsafe {
        place.write_unaligned(value);
    }
    Ok(())
}

/// Reads what a caller gave by its address.
fn get<T: Copy>(place: *const T) -> Result<T, Code> {
    if place.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a caller of these libraries promises that there is what he names.
    #[allow(unsafe_code)]
    unsafe {
        Ok(place.read_unaligned())
    }
}

/// The bytes that a caller gave by their address.
fn bytes<'a>(place: *const u8, count: usize) -> Result<&'a [u8], Code> {
    if count == 0 {
        return Ok(&[]);
    }
    if place.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a caller of these libraries promises that there are as many.
    #[allow(unsafe_code)]
    unsafe {
        Ok(std::slice::from_raw_parts(place, count))
    }
}

/// The text that a caller gave by its address.
fn text(place: *const std::ffi::c_char) -> Result<String, Code> {
    if place.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a caller of these libraries promises that it ends with a zero.
    #[allow(unsafe_code)]
    let text = unsafe { std::ffi::CStr::from_ptr(place) };
    text.to_str().map(str::to_owned).map_err(|_| code::INVALID_VALUE)
}

/// Declares functions of a library.
macro_rules! functions {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {
        $($(#[$doc])*
        #[allow(unsafe_code, non_snake_case, clippy::too_many_arguments)] // The name is what programs link to.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $ty),*) -> $crate::driver::Code {
            let work = || -> $crate::driver::Answer { $body };
            $crate::driver::answer(stringify!($name), work())
        })*
    };
}
use functions;
