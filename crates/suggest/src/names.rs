//! The names in a description of a command: of files, patterns, numbers, sizes, variables, and what is quoted or called something.

use std::borrow::Cow;

/// A longer name, in bytes, is none.
const LONGEST: usize = 80;
/// What stands before a name that nothing else tells from other words.
const CALLED: [&str; 2] = ["called", "named"];
/// With these a word with a slash is two words, as in `files/directories`.
const EITHER: [&str; 16] = [
    "and",
    "or",
    "file",
    "files",
    "directory",
    "directories",
    "folder",
    "folders",
    "regular",
    "normal",
    "path",
    "paths",
    "read",
    "write",
    "enable",
    "on",
];

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    /// With a letter for thousands, as `100M`.
    Size,
    /// With `*`.
    Pattern,
    /// With `/`.
    Path,
    /// With `://`.
    Url,
    /// Of a file, a host, or of what programmers name.
    File,
    /// A variable of a shell.
    Variable,
    /// Anything in quotes.
    Quoted,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        let is_letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if word.len() > LONGEST || word.is_empty() {
            return None;
        }
        if is_number(word) {
            return Some(Self::Number);
        }
        if word.strip_suffix(['k', 'K', 'M', 'G', 'T']).is_some_and(is_number) {
            return Some(Self::Size);
        }
        if word.contains("://") {
            return Some(Self::Url);
        }
        if word.contains('*') {
            return (word.len() > 1).then_some(Self::Pattern);
        }
        if word.starts_with('$') {
            return (word.len() > 1).then_some(Self::Variable);
        }
        if word.contains('/') {
            // No path are `files/directories` and `I/O`.
            let is_either =
                is_letters(&word.replace('/', "")) && word.split('/').any(|part| EITHER.contains(&part));
            let is_path = word == "/" || (word.bytes().any(|byte| byte.is_ascii_lowercase()) && !is_either);
            return is_path.then_some(Self::Path);
        }
        let has_ending = word.rsplit_once('.').is_some_and(|(stem, ending)| {
            stem.len() + ending.len() > 2 && ending.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        (is_plain(word) && (has_ending || word.contains('_'))).then_some(Self::File)
    }

    /// Whether a name of another kind may take the place of one of this kind.
    pub(crate) fn is_like(self, other: Self) -> bool {
        use Kind::{File, Number, Path, Pattern, Quoted, Size, Url, Variable};
        match (self, other) {
            (Number, other) | (other, Number) => other == Number,
            (Size, other) | (other, Size) => other == Size,
            (Url, other) | (other, Url) => matches!(other, Url | Quoted),
            (Pattern, other) | (other, Pattern) => matches!(other, Pattern | Quoted),
            (Path | File | Variable | Quoted, Path | File | Variable | Quoted) => true,
        }
    }
}

/// A part of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A word, or several with marks between them.
    Word(&'a str),
    /// A name, without quotes.
    Name(Name<'a>),
}

/// Whether a word has nothing in it that names have not.
pub(crate) fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Units of sizes, and the letters that programs have for them.
const UNITS: [(&str, &str); 4] = [("kilo", "k"), ("mega", "M"), ("giga", "G"), ("tera", "T")];

/// A description with its sizes as programs take them: `100MB` and `100 megabytes` are `100M`.
pub(crate) fn with_short_sizes(description: &str) -> Cow<'_, str> {
    let mut short = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(digit) = description[at..].find(|c: char| c.is_ascii_digit()) {
        let start = at + digit;
        let rest = &description[start..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        at = start + digits;
        let after = &description[at..];
        let unit = after.strip_prefix([' ', '-']).unwrap_or(after);
        let letters = unit.find(|c: char| !c.is_alphanumeric()).unwrap_or(unit.len());
        let is_alone = description[..start].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        if let Some(letter) = letter_of(&unit[..letters]).filter(|_| is_alone) {
            short.push_str(&description[copied..at]);
            short.push_str(letter);
            at += after.len() - unit.len() + letters;
            copied = at;
        }
    }
    if copied == 0 { Cow::Borrowed(description) } else { Cow::Owned(short + &description[copied..]) }
}

/// The letter for a unit: of `MB`, `MiB` or `megabytes` it is `M`.
fn letter_of(unit: &str) -> Option<&'static str> {
    let unit = unit.to_ascii_lowercase();
    let is_of = |(prefix, letter): &&(&str, &str)| {
        let letter = letter.to_ascii_lowercase();
        let long = unit.strip_prefix(prefix).map(|rest| rest.trim_end_matches('s'));
        let brief = unit.strip_prefix(letter.as_str());
        long == Some("byte") || brief == Some("b") || brief == Some("ib")
    };
    UNITS.iter().find(is_of).map(|(_, letter)| *letter)
}

/// A name in a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind,
}

/// The parts of a description, in their order.
pub(crate) fn parts(description: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = description;
    let mut is_called = false;
    std::iter::from_fn(move || {
        let was_called = std::mem::take(&mut is_called);
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let quoted = matches!(first, '"' | '\'' | '`').then(|| rest[1..].split_once(first)).flatten();
        if let Some((text, after)) = quoted
            && !text.is_empty()
            && !text.starts_with(' ')
            && text.len() <= LONGEST
        {
            rest = after;
            return Some(Part::Name(Name { text, kind: Kind::of(text).unwrap_or(Kind::Quoted) }));
        }
        let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        rest = after;
        let text = word.trim_matches(|c: char| "\"'`(),:;!?".contains(c)).trim_end_matches('.');
        is_called = CALLED.contains(&text);
        let kind = Kind::of(text).or((was_called && is_plain(text)).then_some(Kind::Quoted));
        Some(kind.map_or(Part::Word(word), |kind| Part::Name(Name { text, kind })))
    })
}

/// The names in a description, each once.
pub(crate) fn names(description: &str) -> Vec<Name<'_>> {
    let mut names: Vec<Name<'_>> = Vec::new();
    for part in parts(description) {
        if let Part::Name(name) = part
            && names.iter().all(|other| other.text != name.text)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_programs_take_them() {
        assert_eq!(with_short_sizes("files larger than 100MB"), "files larger than 100M");
        assert_eq!(with_short_sizes("10 KB to 2 gigabytes, 3MiB"), "10k to 2G, 3M");
        assert_eq!(with_short_sizes("a 5-megabyte file"), "a 5M file");
        for same in ["20 lines", "the last 3 MBAs", "x264mb", "5 mb2", "page 10", "a\u{301}1"] {
            assert_eq!(with_short_sizes(same), same);
        }
        let kinds = names("100M 20m 7").into_iter().map(|name| name.kind).collect::<Vec<_>>();
        assert_eq!(kinds, [Kind::Size, Kind::Number]);
    }

    #[test]
    fn other_words_are_no_names() {
        let found = |text| names(text).into_iter().map(|name| name.text).collect::<Vec<_>>();
        assert_eq!(found("list files/directories, and/or the user's things."), [""; 0]);
        assert_eq!(found("show the last 15 lines of notes.txt."), ["15", "notes.txt"]);
        assert_eq!(found("copy 'a b' to (~/x) or $HOME, e.g. *.rs"), ["a b", "~/x", "$HOME", "*.rs"]);
        assert_eq!(found("an open \" quote and ' another"), [""; 0]);
        assert_eq!(found("get https://a.example/x?y=*, please"), ["https://a.example/x?y=*"]);
        assert_eq!(found("create build/out, / and /srv for I/O"), ["build/out", "/", "/srv"]);
    }
}
