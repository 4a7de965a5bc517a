//! `nemoterm init SHELL`: prints what a shell evaluates to get suggestions.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
};

use anyhow::Context as _;

use crate::failure::Failure;

const ZSH: &str = include_str!("../../../shell-integrations/nemoterm.zsh");
const BASH: &str = concat!(
    include_str!("../../../shell-integrations/nemoterm.bash"),
    include_str!("../../../shell-integrations/nemoterm.blesh.bash"),
);
const FISH: &str = include_str!("../../../shell-integrations/nemoterm.fish");

/// What stands in the integrations for the path of this program, quoted.
const PROGRAM: &str = "@NEMOTERM@";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// zsh, bash or fish
    shell: OsString,
}

/// Prints the integration of a shell.
///
/// # Errors
/// Where there is none for that shell.
pub fn run(args: Args) -> anyhow::Result<()> {
    let shell = args.shell.to_string_lossy();
    let integration = match &*shell {
        "zsh" => ZSH,
        "bash" => BASH,
        "fish" => FISH,
        _ => {
            return Err(Failure::new(
                format!("there is no integration for {shell}"),
                "nemoterm init zsh, nemoterm init bash or nemoterm init fish",
            )
            .into());
        }
    };
    let program = env::current_exe().context("finding the path of this program")?;
    let program = program.to_str().ok_or_else(|| {
        Failure::new(
            format!("the path {} is not valid UTF-8", program.display()),
            "install nemoterm under another path",
        )
    })?;
    let quoted = if shell == "fish" { quote_for_fish(program) } else { quote_for_posix(program) };
    io::stdout().lock().write_all(integration.replace(PROGRAM, &quoted).as_bytes())?;
    Ok(())
}

/// In single quotes, in which nothing but the quote itself is special.
fn quote_for_posix(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// In fish's single quotes, in which a backslash escapes the quote and itself.
fn quote_for_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted() {
        assert_eq!(quote_for_posix("/a b/it's $x"), r"'/a b/it'\''s $x'");
        assert_eq!(quote_for_fish(r"/a b/it's \$x"), r"'/a b/it\'s \\$x'");
    }

    #[test]
    fn every_integration_calls_this_program() {
        for integration in [ZSH, BASH, FISH] {
            assert!(integration.contains(PROGRAM));
        }
    }
}
