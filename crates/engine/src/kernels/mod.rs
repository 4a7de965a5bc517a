//! Products of weight rows with activations on the processor, straight from the bytes of the file.
//!
//! On x86-64 with AVX2, FMA and F16C (looked up at run time, so one build serves every machine) block formats are
//! multiplied in integers against activations quantised to 8 bits in groups of 32, and plain formats are widened in
//! registers. So they are on 64-bit ARM, where NEON is always there. Matrices that were put in order for it are multiplied sixteen rows at a
//! time ([`interleaved`]). Elsewhere a row is dequantised once and multiplied in f32.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dequantise;
pub(crate) mod interleaved;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod panels;
mod portable;
mod quantise;
pub(crate) mod space;
#[cfg(test)]
mod tests;

pub(crate) use dequantise::dequantise;
pub(crate) use interleaved::Kept;
pub(crate) use quantise::quantise_q8_0;

use crate::team::Team;
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
    /// The same in larger blocks.
    #[cfg(target_arch = "x86_64")]
    Blocks(Tiles<avx512::Block>),
    /// The same for many rows.
    #[cfg(target_arch = "x86_64")]
    Panels(panels::Activations),
    /// Eight-bit groups, for weights that were interleaved.
    Stripes(interleaved::Activations),
}

/// 32 activations in 8 bits: element = `scale * value`.
#[derive(Clone, Copy)]
struct Group {
    values: [i8; GROUP],
    scale: f32,
    /// Sum of the elements, for formats with an offset.
    sum: f32,
}

/// Rows cut into pieces, the pieces of four rows interleaved, and those of the rows that are left over.
struct Tiles<T> {
    /// Piece after piece, for each the four rows; tile after tile.
    fours: Vec<[T; TILE]>,
    rest: Rest<T>,
    /// Pieces in a row.
    pieces: usize,
}

/// Fewer rows than a tile has, interleaved likewise.
enum Rest<T> {
    None,
    One(Vec<[T; 1]>),
    Two(Vec<[T; 2]>),
    Three(Vec<[T; 3]>),
}

impl<T: Copy> Tiles<T> {
    /// Packs rows of `pieces * N` numbers.
    fn pack<const N: usize>(rows: &[f32], width: usize, empty: T, piece: impl Fn(&[f32; N]) -> T) -> Self {
        let (fours, rest) = rows.split_at(rows.len() / (width * TILE) * width * TILE);
        let rest = match rest.len() / width {
            1 => Rest::One(interleave(rest, width, empty, &piece)),
            2 => Rest::Two(interleave(rest, width, empty, &piece)),
            3 => Rest::Three(interleave(rest, width, empty, &piece)),
            _ => Rest::None,
        };
        Self { fours: interleave(fours, width, empty, &piece), rest, pieces: width / N }
    }
}

/// The pieces of each `X` rows, side by side.
fn interleave<T: Copy, const N: usize, const X: usize>(
    rows: &[f32],
    width: usize,
    empty: T,
    piece: &impl Fn(&[f32; N]) -> T,
) -> Vec<[T; X]> {
    let pieces = width / N;
    let mut tiles = vec![[empty; X]; rows.len() / width / X * pieces];
    for (i, row) in rows.chunks_exact(width).enumerate() {
        let tile = &mut tiles[i / X * pieces..][..pieces];
        for (slot, numbers) in tile.iter_mut().zip(row.as_chunks::<N>().0) {
            slot[i % X] = piece(numbers);
        }
    }
    tiles
}

impl<'a> Activations<'a> {
    /// Prepares `rows` for weights of type `element`, which may have been interleaved.
    pub(crate) fn new(
        rows: &'a [f32],
        width: usize,
        element: ElementType,
        is_interleaved: bool,
        team: &Team,
    ) -> Self {
        Self::of(kind(element, width, rows.len() / width, is_interleaved), rows, width, team)
    }

    fn of(kind: Kind, rows: &'a [f32], width: usize, team: &Team) -> Self {
        let packed = match kind {
            Kind::Portable => Packed::None,
            Kind::Plain => Packed::Plain(Tiles::pack(rows, width, [0.0; LANES], |piece| *piece)),
            Kind::Quantised => Packed::Quantised(math::quantise(rows, width)),
            #[cfg(target_arch = "x86_64")]
            Kind::Blocks => Packed::Blocks(avx512::pack(rows, width)),
            #[cfg(target_arch = "x86_64")]
            Kind::Panels => Packed::Panels(panels::Activations::new(rows, width, team)),
            Kind::Stripes => Packed::Stripes(interleaved::Activations::new(rows, width, team)),
        };
        Self { rows, width, packed }
    }

    /// True when these activations can also be used with weights of type `element`, which may have been interleaved.
    pub(crate) fn suits(&self, element: ElementType, is_interleaved: bool) -> bool {
        let have = match self.packed {
            Packed::None => Kind::Portable,
            Packed::Plain(_) => Kind::Plain,
            Packed::Quantised(_) => Kind::Quantised,
            #[cfg(target_arch = "x86_64")]
            Packed::Blocks(_) => Kind::Blocks,
            #[cfg(target_arch = "x86_64")]
            Packed::Panels(_) => Kind::Panels,
            Packed::Stripes(_) => Kind::Stripes,
        };
        have == kind(element, self.width, self.count(), is_interleaved)
    }

    /// True where [`multiply`] puts the products with one row of activations after those with another, rather than the products
    /// of one row of weights after those of another.
    pub(crate) fn by_activations(&self) -> bool {
        match self.packed {
            #[cfg(target_arch = "x86_64")]
            Packed::Panels(_) => true,
            Packed::Stripes(_) => true,
            _ => false,
        }
    }

    /// Numbers in a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    fn count(&self) -> usize {
        self.rows.len() / self.width
    }
}

/// The ways to multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    Plain,
    Quantised,
    #[cfg(target_arch = "x86_64")]
    Blocks,
    #[cfg(target_arch = "x86_64")]
    Panels,
    /// For weights that were interleaved, and no others.
    Stripes,
}

impl Kind {
    /// From the fastest on.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Panels,
        #[cfg(target_arch = "x86_64")]
        Self::Blocks,
        Self::Quantised,
        Self::Plain,
        Self::Portable,
    ];

    /// Whether `count` rows of activations can be multiplied so with rows of `width` weights.
    fn suits(self, element: ElementType, width: usize, count: usize) -> bool {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = count;
        match self {
            Self::Portable => true,
            _ if level() == Level::Portable => false,
            Self::Plain => !element.is_quantised() && width.is_multiple_of(LANES),
            Self::Quantised => element.is_quantised(),
            #[cfg(target_arch = "x86_64")]
            Self::Blocks => avx512::suit(element, width),
            #[cfg(target_arch = "x86_64")]
            Self::Panels => panels::suit(element, count),
            Self::Stripes => false,
        }
    }
}

/// How `count` rows of activations are multiplied with rows of `width` weights.
fn kind(element: ElementType, width: usize, count: usize, is_interleaved: bool) -> Kind {
    if is_interleaved && !interleaved::makes_panels(element, count) {
        return Kind::Stripes;
    }
    let fastest = Kind::ALL.iter().find(|kind| kind.suits(element, width, count));
    fastest.copied().unwrap_or(Kind::Portable)
}

/// What the processor can do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

fn level() -> Level {
    #[cfg(target_arch = "aarch64")]
    return Level::Neon;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        return Level::Avx2;
    }
    #[cfg(not(target_arch = "aarch64"))]
    Level::Portable
}

/// Queries of one position that share keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// One after the other, `width` numbers each, already scaled.
    pub(crate) queries: &'a [f32],
    /// The key of the position `p` that is seen begins at `keys[p * stride]`, its value at `values[p * stride]`.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

/// Attention of some queries over the positions that they see, at least one. `scores` (scratch) has a number for each query and position,
/// `out` the shape of the queries.
#[allow(unsafe_code)]
pub(crate) fn attend(heads: &Heads<'_>, scores: &mut [f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx2 && heads.width.is_multiple_of(LANES) {
        // SAFETY: `level` has just found the features that the function is compiled for.
        return unsafe { avx2::attention::attend(heads, scores, out) };
    }
    #[cfg(target_arch = "aarch64")]
    if heads.width.is_multiple_of(neon::FOUR) {
        // SAFETY: NEON is there on every processor.
        return unsafe { neon::attention::attend(heads, scores, out) };
    }
    math::attend(heads, scores, out);
}

/// Whether the processor multiplies sixteen times four bytes at once, and has what goes with that.
#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// Rows of activations of which the parts that are multiplied with a [`Kept`] one by one should be a multiple.
pub(crate) const KEPT_ROWS: usize = 6;

/// Rows of weights of which the parts of a matrix that are multiplied one by one should be a multiple.
pub(crate) const PART: usize = 64;

/// Multiplies whole rows of `weights` with every row of activations:
/// `out[row * count + i] = weights[row] . activations[i]`; or `out[i * rows + row]`, see [`Activations::by_activations`]. The weights
/// are interleaved or not as the activations were prepared for.
#[allow(unsafe_code)]
pub(crate) fn multiply(
    element: ElementType,
    weights: &[u8],
    is_interleaved: bool,
    activations: &Activations<'_>,
    out: &mut [f32],
) {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = is_interleaved;
    let row_bytes = element.row_bytes(activations.width);
    debug_assert_eq!(weights.len() / row_bytes * activations.count(), out.len());
    match (level(), &activations.packed) {
        (_, Packed::Stripes(packed)) => {
            let rows = out.len() / activations.count();
            interleaved::multiply(element, weights, packed, out, rows);
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Packed::Panels(packed)) => {
            // SAFETY: `suit` has found the features that the function is compiled for when the activations were packed.
            unsafe { panels::multiply(element, weights, is_interleaved, packed, out) }
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Packed::Blocks(tiles)) => {
            // SAFETY: as above.
            unsafe { avx512::multiply(element, weights, tiles, activations.count(), out) }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` has just found the features that the function is compiled for.
        (Level::Avx2, _) => unsafe { avx2::multiply(element, weights, activations, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: NEON is there on every processor.
        (Level::Neon, _) => unsafe { neon::multiply(element, weights, activations, out) },
        _ => portable::multiply(element, weights, activations, out),
    }
}
