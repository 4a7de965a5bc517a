//! Matrices of a small model, which are put into stripes when it is loaded, whatever they are multiplied with.

use super::{Activations, Way, layout, way};
use crate::team::Team;
use crate::weights::ElementType;

/// Bytes of a line of the processor's cache. Registers are loaded faster where they lie in one.
const LINE: usize = 64;

/// One or more matrices of equal width, whose rows follow each other. They hold a copy of the weights.
pub(crate) struct Kept {
    /// Stripes from `start` on.
    bytes: Vec<u8>,
    start: usize,
    /// What they are in order for.
    way: Way,
    /// Formats, and how many bytes and rows each matrix has.
    parts: Vec<(ElementType, usize, usize)>,
}

impl Kept {
    /// `None` where these matrices have no such order on this processor. `parts` are format, bytes and rows.
    pub(crate) fn new<'a>(
        parts: impl Iterator<Item = (ElementType, &'a [u8], usize)> + Clone,
        width: usize,
    ) -> Option<Self> {
        Self::by(way()?, parts, width)
    }

    /// The same for a certain way.
    pub(in crate::kernels) fn by<'a>(
        way: Way,
        parts: impl Iterator<Item = (ElementType, &'a [u8], usize)> + Clone,
        width: usize,
    ) -> Option<Self> {
        if !parts.clone().all(|(element, _, rows)| way.gains(element, rows, width)) {
            return None;
        }
        let length: usize = parts.clone().map(|(_, weights, _)| weights.len()).sum();
        let mut bytes = vec![0; length + LINE];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        let mut rest = &mut bytes[start..start + length];
        for (element, weights, _) in parts.clone() {
            let (out, others) = rest.split_at_mut(weights.len());
            layout::interleave(element, weights, width, way.flip(element), out);
            rest = others;
        }
        let parts = parts.map(|(element, weights, rows)| (element, weights.len(), rows)).collect();
        Some(Self { bytes, start, way, parts })
    }

    /// The products with rows of `width` numbers: `out[i * rows + row] = weights[row] . activations[i]`. The same bit for bit for a row
    /// whichever others there are.
    pub(crate) fn multiply(&self, activations: &[f32], width: usize, out: &mut [f32]) {
        let stride = self.parts.iter().map(|(_, _, rows)| rows).sum();
        let activations = Activations::new(activations, width, &Team::alone());
        let (mut weights, mut first) = (&self.bytes[self.start..], 0);
        for &(element, length, rows) in &self.parts {
            self.way.multiply(element, &weights[..length], &activations, &mut out[first..], stride);
            weights = &weights[length..];
            first += rows;
        }
    }
}
