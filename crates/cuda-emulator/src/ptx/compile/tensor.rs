//! Products of matrices that a warp holds in its registers (PTX ISA, "Warp-Level Matrix Instructions", whose figures say which
//! lane holds which elements: "Matrix Fragments for mma.m16n8k16" and the like, and "ldmatrix").
//!
//! In those figures a lane has a group, its number divided by 4, and a place in the group, the rest. Of the left matrix and of
//! the sum a lane holds elements of the row that the group says, and of the one 8 below; of the right matrix, of the column that
//! the group says.

use half::{bf16, f16};

use super::Compiler;
use crate::ptx::{
    fault::Fault,
    launch::{DONE, Place, Space},
    machine::{Action, LANES, Warp},
    races::Way,
    statement::{Operand, Statement, Wrong},
    types::{Ty, Word},
};

const ROWS: usize = 16;
const COLUMNS: usize = 8;

/// How elements of the factors lie in registers.
#[derive(Clone, Copy)]
struct Layout {
    /// Elements in a register.
    packed: usize,
}

impl Layout {
    /// The row of the left matrix, and the inner index, of an element of a register.
    fn left(self, lane: usize, register: usize, element: usize) -> (usize, usize) {
        let row = lane / 4 + 8 * (register % 2);
        (row, (register / 2 * 4 + lane % 4) * self.packed + element)
    }

    /// The inner index, and the column of the right matrix.
    fn right(self, lane: usize, register: usize, element: usize) -> (usize, usize) {
        ((register * 4 + lane % 4) * self.packed + element, lane / 4)
    }
}

/// The row and the column of an element of the sum.
fn sum_place(lane: usize, index: usize) -> (usize, usize) {
    (lane / 4 + 8 * (index / 2), lane % 4 * 2 + index % 2)
}

/// An element of a register as an integer.
fn integer(ty: Ty, register: u64, index: usize) -> i32 {
    let byte = (register >> (8 * index)) as u8;
    if ty == Ty::S8 { i32::from(byte as i8) } else { i32::from(byte) }
}

/// An element of a register as a floating-point number.
pub(super) fn float(ty: Ty, register: u64, index: usize) -> f32 {
    match ty {
        Ty::F16 => f16::get(register >> (16 * index)).to_f32(),
        Ty::Bf16 => bf16::get(register >> (16 * index)).to_f32(),
        // Of a tf32 the lower bits don't count.
        _ => f32::from_bits(register as u32 & !0x1fff),
    }
}

/// The left and the right matrix, both with what is multiplied side by side.
type Factors<T> = ([[T; 32]; ROWS], [[T; 32]; COLUMNS]);

fn factors<T: Copy + Default>(
    warp: &Warp,
    layout: Layout,
    (a, b): (&[usize], &[usize]),
    (a_ty, b_ty): (Ty, Ty),
    read: impl Fn(Ty, u64, usize) -> T,
) -> Factors<T> {
    let mut left = [[T::default(); 32]; ROWS];
    let mut right = [[T::default(); 32]; COLUMNS];
    for lane in 0..LANES {
        for (register, &slot) in a.iter().enumerate() {
            for index in 0..layout.packed {
                let (row, inner) = layout.left(lane, register, index);
                left[row][inner] = read(a_ty, warp.registers[slot][lane], index);
            }
        }
        for (register, &slot) in b.iter().enumerate() {
            for index in 0..layout.packed {
                let (inner, column) = layout.right(lane, register, index);
                right[column][inner] = read(b_ty, warp.registers[slot][lane], index);
            }
        }
    }
    (left, right)
}

/// The shapes that are known, as rows, columns and the inner dimension.
fn shape(s: &Statement<'_>) -> Option<usize> {
    ["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"]
        .into_iter()
        .zip([4, 8, 16, 32])
        .find_map(|(name, inner)| s.has(name).then_some(inner))
}

impl<'t> Compiler<'t> {
    /// `mma.sync`.
    pub(super) fn multiply_matrices(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let ([d_ty, a_ty, b_ty, c_ty], Some(inner)) = (&s.types[..], shape(s)) else { return Ok(None) };
        let (d_ty, a_ty, b_ty, c_ty) = (*d_ty, *a_ty, *b_ty, *c_ty);
        let packed = match a_ty {
            Ty::S8 | Ty::U8 => 4,
            Ty::F16 | Ty::Bf16 => 2,
            Ty::Tf32 => 1,
            _ => return Ok(None),
        };
        let d = self.registers_of(s.operands.first(), true)?;
        let a = self.registers_of(s.operands.get(1), false)?;
        let b = self.registers_of(s.operands.get(2), false)?;
        let c = self.registers_of(s.operands.get(3), false)?;
        // A lane holds a 32nd of each matrix.
        let fits = a.len() * packed * LANES == ROWS * inner && b.len() * packed * LANES == COLUMNS * inner;
        let halves = (d_ty == Ty::F16, c_ty == Ty::F16);
        let sums = |half: bool| if half { 2 } else { 4 };
        if !fits || !s.has("row") || !s.has("col") || d.len() != sums(halves.0) || c.len() != sums(halves.1) {
            return Ok(None);
        }
        let layout = Layout { packed };
        if packed == 4 {
            let saturate = s.has("satfinite");
            return Ok(Some(Box::new(move |warp, _, _| {
                let (left, right) = factors(warp, layout, (&a, &b), (a_ty, b_ty), integer);
                for lane in 0..LANES {
                    for index in 0..4 {
                        let (row, column) = sum_place(lane, index);
                        let product: i32 = left[row].iter().zip(&right[column]).map(|(a, b)| a * b).sum();
                        let old = i32::get(warp.registers[c[index]][lane]);
                        let sum =
                            if saturate { old.saturating_add(product) } else { old.wrapping_add(product) };
                        warp.registers[d[index]][lane] = sum.put();
                    }
                }
                DONE
            })));
        }
        Ok(Some(Box::new(move |warp, _, _| {
            let (left, right) = factors(warp, layout, (&a, &b), (a_ty, b_ty), float);
            for lane in 0..LANES {
                let mut sums = [0.0_f32; 4];
                for (index, sum) in sums.iter_mut().enumerate() {
                    let (row, column) = sum_place(lane, index);
                    let old = if halves.1 {
                        <[f16; 2]>::get(warp.registers[c[index / 2]][lane])[index % 2].to_f32()
                    } else {
                        f32::get(warp.registers[c[index]][lane])
                    };
                    // Products are exact, and are summed up with more bits than f32 has, as cards do within one instruction.
                    let product: f64 = left[row]
                        .iter()
                        .zip(&right[column])
                        .map(|(&a, &b)| f64::from(a) * f64::from(b))
                        .sum();
                    *sum = (f64::from(old) + product) as f32;
                }
                for (index, &slot) in d.iter().enumerate() {
                    warp.registers[slot][lane] = if halves.0 {
                        [sums[2 * index], sums[2 * index + 1]].map(f16::from_f32).put()
                    } else {
                        sums[index].put()
                    };
                }
            }
            DONE
        })))
    }

    /// The registers of a matrix.
    pub(super) fn registers_of(
        &mut self,
        operand: Option<&Operand<'t>>,
        written: bool,
    ) -> Result<Vec<usize>, Wrong> {
        let Some(Operand::List(list)) = operand else { return Err("a matrix is missing".to_owned()) };
        list.iter()
            .map(|element| {
                let slot =
                    if written { self.target(Some(element)) } else { self.source(Some(element), Ty::B32) };
                slot.map(|slot| slot as usize)
            })
            .collect()
    }

    /// `ldmatrix`: loads matrices of 8 by 8 elements of 16 bits. Of each, 8 lanes give the addresses of the rows; a lane gets two
    /// elements of the row that is its group, or with `.trans` of the column.
    pub(super) fn load_matrices(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if !s.has("m8n8") || !s.has("b16") {
            return Ok(None);
        }
        let into = self.registers_of(s.operands.first(), true)?;
        let space = if s.has("shared") || s.has("shared::cta") { Space::Shared } else { Space::Generic };
        let address = self.place(s.operands.get(1), space)?;
        let turned = s.has("trans");
        Ok(Some(Box::new(move |warp, block, _| {
            for (matrix, &slot) in into.iter().enumerate() {
                let mut rows = [[0_u16; 8]; 8];
                for (row, elements) in rows.iter_mut().enumerate() {
                    let lane = matrix * 8 + row;
                    let at = address.of(warp, lane);
                    // All of a row is there, and is aligned to its size.
                    let place = block.place(warp, lane, address.space, at, 16)?;
                    block.touch((warp.index, lane), &place, 16, Way::Read)?;
                    let Place::Shared(at) = place else {
                        return Err(Fault::new("ldmatrix of other memory than the block's").lane(lane));
                    };
                    for (element, bytes) in elements.iter_mut().zip(block.shared[at..at + 16].chunks(2)) {
                        *element = u16::from_le_bytes([bytes[0], bytes[1]]);
                    }
                }
                for lane in 0..LANES {
                    let (group, place) = (lane / 4, lane % 4 * 2);
                    let two = [0, 1].map(|index| {
                        if turned { rows[place + index][group] } else { rows[group][place + index] }
                    });
                    warp.registers[slot][lane] = two.put();
                }
            }
            DONE
        })))
    }
}
