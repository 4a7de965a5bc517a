//! State-space mixers on the processor.

use super::{PARALLEL_WORK, Rows};
use crate::backend::StateSpace;
use crate::config::StateSpaceShape;
use crate::kernels::space::{Position, advance, convolve, gated_norm, softplus};
use crate::team::Team;

pub(crate) struct HostSpace {
    pub(super) shape: StateSpaceShape,
    pub(super) weights: StateSpace,
}

/// The states of one layer. Both are empty before the first position, so that a cache that nothing was run in takes no memory.
#[derive(Default)]
pub(crate) struct HostState {
    /// Channels of the last positions, all but the current one's, the oldest first.
    window: Vec<f32>,
    /// Head after head, a row of the state's size for each number of the head.
    heads: Vec<f32>,
}

impl Clone for HostState {
    fn clone(&self) -> Self {
        Self { window: self.window.clone(), heads: self.heads.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.window.clone_from(&source.window);
        self.heads.clone_from(&source.heads);
    }
}

impl HostSpace {
    /// See [`crate::backend::Backend::scan`]. Positions are computed one after the other, heads side by side.
    pub(super) fn scan(&self, projected: &Rows, state: &mut HostState, team: &Team) -> Rows {
        let Self { shape, weights } = self;
        let (inner, channels, columns) = (shape.inner(), shape.channels(), shape.state);
        let (width, head_dim) = (shape.projected(), shape.head_dim);
        let count = projected.count;
        state.window.resize((shape.kernel - 1) * channels, 0.0);
        state.heads.resize(inner * columns, 0.0);

        let rows = projected.values.chunks_exact(width);
        let mut convolved = vec![0.0; count * channels];
        for (row, out) in rows.clone().zip(convolved.chunks_exact_mut(channels)) {
            let (convolution, bias) = (&weights.convolution, &weights.convolution_bias);
            convolve(&row[inner..inner + channels], convolution, bias, &mut state.window, out);
        }

        // Head after head: its state stays in the nearest cache for all positions.
        let mut read = vec![0.0; count * inner];
        let one_head = |head: usize, state: &mut [f32], out: &mut [f32]| {
            let b = inner + head / shape.group_heads() * columns;
            let c = b + shape.groups * columns;
            let positions = rows.clone().zip(convolved.chunks_exact(channels));
            for ((row, channels), out) in positions.zip(out.chunks_exact_mut(head_dim)) {
                let at = Position {
                    step: softplus(row[width - shape.heads + head] + weights.step_bias[head]),
                    x: &channels[head * head_dim..][..head_dim],
                    b: &channels[b..][..columns],
                    c: &channels[c..][..columns],
                };
                advance(state, at, weights.decay[head], weights.skip[head], out);
            }
        };
        let (one_state, one_out) = (head_dim * columns, head_dim * count);
        let alone = Team::alone();
        let team = if inner * columns * count >= PARALLEL_WORK { team } else { &alone };
        team.pairs((&mut state.heads, one_state), (&mut read, one_out), one_head);

        let mut values = if count == 1 { read } else { by_position(&read, head_dim, count) };
        for (row, values) in rows.zip(values.chunks_exact_mut(inner)) {
            gated_norm(values, &row[..inner], inner / shape.groups, &weights.norm, weights.epsilon);
        }
        Rows { values, count }
    }
}

/// Puts what was computed head after head into rows, one a position.
fn by_position(by_head: &[f32], head_dim: usize, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(by_head.len());
    for position in 0..count {
        for head in by_head.chunks_exact(head_dim * count) {
            values.extend_from_slice(&head[position * head_dim..][..head_dim]);
        }
    }
    values
}
