//! Logic, shifts and fields of bits (PTX ISA, "Logic and Shift Instructions", and of the integer ones those on bits).

use super::{
    Compiler,
    integer::{by_integer, lookup},
    lanes::{four, one, three, truths, two},
};
use crate::ptx::{
    machine::{Action, Slot},
    statement::{Statement, Wrong},
    types::Ty,
};

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn bits(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let operand = |index: usize| s.operands.get(index);
        let Some(ty) = s.types.first().copied() else { return Ok(None) };
        if ty == Ty::Pred {
            return self.logic_of_truths(s);
        }
        let unary = ["not", "cnot", "popc", "clz", "brev", "bfind"].contains(&s.name);
        let binary = ["and", "or", "xor", "shl", "shr"].contains(&s.name);
        let ternary = ["bfe", "prmt", "shf"].contains(&s.name);
        let quaternary = ["bfi", "lop3"].contains(&s.name);
        if !unary && !binary && !ternary && !quaternary {
            return Ok(None);
        }
        let d = self.target(operand(0))?;
        let a = self.source(operand(1), ty)?;
        if unary {
            return Ok(alone(s, ty, d, a));
        }
        let b = self.source(operand(2), ty)?;
        if binary {
            return Ok(match s.name {
                "and" => Some(two(d, a, b, |a: u64, b: u64| a & b)),
                "or" => Some(two(d, a, b, |a: u64, b: u64| a | b)),
                "xor" => Some(two(d, a, b, |a: u64, b: u64| a ^ b)),
                "shl" => by_integer!(ty, T => two(d, a, b, |a: T, b: u32| {
                    if b < T::BITS { a << b } else { 0 }
                })),
                // Shifted by more than there are bits, a number with a sign is the sign only.
                _ => by_integer!(ty, T => two(d, a, b, |a: T, b: u32| {
                    if b < T::BITS { a >> b } else { a >> (T::BITS - 1) >> 1 }
                })),
            });
        }
        let c = self.source(operand(3), ty)?;
        if ternary {
            return Ok(match s.name {
                "bfe" => extract(ty, d, [a, b, c]),
                "prmt" => permute(s, d, [a, b, c]),
                _ => Some(funnel(s, d, [a, b, c])),
            });
        }
        let e = self.source(operand(4), ty)?;
        Ok(match (s.name, ty) {
            ("lop3", _) => Some(lookup(d, [a, b, c, e])),
            (_, Ty::B32) => Some(four(d, a, b, c, e, |a: u32, b: u32, at: u32, length: u32| {
                insert(a.into(), b.into(), at & 0xff, length & 0xff, 32) as u32
            })),
            (_, Ty::B64) => Some(four(d, a, b, c, e, |a: u64, b: u64, at: u32, length: u32| {
                insert(a, b, at & 0xff, length & 0xff, 64)
            })),
            _ => None,
        })
    }

    fn logic_of_truths(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if !["and", "or", "xor", "not", "mov"].contains(&s.name) {
            return Ok(None);
        }
        let d = self.truth_target(s.operands.first())?;
        let a = self.truth(s.operands.get(1))?;
        if s.name == "not" {
            return Ok(Some(truths(d, (a, a), |a, _| !a)));
        }
        if s.name == "mov" {
            return Ok(Some(truths(d, (a, a), |a, _| a)));
        }
        let b = self.truth(s.operands.get(2))?;
        Ok(Some(match s.name {
            "and" => truths(d, (a, b), |a, b| a & b),
            "or" => truths(d, (a, b), |a, b| a | b),
            _ => truths(d, (a, b), |a, b| a ^ b),
        }))
    }
}

fn alone(s: &Statement<'_>, ty: Ty, d: Slot, a: Slot) -> Option<Action> {
    Some(match (s.name, ty) {
        ("not", _) => one(d, a, |a: u64| !a),
        ("cnot", _) => return by_integer!(ty, T => one(d, a, |a: T| T::from(a == 0))),
        ("popc", Ty::B32) => one(d, a, u32::count_ones),
        ("popc", _) => one(d, a, u64::count_ones),
        ("clz", Ty::B32) => one(d, a, u32::leading_zeros),
        ("clz", _) => one(d, a, u64::leading_zeros),
        ("brev", Ty::B32) => one(d, a, u32::reverse_bits),
        ("brev", _) => one(d, a, u64::reverse_bits),
        ("bfind", _) => {
            let shift = s.has("shiftamt");
            let find = move |value: u64, bits: u32| {
                let zeros = value.leading_zeros() - (64 - bits);
                if zeros == bits {
                    u32::MAX
                } else if shift {
                    zeros
                } else {
                    bits - 1 - zeros
                }
            };
            match ty {
                Ty::U32 => one(d, a, move |a: u32| find(a.into(), 32)),
                Ty::S32 => one(d, a, move |a: i32| find(u64::from(if a < 0 { !a } else { a } as u32), 32)),
                Ty::U64 => one(d, a, move |a: u64| find(a, 64)),
                _ => one(d, a, move |a: i64| find((if a < 0 { !a } else { a }) as u64, 64)),
            }
        }
        _ => return None,
    })
}

fn insert(a: u64, b: u64, at: u32, length: u32, bits: u32) -> u64 {
    if length == 0 || at >= bits {
        return b;
    }
    let field = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    (b & !(field << at)) | ((a & field) << at)
}

fn extract(ty: Ty, d: Slot, [a, b, c]: [Slot; 3]) -> Option<Action> {
    let unsigned = |a: u64, at: u32, length: u32| {
        let shifted = if at >= 64 { 0 } else { a >> at };
        if length >= 64 { shifted } else { shifted & ((1 << length) - 1) }
    };
    // The sign is that of the field, or where the field reaches beyond the number, that of the number.
    let signed = move |a: i64, at: u32, length: u32, bits: u32| {
        if length == 0 {
            return 0;
        }
        let shifted = a >> at.min(63);
        let top = length.min(bits.saturating_sub(at)).clamp(1, 64);
        if at >= bits { a >> 63 } else { shifted << (64 - top) >> (64 - top) }
    };
    Some(match ty {
        Ty::U32 => three(d, a, b, c, move |a: u32, at: u32, length: u32| {
            unsigned(a.into(), at & 0xff, length & 0xff) as u32
        }),
        Ty::U64 => {
            three(d, a, b, c, move |a: u64, at: u32, length: u32| unsigned(a, at & 0xff, length & 0xff))
        }
        Ty::S32 => three(d, a, b, c, move |a: i32, at: u32, length: u32| {
            signed(a.into(), at & 0xff, length & 0xff, 32) as i32
        }),
        Ty::S64 => {
            three(d, a, b, c, move |a: i64, at: u32, length: u32| signed(a, at & 0xff, length & 0xff, 64))
        }
        _ => return None,
    })
}

fn permute(s: &Statement<'_>, d: Slot, [a, b, c]: [Slot; 3]) -> Option<Action> {
    let pick = |a: u32, b: u32, selector: u32| {
        let bytes = u64::from(b) << 32 | u64::from(a);
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        // With its highest bit a selector asks for the byte's sign only.
        if selector & 8 == 0 { u32::from(byte) } else { u32::from((byte as i8 >> 7) as u8) }
    };
    let mode = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"].into_iter().find(|mode| s.has(mode));
    let Some(mode) = mode else {
        return Some(three(d, a, b, c, move |a: u32, b: u32, c: u32| {
            (0..4).fold(0, |out, i| out | pick(a, b, c >> (4 * i) & 15) << (8 * i))
        }));
    };
    Some(three(d, a, b, c, move |a: u32, b: u32, c: u32| {
        let c = c & 3;
        let selector = |i: u32| match mode {
            "f4e" => (c + i) & 7,
            "b4e" => c.wrapping_sub(i) & 7,
            "rc8" => c,
            "ecl" => c.max(i),
            "ecr" => c.min(i),
            _ => (c & 1) * 2 + (i & 1),
        };
        (0..4).fold(0, |out, i| out | pick(a, b, selector(i)) << (8 * i))
    }))
}

fn funnel(s: &Statement<'_>, d: Slot, [a, b, c]: [Slot; 3]) -> Action {
    let (left, clamp) = (s.has("l"), s.has("clamp"));
    three(d, a, b, c, move |a: u32, b: u32, c: u32| {
        let both = u64::from(b) << 32 | u64::from(a);
        let by = if clamp { c.min(32) } else { c & 31 };
        if left { ((both << by) >> 32) as u32 } else { (both >> by) as u32 }
    })
}
