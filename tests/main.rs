//! Whole-program tests. One binary, so that everything is linked once.

mod cli;
mod daemon;
mod shells;
mod util;
