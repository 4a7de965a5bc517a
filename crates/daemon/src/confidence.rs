//! How much of what a model wrote is worth showing.

use nemoterm_engine::Finish;
use nemoterm_suggest::{lines::first_word, words::ends_of_words};

use crate::backend::Text;

/// What appears unasked is cut where its probability falls below this. One beginning in ten that is right is about
/// what a reader of ghost text forgives.
const LIKELY: f32 = 0.1;

/// A word after the first is shown from this probability on, given those before it. One key takes all that is shown, so that a wrong
/// word at its end costs more than a right one that appears a moment later.
const NEXT: f32 = 0.5;

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

/// The first word after what is typed, and those after it, each of them more likely than not; where not even the first is [`LIKELY`], as
/// much of that as is.
pub fn likely<'a>(typed: &str, written: &'a Text) -> Part<'a> {
    let whole = whole(written);
    let (mut end, mut sum) = (0, 0.0);
    for word in ends_of_words(typed, whole.text) {
        let with_it = known_logprob(written, word);
        let is_next = end == 0 || with_it - sum >= NEXT.ln();
        if !is_next || with_it < LIKELY.ln() {
            break;
        }
        (end, sum) = (word, with_it);
    }
    if end > 0 {
        return Part { text: &whole.text[..end], ..whole };
    }
    for token in &written.tokens {
        let next = end + token.text.len();
        if known_logprob(written, next) < LIKELY.ln() {
            break;
        }
        end = next;
    }
    let text = &written.text[..end];
    // A blank shows that a word is complete, as there are in quotes.
    let next_is_blank = written.text[end..].starts_with(char::is_whitespace);
    if next_is_blank || whole_words(text).len() < end {
        return Part { text: if next_is_blank { text } else { whole_words(text) }, ..whole };
    }
    let text = if text.trim_start().chars().count() < MIN_PART { "" } else { text };
    Part { text, logprob: logprob(written, end) }
}

/// The log-probability of the first `bytes` bytes; what is not known counts as certain, so that nothing is cut for it.
fn known_logprob(written: &Text, bytes: usize) -> f32 {
    let mut end = 0;
    let tokens = written.tokens.iter().take_while(|token| {
        let begins = end;
        end += token.text.len();
        begins < bytes
    });
    tokens.map(|token| token.logprob.unwrap_or(0.0)).sum()
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
        let likely = |parts: &[(&str, f32)]| likely("git", &written(parts)).text.to_owned();
        assert_eq!(likely(&[(" status", 0.9), (" -s", 0.9)]), " status -s");
        assert_eq!(likely(&[(" status", 0.9), (" -s", 0.05)]), " status");
        assert_eq!(likely(&[(" push", 0.2), (" -u", 0.8), (" ori", 0.8), ("gin", 0.9)]), " push -u origin");
        assert_eq!(
            likely(&[(" push", 0.9), (" -u", 0.8), (" ori", 0.8), ("gin", 0.6)]),
            " push -u",
            "less than even"
        );
        assert_eq!(likely(&[(" sta", 0.9), ("tus", 0.9), (" --sh", 0.9), ("ort", 0.01)]), " status");
        assert_eq!(
            likely(&[(" \"", 0.5), ("*.", 0.8), ("txt", 0.1), ("\"", 1.0)]),
            " \"*.",
            "part of a word"
        );
        let quoted = [(" '{", 0.9), ("print", 0.9), (" $", 0.3), ("1}'", 0.9)];
        assert_eq!(likely(&quoted), " '{print $1}'", "one word");
        assert_eq!(likely(&[(" | ", 0.9), ("sort", 0.9), (" |", 0.8), (" wc", 0.5)]), " | sort");
        assert_eq!(likely(&[(" x", 0.5), ("yz", 0.01)]), "", "too short a part");
        assert_eq!(likely(&[(" x", 0.01)]), "");
        assert_eq!(likely(&[]), "");
        let message = written(&[("Add", 0.9), (" the", 0.05), (" x\"", 0.5)]);
        assert_eq!(super::likely("git commit -m \"", &message).text, "Add", "a word of what is quoted");
    }

    #[test]
    fn of_what_is_not_known_nothing_is_cut() {
        let mut text = written(&[(" status", 0.01), (" -s", 0.01)]);
        text.tokens.iter_mut().for_each(|token| token.logprob = None);
        assert_eq!(likely("git", &text), Part { text: " status -s", logprob: None });
    }
}
