//! The decoder: one walk through the layers for every family, on every backend, and the sessions that run it.

mod caches;
mod load;
#[cfg(feature = "train")]
pub(crate) mod parameters;

use std::sync::Arc;

use candle_core::Result;

use crate::backend::{Attention, Backend, Best, Recordings, Section, Stretch};
use crate::config::Config;
use caches::DecoderSession;
pub(crate) use caches::SNAPSHOTS;

/// A loaded network, whatever it runs on.
pub(crate) trait Network: Send + Sync {
    /// Independent caches, numbered from 0.
    fn session(self: Arc<Self>, slots: usize) -> Result<Box<dyn Session>>;
    /// Whether tokens may be run before it is known that they come next: [`Session::truncate`] takes back any of them and no
    /// more, and a row of logits is the same, bit for bit, whether it was computed alone or with others.
    fn can_verify(&self) -> bool;
    /// Whether [`Session::forward_best`] is cheaper than to look through the logits, see [`Backend::CHOOSES`].
    fn chooses(&self) -> bool;
    /// Whether the weights stay in the order in which they are multiplied, see [`Backend::keeps_order`].
    fn keeps_order(&self) -> bool;
    /// See [`Backend::recordings`].
    fn recordings(&self) -> Option<Recordings>;
    /// Settles some matrices from number `first` on, see [`Backend::settle`]; the number of the next one, `None` after the last.
    fn settle(&self, first: usize, alone: bool) -> Option<usize>;
}

/// Caches of a network. A cache holds the keys and values of the positions that were run in it, and where there are
/// state-space layers their states, which can't be cut back: a few earlier ones are kept (see [`Run::cut`]), and a cache goes
/// back to one of these, or to nothing.
pub(crate) trait Session: Send {
    /// How many positions would be left after [`Session::truncate`].
    fn reachable(&self, slot: usize, len: usize) -> usize;
    /// Forgets all positions from `len` on, and those before that can't be had without them. Returns how many are left.
    fn truncate(&mut self, slot: usize, len: usize) -> usize;
    /// Replaces the contents of `to` by the first `len` positions of `from`, or as many as can be had. Returns how many. The first
    /// `shared` positions are the same in both.
    fn fork(&mut self, from: usize, to: usize, len: usize, shared: usize) -> Result<usize>;
    /// Appends tokens to caches, all in one pass over the weights, and returns the logits that are wanted, row after
    /// row, run after run. No two runs share a slot.
    fn forward_all(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>>;

    /// The same, of which only the most likely token of each row is wanted; `None` for a row without numbers.
    fn forward_best(&mut self, runs: &[Run<'_>]) -> Result<Vec<Option<Best>>>;

    /// Appends `tokens` to one cache and returns the logits of the last `rows` of them.
    fn forward(&mut self, slot: usize, tokens: &[u32], rows: usize) -> Result<Vec<f32>> {
        self.forward_all(&[Run { slot, tokens, rows, cut: None }])
    }
}

/// Tokens to append to one cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) slot: usize,
    pub(crate) tokens: &'a [u32],
    /// The logits of so many of the last tokens are wanted.
    pub(crate) rows: usize,
    /// The cache is likely to be cut back to where so many of these tokens are in it. A cache that can't be cut back
    /// anywhere keeps what it needs for that.
    pub(crate) cut: Option<usize>,
}

/// Rows of a pass that continue one text.
pub(crate) struct Span<'a, B: Backend> {
    /// The text's keys and values of each part with attention.
    pub(crate) caches: &'a mut [B::Kv],
    /// The text's states of each state-space part.
    pub(crate) states: &'a mut [B::State],
    /// Where states are to be kept, if any are.
    pub(crate) mark: Option<Mark<'a, B>>,
    /// Positions in the cache.
    pub(crate) start: usize,
    /// Rows.
    pub(crate) count: usize,
    /// The logits of so many of the last rows are wanted.
    pub(crate) wanted: usize,
}

/// Where states are kept in the middle of a pass.
pub(crate) struct Mark<'a, B: Backend> {
    /// Rows of the span before it.
    pub(crate) after: usize,
    /// What the states were there, as in [`Span::states`].
    pub(crate) states: &'a mut [B::State],
}

/// A norm, what is done with what it gives, and the sum with what went in. Most families have two in a layer, hybrids one.
struct Part<B: Backend> {
    norm: B::Norm,
    mixer: Mixer<B>,
    post_norm: Option<B::Norm>,
}

enum Mixer<B: Backend> {
    Attention {
        /// Queries, keys and values side by side.
        qkv: B::Linear,
        query_norm: Option<B::Norm>,
        key_norm: Option<B::Norm>,
        output: B::Linear,
        /// Positions that are seen, where not all are.
        window: Option<usize>,
        /// Its place in [`Span::caches`].
        cache: usize,
    },
    FeedForward {
        /// Gate and up side by side, or up alone.
        up: B::Linear,
        down: B::Linear,
    },
    StateSpace {
        /// Gate, channels and steps side by side, see [`crate::config::StateSpaceShape`].
        input: B::Linear,
        space: B::Space,
        output: B::Linear,
        /// Its place in [`Span::states`].
        state: usize,
    },
}

impl<B: Backend> Mixer<B> {
    fn linears(&self) -> [&B::Linear; 2] {
        match self {
            Self::Attention { qkv, output, .. } => [qkv, output],
            Self::FeedForward { up, down } => [up, down],
            Self::StateSpace { input, output, .. } => [input, output],
        }
    }
}

pub(crate) struct Decoder<B: Backend> {
    backend: B,
    config: Config,
    /// Positions that the caches may hold.
    context: usize,
    embedding: B::Embedding,
    parts: Vec<Part<B>>,
    output_norm: B::Norm,
    output: B::Linear,
    /// None where nothing is rotated.
    rope: Option<B::Rope>,
    /// Of the layers with a window.
    local_rope: Option<B::Rope>,
}

impl<B: Backend> Decoder<B> {
    /// The rows of `tokens` belong to the spans, one after the other; `read` makes of their logits what is wanted.
    fn forward<T: Default>(
        &self,
        tokens: &[u32],
        spans: &mut [Span<'_, B>],
        read: fn(&Self, B::Hidden) -> Result<T>,
    ) -> Result<T> {
        let mut end = 0;
        let mut ranges = Vec::with_capacity(spans.len());
        for span in &mut *spans {
            end += span.count;
            if span.wanted > 0 {
                ranges.push(end - span.wanted..end);
            }
            for kv in &mut *span.caches {
                self.backend.reserve(kv, span.start + span.count)?;
            }
        }
        let sections: Vec<Section> = spans.iter().map(|span| self.section(span)).collect();
        let wanted = ranges.iter().map(ExactSizeIterator::len).sum::<usize>();
        let x = self.embed(tokens)?;
        let logits = self.backend.pass(&sections, x, &mut |x| {
            let x = self.layers(x, spans)?;
            match wanted {
                0 => Ok(x),
                _ if wanted == tokens.len() => self.logits(x),
                _ => self.logits(self.backend.rows(&x, &ranges)?),
            }
        })?;
        if wanted == 0 { Ok(T::default()) } else { read(self, logits) }
    }

    fn section(&self, span: &Span<'_, B>) -> Section {
        let cache = span.caches.first().filter(|_| span.states.is_empty());
        let cache = cache.map(|kv| self.backend.identity(kv));
        Section { cache, start: span.start, count: span.count, wanted: span.wanted }
    }

    fn embed(&self, tokens: &[u32]) -> Result<B::Hidden> {
        let mut x = self.backend.embed(&self.embedding, tokens)?;
        if let Some(factor) = self.config.embedding_scale {
            self.backend.scale(&mut x, factor)?;
        }
        Ok(x)
    }

    /// What the last layer gives, one row a token.
    #[cfg(feature = "train")]
    pub(crate) fn hidden(&self, tokens: &[u32], spans: &mut [Span<'_, B>]) -> Result<B::Hidden> {
        self.layers(self.embed(tokens)?, spans)
    }

    fn layers(&self, mut x: B::Hidden, spans: &mut [Span<'_, B>]) -> Result<B::Hidden> {
        let backend = &self.backend;
        for part in &self.parts {
            let normed = backend.apply_norm(&part.norm, &x)?;
            let (last, input) = match &part.mixer {
                Mixer::Attention { qkv, query_norm, key_norm, output, window, cache } => {
                    let local_rope = self.local_rope.as_ref().filter(|_| window.is_some());
                    let attention = Attention {
                        shape: &self.config.attention,
                        rope: local_rope.or(self.rope.as_ref()),
                        query_norm: query_norm.as_ref(),
                        key_norm: key_norm.as_ref(),
                        window: *window,
                    };
                    let qkv = backend.apply(qkv, &normed)?;
                    (output, self.attend(qkv, spans, &attention, *cache)?)
                }
                Mixer::FeedForward { up, down } => {
                    let up = backend.apply(up, &normed)?;
                    (down, backend.activate(self.config.family.activation, up)?)
                }
                Mixer::StateSpace { input, space, output, state } => {
                    let projected = backend.apply(input, &normed)?;
                    (output, self.scan(projected, spans, space, *state)?)
                }
            };
            match &part.post_norm {
                Some(norm) => {
                    let mixed = backend.apply(last, &input)?;
                    backend.add(&mut x, backend.apply_norm(norm, &mixed)?)?;
                }
                None => backend.apply_onto(last, &input, &mut x)?,
            }
        }
        Ok(x)
    }

    /// Each text sees itself only.
    fn attend(
        &self,
        qkv: B::Hidden,
        spans: &mut [Span<'_, B>],
        attention: &Attention<'_, B>,
        cache: usize,
    ) -> Result<B::Hidden> {
        if let [only] = spans {
            return self.backend.attend(qkv, &mut only.caches[cache], attention, only.start);
        }
        let mut stretches: Vec<Stretch<'_, B>> = spans
            .iter_mut()
            .map(|span| Stretch { kv: &mut span.caches[cache], start: span.start, count: span.count })
            .collect();
        self.backend.attend_all(qkv, &mut stretches, attention)
    }

    /// Each text has states of its own. What they are at a mark is copied on the way.
    fn scan(
        &self,
        projected: B::Hidden,
        spans: &mut [Span<'_, B>],
        space: &B::Space,
        state: usize,
    ) -> Result<B::Hidden> {
        if let [Span { mark: None, states, .. }] = spans {
            return self.backend.scan(projected, space, &mut states[state]);
        }
        let mut first = 0;
        let mut parts = Vec::with_capacity(2 * spans.len());
        for span in spans {
            let middle = span.mark.as_ref().map_or(0, |mark| mark.after);
            for piece in [0..middle, middle..span.count] {
                if piece.start == middle
                    && let Some(mark) = &mut span.mark
                {
                    mark.states[state].clone_from(&span.states[state]);
                }
                if !piece.is_empty() {
                    let range = first + piece.start..first + piece.end;
                    let rows = self.backend.rows(&projected, std::slice::from_ref(&range))?;
                    parts.push(self.backend.scan(rows, space, &mut span.states[state])?);
                }
            }
            first += span.count;
        }
        self.backend.join(parts)
    }

    #[cfg(feature = "train")]
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    #[cfg(feature = "train")]
    pub(crate) fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The logits for rows of [`Decoder::hidden`].
    pub(crate) fn logits(&self, x: B::Hidden) -> Result<B::Hidden> {
        let normed = self.backend.apply_norm(&self.output_norm, &x)?;
        self.backend.apply(&self.output, &normed)
    }
}

impl<B: Backend> Network for Decoder<B> {
    fn session(self: Arc<Self>, slots: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(DecoderSession::new(self, slots)?))
    }

    fn can_verify(&self) -> bool {
        B::ROWS_STAND_ALONE && self.config.hybrid.is_none()
    }

    fn chooses(&self) -> bool {
        B::CHOOSES
    }

    fn keeps_order(&self) -> bool {
        self.backend.keeps_order(&self.output)
    }

    fn recordings(&self) -> Option<Recordings> {
        self.backend.recordings()
    }

    fn settle(&self, first: usize, alone: bool) -> Option<usize> {
        let mut linears: Vec<&B::Linear> = self.parts.iter().flat_map(|part| part.mixer.linears()).collect();
        linears.push(&self.output);
        let rest = linears.get(first..)?;
        let done = self.backend.settle(rest, alone);
        (0 < done && done < rest.len()).then_some(first + done)
    }
}

/// The name of a tensor of a layer.
pub(crate) fn numbered(name: &str, layer: usize) -> String {
    name.replace("{}", &layer.to_string())
}
