//! What to suggest, as pure text: no files, no sockets, no clock.
//!
//! The daemon and the thin client share this crate. The client answers a key stroke at once with
//! [`rank::local`], from the [`history`] and recent commands, and an empty prompt with what comes [`next`] or puts
//! the last line right ([`correct`]); it [`redact`]s what it is about to send, and looks
//! at what comes back once more with [`clean::is_displayable`]. The daemon builds the model's [`prompt`], with [`examples`] before a description,
//! [`clean`]s what the model wrote, holds back what [`safety`] flags and what is [`foreign`] to the user, doubts what no program takes ([`specs`]), and [`rank`]s. [`score`] judges
//! completions, for `nemoterm eval`, and [`replay`] sets the scene for them.
//!
//! Text goes in and text comes out, and no input makes a function here panic.

pub mod analogy;
pub mod buffer;
pub mod clean;
pub mod consensus;
pub mod context;
mod copy;
pub mod correct;
pub mod examples;
pub mod foreign;
pub mod history;
pub mod lines;
mod names;
pub mod next;
pub mod placeholders;
pub mod prompt;
pub mod rank;
pub mod redact;
pub mod replay;
pub mod safety;
pub mod score;
pub mod specs;
pub mod words;

pub use buffer::{Buffer, Kind, Quote};
pub use context::{Context, HistoryLine, Shell};
pub use prompt::{Prompt, PromptFormat};
pub use rank::{Candidate, Source};
