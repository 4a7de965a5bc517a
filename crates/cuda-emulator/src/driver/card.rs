//! What the card is.

use std::ffi::c_int;

/// Bytes of memory.
pub const MEMORY: usize = 40 << 30;

/// What it is called.
pub const NAME: &str = "Emulated card of compute capability 8.0";

/// The newest version of CUDA that the driver is for.
pub const VERSION: c_int = 13000;

/// A property by its number, which the driver's and the runtime's functions share.
pub fn attribute(number: c_int) -> c_int {
    match number {
        // Threads of a block, and in each direction.
        1..=3 => 1024,
        4 => 64,
        // Blocks in each direction.
        5 => c_int::MAX,
        6 | 7 => 65535,
        // Shared memory of a block, usually and at most, and of a multiprocessor; what the system takes of it.
        8 => 48 << 10,
        97 => 163 << 10,
        81 => 164 << 10,
        111 => 1 << 10,
        // Constant memory.
        9 => 64 << 10,
        // Lanes of a warp.
        10 => 32,
        // The longest row of a copy.
        11 => c_int::MAX,
        // Registers of a block and of a multiprocessor.
        12 | 82 => 65536,
        // Clocks in kilohertz, the width of the memory's bus in bits.
        13 => 1_410_000,
        36 => 1_215_000,
        37 => 5120,
        14 => 512,
        // Multiprocessors.
        16 => 108,
        // It maps the program's memory, runs kernels side by side, has one space of addresses.
        19 | 31 | 41 => 1,
        // The second cache.
        38 => 40 << 20,
        // Threads and blocks of a multiprocessor.
        39 => 2048,
        106 => 32,
        // Copies side by side.
        40 => 3,
        // The compute capability.
        75 => 8,
        76 => 0,
        // Streams have priorities; blocks can be launched together; memory can be allocated in order of a stream.
        78 | 95 | 115 => 1,
        _ => 0,
    }
}
