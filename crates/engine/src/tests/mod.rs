//! Tests that need the inside of the crate: made-up models in every file format, files that lie, and the
//! accelerators' backend run on the processor.

#[cfg(feature = "cuda")]
mod card;
mod crafted;
mod drafts;
pub(crate) mod fabricate;
mod families;
mod fixtures;
mod hostile;
mod hybrid;
mod loading;
