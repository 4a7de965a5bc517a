//! Those functions of the CUDA runtime that code calls which `nvcc` compiled: kernels are known there by the address of a
//! function of the program, and what they are compiled to is registered before the program begins.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, c_char, c_int, c_uint, c_void},
};

use super::{
    Answer, Code, card, code, functions, put,
    state::{Handle, PER_THREAD, State, state},
    text,
    work::{Call, Work},
};

const INVALID_CONFIGURATION: Code = 9;
const INVALID_FUNCTION: Code = 98;
const MAX_DYNAMIC: c_int = 8;

/// Sizes in three directions, as C passes them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sizes {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

impl Sizes {
    fn array(self) -> [u32; 3] {
        [self.x, self.y, self.z]
    }
}

/// How a kernel is to be launched that the program is about to call.
#[derive(Clone, Copy)]
struct Configuration {
    grid: Sizes,
    block: Sizes,
    dynamic: usize,
    stream: Handle,
}

thread_local! {
    static CONFIGURATIONS: RefCell<Vec<Configuration>> = const { RefCell::new(Vec::new()) };
    static LAST_ERROR: Cell<Code> = const { Cell::new(0) };
}

/// Functions whose names end with `_ptsz` take no stream for the thread's own.
fn of_thread(stream: Handle) -> Handle {
    if stream == 0 { PER_THREAD } else { stream }
}

/// Remembers an error, as `cudaGetLastError` asks for it.
fn remember(answer: Answer) -> Answer {
    if let Err(code) = answer {
        LAST_ERROR.set(code);
    }
    answer
}

/// What code is called, of the runtime's names.
fn name(number: Code, meaning: bool) -> *const c_char {
    let found = code::NAMES.iter().find(|&&(code, ..)| code == number);
    let text: &CStr = match (found, number) {
        (Some(&(.., name, text)), _) => {
            if meaning {
                text
            } else {
                name
            }
        }
        (None, INVALID_CONFIGURATION) => c"invalid configuration argument",
        (None, INVALID_FUNCTION) => c"invalid device function",
        _ => c"unknown error",
    };
    text.as_ptr()
}

impl State {
    /// A kernel, by a function of the program or by what `__cudaGetKernel` gave for it.
    fn registered(&self, place: usize) -> Result<Handle, Code> {
        if let Some(&handle) = self.registered.get(&place) {
            return Ok(handle);
        }
        if self.functions.contains_key(&place) { Ok(place) } else { Err(INVALID_FUNCTION) }
    }
}

functions! {
    fn __cudaRegisterFatBinaryEnd(_module: Handle) {
        Ok(())
    }

    fn __cudaUnregisterFatBinary(_module: Handle) {
        Ok(())
    }

    fn __cudaRegisterFunction(
        module: Handle,
        host: usize,
        _device: *const c_char,
        name: *const c_char,
        _threads: c_int,
        _thread: *const c_void,
        _block: *const c_void,
        _block_size: *const c_void,
        _grid_size: *const c_void,
        _warp: *const c_void,
    ) {
        let name = text(name)?;
        let mut state = state();
        let handle = state.function(module, &name);
        state.registered.insert(host, handle);
        Ok(())
    }

    fn __cudaRegisterVar(
        _module: Handle,
        _host: *const c_void,
        _device: *const c_char,
        _name: *const c_char,
        _external: c_int,
        _bytes: usize,
        _constant: c_int,
        _global: c_int,
    ) {
        Ok(())
    }

    fn __cudaPushCallConfiguration(grid: Sizes, block: Sizes, dynamic: usize, stream: Handle) {
        CONFIGURATIONS.with_borrow_mut(|all| all.push(Configuration { grid, block, dynamic, stream }));
        Ok(())
    }

    fn __cudaPopCallConfiguration(
        grid: *mut Sizes,
        block: *mut Sizes,
        dynamic: *mut usize,
        stream: *mut Handle,
    ) {
        let last = CONFIGURATIONS.with_borrow_mut(Vec::pop).ok_or(INVALID_CONFIGURATION)?;
        put(grid, last.grid)?;
        put(block, last.block)?;
        put(dynamic, last.dynamic)?;
        put(stream, last.stream)
    }

    fn __cudaGetKernel(kernel: *mut Handle, host: usize) {
        let found = state().registered(host);
        remember(found.and_then(|found| put(kernel, found)))
    }

    fn __cudaLaunchKernel(
        kernel: usize,
        grid: Sizes,
        block: Sizes,
        parameters: *const *const c_void,
        dynamic: usize,
        stream: Handle,
    ) {
        let mut state = state();
        let (grid, block) = (grid.array(), block.array());
        remember(state.registered(kernel).and_then(|function| {
            let call = Call { function, grid, block, dynamic, parameters: Vec::new() };
            state.call(stream, call, parameters)
        }))
    }

    fn __cudaLaunchKernel_ptsz(
        kernel: usize,
        grid: Sizes,
        block: Sizes,
        parameters: *const *const c_void,
        dynamic: usize,
        stream: Handle,
    ) {
        match __cudaLaunchKernel(kernel, grid, block, parameters, dynamic, of_thread(stream)) {
            0 => Ok(()),
            code => Err(code),
        }
    }

    fn cudaDeviceGetAttribute(value: *mut c_int, number: c_int, _device: c_int) {
        put(value, card::attribute(number))
    }

    fn cudaGetDevice(device: *mut c_int) {
        put(device, 0)
    }

    fn cudaSetDevice(device: c_int) {
        if device == 0 { Ok(()) } else { remember(Err(code::INVALID_DEVICE)) }
    }

    fn cudaGetDeviceCount(count: *mut c_int) {
        put(count, 1)
    }

    fn cudaMalloc(place: *mut u64, bytes: usize) {
        let mut state = state();
        let allocated = state.outside_of_captures().and_then(|()| state.allocate(bytes));
        remember(allocated.and_then(|allocated| put(place, allocated)))
    }

    fn cudaFree(place: u64) {
        let mut state = state();
        let answer = state.outside_of_captures().and_then(|()| state.release(place));
        remember(answer)
    }

    fn cudaMallocAsync_ptsz(place: *mut u64, bytes: usize, stream: Handle) {
        let mut state = state();
        let allocated = state.not_capturing(of_thread(stream)).and_then(|()| state.allocate(bytes));
        remember(allocated.and_then(|allocated| put(place, allocated)))
    }

    fn cudaFreeAsync_ptsz(place: u64, stream: Handle) {
        let mut state = state();
        let answer = state.not_capturing(of_thread(stream)).and_then(|()| state.release(place));
        remember(answer)
    }

    fn cudaMemsetAsync_ptsz(place: u64, value: c_int, count: usize, stream: Handle) {
        let work = Work::Fill(place, u32::from(value as u8), 1, count);
        remember(state().submit(of_thread(stream), work))
    }

    fn cudaStreamSynchronize_ptsz(stream: Handle) {
        remember(state().wait(of_thread(stream)))
    }

    /// Writes the first numbers of the structure: shared, constant and local memory, then the most threads, registers and so on.
    fn cudaFuncGetAttributes(place: *mut u8, function: usize) {
        let mut state = state();
        let answer = state.registered(function).and_then(|handle| Ok((handle, state.kernel(handle)?)));
        let (handle, kernel) = answer.inspect_err(|&code| LAST_ERROR.set(code))?;
        let most_dynamic = state.functions.get(&handle).map_or(0, |function| function.most_dynamic);
        for (index, bytes) in [kernel.shared, 0, kernel.local].into_iter().enumerate() {
            put(place.cast::<usize>().wrapping_add(index), bytes)?;
        }
        let threads = kernel.max_threads.unwrap_or(1024) as c_int;
        let numbers = [threads, 64, 80, 80, 0, most_dynamic as c_int, -1];
        for (index, number) in numbers.into_iter().enumerate() {
            put(place.wrapping_add(24).cast::<c_int>().wrapping_add(index), number)?;
        }
        Ok(())
    }

    fn cudaFuncSetAttribute(function: usize, attribute: c_int, value: c_int) {
        let mut state = state();
        let handle = state.registered(function);
        remember(handle.and_then(|handle| match attribute {
            MAX_DYNAMIC => state.allow_shared(handle, value),
            _ => Ok(()),
        }))
    }

    fn cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int,
        function: usize,
        threads: c_int,
        dynamic: usize,
        _flags: c_uint,
    ) {
        let mut state = state();
        let count =
            state.registered(function).and_then(|handle| state.blocks_at_once(handle, threads, dynamic));
        remember(count.and_then(|count| put(blocks, count)))
    }
}

/// Registers a container of kernels. Returns what the program calls it by.
#[allow(unsafe_code)] // The name is what programs link to.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFatBinary(image: *const u8) -> Handle {
    state().load(image).unwrap_or_default()
}

/// The last error of this thread, which is then forgotten.
#[allow(unsafe_code, non_snake_case)] // The name is what programs link to.
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetLastError() -> Code {
    LAST_ERROR.replace(0)
}

/// The last error of this thread.
#[allow(unsafe_code, non_snake_case)] // The name is what programs link to.
#[unsafe(no_mangle)]
pub extern "C" fn cudaPeekAtLastError() -> Code {
    LAST_ERROR.get()
}

/// What an error is called.
#[allow(unsafe_code, non_snake_case)] // The name is what programs link to.
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorName(number: Code) -> *const c_char {
    name(number, false)
}

/// What an error means.
#[allow(unsafe_code, non_snake_case)] // The name is what programs link to.
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorString(number: Code) -> *const c_char {
    name(number, true)
}
