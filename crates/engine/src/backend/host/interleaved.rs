//! Matrices as they lie in a file, and those that are put in another order: where that is done, and how.
//!
//! The copy takes as many bytes as the matrix, whose pages are given back to the system as soon as it is made. So there are as many in
//! memory as before, but no longer such that the system may drop: that is why there has to be room.

use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

use crate::kernels::{self, Activations, interleaved};
use crate::team::Team;
use crate::weights::{Bytes, ElementType, RawTensor};

/// The memory that has to be free for weights, in times their size. That of the file itself, which the system has read, counts as free.
const ROOM: usize = 2;
/// Bytes that are copied before the pages that they come from are given back, or one part of a matrix.
const SPAN: usize = 1 << 24;
/// Bytes of copies that are made at a time, or one matrix.
pub(super) const ARENA: usize = 1 << 24;
/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

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

/// Makes the copies of these matrices side by side: a small matrix would not fill a large page.
pub(super) fn interleave(parts: &[&Part], team: &Team) {
    if parts.is_empty() {
        return;
    }
    let mut length = 0;
    let ranges: Vec<Range<usize>> = parts
        .iter()
        .map(|part| {
            let start = length;
            // Registers are loaded faster where they lie in one line of the cache.
            length += part.tensor.bytes.len().next_multiple_of(LINE);
            start..start + part.tensor.bytes.len()
        })
        .collect();
    let copies = Bytes::in_large_pages(length, |out| {
        for (part, range) in parts.iter().zip(&ranges) {
            part.copy(&mut out[range.clone()], team);
        }
    });
    for (part, range) in parts.iter().zip(ranges) {
        if let Some(copy) = copies.as_ref().ok().and_then(|copies| copies.slice(range)) {
            let _ = part.interleaved.set(copy);
        }
        // Who multiplied with the file's rows meanwhile has read some of them again.
        part.tensor.bytes.let_go();
    }
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

    /// Whether the other order is worth a copy: not where it is no faster, nor where what it would be copied from is no file's and so
    /// could not be given back, nor on ARM, where that was never measured.
    pub(super) fn gains(&self) -> bool {
        let RawTensor { element, shape, bytes } = &self.tensor;
        cfg!(target_arch = "x86_64")
            && self.interleaved.get().is_none()
            && interleaved::gains(*element, shape[0], shape[1])
            && bytes.is_mapped()
    }

    /// Writes the copy to `out`.
    fn copy(&self, out: &mut [u8], team: &Team) {
        let RawTensor { element, shape, bytes } = &self.tensor;
        let (element, width) = (*element, shape[1]);
        let piece = kernels::PART * element.row_bytes(width);
        let span = (SPAN / piece).max(1) * piece;
        for (i, out) in out.chunks_mut(span).enumerate() {
            let range = i * span..i * span + out.len();
            let weights = &bytes[range.clone()];
            team.chunks(out, piece, |i, out| {
                interleaved::interleave(element, &weights[i * piece..][..out.len()], width, out);
            });
            if let Some(copied) = bytes.slice(range) {
                copied.let_go();
            }
        }
    }

    /// As it lies just now: it may be put in the other order at any time.
    pub(super) fn now(&self) -> Matrix<'_> {
        let RawTensor { element, bytes, .. } = &self.tensor;
        let interleaved = self.interleaved.get();
        Matrix {
            element: *element,
            bytes: interleaved.unwrap_or(bytes),
            is_interleaved: interleaved.is_some(),
        }
    }
}

/// The rows of a [`Part`], in one order or the other.
pub(super) struct Matrix<'a> {
    element: ElementType,
    bytes: &'a [u8],
    is_interleaved: bool,
}

impl Matrix<'_> {
    /// The activations, if these can be multiplied with this matrix, or else others of the same rows of `width` numbers.
    pub(super) fn prepare<'a>(
        &self,
        ready: Option<Activations<'a>>,
        rows: &'a [f32],
        width: usize,
        team: &Team,
    ) -> Activations<'a> {
        match ready {
            Some(ready) if ready.suits(self.element, self.is_interleaved) => ready,
            _ => Activations::new(rows, width, self.element, self.is_interleaved, team),
        }
    }

    /// The products of all rows, `rows` of them at a time. `activations` are prepared for this matrix.
    pub(super) fn multiply(
        &self,
        rows: usize,
        activations: &Activations<'_>,
        out: &mut [f32],
        count: usize,
        team: &Team,
    ) {
        let row_bytes = self.element.row_bytes(activations.width());
        team.chunks(out, rows * count, |i, out| {
            let weights = &self.bytes[i * rows * row_bytes..][..out.len() / count * row_bytes];
            kernels::multiply(self.element, weights, self.is_interleaved, activations, out);
        });
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
            assert_eq!(host.settle(&[&linear], threads == 2), 1);
            assert_eq!(host.settle(&[&linear], false), 1);
            let gains = kernels::interleaved::gains(ElementType::Q4K, 640, WIDTH);
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
        assert_eq!(host.settle(&[&linear], false), 1);
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
