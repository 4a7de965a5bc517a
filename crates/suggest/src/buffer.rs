//! The line being typed and where its cursor stands.

/// A line being typed. The cursor is a byte offset that always lies on a character boundary of the line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buffer {
    line: String,
    cursor: usize,
}

/// What the line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A command that is to be continued at the cursor.
    Command,
    /// A description of the wanted command (without its `#`, trimmed); the answer is the whole command.
    Description(&'a str),
}

/// A quote that stands open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// `'`, in which a backslash is an ordinary character.
    Single,
    /// `"`, in which a backslash escapes.
    Double,
}

impl Quote {
    /// The character that opens and closes it.
    pub fn sign(self) -> char {
        match self {
            Self::Single => '\'',
            Self::Double => '"',
        }
    }
}

impl Buffer {
    /// A buffer with its cursor at a byte offset, moved back to the nearest character boundary of the line.
    pub fn new(line: impl Into<String>, cursor: usize) -> Self {
        let line = line.into();
        let mut cursor = cursor.min(line.len());
        while !line.is_char_boundary(cursor) {
            cursor -= 1;
        }
        Self { line, cursor }
    }

    /// A buffer whose cursor is counted in characters, as zsh's `CURSOR` and fish's `commandline -C` count.
    pub fn at_char(line: impl Into<String>, cursor: usize) -> Self {
        let line = line.into();
        let cursor = line.char_indices().nth(cursor).map_or(line.len(), |(offset, _)| offset);
        Self { line, cursor }
    }

    /// A buffer with its cursor at the end of the line.
    pub fn at_end(line: impl Into<String>) -> Self {
        let line = line.into();
        Self { cursor: line.len(), line }
    }

    /// The whole line.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The cursor, in bytes from the start of the line.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// What stands before the cursor.
    pub fn before(&self) -> &str {
        &self.line[..self.cursor]
    }

    /// What stands after the cursor.
    pub fn after(&self) -> &str {
        &self.line[self.cursor..]
    }

    /// Whether the line is a command or describes one. A line of several lines is always a command: pasted
    /// scripts begin with comments, and those are not questions.
    pub fn kind(&self) -> Kind<'_> {
        match self.line.trim_start_matches([' ', '\t']).strip_prefix('#') {
            Some(text) if !self.line.contains('\n') => Kind::Description(text.trim_start_matches('#').trim()),
            _ => Kind::Command,
        }
    }

    /// The quote that is open at the cursor, if one is.
    pub fn quote(&self) -> Option<Quote> {
        open_quote(self.before())
    }

    /// Whether what is added at the cursor starts a new word: there is no text before it, or it ends in a
    /// blank that no backslash escapes.
    pub fn at_word_start(&self) -> bool {
        let before = self.before();
        let Some(rest) = before.strip_suffix([' ', '\t', '\n']) else { return before.is_empty() };
        let backslashes = rest.len() - rest.trim_end_matches('\\').len();
        backslashes % 2 == 0
    }
}

/// The quote that is open at the end of `text`.
pub(crate) fn open_quote(text: &str) -> Option<Quote> {
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some(Quote::Double), '\\') => {
                chars.next();
            }
            (None, '\'') => quote = Some(Quote::Single),
            (None, '"') => quote = Some(Quote::Double),
            (Some(Quote::Single), '\'') | (Some(Quote::Double), '"') => quote = None,
            _ => {}
        }
    }
    quote
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_inside_a_character_moves_back() {
        let buffer = Buffer::new("añb", 2);
        assert_eq!((buffer.before(), buffer.after()), ("a", "ñb"));
        assert_eq!(Buffer::new("ab", 99).before(), "ab");
    }

    #[test]
    fn characters_are_counted_as_shells_count_them() {
        let buffer = Buffer::at_char("grep 日本 x", 7);
        assert_eq!((buffer.before(), buffer.after()), ("grep 日本", " x"));
        assert_eq!(Buffer::at_char("日", 9).cursor(), 3);
    }

    #[test]
    fn a_hash_makes_a_description() {
        assert_eq!(Buffer::at_end("  #  list files ").kind(), Kind::Description("list files"));
        assert_eq!(Buffer::at_end("#").kind(), Kind::Description(""));
        assert_eq!(Buffer::at_end("ls # all").kind(), Kind::Command);
        assert_eq!(Buffer::at_end("# a script\nls").kind(), Kind::Command);
    }

    #[test]
    fn open_quotes_are_seen() {
        for (text, quote) in [
            ("echo 'a\\", Some(Quote::Single)),
            ("echo 'a\\'", None),
            ("echo \"it's", Some(Quote::Double)),
            ("echo \"a\\\"", Some(Quote::Double)),
            ("echo \\'", None),
            ("", None),
        ] {
            assert_eq!(Buffer::at_end(text).quote(), quote, "{text}");
        }
    }

    #[test]
    fn an_escaped_blank_does_not_end_a_word() {
        assert!(Buffer::at_end("ls ").at_word_start());
        assert!(Buffer::at_end("").at_word_start());
        assert!(!Buffer::at_end("ls my\\ ").at_word_start());
        assert!(!Buffer::at_end("ls").at_word_start());
    }

    proptest! {
        #[test]
        fn any_cursor_splits_the_line_in_two(line in ".*", cursor in 0usize..200) {
            for buffer in [Buffer::new(line.clone(), cursor), Buffer::at_char(line.clone(), cursor)] {
                prop_assert_eq!(format!("{}{}", buffer.before(), buffer.after()), line.clone());
                buffer.quote();
                buffer.kind();
            }
        }
    }
}
