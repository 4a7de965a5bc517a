//! `wmma`: products of matrices that a warp loads, multiplies and stores as wholes (PTX ISA, "Warp-level Matrix Instructions
//! using wmma"). Which lane holds which elements is not said there, and no program may depend on it. Here the elements are dealt
//! out row by row, to each lane as many as come to it.

use half::f16;

use super::{
    Compiler,
    memory::{read, space, write},
    tensor::float,
};
use crate::ptx::{
    fault::Fault,
    launch::DONE,
    machine::{Action, LANES, Warp},
    races::Way,
    statement::{Operand, Statement, Wrong},
    types::{Ty, Word},
};

/// A matrix that is spread over the lanes.
#[derive(Clone)]
struct Spread {
    registers: Vec<usize>,
    ty: Ty,
    rows: usize,
    columns: usize,
}

impl Spread {
    /// The row and the column of a lane's element.
    fn place(&self, lane: usize, index: usize) -> (usize, usize) {
        let element = lane * self.of_lane() + index;
        (element / self.columns, element % self.columns)
    }

    /// Elements of a lane.
    fn of_lane(&self) -> usize {
        self.rows * self.columns / LANES
    }

    /// Elements of a register.
    fn packed(&self) -> usize {
        4 / self.ty.bytes()
    }

    /// Whether there are registers enough. Of f16 there are more than enough, which is how cards hold each element twice.
    fn fits(&self) -> bool {
        matches!(self.ty, Ty::F16 | Ty::Bf16 | Ty::F32)
            && self.registers.len() * self.packed() >= self.of_lane()
    }

    fn get(&self, warp: &Warp, lane: usize, index: usize) -> f32 {
        let register = warp.registers[self.registers[index / self.packed()]][lane];
        if self.ty == Ty::F32 { f32::get(register) } else { float(self.ty, register, index % self.packed()) }
    }

    fn bits(&self, warp: &Warp, lane: usize, index: usize) -> u64 {
        let width = 8 * self.ty.bytes();
        let register = warp.registers[self.registers[index / self.packed()]][lane];
        register >> (width * (index % self.packed())) & (u64::MAX >> (64 - width))
    }

    fn set_bits(&self, warp: &mut Warp, lane: usize, index: usize, bits: u64) {
        let width = 8 * self.ty.bytes();
        let shift = width * (index % self.packed());
        let register = &mut warp.registers[self.registers[index / self.packed()]][lane];
        *register = (*register & !((u64::MAX >> (64 - width)) << shift)) | bits << shift;
    }

    /// All of it, row by row.
    fn whole(&self, warp: &Warp) -> Vec<f32> {
        let lanes = (0..LANES).flat_map(|lane| (0..self.of_lane()).map(move |index| (lane, index)));
        lanes.map(|(lane, index)| self.get(warp, lane, index)).collect()
    }
}

/// Rows, columns and the inner dimension.
fn shape(s: &Statement<'_>) -> Option<[usize; 3]> {
    let shapes = [("m16n16k16", [16, 16, 16]), ("m8n32k16", [8, 32, 16]), ("m32n8k16", [32, 8, 16])];
    shapes.into_iter().find_map(|(name, sizes)| s.has(name).then_some(sizes))
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn matrix(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        match s.parts.first().copied() {
            Some("load" | "store") => self.transfer(s),
            Some("mma") => self.product(s),
            _ => Ok(None),
        }
    }

    fn spread(
        &mut self,
        operand: Option<&Operand<'t>>,
        (which, ty): (&str, Ty),
        [rows, columns, inner]: [usize; 3],
    ) -> Result<Spread, Wrong> {
        let registers = self.registers_of(operand, false)?;
        let (rows, columns) = match which {
            "a" => (rows, inner),
            "b" => (inner, columns),
            _ => (rows, columns),
        };
        Ok(Spread { registers, ty, rows, columns })
    }

    fn transfer(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let (Some(shape), Some(ty), Some(which)) = (shape(s), s.last_type(), s.parts.get(1)) else {
            return Ok(None);
        };
        let loads = s.has("load");
        let (registers, place) = if loads { (0, 1) } else { (1, 0) };
        let spread = self.spread(s.operands.get(registers), (which, ty), shape)?;
        let address = self.place(s.operands.get(place), space(&s.parts))?;
        if !spread.fits() {
            return Ok(None);
        }
        let by_row = s.has("row");
        // How far rows, or columns, are apart, in elements.
        let stride = match s.operands.get(2) {
            Some(operand) => self.source(Some(operand), Ty::U32)?,
            None => self.constant(if by_row { spread.columns } else { spread.rows } as u64),
        } as usize;
        let bytes = ty.bytes();
        Ok(Some(Box::new(move |warp, block, _| {
            for lane in 0..LANES {
                let stride = u64::from(warp.registers[stride][lane] as u32);
                for index in 0..spread.of_lane() {
                    let (row, column) = spread.place(lane, index);
                    let (line, within) = if by_row { (row, column) } else { (column, row) };
                    let offset = (line as u64 * stride + within as u64) * bytes as u64;
                    let at = address.of(warp, lane).wrapping_add(offset);
                    let place = block.place(warp, lane, address.space, at, bytes)?;
                    block.touch(
                        (warp.index, lane),
                        &place,
                        bytes,
                        if loads { Way::Read } else { Way::Change },
                    )?;
                    match (loads, bytes) {
                        (true, 2) => {
                            let bits = read::<2>(warp, block, &place, 0);
                            spread.set_bits(warp, lane, index, bits);
                        }
                        (true, _) => {
                            let bits = read::<4>(warp, block, &place, 0);
                            spread.set_bits(warp, lane, index, bits);
                        }
                        (false, 2) => {
                            let bits = spread.bits(warp, lane, index);
                            write::<2>(warp, block, &place, 0, bits)?;
                        }
                        (false, 4) => {
                            let bits = spread.bits(warp, lane, index);
                            write::<4>(warp, block, &place, 0, bits)?;
                        }
                        _ => return Err(Fault::new("elements of another size")),
                    }
                }
            }
            DONE
        })))
    }

    fn product(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(shape) = shape(s) else { return Ok(None) };
        let (d_ty, factors, c_ty) = match s.types[..] {
            [d, c] => (d, Ty::F16, c),
            [d, a, b, c] if a == b => (d, a, c),
            _ => return Ok(None),
        };
        let d = self.spread(s.operands.first(), ("d", d_ty), shape)?;
        let a = self.spread(s.operands.get(1), ("a", factors), shape)?;
        let b = self.spread(s.operands.get(2), ("b", factors), shape)?;
        let c = self.spread(s.operands.get(3), ("c", c_ty), shape)?;
        if s.has("satfinite") || ![&a, &b, &c, &d].into_iter().all(Spread::fits) {
            return Ok(None);
        }
        let [_, columns, inner] = shape;
        Ok(Some(Box::new(move |warp, _, _| {
            let (left, right, sums) = (a.whole(warp), b.whole(warp), c.whole(warp));
            for lane in 0..LANES {
                for index in 0..d.of_lane() {
                    let (row, column) = d.place(lane, index);
                    let product: f64 = (0..inner)
                        .map(|k| f64::from(left[row * inner + k]) * f64::from(right[k * columns + column]))
                        .sum();
                    let sum = (f64::from(sums[row * columns + column]) + product) as f32;
                    let bits = if d.ty == Ty::F16 { f16::from_f32(sum).put() } else { sum.put() };
                    d.set_bits(warp, lane, index, bits);
                }
            }
            DONE
        })))
    }
}
