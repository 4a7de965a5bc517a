//! What the model is shown: documents made from the corpora, in the proportions of [`Mix`].
//!
//! A document is what a prompt is, to its end: lines of a session, the last of them the one that would be typed; or a
//! description as a comment, and its command.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use nemoterm_suggest::examples::Examples;
use nemoterm_suggest::{Buffer, Context, HistoryLine, Prompt, PromptFormat};
use rand::Rng;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand::seq::IndexedRandom as _;

use crate::corpora::{Corpora, Example, Excluded, Session, Spec};
use crate::everyday;
use crate::examples;
use crate::renamed::with_other_names;
use crate::scene::Scene;
use crate::slips::with_slip;

/// Shares of the kinds of documents, by number; whatever their sum is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Mix {
    /// Share of single commands
    #[arg(long, default_value_t = 0.32)]
    pub commands: f64,
    /// Share of descriptions with their commands
    #[arg(long, default_value_t = 0.33)]
    pub described: f64,
    /// Share of sessions
    #[arg(long, default_value_t = 0.22)]
    pub sessions: f64,
    /// Share of lines made from tables of options
    #[arg(long, default_value_t = 0.13)]
    pub options: f64,
}

/// A text to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What is only read.
    pub prompt: String,
    /// What is learnt.
    pub answer: String,
}

/// How often the examples of a source are shown, next to one another: what is typed by many counts more than the
/// thousand services of two clouds.
fn source_weight(source: &str) -> f64 {
    match source {
        "awscli" | "azure-cli" => 0.3,
        "pages" => 0.5,
        "nl2bash" | "cheat" | "navi" => 1.5,
        "docker-cli-docs" | "py-docs" | "swcarpentry" => 2.5,
        everyday::NAME => 4.0,
        _ => 1.0,
    }
}

/// How often an example is shown. Pages that walk through one set-up name everything by variables of their own, and so do few
/// people at a prompt.
fn example_weight(example: &Example) -> f64 {
    let weight = source_weight(&example.source);
    if example.source == "pages" && (has_variable(&example.command) || example.command.len() > LONG) {
        weight * OF_A_SCRIPT
    } else {
        weight
    }
}

/// A line of a page that is longer, in bytes, was made for a script.
const LONG: usize = 140;
/// How often what was made for a script is shown, next to other lines.
const OF_A_SCRIPT: f64 = 0.2;

/// Whether a variable in capitals is used or exported.
fn has_variable(command: &str) -> bool {
    let is_own = |name: &str| {
        let name = name.trim_start_matches('{');
        let length = name.bytes().take_while(|b| b.is_ascii_uppercase() || *b == b'_').count();
        length >= 3 && !matches!(&name[..length], "HOME" | "PATH" | "PWD" | "USER")
    };
    command.starts_with("export ") || command.split('$').skip(1).any(is_own)
}

/// How often the sessions of a source are shown: a source with many counts more than one with few, but not by as much,
/// for it repeats itself. Our own are what people do, which documentation seldom shows.
fn session_weights(sessions: &[Session]) -> impl Iterator<Item = f64> {
    let mut counts: HashMap<&str, f64> = HashMap::new();
    for session in sessions {
        *counts.entry(&session.source).or_default() += 1.0;
    }
    sessions.iter().map(move |session| match session.source.as_str() {
        everyday::NAME => EVERYDAY_SESSION,
        source => counts[source].powf(-0.5),
    })
}

/// The weight of a session of our own. All together are about as often shown as those of 290 projects.
const EVERYDAY_SESSION: f64 = 1.0;

/// How many of the single commands have real names for the placeholders of manuals. Few: what stands for a name is told
/// by the context, which a single command does not have.
const REALISTIC: f64 = 0.1;

/// How many described commands are shown before a description at most, which is more than the daemon shows, so that they are read as what may
/// or may not help; and how often there are none.
const EXAMPLES: usize = 3;
const WITHOUT_EXAMPLES: f64 = 0.15;
/// How often the wanted command may be among them.
const SAME_AMONG_EXAMPLES: f64 = 0.15;

/// How many sessions end in a line that is typed again because it had a slip in it.
const WITH_SLIP: f64 = 0.15;

/// Commands that stand between others in every session.
const IN_BETWEEN: [&str; 12] = [
    "ls",
    "ls -la",
    "cd ..",
    "clear",
    "git status",
    "pwd",
    "ls -l",
    "history",
    "cd",
    "git diff",
    "make",
    "git log",
];

/// Makes documents.
pub struct Documents {
    corpora: Corpora,
    excluded: Excluded,
    kinds: WeightedIndex<f64>,
    examples: WeightedIndex<f64>,
    described: Vec<usize>,
    described_weights: WeightedIndex<f64>,
    /// What the daemon will have, too.
    known: Examples,
    /// Examples of documents that hold several.
    by_doc: Vec<Vec<usize>>,
    workflows: Vec<Vec<Vec<String>>>,
    /// Nothing where there are no sessions.
    sessions: Option<WeightedIndex<f64>>,
    /// Options by the path of their command.
    options: Vec<Vec<usize>>,
    option_weights: WeightedIndex<f64>,
    /// Examples by the words that begin them, one to three of them.
    by_words: HashMap<String, Vec<usize>>,
}

impl Documents {
    /// Prepares the corpora.
    pub fn new(corpora: Corpora, excluded: Excluded, mix: &Mix) -> Result<Self> {
        let kinds = WeightedIndex::new([mix.commands, mix.described, mix.sessions, mix.options])
            .context("the shares of the mix must be positive")?;
        let weights =
            |of: &[usize]| WeightedIndex::new(of.iter().map(|&i| example_weight(&corpora.examples[i])));
        let all: Vec<usize> = (0..corpora.examples.len()).collect();
        let described: Vec<usize> =
            all.iter().copied().filter(|&i| !corpora.examples[i].description.is_empty()).collect();
        let mut docs: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
        for (i, example) in corpora.examples.iter().enumerate() {
            // The sentences of nl2bash and our own stand in no order; pages of documentation are among the sessions.
            if !matches!(example.source.as_str(), "nl2bash" | "pages" | everyday::NAME) {
                docs.entry((&example.source, &example.doc)).or_default().push(i);
            }
        }
        let mut by_doc: Vec<Vec<usize>> = docs.into_values().filter(|doc| doc.len() >= 3).collect();
        by_doc.sort();
        let mut paths: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, spec) in corpora.specs.iter().enumerate() {
            paths.entry(&spec.path).or_default().push(i);
        }
        let mut options: Vec<Vec<usize>> = paths.into_values().collect();
        options.sort();
        let mut by_words: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, example) in corpora.examples.iter().enumerate() {
            if example.command.len() <= LONG && !example.command.contains(['|', ';', '&', '<', '(']) {
                for count in 1..=3 {
                    if let Some(path) = first_words(&example.command, count) {
                        by_words.entry(path.to_owned()).or_default().push(i);
                    }
                }
            }
        }
        // A command that the examples know is one that people use.
        let mut known: HashMap<&str, f64> = HashMap::new();
        for example in &corpora.examples {
            *known.entry(program(&example.command)).or_default() += 1.0;
        }
        let weight = |path: &Vec<usize>| {
            let count = known.get(program(&corpora.specs[path[0]].path)).copied().unwrap_or(0.0);
            (0.2 + count).sqrt() * (path.len() as f64).sqrt()
        };
        Ok(Self {
            known: Examples::new(examples::text(&corpora)),
            examples: weights(&all)?,
            described_weights: weights(&described)?,
            sessions: WeightedIndex::new(session_weights(&corpora.sessions)).ok(),
            option_weights: WeightedIndex::new(options.iter().map(weight))?,
            workflows: workflows(include_str!("../data/sessions.txt")),
            corpora,
            excluded,
            kinds,
            described,
            by_doc,
            options,
            by_words,
        })
    }

    /// What the documents are made of.
    pub fn corpora(&self) -> &Corpora {
        &self.corpora
    }

    /// The described commands that go before a description.
    pub fn known(&self) -> &Examples {
        &self.known
    }

    /// What none of them holds.
    pub fn excluded(&self) -> &Excluded {
        &self.excluded
    }

    /// A document. None of its lines and descriptions is excluded.
    pub fn document(&self, rng: &mut impl Rng) -> Document {
        loop {
            let document = match self.kinds.sample(rng) {
                0 => self.command(rng),
                1 => self.described(rng),
                2 => self.session(rng),
                _ => self.option(rng),
            };
            let description = document.prompt.lines().last().and_then(|line| line.strip_prefix("# "));
            let is_excluded = description.is_some_and(|text| self.excluded.description(text))
                || document.answer.lines().any(|line| self.excluded.command(line));
            if !is_excluded && !document.answer.trim().is_empty() {
                return document;
            }
        }
    }

    fn command(&self, rng: &mut impl Rng) -> Document {
        let example = &self.corpora.examples[self.examples.sample(rng)];
        Document {
            prompt: String::new(),
            answer: realistic(&example.command, REALISTIC, &mut Scene::default(), rng),
        }
    }

    fn described(&self, rng: &mut impl Rng) -> Document {
        let example = &self.corpora.examples[self.described[self.described_weights.sample(rng)]];
        let (description, command) = if rng.random_bool(0.6) {
            with_other_names(&example.description, &example.command, rng)
        } else {
            (example.description.clone(), example.command.clone())
        };
        self.after_examples(&[], &as_typed(&description, rng), &command, rng)
    }

    /// A description and its command after what is like it. Mostly the same command is not among that, as where somebody asks for what
    /// nobody has described yet; but where it is, it is to be used.
    fn after_examples(
        &self,
        before: &[String],
        description: &str,
        command: &str,
        rng: &mut impl Rng,
    ) -> Document {
        let count = if rng.random_bool(WITHOUT_EXAMPLES) { 0 } else { rng.random_range(1..=EXAMPLES) };
        let may_be_the_same = rng.random_bool(SAME_AMONG_EXAMPLES);
        let admits = |command_of_example: &str| may_be_the_same || command_of_example != command;
        let examples = self.known.nearest(description, count, |example| admits(example.command));
        described(before, examples::about(&examples, description), description, command)
    }

    fn session(&self, rng: &mut impl Rng) -> Document {
        let mut scene = Scene::default();
        let mut lines = match rng.random_range(0..10) {
            0..6 => self.tutorial(rng),
            6..8 => self.manual(&mut scene, rng),
            _ => {
                let mut lines = Vec::new();
                for _ in 0..rng.random_range(1..4) {
                    lines.extend(self.workflow(&mut scene, rng));
                }
                lines
            }
        };
        let keep = rng.random_range(2..12);
        if lines.len() > keep {
            let first = rng.random_range(0..=lines.len() - keep);
            lines = lines[first..first + keep].to_vec();
        }
        let lines = interrupted(lines, rng);
        if rng.random_bool(0.08) {
            let example = &self.corpora.examples[self.described[self.described_weights.sample(rng)]];
            return self.after_examples(&lines, &as_typed(&example.description, rng), &example.command, rng);
        }
        if rng.random_bool(WITH_SLIP)
            && let Some((last, before)) = lines.split_last()
            && let Some(slip) = with_slip(last, rng)
        {
            let before: Vec<String> = before.iter().cloned().chain([slip]).collect();
            return line_after(&before, last);
        }
        Document { prompt: String::new(), answer: lines.join("\n") }
    }

    fn tutorial(&self, rng: &mut impl Rng) -> Vec<String> {
        let session = self.sessions.as_ref().map(|weights| &self.corpora.sessions[weights.sample(rng)]);
        session.map(|session| session.commands.clone()).unwrap_or_default()
    }

    /// Some examples of one page of a manual, in their order.
    fn manual(&self, scene: &mut Scene, rng: &mut impl Rng) -> Vec<String> {
        let Some(doc) = self.by_doc.choose(rng) else { return Vec::new() };
        let chosen = doc.iter().filter(|_| rng.random_bool(0.7)).collect::<Vec<_>>();
        chosen.into_iter().map(|&i| realistic(&self.corpora.examples[i].command, 0.5, scene, rng)).collect()
    }

    /// One of the sequences of `data/sessions.txt`, some of its lines left out.
    fn workflow(&self, scene: &mut Scene, rng: &mut impl Rng) -> Vec<String> {
        let Some(steps) = self.workflows.choose(rng) else { return Vec::new() };
        let steps = steps.iter().filter(|_| rng.random_bool(0.9)).collect::<Vec<_>>();
        // The numbered names of a workflow are its own.
        let mut own = std::mem::take(scene);
        own.forget_placeholders();
        let lines = steps
            .into_iter()
            .filter_map(|ways| {
                let way = ways.choose(rng)?;
                Some(own.fill(way, rng))
            })
            .collect();
        *scene = own;
        lines
    }

    /// What follows a command's path in one of the examples, with the blank before it.
    fn rest_of_an_example(&self, path: &str, rng: &mut impl Rng) -> Option<&str> {
        let &example = self.by_words.get(path)?.choose(rng)?;
        self.corpora.examples[example].command.get(path.len()..)
    }

    fn option(&self, rng: &mut impl Rng) -> Document {
        let path = &self.options[self.option_weights.sample(rng)];
        let mut scene = Scene::default();
        let count = rng.random_range(1..4).min(path.len());
        let chosen: Vec<&Spec> = path.choose_multiple(rng, count).map(|&i| &self.corpora.specs[i]).collect();
        let mut line = chosen[0].path.clone();
        for spec in &chosen {
            // One subcommand ends a line; what follows it belongs to another path.
            if !spec.is_option && (count > 1 || line.len() > chosen[0].path.len()) {
                continue;
            }
            line.push(' ');
            line.push_str(&spelled(spec, &mut scene, rng));
        }
        if chosen[0].is_option
            && rng.random_bool(IN_EXAMPLES)
            && let Some(rest) = self.rest_of_an_example(&chosen[0].path, rng)
        {
            line.push_str(rest);
        }
        let description = &chosen[0].description;
        if count == 1 && !description.is_empty() && description.len() < 120 && rng.random_bool(0.5) {
            return self.after_examples(&[], &as_typed(description, rng), &line, rng);
        }
        Document { prompt: String::new(), answer: line }
    }
}

/// How many of the lines made of options go on as a line that somebody wrote.
const IN_EXAMPLES: f64 = 0.6;

/// The first words of a line, where it has more of them.
fn first_words(line: &str, count: usize) -> Option<&str> {
    let (end, _) = line.match_indices(' ').nth(count - 1)?;
    Some(&line[..end])
}

/// The first word.
fn program(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// A description and its command, as the daemon writes them for the model.
pub fn described(
    before: &[String],
    examples: Vec<(String, String)>,
    description: &str,
    command: &str,
) -> Document {
    let prompt = prompt(before, examples, &format!("# {description}"));
    Document { prompt, answer: command.to_owned() }
}

/// A line and those before it, as the daemon writes them for the model.
pub fn line_after(before: &[String], line: &str) -> Document {
    Document { prompt: prompt(before, Vec::new(), ""), answer: line.to_owned() }
}

fn prompt(before: &[String], examples: Vec<(String, String)>, typed: &str) -> String {
    let context = Context {
        history: before.iter().map(|line| HistoryLine::new(line.clone())).collect(),
        examples,
        ..Context::default()
    };
    Prompt::new(&context, &Buffer::at_end(typed.to_owned()), &PromptFormat::default()).text
}

/// The command, with real names for placeholders in so many cases.
fn realistic(command: &str, share: f64, scene: &mut Scene, rng: &mut impl Rng) -> String {
    if rng.random_bool(share) { scene.without_placeholders(command, rng) } else { command.to_owned() }
}

/// A description as people write one: mostly without a capital or a full stop.
fn as_typed(description: &str, rng: &mut impl Rng) -> String {
    let mut text = description.trim_end_matches('.').replace('\n', " ");
    if text.is_char_boundary(1) && rng.random_bool(0.5) {
        text[..1].make_ascii_lowercase();
    }
    text
}

/// Commands run again, and those that stand between others everywhere.
fn interrupted(lines: Vec<String>, rng: &mut impl Rng) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(lines.len() + 4);
    for line in lines {
        out.push(line);
        if rng.random_bool(0.12)
            && let Some(between) = IN_BETWEEN.choose(rng)
        {
            out.push((*between).to_owned());
        }
        if rng.random_bool(0.15) && out.len() > 2 {
            let again = out[rng.random_range(0..out.len() - 1)].clone();
            out.push(again);
        }
    }
    out
}

/// An option as it is typed, with something for its argument.
fn spelled(spec: &Spec, scene: &mut Scene, rng: &mut impl Rng) -> String {
    let names: Vec<&str> = spec.names.split(',').filter(|name| !name.is_empty()).collect();
    let name = names.choose(rng).copied().unwrap_or_default();
    let Some(argument) = spec.arguments.split_whitespace().next() else { return name.to_owned() };
    let kind = argument.trim_matches(['<', '>', '[', ']', '.']).to_lowercase();
    let slot = match kind.as_str() {
        kind if kind.contains("dir") => "{dir}",
        kind if kind.contains("file") || kind.contains("path") => "{file}",
        kind if kind.contains("branch") => "{branch}",
        kind if kind.contains("port") => "{port}",
        kind if kind.contains("host") => "{host}",
        kind if kind.contains("user") => "{user}",
        kind if kind.contains("url") => "{url}",
        kind if kind.contains("image") => "{image}",
        kind if kind.contains("num") || kind.contains("count") || kind.contains("int") => "{number}",
        _ => "{word}",
    };
    let value = scene.fill(slot, rng);
    if name.is_empty() { value } else { format!("{name} {value}") }
}

/// Workflows, each a list of steps, each a list of ways to take it.
fn workflows(text: &str) -> Vec<Vec<Vec<String>>> {
    let mut all = vec![Vec::<Vec<String>>::new()];
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let current = all.len() - 1;
        match line.strip_prefix('|') {
            _ if line.trim().is_empty() => all.push(Vec::new()),
            Some(other) => {
                if let Some(ways) = all[current].last_mut() {
                    ways.push(other.to_owned());
                }
            }
            None => all[current].push(vec![line.to_owned()]),
        }
    }
    all.retain(|workflow| !workflow.is_empty());
    all
}

/// How many examples, for the report.
pub fn described_count(examples: &[Example]) -> usize {
    examples.iter().filter(|example| !example.description.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn documents(mix: Mix) -> Documents {
        let example = |command: &str, description: &str| Example {
            command: command.to_owned(),
            doc: "page".to_owned(),
            description: description.to_owned(),
            source: "tldr".to_owned(),
        };
        let corpora = Corpora {
            examples: vec![
                example("cat path/to/file.txt", "Print path/to/file.txt."),
                example("wc -l path/to/file.txt", "Count lines"),
                example("rm path/to/file.txt", ""),
                example("git commit --amend --no-edit", ""),
            ],
            specs: vec![Spec {
                path: "git commit".to_owned(),
                is_option: true,
                names: "-F,--file".to_owned(),
                arguments: "<file>".to_owned(),
                description: "Take the message from a file".to_owned(),
            }],
            sessions: vec![Session {
                source: "lessons".to_owned(),
                commands: vec!["ls".to_owned(), "pwd".to_owned()],
            }],
        };
        Documents::new(corpora, Excluded::default(), &mix).unwrap()
    }

    #[test]
    fn descriptions_are_prompts_and_commands_answers() {
        let documents = documents(Mix { commands: 0.0, described: 1.0, sessions: 0.0, options: 0.0 });
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20 {
            let Document { prompt, answer } = documents.document(&mut rng);
            assert!(prompt.starts_with("# ") && prompt.ends_with('\n'), "{prompt:?}");
            assert!(answer.starts_with("cat ") || answer.starts_with("wc "), "{answer}");
        }
    }

    #[test]
    fn sessions_have_several_lines() {
        let documents = documents(Mix { commands: 0.0, described: 0.0, sessions: 1.0, options: 0.0 });
        let mut rng = StdRng::seed_from_u64(1);
        let several = (0..50).filter(|_| documents.document(&mut rng).answer.contains('\n')).count();
        assert!(several > 30, "{several}");
    }

    #[test]
    fn options_have_arguments() {
        let documents = documents(Mix { commands: 0.0, described: 0.0, sessions: 0.0, options: 1.0 });
        let mut rng = StdRng::seed_from_u64(1);
        let lines: Vec<String> = (0..40).map(|_| documents.document(&mut rng).answer).collect();
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(line.starts_with("git commit -") && words.len() >= 4, "{line}");
            assert!(words.len() == 4 || line.ends_with(" --amend --no-edit"), "{line}");
        }
        assert!(lines.iter().any(|line| line.ends_with("--amend --no-edit")), "none goes on as an example");
        assert!(lines.iter().any(|line| line.split(' ').count() == 4), "all of them do");
    }

    #[test]
    fn what_names_its_own_variables_was_made_for_a_script() {
        for line in ["gcloud config set project $PROJECT_ID", "echo \"${TOKEN}\"", "export A=1"] {
            assert!(has_variable(line), "{line}");
        }
        for line in ["cd $HOME/src", "awk '{print $1}'", "echo $x $1", "kill $$"] {
            assert!(!has_variable(line), "{line}");
        }
    }
}
