//! The texts to learn from: commands with descriptions, sessions, and tables of options.

use std::collections::HashSet;
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use lzma_rust2::{XzOptions, XzReader, XzWriter};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// A command of a document.
#[derive(Debug, Clone)]
pub struct Example {
    pub command: String,
    /// Which document of its source it stands in.
    pub doc: String,
    /// What it does; may be empty.
    pub description: String,
    /// The stem of the file it was read from.
    pub source: String,
}

/// An option or a subcommand that exists.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The command and its subcommands.
    pub path: String,
    pub is_option: bool,
    /// The spellings, comma-separated.
    pub names: String,
    /// The arguments, such as `<file>`.
    pub arguments: String,
    pub description: String,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Corpora {
    pub examples: Vec<Example>,
    pub specs: Vec<Spec>,
    pub sessions: Vec<Session>,
}

/// Commands of a document in the order they are run.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    /// The collection of documents it is from.
    pub source: String,
    #[serde(rename = "cmds")]
    pub commands: Vec<String>,
}

/// Commands and descriptions that no text may hold, by hash, because they are what completions are judged with.
#[derive(Debug, Clone, Default)]
pub struct Excluded(HashSet<String>);

impl Excluded {
    /// Reads one hash a line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }

    /// Whether a command is excluded: without quotes, and with single blanks.
    pub fn command(&self, command: &str) -> bool {
        self.has(&blanks_collapsed(&command.replace(['"', '\''], "")))
    }

    /// Whether a description is: in lower case, with one blank for each run of other than letters and digits.
    pub fn description(&self, description: &str) -> bool {
        let plain: String =
            description.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        self.has(&format!("nl:{}", blanks_collapsed(&plain)))
    }

    fn has(&self, text: &str) -> bool {
        let digest = Sha256::digest(text.as_bytes());
        self.0.contains(&hex::encode(&digest[..8]))
    }
}

fn blanks_collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Corpora {
    /// Reads every corpus of a directory.
    pub fn read(directory: &Path, excluded: &Excluded) -> Result<Self> {
        let mut corpora = Self::default();
        let unreadable = || format!("{} can't be read", directory.display());
        let mut paths: Vec<_> = fs::read_dir(directory)
            .with_context(unreadable)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .with_context(unreadable)?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix(".tsv.xz") {
                let text = decompressed(&path)?;
                if stem.starts_with("spec-") {
                    corpora.specs.extend(text.lines().filter_map(spec));
                } else {
                    corpora
                        .examples
                        .extend(text.lines().skip(1).filter_map(|line| example(line, stem, excluded)));
                }
            } else if name.ends_with(".jsonl.xz") {
                for line in decompressed(&path)?.lines() {
                    let mut session: Session =
                        serde_json::from_str(line).with_context(|| format!("{name}: no session"))?;
                    session.commands.retain(|line| !line.contains('\n') && !excluded.command(line));
                    corpora.sessions.push(session);
                }
            }
        }
        anyhow::ensure!(!corpora.examples.is_empty(), "{} holds no corpus", directory.display());
        Ok(corpora)
    }

    /// Every command line, in no order, some more than once.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let of_sessions = self.sessions.iter().flat_map(|session| &session.commands);
        self.examples.iter().map(|example| &example.command).chain(of_sessions).map(String::as_str)
    }
}

/// The text of an xz file.
fn decompressed(path: &Path) -> Result<String> {
    let file = fs::File::open(path).with_context(|| format!("{} can't be opened", path.display()))?;
    let mut text = String::new();
    XzReader::new(BufReader::new(file), true)
        .read_to_string(&mut text)
        .with_context(|| format!("{} can't be decompressed", path.display()))?;
    Ok(text)
}

/// Writes a text as an xz file.
pub fn write_compressed(path: &Path, text: &str) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("{} can't be written", path.display()))?;
    let mut writer = XzWriter::new(file, XzOptions::with_preset(6))?;
    writer.write_all(text.as_bytes())?;
    writer.finish()?;
    Ok(())
}

fn example(line: &str, source: &str, excluded: &Excluded) -> Option<Example> {
    let mut columns = line.split('\t');
    let (command, doc) = (columns.next()?.trim(), columns.next().unwrap_or_default());
    let description = columns.next().unwrap_or_default().trim();
    // A description that is judged with must not be learnt by heart, whatever command stands beside it.
    if command.is_empty() || excluded.command(command) || excluded.description(description) {
        return None;
    }
    Some(Example {
        command: command.to_owned(),
        doc: doc.to_owned(),
        description: description.to_owned(),
        source: source.to_owned(),
    })
}

fn spec(line: &str) -> Option<Spec> {
    let columns: Vec<&str> = line.split('\t').collect();
    let &[path, kind, names, arguments, _, description, ..] = columns.as_slice() else { return None };
    let is_option = kind == "option";
    (is_option || kind == "subcommand").then(|| Spec {
        path: path.to_owned(),
        is_option,
        names: names.to_owned(),
        arguments: arguments.to_owned(),
        description: description.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_with_stays_out() {
        // Hashes of `git commit -m x` and `nl:list all files`.
        let hash = |text: &str| hex::encode(&Sha256::digest(text.as_bytes())[..8]);
        let excluded = Excluded([hash("git commit -m x"), hash("nl:list all files")].into());
        assert!(excluded.command("git  commit -m 'x'"));
        assert!(!excluded.command("git commit -m y"));
        assert!(excluded.description("List all *files*."));
        assert!(example("ls\tdoc\tList all files", "tldr", &excluded).is_none());
        assert_eq!(example("ls -l\tdoc\tList", "tldr", &excluded).unwrap().command, "ls -l");
    }
}
