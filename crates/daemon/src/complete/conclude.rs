//! From what a model wrote to the suggestions a person may see.

use nemoterm_engine::Finish;
use nemoterm_protocol::{Alternative, Source};
use nemoterm_suggest::{
    buffer::Kind,
    clean, consensus, foreign,
    lines::{Rest, first_word},
    placeholders::before_placeholder,
    rank::{self, Candidate},
    redact, safety, specs,
};

use super::{Known, Plan, Ranked, is_specified};
use crate::{
    backend::{Text, Written},
    confidence, models,
};

/// How many ways to go on are taken from lines of others.
const KNOWN_LINES: usize = 3;

/// A candidate, and the log-probability of all of it.
type Rated = (Candidate, Option<f32>);

impl Plan {
    /// Makes the alternatives a person may see from what the model wrote.
    pub fn conclude(&self, written: &Written) -> Vec<Alternative> {
        let alternative = |Ranked { candidate, logprob }| Alternative {
            line: candidate.line,
            suffix: candidate.suffix,
            logprob,
            source: match candidate.source {
                rank::Source::Model => Source::Model,
                rank::Source::History => Source::History,
                rank::Source::Context => Source::Context,
            },
        };
        self.ranked(written).into_iter().map(alternative).collect()
    }

    /// The same, with the estimates by which they are ranked.
    pub fn ranked(&self, written: &Written) -> Vec<Ranked> {
        let rated: Vec<Rated> = match self.buffer.kind() {
            Kind::Command => {
                let texts = written.texts.iter().enumerate();
                texts.filter_map(|(number, text)| self.line(text, number == 0)).collect()
            }
            Kind::Description(description) => self.commands(description, written),
        };
        let logprobs: Vec<(String, Option<f32>)> =
            rated.iter().map(|(candidate, logprob)| (candidate.suffix.clone(), *logprob)).collect();
        let mut candidates = self.local.clone();
        candidates.extend(rated.into_iter().map(|(candidate, _)| candidate));
        if written.is_small && is_specified(&self.buffer) {
            let known = models::lines().map(|lines| lines.after(self.buffer.before(), KNOWN_LINES));
            self.add_known(known.unwrap_or_default(), &mut candidates);
        }
        if is_specified(&self.buffer) {
            specs::weigh(models::specs(), &self.buffer, &mut candidates);
        }
        candidates.retain(|candidate| {
            clean::is_displayable(&candidate.line)
                && safety::check(&candidate.line) == safety::Verdict::Plain
                && (candidate.is_worth_showing(&self.buffer) || !self.unasked)
        });
        let ranked = |candidate: Candidate| {
            let rated = logprobs.iter().find(|(suffix, _)| *suffix == candidate.suffix);
            // What was looked up has only the estimate by which it is ranked.
            let looked_up = || (candidate.source == rank::Source::Model).then(|| candidate.score.ln());
            Ranked { logprob: rated.map_or_else(looked_up, |(_, logprob)| *logprob), candidate }
        };
        rank::rank(candidates, self.wanted).into_iter().map(ranked).collect()
    }

    /// What a text adds to the typed line.
    fn line(&self, text: &Text, is_best: bool) -> Option<Rated> {
        if self.unasked && self.buffer.line().is_empty() {
            return Some((self.next_line(text)?, None));
        }
        let part = if self.unasked {
            confidence::likely(self.buffer.before(), text)
        } else {
            confidence::whole(text)
        };
        if !is_best && part.text.len() < first_word(&text.text).len() {
            // So much of a word is likely because the best one begins with it, too.
            return None;
        }
        let mut suffix = clean::clean(part.text, &self.buffer)?;
        let is_broken_off = text.finish != Finish::Stop && part.text == confidence::whole(text).text;
        if is_broken_off && self.buffer.after().is_empty() {
            suffix.push_str(self.rest_of_a_known_line(&suffix));
        }
        suffix.truncate(self.own_part(&suffix).len());
        if suffix.trim().is_empty() {
            return None;
        }
        let logprob = confidence::logprob(text, suffix.len());
        let candidate = Candidate::model(&self.buffer, suffix, part.logprob);
        Some((candidate.following(self.last.as_deref()), logprob))
    }

    /// What a model or somebody else may add to the typed line: nothing that deletes, no name that stands nowhere here, and, where nobody
    /// has asked, none of the words that manuals have in the place of one.
    fn own_part<'a>(&self, suffix: &'a str) -> &'a str {
        let typed = self.buffer.before();
        let context = &self.context;
        let is_known = |name: &str| {
            let mut seen =
                context.history.iter().map(|entry| &entry.line).chain(&context.names).chain(&context.branch);
            self.buffer.after().contains(name) || seen.any(|text| text.contains(name))
        };
        let own = foreign::before_foreign(typed, safety::before_deletion(typed, suffix), is_known);
        if self.unasked { before_placeholder(own, is_known) } else { own }
    }

    /// Adds how lines of others go on, each before what the model goes on with after the same word, and as likely.
    fn add_known(&self, known: Vec<Rest>, candidates: &mut Vec<Candidate>) {
        let before = self.buffer.before();
        for rest in known.into_iter().rev() {
            let shown = if self.unasked { &rest.suffix[..rest.likely] } else { &rest.suffix };
            let Some(mut suffix) = clean::clean(shown, &self.buffer) else { continue };
            suffix.truncate(self.own_part(&suffix).len());
            if suffix.trim().is_empty() {
                continue;
            }
            let is_same = |candidate: &&Candidate| {
                candidate.source == rank::Source::Model
                    && first_word(&candidate.suffix) == first_word(&suffix)
            };
            let same = candidates.iter().filter(is_same).map(|candidate| candidate.score).reduce(f32::max);
            // With what was run before, the model knows better how to go on than those who ran something else.
            let line = format!("{before}{suffix}");
            let program = first_word(&line);
            let is_continued = self.context.history.iter().any(|entry| first_word(&entry.line) == program);
            if is_continued && same.is_some() {
                continue;
            }
            let score = same.map_or(rest.share, |same| same.max(rest.share));
            let known = Candidate::new(&self.buffer, suffix, rank::Source::Model, score);
            candidates.insert(self.local.len(), known.following(self.last.as_deref()));
        }
    }

    /// The commands that do what is described, the best first. Half a command is none.
    fn commands(&self, description: &str, written: &Written) -> Vec<Rated> {
        let mut commands: Vec<Rated> = Vec::new();
        let mut least = 1.0;
        for text in &written.texts {
            let part = confidence::whole(text);
            let Some(suffix) = clean::clean(part.text, &self.buffer) else { continue };
            let logprob = confidence::logprob(text, suffix.len());
            let mut candidate =
                Candidate::model(&self.buffer, suffix, part.logprob).following(self.last.as_deref());
            // Others have had a vote on the order of the texts, of which their probabilities tell nothing.
            candidate.score = candidate.score.min(least);
            least = candidate.score;
            commands.push((candidate, logprob));
        }
        if let (Some((first, _)), Known::Described { near, .. }) = (commands.first(), &self.generate.known)
            && written.is_small
            && let Some(agreed) = clean::clean(
                consensus::agreed(description, &first.suffix, is_program(&first.suffix), near),
                &self.buffer,
            )
            && agreed != first.suffix
        {
            let agreed =
                Candidate { score: first.score, ..Candidate::model(&self.buffer, agreed, first.logprob) };
            let estimate = agreed.score.ln();
            commands.insert(0, (agreed, Some(estimate)));
        }
        commands
    }

    /// How the newest line of the context goes on that begins with the typed one and this suffix. A text that was broken off because
    /// it had become long is mostly a copy of one.
    fn rest_of_a_known_line(&self, suffix: &str) -> &str {
        let lines = self.context.history.iter().rev().map(|entry| entry.line.trim_end());
        let mut rests =
            lines.filter_map(|line| line.strip_prefix(self.buffer.before())?.strip_prefix(suffix));
        // What was redacted is nothing that anybody wants to type.
        rests.find(|rest| !rest.is_empty() && !rest.contains(redact::MARKER)).unwrap_or_default()
    }

    /// The line that a model expects where nothing is typed and nobody has asked: a whole one, which is likely as a
    /// whole, and not the last one again.
    fn next_line(&self, text: &Text) -> Option<Candidate> {
        let part = confidence::whole(text);
        let line = clean::clean(part.text, &self.buffer)?;
        let is_whole = text.finish == Finish::Stop && self.last.as_deref() != Some(line.as_str());
        let logprob = confidence::logprob(text, text.text.len())?;
        is_whole.then(|| Candidate::model(&self.buffer, line, Some(logprob)))
    }
}

/// Whether a command may call a program, as far as the table knows.
fn is_program(command: &str) -> bool {
    let exists = models::specs().and_then(|specs| specs.place("")?.exists(command));
    exists != Some(false)
}

#[cfg(test)]
mod tests {
    use nemoterm_protocol::Complete;

    use super::*;
    use crate::backend::Token;

    fn text(parts: &[(&str, f32)]) -> Text {
        let token =
            |(text, logprob): &(&str, f32)| Token { text: (*text).to_owned(), logprob: Some(*logprob) };
        Text {
            text: parts.iter().map(|(text, _)| *text).collect(),
            tokens: parts.iter().map(token).collect(),
            finish: Finish::Stop,
        }
    }

    fn request(line: &str) -> Complete {
        Complete { id: 1, line: line.to_owned(), cursor: line.len(), alternatives: 3, ..Complete::default() }
    }

    fn lines(request: &Complete, texts: Vec<Text>) -> Vec<String> {
        let plan = Plan::new(request).unwrap();
        let written = Written { texts, ..Written::default() };
        plan.conclude(&written).into_iter().map(|alternative| alternative.line).collect()
    }

    #[test]
    fn part_of_a_second_word_says_nothing_of_its_own() {
        let texts =
            || vec![text(&[("ker", -0.01), (" pull", -0.1)]), text(&[("ker", -0.005), ("-compose", -6.0)])];
        let unasked = Complete { unasked: true, ..request("zoc") };
        assert_eq!(lines(&unasked, texts()), ["zocker pull"]);
        assert_eq!(lines(&request("zoc"), texts()), ["zocker pull", "zocker-compose"]);
    }

    #[test]
    fn names_that_stand_nowhere_here_are_not_offered() {
        let texts = || vec![text(&[("logs -n 5", -0.1), (" 0246aa4d1448", -0.1)])];
        let mut request = request("docker ");
        assert_eq!(lines(&request, texts()), ["docker logs -n 5"]);
        let started = "docker stop 0246aa4d1448".to_owned();
        request.context.history = vec![nemoterm_protocol::HistoryLine { line: started, status: Some(0) }];
        assert_eq!(lines(&request, texts()), ["docker logs -n 5 0246aa4d1448"]);
    }

    #[test]
    fn lines_of_others_compete_with_those_of_a_small_model() {
        let lines = |history: &str, written: &[(&str, f32)]| -> Vec<String> {
            let mut request = Complete { unasked: history.is_empty(), ..request("kit pull ") };
            let line = nemoterm_protocol::HistoryLine { line: history.to_owned(), status: Some(0) };
            request.context.history = vec![line];
            let plan = Plan::new(&request).unwrap();
            let mut candidates: Vec<Candidate> = written
                .iter()
                .map(|(suffix, p)| Candidate::model(&plan.buffer, *suffix, Some(p.ln())))
                .collect();
            let known = |suffix: &str, share| Rest {
                suffix: suffix.to_owned(),
                share,
                likely: first_word(suffix).len(),
            };
            plan.add_known(
                vec![known("--all .", 0.5), known("--rm -f x", 0.3), known("rm x", 0.1)],
                &mut candidates,
            );
            rank::rank(candidates, 2).into_iter().map(|candidate| candidate.suffix).collect()
        };
        assert_eq!(lines("ls", &[("--one", 0.4)]), ["--all .", "--one"]);
        assert_eq!(lines("ls", &[("--one", 0.6)]), ["--one", "--all ."]);
        assert_eq!(lines("ls", &[("--all ..", 0.6)])[0], "--all .", "as somebody wrote it");
        assert_eq!(lines("kit push", &[("--all ..", 0.6)])[0], "--all ..", "as the session has it");
        assert_eq!(lines("", &[])[0], "--all", "unasked no more than is likely");
    }

    #[test]
    fn a_small_model_is_corrected_by_those_who_know() {
        let texts =
            || vec![text(&[("ln", -0.5), (" -s /srv/a/a/a", -0.1)]), text(&[("ln", -0.2), (" -s", -0.1)])];
        let plan = Plan::new(&request("# create a symbolic link /srv/a to /srv/b")).unwrap();
        let lines = |is_small| -> Vec<String> {
            let written = Written { texts: texts(), is_small, ..Written::default() };
            plan.conclude(&written).into_iter().map(|alternative| alternative.line).collect()
        };
        assert_eq!(lines(false), ["ln -s /srv/a/a/a", "ln -s"], "in the order in which they were written");
        let corrected = lines(true);
        let (first, rest) = corrected.split_first().unwrap();
        assert!(first.starts_with("ln ") && first.contains("/srv/a") && first.contains("/srv/b"), "{first}");
        assert_eq!(rest, ["ln -s /srv/a/a/a", "ln -s"]);
    }

    #[test]
    fn what_may_not_be_shown_is_not() {
        let hostile = text(&[(" a\u{1b}[31m", -0.1)]);
        let destructive = text(&[(" -rf /", -0.1)]);
        let fine = text(&[(" -i x", -0.1)]);
        assert_eq!(lines(&request("rm"), vec![hostile, destructive, fine]), ["rm -i x"]);
    }

    #[test]
    fn the_unlikely_appears_only_when_asked_for() {
        let unlikely = || vec![text(&[("chown", -6.0)])];
        assert_eq!(lines(&request("git "), unlikely()), ["git chown"]);
        assert!(lines(&Complete { unasked: true, ..request("git ") }, unlikely()).is_empty());
    }

    #[test]
    fn before_anything_is_typed_a_line_has_to_be_likely_and_harmless_as_a_whole() {
        let unasked = |written| {
            let mut request = Complete { unasked: true, ..request("") };
            let last = nemoterm_protocol::HistoryLine { line: "git add .".to_owned(), status: Some(0) };
            request.context.history = vec![last];
            lines(&request, vec![written])
        };
        assert_eq!(unasked(text(&[("git", -0.1), (" commit", -0.05)])), ["git commit"]);
        assert!(unasked(text(&[("git", -0.1), (" commit", -0.3)])).is_empty(), "unlikely");
        assert!(unasked(text(&[("git add", -0.1), (" .", -0.1)])).is_empty(), "the same again");
        assert!(unasked(text(&[("rm x", -0.1)])).is_empty(), "it deletes");
        let cut = Text { finish: Finish::Length, ..text(&[("git commit", -0.1)]) };
        assert!(unasked(cut).is_empty(), "half a line");
    }

    #[test]
    fn a_copy_that_became_too_long_goes_on_as_the_line_it_is_of() {
        let line = |line: &str| nemoterm_protocol::HistoryLine { line: line.to_owned(), status: Some(0) };
        let mut request = request("tar c");
        request.context.history =
            vec![line("tar czf a.tgz src docs"), line("tar czf b.tgz src docs "), line("ls")];
        let written = |finish| Text { finish, ..text(&[("zf", -0.1), (" b.tgz", -0.1), (" sr", -0.1)]) };
        assert_eq!(lines(&request, vec![written(Finish::Length)]), ["tar czf b.tgz src docs"]);
        assert_eq!(lines(&request, vec![written(Finish::Stop)]), ["tar czf b.tgz sr"]);
        request.cursor = 3;
        assert_eq!(lines(&request, vec![written(Finish::Length)]), ["tarzf c"], "something follows");
    }

    #[test]
    fn the_clients_own_suggestions_compete() {
        let mut request = request("git ");
        request.candidates = vec![nemoterm_protocol::Candidate {
            suffix: "status".to_owned(),
            source: Source::History,
            score: 0.9,
        }];
        assert_eq!(lines(&request, vec![text(&[("push", -3.0)])]), ["git status", "git push"]);
    }

    #[test]
    fn a_text_of_unknown_probability_is_shown() {
        let mut unknown = text(&[(" -m", 0.0)]);
        unknown.tokens[0].logprob = None;
        let request = Complete { unasked: true, ..request("git commit") };
        assert_eq!(lines(&request, vec![unknown]), ["git commit -m"]);
    }
}
