//! What commands a program has, told by one of our programs to the other: a user sees one program, and they are two.

use serde::{Deserialize, Serialize};

/// A command, or the program itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutline {
    /// Its name.
    pub name: String,
    /// What it does, in a line.
    pub about: String,
    /// Its arguments, without `--help` and `--version`.
    pub args: Vec<ArgOutline>,
    /// The commands below it that people see.
    pub commands: Vec<Self>,
}

/// An argument of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgOutline {
    /// What names it within its command.
    pub id: String,
    /// `-n`.
    pub short: Option<char>,
    /// `--name`; one that has neither is told by its place.
    pub long: Option<String>,
    /// What it is for.
    pub help: String,
    /// What its value is called; nothing where it takes none.
    pub value: Option<String>,
    /// What its value may be; nothing where it may be anything.
    pub values: Vec<String>,
    /// Whether its value is a path.
    pub is_path: bool,
    /// Whether it has to be there.
    pub required: bool,
}
