//! What a device has to offer for the decoder to run on it. The decoder is written once, against this trait;
//! [`host`] implements it on slices of f32, [`tensors`] on the tensor library for accelerators.

#[cfg(feature = "train")]
pub(crate) mod differentiable;
pub(crate) mod host;
pub(crate) mod tensors;

use std::ops::Range;

use candle_core::Result;

use crate::config::{Activation, AttentionShape, NormKind, StateSpaceShape};
use crate::weights::RawTensor;

/// Angles of the rotary embedding for every position of the context.
pub(crate) struct RopeTable {
    /// Cosines, `positions` rows of half the rotated width.
    pub(crate) cos: Vec<f32>,
    /// Sines, likewise.
    pub(crate) sin: Vec<f32>,
    /// Rows.
    pub(crate) positions: usize,
    /// Half the rotated width.
    pub(crate) half: usize,
}

/// The numbers of a Mamba-2 mixer between its two matrices (Dao and Gu 2024, "Transformers are SSMs"). For each position:
///
/// - the channels of the last `kernel` positions are summed with the weights of the convolution, and pass through SiLU;
/// - each head's step is `softplus(step + step_bias)`, its state decays by `exp(step * decay)` and takes up `step * x ⊗ B`;
/// - what is read is `state · C + skip * x`, times SiLU of the gate, and normalised (RMS) within each group.
pub(crate) struct StateSpace {
    /// Weights of the convolution, `kernel` rows of [`StateSpaceShape::channels`], the oldest position first.
    pub(crate) convolution: Vec<f32>,
    /// One a channel.
    pub(crate) convolution_bias: Vec<f32>,
    /// One a head.
    pub(crate) step_bias: Vec<f32>,
    /// One a head, negative.
    pub(crate) decay: Vec<f32>,
    /// One a head.
    pub(crate) skip: Vec<f32>,
    /// [`StateSpaceShape::inner`] numbers.
    pub(crate) norm: Vec<f32>,
    pub(crate) epsilon: f32,
}

/// The attention of one layer.
pub(crate) struct Attention<'a, B: Backend> {
    pub(crate) shape: &'a AttentionShape,
    /// None where nothing is rotated.
    pub(crate) rope: Option<&'a B::Rope>,
    /// Applied to each query before it is rotated; its width is that of a head.
    pub(crate) query_norm: Option<&'a B::Norm>,
    /// The same for keys.
    pub(crate) key_norm: Option<&'a B::Norm>,
    /// How many positions are seen, the current one among them; all where there is none.
    pub(crate) window: Option<usize>,
}

impl<B: Backend> Attention<'_, B> {
    /// The first position that the one at `position` sees.
    pub(crate) fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// A device. Hidden states are rows of f32 (or of the device's working type), one row for each token.
pub(crate) trait Backend: Send + Sync + Sized + 'static {
    /// Whether a row of a product or of the attention is the same, bit for bit, however many rows are computed with it.
    const ROWS_STAND_ALONE: bool;

    /// Rows of activations.
    type Hidden;
    /// One or more matrices with the same input, whose outputs stand side by side.
    type Linear: Send + Sync;
    /// A table of rows to look up.
    type Embedding: Send + Sync;
    /// A norm with its weights.
    type Norm: Send + Sync;
    /// Rotary angles where the device wants them.
    type Rope: Send + Sync;
    /// Keys and values of one layer.
    type Kv: Send;
    /// A state-space mixer with its weights.
    type Space: Send + Sync;
    /// The states of one layer after some positions; by default those before the first.
    type State: Clone + Default + Send + Sync;

    /// Runs a whole forward pass where the device wants it to run.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }

    /// Takes over matrices of shape [outputs, inputs], and what is added to their outputs.
    fn linear(&self, parts: Vec<RawTensor>, bias: Option<Vec<f32>>) -> Result<Self::Linear>;
    /// Whether matrices were put in the order in which they are multiplied, which makes single rows faster than what they cost beside
    /// others.
    fn keeps_order(&self, _linear: &Self::Linear) -> bool {
        false
    }
    /// Puts the first of these matrices in an order in which they are multiplied faster, if there is one that takes no more memory, in
    /// place of the one that they have in their file; returns of how many nothing is left to do. `alone` leaves the other threads to
    /// who computes with them meanwhile.
    fn settle(&self, linears: &[&Self::Linear], _alone: bool) -> usize {
        linears.len()
    }
    /// Takes over a table of shape [vocabulary, width].
    fn embedding(&self, table: RawTensor) -> Result<Self::Embedding>;
    /// A norm with a weight, and a bias if the kind has one.
    fn norm(&self, kind: NormKind, epsilon: f32, weight: Vec<f32>, bias: Vec<f32>) -> Result<Self::Norm>;
    /// Takes over the angles.
    fn rope(&self, table: RopeTable) -> Result<Self::Rope>;
    /// A state-space mixer of this shape.
    fn state_space(&self, shape: &StateSpaceShape, weights: StateSpace) -> Result<Self::Space>;
    /// An empty cache.
    fn kv(&self, shape: &AttentionShape, limit: usize) -> Result<Self::Kv>;
    /// Copies these positions of `from`; those before them are in `to` already.
    fn copy_kv(&self, from: &Self::Kv, to: &mut Self::Kv, positions: Range<usize>) -> Result<()>;

    /// Rows of the table.
    fn embed(&self, table: &Self::Embedding, tokens: &[u32]) -> Result<Self::Hidden>;
    /// The normalised rows.
    fn apply_norm(&self, norm: &Self::Norm, x: &Self::Hidden) -> Result<Self::Hidden>;
    /// The products plus the bias, outputs of all parts side by side.
    fn apply(&self, linear: &Self::Linear, x: &Self::Hidden) -> Result<Self::Hidden>;
    /// Causal attention. `qkv` has queries, keys and values of all heads side by side; its rows are the positions
    /// from `start` on. Keys and values are written to the cache, which holds all positions before `start`.
    fn attend(
        &self,
        qkv: Self::Hidden,
        kv: &mut Self::Kv,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Self::Hidden>;
    /// What a state-space mixer makes of consecutive positions that follow those in `state`. Rows of `projected` have
    /// [`StateSpaceShape::projected`] numbers: the gate and the channels (all heads, then B, then C of each group), then a step
    /// for each head. Rows of the result have [`StateSpaceShape::inner`].
    fn scan(
        &self,
        projected: Self::Hidden,
        space: &Self::Space,
        state: &mut Self::State,
    ) -> Result<Self::Hidden>;
    /// The feed-forward activation; for gated ones, of gate and up side by side.
    fn activate(&self, activation: Activation, x: Self::Hidden) -> Result<Self::Hidden>;
    /// `x *= factor`.
    fn scale(&self, x: &mut Self::Hidden, factor: f32) -> Result<()>;
    /// `into += x`.
    fn add(&self, into: &mut Self::Hidden, x: Self::Hidden) -> Result<()>;
    /// The rows of these ranges, one range after the other.
    fn rows(&self, x: &Self::Hidden, ranges: &[Range<usize>]) -> Result<Self::Hidden>;
    /// All rows of the first part, then those of the next.
    fn join(&self, parts: Vec<Self::Hidden>) -> Result<Self::Hidden>;
    /// The numbers, row after row.
    fn read(&self, x: Self::Hidden) -> Result<Vec<f32>>;
}
