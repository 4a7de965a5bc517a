//! What completions are judged with, and what is nearly that.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use crate::cases;
use crate::corpora::Excluded;

/// Lines that must not be learnt.
#[derive(Debug, Default)]
pub struct Judged {
    excluded: Excluded,
    /// The tokens of each case's command, by its program.
    cases: HashMap<String, Vec<HashSet<String>>>,
}

/// The share of the tokens of two commands that both have, from which on they are nearly the same.
const NEAR: f64 = 0.8;
/// Commands with fewer tokens are like many others.
const FEWEST: usize = 4;

impl Judged {
    /// Hashes of lines, and the cases of a file where there is one.
    pub fn read(excluded: Excluded, path: Option<&Path>) -> Result<Self> {
        let cases = path.map_or_else(|| Ok(Vec::new()), cases::read)?;
        Ok(Self::new(excluded, cases.iter().map(cases::Case::command)))
    }

    /// The same, with the commands of cases.
    pub fn new(excluded: Excluded, commands: impl IntoIterator<Item = String>) -> Self {
        let mut judged = Self { excluded, cases: HashMap::new() };
        for command in commands {
            let tokens = tokens(&command);
            if tokens.len() >= FEWEST {
                judged.cases.entry(program(&command).to_owned()).or_default().push(tokens);
            }
        }
        judged
    }

    /// Whether a command is judged with, or one that has nearly all of its tokens.
    pub fn has(&self, command: &str) -> bool {
        self.excluded.command(command)
            || self.cases.get(program(command)).is_some_and(|cases| {
                let tokens = tokens(command);
                cases.iter().any(|case| {
                    let both = tokens.intersection(case).count() as f64;
                    both >= NEAR * (tokens.len() + case.len()) as f64 - NEAR * both
                })
            })
    }

    /// Whether a description is judged with.
    pub fn has_description(&self, description: &str) -> bool {
        self.excluded.description(description)
    }
}

fn program(command: &str) -> &str {
    command.split_whitespace().next().unwrap_or_default()
}

/// Names, numbers and options, and every other sign by itself.
fn tokens(command: &str) -> HashSet<String> {
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\w.-]+|[^\s\w]").ok());
    let found = TOKEN.iter().flat_map(|token| token.find_iter(command));
    found.map(|found| found.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_judged_with_is_found() {
        let judged = Judged::new(Excluded::default(), ["tar -x -z -f a.tgz".to_owned(), "ls -l".to_owned()]);
        assert!(judged.has("tar -x -z -f a.tgz"));
        assert!(judged.has("tar  -z -x -f 'a.tgz'"), "five of seven and two quotes: {:?}", tokens("'a'"));
        assert!(!judged.has("tar -x -f b.tgz"));
        assert!(!judged.has("gtar -x -z -f a.tgz"), "another program");
        assert!(!judged.has("ls -l"), "too short to be told from others");
    }
}
