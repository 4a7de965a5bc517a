//! Products of quantised weights with many rows of activations, as prompts have them, on x86-64 with AVX-512 VNNI.
//!
//! The rows of [`super::avx2`] are read in the order of the file, and each 32 weights take as long to scale and add as to
//! multiply. With many rows of activations it is worth putting the weights in another order first, in which a register holds the
//! sums of sixteen rows of weights: these *panels* are made of a few rows at a time, stay in the second-level cache while all
//! activations are multiplied with them, and are then overwritten. So nothing more than the file is kept in memory.
//!
//! The sums are added in another order than by the kernels for few rows, so the last bits differ.

mod fill;

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::GROUP;
use super::avx2::blocks::{Block, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q8_0};
use super::avx2::quantise::biased_quads;
use super::avx512::interleaved::{Format, Q4_0 as Stripes4_0, Q4_1 as Stripes4_1};
use super::interleaved::{cut, q4_k};
use crate::team::Team;
use crate::weights::ElementType;
use fill::{fill, fill_of_blocks, fill_of_stripe};

/// Rows of weights in a panel: 32-bit numbers in a register.
const ROWS: usize = 16;
/// Panels that are multiplied at a time, and rows of activations. The sums of all of them fit the registers, and are enough for
/// the processor to be busy until the first one can be added to again.
const PANELS: usize = 2;
const TILE: usize = 6;
/// Four neighbouring numbers are multiplied and added at once; so many times for a group.
const QUADS: usize = GROUP / 4;

/// Fewer rows of activations than this are multiplied otherwise: putting the weights in order takes longer than it saves.
pub(super) const LEAST: usize = 9;
const _: () = assert!(super::PART.is_multiple_of(ROWS * PANELS), "parts of a matrix are whole panels");

/// The same group of [`TILE`] rows of activations.
#[derive(Clone, Copy)]
struct ActivationGroup {
    /// Four neighbouring bytes of each row. 128 is added to each, as one factor has to be unsigned.
    quads: [[[u8; 4]; TILE]; QUADS],
    scales: [f32; TILE],
    /// Sums of the elements, for formats with an offset.
    sums: [f32; TILE],
}

const NO_ACTIVATIONS: ActivationGroup =
    ActivationGroup { quads: [[[0; 4]; TILE]; QUADS], scales: [0.0; TILE], sums: [0.0; TILE] };

/// Rows of activations, tile after tile; the last one may not be full.
pub(super) struct Activations {
    groups: Vec<ActivationGroup>,
    /// Groups in a row.
    width: usize,
    count: usize,
}

/// A group of [`ROWS`] rows of weights: weight = `scale * value + offset`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct WeightGroup {
    /// Four neighbouring weights of each row.
    quads: [[i8; 4 * ROWS]; QUADS],
    /// What the 128 of the activations adds too much, less than nothing.
    corrections: [i32; ROWS],
    scales: [f32; ROWS],
    offsets: [f32; ROWS],
}

const NO_WEIGHTS: WeightGroup = WeightGroup {
    quads: [[0; 4 * ROWS]; QUADS],
    corrections: [0; ROWS],
    scales: [0.0; ROWS],
    offsets: [0.0; ROWS],
};

/// Groups of activations whose memory is kept: those of a few rows, or of a prompt for a small model. They take a megabyte.
const MOST_PACKED: usize = 1 << 12;

thread_local! {
    /// Where panels are made. It grows to as much as the widest matrix needs: 400 kB for rows of 9,216.
    static PANEL: RefCell<Vec<WeightGroup>> = const { RefCell::new(Vec::new()) };
    /// Memory of activations that were multiplied.
    static PACKED: RefCell<Vec<ActivationGroup>> = const { RefCell::new(Vec::new()) };
}

/// Whether rows of activations, so many, are multiplied here with weights of this type.
pub(super) fn suit(element: ElementType, count: usize) -> bool {
    use ElementType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q8_0};
    count >= LEAST && matches!(element, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4K | Q5K) && super::has_vnni()
}

impl Activations {
    /// Quantises rows of `width` numbers.
    #[allow(unsafe_code)]
    pub(super) fn new(rows: &[f32], width: usize, team: &Team) -> Self {
        let (count, groups) = (rows.len() / width, width / GROUP);
        let tiles = count.div_ceil(TILE);
        // What is left there of others stands in rows that nobody asks for.
        let mut packed = PACKED.take();
        packed.resize(tiles * groups, NO_ACTIVATIONS);
        team.rows(&mut packed, (groups, TILE * width), |first, tiles| {
            // SAFETY: rows are multiplied here only where `suit` has found more than that.
            unsafe { pack(&rows[first * TILE * width..], width, tiles) }
        });
        Self { groups: packed, width: groups, count }
    }

    /// The first group of the first row: bytes, scale and sum.
    #[cfg(test)]
    pub(super) fn first_group(&self) -> ([u8; GROUP], f32, f32) {
        let group = &self.groups[0];
        let bytes = std::array::from_fn(|i| group.quads[i / 4][0][i % 4]);
        (bytes, group.scales[0], group.sums[0])
    }
}

/// Quantises the first rows of `width` numbers into tiles, as many as these hold.
#[target_feature(enable = "avx2,fma")]
fn pack(rows: &[f32], width: usize, tiles: &mut [ActivationGroup]) {
    let tiles = tiles.chunks_exact_mut(width / GROUP);
    for (tile, rows) in tiles.zip(rows.chunks(width * TILE)) {
        for (x, row) in rows.chunks_exact(width).enumerate() {
            for (into, numbers) in tile.iter_mut().zip(row.as_chunks::<GROUP>().0) {
                let (quads, scale, sum) = biased_quads(numbers);
                for (quad, four) in into.quads.iter_mut().zip(quads) {
                    quad[x] = four;
                }
                into.scales[x] = scale;
                into.sums[x] = sum;
            }
        }
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        if self.groups.len() <= MOST_PACKED {
            // Where the thread ends, so does what it keeps.
            let _ = PACKED.try_with(|packed| packed.replace(std::mem::take(&mut self.groups)));
        }
    }
}

/// Multiplies whole rows of `weights` with every row of activations: `out[i * rows + row] = weights[row] . activations[i]`. This
/// is another order than that of [`super::multiply`] for fewer activations.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(
    element: ElementType,
    weights: &[u8],
    is_interleaved: bool,
    activations: &Activations,
    out: &mut [f32],
) {
    match element {
        _ if is_interleaved => multiply_interleaved(element, weights, activations, out),
        ElementType::Q4_0 => rows::<Q4_0, 18, false>(weights, activations, out),
        ElementType::Q4_1 => rows::<Q4_1, 20, true>(weights, activations, out),
        ElementType::Q5_0 => rows::<Q5_0, 22, false>(weights, activations, out),
        ElementType::Q5_1 => rows::<Q5_1, 24, true>(weights, activations, out),
        ElementType::Q8_0 => rows::<Q8_0, 34, false>(weights, activations, out),
        ElementType::Q4K => rows::<Q4K, 144, true>(weights, activations, out),
        ElementType::Q5K => rows::<Q5K, 176, true>(weights, activations, out),
        _ => debug_assert!(false, "no panels are made of {element:?}"),
    }
}

/// The same of stripes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_interleaved(element: ElementType, weights: &[u8], activations: &Activations, out: &mut [f32]) {
    match element {
        ElementType::Q4_0 => stripes::<Stripes4_0, 32, 256, false>(weights, activations, out),
        ElementType::Q4_1 => stripes::<Stripes4_1, 64, 256, true>(weights, activations, out),
        ElementType::Q4K => {
            let weights = q4_k::blocks(weights);
            let blocks = activations.width * GROUP / super::avx512::BLOCK;
            products::<true>(weights.len() / blocks * ROWS, activations, out, |row, panel| {
                fill_of_blocks(&weights[row / ROWS * blocks..][..blocks], panel);
            });
        }
        _ => debug_assert!(false, "no panels are made of stripes of {element:?}"),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn stripes<F: Format<S, V>, const S: usize, const V: usize, const OFFSET: bool>(
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
) {
    let length = activations.width * (S + V);
    products::<OFFSET>(weights.len() / length * ROWS, activations, out, |row, panel| {
        fill_of_stripe::<F, S, V>(&cut(&weights[row / ROWS * length..][..length], activations.width), panel);
    });
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows<F: Block<N>, const N: usize, const OFFSET: bool>(
    weights: &[u8],
    activations: &Activations,
    out: &mut [f32],
) {
    let chunks = activations.width / F::GROUPS;
    let weights = weights.as_chunks::<N>().0;
    products::<OFFSET>(weights.len() / chunks, activations, out, |row, panel| {
        fill::<F, N>(&weights[row * chunks..], chunks, panel);
    });
}

/// The products of all rows of weights, of which `fill` makes the panel that begins with a certain one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const OFFSET: bool>(
    rows: usize,
    activations: &Activations,
    out: &mut [f32],
    fill: impl Fn(usize, &mut [WeightGroup]),
) {
    let width = activations.width;
    PANEL.with_borrow_mut(|panel| {
        if panel.len() < width * PANELS {
            panel.resize(width * PANELS, NO_WEIGHTS);
        }
        let (first, second) = panel[..width * PANELS].split_at_mut(width);
        for start in (0..rows).step_by(ROWS * PANELS) {
            let end = rows.min(start + ROWS * PANELS);
            fill(start, first);
            if end > start + ROWS {
                fill(start + ROWS, second);
            }
            let panels = [&*first, &*second];
            for (i, tile) in activations.groups.chunks_exact(width).enumerate() {
                let wanted = TILE.min(activations.count - i * TILE);
                let put = |panel: usize, x: usize, sums: [f32; ROWS]| {
                    let from = start + panel * ROWS;
                    let valid = ROWS.min(end.saturating_sub(from));
                    if x < wanted && valid > 0 {
                        let out = &mut out[(i * TILE + x) * rows + from..];
                        match out.first_chunk_mut::<ROWS>() {
                            Some(out) if valid == ROWS => *out = sums,
                            _ => out[..valid].copy_from_slice(&sums[..valid]),
                        }
                    }
                };
                match (end > start + ROWS, wanted) {
                    (true, TILE) => tile_sums::<PANELS, TILE, OFFSET>(panels, tile, put),
                    (true, 3..) => tile_sums::<PANELS, 5, OFFSET>(panels, tile, put),
                    (true, _) => tile_sums::<PANELS, 2, OFFSET>(panels, tile, put),
                    (false, _) => tile_sums::<1, TILE, OFFSET>([first], tile, put),
                }
            }
        }
    });
}

/// The products of `P` panels with the first `X` rows of a tile, which `put` gets: panel, row, and the products with the rows of
/// weights.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile_sums<const P: usize, const X: usize, const OFFSET: bool>(
    panels: [&[WeightGroup]; P],
    tile: &[ActivationGroup],
    mut put: impl FnMut(usize, usize, [f32; ROWS]),
) {
    let mut sums = [[_mm512_setzero_ps(); P]; X];
    // Said before the loop, so that it needs no bounds checks.
    if panels.iter().any(|panel| panel.len() < tile.len()) {
        return;
    }
    for (g, activations) in tile.iter().enumerate() {
        let groups = panels.map(|panel| &panel[g]);
        let mut integers = [[_mm512_setzero_si512(); P]; X];
        for of_row in &mut integers {
            for (integer, group) in of_row.iter_mut().zip(groups) {
                *integer = load16i(&group.corrections);
            }
        }
        for (q, fours) in activations.quads.iter().enumerate() {
            let mut weights = [_mm512_setzero_si512(); P];
            for (weights, group) in weights.iter_mut().zip(groups) {
                *weights = load(&group.quads[q]);
            }
            for (of_row, four) in integers.iter_mut().zip(fours) {
                let four = _mm512_set1_epi32(i32::from_le_bytes(*four));
                for (integer, weights) in of_row.iter_mut().zip(weights) {
                    *integer = _mm512_dpbusd_epi32(*integer, four, weights);
                }
            }
        }
        for (x, (of_row, integers)) in sums.iter_mut().zip(integers).enumerate() {
            let (scale, total) = (_mm512_set1_ps(activations.scales[x]), _mm512_set1_ps(activations.sums[x]));
            for ((sum, integer), group) in of_row.iter_mut().zip(integers).zip(groups) {
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(integer), load16f(&group.scales));
                *sum = _mm512_fmadd_ps(products, scale, *sum);
                if OFFSET {
                    *sum = _mm512_fmadd_ps(load16f(&group.offsets), total, *sum);
                }
            }
        }
    }
    for (x, of_row) in sums.into_iter().enumerate() {
        for (p, sum) in of_row.into_iter().enumerate() {
            put(p, x, store16f(sum));
        }
    }
}

// ---- loads and stores: the only places where memory is touched through pointers ---------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load16i(numbers: &[i32; 16]) -> __m512i {
    // SAFETY: sixteen numbers are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn load16f(numbers: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen numbers are readable behind the reference, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
fn store16f(numbers: __m512) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: sixteen numbers are writable behind the reference, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), numbers) };
    out
}
