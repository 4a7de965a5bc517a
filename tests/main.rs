//! Whole-program tests. One binary, so that everything is linked once.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests share may fail a test as well as the tests themselves"
)]

mod cli;
mod config;
mod daemon;
mod history;
mod install;
mod kept;
mod life;
#[cfg(target_os = "linux")]
mod manager;
mod models;
mod openai;
mod pictures;
mod remote;
mod service;
mod shells;
mod stats;
mod util;
