//! Products of weight rows with activations on the processor, straight from the bytes of the file.
//!
//! On x86-64 with AVX2, FMA and F16C (looked up at run time, so one build serves every machine) block formats are
//! multiplied in integers against activations quantised to 8 bits in groups of 32, and plain formats are widened in
//! registers. Elsewhere a row is dequantised once and multiplied in f32.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod dequantise;
pub(crate) mod math;
mod portable;

pub(crate) use dequantise::dequantise;

use crate::weights::ElementType;

/// Elements that share a scale in quantised activations.
const GROUP: usize = 32;

/// Rows of activations, as the kernels for one weight type want them.
pub(crate) struct Activations<'a> {
    /// Rows of `width` numbers.
    rows: &'a [f32],
    width: usize,
    quantised: Option<Quantised>,
}

/// Activations in 8 bits: element = `scale * value`.
struct Quantised {
    values: Vec<i8>,
    /// One for each group of 32.
    scales: Vec<f32>,
    /// Sum of the group's elements, for formats with an offset.
    sums: Vec<f32>,
}

impl<'a> Activations<'a> {
    /// Prepares `rows` for weights of type `element`.
    pub(crate) fn new(rows: &'a [f32], width: usize, element: ElementType) -> Self {
        let integers = element.is_quantised() && level() == Level::Avx2;
        Self { rows, width, quantised: integers.then(|| Quantised::new(rows)) }
    }

    /// True when these activations can also be used with weights of type `element`.
    pub(crate) fn suits(&self, element: ElementType) -> bool {
        self.quantised.is_some() == (element.is_quantised() && level() == Level::Avx2)
    }

    fn count(&self) -> usize {
        self.rows.len() / self.width
    }
}

impl Quantised {
    fn new(rows: &[f32]) -> Self {
        let groups = rows.len() / GROUP;
        let mut quantised =
            Self { values: vec![0; rows.len()], scales: vec![0.0; groups], sums: vec![0.0; groups] };
        math::quantise(rows, &mut quantised.values, &mut quantised.scales, &mut quantised.sums);
        quantised
    }
}

/// What the processor can do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Portable,
    Avx2,
}

fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
        return Level::Avx2;
    }
    Level::Portable
}

/// Multiplies whole rows of `weights` with every row of activations:
/// `out[row * count + i] = weights[row] . activations[i]`.
#[allow(unsafe_code)]
pub(crate) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    let row_bytes = element.row_bytes(activations.width);
    debug_assert_eq!(weights.len() / row_bytes * activations.count(), out.len());
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` has just found the features that the function is compiled for.
        Level::Avx2 => unsafe { avx2::multiply(element, weights, activations, out) },
        _ => portable::multiply(element, weights, activations, out),
    }
}
