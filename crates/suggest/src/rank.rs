//! Which suggestion is shown.
//!
//! Every candidate carries an estimate of how likely its first word is right, and the best comes first. The
//! estimates of history and context are the constants of this module and of `copy`; the model's is
//! its own log-probability. A suggestion on the screen is only replaced for a reason: see [`rank`].

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::buffer::{Buffer, Kind};
use crate::clean::is_displayable;
use crate::context::Context;
use crate::copy;
use crate::history::Index;
use crate::next::may_be_next;
use crate::redact::{MARKER, holds_secret};
use crate::safety::{self, Verdict};

/// How much likelier a model's suggestion has to be than a line of the history to take its place. The
/// history is on the screen first, and what changes under the eyes has to be worth it.
const CLEARLY: f32 = 1.2;

/// What a model's candidate without a log-probability is taken for (a remote server need not send any):
/// about what a first word of the embedded model is worth, below a copy from the context.
const UNKNOWN: f32 = 0.3;

/// A suggestion that is less likely is mostly wrong: on cut lines and in sessions, of those between half of this and this one
/// in six is right, of those up to half as much again one in four.
const WORTH_SHOWING: f32 = 0.2;

/// The same where nothing is typed yet: what appears there was not even begun, and has to be right as a whole more often
/// than not.
const WORTH_SHOWING_UNBEGUN: f32 = 0.5;

/// And for a model's, whose estimates of whole lines are much too high: of five above one half on 123 commands of
/// published sessions, none was right.
const MODEL_WORTH_SHOWING_UNBEGUN: f32 = 0.8;

/// What is left of the estimate of a line that was run just now. Whoever wants that one again calls it back with a key;
/// what begins like it is mostly another form of it.
const REPEATED: f32 = 0.6;

/// Where a suggestion comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The language model.
    Model,
    /// A whole line of the history that begins with what is typed.
    History,
    /// Words of recent commands, names from the directory, or options and subcommands that exist.
    Context,
}

/// A suggestion.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The whole line if it is accepted.
    pub line: String,
    /// What is added at the cursor; for a description the whole command.
    pub suffix: String,
    /// The sum of the log-probabilities (natural) of the first word of the suffix, if a model wrote it.
    pub logprob: Option<f32>,
    /// Where it comes from.
    pub source: Source,
    /// The estimated probability that its first word is right, between 0 and 1.
    pub score: f32,
}

impl Candidate {
    /// A candidate that adds `suffix` at the cursor.
    pub fn new(buffer: &Buffer, suffix: impl Into<String>, source: Source, score: f32) -> Self {
        let suffix = suffix.into();
        let line = match buffer.kind() {
            Kind::Description(_) => suffix.clone(),
            Kind::Command => format!("{}{suffix}{}", buffer.before(), buffer.after()),
        };
        Self { line, suffix, logprob: None, source, score }
    }

    /// A candidate that a model wrote and [`crate::clean::clean`] passed. `logprob` is the sum of the
    /// log-probabilities of the first word.
    pub fn model(buffer: &Buffer, suffix: impl Into<String>, logprob: Option<f32>) -> Self {
        let score = logprob.map_or(UNKNOWN, |logprob| logprob.exp().min(1.0));
        Self { logprob, ..Self::new(buffer, suffix, Source::Model, score) }
    }

    /// The candidate as it is to be ranked where `last` was the last command.
    #[must_use]
    pub fn following(mut self, last: Option<&str>) -> Self {
        if last.is_some_and(|last| last.trim_end() == self.line.trim_end()) {
            self.score *= REPEATED;
        }
        self
    }

    /// Whether it is likely enough to appear unasked, while someone types that line or before. What was asked for, by a
    /// key or by a command, is shown however unlikely it is.
    pub fn is_worth_showing(&self, buffer: &Buffer) -> bool {
        if buffer.line().is_empty() {
            let enough = match self.source {
                Source::History => WORTH_SHOWING_UNBEGUN,
                Source::Model => MODEL_WORTH_SHOWING_UNBEGUN,
                // What is copied from there is only judged by its first word.
                Source::Context => return false,
            };
            self.score >= enough && may_be_next(&self.line)
        } else {
            // Whoever describes a command in several words has asked, and finds a bad answer better than none.
            let is_asked = matches!(buffer.kind(), Kind::Description(text) if text.contains(' '));
            is_asked || self.score >= WORTH_SHOWING
        }
    }
}

/// Puts the candidates in order, best first, each line once, at most `n`.
///
/// A line keeps its best score. A model's candidate that goes on where the best line stops, and is at least
/// as likely, is that line's better form and comes before it: what is on the screen only grows. Any other
/// candidate of a model has to be clearly likelier to pass one that was there at once.
pub fn rank(mut candidates: Vec<Candidate>, n: usize) -> Vec<Candidate> {
    candidates.sort_by(compare);
    let mut ranked: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        match ranked.iter_mut().find(|earlier| earlier.line == candidate.line) {
            None => ranked.push(candidate),
            // Its words may be likely for another reason, but to a person it is that line of the history.
            Some(earlier) if candidate.source == Source::History && earlier.source == Source::Context => {
                earlier.source = Source::History;
            }
            Some(_) => {}
        }
    }
    if let Some(position) = ranked.first().and_then(|best| ranked.iter().position(|c| extends(c, best))) {
        let extension = ranked.remove(position);
        ranked.insert(0, extension);
    }
    ranked.truncate(n);
    ranked
}

/// Whether a model's candidate is another one's line with more at its end.
fn extends(candidate: &Candidate, best: &Candidate) -> bool {
    candidate.source == Source::Model
        && best.source != Source::Model
        && candidate.score >= best.score
        && candidate.line.len() > best.line.len()
        && candidate.line.starts_with(&best.line)
}

/// Higher scores first; a model's score is weighed against the handicap of coming second.
fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    let weight = |c: &Candidate| if c.source == Source::Model { c.score / CLEARLY } else { c.score };
    weight(b).total_cmp(&weight(a))
}

/// The suggestions that need no model, best first: what the client answers a key stroke with at once.
/// None is given for a description; in the middle of a line, what lines of the history had there.
pub fn local(context: &Context, buffer: &Buffer, index: &Index, n: usize) -> Vec<Candidate> {
    if matches!(buffer.kind(), Kind::Description(_)) {
        return Vec::new();
    }
    let mut candidates;
    if buffer.after().is_empty() {
        candidates = copy::from_history(context, buffer, index, n);
        candidates.extend(copy::from_context(context, buffer, n));
        candidates.extend(copy::from_names(context, buffer, n));
    } else {
        candidates = copy::from_history_between(buffer, index, n);
    }
    candidates.retain(|candidate| {
        is_displayable(&candidate.line)
            && safety::check(&candidate.line) == Verdict::Plain
            && !holds_secret(&candidate.line)
            // The commands of the context were redacted before, and nobody wants to type that.
            && !candidate.suffix.contains(MARKER)
    });
    let last = context.history.last().map(|entry| entry.line.as_str());
    rank(candidates.into_iter().map(|candidate| candidate.following(last)).collect(), n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::HistoryLine;

    fn lines(candidates: Vec<Candidate>) -> Vec<String> {
        rank(candidates, 9).into_iter().map(|candidate| candidate.line).collect()
    }

    fn candidates(history: f32, model: &str, probability: f32) -> Vec<Candidate> {
        let buffer = Buffer::at_end("git ");
        vec![
            Candidate::model(&buffer, model, Some(probability.ln())),
            Candidate::new(&buffer, "status", Source::History, history),
        ]
    }

    #[test]
    fn the_model_has_to_be_clearly_better() {
        assert_eq!(lines(candidates(0.5, "push", 0.55)), ["git status", "git push"]);
        assert_eq!(lines(candidates(0.5, "push", 0.9)), ["git push", "git status"]);
    }

    #[test]
    fn the_last_command_is_seldom_typed_again() {
        let buffer = Buffer::at_end("git log ");
        let candidates = |last: Option<&str>| {
            let of =
                |suffix: &str, score| Candidate::new(&buffer, suffix, Source::History, score).following(last);
            vec![of("-3", 0.5), of("-p", 0.4)]
        };
        assert_eq!(lines(candidates(None)), ["git log -3", "git log -p"]);
        assert_eq!(lines(candidates(Some("git log -3"))), ["git log -p", "git log -3"]);
    }

    #[test]
    fn the_model_may_extend_the_history() {
        assert_eq!(lines(candidates(0.5, "status -s", 0.55)), ["git status -s", "git status"]);
        assert_eq!(lines(candidates(0.5, "status -s", 0.1)), ["git status", "git status -s"]);
    }

    #[test]
    fn secrets_and_catastrophes_are_not_suggested() {
        let history = ["export API_TOKEN=REDACTED", "deploy --token a1b2c3d4", "rm -rf ~", "rm -rf build"];
        let context = Context { history: history.map(HistoryLine::new).to_vec(), ..Context::default() };
        let local = |typed: &str| -> Vec<String> {
            let candidates = local(&context, &Buffer::at_end(typed), &Index::from_lines(history), 5);
            candidates.into_iter().map(|candidate| candidate.line).collect()
        };
        assert!(local("export A").is_empty() && local("deploy").is_empty());
        assert_eq!(local("rm -r"), ["rm -rf build"]);
    }

    #[test]
    fn a_line_of_the_history_is_called_that() {
        let buffer = Buffer::at_end("git ");
        let of = |source, score| Candidate::new(&buffer, "status", source, score);
        let ranked = rank(vec![of(Source::Context, 0.9), of(Source::History, 0.5)], 2);
        assert_eq!((ranked.len(), ranked[0].source, ranked[0].score), (1, Source::History, 0.9));
    }

    #[test]
    fn a_line_is_listed_once() {
        assert_eq!(lines(candidates(0.5, "status", 0.9)), ["git status"]);
        assert!(lines(Vec::new()).is_empty());
    }

    #[test]
    fn the_unlikely_is_not_shown_unasked() {
        let is_shown = |line: &str, suffix: &str, logprob| {
            let buffer = Buffer::at_end(line);
            Candidate::model(&buffer, suffix, logprob).is_worth_showing(&buffer)
        };
        assert!(is_shown("git ", "push", Some(-0.5)) && is_shown("git ", "push", None));
        assert!(!is_shown("git ", "push", Some(-5.0)));
        // A description is a question as soon as it is more than a word.
        assert!(is_shown("# list files", "ls", Some(-5.0)) && !is_shown("# list", "ls", Some(-5.0)));
        // Where nothing is typed more is wanted, and nothing that is dangerous.
        assert!(is_shown("", "git push", Some(-0.2)) && !is_shown("", "git push", Some(-0.5)));
        assert!(!is_shown("", "rm -r build", Some(-0.1)));
    }

    #[test]
    fn a_description_is_replaced_as_a_whole() {
        let candidate = Candidate::model(&Buffer::at_end("# list files"), "ls", None);
        assert_eq!((candidate.line.as_str(), candidate.suffix.as_str()), ("ls", "ls"));
    }
}
