//! What the emulator does, told by kernels that are written by hand.

mod arithmetic;
mod common;
mod control;
mod driver;
mod faults;
mod matrices;
