//! A shell line cut into words and operators, forgiving of lines that are not finished.
//!
//! It is no parser of a shell's grammar: an open quote or substitution runs to the end of the line, and the
//! text of `$(...)`, `${...}` and backquotes stays inside its word. That is what ranking, redaction and the
//! safety layer need of a line that is half typed.

use crate::buffer::{Quote, open_quote};

/// A word or an operator, with the place where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The text as written, quotes included.
    pub raw: &'a str,
    /// The byte offset in the line.
    pub start: usize,
    /// Whether it is an operator: `|`, `&&`, `;`, `>`, `<(`, a line break, and so on.
    pub operator: bool,
}

impl Token<'_> {
    /// The byte offset just past the token.
    pub fn end(&self) -> usize {
        self.start + self.raw.len()
    }

    /// Whether a new command begins after this token.
    pub fn starts_command(&self) -> bool {
        self.operator
            && matches!(self.raw, "|" | "||" | "&&" | "|&" | ";" | ";;" | "&" | "\n" | "(" | "<(" | ">(")
    }
}

/// Longer operators stand before those they begin with.
const OPERATORS: [&str; 22] = [
    "<<<", "&>>", "&&", "||", "|&", ";;", "&>", ">>", ">|", ">&", "<<", "<&", "<(", ">(", "|", ";", "&", ">",
    "<", "(", ")", "\n",
];

/// Cuts a line into its tokens.
pub(crate) fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at..];
        if matches!(c, ' ' | '\t' | '\r') {
            at += 1;
        } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            tokens.push(Token { raw: &rest[..operator.len()], start: at, operator: true });
            at += operator.len();
        } else {
            let len = word_len(rest);
            tokens.push(Token { raw: &rest[..len], start: at, operator: false });
            at += len;
        }
    }
    tokens
}

/// Where each word ends that a suffix adds to a typed line, in bytes of the suffix. What is quoted or substituted is in one word, and an
/// operator ends none: it leads to the next.
pub fn ends_of_words(typed: &str, suffix: &str) -> Vec<usize> {
    let line = format!("{typed}{suffix}");
    let words = tokens(&line).into_iter().filter(|token| !token.operator && token.end() > typed.len());
    words.map(|word| word.end() - typed.len()).collect()
}

/// The length in bytes of the word that `text` begins with.
fn word_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b' ' | b'\t' | b'\r' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' => break,
            _ => i = skip_unit(bytes, i),
        }
    }
    // Every stop above is at an ASCII byte, and every skip ends just past one or past a whole run.
    let mut len = i.clamp(1, bytes.len());
    while !text.is_char_boundary(len) {
        len += 1;
    }
    len
}

/// The index just past the unit that starts at `i`: a quoted text, a substitution, an escape or one byte.
fn skip_unit(bytes: &[u8], i: usize) -> usize {
    let next = bytes.get(i + 1).copied();
    let end = match (bytes[i], next) {
        (b'\\', _) => i + 2,
        (b'\'', _) => skip_to(bytes, i + 1, b'\'', false),
        (b'"', _) => skip_to(bytes, i + 1, b'"', true),
        (b'`', _) => skip_to(bytes, i + 1, b'`', true),
        (b'$', Some(b'\'')) => skip_to(bytes, i + 2, b'\'', true),
        (b'$', Some(b'(')) => skip_balanced(bytes, i + 2, b'(', b')'),
        (b'$', Some(b'{')) => skip_balanced(bytes, i + 2, b'{', b'}'),
        _ => i + 1,
    };
    end.min(bytes.len())
}

fn skip_to(bytes: &[u8], mut i: usize, close: u8, escapes: bool) -> usize {
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if escapes => i += 2,
            // A substitution in double quotes may hold quotes of its own.
            b'$' if close == b'"' && bytes.get(i + 1) == Some(&b'(') => {
                i = skip_balanced(bytes, i + 2, b'(', b')');
            }
            c if c == close => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// Iterative, so that a line of nothing but `$(` cannot exhaust the stack.
fn skip_balanced(bytes: &[u8], mut i: usize, open: u8, close: u8) -> usize {
    let mut depth = 1;
    let mut quote = 0;
    while i < bytes.len() && depth > 0 {
        let c = bytes[i];
        match c {
            b'\\' if quote != b'\'' => i += 1,
            b'\'' | b'"' if quote == 0 => quote = c,
            _ if c == quote => quote = 0,
            _ if quote != 0 => {}
            _ if c == open => depth += 1,
            _ if c == close => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// A word without its quotes and backslashes; variables and substitutions stay as they are written.
pub(crate) fn unquote(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut quote = None;
    let mut ansi = false;
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '$') if chars.peek() == Some(&'\'') => {
                chars.next();
                quote = Some(Quote::Single);
                ansi = true;
            }
            (Some(Quote::Single), '\\') if ansi => out.extend(ansi_escape(&mut chars)),
            (None | Some(Quote::Double), '\\') => out.extend(chars.next()),
            (None, '\'') => quote = Some(Quote::Single),
            (None, '"') => quote = Some(Quote::Double),
            (Some(Quote::Single), '\'') | (Some(Quote::Double), '"') => {
                quote = None;
                ansi = false;
            }
            _ => out.push(c),
        }
    }
    out
}

/// One escape of `$'...'`, after its backslash: `\x72`, `\162`, `\u0072`, `\n` and the like.
fn ansi_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    let (radix, most, mut value) = match chars.next()? {
        'x' => (16, 2, 0),
        'u' => (16, 4, 0),
        'U' => (16, 8, 0),
        digit @ '0'..='7' => (8, 2, digit.to_digit(8)?),
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'e' | 'E' => return Some('\x1b'),
        other => return Some(other),
    };
    for _ in 0..most {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
        chars.next();
        value = value * radix + digit;
    }
    char::from_u32(value)
}

/// Whether a command stands after this one that it runs.
pub(crate) fn is_wrapper(word: &str) -> bool {
    matches!(word, "sudo" | "doas" | "time" | "nohup")
}

/// Whether the word sets a variable.
pub(crate) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// The words of a line at which a command begins. One after `sudo` and its like counts, they themselves do too.
pub(crate) fn names_of_commands<'w>(words: &[Token<'w>]) -> impl Iterator<Item = Token<'w>> {
    let mut begins = true;
    let names: Vec<Token<'w>> = words
        .iter()
        .filter(|word| {
            let is_name = begins && !word.operator && !is_assignment(word.raw);
            begins = word.starts_command()
                || (begins && !word.operator && (is_wrapper(word.raw) || is_assignment(word.raw)));
            is_name
        })
        .copied()
        .collect();
    names.into_iter()
}

/// Whether the word is written to its end: no quote stands open in it.
pub(crate) fn is_closed(raw: &str) -> bool {
    open_quote(raw).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raws(line: &str) -> Vec<&str> {
        tokens(line).iter().map(|token| token.raw).collect()
    }

    #[test]
    fn words_and_operators() {
        assert_eq!(raws("a b|c && d>e;f"), ["a", "b", "|", "c", "&&", "d", ">", "e", ";", "f"]);
        assert_eq!(
            raws("echo 'a b' \"c $(d \"e\") f\" g\\ h"),
            ["echo", "'a b'", "\"c $(d \"e\") f\"", "g\\ h"]
        );
        assert_eq!(raws("x $(a; b (c)) ${d e}f `g h`"), ["x", "$(a; b (c))", "${d e}f", "`g h`"]);
        assert_eq!(raws("bash <(curl u)"), ["bash", "<(", "curl", "u", ")"]);
    }

    #[test]
    fn unfinished_lines_run_to_their_end() {
        assert_eq!(raws("echo 'a b"), ["echo", "'a b"]);
        assert_eq!(raws("echo $(a \\"), ["echo", "$(a \\"]);
        assert_eq!(raws("日本 $'\\x"), ["日本", "$'\\x"]);
    }

    #[test]
    fn quotes_are_removed() {
        for (raw, text) in [
            ("'a'\"b\"\\c", "abc"),
            ("$'\\x72\\155'", "rm"),
            ("\"$HOME\"", "$HOME"),
            ("'a\\b'", "a\\b"),
            ("\"a", "a"),
            ("$'\\U7FFFFFFF\\x'", "\0"),
        ] {
            assert_eq!(unquote(raw), text, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn tokens_cover_all_but_blanks(line in "[ a-c日$`'\"\\\\(){}|&;<>\n-]{0,40}") {
            let mut at = 0;
            for token in tokens(&line) {
                prop_assert!(line[at..token.start].chars().all(|c| matches!(c, ' ' | '\t' | '\r')));
                prop_assert!(!token.raw.is_empty());
                at = token.end();
                unquote(token.raw);
            }
            prop_assert!(line[at..].trim().is_empty());
        }
    }
}
