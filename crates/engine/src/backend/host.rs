//! The processor: activations are vectors of f32, weights stay the bytes of the file.
//!
//! With one thread nothing here ever leaves the caller's thread. With more, a [`Team`] shares the rows of a matrix and, of prompts, all
//! the work between two products; its idle threads sleep, so a daemon that waits costs nothing. The tensor library's own pools, which
//! spin, are never started on this path.

mod interleaved;
mod rows;
mod space;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::{Error, Result};

use super::{Attention, Backend, RopeTable, StateSpace, Stretch};
use crate::config::{Activation, AttentionShape, NormKind, RopeStyle, StateSpaceShape};
use crate::kernels::{self, Activations, Heads, Kept, dequantise, math};
use crate::team::Team;
use crate::weights::RawTensor;
use interleaved::Part;
pub(crate) use rows::Rows;
use rows::{forget_large, give_back, room};
pub(crate) use space::{HostSpace, HostState};

/// Products smaller than this many multiplications are not worth waking a thread for.
const PARALLEL_WORK: usize = 1 << 17;
/// The same where the weights lie in an order in which they are multiplied that much faster.
const PARALLEL_WORK_KEPT: usize = 1 << 20;
/// Bytes of weights up to which a model's matrices are put in that order.
const MOST_KEPT: usize = 1 << 23;
/// Positions by which a cache grows.
const KV_STEP: usize = 128;

pub(crate) struct Host {
    team: Team,
    /// For what is not worth waking a thread.
    alone: Team,
    /// Whether matrices are put in another order where that makes them faster, which costs as much memory as they take.
    keeps: bool,
    /// Whether there is room for copies in another order.
    interleaves: bool,
}

impl Host {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let team = Team::new(threads).map_err(Error::wrap)?;
        Ok(Self { team, alone: Team::alone(), keeps: false, interleaves: false })
    }

    /// The same for a model whose weights have so many bytes.
    pub(crate) fn for_weights(threads: usize, bytes: usize) -> Result<Self> {
        let keeps = bytes <= MOST_KEPT;
        Ok(Self { keeps, interleaves: !keeps && interleaved::is_room_for(bytes), ..Self::new(threads)? })
    }

    /// All threads for so much work, or the caller's alone.
    fn team_for(&self, work: usize, least: usize) -> &Team {
        if work < least { &self.alone } else { &self.team }
    }
}

pub(crate) struct HostLinear {
    weights: Weights,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

enum Weights {
    Parts(Vec<Part>),
    Kept(Kept),
}

pub(crate) struct HostNorm {
    kind: NormKind,
    epsilon: f32,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl HostNorm {
    /// Normalises rows of the norm's width.
    fn apply(&self, rows: &mut [f32]) {
        match self.kind {
            NormKind::Rms => math::rms_norm(rows, &self.weight, self.epsilon),
            NormKind::Layer => math::layer_norm(rows, &self.weight, &self.bias, self.epsilon),
        }
    }
}

/// Keys and values, position after position, all heads of a position side by side.
pub(crate) struct HostKv {
    keys: Vec<f32>,
    values: Vec<f32>,
    width: usize,
    limit: usize,
}

impl HostKv {
    /// Makes room for `positions` positions, in steps.
    fn reserve(&mut self, positions: usize) {
        let wanted = positions.next_multiple_of(KV_STEP).min(self.limit.max(positions)) * self.width;
        if self.keys.len() < wanted {
            self.keys.resize(wanted, 0.0);
            self.values.resize(wanted, 0.0);
        }
    }
}

impl Host {
    fn multiply_parts(&self, parts: &[Part], linear: &HostLinear, x: &Rows) -> Vec<f32> {
        let count = x.count;
        let work = linear.outputs * linear.inputs * count;
        let team = self.team_for(work, PARALLEL_WORK);
        // Piece after piece of the matrices. With a single activation that is already the layout of the result.
        let mut pieces = room(linear.outputs * count);
        let mut placed = Vec::new();
        let mut prepared: Option<Activations<'_>> = None;
        let mut rest = pieces.as_mut_slice();
        for part in parts {
            let matrix = part.now();
            let activations = matrix.prepare(prepared.take(), &x.values, linear.inputs, team);
            let outputs = part.tensor().shape[0];
            let (out, tail) = rest.split_at_mut(outputs * count);
            rest = tail;
            let rows = piece_rows(part.tensor(), team.threads());
            matrix.multiply(rows, &activations, out, count, team);
            // So is a whole matrix whose products come in that order.
            let is_result =
                count == 1 || (parts.len() == 1 && rows >= outputs && activations.by_activations());
            if !is_result {
                let by_activations = activations.by_activations();
                placed.extend(out.chunks(rows * count).map(|piece| (piece.len(), by_activations)));
            }
            prepared = Some(activations);
        }
        if placed.is_empty() {
            return pieces;
        }
        let mut values = room(linear.outputs * count);
        team.rows(&mut values, (linear.outputs, linear.outputs), |first, values| {
            let (mut rest, mut column) = (pieces.as_slice(), 0);
            for &(length, by_activations) in &placed {
                let (piece, tail) = rest.split_at(length);
                place(piece, count, by_activations, first, values, linear.outputs, column);
                (rest, column) = (tail, column + length / count);
            }
        });
        give_back(pieces);
        values
    }

    fn multiply_kept(&self, kept: &Kept, linear: &HostLinear, x: &Rows) -> Vec<f32> {
        let (inputs, outputs) = (linear.inputs, linear.outputs);
        let mut values = room(outputs * x.count);
        let team = self.team_for(outputs * inputs * x.count, PARALLEL_WORK_KEPT);
        let rows = match team.threads() {
            1 => x.count,
            threads => x.count.div_ceil(threads).next_multiple_of(kernels::KEPT_ROWS),
        };
        team.chunks(&mut values, rows * outputs, |i, out| {
            let x = &x.values[i * rows * inputs..][..out.len() / outputs * inputs];
            kept.multiply(x, inputs, out);
        });
        values
    }
}

impl Backend for Host {
    const ROWS_STAND_ALONE: bool = true;

    type Hidden = Rows;
    type Linear = HostLinear;
    type Embedding = RawTensor;
    type Norm = HostNorm;
    type Rope = RopeTable;
    type Kv = HostKv;
    type Space = HostSpace;
    type State = HostState;

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = work();
        forget_large();
        done
    }

    fn linear(&self, parts: Vec<RawTensor>, bias: Option<Vec<f32>>) -> Result<HostLinear> {
        let inputs = parts.first().map_or(0, |part| part.shape[1]);
        let outputs = parts.iter().map(|part| part.shape[0]).sum();
        let each = parts.iter().map(|part| (part.element, &*part.bytes, part.shape[0]));
        let kept = if self.keeps { Kept::new(each, inputs) } else { None };
        let parts = || parts.into_iter().map(Part::from).collect();
        let weights = kept.map_or_else(|| Weights::Parts(parts()), Weights::Kept);
        Ok(HostLinear { weights, bias, inputs, outputs })
    }

    fn keeps_order(&self, linear: &HostLinear) -> bool {
        matches!(linear.weights, Weights::Kept(_))
    }

    fn settle(&self, linears: &[&HostLinear], alone: bool) -> usize {
        if !self.interleaves {
            return linears.len();
        }
        let (mut wanted, mut bytes, mut done) = (Vec::new(), 0, 0);
        while done < linears.len() && bytes < interleaved::ARENA {
            if let Weights::Parts(parts) = &linears[done].weights {
                for part in parts.iter().filter(|part| part.gains()) {
                    bytes += part.tensor().bytes.len();
                    wanted.push(part);
                }
            }
            done += 1;
        }
        interleaved::interleave(&wanted, if alone { &self.alone } else { &self.team });
        done
    }

    fn embedding(&self, table: RawTensor) -> Result<RawTensor> {
        Ok(table)
    }

    fn norm(&self, kind: NormKind, epsilon: f32, weight: Vec<f32>, bias: Vec<f32>) -> Result<HostNorm> {
        Ok(HostNorm { kind, epsilon, weight, bias })
    }

    fn rope(&self, table: RopeTable) -> Result<RopeTable> {
        Ok(table)
    }

    fn state_space(&self, shape: &StateSpaceShape, weights: StateSpace) -> Result<HostSpace> {
        Ok(HostSpace { shape: shape.clone(), weights })
    }

    fn kv(&self, shape: &AttentionShape, limit: usize) -> Result<HostKv> {
        Ok(HostKv { keys: Vec::new(), values: Vec::new(), width: shape.kv_width(), limit })
    }

    fn copy_kv(&self, from: &HostKv, to: &mut HostKv, positions: Range<usize>) -> Result<()> {
        to.reserve(positions.end);
        let numbers = positions.start * from.width..positions.end * from.width;
        to.keys[numbers.clone()].copy_from_slice(&from.keys[numbers.clone()]);
        to.values[numbers.clone()].copy_from_slice(&from.values[numbers]);
        Ok(())
    }

    fn embed(&self, table: &RawTensor, tokens: &[u32]) -> Result<Rows> {
        let width = table.shape[1];
        let row_bytes = table.element.row_bytes(width);
        let mut values = room(tokens.len() * width);
        for (row, &token) in values.chunks_exact_mut(width).zip(tokens) {
            dequantise(table.element, &table.bytes[token as usize * row_bytes..][..row_bytes], row);
        }
        Ok(Rows { values, count: tokens.len() })
    }

    fn apply_norm(&self, norm: &HostNorm, x: &Rows) -> Result<Rows> {
        let mut values = room(x.values.len());
        let width = x.width();
        self.team.rows(&mut values, (width, width), |first, rows| {
            rows.copy_from_slice(&x.values[first * width..][..rows.len()]);
            norm.apply(rows);
        });
        Ok(Rows { values, count: x.count })
    }

    fn apply(&self, linear: &HostLinear, x: &Rows) -> Result<Rows> {
        let mut values = match &linear.weights {
            Weights::Parts(parts) => self.multiply_parts(parts, linear, x),
            Weights::Kept(kept) => self.multiply_kept(kept, linear, x),
        };
        if let Some(bias) = &linear.bias {
            self.team.rows(&mut values, (linear.outputs, linear.outputs), |_, rows| {
                rows.chunks_exact_mut(linear.outputs).for_each(|row| math::add(row, bias));
            });
        }
        Ok(Rows { values, count: x.count })
    }

    fn attend(
        &self,
        qkv: Rows,
        kv: &mut HostKv,
        attention: &Attention<'_, Self>,
        start: usize,
    ) -> Result<Rows> {
        let count = qkv.count;
        self.attend_all(qkv, &mut [Stretch { kv, start, count }], attention)
    }

    fn attend_all(
        &self,
        mut qkv: Rows,
        stretches: &mut [Stretch<'_, Self>],
        attention: &Attention<'_, Self>,
    ) -> Result<Rows> {
        let shape = attention.shape;
        let (head, query_width, kv_width) = (shape.head_dim, shape.query_width(), shape.kv_width());
        let (count, width) = (qkv.count, qkv.width());
        self.team.rows(&mut qkv.values, (width, width), |first, rows| {
            for (i, row) in (first..).zip(rows.chunks_exact_mut(width)) {
                if let Some((_, position)) = text_of(stretches, i) {
                    attention.rotate(position, row);
                }
            }
        });
        let (mut first, mut work) = (0, 0);
        for Stretch { kv, start, count } in &mut *stretches {
            kv.reserve(*start + *count);
            let added = *start * kv_width..(*start + *count) * kv_width;
            for (cache, column) in [(&mut kv.keys, query_width), (&mut kv.values, query_width + kv_width)] {
                self.team.rows(&mut cache[added.clone()], (kv_width, kv_width), |row, rows| {
                    let from = qkv.values[(first + row) * width..].chunks_exact(width);
                    for (to, row) in rows.chunks_exact_mut(kv_width).zip(from) {
                        to.copy_from_slice(&row[column..column + kv_width]);
                    }
                });
            }
            first += *count;
            work += *count * shape.heads * (*start + *count) * head;
        }

        let stretches = &*stretches;
        let mut out = room(count * query_width);
        let group = shape.heads / shape.kv_heads;
        let team = self.team_for(work, PARALLEL_WORK);
        let threads = team.threads();
        // Heads that share keys are computed together, unless that leaves too few parts for the threads.
        let together = if threads > 1 && count * shape.kv_heads < 2 * threads { 1 } else { group };
        let some_heads = |scores: &mut Vec<f32>, index: usize, out: &mut [f32]| {
            let (i, h) = (index * together / shape.heads, index * together % shape.heads);
            let Some((kv, position)) = text_of(stretches, i) else { return };
            let first = attention.first_seen(position);
            let at = first * kv_width + h / group * head;
            let heads = Heads {
                queries: &qkv.values[i * width + h * head..][..together * head],
                keys: &kv.keys[at..],
                values: &kv.values[at..],
                stride: kv_width,
                width: head,
            };
            scores.resize(together * (position + 1 - first), 0.0);
            kernels::attend(&heads, scores, out);
        };
        // Later positions see more: so there are several parts for each thread.
        let each = (out.len() / (together * head)).div_ceil(if threads == 1 { 1 } else { 8 * threads });
        team.chunks(&mut out, each * together * head, |i, out| {
            let mut scores = room(0);
            for (index, out) in (i * each..).zip(out.chunks_exact_mut(together * head)) {
                some_heads(&mut scores, index, out);
            }
            give_back(scores);
        });
        Ok(Rows { values: out, count })
    }

    fn scan(&self, projected: Rows, space: &HostSpace, state: &mut HostState) -> Result<Rows> {
        Ok(space.scan(&projected, state, &self.team))
    }

    fn activate(&self, activation: Activation, mut x: Rows) -> Result<Rows> {
        match activation {
            Activation::ReluSquared => {
                let width = x.width();
                self.team.rows(&mut x.values, (width, width), |_, rows| math::relu_squared(rows));
                Ok(x)
            }
            Activation::SiluGate | Activation::GeluGate => {
                let width = x.width() / 2;
                let mut values = room(x.count * width);
                self.team.rows(&mut values, (width, 2 * width), |first, out| {
                    let gate_up = &x.values[2 * first * width..][..2 * out.len()];
                    match activation {
                        Activation::GeluGate => math::gelu_gate(gate_up, width, out),
                        _ => math::silu_gate(gate_up, width, out),
                    }
                });
                Ok(Rows { values, count: x.count })
            }
        }
    }

    fn scale(&self, x: &mut Rows, factor: f32) -> Result<()> {
        for value in &mut x.values {
            *value *= factor;
        }
        Ok(())
    }

    fn add(&self, into: &mut Rows, x: Rows) -> Result<()> {
        let width = x.width();
        self.team.rows(&mut into.values, (width, width), |first, rows| {
            math::add(rows, &x.values[first * width..][..rows.len()]);
        });
        Ok(())
    }

    fn rows(&self, x: &Rows, ranges: &[Range<usize>]) -> Result<Rows> {
        let (width, count) = (x.width(), ranges.iter().map(ExactSizeIterator::len).sum());
        let mut values = room(count * width);
        let mut rest = values.as_mut_slice();
        for range in ranges {
            let (rows, tail) = rest.split_at_mut(range.len() * width);
            rows.copy_from_slice(&x.values[range.start * width..range.end * width]);
            rest = tail;
        }
        Ok(Rows { values, count })
    }

    fn join(&self, parts: Vec<Rows>) -> Result<Rows> {
        let mut values = room(0);
        for part in &parts {
            values.extend_from_slice(&part.values);
        }
        Ok(Rows { values, count: parts.iter().map(|part| part.count).sum() })
    }

    fn read(&self, x: Rows) -> Result<Vec<f32>> {
        Ok(x.into_values())
    }
}

impl Attention<'_, Host> {
    /// Makes queries and keys of a row of queries, keys and values what they are at a position.
    fn rotate(&self, position: usize, row: &mut [f32]) {
        let Attention { shape, rope, query_norm, key_norm, .. } = *self;
        let (queries, rest) = row.split_at_mut(shape.query_width());
        let keys = &mut rest[..shape.kv_width()];
        if let Some(norm) = query_norm {
            norm.apply(queries);
        }
        if let Some(norm) = key_norm {
            norm.apply(keys);
        }
        if let Some(rope) = rope {
            let angles = position * rope.half..(position + 1) * rope.half;
            let (cos, sin) = (&rope.cos[angles.clone()], &rope.sin[angles]);
            let rotate = match shape.rope_style {
                RopeStyle::Halves => math::rotate_halves,
                RopeStyle::Pairs => math::rotate_pairs,
            };
            for numbers in [&mut *queries, keys] {
                numbers.chunks_exact_mut(shape.head_dim).for_each(|vector| rotate(vector, cos, sin));
            }
        }
        let scale = shape.scale as f32;
        for q in queries {
            *q *= scale;
        }
    }
}

/// The cache of the text that row number `row` of a pass belongs to, and its position there; none belongs to no text.
fn text_of<'a>(stretches: &'a [Stretch<'_, Host>], mut row: usize) -> Option<(&'a HostKv, usize)> {
    for stretch in stretches {
        if row < stretch.count {
            return Some((&*stretch.kv, stretch.start + row));
        }
        row -= stretch.count;
    }
    None
}

/// How many rows of a matrix are multiplied at a time.
fn piece_rows(matrix: &RawTensor, threads: usize) -> usize {
    let rows = matrix.shape[0].max(1);
    if threads == 1 {
        return rows;
    }
    // Several pieces for each thread even out cores that are busy with something else.
    rows.div_ceil(threads * 4).next_multiple_of(kernels::PART)
}

/// Puts the products of a piece with some of `count` rows of activations, from number `first` on, into rows of `outputs` numbers, from
/// number `column` of each on.
fn place(
    piece: &[f32],
    count: usize,
    by_activations: bool,
    first: usize,
    values: &mut [f32],
    outputs: usize,
    column: usize,
) {
    let rows = piece.len() / count;
    for (i, row) in (first..).zip(values.chunks_exact_mut(outputs)) {
        let row = &mut row[column..column + rows];
        if by_activations {
            row.copy_from_slice(&piece[i * rows..][..rows]);
        } else {
            for (value, products) in row.iter_mut().zip(piece.chunks_exact(count)) {
                *value = products[i];
            }
        }
    }
}
