//! Which options and subcommands exist.
//!
//! A model that has seen `--full` often writes it where only `--full-path` exists. What programs take is known of a few
//! thousand of them, so that such a word is not believed, and the right one is offered.
//!
//! The table is a finite state transducer (crate `fst`) from `PATH\tNAME`, such as `git commit\t--amend` and `git\tcommit`, to
//! how often the name was seen there in other people's lines. It is made with the model, by `nemoterm-train`, and
//! read where it lies.

use std::borrow::Cow;

use fst::{IntoStreamer as _, Map, Streamer as _};

use crate::buffer::Buffer;
use crate::rank::{Candidate, Source};
use crate::words::{Token, is_assignment, is_wrapper, tokens};

/// Of a program with fewer long options than this the list is taken to be incomplete.
const MIN_OPTIONS: usize = 3;
/// The same for subcommands.
const MIN_SUBCOMMANDS: usize = 4;
/// How much of an option has to be typed before others are offered than the model's: less fits too many.
const MIN_TYPED: usize = 3;
/// The first name after all options, in the order of the table.
const AFTER_OPTIONS: &str = ".";
/// More names than this are not looked at: so many fit that none is likely.
const MOST: usize = 64;

/// What is left of the estimate of a model's word that does not exist. It may be newer than the table.
const DOUBTED: f32 = 0.2;
/// How likely it is that a name is right which is the only one that goes on so.
const ONLY_ONE: f32 = 0.7;

/// The table.
#[derive(Debug)]
pub struct Specs {
    map: Map<Cow<'static, [u8]>>,
}

/// Where in the table the cursor is.
#[derive(Debug)]
pub struct Place<'a> {
    specs: &'a Specs,
    /// The program and its subcommands, with a blank between.
    path: String,
    /// Whether the word at the cursor is the first after these.
    is_next: bool,
    /// What is typed of that word.
    typed: &'a str,
}

/// A name that goes on with what is typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// What is missing of it.
    pub rest: String,
    /// Which part it has of all that was seen of those that go on so; between 0 and 1.
    pub share: f32,
}

/// The key of a name in the table.
pub fn key(path: &str, name: &str) -> String {
    format!("{path}\t{name}")
}

/// Doubts what a model wrote and no program takes. Where nothing is left that exists, what does is added.
pub fn weigh(specs: Option<&Specs>, buffer: &Buffer, candidates: &mut Vec<Candidate>) {
    let Some(place) = specs.and_then(|specs| specs.place(buffer.before())) else { return };
    // What is typed may be whole already.
    let mut is_settled = place.is_whole();
    for candidate in candidates.iter_mut() {
        match place.exists(&candidate.suffix) {
            Some(true) => is_settled = true,
            Some(false) if candidate.source == Source::Model => candidate.score *= DOUBTED,
            _ => {}
        }
    }
    if !is_settled {
        let names = place.names().into_iter();
        candidates.extend(
            names.map(|name| Candidate::new(buffer, name.rest, Source::Context, name.share * ONLY_ONE)),
        );
    }
}

impl Specs {
    /// Reads a table.
    ///
    /// # Errors
    /// Where the bytes are no transducer.
    pub fn new(table: impl Into<Cow<'static, [u8]>>) -> Result<Self, fst::Error> {
        Ok(Self { map: Map::new(table.into())? })
    }

    /// The place at the end of what stands before the cursor; nothing where no program is known there, or where the word is
    /// none of a program's own: after `>`, after `--`, within quotes.
    pub fn place<'a>(&'a self, before: &'a str) -> Option<Place<'a>> {
        let all = tokens(before);
        let last_word = all.last().filter(|last| !last.operator && last.end() == before.len());
        let (whole, typed) = match last_word {
            Some(word) => (&all[..all.len() - 1], word.raw),
            None => (&all[..], ""),
        };
        let words = command(whole);
        if typed.contains(['\'', '"', '\\', '$', '`']) || words.iter().any(|word| word.raw == "--") {
            return None;
        }
        let (first, rest) = words.split_first()?;
        if first.operator || words.last().is_some_and(|last| last.operator) {
            return None;
        }
        let mut path = first.raw.to_owned();
        let mut is_next = true;
        for word in rest.iter().filter(|word| !word.operator && !word.raw.starts_with('-')) {
            // Another word may be the value of an option, and the subcommand is still to come.
            if self.map.contains_key(key(&path, word.raw)) {
                path = format!("{path} {}", word.raw);
                is_next = true;
            } else {
                is_next = false;
            }
        }
        // What stands behind an option may be its value.
        let is_value = words.last().is_some_and(|last| last.raw.starts_with('-') && !last.raw.contains('='));
        Some(Place { specs: self, path, is_next: is_next && !is_value, typed })
    }

    /// The names at a path that begin like this, at most [`MOST`], with how often they were seen.
    fn names(&self, path: &str, beginning: &str) -> Vec<(String, u64)> {
        self.from(path, beginning, beginning)
    }

    /// The names at a path that don't come before `first`, in their order, up to the first that begins otherwise, at most
    /// [`MOST`].
    fn from(&self, path: &str, first: &str, beginning: &str) -> Vec<(String, u64)> {
        let at_path = key(path, "");
        let mut names = Vec::new();
        let mut stream = self.map.range().ge(key(path, first)).into_stream();
        while let Some((found, seen)) = stream.next() {
            let name = found.strip_prefix(at_path.as_bytes()).and_then(|name| std::str::from_utf8(name).ok());
            let Some(name) = name.filter(|name| names.len() < MOST && name.starts_with(beginning)) else {
                break;
            };
            names.push((name.to_owned(), seen));
        }
        names
    }

    fn has_subcommands(&self, path: &str) -> bool {
        self.from(path, AFTER_OPTIONS, "").len() >= MIN_SUBCOMMANDS
    }

    /// The keys of what a whole line names, options and subcommands, and whether each is in the table.
    pub fn named(&self, line: &str) -> Vec<(String, bool)> {
        let mut keys = Vec::new();
        for word in tokens(line).iter().filter(|word| !word.operator) {
            let Some(place) = self.place(&line[..word.start]) else { continue };
            let name = word.raw.split_once('=').map_or(word.raw, |(name, _)| name);
            let is_option = name.len() >= MIN_TYPED && name.starts_with('-');
            let is_subcommand = place.is_next && is_subcommand(name) && self.has_subcommands(&place.path);
            if !is_plain(name) || !(is_option || is_subcommand) {
                continue;
            }
            let at = place.paths().find(|path| self.map.contains_key(key(path, name)));
            keys.push((key(at.unwrap_or(&place.path), name), at.is_some()));
        }
        keys
    }
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_subcommand(word: &str) -> bool {
    is_plain(word) && word.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The words of the command that the last of these belong to, without what stands before its name.
fn command<'a, 'w>(words: &'a [Token<'w>]) -> &'a [Token<'w>] {
    let start = words.iter().rposition(Token::starts_command).map_or(0, |at| at + 1);
    let words = &words[start..];
    let skipped = words.iter().take_while(|word| is_wrapper(word.raw) || is_assignment(word.raw)).count();
    &words[skipped..]
}

impl Place<'_> {
    /// The paths whose options are taken here: an option of `docker` may stand after `docker run`.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let ends = self.path.match_indices(' ').map(|(at, _)| at);
        std::iter::once(self.path.as_str()).chain(ends.map(|at| &self.path[..at]))
    }

    /// Whether what is typed of the word exists as it is.
    fn is_whole(&self) -> bool {
        self.paths().any(|path| self.specs.map.contains_key(key(path, self.typed)))
    }

    /// Whether a word that `rest` makes of what is typed exists: nothing where that can't be told.
    pub fn exists(&self, rest: &str) -> Option<bool> {
        let rest =
            rest.split_ascii_whitespace().next().filter(|_| !rest.starts_with(' ') || self.typed.is_empty());
        let word = format!("{}{}", self.typed, rest?);
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        let is_known = |path: &str| self.specs.map.contains_key(key(path, name));
        if let Some(long) = name.strip_prefix("--") {
            let is_complete = self.specs.names(&self.path, "--").len() >= MIN_OPTIONS;
            return (!long.is_empty() && is_plain(long) && is_complete).then(|| self.paths().any(is_known));
        }
        let may_be_one = self.is_next && is_subcommand(&word) && self.specs.has_subcommands(&self.path);
        may_be_one.then(|| is_known(&self.path))
    }

    /// The names that go on with what is typed, the most used first; none where too little is typed to tell.
    pub fn names(&self) -> Vec<Name> {
        let typed = self.typed;
        let mut names = if typed.starts_with('-') {
            if typed.len() < MIN_TYPED || typed.contains('=') {
                return Vec::new();
            }
            let mut names: Vec<(String, u64)> =
                self.paths().flat_map(|path| self.specs.names(path, typed)).collect();
            names.sort();
            names.dedup_by(|a, b| a.0 == b.0);
            names
        } else if self.is_next && !typed.is_empty() && self.specs.has_subcommands(&self.path) {
            self.specs.names(&self.path, typed)
        } else {
            return Vec::new();
        };
        names.retain(|(name, _)| name.len() > typed.len());
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let all: u64 = names.iter().map(|(_, seen)| seen + 1).sum();
        let share = |seen: u64| (seen + 1) as f32 / all as f32;
        names
            .into_iter()
            .map(|(name, seen)| Name { rest: name[typed.len()..].to_owned(), share: share(seen) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program `kit` with four subcommands, of which `pull` has options, and `one` with a single option.
    fn specs() -> Specs {
        let mut keys = vec![key("kit", "--config"), key("one", "--only")];
        for name in ["pull", "push", "list", "pull-all"] {
            keys.push(key("kit", name));
        }
        for name in ["--full-path", "--force", "--format", "-name"] {
            keys.push(key("kit pull", name));
        }
        keys.sort();
        // Seen more often the later they come.
        let entries = keys.iter().enumerate().map(|(seen, key)| (key.as_bytes(), seen as u64));
        Specs::new(Map::from_iter(entries).unwrap().into_fst().into_inner()).unwrap()
    }

    #[test]
    fn what_exists_is_told_from_what_does_not() {
        let specs = specs();
        let exists = |before: &str, rest: &str| specs.place(before).and_then(|place| place.exists(rest));
        for (before, rest, expected) in [
            ("kit pull --fu", "ll-path", Some(true)),
            ("kit pull --fu", "ll", Some(false)),
            ("kit pull x ", "--force y", Some(true)),
            ("kit pull --form", "at=json", Some(true)),
            ("sudo A=b kit pull --for", "ced", Some(false)),
            ("ls | kit pull --conf", "ig", Some(true)),
            ("kit --config x pull --fo", "rce", Some(true)),
            ("kit pu", "sh origin", Some(true)),
            ("kit pu", "shed", Some(false)),
            ("kit ", "pull", Some(true)),
            // Nothing can be told: short options, arguments, programs that are not known or not well, other places.
            ("kit pull -", "x", None),
            ("kit pull ", "words", None),
            ("kit pull --force", " x", None),
            ("kit --config pu", "shed", None),
            ("one --o", "ther", None),
            ("other --o", "ther", None),
            ("kit pull -- --o", "ther", None),
            ("kit pull > --o", "ther", None),
            ("kit pull \"--o", "ther", None),
            ("ki", "t", None),
            ("", "kit", None),
        ] {
            assert_eq!(exists(before, rest), expected, "{before:?} {rest:?}");
        }
    }

    #[test]
    fn names_go_on_with_what_is_typed() {
        let specs = specs();
        let names = |before: &str| -> Vec<String> {
            let names = specs.place(before).map(|place| place.names()).unwrap_or_default();
            names.into_iter().map(|name| name.rest).collect()
        };
        assert_eq!(names("kit pull --fo"), ["rmat", "rce"]);
        assert_eq!(names("kit pull -na"), ["me"]);
        assert_eq!(names("kit pul"), ["l-all", "l"]);
        assert!(
            names("kit pull --").is_empty() && names("kit ").is_empty() && names("kit pull x").is_empty()
        );
        let shares: f32 = specs
            .place("kit pull --f")
            .map_or(0.0, |place| place.names().iter().map(|name| name.share).sum());
        assert!((shares - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_does_not_exist_gives_way() {
        let specs = specs();
        let lines = |typed: &str, suffixes: &[(&str, f32)]| -> Vec<String> {
            let buffer = Buffer::at_end(typed);
            let model =
                |&(suffix, chance): &(&str, f32)| Candidate::model(&buffer, suffix, Some(f32::ln(chance)));
            let mut candidates = suffixes.iter().map(model).collect();
            weigh(Some(&specs), &buffer, &mut candidates);
            crate::rank::rank(candidates, 9).into_iter().map(|candidate| candidate.line).collect()
        };
        assert_eq!(lines("kit pull --fu", &[("ll", 0.9)]), ["kit pull --full-path", "kit pull --full"]);
        let both = [("ll", 0.5), ("ll-path /srv", 0.2)];
        assert_eq!(lines("kit pull --fu", &both), ["kit pull --full-path /srv", "kit pull --full"]);
        assert_eq!(lines("kit pull", &[(" x", 0.1)]), ["kit pull x"], "it need not be another one");
        assert_eq!(lines("kit pull --zap", &[("ped", 0.5)]), ["kit pull --zapped"]);
        assert_eq!(lines("other --fu", &[("ll", 0.5)]), ["other --full"]);
    }

    #[test]
    fn a_line_names_what_it_uses() {
        let named = |line| specs().named(line);
        let known = |path: &str, name: &str| (key(path, name), true);
        assert_eq!(
            named("kit pull --force --form=x a | kit --config y push -f"),
            [
                known("kit", "pull"),
                known("kit pull", "--force"),
                (key("kit pull", "--form"), false),
                known("kit", "--config"),
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_table_are_refused() {
        assert!(Specs::new(b"kit".as_slice()).is_err());
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(before in "(kit |pull |-|--f|[a-zä'\"|>;$ =]){0,8}", rest in "[a-z -=ä]{0,8}") {
            let specs = specs();
            if let Some(place) = specs.place(&before) {
                place.exists(&rest);
                prop_assert!(place.names().iter().all(|name| !name.rest.is_empty()));
            }
            specs.named(&before);
        }
    }
}
