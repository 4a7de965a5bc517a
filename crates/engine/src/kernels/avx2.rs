//! Vector kernels for x86-64 with AVX2, FMA and F16C.
//!
//! A block format says how 32 elements are unpacked into bytes, with their scale and offset ([`Block`]); a plain
//! format says how 8 elements are widened ([`Plain`]). The two loops over rows are written once for each kind.

use std::arch::x86_64::*;

use super::dequantise::{fifth_bits, scale_and_offset};
use super::{Activations, GROUP, Quantised};
use crate::weights::ElementType;

/// Activations that share one unpacking of a row of weights: as many as leave the unpacked values in registers.
const TILE: usize = 4;

/// As [`super::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    match (element, &activations.quantised) {
        (ElementType::F32, _) => plain::<F32, 4>(weights, activations, out),
        (ElementType::F16, _) => plain::<F16, 2>(weights, activations, out),
        (ElementType::BF16, _) => plain::<BF16, 2>(weights, activations, out),
        (ElementType::Q4_0, Some(q)) => blocks::<Q4_0, 18>(weights, q, activations, out),
        (ElementType::Q4_1, Some(q)) => blocks::<Q4_1, 20>(weights, q, activations, out),
        (ElementType::Q5_0, Some(q)) => blocks::<Q5_0, 22>(weights, q, activations, out),
        (ElementType::Q5_1, Some(q)) => blocks::<Q5_1, 24>(weights, q, activations, out),
        (ElementType::Q8_0, Some(q)) => blocks::<Q8_0, 34>(weights, q, activations, out),
        (ElementType::Q4K, Some(q)) => blocks::<Q4K, 144>(weights, q, activations, out),
        (ElementType::Q5K, Some(q)) => blocks::<Q5K, 176>(weights, q, activations, out),
        (ElementType::Q6K, Some(q)) => blocks::<Q6K, 210>(weights, q, activations, out),
        (_, None) => super::portable::multiply(element, weights, activations, out),
    }
}

// ---- loads: the only places where memory is touched through pointers -------------------------------------------

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn load32i(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are readable behind the reference, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn load8f(values: &[f32; 8]) -> __m256 {
    // SAFETY: eight numbers are readable behind the reference, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// The `N` bytes from `at` on, which lie inside `block`: offsets are constants of the formats.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    // The slice has N bytes, so the first chunk is all of it.
    &block[at..at + N].as_chunks::<N>().0[0]
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(v: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
}

// ---- plain formats ---------------------------------------------------------------------------------------------

trait Plain<const N: usize> {
    /// Eight elements.
    fn widen(bytes: &[[u8; N]; 8]) -> __m256;
    /// One element.
    fn one(bytes: [u8; N]) -> f32;
}

struct F32;
struct F16;
struct BF16;

impl Plain<4> for F32 {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn widen(bytes: &[[u8; 4]; 8]) -> __m256 {
        // SAFETY: 32 bytes are readable behind the reference, the load needs no alignment, and only `multiply`,
        // which is compiled for AVX2, gets here.
        unsafe { _mm256_castsi256_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    fn one(bytes: [u8; 4]) -> f32 {
        f32::from_le_bytes(bytes)
    }
}

impl Plain<2> for F16 {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn widen(bytes: &[[u8; 2]; 8]) -> __m256 {
        // SAFETY: as for F32, with 16 bytes and F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    fn one(bytes: [u8; 2]) -> f32 {
        half::f16::from_le_bytes(bytes).to_f32()
    }
}

impl Plain<2> for BF16 {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn widen(bytes: &[[u8; 2]; 8]) -> __m256 {
        // SAFETY: as for F32, with 16 bytes. A bf16 is the upper half of an f32.
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }

    fn one(bytes: [u8; 2]) -> f32 {
        half::bf16::from_le_bytes(bytes).to_f32()
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn plain<P: Plain<N>, const N: usize>(weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    let (width, count) = (activations.width, activations.count());
    for (row, results) in weights.chunks_exact(width * N).zip(out.chunks_exact_mut(count)) {
        let row = row.as_chunks::<N>().0;
        let mut tiles = activations.rows.chunks_exact(width * TILE);
        let mut results = results.chunks_exact_mut(TILE);
        for (tile, results) in (&mut tiles).zip(&mut results) {
            let rows: [&[f32]; TILE] = std::array::from_fn(|i| &tile[i * width..(i + 1) * width]);
            results.copy_from_slice(&plain_tile::<P, N, TILE>(row, rows));
        }
        for (tile, result) in tiles.remainder().chunks_exact(width).zip(results.into_remainder()) {
            [*result] = plain_tile::<P, N, 1>(row, [tile]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn plain_tile<P: Plain<N>, const N: usize, const ROWS: usize>(
    weights: &[[u8; N]],
    rows: [&[f32]; ROWS],
) -> [f32; ROWS] {
    // Two accumulators for each row hide the latency of the additions where there are few rows.
    let mut even = [_mm256_setzero_ps(); ROWS];
    let mut odd = [_mm256_setzero_ps(); ROWS];
    let (chunks, tail) = weights.as_chunks::<8>();
    let activations = rows.map(|row| row.as_chunks::<8>().0);
    let (pairs, last) = chunks.as_chunks::<2>();
    for (i, [first, second]) in pairs.iter().enumerate() {
        let (first, second) = (P::widen(first), P::widen(second));
        for t in 0..ROWS {
            even[t] = _mm256_fmadd_ps(first, load8f(&activations[t][2 * i]), even[t]);
            odd[t] = _mm256_fmadd_ps(second, load8f(&activations[t][2 * i + 1]), odd[t]);
        }
    }
    if let [last] = last {
        let last = P::widen(last);
        for t in 0..ROWS {
            even[t] = _mm256_fmadd_ps(last, load8f(&activations[t][2 * pairs.len()]), even[t]);
        }
    }
    let mut result = [0.0; ROWS];
    for t in 0..ROWS {
        result[t] = sum(_mm256_add_ps(even[t], odd[t]));
        for (&weight, &x) in tail.iter().zip(&rows[t][chunks.len() * 8..]) {
            result[t] += P::one(weight) * x;
        }
    }
    result
}

// ---- block formats ---------------------------------------------------------------------------------------------

/// 32 unpacked weights: `scale * value + offset`, the values unsigned or signed as the format says.
#[derive(Clone, Copy)]
struct Unpacked {
    values: __m256i,
    scale: f32,
    offset: f32,
    /// Factors of the sixteen sums of neighbouring products: ones, unless a group's halves have their own scales.
    pair_scales: __m256i,
}

impl Unpacked {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: __m256i, scale: f32, offset: f32) -> Self {
        Self { values, scale, offset, pair_scales: _mm256_set1_epi16(1) }
    }
}

trait Block<const N: usize> {
    /// Groups of 32 elements in a block.
    const GROUPS: usize;
    /// True when the values are signed.
    const SIGNED: bool;
    /// True when there is an offset.
    const OFFSET: bool;

    /// Group `group` of the block. Called only from code compiled for AVX2.
    fn unpack(block: &[u8; N], group: usize) -> Unpacked;
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn blocks<B: Block<N>, const N: usize>(
    weights: &[u8],
    quantised: &Quantised,
    activations: &Activations<'_>,
    out: &mut [f32],
) {
    let count = activations.count();
    let groups = activations.width / GROUP;
    let row_blocks = groups / B::GROUPS;
    let values = quantised.values.as_chunks::<GROUP>().0;
    let row = |t: usize| Row {
        values: &values[t * groups..(t + 1) * groups],
        scales: &quantised.scales[t * groups..(t + 1) * groups],
        sums: &quantised.sums[t * groups..(t + 1) * groups],
    };
    for (weights, results) in weights.as_chunks::<N>().0.chunks_exact(row_blocks).zip(out.chunks_exact_mut(count)) {
        let (tiles, rest) = results.as_chunks_mut::<TILE>();
        let tiled = tiles.len() * TILE;
        for (i, results) in tiles.iter_mut().enumerate() {
            *results = block_tile::<B, N, TILE>(weights, std::array::from_fn(|t| row(i * TILE + t)));
        }
        for (i, result) in rest.iter_mut().enumerate() {
            [*result] = block_tile::<B, N, 1>(weights, [row(tiled + i)]);
        }
    }
}

/// One row of quantised activations.
#[derive(Clone, Copy)]
struct Row<'a> {
    values: &'a [[i8; GROUP]],
    scales: &'a [f32],
    sums: &'a [f32],
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn block_tile<B: Block<N>, const N: usize, const ROWS: usize>(
    weights: &[[u8; N]],
    rows: [Row<'_>; ROWS],
) -> [f32; ROWS] {
    let groups = weights.len() * B::GROUPS;
    // Equal lengths, said once, so that the loop below needs no bounds checks.
    let rows = rows.map(|row| Row {
        values: &row.values[..groups],
        scales: &row.scales[..groups],
        sums: &row.sums[..groups],
    });
    let mut sums = [_mm256_setzero_ps(); ROWS];
    let mut offsets = [0.0f32; ROWS];
    for (b, block) in weights.iter().enumerate() {
        for group in 0..B::GROUPS {
            let g = b * B::GROUPS + group;
            let weight = B::unpack(block, group);
            let magnitude = if B::SIGNED { _mm256_abs_epi8(weight.values) } else { weight.values };
            for t in 0..ROWS {
                let x = load32i(&rows[t].values[g]);
                // Unsigned times signed bytes, neighbours added in 16 bits: at most 2 * 128 * 127, which fits.
                let x = if B::SIGNED { _mm256_sign_epi8(x, weight.values) } else { x };
                let pairs = _mm256_maddubs_epi16(magnitude, x);
                let quads = _mm256_madd_epi16(pairs, weight.pair_scales);
                let scale = _mm256_set1_ps(weight.scale * rows[t].scales[g]);
                sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(quads), scale, sums[t]);
                if B::OFFSET {
                    offsets[t] += weight.offset * rows[t].sums[g];
                }
            }
        }
    }
    let mut result = offsets;
    for t in 0..ROWS {
        result[t] += sum(sums[t]);
    }
    result
}

/// The half-precision number at `at`. The conversion of the `half` crate asks for the processor's features each time.
#[inline]
#[target_feature(enable = "f16c")]
fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*part::<2>(block, at));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// Sixteen bytes to 32 values of four bits: low halves first.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let bytes = load16(bytes);
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Thirty-two bits to bytes of 16 or 0.
#[inline]
#[target_feature(enable = "avx2")]
fn spread_bits(bits: u32) -> __m256i {
    // Byte j gets the byte that holds bit j; then all but bit j % 8 is masked.
    let index = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), index);
    let mask = _mm256_set1_epi64x(0x8040201008040201u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

/// Implements [`Block`] with a body that is compiled for AVX2.
macro_rules! block_format {
    ($name:ident, $bytes:literal, groups: $groups:literal, signed: $signed:literal, offset: $offset:literal,
     $unpack:ident) => {
        struct $name;

        impl Block<$bytes> for $name {
            const GROUPS: usize = $groups;
            const SIGNED: bool = $signed;
            const OFFSET: bool = $offset;

            #[inline(always)]
            #[allow(unsafe_code)]
            fn unpack(block: &[u8; $bytes], group: usize) -> Unpacked {
                // SAFETY: only `multiply`, which is compiled for AVX2, gets here.
                unsafe { $unpack(block, group) }
            }
        }
    };
}

block_format!(Q4_0, 18, groups: 1, signed: false, offset: true, q4_0);
block_format!(Q4_1, 20, groups: 1, signed: false, offset: true, q4_1);
block_format!(Q5_0, 22, groups: 1, signed: false, offset: true, q5_0);
block_format!(Q5_1, 24, groups: 1, signed: false, offset: true, q5_1);
block_format!(Q8_0, 34, groups: 1, signed: true, offset: false, q8_0);
block_format!(Q4K, 144, groups: 8, signed: false, offset: true, q4_k);
block_format!(Q5K, 176, groups: 8, signed: false, offset: true, q5_k);
block_format!(Q6K, 210, groups: 8, signed: true, offset: false, q6_k);

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_0(block: &[u8; 18], _: usize) -> Unpacked {
    let d = half_at(block, 0);
    Unpacked::new(nibbles(part(block, 2)), d, -8.0 * d)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_1(block: &[u8; 20], _: usize) -> Unpacked {
    Unpacked::new(nibbles(part(block, 4)), half_at(block, 0), half_at(block, 2))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q5_0(block: &[u8; 22], _: usize) -> Unpacked {
    let d = half_at(block, 0);
    let values = _mm256_or_si256(nibbles(part(block, 6)), spread_bits(fifth_bits(block, 2)));
    Unpacked::new(values, d, -16.0 * d)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q5_1(block: &[u8; 24], _: usize) -> Unpacked {
    let values = _mm256_or_si256(nibbles(part(block, 8)), spread_bits(fifth_bits(block, 4)));
    Unpacked::new(values, half_at(block, 0), half_at(block, 2))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q8_0(block: &[u8; 34], _: usize) -> Unpacked {
    Unpacked::new(load32(part(block, 2)), half_at(block, 0), 0.0)
}

/// The low or high halves of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: &[u8; 32], high: bool) -> __m256i {
    let bytes = load32(bytes);
    let shifted = if high { _mm256_srli_epi16::<4>(bytes) } else { bytes };
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_k(block: &[u8; 144], group: usize) -> Unpacked {
    let (scale, offset) = scale_and_offset(&block[4..16], group);
    let values = halves(part(block, 16 + group / 2 * 32), group % 2 == 1);
    Unpacked::new(values, half_at(block, 0) * f32::from(scale), -half_at(block, 2) * f32::from(offset))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q5_k(block: &[u8; 176], group: usize) -> Unpacked {
    let (scale, offset) = scale_and_offset(&block[4..16], group);
    let low = halves(part(block, 48 + group / 2 * 32), group % 2 == 1);
    let bit = _mm256_set1_epi8((1u8 << group) as i8);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(load32(part(block, 16)), bit), bit);
    let values = _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16)));
    Unpacked::new(values, half_at(block, 0) * f32::from(scale), -half_at(block, 2) * f32::from(offset))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q6_k(block: &[u8; 210], group: usize) -> Unpacked {
    let (half, quarter) = (group / 4, group % 4);
    let low = halves(part(block, half * 64 + quarter % 2 * 32), quarter >= 2);
    let high = load32(part(block, 128 + half * 32));
    // Shifting 16-bit lanes moves bits across bytes, into positions that the mask then clears.
    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(quarter as i32 * 2));
    let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
    let values = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
    let scale = |at: usize| i16::from(block[192 + group * 2 + at] as i8);
    let pair_scales = _mm256_set_m128i(_mm_set1_epi16(scale(1)), _mm_set1_epi16(scale(0)));
    Unpacked { values, scale: half_at(block, 208), offset: 0.0, pair_scales }
}
