//! Loads, stores, moves and addresses (PTX ISA, "Data Movement and Conversion Instructions").

use super::{
    Compiler,
    lanes::{copy, one, set},
};
use crate::ptx::{
    fault::{Fault, Outcome},
    launch::{DONE, LOCAL, Place, SHARED, Space, WINDOW},
    machine::{Action, Block, LANES, Slot, Warp, lanes},
    races::Way,
    statement::{Operand, Statement, Wrong},
    types::Ty,
};

/// An address: what a register says, and so much more.
#[derive(Clone, Copy)]
pub(super) struct Address {
    base: usize,
    offset: u64,
    pub(super) space: Space,
}

impl Address {
    /// The address that a lane means.
    #[inline]
    pub(super) fn of(self, warp: &Warp, lane: usize) -> u64 {
        let address = warp.registers[self.base][lane].wrapping_add(self.offset);
        // Of addresses within a space only the lower half counts: the register may have no more.
        match self.space {
            Space::Shared | Space::Local => address & u64::from(u32::MAX),
            _ => address,
        }
    }
}

/// The space that an instruction's name says.
pub(super) fn space(parts: &[&str]) -> Space {
    for part in parts {
        match *part {
            "global" | "const" => return Space::Global,
            "shared" | "shared::cta" => return Space::Shared,
            "local" => return Space::Local,
            _ => {}
        }
    }
    // Parameters have an address that says so.
    Space::Generic
}

/// Reads `BYTES` at a place, `index` such elements further.
#[inline(always)]
pub(super) fn read<const BYTES: usize>(warp: &Warp, block: &Block<'_>, place: &Place, index: usize) -> u64 {
    let of = |bytes: &[u8], at: usize| {
        let mut number = [0; 8];
        number[..BYTES].copy_from_slice(&bytes[at + index * BYTES..][..BYTES]);
        u64::from_le_bytes(number)
    };
    match *place {
        Place::Shared(at) => of(&block.shared, at),
        Place::Local(at) => of(&warp.local, at),
        Place::Parameter(at) => of(block.launch.parameters, at),
        Place::Global(pointer) => {
            // SAFETY: the place is allocated and aligned, which `Block::place` has checked for all elements.
            #[allow(unsafe_code)]
            unsafe {
                load::<BYTES>(pointer.add(index * BYTES))
            }
        }
    }
}

/// Reads memory of the card. Other blocks may access it at the same time, therefore with atomic accesses, which cost nothing
/// here.
///
/// # Safety
///
/// The memory has to be there, and aligned.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn load<const BYTES: usize>(pointer: *mut u8) -> u64 {
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
    // SAFETY: as the caller promises.
    unsafe {
        match BYTES {
            1 => AtomicU8::from_ptr(pointer).load(Relaxed).into(),
            2 => AtomicU16::from_ptr(pointer.cast()).load(Relaxed).into(),
            4 => AtomicU32::from_ptr(pointer.cast()).load(Relaxed).into(),
            _ => AtomicU64::from_ptr(pointer.cast()).load(Relaxed),
        }
    }
}

/// Writes memory of the card.
///
/// # Safety
///
/// The memory has to be there, and aligned.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn store<const BYTES: usize>(pointer: *mut u8, value: u64) {
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
    // SAFETY: as the caller promises.
    unsafe {
        match BYTES {
            1 => AtomicU8::from_ptr(pointer).store(value as u8, Relaxed),
            2 => AtomicU16::from_ptr(pointer.cast()).store(value as u16, Relaxed),
            4 => AtomicU32::from_ptr(pointer.cast()).store(value as u32, Relaxed),
            _ => AtomicU64::from_ptr(pointer.cast()).store(value, Relaxed),
        }
    }
}

/// Writes `BYTES` at a place, `index` such elements further.
#[inline(always)]
pub(super) fn write<const BYTES: usize>(
    warp: &mut Warp,
    block: &mut Block<'_>,
    place: &Place,
    index: usize,
    value: u64,
) -> Outcome {
    let bytes = &value.to_le_bytes()[..BYTES];
    match *place {
        Place::Shared(at) => block.shared[at + index * BYTES..][..BYTES].copy_from_slice(bytes),
        Place::Local(at) => warp.local[at + index * BYTES..][..BYTES].copy_from_slice(bytes),
        Place::Parameter(_) => return Err(Fault::new("a kernel's parameter is written")),
        Place::Global(pointer) => {
            // SAFETY: the place is allocated and aligned, which `Block::place` has checked for all elements.
            #[allow(unsafe_code)]
            unsafe {
                store::<BYTES>(pointer.add(index * BYTES), value);
            }
        }
    }
    DONE
}

fn loading<const BYTES: usize>(into: Vec<usize>, address: Address, signed: bool) -> Action {
    let all = BYTES * into.len();
    let shift = 64 - 8 * BYTES as u32;
    Box::new(move |warp, block, mask| {
        for lane in lanes(mask) {
            let place = block.place(warp, lane, address.space, address.of(warp, lane), all)?;
            block.touch((warp.index, lane), &place, all, Way::Read)?;
            for (index, &slot) in into.iter().enumerate() {
                let value = read::<BYTES>(warp, block, &place, index);
                warp.registers[slot][lane] =
                    if signed { ((value << shift) as i64 >> shift) as u64 } else { value };
            }
        }
        DONE
    })
}

fn storing<const BYTES: usize>(from: Vec<usize>, address: Address) -> Action {
    let all = BYTES * from.len();
    Box::new(move |warp, block, mask| {
        for lane in lanes(mask) {
            let place = block.place(warp, lane, address.space, address.of(warp, lane), all)?;
            if block.races.is_some() && matches!(place, Place::Shared(_)) {
                let stays = |(index, &slot): (usize, &usize)| {
                    let value = warp.registers[slot][lane] & (u64::MAX >> (64 - 8 * BYTES));
                    read::<BYTES>(warp, block, &place, index) == value
                };
                let way = if from.iter().enumerate().all(stays) { Way::Repeat } else { Way::Change };
                block.touch((warp.index, lane), &place, all, way)?;
            }
            for (index, &slot) in from.iter().enumerate() {
                let value = warp.registers[slot][lane];
                write::<BYTES>(warp, block, &place, index, value)?;
            }
        }
        DONE
    })
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn memory(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        match s.name {
            "ld" | "ldu" => self.load(s),
            "st" => self.store(s),
            "mov" if s.last_type() != Some(Ty::Pred) => self.mov(s),
            "cvta" => self.address_of(s),
            "isspacep" => self.is_space(s),
            "cp" if s.parts.first() == Some(&"async") => self.copy_ahead(s),
            // Everything happens in order here, and at once.
            "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" => Ok(Some(Box::new(|_, _, _| DONE))),
            _ => Ok(None),
        }
    }

    /// An operand in square brackets.
    pub(super) fn place(&mut self, operand: Option<&Operand<'t>>, space: Space) -> Result<Address, Wrong> {
        let Some(Operand::Address(base, offset)) = operand else {
            return Err("an address is missing".to_owned());
        };
        let base = match base {
            Some(name) => self.named(name)?,
            None => self.constant(0),
        };
        Ok(Address { base: base as usize, offset: *offset as u64, space })
    }

    fn elements(
        &mut self,
        operand: Option<&Operand<'t>>,
        ty: Ty,
        written: bool,
    ) -> Result<Vec<usize>, Wrong> {
        let list = match operand {
            Some(Operand::List(list)) => list.iter().collect(),
            Some(one) => vec![one],
            None => return Err("an operand is missing".to_owned()),
        };
        list.into_iter()
            .map(|element| {
                let slot = if written { self.target(Some(element)) } else { self.source(Some(element), ty) };
                slot.map(|slot| slot as usize)
            })
            .collect()
    }

    fn load(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let into = self.elements(s.operands.first(), ty, true)?;
        let address = self.place(s.operands.get(1), space(&s.parts))?;
        Ok(Some(match ty.bytes() {
            1 => loading::<1>(into, address, ty.signed()),
            2 => loading::<2>(into, address, ty.signed()),
            4 => loading::<4>(into, address, ty.signed()),
            _ => loading::<8>(into, address, false),
        }))
    }

    fn store(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let address = self.place(s.operands.first(), space(&s.parts))?;
        let from = self.elements(s.operands.get(1), ty, false)?;
        Ok(Some(match ty.bytes() {
            1 => storing::<1>(from, address),
            2 => storing::<2>(from, address),
            4 => storing::<4>(from, address),
            _ => storing::<8>(from, address),
        }))
    }

    fn mov(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let (first, second) = (s.operands.first(), s.operands.get(1));
        if let Some(Operand::List(list)) = first {
            let width = ty.bytes() * 8 / list.len().max(1);
            let into = self.elements(first, ty, true)?;
            let from = self.source(second, ty)? as usize;
            let all = u64::MAX >> (64 - width);
            return Ok(Some(Box::new(move |warp, _, mask| {
                for lane in lanes(mask) {
                    let value = warp.registers[from][lane];
                    for (index, &slot) in into.iter().enumerate() {
                        warp.registers[slot][lane] = value >> (index * width) & all;
                    }
                }
                DONE
            })));
        }
        let into = self.target(first)?;
        if let Some(Operand::List(list)) = second {
            let width = ty.bytes() * 8 / list.len().max(1);
            let from = self.elements(second, ty, false)?;
            let all = u64::MAX >> (64 - width);
            return Ok(Some(Box::new(move |warp, _, mask| {
                for lane in lanes(mask) {
                    let pack = |value, (index, &slot): (usize, &usize)| {
                        value | (warp.registers[slot][lane] & all) << (index * width)
                    };
                    let value = from.iter().enumerate().fold(0, pack);
                    warp.registers[into as usize][lane] = value;
                }
                DONE
            })));
        }
        let from = self.source(second, ty)?;
        Ok(Some(copy(into, from)))
    }

    /// Makes a generic address of one of a space, or the other way round.
    fn address_of(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), Ty::U64)?;
        let base = match space(&s.parts) {
            Space::Shared => SHARED,
            Space::Local => LOCAL,
            _ => return Ok(Some(copy(d, a))),
        };
        Ok(Some(if s.has("to") {
            one(d, a, |address: u64| address & !WINDOW)
        } else {
            one(d, a, move |address: u64| base + (address & u64::from(u32::MAX)))
        }))
    }

    fn is_space(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let d = self.truth_target(s.operands.first())? as usize;
        let a = self.source(s.operands.get(1), Ty::U64)? as usize;
        let wanted = match space(&s.parts) {
            Space::Shared => SHARED,
            Space::Local => LOCAL,
            _ => 0,
        };
        Ok(Some(Box::new(move |warp, _, mask| {
            let bits = (0..LANES)
                .fold(0, |bits, lane| bits | u32::from(warp.registers[a][lane] & WINDOW == wanted) << lane);
            set(&mut warp.predicates[d], bits, mask);
            DONE
        })))
    }

    /// `cp.async`: copies to the block's memory. It is done at once, so that there's nothing to wait for.
    fn copy_ahead(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if s.has("commit_group") || s.has("wait_group") || s.has("wait_all") {
            return Ok(Some(Box::new(|_, _, _| DONE)));
        }
        let into = self.place(s.operands.first(), Space::Shared)?;
        let from = self.place(s.operands.get(1), Space::Global)?;
        let Some(&Operand::Bits(bytes)) = s.operands.get(2) else { return Ok(None) };
        let bytes = bytes as usize;
        // With fewer bytes to copy than there is room for, the rest is filled with zero.
        let copied: Option<Slot> = match s.operands.get(3) {
            Some(operand) => Some(self.source(Some(operand), Ty::U32)?),
            None => None,
        };
        Ok(Some(Box::new(move |warp, block, mask| {
            for lane in lanes(mask) {
                let target = block.place(warp, lane, into.space, into.of(warp, lane), bytes)?;
                block.touch((warp.index, lane), &target, bytes, Way::Change)?;
                let copied = copied
                    .map_or(bytes, |slot| (warp.registers[slot as usize][lane] as u32 as usize).min(bytes));
                let address = from.of(warp, lane);
                for word in 0..bytes / 4 {
                    let left = copied.saturating_sub(word * 4).min(4);
                    let mut value = 0;
                    for byte in 0..left {
                        let at = address.wrapping_add((word * 4 + byte) as u64);
                        let source = block.place(warp, lane, from.space, at, 1)?;
                        value |= read::<1>(warp, block, &source, 0) << (8 * byte);
                    }
                    write::<4>(warp, block, &target, word, value)?;
                }
            }
            DONE
        })))
    }
}
