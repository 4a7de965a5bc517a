//! Arithmetic with f32 and f64 (PTX ISA, "Floating Point Instructions").

use super::{
    Compiler,
    compare::extreme,
    lanes::{one, three, two},
};
use crate::ptx::{
    launch::DONE,
    machine::{Action, LANES, Lanes, Slot, lanes},
    statement::{Statement, Wrong},
    types::{Rounding, Ty, Word, redirect, to_f32, two_sum},
};

/// What an instruction does with its numbers besides the arithmetic.
#[derive(Clone, Copy)]
struct Manner {
    /// Numbers too small to be normal count as zero.
    flush: bool,
    /// The result is brought into 0 to 1.
    saturate: bool,
    rounding: Rounding,
}

impl Manner {
    fn of(s: &Statement<'_>) -> Self {
        let rounding = if s.has("rz") {
            Rounding::Zero
        } else if s.has("rm") {
            Rounding::Down
        } else if s.has("rp") {
            Rounding::Up
        } else {
            Rounding::Nearest
        };
        Self { flush: s.has("ftz"), saturate: s.has("sat"), rounding }
    }

    fn plain(self) -> bool {
        !self.flush && !self.saturate && self.rounding == Rounding::Nearest
    }

    #[inline]
    fn take(self, value: f32) -> f32 {
        if self.flush { flushed(value) } else { value }
    }

    #[inline]
    fn give(self, value: f32) -> f32 {
        let value = self.take(value);
        if self.saturate { saturated(value) } else { value }
    }
}

/// A number, or zero if it is too small to be normal.
#[inline]
pub(super) fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

/// A number brought into 0 to 1; what is no number becomes 0.
#[inline]
pub(super) fn saturated(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

impl<'t> Compiler<'t> {
    /// An instruction of this family.
    pub(super) fn float(&mut self, s: &Statement<'t>) -> Result<Option<Action>, Wrong> {
        let Some(ty) = s.last_type() else { return Ok(None) };
        if !matches!(ty, Ty::F32 | Ty::F64) {
            return Ok(None);
        }
        let unary = ["neg", "abs", "rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh"];
        let binary = ["add", "sub", "mul", "div", "min", "max", "copysign"];
        let (unary, binary) = (unary.contains(&s.name), binary.contains(&s.name));
        if !unary && !binary && !matches!(s.name, "fma" | "mad") {
            return Ok(None);
        }
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), ty)?;
        if unary {
            return Ok(if ty == Ty::F64 { unary_f64(s, d, a) } else { unary_f32(s, d, a) });
        }
        let b = self.source(s.operands.get(2), ty)?;
        if binary {
            return Ok(if ty == Ty::F64 { binary_f64(s, d, [a, b]) } else { binary_f32(s, d, [a, b]) });
        }
        let c = self.source(s.operands.get(3), ty)?;
        let how = Manner::of(s);
        Ok(match ty {
            Ty::F64 if how.rounding == Rounding::Nearest => Some(three(d, a, b, c, f64::mul_add)),
            Ty::F64 => None,
            _ if how.plain() => Some(fused(d, [a, b, c])),
            _ => Some(three(d, a, b, c, move |a: f32, b: f32, c: f32| {
                let (a, b, c) = (how.take(a), how.take(b), how.take(c));
                if how.rounding == Rounding::Nearest {
                    return how.give(a.mul_add(b, c));
                }
                let (sum, rest) = two_sum(f64::from(a) * f64::from(b), f64::from(c));
                how.give(to_f32(sum, rest, how.rounding))
            })),
        })
    }
}

/// `fma.rn.f32`, which kernels consist of: with the processor's own instruction where there is one.
fn fused(d: Slot, [a, b, c]: [Slot; 3]) -> Action {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        let (d, a, b, c) = (d as usize, a as usize, b as usize, c as usize);
        return Box::new(move |warp, _, mask| {
            let registers = &mut warp.registers;
            // SAFETY: the processor has both, as was found out above.
            #[allow(unsafe_code)]
            let out = unsafe { fused_lanes(&registers[a], &registers[b], &registers[c]) };
            if mask == u32::MAX {
                registers[d] = out;
            } else {
                for lane in lanes(mask) {
                    registers[d][lane] = out[lane];
                }
            }
            DONE
        });
    }
    three(d, a, b, c, f32::mul_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fused_lanes(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    let mut out = [0; LANES];
    for lane in 0..LANES {
        out[lane] = f32::get(a[lane]).mul_add(f32::get(b[lane]), f32::get(c[lane])).put();
    }
    out
}

fn unary_f32(s: &Statement<'_>, d: Slot, a: Slot) -> Option<Action> {
    let how = Manner::of(s);
    if how.rounding != Rounding::Nearest {
        return None;
    }
    // Those that the manual calls approximations are exact here, up to what the standard library's functions are.
    let work: fn(f32) -> f32 = match s.name {
        "neg" if !how.flush => return Some(one(d, a, |a: u32| a ^ 1 << 31)),
        "abs" if !how.flush => return Some(one(d, a, |a: u32| a & !(1 << 31))),
        "neg" => |a| -a,
        "abs" => f32::abs,
        "rcp" => f32::recip,
        "sqrt" => f32::sqrt,
        "rsqrt" => |a| (1.0 / f64::from(a).sqrt()) as f32,
        "sin" => f32::sin,
        "cos" => f32::cos,
        "lg2" => f32::log2,
        "ex2" => f32::exp2,
        "tanh" => f32::tanh,
        _ => return None,
    };
    Some(one(d, a, move |a: f32| how.give(work(how.take(a)))))
}

fn unary_f64(s: &Statement<'_>, d: Slot, a: Slot) -> Option<Action> {
    if Manner::of(s).rounding != Rounding::Nearest {
        return None;
    }
    let work: fn(f64) -> f64 = match s.name {
        "neg" => return Some(one(d, a, |a: u64| a ^ 1 << 63)),
        "abs" => return Some(one(d, a, |a: u64| a & !(1 << 63))),
        // `rcp.approx.ftz.f64` leaves the lower half of the bits zero; kernels refine what they get.
        "rcp" if s.has("approx") => |a| f64::from_bits(a.recip().to_bits() & !u64::from(u32::MAX)),
        "rsqrt" if s.has("approx") => |a| f64::from_bits(a.sqrt().recip().to_bits() & !u64::from(u32::MAX)),
        "rcp" => f64::recip,
        "sqrt" => f64::sqrt,
        _ => return None,
    };
    Some(one(d, a, work))
}

fn binary_f32(s: &Statement<'_>, d: Slot, [a, b]: [Slot; 2]) -> Option<Action> {
    let how = Manner::of(s);
    let nearest = how.rounding == Rounding::Nearest;
    Some(match s.name {
        "add" if how.plain() => two(d, a, b, |a: f32, b: f32| a + b),
        "sub" if how.plain() => two(d, a, b, |a: f32, b: f32| a - b),
        "mul" if how.plain() => two(d, a, b, |a: f32, b: f32| a * b),
        "div" if how.plain() => two(d, a, b, |a: f32, b: f32| a / b),
        "add" | "sub" => {
            let sign = if s.name == "sub" { -1.0 } else { 1.0 };
            two(d, a, b, move |a: f32, b: f32| {
                let (sum, rest) = two_sum(f64::from(how.take(a)), f64::from(how.take(b)) * sign);
                how.give(to_f32(sum, rest, how.rounding))
            })
        }
        "mul" => two(d, a, b, move |a: f32, b: f32| {
            how.give(to_f32(f64::from(how.take(a)) * f64::from(how.take(b)), 0.0, how.rounding))
        }),
        "div" if nearest => two(d, a, b, move |a: f32, b: f32| how.give(how.take(a) / how.take(b))),
        "min" | "max" => {
            let (least, nan) = (s.name == "min", s.has("NaN"));
            if how.flush {
                two(d, a, b, move |a: f32, b: f32| {
                    let (a, b) = (flushed(a), flushed(b));
                    match (a.is_nan() || b.is_nan(), nan, least) {
                        (true, true, _) => f32::NAN,
                        (_, _, true) => a.min(b),
                        _ => a.max(b),
                    }
                })
            } else {
                extreme(d, [a, b], (least, nan), f32::is_nan, f32::is_sign_negative)
            }
        }
        // The sign is the first number's, everything else the second's.
        "copysign" => two(d, a, b, |a: f32, b: f32| b.copysign(a)),
        _ => return None,
    })
}

fn binary_f64(s: &Statement<'_>, d: Slot, [a, b]: [Slot; 2]) -> Option<Action> {
    let rounding = Manner::of(s).rounding;
    let nearest = rounding == Rounding::Nearest;
    Some(match s.name {
        "add" if nearest => two(d, a, b, |a: f64, b: f64| a + b),
        "sub" if nearest => two(d, a, b, |a: f64, b: f64| a - b),
        "mul" if nearest => two(d, a, b, |a: f64, b: f64| a * b),
        "div" if nearest => two(d, a, b, |a: f64, b: f64| a / b),
        "add" | "sub" => {
            let sign = if s.name == "sub" { -1.0 } else { 1.0 };
            two(d, a, b, move |a: f64, b: f64| {
                let (sum, rest) = two_sum(a, b * sign);
                redirect(
                    sum,
                    rest.partial_cmp(&0.0).unwrap_or(std::cmp::Ordering::Equal),
                    sum < 0.0,
                    rounding,
                )
            })
        }
        "mul" => two(d, a, b, move |a: f64, b: f64| {
            let product = a * b;
            let rest = a.mul_add(b, -product);
            let exact = rest.partial_cmp(&0.0).unwrap_or(std::cmp::Ordering::Equal);
            redirect(product, exact, product < 0.0, rounding)
        }),
        "min" => extreme(d, [a, b], (true, false), f64::is_nan, f64::is_sign_negative),
        "max" => extreme(d, [a, b], (false, false), f64::is_nan, f64::is_sign_negative),
        "copysign" => two(d, a, b, |a: f64, b: f64| b.copysign(a)),
        _ => return None,
    })
}
