//! Whole-program tests. One binary, so that everything is linked once.

mod shells;
mod util;
