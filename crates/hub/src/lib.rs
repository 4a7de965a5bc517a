//! Models on the Hugging Face Hub, and in the cache that all of its clients share.
//!
//! [`Hub::pull`] fetches the files of a model, [`Cache::find`] finds them again without a network. The cache has the Hub's own
//! layout (`models--OWNER--NAME/{blobs,refs,snapshots}`, see the documentation of Python's `huggingface_hub`), so what one
//! client has fetched the others need not fetch.

mod advice;
mod cache;
mod error;
mod fetch;
mod id;
mod machine;
mod presets;
mod pull;
mod select;

pub use advice::{Advice, Other, recommend};
pub use cache::{Cache, Place};
pub use error::Error;
pub use id::{IdError, ModelId};
pub use machine::{Asks, Gpu, Machine};
pub use presets::{PRESETS, Preset, preset};
pub use pull::{Event, Hub, Pulled};
pub use select::{SelectError, Selection, select};
