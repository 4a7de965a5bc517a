//! What a kernel must not do is found, and told so that it can be.

use std::collections::HashMap;

use super::common::{Card, kernel};
use nemoterm_cuda_emulator::ptx::{self, fault::Class, module::Module};

/// Lets each of 32 threads read a number of 32 bits and write it.
const COPY: &str = "mul.wide.u32 %rd4, %r1, 4; add.s64 %rd5, %rd1, %rd4; ld.global.u32 %r2, [%rd5+8];
    add.s64 %rd6, %rd3, %rd4; st.global.u32 [%rd6], %r2;";

#[test]
fn an_access_behind_the_end() {
    let mut card = Card::default();
    let (a, out) = (card.words(&[1; 33]), card.words(&[0; 32]));
    let fault = card.launch(&kernel(COPY), (1, 32, 0), &[a, 0, out]).unwrap_err();
    assert_eq!(fault.class, Class::IllegalAddress);
    for part in
        [format!("{:#x}", a + 132), " f ".into(), "ld.global.u32 %r2, [%rd5+8]".into(), "thread 31".into()]
    {
        assert!(fault.message.contains(&part), "{part} is not in: {}", fault.message);
    }
}

#[test]
fn an_access_to_what_was_freed() {
    let mut card = Card::default();
    let (a, out) = (card.words(&[1; 40]), card.words(&[0; 32]));
    card.launch(&kernel(COPY), (1, 32, 0), &[a, 0, out]).unwrap();
    assert!(card.memory.free(a) && !card.memory.free(a));
    let fault = card.launch(&kernel(COPY), (1, 32, 0), &[a, 0, out]).unwrap_err();
    assert_eq!(fault.class, Class::IllegalAddress);
}

#[test]
fn an_access_that_is_not_aligned() {
    let mut card = Card::default();
    let (a, out) = (card.words(&[1; 40]), card.words(&[0; 32]));
    let fault = card.launch(&kernel(COPY), (1, 32, 0), &[a + 2, 0, out]).unwrap_err();
    assert_eq!(fault.class, Class::Misaligned);
}

#[test]
fn an_access_behind_memory_of_the_block() {
    let text =
        kernel("mov.u32 %r2, dynamic; shl.b32 %r3, %r1, 2; add.u32 %r2, %r2, %r3; st.shared.u32 [%r2], %r1;");
    let card = Card::default();
    assert!(card.launch(&text, (1, 32, 128), &[0, 0, 0]).is_ok());
    assert_eq!(card.launch(&text, (1, 32, 124), &[0, 0, 0]).unwrap_err().class, Class::IllegalAddress);
}

#[test]
fn lanes_that_never_come() {
    // Half of the lanes wait for all, and the others wait at a barrier that is behind.
    let text = kernel("setp.lt.u32 %p1, %r1, 40; @%p1 bra A; bra.uni B; A: bar.sync 1; B: bar.sync 2;");
    let fault = Card::default().launch(&text, (1, 64, 0), &[0, 0, 0]).unwrap_err();
    assert!(fault.message.contains("never come"), "{}", fault.message);
}

#[test]
fn traps_and_assertions() {
    let fault = Card::default().launch(&kernel("trap;"), (1, 1, 0), &[0, 0, 0]).unwrap_err();
    assert!(fault.message.contains("trap"));
    let text = kernel("{ call.uni __assertfail, (); }");
    let fault = Card::default().launch(&text, (1, 1, 0), &[0, 0, 0]).unwrap_err();
    assert_eq!(fault.class, Class::Assertion);
}

#[test]
fn an_instruction_that_is_not_known() {
    for unknown in ["tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [a, {%r1}];", "frobnicate.u32 %r1, %r1;"] {
        let text = kernel(unknown);
        let module = Module::parse(text.as_str()).unwrap();
        let wrong = ptx::compile(&module, "f", &HashMap::new()).err().unwrap();
        assert!(wrong.contains("not known") || wrong.contains("can't be"), "{wrong}");
    }
}

#[test]
fn warps_that_use_the_same_memory_with_no_barrier() {
    // Each thread reads what the one 32 further has written, of another warp.
    let text = |barrier: &str| {
        kernel(&format!(
            "mov.u32 %r2, dynamic; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3; st.shared.u32 [%r4], %r1;
            {barrier}
            xor.b32 %r5, %r3, 128; add.u32 %r5, %r2, %r5; ld.shared.u32 %r6, [%r5];"
        ))
    };
    let card = Card::default();
    assert!(card.launch(&text("bar.sync 0;"), (2, 64, 256), &[0, 0, 0]).is_ok());
    let fault = card.launch(&text(""), (2, 64, 256), &[0, 0, 0]).unwrap_err();
    assert!(fault.message.contains("no barrier"), "{}", fault.message);
    // All write the same.
    let text = kernel("mov.u32 %r2, dynamic; st.shared.u32 [%r2], 5; bar.sync 0; ld.shared.u32 %r3, [%r2];");
    assert!(card.launch(&text, (2, 64, 256), &[0, 0, 0]).is_ok());
}
