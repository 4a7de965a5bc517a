//! A corpus from documentation: `pages.tsv.xz`, commands with what the pages say that they do, and
//! `pages-sessions.jsonl.xz`, the commands of each page in their order.

mod commands;
mod describe;
mod files;
pub mod judged;
pub mod licence;
mod markdown;
mod rst;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::commands::Command;
use self::files::Page;
use self::judged::Judged;
use self::licence::Verdict;
use crate::corpora::{Corpora, Excluded, write_compressed};

/// What documentation is read, and where the corpus goes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of repositories, each in a folder OWNER+NAME with its licence
    #[arg(long)]
    repositories: PathBuf,
    /// Directory of the other corpora: they tell what programs there are, and what they hold is left out
    #[arg(long)]
    corpora: PathBuf,
    /// Hashes of what no text may hold, one a line
    #[arg(long)]
    exclude: Option<PathBuf>,
    /// Cases, as `nemoterm eval` reads them; commands that are nearly theirs are left out
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Where pages.tsv.xz and pages-sessions.jsonl.xz are written
    #[arg(long)]
    out: PathBuf,
}

/// The stem of the corpus' name.
const NAME: &str = "pages";
/// Rows of one repository, so that none is most of the corpus.
const MOST_ROWS: usize = 1500;
/// Commands of a session.
const FEWEST_COMMANDS: usize = 3;

/// A part of a page that may hold commands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Block(Block),
    /// A few words of code in a sentence.
    Inline(String),
    /// A few words of code with what they do: a description, or a sentence that leads to them and ends in `:`.
    Described {
        command: String,
        description: String,
    },
}

/// Lines of code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Block {
    /// In lower case; may be empty.
    language: String,
    lines: Vec<String>,
    before: Before,
}

/// What stands directly before a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Nothing,
    Heading(String),
    Text(String),
}

/// What other corpora know.
#[derive(Debug, Clone, Default)]
struct Vocabulary {
    /// The first words of commands.
    programs: HashSet<String>,
    /// The first words of descriptions, in lower case.
    verbs: HashSet<String>,
}

/// Words that descriptions begin with and that are no verbs.
const NO_VERBS: [&str; 26] = [
    "a", "all", "an", "and", "as", "by", "for", "from", "how", "i", "if", "in", "it", "note", "on", "or",
    "some", "the", "this", "to", "using", "what", "when", "which", "with", "you",
];
/// How often a word has to begin a description to count as a verb.
const VERB_COUNT: usize = 4;

impl Vocabulary {
    #[cfg(test)]
    fn new<const N: usize, const M: usize>(programs: [&str; N], verbs: [&str; M]) -> Self {
        Self { programs: programs.map(str::to_owned).into(), verbs: verbs.map(str::to_owned).into() }
    }

    fn of(corpora: &Corpora) -> Self {
        let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
        let is_program = |word: &String| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
        };
        let examples = corpora.examples.iter().map(|example| example.command.as_str());
        let commands = examples.chain(corpora.specs.iter().map(|spec| spec.path.as_str()));
        let mut counts: HashMap<String, usize> = HashMap::new();
        for example in &corpora.examples {
            *counts
                .entry(first(&example.description).trim_matches([',', '.']).to_lowercase())
                .or_default() += 1;
        }
        let is_verb = |(word, count): &(String, usize)| {
            *count >= VERB_COUNT
                && word.chars().all(|c| c.is_ascii_alphabetic())
                && !word.is_empty()
                && !NO_VERBS.contains(&word.as_str())
        };
        Self {
            programs: commands.map(first).filter(is_program).collect(),
            verbs: counts.into_iter().filter(is_verb).map(|(word, _)| word).collect(),
        }
    }

    fn knows(&self, program: &str) -> bool {
        self.programs.contains(program)
    }

    /// The verb that `word` is, or is the third person of, in lower case.
    fn imperative(&self, word: &str) -> Option<String> {
        let word = word.to_lowercase();
        [Some(word.as_str()), word.strip_suffix('s'), word.strip_suffix("es")]
            .into_iter()
            .flatten()
            .find(|verb| self.verbs.contains(*verb))
            .map(str::to_owned)
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    command: Command,
    doc: String,
}

/// A line of the sessions' file.
#[derive(Debug, Serialize)]
struct Session {
    source: String,
    doc: String,
    shell: &'static str,
    cmds: Vec<String>,
}

/// Reads the documentation and writes the corpus; tells what was used, and what was not and why.
pub fn write(args: &Args) -> Result<()> {
    let excluded = || args.exclude.as_deref().map_or_else(|| Ok(Excluded::default()), Excluded::read);
    let mut corpora = Corpora::read(&args.corpora, &excluded()?)?;
    corpora.examples.retain(|example| example.source != NAME);
    let judged = Judged::read(excluded()?, args.cases.as_deref())?;
    let vocabulary = Vocabulary::of(&corpora);
    let mut corpus = Corpus::new(&judged, corpora.examples.into_iter().map(|example| example.command));
    let mut licences = BTreeMap::new();
    for (name, folder) in repositories(&args.repositories)? {
        let verdict = licence::of_repository(&folder);
        if matches!(verdict, Verdict::Accepted(_)) {
            corpus.read(&name, files::pages(&folder), &vocabulary);
        }
        licences.insert(name, verdict);
    }
    let (rows, sessions) = corpus.finish();
    fs::create_dir_all(&args.out).with_context(|| format!("{} can't be made", args.out.display()))?;
    write_compressed(&args.out.join(format!("{NAME}.tsv.xz")), &table(&rows))?;
    write_compressed(&args.out.join(format!("{NAME}-sessions.jsonl.xz")), &lines(&sessions)?)?;
    print!("{}", report(&licences, &rows, &sessions));
    Ok(())
}

/// The repositories' names and folders.
fn repositories(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let unreadable = || format!("{} can't be read", directory.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().replacen('+', "/", 1);
        if path.is_dir() {
            found.insert(name, path);
        }
    }
    Ok(found)
}

/// The corpus as it grows.
struct Corpus<'a> {
    judged: &'a Judged,
    /// Commands of other corpora.
    known: HashSet<String>,
    rows: Vec<(String, Vec<Row>)>,
    /// Where each command is in `rows`.
    places: HashMap<String, (usize, usize)>,
    sessions: Vec<Session>,
    /// The beginnings of the sessions.
    begun: HashSet<Vec<String>>,
}

impl<'a> Corpus<'a> {
    fn new(judged: &'a Judged, known: impl Iterator<Item = String>) -> Self {
        Self {
            judged,
            known: known.collect(),
            rows: Vec::new(),
            places: HashMap::new(),
            sessions: Vec::new(),
            begun: HashSet::new(),
        }
    }

    /// Adds the commands of a repository.
    fn read(&mut self, repository: &str, pages: Vec<Page>, vocabulary: &Vocabulary) {
        self.rows.push((repository.to_owned(), Vec::new()));
        let mut vocabulary = vocabulary.clone();
        let mut called: HashMap<String, usize> = HashMap::new();
        for piece in pages.iter().flat_map(|page| &page.pieces) {
            if let Piece::Block(block) = piece {
                for program in commands::programs_at_prompts(block) {
                    *called.entry(program).or_default() += 1;
                }
            }
        }
        // What is called at a prompt more than once is a program on other pages, too.
        vocabulary
            .programs
            .extend(called.into_iter().filter(|(_, count)| *count > 1).map(|(program, _)| program));
        for page in pages {
            let doc = format!("{repository}/{}", page.name);
            let mut typed = Vec::new();
            for piece in &page.pieces {
                match piece {
                    Piece::Block(block) => {
                        for command in commands::of_block(block, &vocabulary) {
                            typed.push(command.line.clone());
                            self.add(command, &doc);
                        }
                    }
                    Piece::Inline(text) => {
                        if let Some(line) = commands::of_words(text, &vocabulary) {
                            self.add(Command { line, description: String::new() }, &doc);
                        }
                    }
                    Piece::Described { command, description } => {
                        if let Some(line) = commands::of_words(command, &vocabulary) {
                            let description = match description.ends_with(':') {
                                true => describe::of_sentence(description, &vocabulary),
                                false => describe::checked(description, &vocabulary),
                            };
                            self.add(Command { line, description: description.unwrap_or_default() }, &doc);
                        }
                    }
                }
            }
            self.add_session(repository, page.name, typed);
        }
    }

    /// Adds a row, unless there is one already that tells as much.
    fn add(&mut self, mut command: Command, doc: &str) {
        if self.judged.has(&command.line) {
            return;
        }
        if self.judged.has_description(&command.description) {
            command.description.clear();
        }
        let is_described = !command.description.is_empty();
        if let Some(&(repository, i)) = self.places.get(&command.line) {
            let row = &mut self.rows[repository].1[i];
            if is_described && row.command.description.is_empty() {
                *row = Row { command, doc: doc.to_owned() };
            }
            return;
        }
        let repository = self.rows.len() - 1;
        if is_described || !self.known.contains(&command.line) {
            let rows = &mut self.rows[repository].1;
            self.places.insert(command.line.clone(), (repository, rows.len()));
            rows.push(Row { command, doc: doc.to_owned() });
        }
    }

    fn add_session(&mut self, source: &str, doc: String, mut commands: Vec<String>) {
        commands.retain(|command| !self.judged.has(command));
        // The same twice is two ways to write a block.
        commands.dedup();
        let beginning = commands.iter().take(4).cloned().collect();
        if commands.len() >= FEWEST_COMMANDS && self.begun.insert(beginning) {
            self.sessions.push(Session { source: source.to_owned(), doc, shell: "bash", cmds: commands });
        }
    }

    fn finish(self) -> (Vec<(String, Vec<Row>)>, Vec<Session>) {
        let rows = self.rows.into_iter().map(|(name, rows)| (name, at_most(rows, MOST_ROWS))).collect();
        (rows, self.sessions)
    }
}

/// The rows in their order: those with a description first to stay, and of the others as many as fit, from everywhere.
fn at_most(rows: Vec<Row>, most: usize) -> Vec<Row> {
    let spread = |kept: usize, of: usize, i: usize| (i + 1) * kept / of > i * kept / of;
    let described = rows.iter().filter(|row| !row.command.description.is_empty()).count();
    let others = rows.len() - described;
    let (keep_described, keep_others) = (described.min(most), others.min(most - described.min(most)));
    let (mut seen_described, mut seen_others) = (0, 0);
    let is_kept = |row: &Row| {
        let (seen, kept, of) = if row.command.description.is_empty() {
            (&mut seen_others, keep_others, others)
        } else {
            (&mut seen_described, keep_described, described)
        };
        *seen += 1;
        spread(kept, of, *seen - 1)
    };
    rows.into_iter().filter(is_kept).collect()
}

fn table(rows: &[(String, Vec<Row>)]) -> String {
    let line = |row: &Row| format!("{}\t{}\t{}\n", row.command.line, row.doc, row.command.description);
    let body: String = rows.iter().flat_map(|(_, rows)| rows).map(line).collect();
    format!("cmd\tdoc\tnl\n{body}")
}

fn lines(sessions: &[Session]) -> Result<String> {
    let mut text = String::new();
    for session in sessions {
        text.push_str(&serde_json::to_string(session)?);
        text.push('\n');
    }
    Ok(text)
}

/// What was used under which licence, and what was not, as Markdown.
fn report(licences: &BTreeMap<String, Verdict>, rows: &[(String, Vec<Row>)], sessions: &[Session]) -> String {
    let is_described = |row: &&Row| !row.command.description.is_empty();
    let mut used = String::from(
        "| repository | licence | commands | described | sessions |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut unused = String::from("| not used | why |\n| --- | --- |\n");
    for (name, verdict) in licences {
        let rows = rows.iter().find(|(repository, _)| repository == name).map_or(&[][..], |(_, rows)| rows);
        let sessions = sessions.iter().filter(|session| session.source == *name).count();
        match verdict {
            Verdict::Accepted(_) if rows.is_empty() && sessions == 0 => {
                unused.push_str(&format!("| {name} | nothing new in it |\n"));
            }
            Verdict::Accepted(_) => used.push_str(&format!(
                "| {name} | {verdict} | {} | {} | {sessions} |\n",
                rows.len(),
                rows.iter().filter(is_described).count()
            )),
            _ => unused.push_str(&format!("| {name} | {verdict} |\n")),
        }
    }
    let all = || rows.iter().flat_map(|(_, rows)| rows);
    format!(
        "{used}\n{unused}\n{} commands, {} of them described; {} sessions of {} commands\n",
        all().count(),
        all().filter(is_described).count(),
        sessions.len(),
        sessions.iter().map(|session| session.cmds.len()).sum::<usize>()
    )
}

/// Pieces as lines of text, for tests.
#[cfg(test)]
fn told(pieces: &[Piece]) -> Vec<String> {
    let told = |piece: &Piece| match piece {
        Piece::Inline(text) => format!("`{text}`"),
        Piece::Described { command, description } => format!("`{command}` is {description}"),
        Piece::Block(Block { language, lines, before }) => {
            let before = match before {
                Before::Nothing => String::new(),
                Before::Heading(text) => format!("# {text}"),
                Before::Text(text) => text.clone(),
            };
            format!("{language} [{before}] {}", lines.join("|"))
        }
    };
    pieces.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str, text: &str) -> Page {
        Page { name: name.to_owned(), pieces: markdown::pieces(text) }
    }

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(["ls", "cat", "cd"], ["list", "show"])
    }

    fn corpus(judged: &Judged, known: &str, pages: &[(&str, &str)]) -> (String, String) {
        let mut corpus = Corpus::new(judged, known.lines().map(str::to_owned));
        let pages = pages.iter().map(|(name, text)| page(name, text)).collect();
        corpus.read("some/one", pages, &vocabulary());
        let (rows, sessions) = corpus.finish();
        (table(&rows), lines(&sessions).unwrap())
    }

    #[test]
    fn a_page_becomes_rows_and_a_session() {
        let text = "To list all files, run:\n\n```sh\nls -a\n```\n\nor `ls -l`\n\n```console\n$ cd src\n$ cat x\n```\n";
        let (rows, sessions) = corpus(&Judged::default(), "", &[("intro", text)]);
        assert_eq!(
            rows,
            "cmd\tdoc\tnl\nls -a\tsome/one/intro\tList all files\nls -l\tsome/one/intro\t\n\
             cd src\tsome/one/intro\t\ncat x\tsome/one/intro\t\n"
        );
        assert_eq!(
            sessions,
            "{\"source\":\"some/one\",\"doc\":\"intro\",\"shell\":\"bash\",\"cmds\":[\"ls -a\",\"cd src\",\"cat x\"]}\n"
        );
    }

    #[test]
    fn what_is_known_comes_again_only_with_a_description() {
        let again = "```sh\nls -a\n\n# Show a file\ncat x\n```\n";
        let (rows, sessions) = corpus(&Judged::default(), "ls -a\ncat x", &[("a", again), ("b", again)]);
        assert_eq!(rows, "cmd\tdoc\tnl\ncat x\tsome/one/a\tShow a file\n");
        assert_eq!(sessions, "", "two commands are no session");
        let (rows, _) = corpus(&Judged::default(), "", &[("a", "`cat x`"), ("b", again)]);
        assert_eq!(rows, "cmd\tdoc\tnl\ncat x\tsome/one/b\tShow a file\nls -a\tsome/one/b\t\n");
    }

    #[test]
    fn programs_at_prompts_are_known_in_the_repository() {
        let text = "```console\n$ newtool a\n$ newtool b\n```\n\n`newtool c`, `oldtool c`";
        let (rows, _) = corpus(&Judged::default(), "", &[("a", text)]);
        assert!(rows.contains("newtool c") && !rows.contains("oldtool"), "{rows}");
    }

    #[test]
    fn sessions_with_one_beginning_are_one() {
        let text = "```sh\ncd a\nls\nls\ncat x\n```";
        let (_, sessions) = corpus(&Judged::default(), "", &[("a", text), ("b", text)]);
        assert_eq!(sessions.lines().count(), 1);
        assert!(sessions.contains(r#"["cd a","ls","cat x"]"#), "{sessions}");
    }

    #[test]
    fn described_rows_stay_and_others_fit() {
        let row = |i: usize, description: &str| Row {
            command: Command { line: i.to_string(), description: description.to_owned() },
            doc: String::new(),
        };
        let rows: Vec<Row> = (0..10).map(|i| row(i, if i % 5 == 0 { "x" } else { "" })).collect();
        let kept =
            |most| at_most(rows.clone(), most).into_iter().map(|row| row.command.line).collect::<Vec<_>>();
        assert_eq!(kept(4), ["0", "4", "5", "9"]);
        assert_eq!(kept(1), ["5"]);
        assert_eq!(kept(20).len(), 10);
    }

    #[test]
    fn the_third_person_is_the_same_verb() {
        assert_eq!(vocabulary().imperative("Lists").as_deref(), Some("list"));
        assert_eq!(vocabulary().imperative("Ships"), None);
    }

    #[test]
    fn what_was_used_is_told_with_its_licence() {
        let row = Row { command: Command { line: "ls".into(), description: "x".into() }, doc: String::new() };
        let licences = [
            ("a/b".to_owned(), Verdict::Accepted(["MIT"].into())),
            ("c/d".to_owned(), Verdict::Refused("GNU in COPYING".to_owned())),
            ("e/f".to_owned(), Verdict::Accepted(["ISC"].into())),
        ];
        let report = report(&licences.into(), &[("a/b".to_owned(), vec![row])], &[]);
        assert!(report.contains("| a/b | MIT | 1 | 1 | 0 |\n"), "{report}");
        assert!(report.contains("| c/d | GNU in COPYING |\n| e/f | nothing new in it |\n"), "{report}");
        assert!(report.ends_with("1 commands, 1 of them described; 0 sessions of 0 commands\n"), "{report}");
    }
}
