//! Blocks of weights back to f32, in plain Rust. This is the definition that the vector kernels are tested
//! against, the reader of embedding rows, and the fallback on processors without a kernel of their own.
//!
//! Layouts as in `ggml-common.h` of the ggml repository; `d` and `m` are half-precision scale and offset.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::weights::ElementType;

/// Writes the elements of `bytes` to `out`. `bytes` holds exactly `out.len()` elements in whole blocks.
pub(crate) fn dequantise(element: ElementType, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(bytes.len(), element.row_bytes(out.len()));
    match element {
        ElementType::F32 => plain::<4>(bytes, out, f32::from_le_bytes),
        ElementType::F16 => halves(bytes, out),
        ElementType::BF16 => plain::<2>(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        ElementType::Q4_0 => blocks::<18, 32>(bytes, out, q4_0),
        ElementType::Q4_1 => blocks::<20, 32>(bytes, out, q4_1),
        ElementType::Q5_0 => blocks::<22, 32>(bytes, out, q5_0),
        ElementType::Q5_1 => blocks::<24, 32>(bytes, out, q5_1),
        ElementType::Q8_0 => blocks::<34, 32>(bytes, out, q8_0),
        ElementType::Q4K => blocks::<144, 256>(bytes, out, q4_k),
        ElementType::Q5K => blocks::<176, 256>(bytes, out, q5_k),
        ElementType::Q6K => blocks::<210, 256>(bytes, out, q6_k),
    }
}

fn plain<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = convert(*raw);
    }
}

/// Whether the processor widens them itself is looked up once for each few.
fn halves(bytes: &[u8], out: &mut [f32]) {
    const FEW: usize = 256;
    let mut few = [f16::ZERO; FEW];
    for (values, raw) in out.chunks_mut(FEW).zip(bytes.chunks(2 * FEW)) {
        let few = &mut few[..values.len()];
        for (half, raw) in few.iter_mut().zip(raw.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*raw);
        }
        few.convert_to_f32_slice(values);
    }
}

fn blocks<const N: usize, const BLOCK: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; N], &mut [f32; BLOCK]),
) {
    for (raw, values) in bytes.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        block(raw, values);
    }
}

/// The half-precision number at `at`.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `d`, then 16 bytes: element j in the low half of byte j, element j + 16 in its high half, minus 8.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &q) in block[2..].iter().enumerate() {
        out[j] = d * f32::from((q & 15) as i8 - 8);
        out[j + 16] = d * f32::from((q >> 4) as i8 - 8);
    }
}

/// As Q4_0 without the 8, plus an offset `m` after `d`.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &q) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(q & 15) + m;
        out[j + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The fifth bits of 32 elements, element j in bit j.
#[inline(always)]
pub(super) fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// `d`, the fifth bits, then the low four bits as in Q4_0; minus 16.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, high) = (half_at(block, 0), fifth_bits(block, 2));
    for (j, &q) in block[6..].iter().enumerate() {
        let low = i32::from(q & 15) | ((high >> j & 1) << 4) as i32;
        let upper = i32::from(q >> 4) | ((high >> (j + 16) & 1) << 4) as i32;
        out[j] = d * (low - 16) as f32;
        out[j + 16] = d * (upper - 16) as f32;
    }
}

/// As Q5_0 without the 16, plus an offset `m` after `d`.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, high) = (half_at(block, 0), half_at(block, 2), fifth_bits(block, 4));
    for (j, &q) in block[8..].iter().enumerate() {
        let low = u32::from(q & 15) | (high >> j & 1) << 4;
        let upper = u32::from(q >> 4) | (high >> (j + 16) & 1) << 4;
        out[j] = d * low as f32 + m;
        out[j + 16] = d * upper as f32 + m;
    }
}

/// `d`, then 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(q as i8);
    }
}

/// The six-bit scale and offset of group `j` of 8, packed into 12 bytes.
#[inline(always)]
fn scale_and_offset(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4)
    }
}

/// `d`, `dmin`, 12 bytes of scales and offsets for 8 groups of 32, then 128 bytes: each 32 of them hold two groups,
/// the first in the low halves.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale_and_offset(packed, group);
        let (scale, offset) = (d * f32::from(scale), dmin * f32::from(offset));
        let bytes = &block[16 + group / 2 * 32..][..32];
        for (value, &q) in values.iter_mut().zip(bytes) {
            *value = scale * f32::from(q >> (group % 2 * 4) & 15) - offset;
        }
    }
}

/// As Q4_K with 32 bytes of fifth bits before the low four: bit `group` of byte j belongs to element j.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    let high = &block[16..48];
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale_and_offset(packed, group);
        let (scale, offset) = (d * f32::from(scale), dmin * f32::from(offset));
        let bytes = &block[48 + group / 2 * 32..][..32];
        for ((value, &q), &h) in values.iter_mut().zip(bytes).zip(high) {
            let q = q >> (group % 2 * 4) & 15 | (h >> group & 1) << 4;
            *value = scale * f32::from(q) - offset;
        }
    }
}

/// 128 bytes of low halves, 64 of upper two bits, 16 signed scales (one for 16 elements), `d`; minus 32. Each half of
/// the block has four groups of 32: two in the low halves of its 64 bytes, two in the high ones.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, part) = (group / 4, group % 4);
        let low = &block[half * 64 + part % 2 * 32..][..32];
        let high = &block[128 + half * 32..][..32];
        for (j, value) in values.iter_mut().enumerate() {
            let q = low[j] >> (part / 2 * 4) & 15 | (high[j] >> (part * 2) & 3) << 4;
            let scale = block[192 + group * 2 + j / 16] as i8;
            *value = d * f32::from(scale) * f32::from(q as i8 - 32);
        }
    }
}
