//! The user's own history: reading the shells' files, and finding lines in it within a key stroke.

mod file;
mod index;
mod parse;

pub use file::{MAX_BYTES, end, usual};
pub use index::{Index, Match};
pub use parse::parse;
