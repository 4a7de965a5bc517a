//! Words and signs of PTX's text.

/// A word or a sign, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'t> {
    /// What it is.
    pub kind: Kind<'t>,
    /// Its first byte in the text.
    pub at: usize,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'t> {
    /// A name, a number, a directive or an instruction with all its parts.
    Word(&'t str),
    /// What stands between quotation marks.
    Text(&'t str),
    /// Any other character.
    Sign(u8),
}

/// Reads a text from some place on.
#[derive(Clone)]
pub struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    /// Reads from the byte `at` on.
    pub fn new(text: &'t str, at: usize) -> Self {
        Self { text, at }
    }

    /// The whole text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Where it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on behind the end of the line, as a directive of the assembler's line table ends there.
    pub fn skip_line(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    /// Goes on behind the brace that closes the one just read. Bodies are long and most are never run, so they are passed over
    /// without making tokens of them.
    pub fn skip_body(&mut self) {
        let bytes = self.text.as_bytes();
        let mut open = 1;
        while open > 0 && self.at < bytes.len() {
            match bytes[self.at] {
                b'{' => open += 1,
                b'}' => open -= 1,
                b'/' if bytes.get(self.at + 1) == Some(&b'/') => {
                    self.skip_line();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if byte.is_ascii_whitespace() {
                self.at += 1;
            } else if bytes[self.at..].starts_with(b"//") {
                self.skip_line();
            } else if bytes[self.at..].starts_with(b"/*") {
                let end = self.text[self.at..].find("*/").map_or(bytes.len(), |found| self.at + found + 2);
                self.at = end;
            } else {
                return;
            }
        }
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.skip_space();
        let bytes = self.text.as_bytes();
        let at = self.at;
        let first = *bytes.get(at)?;
        if first == b'"' {
            let end = self.text[at + 1..].find('"').map_or(bytes.len(), |found| at + 1 + found);
            self.at = (end + 1).min(bytes.len());
            return Some(Token { kind: Kind::Text(&self.text[at + 1..end]), at });
        }
        let in_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.');
        if !in_word(first) {
            self.at += 1;
            return Some(Token { kind: Kind::Sign(first), at });
        }
        while let Some(&byte) = bytes.get(self.at) {
            if in_word(byte) {
                self.at += 1;
            } else if bytes[self.at..].starts_with(b"::") {
                // As in `ld.global.L1::no_allocate`.
                self.at += 2;
            } else {
                break;
            }
        }
        Some(Token { kind: Kind::Word(&self.text[at..self.at]), at })
    }
}
