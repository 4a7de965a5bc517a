//! The card's memory: memory of this process, and a table of what is allocated in it, by which every access is checked.

use std::alloc::{Layout, alloc, dealloc};

/// What cards align allocations to.
const ALIGN: usize = 512;

/// Bytes behind each allocation that belong to none, so that running over its end doesn't meet another one.
const GAP: usize = 512;

/// What fresh memory is filled with. As any floating-point number it is no number, so that using what was never written shows.
const FRESH: u8 = 0xff;

#[derive(Clone, Copy, Debug)]
struct Range {
    begin: u64,
    bytes: u64,
}

/// The allocations, by address.
#[derive(Debug, Default)]
pub struct Memory {
    ranges: Vec<Range>,
    used: u64,
}

impl Memory {
    /// Allocates, and returns the address.
    pub fn allocate(&mut self, bytes: usize) -> Option<u64> {
        let layout = layout(bytes)?;
        // SAFETY: the layout has a size, as GAP is part of it.
        #[allow(unsafe_code)]
        let begin = unsafe { alloc(layout) };
        if begin.is_null() {
            return None;
        }
        // SAFETY: as many bytes were allocated.
        #[allow(unsafe_code)]
        unsafe {
            begin.write_bytes(FRESH, bytes);
        }
        let begin = begin as u64;
        let index = self.ranges.partition_point(|range| range.begin < begin);
        self.ranges.insert(index, Range { begin, bytes: bytes as u64 });
        self.used += bytes as u64;
        Some(begin)
    }

    /// Gives an allocation back; says whether there was one.
    pub fn free(&mut self, address: u64) -> bool {
        let Ok(index) = self.ranges.binary_search_by_key(&address, |range| range.begin) else { return false };
        let range = self.ranges.remove(index);
        self.used -= range.bytes;
        let Some(layout) = layout(range.bytes as usize) else { return false };
        // SAFETY: it was allocated with this layout, and the table no longer names it.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(address as *mut u8, layout);
        }
        true
    }

    /// Bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The allocation that an address lies in.
    #[inline]
    pub fn find(&self, address: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|range| range.begin <= address);
        let range = self.ranges.get(index.checked_sub(1)?)?;
        (address - range.begin < range.bytes.max(1)).then_some((range.begin, range.begin + range.bytes))
    }

    /// The memory at an address, if all of it is allocated, and as one piece.
    pub fn slice(&self, address: u64, bytes: usize) -> Option<*mut u8> {
        if bytes == 0 {
            return Some(address as *mut u8);
        }
        let (_, end) = self.find(address)?;
        (end - address >= bytes as u64).then_some(address as *mut u8)
    }

    /// Writes bytes, if there is room for all of them; says whether there was.
    pub fn write(&mut self, address: u64, data: &[u8]) -> bool {
        let Some(place) = self.slice(address, data.len()) else { return false };
        // SAFETY: all of it is allocated, and no slice is of the card's memory.
        #[allow(unsafe_code)]
        unsafe {
            place.copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        true
    }

    /// Reads bytes, if all of them are there.
    pub fn read(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let place = self.slice(address, bytes)?;
        let mut data = vec![0; bytes];
        // SAFETY: all of it is allocated.
        #[allow(unsafe_code)]
        unsafe {
            data.as_mut_ptr().copy_from_nonoverlapping(place, bytes);
        }
        Some(data)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        while let Some(range) = self.ranges.last() {
            self.free(range.begin);
        }
    }
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(GAP)?, ALIGN).ok()
}
