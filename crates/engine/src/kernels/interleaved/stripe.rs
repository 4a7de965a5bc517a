//! Stripes as kernels read them.

/// A stripe: scales and values of its groups, `S` and `V` bytes of each. Of Q6_K it is the same with blocks.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Stripe<'a, const S: usize, const V: usize> {
    pub(in crate::kernels) scales: &'a [[u8; S]],
    pub(in crate::kernels) values: &'a [[u8; V]],
}

/// A stripe of so many groups.
#[inline(always)]
pub(in crate::kernels) fn cut<const S: usize, const V: usize>(
    weights: &[u8],
    groups: usize,
) -> Stripe<'_, S, V> {
    let (scales, values) = weights.split_at(groups * S);
    Stripe { scales: scales.as_chunks().0, values: values.as_chunks().0 }
}

/// Groups in a block of Q4_K or Q6_K.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) const GROUPS: usize = 8;

/// Blocks of Q4_K, which are 36 words in the order of the file (spelled out in [`mod@crate::kernels::dequantise`]): the first words of
/// sixteen rows, their second ones, and so on.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) mod q4_k {
    use super::super::{GROUP, WORDS};

    /// Words before the values: `d` and `dmin`, and scales and offsets of six bits.
    pub(in crate::kernels) const HEADER: usize = 4;
    /// Words that hold the values of two groups, the first in the low halves.
    pub(in crate::kernels) const QUADS: usize = GROUP / 4;
    /// Words of a block.
    const LENGTH: usize = 36;

    /// A block of each row.
    pub(in crate::kernels) type Blocks = [[u8; WORDS]; LENGTH];

    /// Whole blocks of such weights.
    pub(in crate::kernels) fn blocks(weights: &[u8]) -> &[Blocks] {
        weights.as_chunks().0.as_chunks().0
    }
}

/// Blocks of Q6_K: a half-precision number of each row, apart from the others; sixteen signed scales of each row, and words that
/// [`super::layout`] tells of.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) mod q6_k {
    use super::super::{ROWS, WORDS};

    /// Scales of a row, each of half a group.
    pub(in crate::kernels) const SCALES: usize = 16;
    /// Words that are taken apart together.
    pub(in crate::kernels) const TOGETHER: usize = 3;
    /// Groups of whose values they hold some.
    pub(in crate::kernels) const PARTS: usize = 4;
    /// Quads of half a group, which have the same scale.
    pub(in crate::kernels) const QUADS: usize = 4;
    /// Of 128 added to each weight, so many halvings are the 32 that is added in fact.
    pub(in crate::kernels) const HALVED: u32 = 2;
    /// Words of a block.
    const LENGTH: usize = 48;
    /// Bytes of the half-precision numbers `d` of a block of each row, and of all else.
    pub(in crate::kernels) const D_BYTES: usize = 2 * ROWS;
    pub(in crate::kernels) const BLOCK_BYTES: usize = SCALES * ROWS + LENGTH * WORDS;
}
