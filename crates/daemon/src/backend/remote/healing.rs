//! A text held against what was typed of it already.
//!
//! A model continues whole words better than broken ones: its tokens for `git com` are not the ones with which `git commit`
//! begins. The engine goes back over the last word for that, with the bytes as a constraint. A server can't be told to,
//! so the prompt ends before the last word, and the server is left when it writes another one; where it tells which other tokens
//! were likely, one that agrees takes the place, and the server is asked to go on from there.

use super::stream::Piece;
use crate::backend::Token;

/// Longest answer that is taken, in bytes.
const MAX_TEXT: usize = 4096;

/// What is to happen after a piece.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// More is wanted.
    More,
    /// The line has ended.
    Done,
    /// This is another word.
    Astray,
}

/// Where the answer begins, and which tokens could stand there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fork {
    /// What was written before it, all of it typed.
    pub before: String,
    /// What is typed of the token here.
    pub typed: String,
    /// The likeliest tokens that agree with it, best first, with the logarithms of their probabilities among those.
    pub tokens: Vec<(String, f32)>,
}

impl Fork {
    fn new(before: &str, typed: &str, piece: &Piece) -> Self {
        let agrees = |token: &str| {
            let begins = token.strip_prefix(typed).is_some_and(|added| !added.contains('\n'));
            !token.is_empty() && (begins || typed.starts_with(token))
        };
        let mut tokens: Vec<(String, f32)> = piece
            .top
            .iter()
            .filter(|(token, logprob)| agrees(token) && logprob.is_finite())
            .cloned()
            .collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total = tokens.iter().map(|(_, logprob)| logprob.exp()).sum::<f32>().ln();
        for (_, logprob) in &mut tokens {
            *logprob = (*logprob - total).min(0.0);
        }
        Self { before: before.to_owned(), typed: typed.to_owned(), tokens }
    }

    /// What a token adds to what is typed; nothing where it is only a part of that.
    pub fn added<'a>(&self, token: &'a str) -> Option<&'a str> {
        token.strip_prefix(self.typed.as_str())
    }
}

/// A text as it comes.
#[derive(Debug, Clone, Default)]
pub struct Continuation {
    /// What is typed and not written yet.
    typed: String,
    /// What is written of what was typed.
    before: String,
    /// The answer so far.
    pub tokens: Vec<Token>,
    bytes: usize,
    /// The place where the answer began, or where the text went astray.
    pub fork: Option<Fork>,
}

impl Continuation {
    /// One that has to begin with what was typed.
    pub fn new(typed: &str) -> Self {
        Self { typed: typed.to_owned(), ..Self::default() }
    }

    /// One that has begun with this token.
    pub fn begun(token: Token) -> Self {
        Self { bytes: token.text.len(), tokens: vec![token], ..Self::default() }
    }

    /// Whether anything was typed that is not written yet.
    pub fn is_behind(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Whether there is anything to show.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes a piece.
    pub fn take(&mut self, piece: &Piece) -> Step {
        if self.typed.is_empty() {
            if self.fork.is_none() && self.tokens.is_empty() {
                self.fork = Some(Fork::new("", "", piece));
            }
            return self.add(&piece.text, piece.logprob);
        }
        if let Some(added) = piece.text.strip_prefix(self.typed.as_str()) {
            let fork = Fork::new(&self.before, &self.typed, piece);
            let among =
                fork.tokens.iter().find(|(token, _)| *token == piece.text).map(|(_, logprob)| *logprob);
            self.fork = Some(fork);
            self.typed.clear();
            return if added.is_empty() { Step::More } else { self.add(added, among.or(piece.logprob)) };
        }
        if let Some(left) = self.typed.strip_prefix(piece.text.as_str()) {
            self.before.push_str(&piece.text);
            self.typed = left.to_owned();
            return Step::More;
        }
        self.fork = Some(Fork::new(&self.before, &self.typed, piece));
        Step::Astray
    }

    fn add(&mut self, text: &str, logprob: Option<f32>) -> Step {
        let line = text.split('\n').next().unwrap_or_default();
        if !line.is_empty() {
            self.tokens.push(Token { text: line.to_owned(), logprob });
            self.bytes += line.len();
        }
        if line.len() < text.len() || self.bytes > MAX_TEXT { Step::Done } else { Step::More }
    }

    /// The answer so far.
    pub fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, top: &[(&str, f32)]) -> Piece {
        let logprob = top.iter().find(|(token, _)| *token == text).map(|(_, p)| p.ln());
        Piece {
            text: text.to_owned(),
            logprob,
            top: top.iter().map(|(token, p)| ((*token).to_owned(), p.ln())).collect(),
        }
    }

    /// What comes of pieces after that was typed.
    fn run(typed: &str, pieces: &[Piece]) -> (Step, Continuation) {
        let mut text = Continuation::new(typed);
        for piece in pieces {
            match text.take(piece) {
                Step::More => {}
                step => return (step, text),
            }
        }
        (Step::More, text)
    }

    #[test]
    fn what_was_typed_is_no_part_of_the_answer() {
        let pieces = [" com", "mit", " -m\nls"].map(|text| piece(text, &[]));
        let (step, text) = run(" comm", &pieces);
        assert_eq!((step, text.text().as_str()), (Step::Done, "it -m"));
        let (step, text) = run("", &pieces);
        assert_eq!((step, text.text().as_str()), (Step::Done, " commit -m"));
        let (step, text) = run(" com", &pieces[..1]);
        assert_eq!((step, text.text().as_str(), text.is_behind()), (Step::More, "", false));
    }

    #[test]
    fn another_word_is_seen_at_once_and_likely_ones_that_agree_are_told() {
        let top = [(" status", 0.5), (" commit", 0.2), (" c", 0.05), (" clone", 0.05)];
        let (step, text) = run(" com", &[piece(" status", &top)]);
        assert_eq!(step, Step::Astray);
        let fork = text.fork.unwrap();
        let tokens: Vec<_> =
            fork.tokens.iter().map(|(token, p)| (token.as_str(), (p.exp() * 100.0).round())).collect();
        assert_eq!(tokens, [(" commit", 80.0), (" c", 20.0)]);
        assert_eq!((fork.added(" commit"), fork.added(" c")), (Some("mit"), None));
        assert_eq!(run(" com", &[piece(" c", &[]), piece("lone", &[])]).0, Step::Astray);
    }

    #[test]
    fn a_token_is_judged_among_those_that_agree() {
        let top = [(" status", 0.7), (" commit", 0.1), (" com", 0.0125), (" command", 0.0125)];
        let (_, text) = run(" com", &[piece(" commit", &top)]);
        assert_eq!(text.text(), "mit");
        assert!((text.tokens[0].logprob.unwrap().exp() - 0.8).abs() < 1e-3);
        let (_, text) = run("", &[piece(" commit", &top)]);
        assert!((text.tokens[0].logprob.unwrap().exp() - 0.1).abs() < 1e-3, "nothing was typed");
        assert_eq!(text.fork.unwrap().tokens.len(), 4);
    }

    #[test]
    fn an_endless_line_ends() {
        let mut text = Continuation::new("");
        let long = piece(&"x".repeat(1000), &[]);
        assert!((0..10).any(|_| text.take(&long) == Step::Done));
    }
}
