//! The commands that need a model or the configuration in their own process, one file each.

pub mod bench;
pub mod config;
pub mod describe;
pub mod eval;
pub mod loading;
pub mod model;
pub mod once;
pub mod pull;
