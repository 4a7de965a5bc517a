//! Matrices that are put in another order when a model is loaded: where that is done, and how.
//!
//! The copy takes as many bytes as the matrix, whose pages are given back to the system as soon as it is made. So there are as many in
//! memory as before, but no longer such that the system may drop: that is why there has to be room.

use std::fs;

use rayon::prelude::*;

use super::{Host, Part};
use crate::kernels::{self, interleaved};
use crate::weights::{Bytes, RawTensor};

/// The memory that has to be free for weights, in times their size. That of the file itself, which the system has read, counts as free.
const ROOM: usize = 2;

/// Whether there is memory for copies of so many bytes, in large pages. In small ones they would not be read faster than the file.
pub(super) fn is_room_for(bytes: usize) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let has_large_pages = ["[always]", "[madvise]"].iter().any(|choice| pages.contains(choice));
    let free = available(&read("/proc/meminfo")).unwrap_or(0);
    // What this control group may have, where it is not "max".
    let allowed = read("/sys/fs/cgroup/memory.max").trim().parse().unwrap_or(usize::MAX);
    has_large_pages && bytes.saturating_mul(ROOM) <= free.min(allowed)
}

/// Bytes that may still be taken, as Linux tells.
fn available(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

impl Host {
    /// Takes over a matrix, in the order that suits.
    pub(super) fn part(&self, tensor: RawTensor) -> Part {
        let copied = if self.interleaves { self.interleaved(&tensor) } else { None };
        let is_interleaved = copied.is_some();
        Part { tensor: copied.unwrap_or(tensor), is_interleaved }
    }

    /// The same matrix in the other order; `None` where it has to stay as it is, as one that is not a file's, which could not be given
    /// back.
    fn interleaved(&self, tensor: &RawTensor) -> Option<RawTensor> {
        let (element, width) = (tensor.element, tensor.shape[1]);
        if !interleaved::gains(element, tensor.shape[0]) || !tensor.bytes.is_mapped() {
            return None;
        }
        let piece = kernels::PART * element.row_bytes(width);
        let bytes = Bytes::in_large_pages(tensor.bytes.len(), |out| {
            let pieces = |out: &mut [u8], weights: &[u8]| {
                let both = out.par_chunks_mut(piece).zip(weights.par_chunks(piece));
                both.for_each(|(out, weights)| interleaved::interleave(weights, width, out));
            };
            match &self.pool {
                Some(pool) => pool.install(|| pieces(out, &tensor.bytes)),
                None => interleaved::interleave(&tensor.bytes, width, out),
            }
        });
        tensor.bytes.let_go();
        Some(RawTensor { bytes: bytes.ok()?, ..tensor.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::available;

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:       24684348 kB\nMemFree:         1000 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available(""), None);
    }
}
