//! Cases as `nemoterm eval` reads them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What is typed, and what should be suggested.
#[derive(Debug, Deserialize)]
pub struct Case {
    prefix: String,
    expected: String,
    #[serde(default)]
    nl: Option<String>,
    #[serde(default)]
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
struct Context {
    #[serde(default)]
    history: Vec<String>,
}

impl Case {
    /// The lines before.
    pub fn history(&self) -> &[String] {
        &self.context.history
    }

    /// What the command is asked for with, if it is asked for in words.
    pub fn description(&self) -> Option<&str> {
        self.nl.as_ref().map(|_| self.prefix.trim_start_matches(['#', ' ']))
    }

    /// The command as a whole.
    pub fn command(&self) -> String {
        if self.nl.is_some() { self.expected.clone() } else { format!("{}{}", self.prefix, self.expected) }
    }
}

/// Reads one case a line.
pub fn read(path: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let case = |line: &str| serde_json::from_str(line).with_context(|| format!("no case: {line}"));
    text.lines().filter(|line| !line.trim().is_empty()).map(case).collect()
}
