//! Names that a noun tells: a container is called what stands after `container`, in a description and in another one.

use super::{bare_words, is_argument, unquoted};
use crate::examples::Example;
use crate::names::is_plain;

/// What a name is often told from other words by: a container is called what stands after `container`.
const NOUNS: [&str; 32] = [
    "branch",
    "bucket",
    "cluster",
    "container",
    "database",
    "deployment",
    "directory",
    "environment",
    "folder",
    "group",
    "host",
    "image",
    "job",
    "module",
    "namespace",
    "network",
    "node",
    "package",
    "pod",
    "process",
    "program",
    "project",
    "release",
    "remote",
    "repository",
    "server",
    "service",
    "session",
    "table",
    "tag",
    "user",
    "volume",
];
/// What stands there where it is not.
const NO_NAMES: [&str; 28] = [
    "a", "all", "an", "and", "are", "as", "at", "by", "called", "for", "from", "has", "here", "if", "in",
    "into", "is", "named", "of", "on", "or", "that", "the", "to", "which", "with", "without", "whose",
];

/// The arguments of an example that its description names after a noun, and what the description names after the same one.
pub(super) fn called<'a>(example: Example<'a>, description: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (noun, old) in after_nouns(example.description).filter(|(_, old)| is_argument(old, example.command)) {
        let is_taken = |new: &str| pairs.iter().any(|(_, other)| *other == new);
        let mut names = after_nouns(description).filter(|(other, new)| *other == noun && !is_taken(new));
        if let Some((_, new)) = names.next()
            && pairs.iter().all(|(other, _)| *other != old)
        {
            pairs.push((old, new));
        }
    }
    pairs
}

/// The words after nouns, with these.
pub(super) fn after_nouns(description: &str) -> impl Iterator<Item = (&str, &str)> {
    bare_words(description)
        .zip(bare_words(description).skip(1))
        .filter(|(noun, name)| NOUNS.contains(noun) && !NO_NAMES.contains(name) && !name.starts_with('-'))
        .filter(|(_, name)| is_plain(name.trim_matches('/').replace('/', "").as_str()))
}

/// Files of a command that are called like something that gets another name, as `photos.zip` of the folder `photos` or `clip.gif` of
/// `clip.mov`, and what they are called then.
pub(super) fn files_called<'a>(command: &'a str, pairs: &[(&str, &str)]) -> Vec<(&'a str, String)> {
    let file = |word: &'a str| {
        if pairs.iter().any(|(old, _)| *old == word) {
            return None;
        }
        pairs.iter().find_map(|(old, new)| {
            let rest = word.strip_prefix(stem(old)).filter(|_| stem(old).len() > 1)?;
            let is_of_it = rest.len() > 1 && rest.starts_with(['.', '-', '_']);
            is_of_it.then(|| (word, format!("{}{rest}", stem(new))))
        })
    };
    let mut files: Vec<(&str, String)> =
        command.split([' ', '/', '=']).map(unquoted).filter_map(file).collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// A file's name without its directory and endings.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// Whether a word of a command stands for the name of such a thing: `<service>`, `[SERVICE]`, `service_name`, `my-service`.
pub(super) fn stands_for(word: &str, noun: &str) -> bool {
    let bare = word.trim_matches(['<', '>', '{', '}', '[', ']']);
    let is_marked = bare.len() < word.len() || bare.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let bare = bare.to_lowercase();
    let of_noun = bare.strip_suffix("_name").or_else(|| bare.strip_suffix("-name"));
    of_noun == Some(noun)
        || bare.strip_prefix("my-").or_else(|| bare.strip_prefix("my_")) == Some(noun)
        || (is_marked && bare == noun)
}
