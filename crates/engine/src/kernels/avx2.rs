//! Vector kernels for x86-64 with AVX2, FMA and F16C.
//!
//! A block format says how 32 elements are unpacked into bytes, with their scale and offset ([`blocks`]); a plain
//! format says how 8 elements are widened. The loops over rows and tiles are written once for all of them.

pub(super) mod attention;
pub(super) mod blocks;
pub(super) mod exponentials;
pub(super) mod interleaved;
pub(super) mod quantise;

use std::arch::x86_64::*;

use super::{Activations, LANES, Packed, Rest, TILE, Tiles};
use crate::weights::ElementType;
use blocks::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// Rows of weights that meet every tile of activations before the next rows do, so that both stay in the first-level
/// cache.
const ROW_BLOCK: usize = 16;

/// Bytes by which weights are brought near before they are needed, where nothing else hides how long that takes.
const AHEAD: usize = 2048;

/// As [`super::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(element: ElementType, weights: &[u8], activations: &Activations<'_>, out: &mut [f32]) {
    match &activations.packed {
        Packed::None => super::portable::multiply(element, weights, activations, out),
        Packed::Blocks(_) | Packed::Panels(_) | Packed::Stripes(_) => {
            debug_assert!(false, "these are multiplied elsewhere");
        }
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

    /// Whether the registers hold the sums of several rows of weights.
    const LIGHT: bool;

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
        for (i, tile) in tiles.fours.chunks_exact(tiles.pieces).enumerate() {
            tile_rows::<T, F, N, 2, TILE>(weights, row_chunks, tile, i * TILE, count, out);
        }
        let first = count / TILE * TILE;
        match &tiles.rest {
            Rest::None => {}
            Rest::One(tile) => single_row::<T, F, N>(weights, row_chunks, tile, count, out),
            Rest::Two(tile) => tile_rows::<T, F, N, 4, 2>(weights, row_chunks, tile, first, count, out),
            Rest::Three(tile) => tile_rows::<T, F, N, 3, 3>(weights, row_chunks, tile, first, count, out),
        }
    }
}

/// The products of whole rows with one tile, whose first row of activations is number `first`.
///
/// Two sums can be added to in each cycle, and each of them every fourth; so where there is room, `W` rows are
/// multiplied at a time, to have eight sums or more.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_rows<T, F: Format<T, N>, const N: usize, const W: usize, const X: usize>(
    weights: &[[u8; N]],
    row_chunks: usize,
    tile: &[[T; X]],
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    let several = if F::LIGHT { weights.len() / (row_chunks * W) * W } else { 0 };
    let (weights, others) = weights.split_at(several * row_chunks);
    let (out, other_out) = out.split_at_mut(several * count);
    for (group, results) in weights.chunks_exact(row_chunks * W).zip(out.chunks_exact_mut(count * W)) {
        // While these rows are multiplied, those of the next block come from further away. The other tiles find them near.
        if first == 0 {
            prefetch(group, ROW_BLOCK * row_chunks * N);
        }
        let mut rows = [group; W];
        for (row, chunks) in rows.iter_mut().zip(group.chunks_exact(row_chunks)) {
            *row = chunks;
        }
        let sums = tile_sums::<T, F, N, W, X>(rows, tile);
        for (sums, results) in sums.into_iter().zip(results.chunks_exact_mut(count)) {
            put_totals(sums, &mut results[first..first + X]);
        }
    }
    for (row, results) in others.chunks_exact(row_chunks).zip(other_out.chunks_exact_mut(count)) {
        let [sums] = tile_sums::<T, F, N, 1, X>([row], tile);
        put_totals(sums, &mut results[first..first + X]);
    }
}

/// Writes up to four sums.
#[inline]
#[target_feature(enable = "avx2")]
fn put_totals<const X: usize>(sums: [Sum; X], results: &mut [f32]) {
    let mut four = [Sum::zero(); TILE];
    four[..X].copy_from_slice(&sums);
    results.copy_from_slice(&totals(four)[..X]);
}

/// The products of whole rows with the last row of activations, when that stands alone.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn single_row<T, F: Format<T, N>, const N: usize>(
    weights: &[[u8; N]],
    row_chunks: usize,
    single: &[[T; 1]],
    count: usize,
    out: &mut [f32],
) {
    let last = count - 1;
    let mut fours = weights.chunks_exact(row_chunks * TILE);
    let mut results = out.chunks_exact_mut(count * TILE);
    for (four, results) in (&mut fours).zip(&mut results) {
        // One row after the other, because memory is read fastest in order.
        let mut sums = [Sum::zero(); TILE];
        for (sum, row) in sums.iter_mut().zip(four.chunks_exact(row_chunks)) {
            [[*sum]] = tile_sums::<T, F, N, 1, 1>([row], single);
        }
        let totals = totals(sums);
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
        // A row that meets one row of activations takes about as long as memory does to bring it. The processor sees that the
        // weights are read in order, but stops looking ahead at the end of each page.
        if W == 1 && X == 1 && !F::LIGHT {
            prefetch(&rows[0][i..=i], AHEAD);
        }
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

/// Has memory that lies so many bytes behind the chunks, and is as long, brought near.
#[inline]
#[allow(unsafe_code)]
#[allow(unused_unsafe, reason = "older compilers hold a prefetch for unsafe")]
#[target_feature(enable = "avx2")]
pub(super) fn prefetch<const N: usize>(chunks: &[[u8; N]], ahead: usize) {
    const LINE: usize = 64;
    let start = chunks.as_ptr().cast::<i8>().wrapping_add(ahead);
    for at in (0..chunks.len() * N).step_by(LINE) {
        // SAFETY: a prefetch reads nothing; an address where nothing lies is passed over.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
    }
}

#[inline]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
pub(super) fn load32(bytes: &[u8; 32]) -> __m256i {
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
pub(super) fn load16(bytes: &[u8; 16]) -> __m128i {
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
pub(super) fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
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
            const LIGHT: bool = true;

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
