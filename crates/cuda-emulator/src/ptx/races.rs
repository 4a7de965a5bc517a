//! Finds warps that use the same memory of their block with no barrier between them. As the emulator runs one warp after the
//! other, such a kernel gives the right numbers here more often than not, and on a card it may not.

use super::fault::{Fault, Outcome};

/// Who used a byte, and since which barrier.
#[derive(Clone, Copy, Default)]
struct Use {
    since: u32,
    by: u32,
}

/// Stands for several warps: readers, or such as wrote the same.
const SEVERAL: u32 = u32::MAX;

/// How memory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is read.
    Read,
    /// It gets other contents.
    Change,
    /// It gets the contents that it has. Several warps may do that, as where rows beyond the last one are clamped to it.
    Repeat,
}

/// The uses of each byte since the last barrier.
pub struct Races {
    now: u32,
    writes: Vec<Use>,
    reads: Vec<Use>,
}

impl Races {
    /// For so many bytes of shared memory.
    pub fn new(bytes: usize) -> Self {
        Self { now: 1, writes: vec![Use::default(); bytes], reads: vec![Use::default(); bytes] }
    }

    /// All threads of the block have come to a barrier, or it's another block.
    pub fn pass(&mut self) {
        self.now += 1;
    }

    /// Notes a use by a warp.
    ///
    /// # Errors
    ///
    /// That another warp's use is not ordered with it.
    pub fn note(&mut self, warp: usize, at: usize, bytes: usize, way: Way) -> Outcome {
        let (warp, now) = (warp as u32, self.now);
        for byte in at..at + bytes {
            let (write, read) = (&mut self.writes[byte], &mut self.reads[byte]);
            let other = |one: &Use| one.since == now && one.by != warp;
            let (written, read_too) = (other(write), way == Way::Change && other(read));
            if (written && way != Way::Repeat) || read_too {
                return Err(Fault::new(format!(
                    "shared memory at {byte} is {} with no barrier after it was {} by another warp",
                    if way == Way::Read { "read" } else { "written" },
                    if written { "written" } else { "read" }
                )));
            }
            let used = if way == Way::Read { read } else { write };
            let by = if other(used) { SEVERAL } else { warp };
            *used = Use { since: now, by };
        }
        Ok(())
    }
}
