//! Which options and subcommands exist.
//!
//! A model that has seen `--full` often writes it where only `--full-path` exists. What programs take is known of a few
//! thousand of them, so that such a word is not believed, and the right one is offered.
//!
//! The table is a finite state transducer (crate `fst`) from `PATH\tNAME`, such as `git commit\t--amend` and `git\tcommit`, to
//! how often the name was seen there in other people's lines. Programs stand at the empty path; at the path [`AGAIN`] stand
//! the options that are given more than once. It is made with the model, by `nemoterm-train`, and read where it lies.

use std::borrow::Cow;
use std::collections::BTreeSet;

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
/// The same for programs.
const MIN_TYPED_PROGRAM: usize = 2;
/// The first name after all options, in the order of the table.
const AFTER_OPTIONS: &str = ".";
/// More names than this are not looked at: so many fit that none is likely.
const MOST: usize = 64;

/// What is left of the estimate of a model's word that does not exist. It may be newer than the table.
const DOUBTED: f32 = 0.2;
/// The same for a program: nobody knows all of them.
const DOUBTED_PROGRAM: f32 = 0.4;
/// The same for an option that the command has already.
const TWICE: f32 = 0.2;
/// The path of options that are given more than once, whatever the program; no program is called that.
pub const AGAIN: &str = "\t";
/// The path of programs.
pub const PROGRAMS: &str = "";
/// Options that nearly every program takes, whether or not it is in a list.
const UNIVERSAL: [&str; 2] = ["--help", "--version"];
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
    /// The options that the command has already.
    given: Vec<&'a str>,
}

/// A word that stands where an option or a subcommand would, and is none that is known.
#[derive(Debug)]
pub struct Unlisted<'a> {
    place: Place<'a>,
    /// Where it begins in its line, in bytes.
    pub start: usize,
    /// The word, without what an option is set to.
    pub name: &'a str,
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
        if candidate.source == Source::Model {
            candidate.score *= place.odds(&candidate.suffix);
        }
        is_settled |= place.exists(&candidate.suffix) == Some(true);
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
        let Some((first, rest)) = words.split_first() else {
            return Some(Place {
                specs: self,
                path: PROGRAMS.to_owned(),
                is_next: true,
                typed,
                given: Vec::new(),
            });
        };
        if first.operator || words.last().is_some_and(|last| last.operator) {
            return None;
        }
        let mut path = first.raw.to_owned();
        let mut is_next = true;
        let mut may_be_value = false;
        for word in rest.iter().filter(|word| !word.operator) {
            if word.raw.starts_with('-') {
                may_be_value = !word.raw.contains('=');
                continue;
            }
            // The value of an option is no subcommand, and that is still to come.
            if self.map.contains_key(key(&path, word.raw)) {
                path = format!("{path} {}", word.raw);
                is_next = true;
            } else if !may_be_value {
                is_next = false;
            }
            may_be_value = false;
        }
        // What stands behind an option may be its value.
        let is_value = words.last().is_some_and(|last| last.raw.starts_with('-') && !last.raw.contains('='));
        let given = rest.iter().map(|word| option_name(word.raw)).filter(|name| name.starts_with('-'));
        Some(Place { specs: self, path, is_next: is_next && !is_value, typed, given: given.collect() })
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

    /// The words of a line that should be options or subcommands of their programs and are on no list of them. The name of
    /// a program is none: whether that exists, the shell knows.
    pub fn unlisted<'a>(&'a self, line: &'a str) -> Vec<Unlisted<'a>> {
        let words = tokens(line).into_iter().filter(|word| !word.operator);
        words
            .filter_map(|word| {
                let place = self.place(&line[..word.start])?;
                let name = option_name(word.raw);
                let is_unlisted = place.path != PROGRAMS && place.exists(name) == Some(false);
                is_unlisted.then_some(Unlisted { place, start: word.start, name })
            })
            .collect()
    }

    fn has_subcommands(&self, path: &str) -> bool {
        self.from(path, AFTER_OPTIONS, "").len() >= MIN_SUBCOMMANDS
    }

    /// The keys of what a whole line names, options and subcommands, and whether each is in the table.
    pub fn named(&self, line: &str) -> Vec<(String, bool)> {
        let mut keys = Vec::new();
        for word in tokens(line).iter().filter(|word| !word.operator) {
            let Some(place) = self.place(&line[..word.start]) else { continue };
            let name = option_name(word.raw);
            let is_option = name.len() >= MIN_TYPED && name.starts_with('-') && place.path != PROGRAMS;
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

/// The options that one of a line's commands has more than once.
pub fn given_twice(line: &str) -> Vec<&str> {
    let all = tokens(line);
    let mut twice = Vec::new();
    for command in all.split(Token::starts_command) {
        let mut given: Vec<&str> =
            command.iter().map(|word| option_name(word.raw)).filter(|name| name.starts_with('-')).collect();
        given.sort_unstable();
        twice.extend(given.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]));
    }
    twice.dedup();
    twice
}

/// An option without what it is set to.
fn option_name(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
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

    /// The word that `rest` makes of what is typed; none where it makes another one.
    fn word(&self, rest: &str) -> Option<String> {
        let first = rest.split_ascii_whitespace().next()?;
        (!rest.starts_with(' ') || self.typed.is_empty()).then(|| format!("{}{first}", self.typed))
    }

    /// How likely a word is that `rest` makes of what is typed, next to what a model thinks that does not know what exists: 1
    /// where nothing speaks against it.
    pub fn odds(&self, rest: &str) -> f32 {
        let exists = match self.exists(rest) {
            Some(false) if self.path == PROGRAMS => DOUBTED_PROGRAM,
            Some(false) => DOUBTED,
            _ => 1.0,
        };
        if self.is_given(rest) { exists * TWICE } else { exists }
    }

    /// Whether the command has this option already, and it is none of those that are given again.
    fn is_given(&self, rest: &str) -> bool {
        let Some(word) = self.word(rest) else { return false };
        let name = option_name(&word);
        self.given.contains(&name) && !self.specs.map.contains_key(key(AGAIN, name))
    }

    /// Whether a word that `rest` makes of what is typed exists: nothing where that can't be told.
    pub fn exists(&self, rest: &str) -> Option<bool> {
        let word = self.word(rest)?;
        let name = option_name(&word);
        let is_known = |path: &str| self.specs.map.contains_key(key(path, name));
        if let Some(long) = name.strip_prefix("--") {
            if UNIVERSAL.contains(&name) {
                return Some(true);
            }
            let is_complete = self.specs.names(&self.path, "--").len() >= MIN_OPTIONS;
            return (!long.is_empty() && is_plain(long) && is_complete).then(|| self.paths().any(is_known));
        }
        let may_be_one = self.is_next && is_subcommand(&word) && self.specs.has_subcommands(&self.path);
        may_be_one.then(|| is_known(&self.path))
    }

    /// How much of a name that is no option has to be typed before others are offered than the model's.
    fn min_typed(&self) -> usize {
        if self.path == PROGRAMS { MIN_TYPED_PROGRAM } else { 1 }
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
            let universal = UNIVERSAL.iter().filter(|name| name.starts_with(typed));
            names.extend(universal.map(|&name| (name.to_owned(), 0)));
            names.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            names.dedup_by(|a, b| a.0 == b.0);
            names.retain(|(name, _)| !self.is_given(&name[typed.len()..]));
            names
        } else if self.is_next && typed.len() >= self.min_typed() && self.specs.has_subcommands(&self.path) {
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

impl Unlisted<'_> {
    /// What is known at its place and begins with the first or the second of its letters, with how often that was seen in lines of
    /// others.
    pub fn others(&self) -> Vec<(String, u64)> {
        let dashes = self.name.len() - self.name.trim_start_matches('-').len();
        let (dashes, letters) = self.name.split_at(dashes);
        let beginnings: BTreeSet<char> = letters.chars().take(2).collect();
        let at = |path: &str, beginning: char| self.place.specs.names(path, &format!("{dashes}{beginning}"));
        match dashes {
            "" => beginnings.iter().flat_map(|&beginning| at(&self.place.path, beginning)).collect(),
            _ => self
                .place
                .paths()
                .flat_map(|path| beginnings.iter().flat_map(move |&beginning| at(path, beginning)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program `kit` with four subcommands, of which `pull` has options, and `one` with a single option; and programs that are
    /// known by their names.
    fn specs() -> Specs {
        let mut keys = vec![key("kit", "--config"), key("one", "--only"), key(AGAIN, "--format")];
        for name in ["kit", "one", "bluectl", "kite-runner"] {
            keys.push(key(PROGRAMS, name));
        }
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
            ("kit --config x pu", "ke", Some(false)),
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
            // Programs.
            ("ki", "t", Some(true)),
            ("", "kit pull", Some(true)),
            ("ls | sudo blue", "ctl", Some(true)),
            ("blu", "e", Some(false)),
            ("./ki", "te", None),
            // What every program takes.
            ("other --he", "lp", Some(true)),
            ("kit pull --v", "ersion", Some(true)),
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
        assert_eq!(names("kit --config x pul"), ["l-all", "l"], "x is what --config is set to");
        assert!(
            names("kit x pul").is_empty() && names("kit --config=y x pul").is_empty(),
            "x is an argument"
        );
        assert_eq!(names("kit pull --force --fo"), ["rmat"], "given already");
        assert_eq!(names("kit pull --format x --form"), ["at"], "given again");
        assert_eq!(names("ki"), ["te-runner", "t"]);
        assert_eq!(names("other --hel"), ["p"]);
        assert!(names("k").is_empty());
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
        assert_eq!(lines("blu", &[("e", 0.5)]), ["bluectl", "blue"]);
        assert_eq!(lines("other --hel", &[("lo world", 0.1)]), ["other --help", "other --hello world"]);
    }

    #[test]
    fn what_was_given_is_not_given_again() {
        let specs = specs();
        let odds = |before: &str, rest: &str| specs.place(before).map_or(1.0, |place| place.odds(rest));
        assert_eq!(odds("other --deep --de", "ep"), TWICE);
        assert_eq!(odds("other --deep=1 -x ", "-x y"), TWICE);
        assert_eq!(odds("other --format a --for", "mat"), 1.0, "one of those that are");
        assert_eq!(odds("other --deep | more --de", "ep"), 1.0, "another command");
        assert_eq!(odds("kit pull --zap --za", "p"), TWICE * DOUBTED);
        assert_eq!(given_twice("a -e 1 -e 2 --x=1 | b --x=2; c --y --z --y"), ["-e", "--y"]);
    }

    #[test]
    fn a_line_names_what_it_uses() {
        let named = |line| specs().named(line);
        let known = |path: &str, name: &str| (key(path, name), true);
        assert_eq!(
            named("kit pull --force --form=x a | kit --config y push -f"),
            [
                known("", "kit"),
                known("kit", "pull"),
                known("kit pull", "--force"),
                (key("kit pull", "--form"), false),
                known("", "kit"),
                known("kit", "--config"),
                known("kit", "push"),
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
