//! The commands that hold a model of their own, one file each.

pub mod bench;
pub mod eval;
pub mod model;
pub mod once;
pub mod pull;
