//! Arithmetic with f16, bf16 and pairs of them (PTX ISA, "Half Precision Floating Point Instructions").
//!
//! It is done in a wider type, whose result is then rounded. That gives what rounding once gives, as the wider type has more
//! than twice the bits; for `fma` the wider result gets an odd last bit where it is inexact, for the same reason.

use half::{bf16, f16};

use super::{
    Compiler,
    lanes::{one, three, two},
};
use crate::ptx::{
    machine::{Action, Slot},
    statement::{Statement, Wrong},
    types::{Ty, Word, to_odd_f32},
};

/// f16 or bf16.
pub(super) trait Half: Word + PartialOrd {
    fn wide(self) -> f32;
    fn narrow(wide: f32) -> Self;
}

impl Half for f16 {
    #[inline]
    fn wide(self) -> f32 {
        self.to_f32()
    }
    #[inline]
    fn narrow(wide: f32) -> Self {
        f16::from_f32(wide)
    }
}

impl Half for bf16 {
    #[inline]
    fn wide(self) -> f32 {
        self.to_f32()
    }
    #[inline]
    fn narrow(wide: f32) -> Self {
        bf16::from_f32(wide)
    }
}

/// What an instruction does besides the arithmetic.
#[derive(Clone, Copy)]
struct Manner {
    saturate: bool,
    /// Numbers below zero become zero.
    relu: bool,
    nan: bool,
}

impl Manner {
    fn give<H: Half>(self, value: f32) -> H {
        let value = if self.saturate { super::float::saturated(value) } else { value };
        H::narrow(if self.relu && value <= 0.0 { 0.0 } else { value })
    }
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn half(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        if !matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) || s.types.len() != 1 {
            return Ok(None);
        }
        let arity = match s.name {
            "neg" | "abs" | "ex2" | "tanh" => 1,
            "add" | "sub" | "mul" | "min" | "max" => 2,
            "fma" => 3,
            _ => return Ok(None),
        };
        let d = self.target(s.operands.first())?;
        let mut sources = [0; 3];
        for (index, source) in sources.iter_mut().take(arity).enumerate() {
            *source = self.source(s.operands.get(index + 1), ty)?;
        }
        Ok(match ty {
            Ty::F16 => single::<f16>(s, d, sources),
            Ty::Bf16 => single::<bf16>(s, d, sources),
            Ty::F16x2 => pair::<f16>(s, d, sources),
            _ => pair::<bf16>(s, d, sources),
        })
    }
}

fn manner(s: &Statement<'_>) -> Manner {
    Manner { saturate: s.has("sat"), relu: s.has("relu"), nan: s.has("NaN") }
}

fn of_one(s: &Statement<'_>) -> Option<fn(f32) -> f32> {
    Some(match s.name {
        "neg" => |a| -a,
        "abs" => f32::abs,
        "ex2" => f32::exp2,
        "tanh" => f32::tanh,
        _ => return None,
    })
}

fn of_two(s: &Statement<'_>, how: Manner) -> Option<fn(f32, f32) -> f32> {
    Some(match s.name {
        "add" => |a, b| a + b,
        "sub" => |a, b| a - b,
        "mul" => |a, b| a * b,
        "min" if how.nan => |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) },
        "max" if how.nan => |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) },
        "min" => f32::min,
        "max" => f32::max,
        _ => return None,
    })
}

fn fused<H: Half>(how: Manner, a: H, b: H, c: H) -> H {
    let exact = f64::from(a.wide()) * f64::from(b.wide());
    how.give(to_odd_f32(exact + f64::from(c.wide())))
}

fn single<H: Half>(s: &Statement<'_>, d: Slot, [a, b, c]: [Slot; 3]) -> Option<Action> {
    let how = manner(s);
    if s.name == "fma" {
        return Some(three(d, a, b, c, move |a: H, b: H, c: H| fused(how, a, b, c)));
    }
    if let Some(work) = of_one(s) {
        return Some(one(d, a, move |a: H| how.give::<H>(work(a.wide()))));
    }
    of_two(s, how).map(|work| two(d, a, b, move |a: H, b: H| how.give::<H>(work(a.wide(), b.wide()))))
}

fn pair<H: Half>(s: &Statement<'_>, d: Slot, [a, b, c]: [Slot; 3]) -> Option<Action> {
    let how = manner(s);
    if s.name == "fma" {
        return Some(three(d, a, b, c, move |a: [H; 2], b: [H; 2], c: [H; 2]| {
            [fused(how, a[0], b[0], c[0]), fused(how, a[1], b[1], c[1])]
        }));
    }
    if let Some(work) = of_one(s) {
        return Some(one(d, a, move |a: [H; 2]| a.map(|a| how.give::<H>(work(a.wide())))));
    }
    of_two(s, how).map(|work| {
        two(d, a, b, move |a: [H; 2], b: [H; 2]| {
            [0, 1].map(|index| how.give::<H>(work(a[index].wide(), b[index].wide())))
        })
    })
}
