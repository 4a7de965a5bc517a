//! Products of matrices in a warp's registers, held against plain ones. Elements are put where the figures of the manual say.

use super::common::{Card, kernel};
use half::{bf16, f16};

/// Numbers that look random, from -8 to 7.
fn small(seed: usize) -> i32 {
    ((seed as u32).wrapping_mul(2_654_435_761) >> 20) as i32 % 16 - 8
}

fn left(row: usize, inner: usize) -> i32 {
    small(row * 37 + inner * 5 + 1)
}

fn right(inner: usize, column: usize) -> i32 {
    small(inner * 11 + column * 101 + 7)
}

/// Packs elements of a register, the first in the lowest bits.
fn pack(elements: &[i32], ty: &str) -> u32 {
    elements.iter().enumerate().fold(0, |word, (index, &element)| {
        word | match ty {
            "s8" => u32::from(element as i8 as u8) << (8 * index),
            "f16" => u32::from(f16::from_f32(element as f32).to_bits()) << (16 * index),
            "bf16" => u32::from(bf16::from_f32(element as f32).to_bits()) << (16 * index),
            _ => (element as f32).to_bits(),
        }
    })
}

fn multiplies(shape: &str, inner: usize, ty: &str) {
    let packed = match ty {
        "s8" => 4,
        "f16" | "bf16" => 2,
        _ => 1,
    };
    let (a_count, b_count) = (16 * inner / packed / 32, 8 * inner / packed / 32);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for lane in 0..32 {
        let (group, place) = (lane / 4, lane % 4);
        for register in 0..a_count {
            // First the row of the group and the one 8 below, then the same further to the right.
            let (row, first) = (group + 8 * (register % 2), place * packed + 4 * packed * (register / 2));
            let elements: Vec<i32> = (0..packed).map(|index| left(row, first + index)).collect();
            a.push(pack(&elements, ty));
        }
        for register in 0..b_count {
            let first = place * packed + 4 * packed * register;
            let elements: Vec<i32> = (0..packed).map(|index| right(first + index, group)).collect();
            b.push(pack(&elements, ty));
        }
    }
    let names = |first: usize, count: usize| {
        (first..first + count).map(|number| format!("%r{number}")).collect::<Vec<_>>().join(", ")
    };
    let load = |first: usize, count: usize, address: &str| -> String {
        let one = |index: usize| format!("ld.global.b32 %r{}, [{address}+{}];\n", first + index, 4 * index);
        (0..count).map(one).collect()
    };
    let sum = if ty == "s8" { "s32" } else { "f32" };
    let start = if ty == "s8" { 100 } else { 100.0_f32.to_bits() };
    let body = format!(
        "mul.wide.u32 %rd4, %r1, {}; add.s64 %rd4, %rd1, %rd4; mul.wide.u32 %rd5, %r1, {}; add.s64 %rd5, %rd2, %rd5;
        {} {} mov.b32 %r30, {start};
        mma.sync.aligned.{shape}.row.col.{sum}.{ty}.{ty}.{sum} {{{}}}, {{{}}}, {{{}}}, {{%r30, %r30, %r30, %r30}};
        mul.wide.u32 %rd6, %r1, 16; add.s64 %rd6, %rd3, %rd6; st.global.v4.b32 [%rd6], {{{}}};",
        4 * a_count,
        4 * b_count,
        load(10, a_count, "%rd4"),
        load(20, b_count, "%rd5"),
        names(40, 4),
        names(10, a_count),
        names(20, b_count),
        names(40, 4)
    );
    let mut card = Card::default();
    let (a, b, out) = (card.words(&a), card.words(&b), card.words(&[0; 128]));
    card.launch(&kernel(&body), (1, 32, 0), &[a, b, out]).unwrap();
    for (index, word) in card.read(out, 128).into_iter().enumerate() {
        let (lane, index) = (index / 4, index % 4);
        let (row, column) = (lane / 4 + 8 * (index / 2), lane % 4 * 2 + index % 2);
        let expected = 100 + (0..inner).map(|inner| left(row, inner) * right(inner, column)).sum::<i32>();
        let found = if ty == "s8" { word as i32 } else { f32::from_bits(word) as i32 };
        assert_eq!(found, expected, "{shape} {ty} row {row} column {column}");
    }
}

#[test]
fn products() {
    multiplies("m16n8k16", 16, "s8");
    multiplies("m16n8k32", 32, "s8");
    multiplies("m16n8k16", 16, "f16");
    multiplies("m16n8k16", 16, "bf16");
    multiplies("m16n8k8", 8, "f16");
    multiplies("m16n8k8", 8, "tf32");
}

#[test]
fn matrices_are_loaded_from_memory_of_the_block() {
    // Four matrices of 8 by 8, one behind the other, of which each element says where it is.
    for (turned, suffix) in [(false, ""), (true, ".trans")] {
        let body = format!(
            "mov.u32 %r2, dynamic; shl.b32 %r3, %r1, 4; add.u32 %r2, %r2, %r3;
            mul.wide.u32 %rd4, %r1, 16; add.s64 %rd4, %rd1, %rd4;
            ld.global.v4.u32 {{%r10, %r11, %r12, %r13}}, [%rd4]; st.shared.v4.u32 [%r2], {{%r10, %r11, %r12, %r13}};
            bar.warp.sync -1;
            ldmatrix.sync.aligned.m8n8.x4{suffix}.shared.b16 {{%r20, %r21, %r22, %r23}}, [%r2];
            add.s64 %rd5, %rd3, %rd4; sub.s64 %rd5, %rd5, %rd1;
            st.global.v4.u32 [%rd5], {{%r20, %r21, %r22, %r23}};"
        );
        let elements: Vec<u16> = (0..256).collect();
        let mut card = Card::default();
        let (a, out) = (card.numbers(&elements, |element| element.to_le_bytes()), card.words(&[0; 128]));
        card.launch(&kernel(&body), (1, 32, 512), &[a, 0, out]).unwrap();
        for (index, word) in card.read(out, 128).into_iter().enumerate() {
            let (lane, matrix) = (index as u32 / 4, index as u32 % 4);
            let (group, place) = (lane / 4, lane % 4 * 2);
            let at = |row: u32, column: u32| matrix * 64 + row * 8 + column;
            let expected = if turned {
                at(place, group) | at(place + 1, group) << 16
            } else {
                at(group, place) | at(group, place + 1) << 16
            };
            assert_eq!(word, expected, "lane {lane} matrix {matrix}{suffix}");
        }
    }
}

#[test]
fn copies_ahead_fill_up_with_zero() {
    let body = "mov.u32 %r2, dynamic; cp.async.ca.shared.global [%r2], [%rd1], 16, 8; cp.async.commit_group;
        cp.async.wait_group 0; ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r2]; st.global.v4.u32 [%rd3], {%r4, %r5, %r6, %r7};";
    let mut card = Card::default();
    let (a, out) = (card.words(&[1, 2, 3, 4]), card.words(&[9; 4]));
    card.launch(&kernel(body), (1, 1, 16), &[a, 0, out]).unwrap();
    assert_eq!(card.read(out, 4), [1, 2, 0, 0]);
}

#[test]
fn matrices_as_wholes() {
    // The left one by rows, the right one by columns, the result by rows and farther apart than it is wide.
    let registers = |prefix: &str, first: usize, count: usize| {
        let names = (first..first + count).map(|number| format!("%{prefix}{number}"));
        format!("{{{}}}", names.collect::<Vec<_>>().join(", "))
    };
    for (ty, count) in [("f16", 8), ("bf16", 4)] {
        let types = if ty == "f16" { "f32.f32" } else { "f32.bf16.bf16.f32" };
        let (a, b, sums) = (registers("r", 10, count), registers("r", 20, count), registers("f", 0, 8));
        let zero: String = (0..8).map(|number| format!("mov.f32 %f{number}, 0f3F800000;\n")).collect();
        let body = format!(
            "{zero} mov.u32 %r2, 16; mov.u32 %r3, 20;
            wmma.load.a.sync.aligned.row.m16n16k16.{ty} {a}, [%rd1], %r2;
            wmma.load.b.sync.aligned.col.m16n16k16.{ty} {b}, [%rd2], %r2;
            wmma.mma.sync.aligned.row.col.m16n16k16.{types} {sums}, {a}, {b}, {sums};
            wmma.store.d.sync.aligned.row.m16n16k16.f32 [%rd3], {sums}, %r3;"
        );
        let bits = |value: i32| {
            if ty == "f16" {
                f16::from_f32(value as f32).to_bits()
            } else {
                bf16::from_f32(value as f32).to_bits()
            }
        };
        let a: Vec<u16> = (0..256).map(|index| bits(left(index / 16, index % 16))).collect();
        let b: Vec<u16> = (0..256).map(|index| bits(right(index % 16, index / 16))).collect();
        let mut card = Card::default();
        let (a, b) = (card.numbers(&a, |n| n.to_le_bytes()), card.numbers(&b, |n| n.to_le_bytes()));
        let out = card.words(&[0; 320]);
        card.launch(&kernel(&body), (1, 32, 0), &[a, b, out]).unwrap();
        let found = card.read(out, 320);
        for row in 0..16 {
            for column in 0..16 {
                let expected = 1 + (0..16).map(|inner| left(row, inner) * right(inner, column)).sum::<i32>();
                assert_eq!(f32::from_bits(found[row * 20 + column]) as i32, expected, "{ty} {row} {column}");
            }
        }
    }
}
