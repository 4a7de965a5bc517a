//! Numbers: what instructions make of them.

use super::common::one;

/// The bits of a number.
fn f(value: f32) -> u32 {
    value.to_bits()
}

#[test]
fn integers() {
    let cases: [(&str, u32, u32, u32); 30] = [
        ("mul.hi.u32 %r4, %r2, %r3;", 0xffff_ffff, 0xffff_ffff, 0xffff_fffe),
        ("mul.hi.s32 %r4, %r2, %r3;", 0xffff_ffff, 0xffff_ffff, 0),
        ("div.s32 %r4, %r2, %r3;", -7_i32 as u32, 2, -3_i32 as u32),
        ("rem.s32 %r4, %r2, %r3;", -7_i32 as u32, 2, -1_i32 as u32),
        ("min.s32 %r4, %r2, %r3;", -7_i32 as u32, 2, -7_i32 as u32),
        ("min.u32 %r4, %r2, %r3;", -7_i32 as u32, 2, 2),
        ("shr.s32 %r4, %r2, %r3;", 0x8000_0000, 40, 0xffff_ffff),
        ("shr.u32 %r4, %r2, %r3;", 0x8000_0000, 40, 0),
        ("shl.b32 %r4, %r2, %r3;", 3, 31, 0x8000_0000),
        ("shf.l.wrap.b32 %r4, %r2, %r3, 8;", 0x1122_3344, 0x5566_7788, 0x6677_8811),
        ("shf.r.clamp.b32 %r4, %r2, %r3, 40;", 0x1122_3344, 0x5566_7788, 0x5566_7788),
        ("bfe.s32 %r4, %r2, 4, 8;", 0x0000_0f80, 0, -8_i32 as u32),
        ("bfe.u32 %r4, %r2, 4, 8;", 0x0000_0f80, 0, 0xf8),
        ("bfi.b32 %r4, %r2, %r3, 8, 8;", 0xab, 0xffff_ffff, 0xffff_abff),
        ("prmt.b32 %r4, %r2, %r3, 0x7531;", 0x3322_1100, 0x7766_5544, 0x7755_3311),
        ("prmt.b32 %r4, %r2, %r3, 0x000b;", 0x8022_1100, 0, 0x0000_00ff),
        ("lop3.b32 %r4, %r2, %r3, 0xff00, 0xe8;", 0xf0f0, 0x0ff0, 0xfff0 & 0xfff0),
        ("popc.b32 %r4, %r2;", 0xf0f0, 0, 8),
        ("clz.b32 %r4, %r2;", 0xf0f0, 0, 16),
        ("brev.b32 %r4, %r2;", 1, 0, 0x8000_0000),
        ("bfind.u32 %r4, %r2;", 0xf0f0, 0, 15),
        ("bfind.s32 %r4, %r2;", 0xffff_ffff, 0, 0xffff_ffff),
        ("sad.s32 %r4, %r2, %r3, 5;", -7_i32 as u32, 2, 14),
        ("add.sat.s32 %r4, %r2, %r3;", 0x7fff_ffff, 2, 0x7fff_ffff),
        ("dp4a.s32.s32 %r4, %r2, %r3, 5;", 0xff02_0304, 0x0102_0304, 5 - 1 + 4 + 9 + 16),
        ("dp4a.u32.s32 %r4, %r2, %r3, 5;", 0xff02_0304, 0xff02_0304, (5 - 255 + 4 + 9 + 16_i32) as u32),
        ("dp2a.lo.s32.s32 %r4, %r2, %r3, 1;", 0xffff_0003, 0x0000_05fe, (1 - 5 - 6_i32) as u32),
        ("abs.s32 %r4, %r2;", -7_i32 as u32, 0, 7),
        ("mul24.lo.u32 %r4, %r2, %r3;", 0xff00_0003, 5, 15),
        ("slct.u32.s32 %r4, %r2, %r3, -1;", 1, 2, 2),
    ];
    for (body, a, b, expected) in cases {
        assert_eq!(one(body, a, b), expected, "{body}");
    }
}

#[test]
fn carries() {
    // 128 bits, added and multiplied in parts.
    let body = "add.cc.u32 %r5, %r2, %r3; addc.cc.u32 %r6, %r2, 0; addc.u32 %r4, 7, 0;";
    assert_eq!(one(body, 0xffff_ffff, 1), 8);
    let body = "sub.cc.u32 %r5, %r2, %r3; subc.u32 %r4, 7, 0;";
    assert_eq!(one(body, 1, 2), 6);
    let body = "mad.lo.cc.u32 %r5, %r2, %r3, %r2; madc.hi.u32 %r4, %r2, %r3, 0;";
    assert_eq!(
        one(body, 0xffff_ffff, 0xffff_ffff),
        ((0xffff_ffff_u64 * 0xffff_ffff + 0xffff_ffff) >> 32) as u32
    );
}

#[test]
fn comparisons_with_what_is_no_number() {
    let holds = |operator: &str, a: f32, b: f32| {
        let body = format!("setp.{operator}.f32 %p1, %r2, %r3; selp.u32 %r4, 1, 0, %p1;");
        one(&body, f(a), f(b)) == 1
    };
    assert!(holds("lt", 1.0, 2.0) && !holds("lt", f32::NAN, 2.0) && holds("ltu", f32::NAN, 2.0));
    assert!(!holds("ne", f32::NAN, 2.0) && holds("neu", f32::NAN, 2.0) && holds("equ", f32::NAN, 2.0));
    assert!(holds("nan", f32::NAN, 2.0) && !holds("num", f32::NAN, 2.0) && holds("num", 1.0, 2.0));
}

#[test]
fn comparisons_give_two_truths() {
    let body = "setp.gt.u32 %p1, %r3, 0; setp.lt.and.s32 %p2|%p3, %r2, %r3, %p1;
        selp.u32 %r5, 1, 0, %p2; selp.u32 %r6, 2, 0, %p3; or.b32 %r4, %r5, %r6;";
    assert_eq!(one(body, 1, 2), 1);
    assert_eq!(one(body, 3, 2), 2);
    assert_eq!(one(body, 3, 0), 0);
}

#[test]
fn rounding() {
    let (one_f, least) = (f(1.0), f(2.0_f32.powi(-60)));
    let cases: [(&str, u32, u32, u32); 14] = [
        ("add.rz.f32 %r4, %r2, %r3;", one_f, least, one_f),
        ("add.rp.f32 %r4, %r2, %r3;", one_f, least, one_f + 1),
        ("sub.rz.f32 %r4, %r2, %r3;", one_f, least, one_f - 1),
        ("sub.rm.f32 %r4, %r2, %r3;", one_f, least, one_f - 1),
        ("sub.rn.f32 %r4, %r2, %r3;", one_f, least, one_f),
        ("fma.rp.f32 %r4, %r2, %r2, %r3;", one_f, least, one_f + 1),
        ("mul.rz.f32 %r4, %r2, %r3;", f(1.0) + 1, f(1.0) + 1, f(1.0) + 2),
        ("mul.rp.f32 %r4, %r2, %r3;", f(1.0) + 1, f(1.0) + 1, f(1.0) + 3),
        ("mul.ftz.f32 %r4, %r2, %r3;", f(1e-30), f(1e-12), 0),
        ("add.sat.f32 %r4, %r2, %r3;", f(0.75), f(0.75), one_f),
        ("max.f32 %r4, %r2, %r3;", f(f32::NAN), f(2.0), f(2.0)),
        ("min.f32 %r4, %r2, %r3;", f(0.0), f(-0.0), f(-0.0)),
        ("copysign.f32 %r4, %r2, %r3;", f(-1.0), f(3.0), f(-3.0)),
        ("ex2.approx.ftz.f32 %r4, %r2;", f(3.0), 0, f(8.0)),
    ];
    for (body, a, b, expected) in cases {
        assert_eq!(one(body, a, b), expected, "{body}");
    }
}

#[test]
fn conversions() {
    let cases: [(&str, u32, u32); 18] = [
        ("cvt.rni.s32.f32 %r4, %r2;", f(2.5), 2),
        ("cvt.rpi.s32.f32 %r4, %r2;", f(2.1), 3),
        ("cvt.rmi.s32.f32 %r4, %r2;", f(-2.1), -3_i32 as u32),
        ("cvt.rzi.u32.f32 %r4, %r2;", f(-2.1), 0),
        ("cvt.rzi.s32.f32 %r4, %r2;", f(1e20), i32::MAX as u32),
        ("cvt.rzi.s32.f32 %r4, %r2;", f(f32::NAN), 0),
        ("cvt.rni.f32.f32 %r4, %r2;", f(3.5), f(4.0)),
        ("cvt.sat.f32.f32 %r4, %r2;", f(3.5), f(1.0)),
        ("cvt.rn.f32.s32 %r4, %r2;", 0x0100_0001, f(16_777_216.0)),
        ("cvt.rp.f32.s32 %r4, %r2;", 0x0100_0001, f(16_777_218.0)),
        ("cvt.s32.s8 %r4, %r2;", 0x1234_56ff, u32::MAX),
        ("cvt.u32.u8 %r4, %r2;", 0x1234_56ff, 0xff),
        ("cvt.sat.s32.s64 %r4, %rd9;", 0, 0x7fff_ffff),
        ("cvt.rn.f16.f32 %rs1, %r2; cvt.u32.u16 %r4, %rs1;", f(1.0 + 3.0 / 2048.0), 0x3c02),
        ("cvt.rz.f16.f32 %rs1, %r2; cvt.u32.u16 %r4, %rs1;", f(1.0 + 3.0 / 2048.0), 0x3c01),
        ("cvt.rn.bf16.f32 %rs1, %r2; cvt.u32.u16 %r4, %rs1;", f(1.0 + 3.0 / 256.0), 0x3f82),
        ("cvt.rn.f16x2.f32 %r4, 0f3F800000, %r2;", f(2.0), 0x3c00_4000),
        ("cvt.rn.bf16x2.f32 %r4, 0f3F800000, %r2;", f(2.0), 0x3f80_4000),
    ];
    for (body, a, expected) in cases {
        let body = format!("mov.u64 %rd9, 0x1234567890; {body}");
        assert_eq!(one(&body, a, 0), expected, "{body}");
    }
}

#[test]
fn halves() {
    let cases: [(&str, u32, u32, u32); 8] = [
        // 2 * 3 + 1 and 4 * 0.5 + 1.
        ("fma.rn.f16x2 %r4, %r2, %r3, 0x3c003c00;", 0x4400_4000, 0x3800_4200, 0x4200_4700),
        ("add.f16x2 %r4, %r2, %r3;", 0x4400_4000, 0x3800_4200, 0x4480_4500),
        ("mul.bf16x2 %r4, %r2, %r3;", 0x4080_4000, 0x3f00_4040, 0x4000_40c0),
        ("neg.f16x2 %r4, %r2;", 0x4400_c000, 0, 0xc400_4000),
        ("max.f16x2 %r4, %r2, %r3;", 0x4400_4000, 0x3800_4200, 0x4400_4200),
        ("fma.rn.relu.f16x2 %r4, %r2, %r3, 0;", 0xc400_4000, 0x3800_4200, 0x0000_4600),
        ("fma.rn.bf16x2 %r4, %r2, %r3, 0x3f803f80;", 0x4080_4000, 0x3f00_4040, 0x4040_40e0),
        ("min.bf16x2 %r4, %r2, %r3;", 0x4080_4000, 0x3f00_4040, 0x3f00_4000),
    ];
    for (body, a, b, expected) in cases {
        assert_eq!(one(body, a, b), expected, "{body}");
    }
    // Rounded once: the product alone lies half-way, and what is added decides.
    let body = "cvt.u16.u32 %rs1, %r2; cvt.u16.u32 %rs2, %r3;
        fma.rn.f16 %rs3, %rs1, %rs1, %rs2; cvt.u32.u16 %r4, %rs3;";
    let (a, c) = (half::f16::from_f32(1.0 + 1.0 / 64.0), half::f16::from_bits(1));
    let exact = a.to_f64() * a.to_f64() + c.to_f64();
    assert_eq!(
        one(body, a.to_bits().into(), c.to_bits().into()),
        u32::from(half::f16::from_f64(exact).to_bits())
    );
}

#[test]
fn wide_numbers_are_taken_apart_and_put_together() {
    let body = "mov.b64 %rd8, {%r2, %r3}; mul.wide.s32 %rd9, %r2, %r3; add.s64 %rd8, %rd8, %rd9;
        mov.b64 {%r5, %r6}, %rd8; xor.b32 %r4, %r5, %r6;";
    let both = (7_u64 << 32 | 0xffff_fffb).wrapping_add(-35_i64 as u64);
    assert_eq!(one(body, -5_i32 as u32, 7), (both as u32) ^ ((both >> 32) as u32));
    let body =
        "cvt.f64.f32 %fd1, %r2; cvt.f64.f32 %fd2, %r3; fma.rn.f64 %fd3, %fd1, %fd2, 0d3FF0000000000000;
        cvt.rn.f32.f64 %r4, %fd3;";
    assert_eq!(one(body, f(1.5), f(2.0)), f(4.0));
}

#[test]
fn names_within_braces_are_others() {
    let body = "{ .reg .b32 c; mov.b32 c, 3; add.u32 %r2, %r2, c; } { .reg .b32 c; mov.b32 c, 40; add.u32 %r4, %r2, c; }";
    assert_eq!(one(body, 100, 0), 143);
}
