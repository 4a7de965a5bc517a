//! Branches, barriers, calls, and what the lanes of a warp do together.

use super::common::{Card, kernel, lanes};

/// The number of each lane.
fn count() -> [u32; 32] {
    std::array::from_fn(|lane| lane as u32)
}

#[test]
fn lanes_part_and_meet_again() {
    // Steps of Collatz's rule to 1; then all lanes vote, which only works where they have met.
    let body = "
        mov.u32 %r4, 0;
        LOOP: setp.le.u32 %p1, %r2, 1;
        @%p1 bra DONE;
        add.u32 %r4, %r4, 1;
        and.b32 %r5, %r2, 1;
        setp.eq.u32 %p2, %r5, 1;
        @%p2 bra ODD;
        shr.u32 %r2, %r2, 1;
        bra.uni LOOP;
        ODD: mad.lo.u32 %r2, %r2, 3, 1;
        bra.uni LOOP;
        DONE: activemask.b32 %r6;
        setp.ne.u32 %p3, %r6, -1;
        @%p3 trap;";
    let steps = |mut number: u32| {
        let mut steps = 0;
        while number > 1 {
            number = if number % 2 == 1 { 3 * number + 1 } else { number / 2 };
            steps += 1;
        }
        steps
    };
    assert_eq!(lanes(body, count(), [0; 32]), count().map(steps));
}

#[test]
fn lanes_wait_for_each_other_where_they_are_named() {
    // The upper half takes a longer way to the same shuffle.
    let body = "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 bra SHORT;
        add.u32 %r2, %r2, 100;
        bra.uni JOIN;
        SHORT: add.u32 %r2, %r2, 200;
        JOIN: shfl.sync.bfly.b32 %r4, %r2, 16, 31, -1;";
    let expected = count().map(|lane| if lane < 16 { lane + 16 + 100 } else { lane - 16 + 200 });
    assert_eq!(lanes(body, count(), [0; 32]), expected);
}

#[test]
fn shuffles_say_which_lanes_were_within() {
    let within = |way: &str, by: u32, clamp: u32| {
        let body = format!(
            "shfl.sync.{way}.b32 %r4|%p1, %r2, {by}, {clamp}, 0xffffffff; @!%p1 add.u32 %r4, %r4, 1000;"
        );
        lanes(&body, count(), [0; 32])
    };
    let expect = |from: fn(u32) -> Option<u32>| count().map(|lane| from(lane).unwrap_or(lane + 1000));
    assert_eq!(within("up", 3, 0), expect(|lane| lane.checked_sub(3)));
    assert_eq!(within("down", 3, 31), expect(|lane| (lane + 3 < 32).then_some(lane + 3)));
    assert_eq!(within("idx", 5, 31), expect(|_| Some(5)));
    // Segments of eight lanes: the upper part of the last operand masks the segment's number.
    assert_eq!(within("idx", 5, 0x181f), expect(|lane| Some(lane / 8 * 8 + 5)));
    assert_eq!(within("bfly", 9, 0x181f), expect(|lane| (lane ^ 9 <= (lane | 7)).then_some(lane ^ 9)));
}

#[test]
fn lanes_vote_and_reduce() {
    let body = "
        setp.gt.s32 %p1, %r2, 20;
        vote.sync.ballot.b32 %r4, %p1, -1;
        redux.sync.add.s32 %r5, %r2, -1;
        add.u32 %r4, %r4, %r5;
        vote.sync.all.pred %p2, %p1, -1;
        @%p2 trap;
        vote.sync.any.pred %p3, %p1, -1;
        @!%p3 trap;";
    assert_eq!(lanes(body, count(), [0; 32]), [0xffe0_0000 + 496; 32]);
    let body = "and.b32 %r5, %r2, 3; match.any.sync.b32 %r4, %r5, -1;";
    assert_eq!(lanes(body, count(), [0; 32]), count().map(|lane| 0x1111_1111 << (lane % 4)));
}

#[test]
fn threads_of_a_block_wait_at_barriers() {
    // Sums of 256 numbers in memory of the block, of which a part is declared and a part asked for at the launch.
    let text = kernel(
        ".shared .align 4 .b8 total[4];
        mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r2, %r3, %r1;
        mul.wide.u32 %rd4, %r4, 4; add.s64 %rd5, %rd1, %rd4; ld.global.u32 %r5, [%rd5];
        mov.u32 %r6, dynamic; shl.b32 %r7, %r1, 2; add.u32 %r6, %r6, %r7;
        st.shared.u32 [%r6], %r5;
        bar.sync 0;
        shr.u32 %r8, %r3, 1;
        LOOP: setp.ge.u32 %p1, %r1, %r8;
        @%p1 bra NEXT;
        shl.b32 %r9, %r8, 2; add.u32 %r9, %r6, %r9;
        ld.shared.u32 %r10, [%r9]; ld.shared.u32 %r11, [%r6];
        add.u32 %r10, %r10, %r11; st.shared.u32 [%r6], %r10;
        NEXT: bar.sync 0;
        shr.u32 %r8, %r8, 1; setp.ne.u32 %p2, %r8, 0;
        @%p2 bra LOOP;
        setp.ne.u32 %p3, %r1, 0;
        @%p3 bra END;
        ld.shared.u32 %r12, [%r6]; st.shared.u32 [total], %r12;
        mov.u64 %rd6, total; cvta.shared.u64 %rd6, %rd6; ld.u32 %r13, [%rd6];
        mul.wide.u32 %rd7, %r2, 4; add.s64 %rd8, %rd3, %rd7; st.global.u32 [%rd8], %r13;
        END:",
    );
    let mut card = Card::default();
    let numbers: Vec<u32> = (0..1024).map(|number| number * number).collect();
    let (a, out) = (card.words(&numbers), card.words(&[0; 4]));
    card.launch(&text, (4, 256, 1024), &[a, 0, out]).unwrap();
    let sums: Vec<u32> = numbers.chunks(256).map(|part| part.iter().sum()).collect();
    assert_eq!(card.read(out, 4), sums);
}

#[test]
fn threads_count_at_a_barrier() {
    let text = kernel(
        "setp.lt.u32 %p1, %r1, 40; bar.red.popc.u32 %r2, 0, %p1;
        mul.wide.u32 %rd4, %r1, 4; add.s64 %rd5, %rd3, %rd4; st.global.u32 [%rd5], %r2;",
    );
    let mut card = Card::default();
    let out = card.words(&[0; 96]);
    card.launch(&text, (1, 96, 0), &[0, 0, out]).unwrap();
    assert_eq!(card.read(out, 96), [40; 96]);
}

#[test]
fn functions_take_and_return_parameters() {
    let text = format!(
        ".func (.param .b32 back) twice(.param .b32 given, .param .align 8 .b8 more[8])
        {{ .reg .b32 %r<9>; ld.param.b32 %r1, [given]; ld.param.b32 %r2, [more+4]; shl.b32 %r3, %r1, 1;
        add.u32 %r3, %r3, %r2; st.param.b32 [back], %r3; ret; }}\n{}",
        kernel(
            "setp.lt.u32 %p1, %r1, 20; mov.u32 %r2, 7;
            @!%p1 bra SKIP;
            { .param .b32 p0; .param .align 8 .b8 p1[8]; .param .b32 r0;
            st.param.b32 [p0], %r1; st.param.b32 [p1+4], 1000;
            call.uni (r0), twice, (p0, p1);
            ld.param.b32 %r2, [r0]; }
            SKIP: mul.wide.u32 %rd4, %r1, 4; add.s64 %rd5, %rd3, %rd4; st.global.u32 [%rd5], %r2;"
        )
    );
    let mut card = Card::default();
    let out = card.words(&[0; 32]);
    card.launch(&text, (1, 32, 0), &[0, 0, out]).unwrap();
    let expected = count().map(|lane| if lane < 20 { 2 * lane + 1000 } else { 7 });
    assert_eq!(card.read(out, 32), expected);
}

#[test]
fn branches_by_a_table() {
    let body = "
        rem.u32 %r5, %r2, 3;
        TABLE: .branchtargets A, B, C;
        brx.idx %r5, TABLE;
        A: mov.u32 %r4, 10; bra.uni END;
        B: mov.u32 %r4, 20; bra.uni END;
        C: mov.u32 %r4, 30;
        END:";
    assert_eq!(lanes(body, count(), [0; 32]), count().map(|lane| [10, 20, 30][lane as usize % 3]));
}

#[test]
fn blocks_change_memory_one_after_the_other() {
    let text = kernel(
        "mov.u32 %r2, %ctaid.x; mad.lo.u32 %r2, %r2, 128, %r1;
        atom.global.add.u32 %r3, [%rd3], 1;
        atom.global.max.s32 %r4, [%rd3+4], %r2;
        red.global.add.f32 [%rd3+8], 0f3F800000;
        atom.global.inc.u32 %r5, [%rd3+12], 6;
        mov.u32 %r6, dynamic; atom.shared.cas.b32 %r7, [%r6], %r2, 5;",
    );
    let mut card = Card::default();
    let out = card.words(&[0; 4]);
    card.launch(&text, (64, 128, 16), &[0, 0, out]).unwrap();
    // Counting up to 6 and back to 0 has 7 numbers.
    assert_eq!(card.read(out, 4), [64 * 128, 64 * 128 - 1, (64.0_f32 * 128.0).to_bits(), 64 * 128 % 7]);
}
