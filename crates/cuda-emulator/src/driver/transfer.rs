//! Memory of the driver: allocating, copying, filling.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ffi::{c_int, c_uchar, c_uint, c_ushort, c_void},
};

use super::{
    Answer, card, code, functions, put,
    state::{Handle, LEGACY, State, state},
    work::Work,
};

/// What memory of the program that the driver gives is aligned to.
const PAGE: usize = 4096;

impl State {
    /// Memory of the card.
    pub fn allocate(&mut self, bytes: usize) -> Result<u64, super::Code> {
        self.works()?;
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        if self.memory.used() + bytes as u64 > card::MEMORY as u64 {
            return Err(code::OUT_OF_MEMORY);
        }
        self.memory.allocate(bytes).ok_or(code::OUT_OF_MEMORY)
    }

    /// Gives memory back.
    pub fn release(&mut self, address: u64) -> Answer {
        if address == 0 || self.memory.free(address) {
            return Ok(());
        }
        super::complain(&format!("{address:#x} is freed and isn't allocated"));
        Err(code::INVALID_VALUE)
    }

    /// A copy that is waited for, which is of the legacy stream.
    fn at_once(&mut self, work: Work) -> Answer {
        self.outside_of_captures()?;
        self.submit(LEGACY[0], work)
    }
}

functions! {
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        let mut state = state();
        state.outside_of_captures()?;
        let allocated = state.allocate(bytes)?;
        put(address, allocated)
    }

    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) {
        let mut state = state();
        state.not_capturing(stream)?;
        let allocated = state.allocate(bytes)?;
        put(address, allocated)
    }

    fn cuMemFree_v2(address: u64) {
        let mut state = state();
        state.outside_of_captures()?;
        state.release(address)
    }

    fn cuMemFreeAsync(address: u64, stream: Handle) {
        let mut state = state();
        state.not_capturing(stream)?;
        state.release(address)
    }

    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let used = state().memory.used() as usize;
        put(free, card::MEMORY - used)?;
        put(total, card::MEMORY)
    }

    fn cuMemHostAlloc(place: *mut *mut u8, bytes: usize, _flags: c_uint) {
        let mut state = state();
        state.outside_of_captures()?;
        let layout = Layout::from_size_align(bytes.max(1), PAGE).map_err(|_| code::OUT_OF_MEMORY)?;
        // SAFETY: the layout has a size.
        #[allow(unsafe_code)]
        let given = unsafe { alloc_zeroed(layout) };
        if given.is_null() {
            return Err(code::OUT_OF_MEMORY);
        }
        state.host.insert(given as usize, bytes);
        put(place, given)
    }

    fn cuMemFreeHost(place: usize) {
        let mut state = state();
        state.outside_of_captures()?;
        let bytes = state.host.remove(&place).ok_or(code::INVALID_VALUE)?;
        let layout = Layout::from_size_align(bytes.max(1), PAGE).map_err(|_| code::INVALID_VALUE)?;
        // SAFETY: it was allocated with this layout, and is no longer in the table.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(place as *mut u8, layout);
        }
        Ok(())
    }

    fn cuMemHostGetFlags(flags: *mut c_uint, place: *const c_void) {
        let known = state().host.contains_key(&(place as usize));
        if known { put(flags, 0) } else { Err(code::INVALID_VALUE) }
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: usize, bytes: usize, stream: Handle) {
        state().submit(stream, Work::Up(to, from, bytes))
    }

    fn cuMemcpyDtoHAsync_v2(to: usize, from: u64, bytes: usize, stream: Handle) {
        state().submit(stream, Work::Down(to, from, bytes))
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        state().submit(stream, Work::Across(to, from, bytes))
    }

    fn cuMemcpyPeerAsync(to: u64, _to_card: Handle, from: u64, _from_card: Handle, bytes: usize, stream: Handle) {
        state().submit(stream, Work::Across(to, from, bytes))
    }

    fn cuMemcpyHtoD_v2(to: u64, from: usize, bytes: usize) {
        state().at_once(Work::Up(to, from, bytes))
    }

    fn cuMemcpyDtoH_v2(to: usize, from: u64, bytes: usize) {
        state().at_once(Work::Down(to, from, bytes))
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        state().at_once(Work::Across(to, from, bytes))
    }

    fn cuMemsetD8Async(to: u64, value: c_uchar, count: usize, stream: Handle) {
        state().submit(stream, Work::Fill(to, value.into(), 1, count))
    }

    fn cuMemsetD16Async(to: u64, value: c_ushort, count: usize, stream: Handle) {
        state().submit(stream, Work::Fill(to, value.into(), 2, count))
    }

    fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: Handle) {
        state().submit(stream, Work::Fill(to, value, 4, count))
    }

    fn cuMemsetD8_v2(to: u64, value: c_uchar, count: usize) {
        state().at_once(Work::Fill(to, value.into(), 1, count))
    }

    fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) {
        state().at_once(Work::Fill(to, value, 4, count))
    }

    fn cuPointerGetAttribute(_data: *mut c_void, _attribute: c_int, _address: u64) {
        Err(code::NOT_SUPPORTED)
    }
}
