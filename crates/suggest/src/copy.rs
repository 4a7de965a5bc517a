//! Suggestions that are copied: lines of the history, words of recent commands, names of the directory.
//!
//! What people type in a session they have mostly typed before, a few commands ago and in another order.
//! [`from_context`] lets every place in the recent commands vote that could go on as the typed line does:
//! the more words before the place agree with the words before the cursor, and the newer its command, the
//! more its vote weighs. It is prediction by partial matching, with words for symbols.

use std::collections::HashMap;

use crate::buffer::Buffer;
use crate::context::Context;
use crate::history::Index;
use crate::rank::{Candidate, Source};
use crate::words::{Token, is_closed, tokens};

/// How many recent commands may vote.
const MAX_COMMANDS: usize = 100;

// The constants of the vote were chosen on commands of published tutorials, cut at random; the results change
// little between half and twice these values.

/// What a vote gains with each word before it that agrees, up to [`MAX_ORDER`] of them.
const ORDER_GAIN: f32 = 4.0;
const MAX_ORDER: i32 = 4;

/// What is left of a vote for each command that was run since.
const DECAY: f32 = 0.85;

/// The weight of "a word not seen lately" against the votes when nothing of the word is typed, and what
/// each typed character that a vote agrees with divides it by.
const NOVELTY: f32 = 12.0;
const TYPED_GAIN: f32 = 5.0;

/// The vote of a part of a word (a path's component, an option's value) next to that of a whole word.
const PART_WEIGHT: f32 = 0.3;

/// What has a smaller share of the votes is right one time in four at most, and not worth the eye's attention.
const MIN_SHARE: f32 = 0.25;

/// The estimate for a line of the history: with nothing typed, with each typed character, and at most. It
/// is shared among the lines found.
const LINE_SCORE: f32 = 0.4;
const LINE_SCORE_PER_CHAR: f32 = 0.05;
const MAX_LINE_SCORE: f32 = 0.6;

/// How many lines that begin right are looked at for their end, and the estimate for those that end right as well.
const MAX_BETWEEN: usize = 200;
const BETWEEN_SCORE: f32 = 0.8;

/// The estimate for a name that begins with the typed word, shared among all that do.
const NAME_SCORE: f32 = 0.5;

/// Lines of the history that begin with the typed line; for an empty line, what followed the last command.
pub fn from_history(context: &Context, buffer: &Buffer, index: &Index, n: usize) -> Vec<Candidate> {
    let before = buffer.before();
    let found = match context.history.last() {
        Some(last) if before.is_empty() => index.next(&last.line, n),
        _ => index.matches(before, n),
    };
    let Some(best) = found.first().map(|found| found.score) else { return Vec::new() };
    let total: f32 = found.iter().map(|found| (found.score - best).exp2()).sum();
    let typed = before.chars().count() as f32;
    let score = (LINE_SCORE + LINE_SCORE_PER_CHAR * typed).min(MAX_LINE_SCORE) / total;
    let candidate = |line: &str, weight: f32| {
        Candidate::new(buffer, &line[before.len()..], Source::History, score * weight)
    };
    found.iter().map(|found| candidate(found.line, (found.score - best).exp2())).collect()
}

/// What lines of the history have between the text before the cursor and the text after it.
pub fn from_history_between(buffer: &Buffer, index: &Index, n: usize) -> Vec<Candidate> {
    let (before, after) = (buffer.before(), buffer.after().trim_end());
    if before.trim().is_empty() || after.trim().is_empty() {
        return Vec::new();
    }
    let length = before.len() + after.len();
    let mut found = index.matches(before, MAX_BETWEEN);
    found.retain(|found| found.line.len() > length && found.line.ends_with(after));
    found.truncate(n);
    let Some(best) = found.first().map(|found| found.score) else { return Vec::new() };
    let total: f32 = found.iter().map(|found| (found.score - best).exp2()).sum();
    let candidate = |found: &crate::history::Match<'_>| {
        let middle = &found.line[before.len()..found.line.len() - after.len()];
        let score = BETWEEN_SCORE * (found.score - best).exp2() / total;
        Candidate::new(buffer, middle, Source::History, score)
    };
    found.iter().map(candidate).collect()
}

/// Names that begin with the word at the cursor: commands where a command stands; names of the directory and
/// the branch where an argument stands. Names that would need quotes are left out.
pub fn from_names(context: &Context, buffer: &Buffer, n: usize) -> Vec<Candidate> {
    let typed = Typed::new(buffer, None);
    if typed.partial.is_empty() || typed.partial.starts_with('-') {
        return Vec::new();
    }
    let is_command = typed.earlier.last().is_none_or(Token::starts_command);
    let mut names: Vec<&str> = if is_command {
        context.commands.iter().map(String::as_str).collect()
    } else {
        let is_git = typed.earlier.first().is_some_and(|word| word.raw == "git");
        let branch = context.branch.as_deref().filter(|_| is_git);
        context.names.iter().map(String::as_str).chain(branch).collect()
    };
    names
        .retain(|name| name.len() > typed.partial.len() && name.starts_with(typed.partial) && is_plain(name));
    names.sort_unstable();
    names.dedup();
    let score = NAME_SCORE / names.len().max(1) as f32;
    let candidate =
        |name: &&str| Candidate::new(buffer, &name[typed.partial.len()..], Source::Context, score);
    names.iter().take(n).map(candidate).collect()
}

/// Whether a name means itself in every shell, without quotes.
fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@' | '/' | ','))
}

/// Words of recent commands that fit where the cursor stands, each with the rest of the line that it was
/// taken from if the words before it agree.
pub fn from_context(context: &Context, buffer: &Buffer, n: usize) -> Vec<Candidate> {
    let recent: Vec<&str> = context
        .history
        .iter()
        .rev()
        .filter(|entry| !entry.was_not_found())
        .take(MAX_COMMANDS)
        .map(|entry| entry.line.as_str())
        .collect();
    let typed = Typed::new(buffer, recent.first().copied());
    let mut votes = Votes::default();
    for (age, line) in recent.iter().enumerate() {
        let place = Place { line, before: recent.get(age + 1).copied(), weight: DECAY.powi(age as i32) };
        typed.collect(&place, &mut votes);
    }
    let novelty = NOVELTY * TYPED_GAIN.powi(-(typed.part().chars().count() as i32));
    let elected = votes.elect(novelty, n).into_iter();
    elected.map(|(suffix, score)| Candidate::new(buffer, suffix, Source::Context, score)).collect()
}

/// A recent command that may be copied from.
struct Place<'a> {
    line: &'a str,
    /// The command before it.
    before: Option<&'a str>,
    weight: f32,
}

/// The typed line as the votes see it.
struct Typed<'a> {
    /// The words and operators before the word at the cursor.
    earlier: Vec<Token<'a>>,
    /// The part of the word at the cursor that is typed.
    partial: &'a str,
    /// The command before the typed one.
    before: Option<&'a str>,
}

impl<'a> Typed<'a> {
    fn new(buffer: &'a Buffer, before: Option<&'a str>) -> Self {
        let mut earlier = tokens(buffer.before());
        let partial = match earlier.last() {
            // In open quotes the word goes on after a blank.
            Some(last) if last.end() == buffer.cursor() && !last.operator => last.raw,
            _ => "",
        };
        if !partial.is_empty() {
            earlier.pop();
        }
        Self { earlier, partial, before }
    }

    /// The last part of the partial word: what follows its last separator.
    fn part(&self) -> &'a str {
        let start = self.partial.rfind(is_separator).map_or(0, |at| at + 1);
        &self.partial[start..]
    }

    /// The votes of all words of a command that could be the word at the cursor.
    fn collect(&self, place: &Place<'_>, votes: &mut Votes) {
        let words = tokens(place.line);
        let part = self.part();
        for (at, word) in words.iter().enumerate() {
            if let Some(rest) = word.raw.strip_prefix(self.partial) {
                let order = self.agreement(&words[..at], place);
                if !rest.is_empty() && (order > 0 || !self.partial.is_empty()) {
                    // Words that agree before the place make it likely that the line goes on alike.
                    let end = if order > 0 { place.line.trim_end().len() } else { word.end() };
                    let suffix = &place.line[word.start + self.partial.len()..end];
                    votes.add(rest, suffix, place.weight * ORDER_GAIN.powi(order.min(MAX_ORDER)));
                }
            } else if !part.is_empty() && is_closed(word.raw) {
                for found in word.raw.split(is_separator) {
                    if let Some(rest) = found.strip_prefix(part).filter(|rest| !rest.is_empty()) {
                        votes.add(rest, rest, place.weight * PART_WEIGHT);
                    }
                }
            }
        }
    }

    /// How many words before the cursor agree with the last of `words`. That both begin a command there
    /// counts as one, and that both come after the same command as one more.
    fn agreement(&self, words: &[Token<'_>], place: &Place<'_>) -> i32 {
        let mut order = 0;
        let (mut a, mut b) = (self.earlier.iter().rev(), words.iter().rev());
        loop {
            match (a.next(), b.next()) {
                (Some(a), Some(b)) if a.raw == b.raw => order += 1,
                (None, None) => return order + 1 + i32::from(self.before == place.before),
                (a, b) => {
                    let begins = |token: Option<&Token<'_>>| token.is_none_or(Token::starts_command);
                    return order + i32::from(begins(a) && begins(b));
                }
            }
        }
    }
}

/// What parts a word: `--file=src/main.rs` has three parts.
fn is_separator(c: char) -> bool {
    matches!(c, '/' | '=' | ':' | ',' | '@' | '"' | '\'')
}

/// The votes for the rest of the word at the cursor.
#[derive(Default)]
struct Votes {
    by_rest: HashMap<String, Votee>,
    total: f32,
}

struct Votee {
    weight: f32,
    /// The weight of the heaviest vote, and the suffix it stands for.
    heaviest: f32,
    suffix: String,
}

impl Votes {
    fn add(&mut self, rest: &str, suffix: &str, weight: f32) {
        self.total += weight;
        match self.by_rest.get_mut(rest) {
            Some(votee) => {
                votee.weight += weight;
                if weight > votee.heaviest {
                    votee.heaviest = weight;
                    suffix.clone_into(&mut votee.suffix);
                }
            }
            None => {
                let votee = Votee { weight, heaviest: weight, suffix: suffix.to_owned() };
                self.by_rest.insert(rest.to_owned(), votee);
            }
        }
    }

    /// The best `n` suffixes with their shares of the votes, the unseen word's among them.
    fn elect(self, novelty: f32, n: usize) -> Vec<(String, f32)> {
        let total = self.total + novelty;
        let mut elected: Vec<_> = self.by_rest.into_values().map(|v| (v.suffix, v.weight / total)).collect();
        elected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        elected.retain(|&(_, score)| score >= MIN_SHARE);
        elected.truncate(n);
        elected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::HistoryLine;

    fn context(history: &[&str]) -> Context {
        Context {
            history: history.iter().map(|line| HistoryLine::new(*line)).collect(),
            ..Context::default()
        }
    }

    /// The best suffix copied from the context, or nothing.
    fn copied(history: &[&str], typed: &str) -> String {
        let candidates = from_context(&context(history), &Buffer::at_end(typed), 3);
        candidates.into_iter().next().map(|candidate| candidate.suffix).unwrap_or_default()
    }

    #[test]
    fn an_argument_typed_before() {
        let history = ["git checkout -b feature-x", "vim notes.txt", "git commit -m 'x'"];
        assert_eq!(copied(&history, "git push origin fe"), "ature-x");
        assert_eq!(copied(&history, "rm no"), "tes.txt");
        assert_eq!(copied(&history, "rm zz"), "");
    }

    #[test]
    fn the_rest_of_the_line_where_the_words_before_agree() {
        let history = ["docker run --rm -it alpine sh", "ls"];
        assert_eq!(copied(&history, "sudo docker run --rm "), "-it alpine sh");
        assert_eq!(copied(&history, "sudo docker run --rm -"), "it alpine sh");
    }

    #[test]
    fn quoted_words_are_whole() {
        let history = ["git commit -m 'fix the parser' --amend", "ls"];
        assert_eq!(copied(&history, "git tag -m 'fix the "), "parser' --amend");
        assert_eq!(copied(&history, "echo 'fix the "), "parser'");
    }

    #[test]
    fn a_component_of_a_path() {
        assert_eq!(copied(&["cat reports/quarterly/summary.csv"], "cd quart"), "erly");
        assert_eq!(copied(&["cat reports/quarterly/summary.csv"], "ls out/summ"), "ary.csv");
        assert_eq!(copied(&["cp 'a b/quarterly"], "cd quart"), "", "an open quote is not copied from");
    }

    #[test]
    fn what_was_done_after_the_same_command() {
        let history = ["git pull", "make", "git pull", "make", "ls", "git pull"];
        assert_eq!(copied(&history, ""), "make");
    }

    #[test]
    fn a_command_not_found_has_no_vote() {
        let mut context = context(&["ehco somewhere", "ls"]);
        context.history[0].status = Some(127);
        assert!(from_context(&context, &Buffer::at_end("cd somew"), 3).is_empty());
    }

    #[test]
    fn names_fit_their_place() {
        let context = Context {
            names: vec!["src".into(), "screen shots".into(), "Cargo.toml".into()],
            branch: Some("main".into()),
            commands: vec!["scp".into(), "cargo".into()],
            ..Context::default()
        };
        let names = |typed: &str| -> Vec<String> {
            let candidates = from_names(&context, &Buffer::at_end(typed), 9);
            candidates.into_iter().map(|candidate| candidate.line).collect()
        };
        assert_eq!(names("cd s"), ["cd src"]);
        assert_eq!(names("s"), ["scp"]);
        assert_eq!(names("ls | s"), ["ls | scp"]);
        assert_eq!(names("git merge m"), ["git merge main"]);
        assert!(names("cat m").is_empty());
        assert!(names("cat ").is_empty());
    }

    #[test]
    fn what_stood_between_stands_there_again() {
        let index =
            Index::from_lines(["git push origin main", "git push -u origin main", "git pull origin main"]);
        let found = |line: &str, cursor: usize| -> Vec<String> {
            let found = from_history_between(&Buffer::new(line, cursor), &index, 3);
            found.into_iter().map(|candidate| candidate.line).collect()
        };
        assert_eq!(
            found("git pu main", 6),
            ["git pull origin main", "git push -u origin main", "git push origin main"]
        );
        assert_eq!(found("git  main", 4).len(), 3);
        assert!(found("git push main", 0).is_empty() && found("git push", 8).is_empty());
        assert!(found("git pull origin main", 8).is_empty(), "nothing is missing");
    }

    #[test]
    fn lines_of_the_history_share_their_estimate() {
        let index = Index::from_lines(["git status", "git stash", "git status"]);
        let found = from_history(&Context::default(), &Buffer::at_end("git st"), &index, 3);
        assert_eq!(found[0].suffix, "atus");
        assert!(found[0].score > found[1].score && found[0].score + found[1].score <= MAX_LINE_SCORE);
        assert!(from_history(&Context::default(), &Buffer::at_end("git x"), &index, 3).is_empty());
    }
}
