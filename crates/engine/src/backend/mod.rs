//! What a device has to offer for the decoder to run on it. The decoder is written once, against this trait;
//! [`host`] implements it on slices of f32, `cuda` with kernels of our own for NVIDIA's cards, [`tensors`] on the tensor library for
//! other accelerators.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "train")]
pub(crate) mod differentiable;
pub(crate) mod host;
pub(crate) mod tensors;

use std::ops::Range;

use candle_core::Result;

use crate::config::{Activation, AttentionShape, NormKind, StateSpaceShape};
use crate::kernels::math;
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

/// Rows of a pass that continue one text, and the layer's cache of that text.
pub(crate) struct Stretch<'a, B: Backend> {
    pub(crate) kv: &'a mut B::Kv,
    /// Positions in the cache.
    pub(crate) start: usize,
    /// Rows.
    pub(crate) count: usize,
}

/// What a backend may want to know of a text before a pass runs.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only cards with kernels of our own ask"))]
pub(crate) struct Section {
    /// Which cache it is in, see [`Backend::identity`]; `None` where the pass also changes states.
    pub(crate) cache: Option<u64>,
    /// Positions in the cache.
    pub(crate) start: usize,
    /// Rows.
    pub(crate) count: usize,
    /// The logits of so many of them are wanted.
    pub(crate) wanted: usize,
}

/// Passes that a card has recorded, so that each is queued as one piece of work instead of some hundred.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recordings {
    /// How many are kept.
    pub kept: usize,
    /// Why the last one that could not be recorded could not, if there is one.
    pub refusal: Option<String>,
}

/// The most likely token of a row of logits, the first of equals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Best {
    pub(crate) token: u32,
    pub(crate) logit: f32,
    /// Of the row: the logit less this is the token's log-probability.
    pub(crate) log_sum_exp: f32,
}

/// A device. Hidden states are rows of f32 (or of the device's working type), one row for each token.
pub(crate) trait Backend: Send + Sync + Sized + 'static {
    /// Whether a row of a product or of the attention is the same, bit for bit, however many rows are computed with it.
    const ROWS_STAND_ALONE: bool;

    /// Whether the most likely token of a row is found where the logits are, so that these need not be copied.
    const CHOOSES: bool = false;

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

    /// Runs the layers of a pass on its embedded tokens and returns what they give; a backend that knows such a pass already may do the
    /// same in another way.
    fn pass(
        &self,
        _sections: &[Section],
        x: Self::Hidden,
        work: &mut dyn FnMut(Self::Hidden) -> Result<Self::Hidden>,
    ) -> Result<Self::Hidden> {
        work(x)
    }

    /// What is known of passes that are recorded; `None` where none are.
    fn recordings(&self) -> Option<Recordings> {
        None
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
    /// Makes room for so many positions, if a cache is not grown as it is written.
    fn reserve(&self, _kv: &mut Self::Kv, _positions: usize) -> Result<()> {
        Ok(())
    }
    /// A number that tells one cache from another, where [`Backend::pass`] asks for it.
    fn identity(&self, _kv: &Self::Kv) -> u64 {
        0
    }
    /// Copies these positions of `from`; those before them are in `to` already.
    fn copy_kv(&self, from: &Self::Kv, to: &mut Self::Kv, positions: Range<usize>) -> Result<()>;

    /// Rows of the table.
    fn embed(&self, table: &Self::Embedding, tokens: &[u32]) -> Result<Self::Hidden>;
    /// The normalised rows.
    fn apply_norm(&self, norm: &Self::Norm, x: &Self::Hidden) -> Result<Self::Hidden>;
    /// The products plus the bias, outputs of all parts side by side.
    fn apply(&self, linear: &Self::Linear, x: &Self::Hidden) -> Result<Self::Hidden>;
    /// Adds the products plus the bias to `into`.
    fn apply_onto(&self, linear: &Self::Linear, x: &Self::Hidden, into: &mut Self::Hidden) -> Result<()> {
        self.add(into, self.apply(linear, x)?)
    }
    /// Causal attention. `qkv` has queries, keys and values of all heads side by side; its rows are the positions
    /// from `start` on. Keys and values are written to the cache, which holds all positions before `start`.
    fn attend(
        &self,
        qkv: Self::Hidden,
        kv: &mut Self::Kv,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Self::Hidden>;
    /// The attention of several texts, whose rows stand one behind the other; each sees itself only.
    fn attend_all(
        &self,
        qkv: Self::Hidden,
        stretches: &mut [Stretch<'_, Self>],
        attention: &Attention<'_, Self>,
    ) -> Result<Self::Hidden> {
        let mut first = 0;
        let mut parts = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let rows = self.rows(&qkv, std::slice::from_ref(&(first..first + stretch.count)))?;
            parts.push(self.attend(rows, stretch.kv, attention, stretch.start)?);
            first += stretch.count;
        }
        self.join(parts)
    }
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
    /// The most likely token of each row of logits; `None` for a row of which no number is a number.
    fn best(&self, x: Self::Hidden, width: usize) -> Result<Vec<Option<Best>>> {
        Ok(self.read(x)?.chunks_exact(width).map(best_of).collect())
    }
}

/// See [`Backend::best`].
fn best_of(row: &[f32]) -> Option<Best> {
    let best = math::argmax(row)?;
    Some(Best { token: best as u32, logit: row[best], log_sum_exp: math::log_sum_exp(row) })
}
