//! OpenAI's API over HTTP, with the embedded model.

mod chat;
pub mod clients;
mod completions;
mod infill;
mod lm_eval;
mod safety;
pub mod server;
mod sharing;
