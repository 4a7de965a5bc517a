//! From the order of a file into that of stripes.

use super::{ROWS, WORDS};
use crate::weights::ElementType;

/// Bytes of scale and offset at the beginning of a block that are no whole word; `None` for formats that have no other order.
/// The layouts of blocks are spelled out in [`mod@super::super::dequantise`].
pub(super) fn head(element: ElementType) -> Option<usize> {
    match element {
        ElementType::Q4K => Some(0),
        ElementType::Q4_0 | ElementType::Q8_0 => Some(2),
        ElementType::Q4_1 => Some(4),
        _ => None,
    }
}

/// As [`super::interleave`]. `flip` turns bits of each byte of values.
pub(super) fn interleave(element: ElementType, weights: &[u8], width: usize, flip: u8, out: &mut [u8]) {
    let Some(head) = head(element) else { return };
    let block = element.row_bytes(element.block());
    let row = element.row_bytes(width);
    for (rows, out) in weights.chunks_exact(row * ROWS).zip(out.chunks_exact_mut(row * ROWS)) {
        let (heads, words) = out.split_at_mut(row / block * head * ROWS);
        let (mut heads, mut words) =
            (heads.as_chunks_mut::<{ 2 * ROWS }>().0.iter_mut(), words.as_chunks_mut::<WORDS>().0.iter_mut());
        for first in (0..row).step_by(block) {
            let blocks: [&[u8]; ROWS] = std::array::from_fn(|r| &rows[r * row + first..][..block]);
            for (at, halves) in (0..head).step_by(2).zip(&mut heads) {
                for (half, block) in halves.as_chunks_mut::<2>().0.iter_mut().zip(blocks) {
                    half.copy_from_slice(&block[at..at + 2]);
                }
            }
            for (at, word_of_each) in (head..block).step_by(4).zip(&mut words) {
                for (word, block) in word_of_each.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
                    word.copy_from_slice(&block[at..at + 4]);
                    *word = word.map(|byte| byte ^ flip);
                }
            }
        }
    }
}
