//! Lines that others have written, by what they begin with.
//!
//! A small model knows what often follows the last few words. What follows all that is typed is rarer, and known better by
//! looking it up: of cut lines that begin as one to three others do, more than half go on as one of these.

use std::borrow::Cow;

use fst::{IntoStreamer as _, Set, Streamer as _};

/// Lines that are counted at most. What more begin with is too little to tell.
const MOST: u32 = 6000;
/// How many more lines there might be that go on in another way, for the share of those that are known.
const UNSEEN: f32 = 2.0;
/// What a line counts that is typed as a whole already, next to those that go on: whoever has typed it is mostly done.
const WHOLE: u32 = 3;

/// A set of lines.
#[derive(Debug)]
pub struct Lines {
    set: Set<Cow<'static, [u8]>>,
}

/// How lines go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// The shortest of those that have the same next word.
    pub suffix: String,
    /// The share of those with that word, a little less than it is among the lines that are known.
    pub share: f32,
}

impl Lines {
    /// Reads a set.
    ///
    /// # Errors
    /// Where the bytes are no transducer.
    pub fn new(table: impl Into<Cow<'static, [u8]>>) -> Result<Self, fst::Error> {
        Ok(Self { set: Set::new(table.into())? })
    }

    /// How lines go on that begin with `before`: one for each next word, the most frequent first, at most `n`. None where nothing is
    /// typed, or too little.
    pub fn after(&self, before: &str, n: usize) -> Vec<Rest> {
        if before.trim().is_empty() {
            return Vec::new();
        }
        let mut found = self.set.range().ge(before).into_stream();
        // A blank comes before all that is in words, so lines with the same word stand together.
        let mut words: Vec<(String, u32)> = Vec::new();
        let mut all = 0;
        while let Some(line) = found.next() {
            let Some(rest) = line.strip_prefix(before.as_bytes()) else { break };
            let Ok(rest) = std::str::from_utf8(rest) else { continue };
            if rest.is_empty() {
                all += WHOLE;
                continue;
            }
            all += 1;
            if all > MOST {
                return Vec::new();
            }
            match words.last_mut() {
                Some((other, count)) if first_word(other) == first_word(rest) => {
                    *count += 1;
                    if rest.len() < other.len() {
                        rest.clone_into(other);
                    }
                }
                _ => words.push((rest.to_owned(), 1)),
            }
        }
        words.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        words.truncate(n);
        let share = |count: u32| count as f32 / (all as f32 + UNSEEN);
        words.into_iter().map(|(suffix, count)| Rest { suffix, share: share(count) }).collect()
    }
}

/// The first word of a text, with the blanks before it.
pub fn first_word(text: &str) -> &str {
    let blanks = text.len() - text.trim_start().len();
    let end = text[blanks..].find(char::is_whitespace).map_or(text.len(), |end| blanks + end);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Lines {
        let mut lines = lines.to_vec();
        lines.sort_unstable();
        Lines::new(Set::from_iter(lines).unwrap().into_fst().into_inner()).unwrap()
    }

    #[test]
    fn the_most_frequent_word_goes_first_with_its_shortest_line() {
        let lines = lines(&[
            "kit pull -a x",
            "kit pull -a",
            "kit pull -a-b",
            "kit pull --all",
            "kit push",
            "kit pull",
        ]);
        let rests = |before: &str, n| -> Vec<(String, f32)> {
            lines.after(before, n).into_iter().map(|rest| (rest.suffix, rest.share)).collect()
        };
        assert_eq!(rests("kit pull ", 1), [("-a".to_owned(), 2.0 / 6.0)]);
        assert_eq!(rests("kit p", 3), [("ull".to_owned(), 5.0 / 8.0), ("ush".to_owned(), 1.0 / 8.0)]);
        assert_eq!(rests("kit pull", 1), [(" -a".to_owned(), 2.0 / 9.0)], "it may be all");
        for none in ["kit push", "other", "", " "] {
            assert!(rests(none, 3).is_empty(), "{none:?}");
        }
    }

    #[test]
    fn too_many_tell_nothing() {
        let many: Vec<String> = (0..=MOST).map(|number| format!("kit {number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(lines(&many).after("kit ", 3).is_empty());
        assert!(!lines(&many[..MOST as usize]).after("kit ", 3).is_empty());
    }

    #[test]
    fn bytes_that_are_no_set_are_refused() {
        assert!(Lines::new(b"kit".as_slice()).is_err());
    }
}
