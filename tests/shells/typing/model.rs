//! What decides what is typed, and the model that answers it: both the same every time.

use std::time::Duration;

use crate::util::{
    fake::{Answer, Fake},
    home::Home,
};

/// What the model says that comes next.
const SUFFIXES: [&str; 8] = [
    "llo world",
    " 日本語 wide",
    "é and e\u{301}",
    "o",
    "cho two three four five six seven",
    "h oh",
    " z",
    "x y",
];

/// Numbers that look random and are the same every time (Knuth's constants for 64 bits).
pub struct Numbers(u64);

impl Numbers {
    pub fn of(seed: u64, round: usize) -> Self {
        let mut numbers = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round as u64);
        // Seeds that lie side by side begin alike.
        for _ in 0..4 {
            numbers.below(2);
        }
        numbers
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A model that knows something about half of all lines, and about some of them later than others.
pub fn model(home: &Home) -> Fake {
    Fake::start(home.runtime(), |request| match says(&request.line) {
        None => Answer::Silence,
        Some((0, suffix)) => Answer::Suffixes(vec![suffix.to_owned()]),
        Some((late, suffix)) => Answer::Late(Duration::from_millis(late), vec![suffix.to_owned()]),
    })
}

/// What the model says that comes after a line, and after how many milliseconds.
pub fn says(line: &str) -> Option<(u64, &'static str)> {
    let sum = line.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut numbers = Numbers::of(sum, 0);
    // A description is replaced, which is more than typing something.
    if numbers.chance(50) || line.trim_start().starts_with('#') {
        return None;
    }
    let suffix = SUFFIXES[numbers.below(SUFFIXES.len())];
    // After a blank no model has another one. Typed, it would take the place of the one that a completion has added.
    let suffix = if line.ends_with(' ') { suffix.trim_start() } else { suffix };
    Some(([0, 0, 3, 10, 40][numbers.below(5)], suffix))
}
