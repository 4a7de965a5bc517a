//! The products where there is no kernel for the processor: dequantise a row, multiply it with every activation.

use super::{Activations, dequantise, math};
use crate::weights::ElementType;

pub(super) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    let width = activations.width;
    let mut row = vec![0.0; width];
    let rows = weights.chunks_exact(element.row_bytes(width));
    for (bytes, results) in rows.zip(out.chunks_exact_mut(activations.count())) {
        dequantise(element, bytes, &mut row);
        for (result, activation) in results.iter_mut().zip(activations.rows.chunks_exact(width)) {
            *result = math::dot(&row, activation);
        }
    }
}
