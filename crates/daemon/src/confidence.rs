//! How much of what a model wrote is worth showing.

use nemoterm_engine::Finish;
use nemoterm_suggest::lines::first_word;

use crate::backend::Text;

/// What appears unasked is cut where its probability falls below this. One beginning in ten that is right is about
/// what a reader of ghost text forgives.
const LIKELY: f32 = 0.1;

/// Part of a word this short, in characters, is no help.
const MIN_PART: usize = 2;

/// A beginning of what a model wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part<'a> {
    pub text: &'a str,
    /// Log-probability of its first word; or of all of it, where it ends inside that word. Nothing where it is not known.
    pub logprob: Option<f32>,
}

/// Everything, but for a last word that generating broke off in, unless that is all there is.
pub fn whole(written: &Text) -> Part<'_> {
    let text = match written.finish {
        Finish::Stop => &written.text,
        Finish::Length | Finish::Cancelled => whole_words(&written.text),
    };
    Part { text, logprob: first_word_logprob(written) }
}

/// The words that are [`LIKELY`] all together; where not even the first is, as much of that as is.
pub fn likely(written: &Text) -> Part<'_> {
    let mut sum = 0.0;
    let mut end = 0;
    for token in &written.tokens {
        // Of what is not known nothing is cut.
        sum += token.logprob.unwrap_or(0.0);
        if sum < LIKELY.ln() {
            break;
        }
        end += token.text.len();
    }
    let whole = whole(written);
    if end >= whole.text.len() {
        return whole;
    }
    let text = &written.text[..end];
    // A blank after it shows that a word is complete.
    let next_is_blank = written.text[end..].starts_with(char::is_whitespace);
    if next_is_blank || whole_words(text).len() < end {
        let text = if next_is_blank { text } else { whole_words(text) };
        return Part { text, ..whole };
    }
    let text = if text.trim_start().chars().count() < MIN_PART { "" } else { text };
    Part { text, logprob: logprob(written, end) }
}

/// The log-probability of the first `bytes` bytes: what cleaning left of it. Nothing where it is not known.
pub fn logprob(written: &Text, bytes: usize) -> Option<f32> {
    let mut end = 0;
    let mut sum = 0.0;
    for token in &written.tokens {
        if end >= bytes && bytes > 0 {
            break;
        }
        end += token.text.len();
        sum += token.logprob?;
    }
    Some(sum)
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
fn first_word_logprob(written: &Text) -> Option<f32> {
    logprob(written, first_word(&written.text).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Token;

    /// Tokens with their probabilities.
    fn written(parts: &[(&str, f32)]) -> Text {
        let token = |(text, p): &(&str, f32)| Token { text: (*text).to_owned(), logprob: Some(p.ln()) };
        Text {
            text: parts.iter().map(|(text, _)| *text).collect(),
            tokens: parts.iter().map(token).collect(),
            finish: Finish::Stop,
        }
    }

    #[test]
    fn the_first_word_is_what_counts() {
        let mut text = written(&[(" sta", 0.9), ("tus", 0.8), (" -s", 0.01)]);
        assert!((whole(&text).logprob.unwrap() - 0.72_f32.ln()).abs() < 1e-6);
        assert!((logprob(&text, text.text.len()).unwrap() - 0.0072_f32.ln()).abs() < 1e-5);
        text.tokens[2].logprob = None;
        assert!(whole(&text).logprob.is_some() && logprob(&text, text.text.len()).is_none());
    }

    #[test]
    fn a_word_that_was_broken_off_is_left_out() {
        let mut text = written(&[(" add", 0.9), (" src/ma", 0.8)]);
        assert_eq!(whole(&text).text, " add src/ma");
        for finish in [Finish::Length, Finish::Cancelled] {
            text.finish = finish;
            assert_eq!(whole(&text).text, " add");
        }
        text.text = " ad".to_owned();
        assert_eq!(whole(&text).text, " ad", "better than nothing");
    }

    #[test]
    fn the_unlikely_end_is_cut_off() {
        let likely = |parts: &[(&str, f32)]| likely(&written(parts)).text.to_owned();
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
