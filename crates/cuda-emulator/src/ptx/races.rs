//! Finds warps that use the same memory of their block with no barrier between them. As the emulator runs one warp after the
//! other, such a kernel gives the right numbers here more often than not, and on a card it may not.

use super::fault::{Fault, Outcome};

/// Who used a byte, and since which barrier.
#[derive(Clone, Copy, Default)]
struct Use {
    since: u32,
    by: u32,
}

/// Stands for several warps, which only readers can be.
const SEVERAL: u32 = u32::MAX;

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
    pub fn note(&mut self, warp: usize, at: usize, bytes: usize, written: bool) -> Outcome {
        let warp = warp as u32;
        for byte in at..at + bytes {
            let (write, read) = (&mut self.writes[byte], &mut self.reads[byte]);
            let other = |one: &Use| one.since == self.now && one.by != warp;
            if other(write) || (written && other(read)) {
                let how = |written: bool| if written { "written" } else { "read" };
                return Err(Fault::new(format!(
                    "shared memory at {byte} is {} with no barrier after it was {} by another warp",
                    how(written),
                    how(other(write))
                )));
            }
            if written {
                *write = Use { since: self.now, by: warp };
            } else if read.since == self.now && read.by != warp {
                read.by = SEVERAL;
            } else {
                *read = Use { since: self.now, by: warp };
            }
        }
        Ok(())
    }
}
