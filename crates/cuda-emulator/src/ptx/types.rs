//! Types of PTX's instructions (PTX ISA, "Types"), and how values of them lie in a register.

use half::{bf16, f16};

/// A fundamental type, or one of the packed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ty {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    B8,
    B16,
    B32,
    B64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    Pred,
}

impl Ty {
    /// The type that a part of an instruction's name means, without the dot.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Its size in memory.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 | Self::B8 | Self::Pred => 1,
            Self::U16 | Self::S16 | Self::B16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::B32 | Self::F16x2 | Self::Bf16x2 | Self::Tf32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::B64 | Self::F64 => 8,
        }
    }

    /// Whether it is an integer with a sign.
    pub fn signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether it is a floating-point number.
    pub fn float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// The bits of a number that is written as a decimal fraction.
    pub fn literal(self, value: f64) -> u64 {
        match self {
            Self::F64 => value.to_bits(),
            Self::F16 => f16::from_f64(value).put(),
            Self::Bf16 => bf16::from_f64(value).put(),
            _ => (value as f32).put(),
        }
    }
}

/// What a register can hold. A register has 64 bits; a narrower value lies in the lower ones, and those above it mean nothing.
pub trait Word: Copy + Send + Sync + 'static {
    /// The value in a register.
    fn get(register: u64) -> Self;
    /// A register with this value.
    fn put(self) -> u64;
}

macro_rules! integers {
    ($($t:ty)*) => { $(impl Word for $t {
        #[inline(always)]
        fn get(register: u64) -> Self { register as $t }
        #[inline(always)]
        fn put(self) -> u64 { self as u64 }
    })* };
}
integers!(u8 u16 u32 u64 i8 i16 i32 i64);

impl Word for f32 {
    #[inline(always)]
    fn get(register: u64) -> Self {
        f32::from_bits(register as u32)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits().into()
    }
}

impl Word for f64 {
    #[inline(always)]
    fn get(register: u64) -> Self {
        f64::from_bits(register)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits()
    }
}

impl Word for f16 {
    #[inline(always)]
    fn get(register: u64) -> Self {
        f16::from_bits(register as u16)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits().into()
    }
}

impl Word for bf16 {
    #[inline(always)]
    fn get(register: u64) -> Self {
        bf16::from_bits(register as u16)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits().into()
    }
}

/// Two of a kind in 32 bits, the first in the lower half.
impl<H: Word> Word for [H; 2] {
    #[inline(always)]
    fn get(register: u64) -> Self {
        [H::get(register & 0xffff), H::get(register >> 16 & 0xffff)]
    }
    #[inline(always)]
    fn put(self) -> u64 {
        (self[0].put() & 0xffff) | (self[1].put() & 0xffff) << 16
    }
}

/// How a result that can't be represented is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, to the even one of two.
    Nearest,
    /// Towards zero.
    Zero,
    /// Down.
    Down,
    /// Up.
    Up,
}

/// A kind of floating-point number whose neighbours can be named.
pub trait Neighbours: Copy + PartialOrd {
    /// The next larger one.
    fn up(self) -> Self;
    /// The next smaller one.
    fn down(self) -> Self;
}

macro_rules! neighbours {
    ($($t:ty: $zero:expr);*) => { $(impl Neighbours for $t {
        fn up(self) -> Self {
            let bits = self.to_bits();
            if self.is_nan() || (self.is_infinite() && !self.is_sign_negative()) { self }
            else if self == $zero { <$t>::from_bits(1) }
            else if self.is_sign_negative() { <$t>::from_bits(bits - 1) }
            else { <$t>::from_bits(bits + 1) }
        }
        fn down(self) -> Self { -(-self).up() }
    })* };
}
neighbours!(f32: 0.0; f64: 0.0; f16: f16::ZERO; bf16: bf16::ZERO);

/// Turns `nearest`, which is an exact value rounded to nearest, into what another rounding makes of it. `exact` says how the
/// exact value compares with `nearest`.
pub fn redirect<F: Neighbours>(
    nearest: F,
    exact: std::cmp::Ordering,
    negative: bool,
    rounding: Rounding,
) -> F {
    use std::cmp::Ordering::{Greater, Less};
    match (rounding, exact) {
        (Rounding::Down, Less) => nearest.down(),
        (Rounding::Up, Greater) => nearest.up(),
        (Rounding::Zero, Less) if !negative => nearest.down(),
        (Rounding::Zero, Greater) if negative => nearest.up(),
        _ => nearest,
    }
}

/// The sum of two numbers, and what rounding took from it.
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// Rounds `sum + rest`, of which `rest` is the smaller by far.
pub fn to_f32(sum: f64, rest: f64, rounding: Rounding) -> f32 {
    let nearest = sum as f32;
    if !sum.is_finite() {
        return nearest;
    }
    // A number too large for f32 is compared with the largest one, as it's that one's neighbour.
    let over = f64::from(nearest) - sum;
    let exact = (-over).partial_cmp(&0.0).unwrap_or(std::cmp::Ordering::Equal);
    let exact = if over == 0.0 { rest.total_cmp(&0.0) } else { exact };
    let exact = if over == 0.0 && rest == 0.0 { std::cmp::Ordering::Equal } else { exact };
    if rounding == Rounding::Nearest {
        // Rounding twice errs only where the first result lies half-way between two of the second kind.
        if over == 0.0 {
            return nearest;
        }
        let other = if over > 0.0 { nearest.down() } else { nearest.up() };
        let tie = (f64::from(other) - sum).abs() == over.abs();
        let towards_other = if over > 0.0 { rest < 0.0 } else { rest > 0.0 };
        return if tie && towards_other { other } else { nearest };
    }
    redirect(nearest, exact, sum < 0.0, rounding)
}

/// Rounds to f32 so that rounding the result again, to a narrower type, gives what rounding once would: what is inexact gets an
/// odd last bit.
pub fn to_odd_f32(value: f64) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    if back == value || !value.is_finite() || near.is_infinite() || near.to_bits() & 1 == 1 {
        return near;
    }
    if back < value { near.up() } else { near.down() }
}
