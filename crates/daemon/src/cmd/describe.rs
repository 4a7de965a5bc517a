//! `nemoterm completions` and `nemoterm man`: what can be typed after `nemoterm`, for shells and for people.
//!
//! The commands are those of both programs. The client tells us its own on standard input; those that it hands over to us
//! we know better.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use nemoterm_protocol::outline::{ArgOutline, CommandOutline};

use crate::failure::Failure;

/// Prints what a shell reads to complete our commands.
///
/// # Errors
/// Where the client's commands do not arrive.
pub fn completions(shell: Shell, ours: Command) -> anyhow::Result<()> {
    let mut command = both(ours)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "nemoterm", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// Writes a page for every command into a directory; prints that of the program where there is none.
///
/// # Errors
/// Where the client's commands do not arrive, or the pages can't be written.
pub fn man(dir: Option<&Path>, ours: Command) -> anyhow::Result<()> {
    let command = both(ours)?;
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir)).map_err(|error| {
        Failure::new(format!("{} can't be written: {error}", dir.display()), "name a directory of yours")
    })?;
    eprintln!("the pages are in {}", dir.display());
    Ok(())
}

/// The commands as a person sees them: the client's, and in place of those it hands over, ours.
fn both(ours: Command) -> anyhow::Result<Command> {
    let outline: CommandOutline = serde_json::from_reader(io::stdin().lock())
        .map_err(|_| Failure::new("the client's commands did not arrive", "call nemoterm, not nemotermd"))?;
    Ok(merged(outline, &ours))
}

fn merged(outline: CommandOutline, ours: &Command) -> Command {
    let commands = outline.commands.iter().enumerate().map(|(place, below)| {
        let own = ours.get_subcommands().find(|own| own.get_name() == below.name && !own.is_hide_set());
        own.cloned().unwrap_or_else(|| command(below.clone())).display_order(place)
    });
    let commands: Vec<_> = commands.collect();
    command(CommandOutline { commands: Vec::new(), ..outline })
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommands(commands)
}

// clap wants names that live as long as the program, which ends when it has printed.
fn command(outline: CommandOutline) -> Command {
    Command::new(&*outline.name.leak())
        .about(outline.about)
        .args(outline.args.into_iter().map(argument))
        .subcommands(outline.commands.into_iter().map(command))
}

fn argument(outline: ArgOutline) -> Arg {
    let mut arg = Arg::new(&*outline.id.leak()).help(outline.help).required(outline.required);
    if let Some(short) = outline.short {
        arg = arg.short(short);
    }
    if let Some(long) = outline.long {
        arg = arg.long(&*long.leak());
    }
    let Some(value) = outline.value else { return arg.action(ArgAction::SetTrue) };
    arg = arg.value_name(&*value.leak());
    if outline.is_path {
        arg = arg.value_hint(ValueHint::AnyPath);
    }
    if outline.values.is_empty() {
        return arg;
    }
    let values: Vec<&'static str> = outline.values.into_iter().map(|value| &*value.leak()).collect();
    arg.value_parser(values)
}

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// zsh, bash or fish
    #[arg(value_parser = clap::value_parser!(Shell))]
    pub shell: Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where the pages go
    pub dir: Option<PathBuf>,
}
