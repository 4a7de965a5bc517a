//! Lines that others have written, by what they begin with.
//!
//! A small model knows what often follows the last few words. What follows all that is typed is rarer, and known better by
//! looking it up: of cut lines that begin as one to three others do, more than half go on as one of these.

use std::borrow::Cow;

use fst::{IntoStreamer as _, Set, Streamer as _};

use crate::words::ends_of_words;

/// Lines that are counted at most. What more begin with is too little to tell.
const MOST: u32 = 6000;
/// How many more lines there might be that go on in another way, for the share of those that are known.
const UNSEEN: f32 = 2.0;
/// What a line counts that is typed as a whole already, next to those that go on: whoever has typed it is mostly done.
const WHOLE: u32 = 3;

/// What the words of a rest that are [`Rest::likely`] have at least as their share.
const LIKELY: f32 = 0.2;

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
    /// How many bytes of the suffix are likely: each word is the next one of at least half of the lines that go on like it so far, and of
    /// a fifth of all. What somebody named behind that is a guess.
    pub likely: usize,
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
        let rest = |(suffix, count): (String, u32)| {
            let (mut likely, mut with_all) = (0, 0);
            for end in ends_of_words(before, &suffix) {
                let with_it = self.with(before, &suffix[..end]);
                if share(with_it) < LIKELY || 2 * with_it < with_all {
                    break;
                }
                (likely, with_all) = (end, with_it);
            }
            Rest { suffix, share: share(count), likely }
        };
        words.into_iter().map(rest).collect()
    }

    /// How many lines begin so, the last word being a whole one.
    fn with(&self, before: &str, words: &str) -> u32 {
        let beginning = format!("{before}{words}");
        let mut found = self.set.range().ge(&beginning).into_stream();
        let mut count = 0;
        while let Some(line) = found.next()
            && let Some(rest) = line.strip_prefix(beginning.as_bytes())
        {
            count += u32::from(rest.first().is_none_or(|byte| *byte == b' '));
        }
        count
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
    fn what_half_of_the_lines_go_on_with_is_likely() {
        let lines = lines(&[
            "kit own -R ann /usr/share",
            "kit own -R bob:bob /srv/web",
            "kit own -R eve:staff /home/eve/a",
            "kit pull --all . -v",
            "kit pull --all . -v -v",
            "kit pull --all src/engine",
            "kit pull all of them",
            "kit run --rm-all",
            "kit run --rm one",
            "kit run --rm two",
            "kit run a",
            "kit test a",
            "kit test b",
            "kit show $(kit list -q)",
            "kit show $(kit list -q) -v",
        ]);
        let likely = |before: &str| -> Vec<String> {
            let rests = lines.after(before, 1);
            rests.into_iter().map(|rest| rest.suffix[..rest.likely].to_owned()).collect()
        };
        assert_eq!(likely("kit own"), [" -R"], "whom it is given to is another one each time");
        assert_eq!(likely("kit pu"), ["ll --all . -v"]);
        assert_eq!(likely("kit run "), ["--rm"]);
        assert_eq!(likely("kit show "), ["$(kit list -q)"], "one word");
        assert_eq!(likely("kit "), ["pull"], "less than a fifth of all go on like one of them");
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
