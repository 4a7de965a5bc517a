//! What the client knows about the place where the line is typed.

use serde::{Deserialize, Serialize};

/// The shell that is being typed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shell {
    /// zsh
    Zsh,
    /// bash
    Bash,
    /// fish
    Fish,
    /// Any other shell, or an unknown one.
    #[default]
    #[serde(other)]
    Other,
}

impl Shell {
    /// The shell a name or a path such as `/usr/bin/zsh` or `-bash` stands for.
    pub fn from_name(name: &str) -> Self {
        match name.rsplit('/').next().unwrap_or(name).trim_start_matches('-') {
            "zsh" => Self::Zsh,
            "bash" => Self::Bash,
            "fish" => Self::Fish,
            _ => Self::Other,
        }
    }
}

/// A command that was run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryLine {
    /// The command line.
    pub line: String,
    /// Its exit code, where it is known.
    pub status: Option<i32>,
}

impl HistoryLine {
    /// A command whose exit code is not known.
    pub fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), status: None }
    }

    /// Whether the shell did not find the command (exit code 127): most often a slip of the fingers, and
    /// nothing to learn from.
    pub fn was_not_found(&self) -> bool {
        self.status == Some(127)
    }
}

/// What the client gathered: stable while a line is typed. Environment values and file contents are never
/// part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The shell.
    pub shell: Shell,
    /// The working directory.
    pub cwd: Option<String>,
    /// The names in the working directory, as far as they were read.
    pub names: Vec<String>,
    /// The git branch that is checked out.
    pub branch: Option<String>,
    /// The last commands of this shell, oldest first.
    pub history: Vec<HistoryLine>,
    /// The commands on PATH, as far as they were read.
    pub commands: Vec<String>,
    /// Descriptions with their commands that are like the one that is typed, the nearest last: [`crate::examples`].
    pub examples: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_name_and_path() {
        assert_eq!(Shell::from_name("/usr/bin/zsh"), Shell::Zsh);
        assert_eq!(Shell::from_name("-bash"), Shell::Bash);
        assert_eq!(Shell::from_name("nu"), Shell::Other);
    }
}
