//! One completion against the texts that were expected.

use std::collections::HashMap;

use crate::buffer::{Quote, open_quote};
use crate::score::Case;

/// How one completion did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The whole rest is right.
    pub exact: bool,
    /// The first word is right: the text up to the first blank outside quotes.
    pub next: bool,
    /// Nothing was suggested.
    pub empty: bool,
    /// Something was suggested, and its first word is wrong.
    pub wrong: bool,
    /// All words that were suggested are right, so that one key may take them.
    pub whole: bool,
    /// Characters from the start that are right.
    pub common: usize,
    /// Characters expected.
    pub expected: usize,
    /// Key strokes saved.
    pub saved: usize,
    /// For descriptions only.
    pub description: Option<DescriptionOutcome>,
}

/// How the command for a description did, besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DescriptionOutcome {
    /// The command's name is right.
    pub command: bool,
    /// F1 over the bags of words between blanks, with the best reference.
    pub f1: f64,
}

/// Judges a completion. Of several right answers the one counts that shares the longest part of itself
/// with the completion.
pub fn judge(case: &Case, completion: &str) -> Outcome {
    let completion = normalize(completion, case);
    let references: Vec<&str> =
        std::iter::once(&case.expected).chain(&case.alts).map(|r| trim_end(r)).collect();
    let expected = if completion.is_empty() { references[0] } else { closest(completion, &references) };
    let quote = if case.is_description() { None } else { open_quote(&case.prefix) };
    let words = split(completion, quote);
    let expected_words = split(expected, quote);
    let empty = completion.is_empty();
    let next = !empty && !words.is_empty() && words.first() == expected_words.first();
    Outcome {
        exact: completion == expected,
        next,
        empty,
        wrong: !empty && !next,
        whole: !empty && expected_words.starts_with(&words),
        common: common_prefix(completion, expected),
        expected: expected.chars().count(),
        saved: saved(completion, expected, &words, &expected_words),
        description: case.is_description().then(|| DescriptionOutcome {
            command: !words.is_empty() && references.iter().any(|r| split(r, None).first() == words.first()),
            f1: references.iter().map(|r| f1(completion, r)).fold(0.0, f64::max),
        }),
    }
}

/// The first line without trailing blanks; leading blanks only where the prefix does not bring one.
fn normalize<'a>(completion: &'a str, case: &Case) -> &'a str {
    let text = completion.trim_start_matches(['\r', '\n']);
    let line = trim_end(text.split('\n').next().unwrap_or(""));
    let prefix = &case.prefix;
    let at_word_start = prefix.is_empty() || prefix.ends_with([' ', '\t']);
    if case.is_description() || at_word_start { line.trim_start_matches(is_blank) } else { line }
}

fn closest<'a>(completion: &str, references: &[&'a str]) -> &'a str {
    let key = |reference: &str| {
        let share = common_prefix(completion, reference) as f64 / reference.chars().count().max(1) as f64;
        (share, completion == reference)
    };
    // The first of equals counts, so only a strictly better one replaces it.
    references[1..].iter().fold(references[0], |best, r| if key(r) > key(best) { r } else { best })
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// The larger of what accepting the whole completion saves (it has to be the beginning of what was expected;
/// one key) and what accepting its leading right words saves (one key each).
fn saved(completion: &str, expected: &str, words: &[&str], expected_words: &[&str]) -> usize {
    let whole =
        if expected.starts_with(completion) { completion.chars().count().saturating_sub(1) } else { 0 };
    let by_word = words.iter().zip(expected_words).take_while(|(a, b)| a == b);
    whole.max(by_word.map(|(word, _)| word.chars().count() - 1).sum())
}

/// The words of a line, each with the blanks before it. Blanks in quotes do not split; `quote` is open at
/// the start, where blanks are still blanks.
fn split(line: &str, quote: Option<Quote>) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line;
    let mut open = quote;
    while !rest.is_empty() {
        let len = word_len(rest, open.take());
        words.push(&rest[..len]);
        rest = &rest[len..];
    }
    words
}

/// The length in bytes of the word at the start of `text`, with the blanks before it.
fn word_len(text: &str, mut quote: Option<Quote>) -> usize {
    let mut chars = text.char_indices().peekable();
    if quote.is_none() {
        while chars.next_if(|&(_, c)| c == ' ').is_some() {}
    }
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None | Some(Quote::Double), '\\') => {
                chars.next();
            }
            (None, ' ') => return at,
            (None, '\'') => quote = Some(Quote::Single),
            (None, '"') => quote = Some(Quote::Double),
            (Some(Quote::Single), '\'') | (Some(Quote::Double), '"') => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// Twice the words in common (as bags) over the words of both.
pub(crate) fn f1(a: &str, b: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (a, b) = (words(a), words(b));
    let mut bag: HashMap<&str, usize> = HashMap::new();
    for word in &a {
        *bag.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in &b {
        if let Some(left) = bag.get_mut(word.as_str()).filter(|left| **left > 0) {
            *left -= 1;
            common += 1;
        }
    }
    if common == 0 { 0.0 } else { 2.0 * f64::from(common) / (a.len() + b.len()) as f64 }
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_blank)
}

/// Unicode blanks, and the four separators of ASCII that Python counts among them.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
