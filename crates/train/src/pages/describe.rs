//! What a page says that a command does, as a person would ask for it: "List all files".

use std::sync::LazyLock;

use regex::Regex;

use super::{Before, Vocabulary};

struct Patterns {
    /// "To do it, run the following", and what "do it" is.
    purpose: Regex,
    /// "Run this command to do it".
    means: Regex,
    /// What leads to the command, behind the description.
    tail: Regex,
    /// What stands before the description.
    lead: Regex,
    /// What refers to something that is not there.
    reference: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        purpose: Regex::new(concat!(
            r"(?i)^(?:to|in order to|if you (?:want|need|wish|would like) to|(?:you|we|one) can(?: also)?|let's|let us)",
            r"\s+(.+?)(?:,\s*(?:(?:you|we) (?:can|could|may|should|need to|have to) (?:also )?|simply |just |then |please )*",
            r"(?:run|use|execute|type|do|issue|enter|try|call|invoke)\b.*)?$",
        ))
        .ok()?,
        means: Regex::new(r"^(?:Run|Use|Execute|Type|Enter|Issue|Call|Try)\s+.*?\bto\s+([a-z]+\s.+)$").ok()?,
        tail: Regex::new(concat!(
            r"(?i)\s*(?:\b(?:with|by running|by using|by executing|by|using|via|run|use|do)\s*)?",
            r"\b(?:(?:the |this |these )?(?:following|below)(?: commands?)?|(?:this|these) commands?|(?:the )?command",
            r"|(?:like|as) (?:so|this|follows|below)|as shown below|as in|for example|e\.g|with|using|by running|by|below)\s*$",
        ))
        .ok()?,
        lead: Regex::new(concat!(
            r"(?i)^(?:(?:step )?\d+[.):]\s+|(?:or|then|next|finally|first|now|second|also|please|optional|optionally",
            r"|alternatively|and|example|for example|simply|just|we|you|can|will|note)\b[,:]?\s+)+",
        ))
        .ok()?,
        reference: Regex::new(
            r"(?i)[\[\]{}|$<>\\=]|https?:|;$|\b(?:this|these|those|below|above|following|we|our|here|it's|i'm|previous|section)\b",
        )
        .ok()?,
    })
});

/// Lengths of a description, in bytes.
const SHORTEST: usize = 10;
const LONGEST: usize = 110;

/// What a comment says.
pub fn of_comment(text: &str, vocabulary: &Vocabulary) -> Option<String> {
    let pattern = PATTERNS.as_ref()?;
    let text = without_lead(text.trim_matches(['#', '-', '=', '*', ' ']), pattern);
    let text =
        pattern.purpose.captures(text).and_then(|found| found.get(1)).map_or(text, |found| found.as_str());
    checked(text, vocabulary)
}

/// What the sentence says that leads to a block, or the title above it.
pub fn of_text_before(before: &Before, vocabulary: &Vocabulary) -> Option<String> {
    match before {
        Before::Nothing => None,
        Before::Heading(text) => of_comment(text, vocabulary),
        Before::Text(text) => of_sentence(text, vocabulary),
    }
}

/// What the last sentence of a text says.
pub fn of_sentence(text: &str, vocabulary: &Vocabulary) -> Option<String> {
    let pattern = PATTERNS.as_ref()?;
    let text = text.trim();
    if !text.ends_with([':', '.']) {
        return None;
    }
    let sentence = without_lead(last_sentence(text.trim_end_matches([':', '.', ' '])), pattern);
    let what = [&pattern.purpose, &pattern.means]
        .iter()
        .find_map(|pattern| pattern.captures(sentence))
        .and_then(|found| found.get(1))
        .map_or(sentence, |found| found.as_str());
    checked(what, vocabulary)
}

/// `text` where it says what to do, in the imperative and by itself.
pub fn checked(text: &str, vocabulary: &Vocabulary) -> Option<String> {
    let pattern = PATTERNS.as_ref()?;
    let mut text = without_lead(text, pattern).trim_matches([' ', '.', ':', ',', ';']);
    while let Some(found) = pattern.tail.find(text) {
        text = text[..found.start()].trim_end_matches([' ', ',', ':']);
    }
    if !text.is_ascii() || !(SHORTEST..=LONGEST).contains(&text.len()) || pattern.reference.is_match(text) {
        return None;
    }
    let (first, rest) = text.split_once(' ')?;
    let verb = vocabulary.imperative(first)?;
    let capital = verb[..1].to_ascii_uppercase();
    Some(format!("{capital}{} {rest}", &verb[1..]))
}

fn without_lead<'a>(text: &'a str, pattern: &Patterns) -> &'a str {
    let text = text.trim();
    pattern.lead.find(text).map_or(text, |found| &text[found.end()..])
}

fn last_sentence(text: &str) -> &str {
    let starts = |at: usize| {
        let mut next = text[at + 1..].chars();
        next.next().is_some_and(char::is_whitespace) && next.next().is_some_and(char::is_uppercase)
    };
    let at = text.rmatch_indices(['.', '!', '?', ':']).map(|(at, _)| at).find(|&at| starts(at));
    at.map_or(text, |at| text[at + 1..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::new([], ["list", "show", "search", "copy", "create", "run", "use"])
    }

    fn sentence(text: &str) -> String {
        of_sentence(text, &vocabulary()).unwrap_or_default()
    }

    #[test]
    fn a_sentence_that_leads_to_a_block_says_what_it_does() {
        assert_eq!(sentence("Files matter. To list all files, run:"), "List all files");
        assert_eq!(sentence("You can show the log with the following command:"), "Show the log");
        assert_eq!(sentence("Run the following command to create a branch:"), "Create a branch");
        assert_eq!(sentence("Then copy the file to the server."), "Copy the file to the server");
        assert_eq!(sentence("Create a volume using:"), "Create a volume");
    }

    #[test]
    fn other_sentences_say_nothing() {
        for text in [
            "The files are listed:",
            "To list all files",
            "Run this command:",
            "Show the section above:",
            "Copy https://example.com/x here:",
            "Show it:",
            "Se muestra el registro:",
        ] {
            assert_eq!(sentence(text), "", "{text}");
        }
    }

    #[test]
    fn comments_are_put_in_the_imperative() {
        let comment = |text| of_comment(text, &vocabulary()).unwrap_or_default();
        assert_eq!(comment("2) lists all files."), "List all files");
        assert_eq!(comment("Searches in all files"), "Search in all files");
        assert_eq!(comment("Or, to show hidden files"), "Show hidden files");
        assert_eq!(comment("List ${FILES} of a folder"), "");
    }

    #[test]
    fn a_title_does_as_well() {
        let before = Before::Heading("Create an empty branch".to_owned());
        assert_eq!(of_text_before(&before, &vocabulary()).unwrap(), "Create an empty branch");
    }
}
