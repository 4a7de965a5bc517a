//! Arithmetic with integers (PTX ISA, "Integer Arithmetic Instructions" and "Extended-Precision Integer Arithmetic
//! Instructions").

use super::{
    CARRY, Compiler,
    lanes::{four, one, set, three, two},
};
use crate::ptx::{
    launch::DONE,
    machine::{Action, Slot, lanes},
    statement::{Statement, Wrong},
    types::Ty,
};

/// Does something with `$t` being the integer that `$ty` means.
macro_rules! by_integer {
    ($ty:expr, $t:ident => $do:expr) => {
        match $ty {
            Ty::U16 | Ty::B16 => {
                type $t = u16;
                Some($do)
            }
            Ty::S16 => {
                type $t = i16;
                Some($do)
            }
            Ty::U32 | Ty::B32 => {
                type $t = u32;
                Some($do)
            }
            Ty::S32 => {
                type $t = i32;
                Some($do)
            }
            Ty::U64 | Ty::B64 => {
                type $t = u64;
                Some($do)
            }
            Ty::S64 => {
                type $t = i64;
                Some($do)
            }
            _ => None,
        }
    };
}
pub(super) use by_integer;

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn integer(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if s.has("cc") || matches!(s.name, "addc" | "subc" | "madc") {
            return self.carrying(s);
        }
        let Some(ty) = s.last_type() else { return Ok(None) };
        if s.name.starts_with("dp") {
            return self.dot(s);
        }
        let operand = |index: usize| s.operands.get(index);
        if by_integer!(ty, T => size_of::<T>()).is_none() {
            return Ok(None);
        }
        let unary = matches!(s.name, "neg" | "abs");
        let fused = matches!(s.name, "mad" | "sad" | "mad24");
        let known = ["add", "sub", "mul", "div", "rem", "min", "max", "mul24"];
        if !unary && !fused && !known.contains(&s.name) {
            return Ok(None);
        }
        let d = self.target(operand(0))?;
        let a = self.source(operand(1), ty)?;
        if unary {
            return Ok(if s.name == "neg" {
                by_integer!(ty, T => one(d, a, |a: T| (0 as T).wrapping_sub(a)))
            } else {
                match ty {
                    Ty::S16 => Some(one(d, a, i16::wrapping_abs)),
                    Ty::S32 => Some(one(d, a, i32::wrapping_abs)),
                    Ty::S64 => Some(one(d, a, i64::wrapping_abs)),
                    _ => None,
                }
            });
        }
        let b = self.source(operand(2), ty)?;
        if fused {
            let c = self.source(operand(3), ty)?;
            return Ok(multiply_add(s, ty, d, [a, b, c]));
        }
        Ok(match s.name {
            "add" if s.has("sat") => Some(two(d, a, b, i32::saturating_add)),
            "sub" if s.has("sat") => Some(two(d, a, b, i32::saturating_sub)),
            "add" => by_integer!(ty, T => two(d, a, b, T::wrapping_add)),
            "sub" => by_integer!(ty, T => two(d, a, b, T::wrapping_sub)),
            "mul" => multiply(s, ty, d, [a, b]),
            "mul24" => {
                by_integer!(ty, T => two(d, a, b, |a: T, b: T| (a << 8 >> 8).wrapping_mul(b << 8 >> 8)))
            }
            // What dividing by nothing gives is not said; cards give all ones, and the number itself for the rest.
            "div" => {
                by_integer!(ty, T => two(d, a, b, |a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) }))
            }
            "rem" => {
                by_integer!(ty, T => two(d, a, b, |a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) }))
            }
            "min" => by_integer!(ty, T => two(d, a, b, |a: T, b: T| a.min(b))),
            "max" => by_integer!(ty, T => two(d, a, b, |a: T, b: T| a.max(b))),
            _ => None,
        })
    }

    /// Instructions that take a carry or leave one.
    fn carrying(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let bits = ty.bytes() * 8;
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), ty)?;
        let b = self.source(s.operands.get(2), ty)?;
        let (takes, leaves) = (s.name.ends_with('c'), s.has("cc"));
        let product = s.name.starts_with("mad");
        let c = if product { self.source(s.operands.get(3), ty)? } else { b };
        let (high, subtract, signed) = (s.has("hi"), s.name.starts_with("sub"), ty.signed());
        let all = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let (d, a, b, c) = (d as usize, a as usize, b as usize, c as usize);
        Ok(Some(Box::new(move |warp, _, mask| {
            let mut carries = 0;
            for lane in lanes(mask) {
                let [a, b, c] = [a, b, c].map(|slot| warp.registers[slot][lane] & all);
                let carry = u128::from(takes && warp.predicates[CARRY as usize] >> lane & 1 == 1);
                let wide = if product {
                    let product = if signed && bits == 64 {
                        (i128::from(a as i64) * i128::from(b as i64)) as u128
                    } else if signed {
                        (i128::from(a as u32 as i32) * i128::from(b as u32 as i32)) as u128
                    } else {
                        u128::from(a) * u128::from(b)
                    };
                    let part = (if high { product >> bits } else { product }) as u64 & all;
                    u128::from(part) + u128::from(c) + carry
                } else if subtract {
                    u128::from(a).wrapping_sub(u128::from(b)).wrapping_sub(carry)
                } else {
                    u128::from(a) + u128::from(b) + carry
                };
                carries |= ((wide >> bits & 1) as u32) << lane;
                warp.registers[d][lane] = wide as u64 & all;
            }
            if leaves {
                set(&mut warp.predicates[CARRY as usize], carries, mask);
            }
            DONE
        })))
    }

    /// `dp4a` and `dp2a`: products of parts of 32 bits, summed up.
    fn dot(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let [first, second] = s.types[..] else { return Ok(None) };
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), first)?;
        let b = self.source(s.operands.get(2), second)?;
        let c = self.source(s.operands.get(3), Ty::S32)?;
        let byte = |signed: bool, word: u32, index: u32| {
            let byte = (word >> (8 * index)) as u8;
            if signed { i32::from(byte as i8) } else { i32::from(byte) }
        };
        let half = |signed: bool, word: u32, index: u32| {
            let half = (word >> (16 * index)) as u16;
            if signed { i32::from(half as i16) } else { i32::from(half) }
        };
        let (sa, sb) = (first.signed(), second.signed());
        Ok(match s.name {
            "dp4a" if sa && sb => Some(three(d, a, b, c, move |a: u32, b: u32, c: i32| {
                (0..4).fold(c, |sum, i| sum.wrapping_add(byte(true, a, i) * byte(true, b, i)))
            })),
            "dp4a" => Some(three(d, a, b, c, move |a: u32, b: u32, c: i32| {
                (0..4).fold(c, |sum, i| sum.wrapping_add(byte(sa, a, i) * byte(sb, b, i)))
            })),
            "dp2a" => {
                let from = if s.has("hi") { 2 } else { 0 };
                Some(three(d, a, b, c, move |a: u32, b: u32, c: i32| {
                    (0..2).fold(c, |sum, i| {
                        sum.wrapping_add(half(sa, a, i).wrapping_mul(byte(sb, b, from + i)))
                    })
                }))
            }
            _ => None,
        })
    }
}

fn multiply(s: &Statement<'_>, ty: Ty, d: Slot, [a, b]: [Slot; 2]) -> Option<Action> {
    if s.has("wide") {
        return Some(match ty {
            Ty::U16 | Ty::B16 => two(d, a, b, |a: u16, b: u16| u32::from(a) * u32::from(b)),
            Ty::S16 => two(d, a, b, |a: i16, b: i16| i32::from(a) * i32::from(b)),
            Ty::U32 | Ty::B32 => two(d, a, b, |a: u32, b: u32| u64::from(a) * u64::from(b)),
            Ty::S32 => two(d, a, b, |a: i32, b: i32| i64::from(a) * i64::from(b)),
            _ => return None,
        });
    }
    if s.has("hi") {
        return Some(match ty {
            Ty::U16 | Ty::B16 => two(d, a, b, |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16),
            Ty::S16 => two(d, a, b, |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16),
            Ty::U32 | Ty::B32 => two(d, a, b, |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32),
            Ty::S32 => two(d, a, b, |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32),
            Ty::U64 | Ty::B64 => {
                two(d, a, b, |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64)
            }
            Ty::S64 => two(d, a, b, |a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> 64) as i64),
            _ => return None,
        });
    }
    by_integer!(ty, T => two(d, a, b, T::wrapping_mul))
}

fn multiply_add(s: &Statement<'_>, ty: Ty, d: Slot, [a, b, c]: [Slot; 3]) -> Option<Action> {
    if s.name == "sad" {
        return by_integer!(ty, T => three(d, a, b, c, |a: T, b: T, c: T| {
            c.wrapping_add(if a > b { a.wrapping_sub(b) } else { b.wrapping_sub(a) })
        }));
    }
    if s.has("wide") {
        return Some(match ty {
            Ty::U16 | Ty::B16 => {
                three(d, a, b, c, |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
            }
            Ty::S16 => {
                three(d, a, b, c, |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))
            }
            Ty::U32 | Ty::B32 => {
                three(d, a, b, c, |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
            }
            Ty::S32 => {
                three(d, a, b, c, |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))
            }
            _ => return None,
        });
    }
    if s.has("hi") {
        return Some(match ty {
            Ty::U32 | Ty::B32 => three(d, a, b, c, |a: u32, b: u32, c: u32| {
                (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
            }),
            Ty::S32 => three(d, a, b, c, |a: i32, b: i32, c: i32| {
                (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
            }),
            Ty::U64 | Ty::B64 => three(d, a, b, c, |a: u64, b: u64, c: u64| {
                (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
            }),
            Ty::S64 => three(d, a, b, c, |a: i64, b: i64, c: i64| {
                (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c)
            }),
            _ => return None,
        });
    }
    if s.name == "mad24" {
        return by_integer!(ty, T => three(d, a, b, c, |a: T, b: T, c: T| {
            (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c)
        }));
    }
    by_integer!(ty, T => three(d, a, b, c, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
}

/// Four numbers are taken by one instruction of another family only.
pub(super) fn lookup(d: Slot, [a, b, c, table]: [Slot; 4]) -> Action {
    four(d, a, b, c, table, |a: u32, b: u32, c: u32, table: u32| {
        let mut out = 0;
        for row in 0..8 {
            if table >> row & 1 == 1 {
                let a = if row & 4 == 0 { !a } else { a };
                let b = if row & 2 == 0 { !b } else { b };
                let c = if row & 1 == 0 { !c } else { c };
                out |= a & b & c;
            }
        }
        out
    })
}
