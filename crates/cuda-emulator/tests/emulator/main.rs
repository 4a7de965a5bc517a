//! What the emulator does, told by kernels that are written by hand.

#![allow(clippy::unwrap_used)] // A panic is what a test fails with.

mod arithmetic;
mod common;
mod control;
mod driver;
mod faults;
mod matrices;
