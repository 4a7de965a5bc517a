//! The text that the model continues.
//!
//! There is one format, plain text as in the documents the embedded model was trained on, from what changes
//! least to what changes most so that the model's cache of the beginning stays valid:
//!
//! ```text
//! git switch -c fix-login
//! cargo test login
//! git comm
//! ```
//!
//! the last commands, oldest first, one a line, and then the line up to the cursor. A description is a line
//! `# TEXT`, and the command is what the model writes on the next line; others with their commands stand before it
//! in the same form, the nearest last. The engine adds the token that begins a text, and heals the last one.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::buffer::{Buffer, Kind};
use crate::context::{Context, HistoryLine};
use crate::redact::redact;

/// How much of the history goes into a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptFormat {
    /// At most this many commands.
    pub history_lines: usize,
    /// At most this many characters of commands, line breaks included.
    pub history_chars: usize,
    /// A longer typed line is cut at its start to this many characters.
    pub line_chars: usize,
}

impl Default for PromptFormat {
    /// For the embedded model, which does best with six to ten commands; about 250 tokens of its 512. A larger
    /// model makes use of more.
    fn default() -> Self {
        Self { history_lines: 10, history_chars: 600, line_chars: 400 }
    }
}

impl PromptFormat {
    /// For a model on a server elsewhere, which is a larger one.
    pub const LARGE: Self = Self { history_lines: 20, history_chars: 4000, line_chars: 1000 };
}

/// The text that the model continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text; it ends where the answer begins.
    pub text: String,
}

/// A prompt without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut<'a> {
    /// What is left of the text.
    pub before: &'a str,
    /// What a model has to write first, as it would: with one blank where several were typed.
    pub typed: String,
}

impl Prompt {
    /// The prompt for a line typed in a context. Secrets in the history are redacted.
    ///
    /// The history window depends on the context alone, never on the buffer, so all prompts of one line
    /// begin alike.
    pub fn new(context: &Context, buffer: &Buffer, format: &PromptFormat) -> Self {
        let mut text = String::new();
        for line in window(&context.history, format) {
            text.push_str(&redact(line));
            text.push('\n');
        }
        match buffer.kind() {
            Kind::Description(description) => {
                for (description, command) in &context.examples {
                    text.extend(["# ", description, "\n", command, "\n"]);
                }
                text.push_str("# ");
                text.push_str(last_chars(description, format.line_chars));
                text.push('\n');
            }
            Kind::Command => {
                let typed = buffer.before().trim_start_matches([' ', '\t']);
                text.push_str(last_chars(typed, format.line_chars));
            }
        }
        Self { text }
    }

    /// Without its last word, or the part of it after its last separator, with the separator and the blanks before it:
    /// for models that are reached in a way on which the last token can't be healed. A token that begins a word holds the blank
    /// before it, and one that begins a part of a path the slash. A description is whole already.
    pub fn cut(&self) -> Cut<'_> {
        let without = |text: &str, is_part: fn(char) -> bool| text.trim_end_matches(is_part).len();
        let is_blank = |c| matches!(c, ' ' | '\t');
        let is_separator = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
        let mut end = self.text.len();
        if !self.text.ends_with(is_blank) {
            end = without(&self.text, char::is_alphanumeric);
            end = without(&self.text[..end], is_separator);
        }
        let start = without(&self.text[..end], is_blank);
        let blank = if start < end { " " } else { "" };
        Cut { before: &self.text[..start], typed: format!("{blank}{}", &self.text[end..]) }
    }
}

/// The commands to show the model.
///
/// A window of the newest n lines would move with every command, and the model would have to read all of it
/// again. So the window begins at a line chosen by its content among the older half of those allowed: the
/// one with the highest hash. While it stays allowed, and no line after it in that half hashes higher, the
/// prompt of the next command begins as the last one did.
fn window<'a>(history: &'a [HistoryLine], format: &PromptFormat) -> Vec<&'a str> {
    let eligible = history
        .iter()
        .rev()
        .filter(|entry| !entry.was_not_found())
        .map(|entry| entry.line.trim())
        .filter(|line| !line.is_empty() && !line.contains('\n'));
    let mut chars = 0;
    let mut lines = Vec::new();
    let mut is_full = false;
    for line in eligible {
        chars += line.chars().count() + 1;
        is_full = lines.len() == format.history_lines || chars > format.history_chars;
        if is_full {
            break;
        }
        lines.push(line);
    }
    // The client sends about as many lines as are used, so an exactly full window is a moving one too.
    is_full |= lines.len() == format.history_lines;
    lines.reverse();
    let older = if is_full { lines.len() / 2 } else { 0 };
    let start = (0..older).max_by_key(|&i| content_hash(lines[i])).unwrap_or(0);
    lines.split_off(start)
}

/// A hash that is the same for the same text in one build of the program, which is all that is needed.
fn content_hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// At most the last `n` characters.
fn last_chars(text: &str, n: usize) -> &str {
    let start = text.char_indices().rev().nth(n.saturating_sub(1)).map_or(0, |(at, _)| at);
    if n == 0 { "" } else { &text[start..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(lines: impl IntoIterator<Item = String>) -> Context {
        Context { history: lines.into_iter().map(HistoryLine::new).collect(), ..Context::default() }
    }

    fn prompt(context: &Context, buffer: &Buffer) -> String {
        Prompt::new(context, buffer, &PromptFormat::default()).text
    }

    #[test]
    fn history_then_the_line_up_to_the_cursor() {
        let mut context = context(["cd src".into(), "gti status".into(), "for i\ndo x".into(), "ls".into()]);
        context.history[1].status = Some(127);
        assert_eq!(prompt(&context, &Buffer::new("  git comm now", 10)), "cd src\nls\ngit comm");
        assert_eq!(prompt(&Context::default(), &Buffer::at_end("")), "");
    }

    #[test]
    fn a_description_is_a_comment_line() {
        assert_eq!(prompt(&Context::default(), &Buffer::new(" #list files", 3)), "# list files\n");
    }

    #[test]
    fn examples_stand_before_a_description_and_no_command() {
        let mut context = context(["cd src".into()]);
        context.examples = vec![("List all".into(), "ls -a".into())];
        assert_eq!(
            prompt(&context, &Buffer::at_end("# list files")),
            "cd src\n# List all\nls -a\n# list files\n"
        );
        assert_eq!(prompt(&context, &Buffer::at_end("ls")), "cd src\nls");
    }

    #[test]
    fn the_last_word_is_cut_off_with_what_its_token_begins_with() {
        for (text, before, typed) in [
            ("ls\ngit com", "ls\ngit", " com"),
            ("ls\ngit ", "ls\ngit", " "),
            ("git   com", "git", " com"),
            ("git commit --am", "git commit", " --am"),
            ("git commit -", "git commit", " -"),
            ("ls -l | gr", "ls -l |", " gr"),
            ("cat /usr/sh", "cat /usr", "/sh"),
            ("echo '日本", "echo", " '日本"),
            ("ls\ngi", "ls\n", "gi"),
            ("ls\n", "ls\n", ""),
            ("# list files\n", "# list files\n", ""),
            ("", "", ""),
        ] {
            let prompt = Prompt { text: text.to_owned() };
            assert_eq!(prompt.cut(), Cut { before, typed: typed.to_owned() }, "{text:?}");
        }
    }

    #[test]
    fn secrets_of_the_history_stay_out() {
        let context = context(["export API_TOKEN=abc123def456".into()]);
        assert!(!prompt(&context, &Buffer::at_end("ls")).contains("abc123"));
    }

    #[test]
    fn limits_hold() {
        let context = context((0..100).map(|i| format!("command number {i} {}", "é".repeat(i % 50))));
        let format = PromptFormat { history_lines: 10, history_chars: 300, line_chars: 8 };
        let text = Prompt::new(&context, &Buffer::at_end("a very long line"), &format).text;
        assert!(text.ends_with("\nong line"), "{text}");
        assert!(text.lines().count() <= 11 && text.chars().count() <= 308);
        assert!(text.lines().count() > 2, "{text}");
    }

    #[test]
    fn the_beginning_seldom_changes_from_command_to_command() {
        let all: Vec<String> = (0..200).map(|i| format!("command {}", i * 7919 % 211)).collect();
        let beginning = |n: usize| {
            let text = prompt(&context(all[..n].iter().cloned()), &Buffer::at_end(""));
            text.lines().next().map(str::to_owned)
        };
        let changes = (30..200).filter(|&n| beginning(n) != beginning(n - 1)).count();
        assert!(changes < 60, "{changes} of 170 commands changed the beginning");
    }
}
