//! `nemoterm completions` and `nemoterm man`: made by the daemon's program, which holds what that takes and knows the rest of
//! the commands. It is told ours on standard input.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

use clap::{Arg, ArgAction, CommandFactory as _, ValueHint};
use nemoterm_protocol::outline::{ArgOutline, CommandOutline};

use crate::{daemon_process::Program, failure::Failure};

/// Runs a command of the daemon's program that wants to know our commands.
///
/// # Errors
/// Where it can't be run, or fails: then it has said why, and nothing is left to say.
pub fn run(command: &str, args: &[OsString]) -> anyhow::Result<()> {
    let program = Program::find()?;
    let unusable = |error| Failure::plain(format!("{} can't be run: {error}", program.path.display()));
    let mut child = Command::new(&program.path)
        .arg(command)
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(unusable)?;
    if let Some(input) = child.stdin.take() {
        // Where it does not read, it has ended, and its status tells.
        let _ = serde_json::to_writer(input, &outline(&crate::Cli::command()));
    }
    let status = child.wait()?;
    std::process::exit(status.code().unwrap_or(1));
}

fn outline(command: &clap::Command) -> CommandOutline {
    CommandOutline {
        name: command.get_name().to_owned(),
        about: command.get_about().map(ToString::to_string).unwrap_or_default(),
        args: command.get_arguments().filter(|arg| !arg.is_hide_set()).map(argument).collect(),
        commands: command.get_subcommands().filter(|below| !below.is_hide_set()).map(outline).collect(),
    }
}

fn argument(arg: &Arg) -> ArgOutline {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let name = || match arg.get_value_names() {
        Some([name, ..]) => name.to_string(),
        _ => arg.get_id().as_str().to_uppercase(),
    };
    ArgOutline {
        id: arg.get_id().to_string(),
        short: arg.get_short(),
        long: arg.get_long().map(str::to_owned),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        value: takes_value.then(name),
        values: arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect(),
        is_path: matches!(
            arg.get_value_hint(),
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
        ),
        required: arg.is_required_set(),
    }
}
