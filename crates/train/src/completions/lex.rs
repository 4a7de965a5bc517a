//! The words of a zsh function: as much of the shell's grammar as completion functions take.

use std::iter::Peekable;
use std::str::Chars;

/// A piece of a function's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word without its quotes; several where a brace expansion makes several of it. What is substituted is left out.
    Word(Vec<String>),
    /// `(`, of an array, a pattern, a function or a subshell.
    Open,
    Close,
    /// `;;`, `;|` or `;&`.
    CaseEnd,
    /// What else ends a command, or a line.
    Separator,
}

/// A brace expansion of more words than that is left as it is written.
const MOST_SPELLINGS: usize = 64;

/// The tokens of a text. Here-documents are taken for commands.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text.chars().peekable() };
    let mut tokens = Vec::new();
    while let Some(&next) = lexer.rest.peek() {
        match next {
            '#' => lexer.skip_line(),
            '\n' | '&' | '|' => {
                lexer.rest.next();
                tokens.push(Token::Separator);
            }
            ';' => {
                lexer.rest.next();
                let ends_case = lexer.rest.next_if(|c| matches!(c, ';' | '|' | '&')).is_some();
                tokens.push(if ends_case { Token::CaseEnd } else { Token::Separator });
            }
            '(' => {
                lexer.rest.next();
                if lexer.rest.peek() == Some(&'(') {
                    // Arithmetic, which holds no word of interest.
                    lexer.skip_balanced('(', ')');
                    tokens.push(Token::Separator);
                } else {
                    tokens.push(Token::Open);
                }
            }
            ')' => {
                lexer.rest.next();
                tokens.push(Token::Close);
            }
            c if c.is_whitespace() || matches!(c, '<' | '>') => {
                lexer.rest.next();
            }
            _ => tokens.push(Token::Word(lexer.word(false))),
        }
    }
    tokens
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Lexer<'_> {
    fn skip_line(&mut self) {
        while self.rest.next_if(|&c| c != '\n').is_some() {}
    }

    /// Goes behind what closes the parentheses, one of which is open already.
    fn skip_balanced(&mut self, open: char, close: char) {
        let mut depth = 1;
        while depth > 0 {
            match self.rest.next() {
                Some('\\') => drop(self.rest.next()),
                Some(c) if c == open => depth += 1,
                Some(c) if c == close => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// A word to its end; inside of a brace expansion, one of its members.
    fn word(&mut self, in_braces: bool) -> Vec<String> {
        let mut spellings = vec![String::new()];
        let push = |spellings: &mut Vec<String>, c: char| spellings.iter_mut().for_each(|word| word.push(c));
        while let Some(&c) = self.rest.peek() {
            let is_empty = spellings.iter().all(String::is_empty);
            match c {
                c if c.is_whitespace() || matches!(c, ';' | '&' | '|' | ')' | '<' | '>') => break,
                ',' | '}' if in_braces => break,
                '(' => {
                    // An array, or the parentheses of a function; elsewhere a pattern.
                    if is_empty || spellings.iter().all(|word| word.ends_with('=')) {
                        break;
                    }
                    let mut ahead = self.rest.clone();
                    ahead.next();
                    if ahead.next() == Some(')') {
                        break;
                    }
                    self.rest.next();
                    self.skip_balanced('(', ')');
                    continue;
                }
                _ => {}
            }
            self.rest.next();
            match c {
                '\\' => match self.rest.next() {
                    Some('\n') | None => {
                        if is_empty {
                            break;
                        }
                    }
                    Some(next) => push(&mut spellings, next),
                },
                '\'' => {
                    while let Some(c) = self.rest.next().filter(|&c| c != '\'') {
                        push(&mut spellings, c);
                    }
                }
                '"' => self.double_quoted(&mut spellings),
                '`' => while self.rest.next().is_some_and(|c| c != '`') {},
                '$' => self.substitution(),
                '{' => match self.braces() {
                    Some(members) if members.len() * spellings.len() <= MOST_SPELLINGS => {
                        spellings = spellings
                            .iter()
                            .flat_map(|word| members.iter().map(move |member| format!("{word}{member}")))
                            .collect();
                    }
                    _ => push(&mut spellings, '{'),
                },
                c => push(&mut spellings, c),
            }
        }
        spellings
    }

    fn double_quoted(&mut self, spellings: &mut [String]) {
        while let Some(c) = self.rest.next() {
            let c = match c {
                '"' => return,
                '$' => {
                    self.substitution();
                    continue;
                }
                '\\' => match self.rest.next() {
                    Some(c @ ('"' | '$' | '\\' | '`')) => c,
                    Some('\n') | None => continue,
                    Some(c) => {
                        spellings.iter_mut().for_each(|word| word.push('\\'));
                        c
                    }
                },
                c => c,
            };
            spellings.iter_mut().for_each(|word| word.push(c));
        }
    }

    /// Goes behind what a `$` begins. A quoted string keeps its quote, and is read as one.
    fn substitution(&mut self) {
        match self.rest.peek() {
            Some('{') => {
                self.rest.next();
                self.skip_balanced('{', '}');
            }
            Some('(') => {
                self.rest.next();
                self.skip_balanced('(', ')');
            }
            Some('\'' | '"') => {}
            _ => {
                self.rest.next_if(|c| matches!(c, '+' | '#' | '?' | '$' | '@' | '*' | '!'));
                while self.rest.next_if(|c| c.is_alphanumeric() || *c == '_').is_some() {}
                if self.rest.next_if_eq(&'[').is_some() {
                    self.skip_balanced('[', ']');
                }
            }
        }
    }

    /// The members of a brace expansion, one brace of which is read already; nothing, and nothing read, where it is none.
    fn braces(&mut self) -> Option<Vec<String>> {
        let before = self.rest.clone();
        let mut members = Vec::new();
        loop {
            members.extend(self.word(true));
            match self.rest.next() {
                Some(',') => {}
                Some('}') if members.len() > 1 => return Some(members),
                _ => {
                    self.rest = before;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with `/` between their spellings, and signs for the rest.
    fn told(text: &str) -> String {
        let told = |token: &Token| match token {
            Token::Word(spellings) => spellings.join("/"),
            Token::Open => "(".to_owned(),
            Token::Close => ")".to_owned(),
            Token::CaseEnd => ";;".to_owned(),
            Token::Separator => ";".to_owned(),
        };
        tokens(text).iter().map(told).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_lose_their_quotes_and_substitutions() {
        assert_eq!(told(r#"a 'b c'"d $x e"\ f"#), "a b cd  e f");
        assert_eq!(told("'it''s' \"a \\\"b\\\"\""), "its a \"b\"");
        assert_eq!(told("x${a:-{b}}y $(cmd (1)) z$w[1]v `w`"), "xy  zv ");
        assert_eq!(told("one \\\n  two # three\nfour"), "one  two ; four");
    }

    #[test]
    fn braces_make_several_words() {
        let spec = "'(-v --verbose)'{-v,--verbose}'[say more]'";
        assert_eq!(told(spec), "(-v --verbose)-v[say more]/(-v --verbose)--verbose[say more]");
        assert_eq!(told("{'-a','-b'} {a} { b,c; }"), "-a/-b {a} { b,c ; }");
    }

    #[test]
    fn what_is_no_word_is_told_apart() {
        assert_eq!(told("f() { x=( a b ) }"), "f ( ) { x= ( a b ) }");
        assert_eq!(told("case $x in (a|b) c ;; d) e;| esac"), "case  in ( a ; b ) c ;; d ) e ;; esac");
        assert_eq!(told("(( $#words > 2 )) && x=y *(.N)"), "; ; ; x=y *");
    }
}
