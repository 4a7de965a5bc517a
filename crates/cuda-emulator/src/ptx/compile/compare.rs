//! Comparing and choosing (PTX ISA, "Comparison and Selection Instructions").

use std::cmp::Ordering;

use half::{bf16, f16};

use super::{
    Compiler,
    lanes::{set, two},
};
use crate::ptx::{
    launch::DONE,
    machine::{Action, LANES, Slot, Warp, lanes},
    statement::{Operand, Statement, Wrong},
    types::{Ty, Word},
};

/// Compares for all lanes, and gives a bit for each.
type Compare = Box<dyn Fn(&Warp) -> u32 + Send + Sync>;

fn over<T: Word>(a: Slot, b: Slot, compare: impl Fn(T, T) -> bool + Send + Sync + 'static) -> Compare {
    let (a, b) = (a as usize, b as usize);
    Box::new(move |warp| {
        let (a, b) = (&warp.registers[a], &warp.registers[b]);
        (0..LANES).fold(0, |bits, lane| bits | u32::from(compare(T::get(a[lane]), T::get(b[lane]))) << lane)
    })
}

macro_rules! orders {
    ($t:ty, $operator:expr, $a:expr, $b:expr) => {
        Some(match $operator {
            "eq" => over($a, $b, |a: $t, b: $t| a == b),
            "ne" => over($a, $b, |a: $t, b: $t| a != b),
            "lt" | "lo" => over($a, $b, |a: $t, b: $t| a < b),
            "le" | "ls" => over($a, $b, |a: $t, b: $t| a <= b),
            "gt" | "hi" => over($a, $b, |a: $t, b: $t| a > b),
            "ge" | "hs" => over($a, $b, |a: $t, b: $t| a >= b),
            _ => return None,
        })
    };
}

/// Of floating-point numbers, with those comparisons that hold where one is no number.
macro_rules! floats {
    ($t:ty, $operator:expr, $a:expr, $b:expr) => {
        Some(match $operator {
            // Of numbers only: what is no number differs from nothing here.
            "ne" => over($a, $b, |a: $t, b: $t| a.partial_cmp(&b).is_some_and(Ordering::is_ne)),
            "equ" => over($a, $b, |a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_eq)),
            "neu" => over($a, $b, |a: $t, b: $t| a != b),
            "ltu" => over($a, $b, |a: $t, b: $t| !(a >= b)),
            "leu" => over($a, $b, |a: $t, b: $t| !(a > b)),
            "gtu" => over($a, $b, |a: $t, b: $t| !(a <= b)),
            "geu" => over($a, $b, |a: $t, b: $t| !(a < b)),
            "num" => over($a, $b, |a: $t, b: $t| !a.is_nan() && !b.is_nan()),
            "nan" => over($a, $b, |a: $t, b: $t| a.is_nan() || b.is_nan()),
            other => return orders!($t, other, $a, $b),
        })
    };
}

#[allow(clippy::neg_cmp_op_on_partial_ord)] // It's the difference between `lt` and `geu`.
fn comparison(operator: &str, ty: Ty, a: Slot, b: Slot) -> Option<Compare> {
    match ty {
        Ty::U16 | Ty::B16 => orders!(u16, operator, a, b),
        Ty::S16 => orders!(i16, operator, a, b),
        Ty::U32 | Ty::B32 => orders!(u32, operator, a, b),
        Ty::S32 => orders!(i32, operator, a, b),
        Ty::U64 | Ty::B64 => orders!(u64, operator, a, b),
        Ty::S64 => orders!(i64, operator, a, b),
        Ty::F16 => floats!(f16, operator, a, b),
        Ty::Bf16 => floats!(bf16, operator, a, b),
        Ty::F32 => floats!(f32, operator, a, b),
        Ty::F64 => floats!(f64, operator, a, b),
        _ => None,
    }
}

fn boolean(name: Option<&&str>) -> Option<fn(u32, u32) -> u32> {
    match name {
        Some(&"and") => Some(|a, b| a & b),
        Some(&"or") => Some(|a, b| a | b),
        Some(&"xor") => Some(|a, b| a ^ b),
        _ => None,
    }
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn compare(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        match s.name {
            "setp" => self.set_truth(s),
            "set" => self.set_number(s),
            "selp" => self.select(s),
            "slct" => self.select_by_sign(s),
            "testp" => self.test(s),
            _ => Ok(None),
        }
    }

    fn set_truth(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let (d, other) = match s.operands.first() {
            Some(Operand::Pair(d, other)) => {
                (self.truth_target(Some(d))?, Some(self.truth_target(Some(other))?))
            }
            d => (self.truth_target(d)?, None),
        };
        let a = self.source(s.operands.get(1), ty)?;
        let b = self.source(s.operands.get(2), ty)?;
        let Some(compare) = s.parts.first().and_then(|operator| comparison(operator, ty, a, b)) else {
            return Ok(None);
        };
        let (d, join) = (d as usize, boolean(s.parts.get(1)));
        let Some(join) = join else {
            return Ok(Some(Box::new(move |warp, _, mask| {
                let bits = compare(warp);
                set(&mut warp.predicates[d], bits, mask);
                if let Some(other) = other {
                    set(&mut warp.predicates[other as usize], !bits, mask);
                }
                DONE
            })));
        };
        let (c, not) = self.truth(s.operands.get(3))?;
        let turned = if not { u32::MAX } else { 0 };
        Ok(Some(Box::new(move |warp, _, mask| {
            let bits = compare(warp);
            let c = warp.predicates[c as usize] ^ turned;
            set(&mut warp.predicates[d], join(bits, c), mask);
            if let Some(other) = other {
                set(&mut warp.predicates[other as usize], join(!bits, c), mask);
            }
            DONE
        })))
    }

    fn set_number(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let [into, from] = s.types[..] else { return Ok(None) };
        let d = self.target(s.operands.first())? as usize;
        let a = self.source(s.operands.get(1), from)?;
        let b = self.source(s.operands.get(2), from)?;
        let Some(compare) = s.parts.first().and_then(|operator| comparison(operator, from, a, b)) else {
            return Ok(None);
        };
        let join = boolean(s.parts.get(1));
        let (c, not) = if join.is_some() { self.truth(s.operands.get(3))? } else { (0, false) };
        let turned = if not { u32::MAX } else { 0 };
        let yes = if into.float() { into.literal(1.0) } else { u64::MAX };
        Ok(Some(Box::new(move |warp, _, mask| {
            let mut bits = compare(warp);
            if let Some(join) = join {
                bits = join(bits, warp.predicates[c as usize] ^ turned);
            }
            for lane in lanes(mask) {
                warp.registers[d][lane] = if bits >> lane & 1 == 1 { yes } else { 0 };
            }
            DONE
        })))
    }

    fn select(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let d = self.target(s.operands.first())? as usize;
        let a = self.source(s.operands.get(1), ty)? as usize;
        let b = self.source(s.operands.get(2), ty)? as usize;
        let (c, not) = self.truth(s.operands.get(3))?;
        let turned = if not { u32::MAX } else { 0 };
        Ok(Some(Box::new(move |warp, _, mask| {
            let bits = warp.predicates[c as usize] ^ turned;
            for lane in lanes(mask) {
                let from = if bits >> lane & 1 == 1 { a } else { b };
                warp.registers[d][lane] = warp.registers[from][lane];
            }
            DONE
        })))
    }

    fn select_by_sign(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let [ty, by] = s.types[..] else { return Ok(None) };
        let d = self.target(s.operands.first())? as usize;
        let a = self.source(s.operands.get(1), ty)? as usize;
        let b = self.source(s.operands.get(2), ty)? as usize;
        let c = self.source(s.operands.get(3), by)? as usize;
        Ok(Some(Box::new(move |warp, _, mask| {
            for lane in lanes(mask) {
                let c = warp.registers[c][lane];
                let first = if by == Ty::F32 { f32::get(c) >= 0.0 } else { i32::get(c) >= 0 };
                warp.registers[d][lane] = warp.registers[if first { a } else { b }][lane];
            }
            DONE
        })))
    }

    fn test(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        let d = self.truth_target(s.operands.first())? as usize;
        let a = self.source(s.operands.get(1), ty)?;
        macro_rules! tests {
            ($t:ty) => {
                match s.parts.first().copied() {
                    Some("finite") => over(a, a, |a: $t, _| a.is_finite()),
                    Some("infinite") => over(a, a, |a: $t, _| a.is_infinite()),
                    Some("number") => over(a, a, |a: $t, _| !a.is_nan()),
                    Some("notanumber") => over(a, a, |a: $t, _| a.is_nan()),
                    Some("normal") => over(a, a, |a: $t, _| a.is_normal()),
                    Some("subnormal") => over(a, a, |a: $t, _| a.is_subnormal()),
                    _ => return Ok(None),
                }
            };
        }
        let compare = if ty == Ty::F64 { tests!(f64) } else { tests!(f32) };
        Ok(Some(Box::new(move |warp, _, mask| {
            let bits = compare(warp);
            set(&mut warp.predicates[d], bits, mask);
            DONE
        })))
    }
}

/// The smaller or the larger of two numbers: with `nan` what is no number prevails, otherwise it yields.
pub(super) fn extreme<T: Word + PartialOrd>(
    d: Slot,
    [a, b]: [Slot; 2],
    (least, nan): (bool, bool),
    is_nan: fn(T) -> bool,
    negative: fn(T) -> bool,
) -> Action {
    two(d, a, b, move |a: T, b: T| {
        if is_nan(a) || is_nan(b) {
            // Two numbers that are none, or one that prevails, give one.
            return if is_nan(a) == nan || (is_nan(a) && is_nan(b)) { a } else { b };
        }
        // Of two zeros the one with a sign is the smaller.
        let a_is_less = a < b || (a == b && negative(a));
        if a_is_less == least { a } else { b }
    })
}
