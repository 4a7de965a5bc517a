//! What goes wrong while a kernel runs.

use super::machine::Block;

/// The result of a step. The fault is boxed, as there is hardly ever one.
pub type Outcome = Result<(), Box<Fault>>;

/// What kind of error of the driver a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An address outside of what is allocated.
    IllegalAddress,
    /// An address that is no multiple of the size accessed.
    Misaligned,
    /// A condition in the kernel that was said to hold.
    Assertion,
    /// Anything else.
    Other,
}

/// Why a kernel was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub class: Class,
    /// What happened, and once that is known, where.
    pub message: String,
    /// The lane it happened to.
    pub lane: usize,
}

impl Fault {
    /// A fault of no special kind.
    pub fn new(message: impl Into<String>) -> Box<Self> {
        Self::of(Class::Other, message)
    }

    /// A fault of some kind.
    pub fn of(class: Class, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { class, message: message.into(), lane: 0 })
    }

    /// Says which lane it happened to.
    pub fn lane(mut self: Box<Self>, lane: usize) -> Box<Self> {
        self.lane = lane;
        self
    }

    /// Says where it happened.
    pub fn at(mut self: Box<Self>, block: &Block<'_>, warp: usize, pc: u32) -> Box<Self> {
        let kernel = block.launch.kernel;
        let (begin, end) = kernel.code[pc as usize].span;
        let text = kernel.text.get(begin as usize..end as usize).unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let thread = warp * super::machine::LANES + self.lane;
        self.message = format!(
            "{} in {} at `{text}`, block {:?}, thread {thread} of it",
            self.message, kernel.name, block.place
        );
        self
    }
}
