//! Matrices as they lie in a file, and those that are put in another order: where that is done, and how.
//!
//! The copy takes as many bytes as the matrix, whose pages are given back to the system as soon as it is made. So there are as many in
//! memory as before, but no longer such that the system may drop: that is why there has to be room.

use std::fs;
use std::sync::OnceLock;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::kernels::{self, Activations, interleaved};
use crate::weights::{Bytes, RawTensor};

/// The memory that has to be free for weights, in times their size. That of the file itself, which the system has read, counts as free.
const ROOM: usize = 2;
/// Bytes that are copied before the pages that they come from are given back, or one part of a matrix.
const SPAN: usize = 1 << 24;

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

/// One matrix.
pub(crate) struct Part {
    /// As it lies in the file.
    tensor: RawTensor,
    /// A copy in the order of [`kernels::interleaved`], which takes its place.
    interleaved: OnceLock<Bytes>,
}

impl From<RawTensor> for Part {
    fn from(tensor: RawTensor) -> Self {
        Self { tensor, interleaved: OnceLock::new() }
    }
}

impl Part {
    /// Format and shape, and the bytes of the file.
    pub(super) fn tensor(&self) -> &RawTensor {
        &self.tensor
    }

    /// Makes the copy, on these threads or on the caller's; not where it is no faster, nor where what it is copied from is no file's
    /// and so could not be given back.
    pub(super) fn interleave(&self, pool: Option<&ThreadPool>) {
        let RawTensor { element, shape, bytes } = &self.tensor;
        let width = shape[1];
        if self.interleaved.get().is_some() || !interleaved::gains(*element, shape[0]) || !bytes.is_mapped() {
            return;
        }
        let piece = kernels::PART * element.row_bytes(width);
        let span = (SPAN / piece).max(1) * piece;
        let copy = Bytes::in_large_pages(bytes.len(), |out| {
            for (i, out) in out.chunks_mut(span).enumerate() {
                let range = i * span..i * span + out.len();
                let weights = &bytes[range.clone()];
                match pool {
                    Some(pool) => pool.install(|| {
                        let pieces = out.par_chunks_mut(piece).zip(weights.par_chunks(piece));
                        pieces.for_each(|(out, weights)| interleaved::interleave(weights, width, out));
                    }),
                    None => interleaved::interleave(weights, width, out),
                }
                if let Some(copied) = bytes.slice(range) {
                    copied.let_go();
                }
            }
        });
        if let Ok(copy) = copy {
            let _ = self.interleaved.set(copy);
        }
        // Who multiplied with the file's rows meanwhile has read some of them again.
        bytes.let_go();
    }

    /// The products of all rows, `rows` of them at a time, on so many threads.
    pub(super) fn multiply(
        &self,
        rows: usize,
        activations: &Activations<'_>,
        out: &mut [f32],
        count: usize,
        threads: usize,
    ) {
        let RawTensor { element, shape, bytes } = &self.tensor;
        let interleaved = self.interleaved.get();
        let weights: &[u8] = interleaved.unwrap_or(bytes);
        let multiply = |out: &mut [f32], weights: &[u8]| match interleaved {
            Some(_) => interleaved::multiply(weights, activations, out),
            None => kernels::multiply(*element, weights, activations, out),
        };
        if threads == 1 {
            multiply(out, weights);
            return;
        }
        out.par_chunks_mut(rows * count)
            .zip(weights.par_chunks(rows * element.row_bytes(shape[1])))
            .for_each(|(out, weights)| multiply(out, weights));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::available;
    use crate::backend::Backend as _;
    use crate::backend::host::{Host, HostLinear, Rows, Weights};
    use crate::kernels;
    use crate::weights::{Bytes, ElementType, RawTensor};

    const WIDTH: usize = 512;

    /// Numbers in [-1, 1] that are the same every time.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// A matrix whose rows lie in a file.
    fn in_file(rows: usize, directory: &std::path::Path) -> RawTensor {
        let source = Tensor::from_vec(numbers(rows * WIDTH), (rows, WIDTH), &Device::Cpu).unwrap();
        let quantised = QTensor::quantize(&source, GgmlDType::Q4K).unwrap();
        let path = directory.join(rows.to_string());
        std::fs::write(&path, quantised.data().unwrap()).unwrap();
        RawTensor::new(ElementType::Q4K, vec![rows, WIDTH], Bytes::map(&path).unwrap()).unwrap()
    }

    fn are_interleaved(linear: &HostLinear) -> Vec<bool> {
        let Weights::Parts(parts) = &linear.weights else { panic!("these are not kept") };
        parts.iter().map(|part| part.interleaved.get().is_some()).collect()
    }

    #[test]
    fn matrices_give_the_same_before_and_after_they_are_settled() {
        let directory = tempfile::tempdir().unwrap();
        // One that is no whole sixteens, and one that is in memory, both of which stay as they are.
        let mut parts: Vec<RawTensor> =
            [640, 24, 272].map(|rows| in_file(rows, directory.path())).into_iter().collect();
        parts.push(RawTensor { bytes: Bytes::from_vec(parts[0].bytes.to_vec()), ..parts[0].clone() });
        for threads in [1, 2] {
            let host = Host { interleaves: true, ..Host::new(threads).unwrap() };
            let linear = host.linear(parts.clone(), None).unwrap();
            let product = |count: usize| {
                let x = Rows { values: numbers(count * WIDTH), count };
                host.run(|| host.apply(&linear, &x).unwrap().values.clone())
            };
            let counts = [1, 2, 7, 8, 9, 30];
            let before = counts.map(product);
            assert_eq!(are_interleaved(&linear), [false; 4]);
            host.settle(&linear, threads == 2);
            host.settle(&linear, false);
            let gains = kernels::interleaved::gains(ElementType::Q4K, 640);
            assert_eq!(are_interleaved(&linear), [gains, false, gains, false]);
            for (count, before) in counts.into_iter().zip(before) {
                for (i, (have, want)) in product(count).iter().zip(&before).enumerate() {
                    assert!(
                        (have - want).abs() < 1e-3,
                        "{threads} threads, {count} rows, {i}: {have}, {want}"
                    );
                }
            }
        }
        let host = Host { interleaves: false, ..Host::new(1).unwrap() };
        let linear = host.linear(parts, None).unwrap();
        host.settle(&linear, false);
        assert_eq!(are_interleaved(&linear), [false; 4]);
    }

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:       24684348 kB\nMemFree:         1000 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available(""), None);
    }
}
