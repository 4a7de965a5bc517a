//! Modules and kernels of the driver.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::{
    Answer, Code, code, functions, put,
    state::{Handle, State, state},
    text,
    work::MOST_SHARED,
};

/// Numbers of a kernel's properties.
const MAX_THREADS: c_int = 0;
const SHARED: c_int = 1;
const LOCAL: c_int = 3;
const REGISTERS: c_int = 4;
const VERSION: [c_int; 2] = [5, 6];
const MAX_DYNAMIC: c_int = 8;

impl State {
    /// Allows launches of a kernel to ask for so much shared memory.
    pub fn allow_shared(&mut self, function: Handle, bytes: c_int) -> Answer {
        let declared = self.kernel(function)?.shared;
        let bytes = usize::try_from(bytes).map_err(|_| code::INVALID_VALUE)?;
        if declared + bytes > MOST_SHARED {
            return Err(code::INVALID_VALUE);
        }
        if let Some(function) = self.functions.get_mut(&function) {
            function.most_dynamic = bytes;
        }
        Ok(())
    }

    /// How many blocks of a kernel a multiprocessor has room for. Registers are not counted.
    pub fn blocks_at_once(
        &mut self,
        function: Handle,
        threads: c_int,
        dynamic: usize,
    ) -> Result<c_int, Code> {
        let shared = self.kernel(function)?.shared + dynamic;
        let threads = usize::try_from(threads).map_err(|_| code::INVALID_VALUE)?.max(1);
        // Each block takes a kilobyte beside its own.
        Ok((2048 / threads).min((164 << 10) / (shared + 1024)).min(32) as c_int)
    }
}

functions! {
    fn cuModuleLoadData(module: *mut Handle, image: *const u8) {
        let loaded = state().load(image)?;
        put(module, loaded)
    }

    fn cuModuleLoadDataEx(
        module: *mut Handle,
        image: *const u8,
        _count: c_uint,
        _options: *const c_int,
        _values: *const *const c_void,
    ) {
        let loaded = state().load(image)?;
        put(module, loaded)
    }

    fn cuModuleLoad(module: *mut Handle, path: *const c_char) {
        let text = std::fs::read_to_string(text(path)?).map_err(|_| code::FILE_NOT_FOUND)?;
        let loaded = state().load_text(text);
        put(module, loaded)
    }

    fn cuModuleUnload(module: Handle) {
        let mut state = state();
        let loaded = state.modules.remove(&module).ok_or(code::INVALID_HANDLE)?;
        for &address in loaded.globals.values() {
            state.release(address)?;
        }
        state.functions.retain(|_, function| function.module != module);
        Ok(())
    }

    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) {
        let name = text(name)?;
        let mut state = state();
        let parsed = state.module(module)?;
        if !parsed.functions.get(&name).is_some_and(|function| function.entry) {
            return Err(code::NOT_FOUND);
        }
        let handle = state.function(module, &name);
        put(function, handle)
    }

    fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: Handle, name: *const c_char) {
        let name = text(name)?;
        let mut state = state();
        let parsed = state.module(module)?;
        let found = state.modules.get(&module).and_then(|loaded| loaded.globals.get(&name).copied());
        let found = found.ok_or(code::NOT_FOUND)?;
        let global = parsed.globals.iter().find(|global| global.name == name).ok_or(code::NOT_FOUND)?;
        if !bytes.is_null() {
            put(bytes, global.bytes.unwrap_or(0))?;
        }
        if address.is_null() { Ok(()) } else { put(address, found) }
    }

    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) {
        match attribute {
            MAX_DYNAMIC => state().allow_shared(function, value),
            _ => Ok(()),
        }
    }

    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: Handle) {
        let mut state = state();
        let kernel = state.kernel(function)?;
        let most_dynamic = state.functions.get(&function).map_or(0, |function| function.most_dynamic);
        put(value, match attribute {
            MAX_THREADS => kernel.max_threads.unwrap_or(1024) as c_int,
            SHARED => kernel.shared as c_int,
            LOCAL => kernel.local as c_int,
            REGISTERS => 64,
            MAX_DYNAMIC => most_dynamic as c_int,
            other if VERSION.contains(&other) => 80,
            _ => 0,
        })
    }

    fn cuFuncSetCacheConfig(_function: Handle, _config: c_int) {
        Ok(())
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int,
        function: Handle,
        threads: c_int,
        dynamic: usize,
    ) {
        let count = state().blocks_at_once(function, threads, dynamic)?;
        put(blocks, count)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int,
        function: Handle,
        threads: c_int,
        dynamic: usize,
        _flags: c_uint,
    ) {
        let count = state().blocks_at_once(function, threads, dynamic)?;
        put(blocks, count)
    }
}
