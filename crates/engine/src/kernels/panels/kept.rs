//! Matrices that stay in panels as long as their model does.
//!
//! They take a third more memory than their file, and no time to be put in order. So a single row of activations is multiplied with
//! them many times as fast as with the rows of the file, which needs a sum across a register for each product.

use super::super::avx2::blocks::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q8_0};
use super::fill::fill;
use super::{Activations, LEAST, NO_WEIGHTS, ROWS, TILE, WeightGroup, suit, tile_sums};
use crate::kernels::GROUP;
use crate::weights::ElementType;

/// Panels that are multiplied with up to so many rows of activations at a time. With more rows the registers hold the sums of half
/// as many.
const PANELS: usize = 4;
const FEW: usize = 3;

/// One or more matrices of equal width, whose rows follow each other.
pub(in super::super) struct Kept {
    /// Panel after panel.
    groups: Vec<WeightGroup>,
    /// Groups in a row.
    width: usize,
    rows: usize,
    has_offsets: bool,
}

impl Kept {
    /// `None` where the processor can't multiply so, or the matrices are no whole panels. `parts` are format, bytes and rows.
    pub(in super::super) fn new<'a>(
        parts: impl Iterator<Item = (ElementType, &'a [u8], usize)> + Clone,
        width: usize,
    ) -> Option<Self> {
        let fits = |(element, _, rows): (ElementType, &[u8], usize)| {
            suit(element, LEAST)
                && rows.is_multiple_of(ROWS)
                && width.is_multiple_of(element.block())
                && rows > 0
        };
        if !parts.clone().all(fits) || !width.is_multiple_of(GROUP) || width == 0 {
            return None;
        }
        let rows = parts.clone().map(|(_, _, rows)| rows).sum();
        let mut kept = Self {
            groups: vec![NO_WEIGHTS; rows / ROWS * (width / GROUP)],
            width: width / GROUP,
            rows,
            has_offsets: false,
        };
        let mut panels = kept.groups.chunks_exact_mut(kept.width);
        for (element, bytes, rows) in parts {
            let row_bytes = element.row_bytes(width);
            kept.has_offsets |= !matches!(element, ElementType::Q4_0 | ElementType::Q5_0 | ElementType::Q8_0);
            for (bytes, panel) in bytes.chunks_exact(row_bytes * ROWS).zip(panels.by_ref().take(rows / ROWS))
            {
                make(element, bytes, panel);
            }
        }
        Some(kept)
    }

    /// Multiplies all rows with some of the rows of activations: `out[i * rows + row]`, as [`super::multiply`].
    #[allow(unsafe_code)]
    pub(in super::super) fn multiply(&self, activations: &Activations, out: &mut [f32]) {
        // SAFETY: `new` has found the features that this is compiled for.
        unsafe {
            if self.has_offsets {
                products::<true>(self, activations, out);
            } else {
                products::<false>(self, activations, out);
            }
        }
    }
}

/// Puts sixteen rows in order.
#[allow(unsafe_code)]
fn make(element: ElementType, bytes: &[u8], panel: &mut [WeightGroup]) {
    macro_rules! filled {
        ($format:ident, $bytes:literal) => {{
            let weights = bytes.as_chunks::<$bytes>().0;
            // SAFETY: `new` has found the features that this is compiled for.
            unsafe { fill::<$format, $bytes>(weights, weights.len() / ROWS, panel) }
        }};
    }
    match element {
        ElementType::Q4_0 => filled!(Q4_0, 18),
        ElementType::Q4_1 => filled!(Q4_1, 20),
        ElementType::Q5_0 => filled!(Q5_0, 22),
        ElementType::Q5_1 => filled!(Q5_1, 24),
        ElementType::Q8_0 => filled!(Q8_0, 34),
        ElementType::Q4K => filled!(Q4K, 144),
        ElementType::Q5K => filled!(Q5K, 176),
        _ => debug_assert!(false, "no panels are made of {element:?}"),
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const OFFSET: bool>(kept: &Kept, activations: &Activations, out: &mut [f32]) {
    let (width, rows) = (kept.width, kept.rows);
    for (number, panels) in kept.groups.chunks(width * PANELS).enumerate() {
        let panel = |i: usize| &panels[i * width..][..width];
        for (i, tile) in activations.groups.chunks_exact(width).enumerate() {
            let mut put_at = |first: usize, x: usize, sums: [f32; ROWS]| {
                out[(i * TILE + x) * rows + (number * PANELS + first) * ROWS..][..ROWS]
                    .copy_from_slice(&sums);
            };
            let wanted = TILE.min(activations.count - i * TILE);
            if panels.len() == width * PANELS && wanted <= FEW {
                let all = [panel(0), panel(1), panel(2), panel(3)];
                match wanted {
                    1 => tile_sums::<PANELS, 1, OFFSET>(all, tile, put_at),
                    2 => tile_sums::<PANELS, 2, OFFSET>(all, tile, put_at),
                    _ => tile_sums::<PANELS, FEW, OFFSET>(all, tile, put_at),
                }
                continue;
            }
            for first in (0..panels.len() / width).step_by(2) {
                let put = |p: usize, x: usize, sums: [f32; ROWS]| {
                    if x < wanted {
                        put_at(first + p, x, sums);
                    }
                };
                match (panels.len() / width - first, wanted) {
                    (1, _) => tile_sums::<1, TILE, OFFSET>([panel(first)], tile, put),
                    (_, 1..=4) => tile_sums::<2, 4, OFFSET>([panel(first), panel(first + 1)], tile, put),
                    (_, 5) => tile_sums::<2, 5, OFFSET>([panel(first), panel(first + 1)], tile, put),
                    _ => tile_sums::<2, TILE, OFFSET>([panel(first), panel(first + 1)], tile, put),
                }
            }
        }
    }
}
