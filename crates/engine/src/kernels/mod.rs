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
#[cfg(test)]
mod tests;

pub(crate) use dequantise::dequantise;

use crate::weights::ElementType;

/// Elements that share a scale in quantised activations.
const GROUP: usize = 32;
/// Elements of a vector register.
const LANES: usize = 8;
/// Rows of activations that are multiplied together.
const TILE: usize = 4;

/// Rows of activations, as the kernels for one kind of weights want them.
pub(crate) struct Activations<'a> {
    /// Rows of `width` numbers.
    rows: &'a [f32],
    width: usize,
    packed: Packed,
}

/// Activations in the order in which a kernel reads them.
enum Packed {
    /// As they are.
    None,
    /// Vectors of f32, for plain formats.
    Plain(Tiles<[f32; LANES]>),
    /// Eight-bit groups, for block formats.
    Quantised(Tiles<Group>),
}

/// 32 activations in 8 bits: element = `scale * value`.
#[derive(Clone, Copy)]
struct Group {
    values: [i8; GROUP],
    scale: f32,
    /// Sum of the elements, for formats with an offset.
    sum: f32,
}

/// Rows cut into pieces, the pieces of four rows interleaved. Two or three rows that are left over make a tile with
/// empty rows, a single one stands alone.
struct Tiles<T> {
    /// Piece after piece, for each the four rows; tile after tile.
    tiles: Vec<[T; TILE]>,
    single: Vec<T>,
    /// Pieces in a row.
    pieces: usize,
}

impl<T: Copy> Tiles<T> {
    /// Packs rows of `pieces * N` numbers.
    fn pack<const N: usize>(rows: &[f32], width: usize, empty: T, piece: impl Fn(&[f32; N]) -> T) -> Self {
        let (pieces, count) = (width / N, rows.len() / width);
        let single = count % TILE == 1;
        let tiled = if single { count - 1 } else { count };
        let mut tiles = vec![[empty; TILE]; tiled.div_ceil(TILE) * pieces];
        for (i, row) in rows[..tiled * width].chunks_exact(width).enumerate() {
            let tile = &mut tiles[i / TILE * pieces..][..pieces];
            for (slot, numbers) in tile.iter_mut().zip(row.as_chunks::<N>().0) {
                slot[i % TILE] = piece(numbers);
            }
        }
        let single = rows[tiled * width..].as_chunks::<N>().0.iter().map(piece).collect();
        Self { tiles, single, pieces }
    }
}

impl<'a> Activations<'a> {
    /// Prepares `rows` for weights of type `element`.
    pub(crate) fn new(rows: &'a [f32], width: usize, element: ElementType) -> Self {
        let packed = match kind(element, width) {
            Kind::Portable => Packed::None,
            Kind::Plain => Packed::Plain(Tiles::pack(rows, width, [0.0; LANES], |piece| *piece)),
            Kind::Quantised => Packed::Quantised(math::quantise(rows, width)),
        };
        Self { rows, width, packed }
    }

    /// True when these activations can also be used with weights of type `element`.
    pub(crate) fn suits(&self, element: ElementType) -> bool {
        let have = match self.packed {
            Packed::None => Kind::Portable,
            Packed::Plain(_) => Kind::Plain,
            Packed::Quantised(_) => Kind::Quantised,
        };
        have == kind(element, self.width)
    }

    fn count(&self) -> usize {
        self.rows.len() / self.width
    }
}

/// The ways to multiply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    Plain,
    Quantised,
}

fn kind(element: ElementType, width: usize) -> Kind {
    match (level(), element.is_quantised()) {
        (Level::Avx2, true) => Kind::Quantised,
        (Level::Avx2, false) if width.is_multiple_of(LANES) => Kind::Plain,
        _ => Kind::Portable,
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
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
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
