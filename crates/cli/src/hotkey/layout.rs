//! Where a line ends on the screen, and what fits after it.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A prompt and a line, as they lie on a screen of so many columns.
#[derive(Debug, Clone)]
pub struct Line {
    /// What has to be drawn of them.
    text: String,
    /// Whether they are ours to wipe.
    ours: bool,
    /// Rows below the first one.
    rows: usize,
    /// The column after the last character.
    column: usize,
    width: usize,
}

impl Line {
    /// A prompt and a line that have to be drawn from the first column on. `None` where it can't be told how they
    /// would lie.
    pub fn after_prompt(prompt: &str, line: &str, width: usize) -> Option<Self> {
        let prompt = prompt.rsplit('\n').next().unwrap_or(prompt);
        let (drawn, seen) = visible(prompt)?;
        if line.chars().any(char::is_control) {
            return None;
        }
        let mut laid = Self { text: format!("{drawn}{line}"), ours: true, rows: 0, column: 0, width };
        laid.add(&seen);
        laid.add(line);
        Some(laid)
    }

    /// A line that is on the screen, with the cursor at its end in that column.
    pub fn at_column(column: usize, width: usize) -> Self {
        Self { text: String::new(), ours: false, rows: 0, column, width }
    }

    /// What has to be drawn.
    pub fn text(&self) -> String {
        if self.ours { format!("\r\x1b[J{}", self.text) } else { "\x1b[J".to_owned() }
    }

    /// Adds text at the end.
    pub fn add(&mut self, text: &str) {
        for c in text.chars() {
            let wide = c.width().unwrap_or(0);
            if self.column + wide > self.width {
                self.rows += 1;
                self.column = 0;
            }
            self.column += wide;
        }
    }

    /// As much of a ghost as fits before the right margin, which is never touched; `None` where that is nothing.
    pub fn clip(&self, ghost: &str) -> Option<String> {
        let room = self.width.saturating_sub(self.column + 1);
        if ghost.width() <= room {
            return (!ghost.is_empty()).then(|| ghost.to_owned());
        }
        let mut clipped = String::new();
        let mut used = 0;
        for c in ghost.chars() {
            // One column is for the sign that there is more.
            used += c.width().unwrap_or(0);
            if used + 1 > room {
                break;
            }
            clipped.push(c);
        }
        (!clipped.is_empty()).then(|| clipped + "…")
    }

    /// What brings the screen back to where it was.
    pub fn wipe(&self) -> String {
        match (self.ours, self.rows) {
            (false, _) => "\x1b[J".to_owned(),
            (true, 0) => "\r\x1b[J".to_owned(),
            (true, rows) => format!("\x1b[{rows}A\r\x1b[J"),
        }
    }
}

/// A prompt as it is drawn, and the part of it that takes room. What stands between \x01 and \x02 takes none, as
/// bash's `\[` and `\]` say.
fn visible(prompt: &str) -> Option<(String, String)> {
    let (mut drawn, mut seen) = (String::new(), String::new());
    let mut hidden = false;
    for c in prompt.chars() {
        match c {
            '\x01' => hidden = true,
            '\x02' => hidden = false,
            '\r' => {}
            c => {
                drawn.push(c);
                if !hidden {
                    // An escape sequence that is not marked: bash is mistaken about the width as well.
                    if c.is_control() {
                        return None;
                    }
                    seen.push(c);
                }
            }
        }
    }
    Some((drawn, seen))
}

/// The first word of a suggestion, with the blanks before it and the slash after it, and the rest.
pub fn split_word(suggestion: &str) -> (&str, &str) {
    let blanks = suggestion.len() - suggestion.trim_start().len();
    let word = &suggestion[blanks..];
    let end = word.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(word.len());
    let slash = usize::from(word[end..].starts_with('/'));
    suggestion.split_at(blanks + end + slash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_is_clipped_by_width() {
        let line = Line::at_column(4, 10);
        assert_eq!(line.clip("abcde").as_deref(), Some("abcde"));
        assert_eq!(line.clip("abcdef").as_deref(), Some("abcd…"));
        assert_eq!(line.clip("日本語").as_deref(), Some("日本…"));
        assert_eq!(line.clip("a日本語").as_deref(), Some("a日…"));
        assert_eq!(line.clip(""), None);
        assert_eq!(Line::at_column(9, 10).clip("abc"), None);
        assert_eq!(Line::at_column(10, 10).clip("abc"), None);
    }

    #[test]
    fn a_long_line_is_wiped_from_where_it_began() {
        let line = Line::after_prompt("> ", "0123456789abc", 10).unwrap();
        assert_eq!((line.rows, line.column), (1, 5));
        assert_eq!(line.wipe(), "\x1b[1A\r\x1b[J");
        // A wide character that does not fit the last column goes to the next row.
        let line = Line::after_prompt("> ", "1234567日", 10).unwrap();
        assert_eq!((line.rows, line.column), (1, 2));
        // A full row does not begin another.
        assert_eq!(Line::after_prompt("> ", "12345678", 10).unwrap().rows, 0);
    }

    #[test]
    fn colours_in_a_prompt_take_no_room() {
        let line = Line::after_prompt("upper\n\x01\x1b[1m\x02$ \x01\x1b[0m\x02", "ls", 10).unwrap();
        assert_eq!(line.column, 4);
        assert_eq!(line.text(), "\r\x1b[J\x1b[1m$ \x1b[0mls");
        assert!(Line::after_prompt("\x1b[1m$ ", "ls", 10).is_none());
        assert!(Line::after_prompt("$ ", "a\nb", 10).is_none());
    }

    #[test]
    fn words_are_split_off() {
        assert_eq!(split_word(" src/main.rs x"), (" src/", "main.rs x"));
        assert_eq!(split_word("main.rs x"), ("main.rs", " x"));
        assert_eq!(split_word("x"), ("x", ""));
        assert_eq!(split_word("日本 x"), ("日本", " x"));
    }
}
