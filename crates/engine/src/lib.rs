//! Tokens in, tokens out: a language model on this machine's processor or accelerator.
//!
//! [`Model`] is weights and a tokenizer; [`Generator`] adds the key/value caches and writes text. The engine knows
//! nothing of shells, prompts or sockets.
//!
//! One decoder serves every model family: a family is a row in a table. The decoder is written against a small
//! trait of operations, with one implementation on plain slices for the processor and one on the tensor library for
//! CUDA and Metal.

mod backend;
mod bench;
mod blend;
mod config;
mod decoder;
mod device;
mod error;
mod family;
mod generate;
mod kernels;
mod model;
mod passes;
mod progress;
mod quantise;
mod settle;
mod team;
#[cfg(test)]
mod tests;
mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
mod weights;

pub use backend::Recordings;
pub use bench::{Figure, bench};
pub use device::DeviceChoice;
pub use error::{EngineError, LoadError};
pub use generate::{
    Finish, GenerateRequest, GeneratedToken, Generation, Generator, Odds, Output, Reached, Sampler, Sampling,
    Step, Text, largest, log_sum_exp,
};
pub use model::{LoadOptions, Model, ModelInfo, Source};
pub use passes::pass_times;
pub use progress::Progress;
pub use quantise::{Kept, KeptFile, Quantisation, Shelf};
pub use tokenizer::FillIn;
