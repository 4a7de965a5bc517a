//! The described commands that are shipped with the model, to be shown to it before a description that is like theirs.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use nemoterm_suggest::{analogy, examples::Example};

use crate::corpora::{Corpora, write_compressed};

/// The file's name beside the weights.
const FILE: &str = "examples.tsv.xz";

/// Those of the corpora, `DESCRIPTION\tCOMMAND`, one a line.
pub fn text(corpora: &Corpora) -> String {
    let mut seen = HashSet::new();
    let mut text = String::new();
    for example in &corpora.examples {
        let example = Example {
            description: example.description.trim_end_matches('.'),
            command: example.command.as_str(),
        };
        if example.is_fit() && seen.insert((example.description.to_lowercase(), example.command)) {
            text.extend([example.description, "\t", example.command, "\n"]);
        }
    }
    text
}

/// As they stand in a context before a description.
pub fn about(examples: &[Example<'_>], description: &str) -> Vec<(String, String)> {
    examples.iter().map(|&example| analogy::about(example, description)).collect()
}

/// Writes them beside the weights in `directory`.
pub fn write(directory: &Path, corpora: &Corpora) -> Result<()> {
    let text = text(corpora);
    println!("{} described commands, in {} bytes of text", text.lines().count(), text.len());
    write_compressed(&directory.join(FILE), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_once_and_fits() {
        let example = |command: &str, description: &str| crate::corpora::Example {
            command: command.to_owned(),
            doc: String::new(),
            description: description.to_owned(),
            source: "tldr".to_owned(),
        };
        let corpora = Corpora {
            examples: vec![
                example("ls", "List files."),
                example("ls", "list files"),
                example("pwd", ""),
                example("ls -a", "List files"),
            ],
            ..Corpora::default()
        };
        assert_eq!(text(&corpora), "List files\tls\nList files\tls -a\n");
    }
}
