//! Vector kernels for x86-64 with AVX2, FMA and F16C.
//!
//! A block format says how 32 elements are unpacked into bytes, with their scale and offset ([`Unpacked`]); a plain
//! format says how 8 elements are widened. The loops over rows and tiles are written once for all of them.

use std::arch::x86_64::*;

use super::dequantise::fifth_bits;
use super::{Activations, Group, LANES, Packed, TILE, Tiles};
use crate::weights::ElementType;

/// Rows of weights that meet every tile of activations before the next rows do, so that both stay in the first-level
/// cache.
const ROW_BLOCK: usize = 16;

/// As [`super::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    match &activations.packed {
        Packed::None => super::portable::multiply(element, weights, activations, out),
        Packed::Plain(tiles) => {
            let count = activations.count();
            match element {
                ElementType::F32 => rows::<_, F32, 32>(weights, tiles, count, out),
                ElementType::F16 => rows::<_, F16, 16>(weights, tiles, count, out),
                ElementType::BF16 => rows::<_, BF16, 16>(weights, tiles, count, out),
                _ => super::portable::multiply(element, weights, activations, out),
            }
        }
        Packed::Quantised(tiles) => {
            let count = activations.count();
            match element {
                ElementType::Q4_0 => rows::<_, Q4_0, 18>(weights, tiles, count, out),
                ElementType::Q4_1 => rows::<_, Q4_1, 20>(weights, tiles, count, out),
                ElementType::Q5_0 => rows::<_, Q5_0, 22>(weights, tiles, count, out),
                ElementType::Q5_1 => rows::<_, Q5_1, 24>(weights, tiles, count, out),
                ElementType::Q8_0 => rows::<_, Q8_0, 34>(weights, tiles, count, out),
                ElementType::Q4K => rows::<_, Q4K, 144>(weights, tiles, count, out),
                ElementType::Q5K => rows::<_, Q5K, 176>(weights, tiles, count, out),
                ElementType::Q6K => rows::<_, Q6K, 210>(weights, tiles, count, out),
                _ => super::portable::multiply(element, weights, activations, out),
            }
        }
    }
}

/// How one row of weights, in chunks of `N` bytes, is multiplied with pieces `T` of activations.
trait Format<T, const N: usize> {
    /// Pieces of activations that a chunk covers.
    const PIECES: usize;

    /// Adds to `sums[w][x]` the products of `chunks[w]`, and of piece `x` of `pieces`. Called only from code
    /// compiled for AVX2, FMA and F16C.
    fn accumulate<const W: usize, const X: usize>(
        chunks: [&[u8; N]; W],
        pieces: &[[T; X]],
        sums: &mut [[Sum; X]; W],
    );
}

/// A running scalar product.
#[derive(Clone, Copy)]
struct Sum {
    lanes: __m256,
    scalar: f32,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> Self {
        Self { lanes: _mm256_setzero_ps(), scalar: 0.0 }
    }
}

/// All products of whole rows with all tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn rows<T, F: Format<T, N>, const N: usize>(weights: &[u8], tiles: &Tiles<T>, count: usize, out: &mut [f32]) {
    let row_chunks = tiles.pieces / F::PIECES;
    let weights = weights.as_chunks::<N>().0;
    for (weights, out) in weights.chunks(row_chunks * ROW_BLOCK).zip(out.chunks_mut(count * ROW_BLOCK)) {
        for (i, tile) in tiles.tiles.chunks_exact(tiles.pieces).enumerate() {
            for (row, results) in weights.chunks_exact(row_chunks).zip(out.chunks_exact_mut(count)) {
                let [sums] = tile_sums::<T, F, N, 1, TILE>([row], tile);
                let results = &mut results[i * TILE..];
                let wanted = results.len().min(TILE);
                results[..wanted].copy_from_slice(&totals(sums)[..wanted]);
            }
        }
        if tiles.single.is_empty() {
            continue;
        }
        let single = tiles.single.as_chunks::<1>().0;
        let last = count - 1;
        let mut fours = weights.chunks_exact(row_chunks * TILE);
        let mut results = out.chunks_exact_mut(count * TILE);
        for (four, results) in (&mut fours).zip(&mut results) {
            let (first, second) = four.split_at(row_chunks * 2);
            let ((a, b), (c, d)) = (first.split_at(row_chunks), second.split_at(row_chunks));
            let sums = tile_sums::<T, F, N, TILE, 1>([a, b, c, d], single);
            let totals = totals([sums[0][0], sums[1][0], sums[2][0], sums[3][0]]);
            for (result, total) in results[last..].iter_mut().step_by(count).zip(totals) {
                *result = total;
            }
        }
        let rest = results.into_remainder();
        for (row, results) in fours.remainder().chunks_exact(row_chunks).zip(rest.chunks_exact_mut(count)) {
            let [[sum]] = tile_sums::<T, F, N, 1, 1>([row], single);
            results[last] = totals([sum, Sum::zero(), Sum::zero(), Sum::zero()])[0];
        }
    }
}

/// The products of `W` rows of weights with `X` rows of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_sums<T, F: Format<T, N>, const N: usize, const W: usize, const X: usize>(
    rows: [&[[u8; N]]; W],
    tile: &[[T; X]],
) -> [[Sum; X]; W] {
    let mut sums = [[Sum::zero(); X]; W];
    let length = tile.len() / F::PIECES;
    // Said before the loop, so that it needs no bounds checks.
    if rows.iter().any(|row| row.len() < length) {
        return sums;
    }
    for (i, pieces) in tile.chunks_exact(F::PIECES).enumerate() {
        let mut chunks = [&rows[0][i]; W];
        for w in 1..W {
            chunks[w] = &rows[w][i];
        }
        F::accumulate::<W, X>(chunks, pieces, &mut sums);
    }
    sums
}

/// Four sums at once.
#[inline]
#[target_feature(enable = "avx2")]
fn totals(sums: [Sum; TILE]) -> [f32; TILE] {
    let [a, b, c, d] = sums;
    let ab = _mm256_hadd_ps(a.lanes, b.lanes);
    let cd = _mm256_hadd_ps(c.lanes, d.lanes);
    let all = _mm256_hadd_ps(ab, cd);
    let all = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let all = _mm_add_ps(all, _mm_setr_ps(a.scalar, b.scalar, c.scalar, d.scalar));
    let low = _mm_cvtss_f32(all);
    let second = _mm_cvtss_f32(_mm_shuffle_ps::<0b01>(all, all));
    let third = _mm_cvtss_f32(_mm_shuffle_ps::<0b10>(all, all));
    [low, second, third, _mm_cvtss_f32(_mm_shuffle_ps::<0b11>(all, all))]
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

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
fn store8f(numbers: __m256) -> [f32; 8] {
    let mut out = [0.0; 8];
    // SAFETY: eight numbers are writable behind the reference, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), numbers) };
    out
}

/// The `N` bytes from `at` on, which lie inside `block`: offsets are constants of the formats.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    // The slice has N bytes, so the first chunk is all of it.
    &block[at..at + N].as_chunks::<N>().0[0]
}

// ---- plain formats ---------------------------------------------------------------------------------------------

struct F32;
struct F16;
struct BF16;

/// Implements [`Format`] for chunks of eight numbers, with a function that widens them.
macro_rules! plain_format {
    ($name:ident, $bytes:literal, $widen:ident) => {
        impl Format<[f32; LANES], $bytes> for $name {
            const PIECES: usize = 1;

            #[inline(always)]
            #[allow(unsafe_code)]
            fn accumulate<const W: usize, const X: usize>(
                chunks: [&[u8; $bytes]; W],
                pieces: &[[[f32; LANES]; X]],
                sums: &mut [[Sum; X]; W],
            ) {
                let [piece] = pieces else { return };
                for w in 0..W {
                    // SAFETY: only `multiply`, which is compiled for these features, gets here.
                    unsafe {
                        let weights = $widen(chunks[w]);
                        for x in 0..X {
                            let sum = &mut sums[w][x].lanes;
                            *sum = _mm256_fmadd_ps(weights, load8f(&piece[x]), *sum);
                        }
                    }
                }
            }
        }
    };
}

plain_format!(F32, 32, widen_f32);
plain_format!(F16, 16, widen_f16);
plain_format!(BF16, 16, widen_bf16);

#[inline]
#[target_feature(enable = "avx2")]
fn widen_f32(bytes: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load32(bytes))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen_f16(bytes: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load16(bytes))
}

/// A bf16 is the upper half of an f32.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_bf16(bytes: &[u8; 16]) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load16(bytes))))
}

// ---- block formats ---------------------------------------------------------------------------------------------

/// 32 unpacked weights, still without scale and offset.
#[derive(Clone, Copy)]
struct Unpacked {
    values: __m256i,
    /// Factors of the sixteen sums of neighbouring products: ones, unless a group's halves have their own scales.
    pair_scales: __m256i,
}

impl Unpacked {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: __m256i) -> Self {
        Self { values, pair_scales: _mm256_set1_epi16(1) }
    }
}

/// Scale and offset of each group of a block: weight = `scale * value + offset`. Small blocks have one group.
#[derive(Clone, Copy)]
struct Scales {
    scales: [f32; 8],
    offsets: [f32; 8],
}

impl Scales {
    #[inline(always)]
    fn one(scale: f32, offset: f32) -> Self {
        Self { scales: [scale; 8], offsets: [offset; 8] }
    }
}

/// Implements [`Format`] for blocks of `$groups` groups, with one function that reads the scales of a block and one
/// that unpacks a group of it.
macro_rules! block_format {
    ($name:ident, $bytes:literal, groups: $groups:literal, signed: $signed:literal, offset: $offset:literal,
     $scales:ident, $unpack:ident) => {
        struct $name;

        impl Format<Group, $bytes> for $name {
            const PIECES: usize = $groups;

            #[inline(always)]
            #[allow(unsafe_code)]
            fn accumulate<const W: usize, const X: usize>(
                chunks: [&[u8; $bytes]; W],
                pieces: &[[Group; X]],
                sums: &mut [[Sum; X]; W],
            ) {
                let Some(pieces) = pieces.first_chunk::<$groups>() else { return };
                let mut scales = [Scales::one(0.0, 0.0); W];
                for w in 0..W {
                    // SAFETY: only `multiply`, which is compiled for these features, gets here.
                    scales[w] = unsafe { $scales(chunks[w]) };
                }
                for g in 0..$groups {
                    for w in 0..W {
                        // SAFETY: as above.
                        unsafe {
                            let weights = $unpack(chunks[w], g);
                            let (scale, offset) = (scales[w].scales[g], scales[w].offsets[g]);
                            accumulate_group::<$signed, $offset, X>(
                                weights,
                                scale,
                                offset,
                                &pieces[g],
                                &mut sums[w],
                            );
                        }
                    }
                }
            }
        }
    };
}

block_format!(Q4_0, 18, groups: 1, signed: false, offset: true, q4_0_scales, q4_0);
block_format!(Q4_1, 20, groups: 1, signed: false, offset: true, pair, q4_1);
block_format!(Q5_0, 22, groups: 1, signed: false, offset: true, q5_0_scales, q5_0);
block_format!(Q5_1, 24, groups: 1, signed: false, offset: true, pair, q5_1);
block_format!(Q8_0, 34, groups: 1, signed: true, offset: false, q8_0_scales, q8_0);
block_format!(Q4K, 144, groups: 8, signed: false, offset: true, k_scales, q4_k);
block_format!(Q5K, 176, groups: 8, signed: false, offset: true, k_scales, q5_k);
block_format!(Q6K, 210, groups: 8, signed: true, offset: false, q6_k_scales, q6_k);

/// Adds the products of 32 weights with `X` groups of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate_group<const SIGNED: bool, const OFFSET: bool, const X: usize>(
    weights: Unpacked,
    scale: f32,
    offset: f32,
    piece: &[Group; X],
    sums: &mut [Sum; X],
) {
    let magnitude = if SIGNED { _mm256_abs_epi8(weights.values) } else { weights.values };
    for x in 0..X {
        let values = load32i(&piece[x].values);
        // Unsigned times signed bytes, neighbours added in 16 bits: at most 2 * 128 * 127, which fits.
        let values = if SIGNED { _mm256_sign_epi8(values, weights.values) } else { values };
        let pairs = _mm256_maddubs_epi16(magnitude, values);
        let quads = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, weights.pair_scales));
        let scale = _mm256_set1_ps(scale * piece[x].scale);
        sums[x].lanes = _mm256_fmadd_ps(quads, scale, sums[x].lanes);
        if OFFSET {
            sums[x].scalar += offset * piece[x].sum;
        }
    }
}

/// The half-precision number at `at`. The conversion of the `half` crate asks for the processor's features each time.
#[inline]
#[target_feature(enable = "f16c")]
fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*part::<2>(block, at));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// The two half-precision numbers at the beginning of a block: scale and offset.
#[inline]
#[target_feature(enable = "f16c")]
fn halves_at_start(block: &[u8]) -> (f32, f32) {
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes(*part::<4>(block, 0))));
    (_mm_cvtss_f32(both), _mm_cvtss_f32(_mm_shuffle_ps::<0b01>(both, both)))
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
    let index = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), index);
    let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "f16c")]
fn pair<const N: usize>(block: &[u8; N]) -> Scales {
    let (scale, offset) = halves_at_start(block);
    Scales::one(scale, offset)
}

#[inline]
#[target_feature(enable = "f16c")]
fn q4_0_scales(block: &[u8; 18]) -> Scales {
    let d = half_at(block, 0);
    Scales::one(d, -8.0 * d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q4_0(block: &[u8; 18], _: usize) -> Unpacked {
    Unpacked::new(nibbles(part(block, 2)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q4_1(block: &[u8; 20], _: usize) -> Unpacked {
    Unpacked::new(nibbles(part(block, 4)))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q5_0_scales(block: &[u8; 22]) -> Scales {
    let d = half_at(block, 0);
    Scales::one(d, -16.0 * d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_0(block: &[u8; 22], _: usize) -> Unpacked {
    Unpacked::new(_mm256_or_si256(nibbles(part(block, 6)), spread_bits(fifth_bits(block, 2))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_1(block: &[u8; 24], _: usize) -> Unpacked {
    Unpacked::new(_mm256_or_si256(nibbles(part(block, 8)), spread_bits(fifth_bits(block, 4))))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q8_0_scales(block: &[u8; 34]) -> Scales {
    Scales::one(half_at(block, 0), 0.0)
}

#[inline]
#[target_feature(enable = "avx2")]
fn q8_0(block: &[u8; 34], _: usize) -> Unpacked {
    Unpacked::new(load32(part(block, 2)))
}

/// Scales and offsets of Q4_K and Q5_K, see [`super::dequantise`]: eight of each at once, four bytes at a time.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn k_scales<const N: usize>(block: &[u8; N]) -> Scales {
    let (d, dmin) = halves_at_start(block);
    let word = |at: usize| u32::from_le_bytes(*part::<4>(block, at));
    let (a, b, c) = (word(4), word(8), word(12));
    let low_six = 0x3F3F_3F3F;
    let upper = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    let scales = [a & low_six, c & 0x0F0F_0F0F | upper(a)];
    let offsets = [b & low_six, c >> 4 & 0x0F0F_0F0F | upper(b)];
    Scales { scales: eight_bytes(scales, d), offsets: eight_bytes(offsets, -dmin) }
}

/// Eight bytes as numbers, multiplied by `factor`.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_bytes([low, high]: [u32; 2], factor: f32) -> [f32; 8] {
    let bytes = _mm_set_epi32(0, 0, high as i32, low as i32);
    let numbers = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    store8f(_mm256_mul_ps(numbers, _mm256_set1_ps(factor)))
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
#[target_feature(enable = "avx2")]
fn q4_k(block: &[u8; 144], group: usize) -> Unpacked {
    Unpacked::new(halves(part(block, 16 + group / 2 * 32), group % 2 == 1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn q5_k(block: &[u8; 176], group: usize) -> Unpacked {
    let low = halves(part(block, 48 + group / 2 * 32), group % 2 == 1);
    let bit = _mm256_set1_epi8((1u8 << group) as i8);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(load32(part(block, 16)), bit), bit);
    Unpacked::new(_mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16))))
}

#[inline]
#[target_feature(enable = "f16c")]
fn q6_k_scales(block: &[u8; 210]) -> Scales {
    Scales::one(half_at(block, 208), 0.0)
}

#[inline]
#[target_feature(enable = "avx2")]
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
    Unpacked { values, pair_scales }
}
