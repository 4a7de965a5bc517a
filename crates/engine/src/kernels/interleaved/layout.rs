//! From the order of a file into that of stripes.

use std::ops::Range;

use super::{ROWS, WORDS};
use crate::weights::ElementType;

/// Where the parts of a block stand, in bytes. The layouts of blocks are spelled out in [`mod@super::super::dequantise`].
pub(super) struct Layout {
    /// Half-precision numbers, which are no whole words.
    halves: Range<usize>,
    pub(super) words: Range<usize>,
}

/// `None` for formats that have no other order.
pub(super) fn layout(element: ElementType) -> Option<Layout> {
    match element {
        ElementType::Q4_0 => Some(Layout { halves: 0..2, words: 2..18 }),
        ElementType::Q4_1 => Some(Layout { halves: 0..4, words: 4..20 }),
        ElementType::Q8_0 => Some(Layout { halves: 0..2, words: 2..34 }),
        ElementType::Q4K => Some(Layout { halves: 0..0, words: 0..144 }),
        ElementType::Q6K => Some(Layout { halves: 208..210, words: 0..208 }),
        _ => None,
    }
}

/// As [`super::interleave`]. `flip` turns bits of each byte of values.
pub(super) fn interleave(element: ElementType, weights: &[u8], width: usize, flip: u8, out: &mut [u8]) {
    let Some(layout) = layout(element) else { return };
    let block = element.row_bytes(element.block());
    let row = element.row_bytes(width);
    for (rows, out) in weights.chunks_exact(row * ROWS).zip(out.chunks_exact_mut(row * ROWS)) {
        let (halves, words) = out.split_at_mut(row / block * layout.halves.len() * ROWS);
        let mut halves = halves.as_chunks_mut::<{ 2 * ROWS }>().0.iter_mut();
        let mut words = words.chunks_exact_mut(layout.words.len() * ROWS);
        for first in (0..row).step_by(block) {
            let blocks: [&[u8]; ROWS] = std::array::from_fn(|r| &rows[r * row + first..][..block]);
            for (at, half_of_each) in layout.halves.clone().step_by(2).zip(&mut halves) {
                for (half, block) in half_of_each.as_chunks_mut::<2>().0.iter_mut().zip(blocks) {
                    half.copy_from_slice(&block[at..at + 2]);
                }
            }
            match (element, words.next()) {
                (_, None) => {}
                (ElementType::Q6K, Some(out)) => words_of_q6_k(blocks, out),
                (_, Some(out)) => words_of(blocks, layout.words.clone(), flip, out),
            }
        }
    }
}

/// The words at these bytes of each block.
fn words_of(blocks: [&[u8]; ROWS], words: Range<usize>, flip: u8, out: &mut [u8]) {
    for (at, word_of_each) in words.step_by(4).zip(out.as_chunks_mut::<WORDS>().0) {
        for (word, block) in word_of_each.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
            word.copy_from_slice(&block[at..at + 4]);
            *word = word.map(|byte| byte ^ flip);
        }
    }
}

/// The scales of each row side by side, first those of the first halves of all groups; then the values, which are six bits wide: of
/// four neighbouring groups, four values of each are in three words. The first three groups have the low six bits of a word's bytes, and the
/// fourth has what is left of them, its low bits first. That is how they are taken apart with the fewest instructions.
fn words_of_q6_k(blocks: [&[u8]; ROWS], out: &mut [u8]) {
    let (scales, values) = out.split_at_mut(16 * ROWS);
    for (row, block) in blocks.into_iter().enumerate() {
        for (i, of_rows) in scales.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            of_rows[row] = block[192 + i];
        }
        // Number `at` of the 32 of a group.
        let value = |group: usize, at: usize| {
            let (half, part) = (group / 4, group % 4);
            let low = block[half * 64 + part % 2 * 32 + at] >> (part / 2 * 4) & 15;
            low | (block[128 + half * 32 + at] >> (part * 2) & 3) << 4
        };
        for (i, words) in values.as_chunks_mut::<{ 3 * WORDS }>().0.iter_mut().enumerate() {
            // Half of four groups is in four times three words.
            let (first_group, first) = (i / 8 * 4, i % 8 * 4);
            for k in 0..4 {
                let fourth = value(first_group + 3, first + k);
                for (w, word) in words.as_chunks_mut::<WORDS>().0.iter_mut().enumerate() {
                    let bits = fourth >> (2 * w) & 3;
                    word[4 * row + k] = value(first_group + w, first + k) | bits << 6;
                }
            }
        }
    }
}
