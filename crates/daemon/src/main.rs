//! `nemotermd`, the daemon, and the commands that need the model in their own process.
//!
//! `serve` is the daemon. `once` answers one request on standard input for `nemoterm complete
//! --no-daemon`. `model`, `bench`, `eval` and `config` are what `nemoterm` hands over to this program,
//! `completions` and `man` as well.

mod backend;
mod cmd;
mod complete;
mod confidence;
mod config;
mod connection;
mod failure;
mod http;
mod keeper;
mod log;
mod models;
mod power;
mod scheduler;
mod serve;
mod socket;
mod stats;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// The part of nemoterm that holds the model.
#[derive(Debug, Parser)]
#[command(
    name = "nemoterm",
    bin_name = "nemoterm",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    #[command(hide = true)]
    Serve(serve::Args),
    /// Answer one request on standard input
    #[command(hide = true)]
    Once,
    /// List, choose and describe models
    #[command(subcommand)]
    Model(cmd::model::Command),
    /// Measure how fast a model runs here
    Bench(cmd::bench::Args),
    /// Score a model on a file of cases
    Eval(cmd::eval::Args),
    /// Show and change what is set
    #[command(subcommand)]
    Config(cmd::config::Command),
    /// Print what completes our own commands in a shell; the client's commands come on standard input
    #[command(hide = true)]
    Completions(cmd::describe::CompletionsArgs),
    /// Write manual pages; the client's commands come on standard input
    #[command(hide = true)]
    Man(cmd::describe::ManArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Once => cmd::once::run(),
        Command::Model(command) => cmd::model::run(&command),
        Command::Bench(args) => cmd::bench::run(&args),
        Command::Eval(args) => cmd::eval::run(&args),
        Command::Config(command) => cmd::config::run(&command),
        Command::Completions(args) => cmd::describe::completions(args.shell, Cli::command()),
        Command::Man(args) => cmd::describe::man(args.dir.as_deref(), Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}
