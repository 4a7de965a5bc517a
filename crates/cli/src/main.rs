//! `nemoterm`, the thin client: it parses, runs one command and prints one error.
//!
//! What needs the model runs in the daemon, or in the daemon's program in place of this one; see
//! [`daemon_process`].

mod attach;
mod complete;
mod context;
mod daemon;
mod daemon_process;
mod describe;
mod doctor;
mod failure;
mod hotkey;
mod init;
mod service;
mod stats;
mod switch;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Command completion by a language model on this machine.
#[derive(Debug, Parser)]
#[command(name = "nemoterm", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Complete a line, or turn a `# description` into a command
    Complete(complete::Args),
    /// Turn a description into a command
    Ask(complete::AskArgs),
    /// Print what your shell evaluates to get suggestions
    Init(init::Args),
    /// Suggest once, on the terminal; the shell's key handler runs it
    #[command(hide = true)]
    Hotkey(hotkey::Args),
    /// Serve one interactive shell, over pipes; the shell's integration starts it
    #[command(hide = true)]
    Attach(attach::Args),
    /// Start, stop and look after the daemon
    #[command(subcommand)]
    Daemon(daemon::Command),
    /// Suggest again in every shell
    On,
    /// Suggest nothing in any shell until `nemoterm on`
    Off,
    /// Check the installation and say what to mend
    Doctor(doctor::Args),
    /// Tell what suggestions were good for, as counted on this machine
    Stats(stats::Args),
    /// List, choose and describe models
    #[command(disable_help_flag = true)]
    Model(HandedOver),
    /// Measure how fast a model runs here
    #[command(disable_help_flag = true)]
    Bench(HandedOver),
    /// Score a model on a file of cases
    #[command(disable_help_flag = true)]
    Eval(HandedOver),
    /// Show and change what is set
    #[command(disable_help_flag = true)]
    Config(HandedOver),
    /// Print what a shell reads to complete the commands and options of nemoterm
    Completions {
        /// The shell
        #[arg(value_parser = ["zsh", "bash", "fish"])]
        shell: String,
    },
    /// Print the manual page, or write one for every command into a directory
    Man {
        /// The directory
        dir: Option<PathBuf>,
    },
}

/// Arguments the daemon's program understands.
#[derive(Debug, clap::Args)]
struct HandedOver {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl HandedOver {
    fn run(self, command: &str) -> anyhow::Result<()> {
        let args: Vec<_> = std::iter::once(command.into()).chain(self.args).collect();
        daemon_process::hand_over(&args)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Complete(args) => complete::run(args),
        Command::Ask(args) => complete::ask(args),
        Command::Init(args) => init::run(args),
        Command::Hotkey(args) => hotkey::run(args),
        Command::Attach(args) => attach::run(args),
        Command::Daemon(command) => daemon::run(&command),
        Command::On => switch::on(),
        Command::Off => switch::off(),
        Command::Doctor(args) => doctor::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Model(args) => args.run("model"),
        Command::Bench(args) => args.run("bench"),
        Command::Eval(args) => args.run("eval"),
        Command::Config(args) => args.run("config"),
        Command::Completions { shell } => describe::run("completions", &[shell.into()]),
        Command::Man { dir } => describe::run("man", dir.map(OsString::from).as_slice()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}
