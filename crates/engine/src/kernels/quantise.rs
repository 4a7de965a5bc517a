//! Numbers made into blocks, for the format that a start of the program waits for. The others are the tensor library's.

use half::f16;

use super::math::dispatched;
use super::{GROUP, LANES};

/// Bytes of a block of Q8_0: half-precision scale, then 32 signed bytes, as in `ggml-common.h` of the ggml repository.
const BLOCK_BYTES: usize = 2 + GROUP;

dispatched! {
    /// Blocks of Q8_0, bit for bit those of ggml's `quantize_row_q8_0_ref` and of the tensor library. Numbers beyond the last whole
    /// block are left out.
    pub(crate) fn quantise_q8_0(numbers: &[f32]) -> Vec<u8> = q8_0_body;
}

#[inline(always)]
fn q8_0_body<const FMA: bool>(numbers: &[f32]) -> Vec<u8> {
    let (groups, _) = numbers.as_chunks::<GROUP>();
    let mut bytes = vec![0; groups.len() * BLOCK_BYTES];
    for (block, group) in bytes.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().zip(groups) {
        let mut lanes = [0.0f32; LANES];
        for chunk in group.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                lanes[i] = lanes[i].max(chunk[i].abs());
            }
        }
        let scale = lanes.iter().fold(0.0f32, |a, &b| a.max(b)) / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let (first, values) = block.split_at_mut(2);
        first.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (value, x) in values.iter_mut().zip(group) {
            // By way of 32 bits, to which vectors are converted.
            *value = (x * inverse).round() as i32 as u8;
        }
    }
    bytes
}
