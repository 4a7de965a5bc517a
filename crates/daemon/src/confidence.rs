//! How much of what a model wrote is worth showing.

use nemoterm_engine::{Finish, Generation};

/// What appears unasked is cut where its probability falls below this. One beginning in ten that is right is about
/// what a reader of ghost text forgives.
const LIKELY: f32 = 0.1;

/// Part of a word this short, in characters, is no help.
const MIN_PART: usize = 2;

/// A beginning of what a model wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part<'a> {
    pub text: &'a str,
    /// Log-probability of its first word; or of all of it, where it ends inside that word.
    pub logprob: f32,
}

/// Everything, but for a last word that generating broke off in, unless that is all there is.
pub fn whole(generation: &Generation) -> Part<'_> {
    let text = match generation.finish {
        Finish::Stop => &generation.text,
        Finish::Length | Finish::Cancelled => whole_words(&generation.text),
    };
    Part { text, logprob: first_word_logprob(generation) }
}

/// The words that are [`LIKELY`] all together; where not even the first is, as much of that as is.
pub fn likely(generation: &Generation) -> Part<'_> {
    let mut sum = 0.0;
    let mut end = 0;
    for token in &generation.tokens {
        sum += token.logprob;
        if sum < LIKELY.ln() {
            break;
        }
        end += token.text.len();
    }
    let whole = whole(generation);
    if end >= whole.text.len() {
        return whole;
    }
    let text = &generation.text[..end];
    // A blank after it shows that a word is complete.
    let next_is_blank = generation.text[end..].starts_with(char::is_whitespace);
    if next_is_blank || whole_words(text).len() < end {
        let text = if next_is_blank { text } else { whole_words(text) };
        return Part { text, ..whole };
    }
    let text = if text.trim_start().chars().count() < MIN_PART { "" } else { text };
    Part { text, logprob: logprob(generation, end) }
}

/// The log-probability of the first `bytes` bytes: what cleaning left of it.
pub fn logprob(generation: &Generation, bytes: usize) -> f32 {
    let mut written = 0;
    let mut sum = 0.0;
    for token in &generation.tokens {
        if written >= bytes && bytes > 0 {
            break;
        }
        written += token.text.len();
        sum += token.logprob;
    }
    sum
}

/// A text without its last word, unless that is its first.
fn whole_words(text: &str) -> &str {
    let word = text.len() - text.trim_start().len();
    match text[word..].rfind(char::is_whitespace) {
        Some(end) => &text[..word + end],
        None => text,
    }
}

/// The log-probability of the first word, with the blanks before it.
fn first_word_logprob(generation: &Generation) -> f32 {
    let text = &generation.text;
    let blanks = text.len() - text.trim_start().len();
    let word = text[blanks..].find(char::is_whitespace).map_or(text.len(), |end| blanks + end);
    logprob(generation, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemoterm_engine::GeneratedToken;

    /// Tokens with their probabilities.
    fn generation(parts: &[(&str, f32)]) -> Generation {
        Generation {
            text: parts.iter().map(|(text, _)| *text).collect(),
            tokens: parts
                .iter()
                .map(|(text, p)| GeneratedToken { id: 0, text: (*text).to_owned(), logprob: p.ln() })
                .collect(),
            logprob: parts.iter().map(|(_, p)| p.ln()).sum(),
            finish: Finish::Stop,
        }
    }

    #[test]
    fn the_first_word_is_what_counts() {
        let generation = generation(&[(" sta", 0.9), ("tus", 0.8), (" -s", 0.01)]);
        assert!((whole(&generation).logprob - 0.72_f32.ln()).abs() < 1e-6);
        assert!((logprob(&generation, generation.text.len()) - generation.logprob).abs() < 1e-6);
    }

    #[test]
    fn a_word_that_was_broken_off_is_left_out() {
        let mut generation = generation(&[(" add", 0.9), (" src/ma", 0.8)]);
        assert_eq!(whole(&generation).text, " add src/ma");
        for finish in [Finish::Length, Finish::Cancelled] {
            generation.finish = finish;
            assert_eq!(whole(&generation).text, " add");
        }
        generation.text = " ad".to_owned();
        assert_eq!(whole(&generation).text, " ad", "better than nothing");
    }

    #[test]
    fn the_unlikely_end_is_cut_off() {
        let likely = |parts: &[(&str, f32)]| likely(&generation(parts)).text.to_owned();
        assert_eq!(likely(&[(" status", 0.9), (" -s", 0.9)]), " status -s");
        assert_eq!(likely(&[(" status", 0.9), (" -s", 0.05)]), " status");
        assert_eq!(likely(&[(" sta", 0.9), ("tus", 0.9), (" --sh", 0.9), ("ort", 0.01)]), " status");
        assert_eq!(
            likely(&[(" \"", 0.5), ("*.", 0.8), ("txt", 0.1), ("\"", 1.0)]),
            " \"*.",
            "part of a word"
        );
        assert_eq!(likely(&[(" x", 0.5), ("yz", 0.01)]), "", "too short a part");
        assert_eq!(likely(&[(" x", 0.01)]), "");
        assert_eq!(likely(&[]), "");
    }
}
