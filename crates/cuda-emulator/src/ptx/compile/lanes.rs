//! Functions of one to four numbers, done for all lanes.

use crate::ptx::{
    launch::DONE,
    machine::{Action, LANES, Lanes, Slot, lanes},
    types::Word,
};

macro_rules! over_lanes {
    ($(#[$doc:meta])* $name:ident, $($slot:ident: $word:ident),+) => {
        $(#[$doc])*
        pub fn $name<$($word: Word,)+ Out: Word>(
            into: Slot,
            $($slot: Slot,)+
            work: impl Fn($($word),+) -> Out + Send + Sync + 'static,
        ) -> Action {
            let into = into as usize;
            $(let $slot = $slot as usize;)+
            Box::new(move |warp, _, mask| {
                let registers = &mut warp.registers;
                if mask == u32::MAX {
                    let mut out: Lanes = [0; LANES];
                    {
                        $(let $slot = &registers[$slot];)+
                        for lane in 0..LANES {
                            out[lane] = work($($word::get($slot[lane])),+).put();
                        }
                    }
                    registers[into] = out;
                } else {
                    for lane in lanes(mask) {
                        registers[into][lane] = work($($word::get(registers[$slot][lane])),+).put();
                    }
                }
                DONE
            })
        }
    };
}

over_lanes!(
    /// A function of one number.
    one, a: A
);
over_lanes!(
    /// A function of two numbers.
    two, a: A, b: B
);
over_lanes!(
    /// A function of three numbers.
    three, a: A, b: B, c: C
);
over_lanes!(
    /// A function of four numbers.
    four, a: A, b: B, c: C, d: D
);

/// A copy of a register.
pub fn copy(into: Slot, from: Slot) -> Action {
    let (into, from) = (into as usize, from as usize);
    Box::new(move |warp, _, mask| {
        if mask == u32::MAX {
            warp.registers[into] = warp.registers[from];
        } else {
            for lane in lanes(mask) {
                warp.registers[into][lane] = warp.registers[from][lane];
            }
        }
        DONE
    })
}

/// A truth worked out of other truths, for all lanes at once.
pub fn truths(
    into: Slot,
    (a, b): ((Slot, bool), (Slot, bool)),
    work: impl Fn(u32, u32) -> u32 + Send + Sync + 'static,
) -> Action {
    let turned = |not: bool| if not { u32::MAX } else { 0 };
    let ((a, not_a), (b, not_b)) = ((a.0 as usize, turned(a.1)), (b.0 as usize, turned(b.1)));
    Box::new(move |warp, _, mask| {
        let out = work(warp.predicates[a] ^ not_a, warp.predicates[b] ^ not_b);
        set(&mut warp.predicates[into as usize], out, mask);
        DONE
    })
}

/// Sets the bits of lanes that take part.
#[inline]
pub fn set(predicate: &mut u32, bits: u32, mask: u32) {
    *predicate = (*predicate & !mask) | (bits & mask);
}
