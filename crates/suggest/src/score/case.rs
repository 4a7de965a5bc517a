//! Cases and predictions, as they stand in JSON Lines files.

use serde::{Deserialize, Serialize};

use crate::context::Shell;

/// A line that is cut somewhere, and how it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Case {
    /// A name that no other case has.
    pub id: String,
    /// The collection it was taken from.
    pub source: String,
    /// The shell it is written for.
    #[serde(default)]
    pub shell: Shell,
    /// Where it is cut: `nl` for a description, `sess_...` inside a session, or a place in a line.
    pub cut: String,
    /// What is typed.
    pub prefix: String,
    /// What follows; for a description the whole command.
    pub expected: String,
    /// Other right answers.
    #[serde(default)]
    pub alts: Vec<String>,
    /// The commands before it and where they were run.
    #[serde(default)]
    pub context: Option<CaseContext>,
    /// How common the command is.
    #[serde(default)]
    pub tier: Option<String>,
    /// Whether the line is so general that it may stand in many texts.
    #[serde(default)]
    pub generic: Option<bool>,
    /// What the session's history holds of the answer: the line, an argument or none.
    #[serde(default)]
    pub recover: Option<String>,
}

/// What came before a case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct CaseContext {
    /// The commands before, oldest first.
    pub history: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
}

/// An answer to a case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// The case it answers.
    pub id: String,
    /// The text after the prefix, or the whole command for a description; empty if there is no suggestion.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub completion: String,
    /// How long the answer took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// The estimated probability that its first word is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Tokens that the model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Passes over the model's weights that these took, after the prompt was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<usize>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Case {
    /// Whether the case asks for the command that a description means.
    pub fn is_description(&self) -> bool {
        self.cut == "nl"
    }

    /// `nl` for descriptions, `session` for lines with commands before them, else `line`.
    pub fn kind(&self) -> &'static str {
        match self.cut.as_str() {
            "nl" => "nl",
            cut if cut.starts_with("sess_") => "session",
            _ => "line",
        }
    }
}
