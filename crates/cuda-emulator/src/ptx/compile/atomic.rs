//! Reading and changing memory in one step (PTX ISA, "Parallel Synchronization and Communication Instructions: atom, red").

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use half::{bf16, f16};

use super::{
    Compiler,
    half::Half,
    memory::{Address, space},
};
use crate::ptx::{
    fault::Fault,
    launch::{DONE, Place},
    machine::{Action, Block, Warp, lanes},
    statement::{Statement, Wrong},
    types::{Ty, Word},
};

/// What becomes of what is in memory, by one operand or two.
type Change = fn(u64, u64, u64) -> u64;

macro_rules! change {
    ($t:ty, $work:expr) => {
        Some(|old, b, _| {
            let work: fn($t, $t) -> $t = $work;
            work(<$t>::get(old), <$t>::get(b)).put()
        })
    };
}

fn pairwise<H: Half>(old: u64, b: u64) -> u64 {
    let (old, b) = (<[H; 2]>::get(old), <[H; 2]>::get(b));
    [0, 1].map(|index| H::narrow(old[index].wide() + b[index].wide())).put()
}

fn change(name: &str, ty: Ty) -> Option<Change> {
    match (name, ty) {
        ("and", _) => Some(|old, b, _| old & b),
        ("or", _) => Some(|old, b, _| old | b),
        ("xor", _) => Some(|old, b, _| old ^ b),
        ("exch", _) => Some(|_, b, _| b),
        ("cas", Ty::B16) => Some(|old, b, c| if old as u16 == b as u16 { c } else { old }),
        ("cas", Ty::B64 | Ty::U64) => Some(|old, b, c| if old == b { c } else { old }),
        ("cas", _) => Some(|old, b, c| if old as u32 == b as u32 { c } else { old }),
        ("inc", _) => change!(u32, |old, b| if old >= b { 0 } else { old + 1 }),
        ("dec", _) => change!(u32, |old, b| if old == 0 || old > b { b } else { old - 1 }),
        ("add", Ty::U32 | Ty::S32) => change!(u32, u32::wrapping_add),
        ("add", Ty::U64 | Ty::S64) => change!(u64, u64::wrapping_add),
        ("add", Ty::F32) => change!(f32, |a, b| a + b),
        ("add", Ty::F64) => change!(f64, |a, b| a + b),
        ("add", Ty::F16) => change!(f16, |a, b| f16::from_f32(a.to_f32() + b.to_f32())),
        ("add", Ty::Bf16) => change!(bf16, |a, b| bf16::from_f32(a.to_f32() + b.to_f32())),
        ("add", Ty::F16x2) => Some(|old, b, _| pairwise::<f16>(old, b)),
        ("add", Ty::Bf16x2) => Some(|old, b, _| pairwise::<bf16>(old, b)),
        ("min", Ty::U32) => change!(u32, |a, b| a.min(b)),
        ("min", Ty::S32) => change!(i32, |a, b| a.min(b)),
        ("min", Ty::U64) => change!(u64, |a, b| a.min(b)),
        ("min", Ty::S64) => change!(i64, |a, b| a.min(b)),
        ("max", Ty::U32) => change!(u32, |a, b| a.max(b)),
        ("max", Ty::S32) => change!(i32, |a, b| a.max(b)),
        ("max", Ty::U64) => change!(u64, |a, b| a.max(b)),
        ("max", Ty::S64) => change!(i64, |a, b| a.max(b)),
        _ => None,
    }
}

/// Changes a number in memory, and returns what it was.
fn update(
    warp: &mut Warp,
    block: &mut Block<'_>,
    (lane, address, bytes): (usize, Address, usize),
    work: impl Fn(u64) -> u64,
) -> Result<u64, Box<Fault>> {
    let place = block.place(warp, lane, address.space, address.of(warp, lane), bytes)?;
    let within = |memory: &mut [u8], at: usize| {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&memory[at..at + bytes]);
        let old = u64::from_le_bytes(number);
        memory[at..at + bytes].copy_from_slice(&work(old).to_le_bytes()[..bytes]);
        old
    };
    Ok(match place {
        Place::Shared(at) => within(&mut block.shared, at),
        Place::Local(at) => within(&mut warp.local, at),
        Place::Parameter(_) => return Err(Fault::new("a kernel's parameter is changed")),
        Place::Global(pointer) => {
            macro_rules! atomic {
                ($atomic:ty, $t:ty) => {{
                    // SAFETY: the place is allocated and aligned, as `Block::place` has checked.
                    #[allow(unsafe_code)]
                    let atomic = unsafe { <$atomic>::from_ptr(pointer.cast()) };
                    let changed = atomic.fetch_update(SeqCst, SeqCst, |old| Some(work(u64::from(old)) as $t));
                    u64::from(changed.unwrap_or_else(|old| old))
                }};
            }
            match bytes {
                2 => atomic!(AtomicU16, u16),
                4 => atomic!(AtomicU32, u32),
                _ => atomic!(AtomicU64, u64),
            }
        }
    })
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn atomic(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if !matches!(s.name, "atom" | "red") || s.has("v2") || s.has("v4") || s.has("v8") {
            return Ok(None);
        }
        let Some(ty) = s.last_type() else { return Ok(None) };
        let Some(work) = s.parts.iter().rev().find_map(|part| change(part, ty)) else { return Ok(None) };
        let mut operands = s.operands.iter();
        let d = if s.name == "atom" { self.target(operands.next())? } else { self.register() } as usize;
        let address = self.place(operands.next(), space(&s.parts))?;
        let b = self.source(operands.next(), ty)? as usize;
        let c = match operands.next() {
            Some(operand) => self.source(Some(operand), ty)? as usize,
            None => b,
        };
        let bytes = ty.bytes();
        Ok(Some(Box::new(move |warp, block, mask| {
            for lane in lanes(mask) {
                let (b, c) = (warp.registers[b][lane], warp.registers[c][lane]);
                let old = update(warp, block, (lane, address, bytes), |old| work(old, b, c))?;
                warp.registers[d][lane] = old;
            }
            DONE
        })))
    }
}
