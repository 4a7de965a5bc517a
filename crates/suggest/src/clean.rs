//! From what a model wrote to what may be shown.
//!
//! Text that could change the screen or hide something is refused, never repaired: a model that writes an
//! escape sequence has nothing to say that is worth a guess at the rest.

use unicode_width::UnicodeWidthChar as _;

use crate::buffer::{Buffer, Kind};
use crate::redact::MARKER;

/// Longest repeated unit that is looked for, in words.
const MAX_LOOP_WORDS: usize = 8;

/// How much of the typed text is looked at for the beginning of a loop; pasted lines can be huge.
const LOOKBACK_BYTES: usize = 512;

/// Turns a model's raw continuation into what may be added at the cursor, or nothing.
///
/// The answer is the first line, without trailing blanks, without what merely repeats the text after the
/// cursor, and cut where the model begins to repeat itself. It keeps a leading blank unless the typed text
/// ends in one. For a description it is the whole command.
pub fn clean(raw: &str, buffer: &Buffer) -> Option<String> {
    let is_description = matches!(buffer.kind(), Kind::Description(_));
    let before = if is_description { "" } else { buffer.before() };
    let raw = if is_description { raw.trim_start_matches(['\r', '\n']) } else { raw };
    let line = raw.split('\n').next()?.trim_end_matches('\r');
    if !is_displayable(line) || line.contains(MARKER) {
        return None;
    }
    let text = if is_description || buffer.at_word_start() { line.trim_start_matches(' ') } else { line };
    let text = trim_end(cut_loop(before, text));
    let is_comment = text.starts_with('#') && before.trim().is_empty();
    if is_comment || text.trim().is_empty() {
        return None;
    }
    if is_description { Some(text.to_owned()) } else { up_to(text, buffer) }
}

/// Whether a text may be drawn on a terminal as it is: one line, and nothing in it that is invisible, moves
/// the cursor, changes the direction of writing, only looks like a blank, or changes what stands before the text, as an accent
/// at its beginning does.
pub fn is_displayable(text: &str) -> bool {
    let joins = text.chars().next().is_some_and(|first| first.width() == Some(0));
    !joins && !text.chars().any(is_deceptive)
}

/// Characters that a suggestion must not hold.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1 controls.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Soft hyphen, combining grapheme joiner, Arabic letter mark.
        | '\u{ad}' | '\u{34f}' | '\u{61c}'
        // Fillers: Hangul, Khmer inherent vowels, Braille blank.
        | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
        // Mongolian variation selectors and vowel separator.
        | '\u{180b}'..='\u{180f}'
        // Zero-width characters, marks and overrides of direction, line and paragraph separators.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Variation selectors, byte order mark, interlinear annotation and the replacement character.
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffd}'
        // Shorthand format controls, musical format controls, tags and further variation selectors.
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    ) || (c.is_whitespace() && c != ' ')
}

/// Without trailing blanks, and without a final backslash that would carry the line on to the next.
fn trim_end(text: &str) -> &str {
    let text = text.trim_end_matches(' ');
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    if backslashes % 2 == 1 { text[..text.len() - 1].trim_end_matches(' ') } else { text }
}

/// Cuts `text`, which continues `before`, where it begins to say the same again: after the first of the
/// repeated units, or at its own start if that was typed.
fn cut_loop<'a>(before: &str, text: &'a str) -> &'a str {
    let before = last_bytes(before, LOOKBACK_BYTES);
    let line = format!("{before}{text}");
    let end = loop_in_words(&line, before.len()).into_iter().chain(loop_in_word(&line, before.len())).min();
    match end {
        Some(end) => &text[..end.saturating_sub(before.len()).min(text.len())],
        None => text,
    }
}

/// At most the last `n` bytes, from a character boundary on.
fn last_bytes(text: &str, n: usize) -> &str {
    let mut start = text.len().saturating_sub(n);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Where a run of words is repeated at once, the byte offset past its first occurrence. Repetitions that end
/// before `from` were typed, and are none of ours.
///
/// A unit of one word has to stand three times, and so has a program alone behind a pipe. What has no real word in
/// it may be repeated: the stars of a crontab line, `-v -v`, a division; but not `--`, and nothing six times.
fn loop_in_words(line: &str, from: usize) -> Option<usize> {
    let words: Vec<(usize, &str)> = split_blanks(line).collect();
    let end_of = |i: usize| words[i].0 + words[i].1.len();
    for start in 0..words.len() {
        for len in 1..=MAX_LOOP_WORDS.min((words.len() - start) / 2) {
            let unit = &words[start..start + len];
            let ends_options = len == 1 && unit[0].1 == "--";
            if len > 1 && !unit.iter().any(|(_, word)| is_real_word(word)) {
                continue;
            }
            let repeats = words[start..]
                .chunks_exact(len)
                .take_while(|chunk| chunk.iter().zip(unit).all(|(a, b)| a.1 == b.1))
                .count();
            let is_short = len == 1 || (len == 2 && unit.iter().any(|(_, word)| *word == "|"));
            let needed = match () {
                () if ends_options => 2,
                // A line of crontab has five stars.
                () if len == 1 && !is_real_word(unit[0].1) => 6,
                () if is_short => 3,
                () => 2,
            };
            if repeats >= needed && end_of(start + len * repeats - 1) > from {
                // A pipe at the end of the unit leads to what is cut.
                let last = if len > 1 && unit[len - 1].1 == "|" { len - 2 } else { len - 1 };
                return Some(end_of(start + last));
            }
        }
    }
    None
}

fn is_real_word(word: &str) -> bool {
    word.chars().count() >= 3 && word.contains(char::is_alphabetic)
}

/// Where a part of a word is repeated at once four times or more, as in `/a/b/a/b/a/b/a/b`, the byte offset
/// past its first occurrence. Identifiers and formats (`%s,%s,%s,%s`) repeat themselves rightly.
fn loop_in_word(line: &str, from: usize) -> Option<usize> {
    const REPEATS: usize = 4;
    let bytes = line.as_bytes();
    for start in 0..bytes.len() {
        for len in 3..=16 {
            let Some(run) = bytes.get(start..start + REPEATS * len) else { break };
            let unit = &run[..len];
            let ends_here = start + REPEATS * len > from && line.is_char_boundary(start + len);
            if ends_here
                && unit.iter().any(u8::is_ascii_alphabetic)
                && !unit.iter().any(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'%'))
                && unit.iter().any(|byte| byte != &unit[0])
                && run.chunks_exact(len).all(|chunk| chunk == unit)
            {
                return Some(start + len);
            }
        }
    }
    None
}

/// The words between blanks, with their byte offsets.
fn split_blanks(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(' ')
        .scan(0, |at, word| {
            let start = *at;
            *at += word.len() + 1;
            Some((start, word))
        })
        .filter(|(_, word)| !word.is_empty())
}

/// What of `text` stands between the cursor and the text after it: with `|` as the cursor in `cp a| b`, a model writes
/// `.txt b`, and only `.txt` is new. A model that goes on as if nothing stood there is believed for one word, where
/// a word fits.
fn up_to(text: &str, buffer: &Buffer) -> Option<String> {
    let after = buffer.after().trim_end();
    if after.is_empty() {
        return Some(text.to_owned());
    }
    let rest = after.trim_start();
    if rest.starts_with(text.trim()) {
        return None;
    }
    // In the midst of a word there is no place for another one.
    let in_word = after.starts_with(|c: char| c.is_alphanumeric()) && !buffer.at_word_start();
    let is_apart = after.starts_with(' ') || !in_word && buffer.at_word_start();
    let found = between(text, after, rest, is_apart)?;
    let found = found.trim_end();
    // Only a word that begins a word needs a blank before what follows.
    let is_word = buffer.at_word_start()
        && after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '/' | '.' | '~'));
    let blank = if is_word { " " } else { "" };
    (!found.trim().is_empty()).then(|| format!("{found}{blank}"))
}

fn between<'a>(text: &'a str, after: &str, rest: &str, is_apart: bool) -> Option<&'a str> {
    if let Some(at) = text.find(after).filter(|&at| at > 0) {
        return Some(&text[..at]);
    }
    if is_apart {
        let next = rest.split(' ').next().unwrap_or(rest);
        let mut at = 0;
        for word in text.split_inclusive(' ') {
            if at > 0 && word.trim_end() == next {
                return Some(&text[..at]);
            }
            at += word.len();
        }
    }
    let overlap = (1..=after.len().min(text.len()))
        .rev()
        .filter(|&len| after.is_char_boundary(len))
        .find(|&len| text.ends_with(&after[..len]) && (len == after.len() || len > 1));
    if let Some(overlap) = overlap {
        return Some(&text[..text.len() - overlap]);
    }
    let blanks = text.len() - text.trim_start().len();
    let word = crate::words::tokens(&text[blanks..]).first().map_or(0, crate::words::Token::end);
    (is_apart && word > 0).then(|| trim_end(&text[..blanks + word]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(before: &str, raw: &str, expected: &str) {
        assert_eq!(
            clean(raw, &Buffer::at_end(before)).as_deref().unwrap_or(""),
            expected,
            "{before:?} + {raw:?}"
        );
    }

    #[test]
    fn one_line_with_the_right_blanks() {
        check("git", " status \nls", " status");
        check("git ", " status", "status");
        check("git st", "atus\r\n", "atus");
        check("git status", "\nls", "");
        check("", " ls", "ls");
        check("ls my\\ ", " file", " file");
        check("docker run", " -it \\", " -it");
        check("echo a", "\\\\", "\\\\");
        check("ls", "   ", "");
    }

    #[test]
    fn a_description_gets_a_whole_command() {
        check("# list files", "\nls -l\n", "ls -l");
        check("# list files", "# list files", "");
        check("# list", "\n\n", "");
    }

    #[test]
    fn invisible_and_control_characters_are_refused() {
        for text in [
            "\x1b[31m",
            "\t",
            "a\u{7}",
            "\u{9b}1m",
            "\u{202e}x",
            "\u{200b}",
            "\u{e0041}",
            "\u{3164}",
            "\u{a0}",
            "\u{7f}",
        ] {
            assert!(!is_displayable(text), "{text:?}");
            assert_eq!(clean(&format!("a{text}b"), &Buffer::at_end("ls ")), None, "{text:?}");
        }
        assert!(!is_displayable("\u{301} b"), "an accent of what stands before it");
        assert!(is_displayable("grep 日本語 é \u{301} ~/Müller 🙂"));
    }

    #[test]
    fn loops_are_cut() {
        check("find . ", "-name foo -name foo -name foo", "-name foo");
        check("find . -name foo", " -name foo -name foo", "");
        check("find . -name foo ", "-type f -name foo -type f -name foo", "-type f");
        check("ls ", "a/b a/b a/b", "a/b");
        check("cd ", "src/a/src/a/src/a/src/a/", "src/a/");
        check("", "echo echo", "echo echo");
        check("", "cd ../../../../..", "cd ../../../../..");
        check("echo '", "* * * * * x'", "* * * * * x'");
        check("a b a b ", "c", "c");
        check("git format-patch x ", "-- -- -- --", "--");
        check("cat a | ", "sort -n | head -n 1 | sort -n | head -n 1", "sort -n | head -n 1");
        check("history | ", "grep x | grep x | cut", "grep x");
        check("cat a ", "| tac | tac", "| tac | tac");
        check("xargs -I % ", "ls % % % % % %", "ls %");
    }

    #[test]
    fn what_stands_after_the_cursor_is_not_repeated() {
        let check = |line: &str, cursor: usize, raw: &str, expected: &str| {
            assert_eq!(
                clean(raw, &Buffer::new(line, cursor)).as_deref().unwrap_or(""),
                expected,
                "{line:?} {raw:?}"
            );
        };
        check("cp a b", 4, ".txt b", ".txt");
        check("cp a.txt b", 4, ".txt", "");
        check("echo \"hi\"", 6, "hi\"", "");
        check("echo \"\"", 6, "hi\"", "hi");
        check("ls | wc", 3, "-l | w", "-l");
        // A word that begins where the next one does is kept apart from it.
        check("git origin main", 4, "push origin main", "push ");
        check("git origin main", 4, "pull --rebase", "pull ");
        check("git main", 3, " checkout main", " checkout");
        check("git ch main", 6, "eckout master", "eckout");
        check("git commit -m 'x'", 10, " --amend -m 'y'", " --amend");
        check("docker run web", 10, " -d --name a", " -d");
        check("cat a | sort", 5, ".txt | uniq", ".txt");
        // In the midst of a word only what leads to its end fits.
        check("echo", 2, "ho", "");
        check("git stus", 6, "atus", "at");
        check("git stus", 6, "ash pop", "");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_displayable(line in ".{0,20}", raw in "[ a-c日\\\\\n\r\t\u{200b}é]{0,40}", cursor in 0usize..30) {
            let buffer = Buffer::new(line, cursor);
            if let Some(text) = clean(&raw, &buffer) {
                prop_assert!(is_displayable(&text) && !text.trim().is_empty());
                prop_assert!(!text.ends_with(' ') || !buffer.after().is_empty());
            }
        }

        #[test]
        fn any_text_is_cleaned(before in "\\PC{0,20}", raw in ".{0,60}") {
            clean(&raw, &Buffer::at_end(before));
        }
    }
}
