//! Conversions between types (PTX ISA, "Data Movement and Conversion Instructions: cvt").

use half::{bf16, f16};

use super::{
    Compiler,
    float::{flushed, saturated},
    half::Half,
    lanes::{one, two},
};
use crate::ptx::{
    machine::{Action, Slot},
    statement::{Statement, Wrong},
    types::{Neighbours, Rounding, Ty, Word, redirect, to_f32, to_odd_f32},
};

/// How a conversion is made.
#[derive(Clone, Copy)]
struct How {
    rounding: Rounding,
    /// To a whole number, of a number that stays a floating-point one or not.
    whole: bool,
    saturate: bool,
    flush: bool,
    relu: bool,
}

impl How {
    fn of(s: &Statement<'_>) -> Self {
        let rounding = |name: &str| {
            Some(match name {
                "rn" | "rni" | "rna" => Rounding::Nearest,
                "rz" | "rzi" => Rounding::Zero,
                "rm" | "rmi" => Rounding::Down,
                "rp" | "rpi" => Rounding::Up,
                _ => return None,
            })
        };
        Self {
            rounding: s.parts.iter().find_map(|part| rounding(part)).unwrap_or(Rounding::Nearest),
            whole: ["rni", "rzi", "rmi", "rpi"].iter().any(|part| s.has(part)),
            saturate: s.has("sat"),
            flush: s.has("ftz"),
            relu: s.has("relu"),
        }
    }

    fn to_whole(self, value: f64) -> f64 {
        match self.rounding {
            Rounding::Nearest => value.round_ties_even(),
            Rounding::Zero => value.trunc(),
            Rounding::Down => value.floor(),
            Rounding::Up => value.ceil(),
        }
    }

    fn narrow<H: Half + Neighbours>(self, value: f64) -> H {
        let value = if self.relu && value <= 0.0 { 0.0 } else { value };
        let value = if self.saturate { f64::from(saturated(value as f32)) } else { value };
        let nearest = H::narrow(to_odd_f32(value));
        let exact = value.partial_cmp(&f64::from(nearest.wide())).unwrap_or(std::cmp::Ordering::Equal);
        redirect(nearest, exact, value < 0.0, self.rounding)
    }

    fn single(self, value: f64) -> f32 {
        let value = to_f32(value, 0.0, self.rounding);
        let value = if self.flush { flushed(value) } else { value };
        if self.saturate { saturated(value) } else { value }
    }
}

/// A number of any type, without loss.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn read(ty: Ty, register: u64) -> Number {
    match ty {
        Ty::U8 | Ty::B8 => Number::Integer(u8::get(register).into()),
        Ty::S8 => Number::Integer(i8::get(register).into()),
        Ty::U16 | Ty::B16 => Number::Integer(u16::get(register).into()),
        Ty::S16 => Number::Integer(i16::get(register).into()),
        Ty::U32 | Ty::B32 => Number::Integer(u32::get(register).into()),
        Ty::S32 => Number::Integer(i32::get(register).into()),
        Ty::S64 => Number::Integer(i64::get(register).into()),
        Ty::F16 => Number::Float(f16::get(register).to_f64()),
        Ty::Bf16 => Number::Float(bf16::get(register).to_f64()),
        Ty::F32 => Number::Float(f32::get(register).into()),
        Ty::F64 => Number::Float(f64::get(register)),
        _ => Number::Integer(u64::get(register).into()),
    }
}

/// The least and the greatest of an integer type.
fn bounds(ty: Ty) -> (i128, i128) {
    let bits = ty.bytes() * 8;
    if ty.signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn write(ty: Ty, how: How, number: Number) -> Option<u64> {
    Some(match (ty, number) {
        (Ty::F64, Number::Integer(value)) => {
            let nearest = value as f64;
            redirect(nearest, value.cmp(&(nearest as i128)), value < 0, how.rounding).put()
        }
        (Ty::F32, Number::Integer(value)) => {
            let nearest = value as f32;
            redirect(nearest, value.cmp(&(nearest as i128)), value < 0, how.rounding).put()
        }
        (Ty::F16, Number::Integer(value)) => how.narrow::<f16>(value as f64).put(),
        (Ty::Bf16, Number::Integer(value)) => how.narrow::<bf16>(value as f64).put(),
        (Ty::F64, Number::Float(value)) => {
            let value = if how.whole { how.to_whole(value) } else { value };
            (if how.saturate { if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) } } else { value })
                .put()
        }
        (Ty::F32, Number::Float(value)) => {
            how.single(if how.whole { how.to_whole(value) } else { value }).put()
        }
        (Ty::F16, Number::Float(value)) => {
            how.narrow::<f16>(if how.whole { how.to_whole(value) } else { value }).put()
        }
        (Ty::Bf16, Number::Float(value)) => {
            how.narrow::<bf16>(if how.whole { how.to_whole(value) } else { value }).put()
        }
        (Ty::Pred | Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32, _) => return None,
        (_, Number::Integer(value)) => {
            let (least, greatest) = bounds(ty);
            (if how.saturate { value.clamp(least, greatest) } else { value }) as u64
        }
        // To an integer the nearest there is; from what is no number, zero.
        (_, Number::Float(value)) => {
            let (least, greatest) = bounds(ty);
            (how.to_whole(value) as i128).clamp(least, greatest) as u64
        }
    })
}

/// The conversions that kernels spend their time with.
fn frequent(into: Ty, from: Ty, d: Slot, a: Slot) -> Option<Action> {
    Some(match (into, from) {
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32 | Ty::U16 | Ty::S16, Ty::U64 | Ty::S64 | Ty::B64) => {
            one(d, a, |a: u64| a)
        }
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32 | Ty::U16 | Ty::S16, Ty::U32 | Ty::B32) => {
            one(d, a, |a: u32| a)
        }
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32 | Ty::U16 | Ty::S16, Ty::S32) => {
            one(d, a, |a: i32| i64::from(a))
        }
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32, Ty::U16 | Ty::B16) => one(d, a, |a: u16| a),
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32, Ty::S16) => one(d, a, |a: i16| i64::from(a)),
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32 | Ty::U16 | Ty::S16, Ty::S8) => {
            one(d, a, |a: i8| i64::from(a))
        }
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32 | Ty::U16 | Ty::S16, Ty::U8) => one(d, a, |a: u8| a),
        (Ty::F32, Ty::S32) => one(d, a, |a: i32| a as f32),
        (Ty::F32, Ty::U32) => one(d, a, |a: u32| a as f32),
        (Ty::F32, Ty::F16) => one(d, a, f16::to_f32),
        (Ty::F32, Ty::Bf16) => one(d, a, bf16::to_f32),
        (Ty::F16, Ty::F32) => one(d, a, f16::from_f32),
        (Ty::Bf16, Ty::F32) => one(d, a, bf16::from_f32),
        (Ty::F64, Ty::F32) => one(d, a, |a: f32| f64::from(a)),
        (Ty::F32, Ty::F64) => one(d, a, |a: f64| a as f32),
        _ => return None,
    })
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn convert(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        if s.name != "cvt" {
            return Ok(None);
        }
        let [into, from] = s.types[..] else { return Ok(None) };
        let how = How::of(s);
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), from)?;
        if matches!(into, Ty::F16x2 | Ty::Bf16x2) {
            let b = self.source(s.operands.get(2), from)?;
            // The first operand becomes the upper half.
            return Ok(Some(if into == Ty::F16x2 {
                two(d, a, b, move |a: f32, b: f32| [how.narrow::<f16>(b.into()), how.narrow::<f16>(a.into())])
            } else {
                two(d, a, b, move |a: f32, b: f32| {
                    [how.narrow::<bf16>(b.into()), how.narrow::<bf16>(a.into())]
                })
            }));
        }
        if into == Ty::Tf32 {
            // 10 bits behind the point are left, halves go away from zero.
            return Ok(Some(one(d, a, |a: f32| {
                if a.is_finite() { (a.to_bits() + 0x1000) & !0x1fff } else { a.to_bits() }
            })));
        }
        let usual =
            how.rounding == Rounding::Nearest && !how.whole && !how.saturate && !how.flush && !how.relu;
        if usual && let Some(action) = frequent(into, from, d, a) {
            return Ok(Some(action));
        }
        if write(into, how, Number::Integer(0)).is_none() {
            return Ok(None);
        }
        let flush = how.flush && from == Ty::F32;
        Ok(Some(one(d, a, move |register: u64| {
            let register = if flush { flushed(f32::get(register)).put() } else { register };
            write(into, how, read(from, register)).unwrap_or_default()
        })))
    }
}
