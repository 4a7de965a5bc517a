//! What a client sees around a line: the directory, its names, the branch, the history, the commands.
//!
//! The client looks because it runs where the shell runs. Everything is bounded, nothing runs another program, and neither values
//! of environment variables nor contents of the user's files are taken, but for the history and `.git/HEAD`.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nemoterm_protocol::{Candidate, Context, HistoryLine, Source};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    context::Shell,
    history, rank,
    redact::redact,
};

use crate::failure::Failure;

/// Most names of a directory that are sent.
pub const MAX_NAMES: usize = 64;

/// Entries of a directory that are read at most, however large it is.
const MAX_ENTRIES: usize = 4096;

/// Longest name that is sent, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Most commands of the PATH that are sent.
const MAX_COMMANDS: usize = 32;

/// With more bytes of names than these, all commands together are too many to send.
const MAX_COMMANDS_BYTES: usize = 96 * 1024;

/// Last lines of the history that are sent.
pub const MAX_HISTORY: usize = 20;

/// Suggestions of our own that are sent along.
pub const MAX_CANDIDATES: usize = 8;

/// Where a line is being typed.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Name of the shell.
    pub shell: String,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// A history file in place of the shell's own.
    pub history_file: Option<PathBuf>,
}

/// What is sent with a line.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The surroundings.
    pub context: Context,
    /// What the history and the context suggest, best first.
    pub candidates: Vec<Candidate>,
}

impl Surroundings {
    /// Looks around once.
    ///
    /// # Errors
    /// Where a file or directory that was named does not exist. What is missing by default is left out.
    pub fn look(&self, buffer: &Buffer) -> Result<Seen, Failure> {
        if let Some(cwd) = self.cwd.as_deref().filter(|cwd| !cwd.is_dir()) {
            return Err(Failure::new(format!("{} is not a directory", cwd.display()), "check --cwd"));
        }
        let shell = Shell::from_name(&self.shell);
        let lines = match (&self.history_file, default_history_file(shell)) {
            (Some(file), _) => read_history(shell, file).map_err(|error| {
                Failure::new(
                    format!("the history {} can't be read: {error}", file.display()),
                    "check --history",
                )
            })?,
            (None, Some(file)) => read_history(shell, &file).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let last = &lines[lines.len().saturating_sub(MAX_HISTORY)..];
        let mut context = place(&self.shell, self.cwd.as_deref(), buffer.before());
        context.history =
            last.iter().map(|line| HistoryLine { line: redact(line).into_owned(), status: None }).collect();
        let index = history::Index::from_lines(&lines);
        let candidates = candidates(&context, buffer, &index);
        Ok(Seen { context, candidates })
    }
}

/// The surroundings of a line but for the history.
pub fn place(shell: &str, cwd: Option<&Path>, before: &str) -> Context {
    Context {
        shell: shell.to_owned(),
        cwd: cwd.and_then(Path::to_str).map(str::to_owned),
        names: cwd.map(names).unwrap_or_default(),
        branch: cwd.and_then(branch),
        history: Vec::new(),
        commands: commands(before),
    }
}

/// What the history and the context suggest for a line, best first, without what holds a secret.
pub fn candidates(context: &Context, buffer: &Buffer, index: &history::Index) -> Vec<Candidate> {
    let found = rank::local(&core_context(context), buffer, index, MAX_CANDIDATES);
    let wire = |found: rank::Candidate| Candidate {
        suffix: found.suffix,
        source: match found.source {
            rank::Source::Model => Source::Model,
            rank::Source::History => Source::History,
            rank::Source::Context => Source::Context,
        },
        score: found.score,
    };
    found.into_iter().filter(|found| redact(&found.line) == found.line).map(wire).collect()
}

/// The context as the text logic takes it.
pub fn core_context(wire: &Context) -> nemoterm_suggest::context::Context {
    nemoterm_suggest::context::Context {
        shell: Shell::from_name(&wire.shell),
        cwd: wire.cwd.clone(),
        names: wire.names.clone(),
        branch: wire.branch.clone(),
        history: wire
            .history
            .iter()
            .map(|entry| nemoterm_suggest::context::HistoryLine {
                line: entry.line.clone(),
                status: entry.status,
            })
            .collect(),
        commands: wire.commands.clone(),
        examples: Vec::new(),
    }
}

/// The shell of the user.
pub fn login_shell() -> String {
    let shell = env::var("SHELL").unwrap_or_default();
    Path::new(&shell).file_name().and_then(|name| name.to_str()).unwrap_or("sh").to_owned()
}

/// The file a shell keeps its history in by default. `None` without a home.
pub fn default_history_file(shell: Shell) -> Option<PathBuf> {
    let dirs = directories::BaseDirs::new()?;
    Some(history::usual(shell, dirs.home_dir(), |name| env::var_os(name)))
}

/// The commands of a history file, oldest first; of a very long one, those at its end.
pub fn read_history(shell: Shell, path: &Path) -> io::Result<Vec<String>> {
    Ok(history::parse(shell, &history::end(fs::File::open(path)?, history::MAX_BYTES)?))
}

/// Names in a directory, newest first: what one has just made is what one goes on with.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .take(MAX_ENTRIES)
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let fits = name.len() <= MAX_NAME_BYTES && !name.starts_with('.');
            let modified = entry.metadata().and_then(|data| data.modified()).ok();
            fits.then_some((modified, name))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.truncate(MAX_NAMES);
    found.into_iter().map(|(_, name)| name).collect()
}

/// The branch that is checked out in the git work tree around a directory.
pub fn branch(dir: &Path) -> Option<String> {
    let git = dir.ancestors().map(|dir| dir.join(".git")).find(|git| git.exists())?;
    let git = if git.is_dir() {
        git
    } else {
        // In a linked work tree `.git` is a file that names the real directory.
        let text = read_short(&git)?;
        git.parent()?.join(text.strip_prefix("gitdir:")?.trim())
    };
    let head = read_short(&git.join("HEAD"))?;
    let branch = head.trim().strip_prefix("ref: refs/heads/")?;
    (branch.len() <= MAX_NAME_BYTES).then(|| branch.to_owned())
}

fn read_short(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Commands on the PATH that a daemon wants to know of for a line: see [`Commands::wanted`].
pub fn commands(before: &str) -> Vec<String> {
    if command_word(before).is_none() && !is_description(before) {
        return Vec::new();
    }
    Commands::look().wanted(before)
}

fn is_description(before: &str) -> bool {
    matches!(Buffer::at_end(before.to_owned()).kind(), Kind::Description(_))
}

/// The word that is being typed where it names a command on the PATH.
fn command_word(before: &str) -> Option<&str> {
    let word = before.trim_start();
    (!word.is_empty() && !word.contains(char::is_whitespace) && !word.contains('/')).then_some(word)
}

/// The commands on the PATH, as they were when it was looked at. That may take long: not every directory on a PATH
/// lies on a local disk.
#[derive(Debug, Default)]
pub struct Commands {
    sorted: Vec<String>,
    /// Whether a directory held more than was read of it.
    is_partial: bool,
}

impl Commands {
    /// Reads every directory on the PATH.
    pub fn look() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut commands = Self::default();
        for entries in env::split_paths(&path).filter_map(|dir| fs::read_dir(dir).ok()) {
            let before = commands.sorted.len();
            let names = entries.take(MAX_ENTRIES).filter_map(Result::ok);
            commands.sorted.extend(names.filter_map(|entry| entry.file_name().into_string().ok()));
            commands.is_partial |= commands.sorted.len() - before == MAX_ENTRIES;
        }
        commands.sorted.sort_unstable();
        commands.sorted.dedup();
        commands
    }

    /// Those and no others, for tests.
    #[cfg(test)]
    pub fn named<const N: usize>(names: [&str; N]) -> Self {
        let mut sorted = names.map(str::to_owned).to_vec();
        sorted.sort_unstable();
        Self { sorted, is_partial: false }
    }

    /// All of them, sorted.
    pub fn names(&self) -> &[String] {
        &self.sorted
    }

    /// Whether a command of this name may be on the PATH: it is not where all of that was read and holds none.
    pub fn may_have(&self, name: &str) -> bool {
        self.is_partial
            || self.sorted.is_empty()
            || self.sorted.binary_search_by(|other| other.as_str().cmp(name)).is_ok()
    }

    /// Those that a daemon wants to know of for a line: for a description all, unless not all are known or they are too many;
    /// otherwise those that begin with the first word, while that is being typed, short ones first.
    pub fn wanted(&self, before: &str) -> Vec<String> {
        if is_description(before) {
            let bytes: usize = self.sorted.iter().map(String::len).sum();
            let is_all = !self.is_partial && bytes <= MAX_COMMANDS_BYTES;
            return if is_all { self.sorted.clone() } else { Vec::new() };
        }
        let Some(word) = command_word(before) else { return Vec::new() };
        let start = self.sorted.partition_point(|name| name.as_str() < word);
        let mut found: Vec<&String> =
            self.sorted[start..].iter().take_while(|name| name.starts_with(word)).collect();
        found.sort_by_key(|name| name.len());
        found.into_iter().take(MAX_COMMANDS).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_read_from_git_itself() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree/src");
        fs::create_dir_all(&tree).unwrap();
        assert_eq!(branch(&tree), None);
        let git = temp.path().join("tree/.git");
        fs::create_dir(&git).unwrap();
        fs::write(git.join("HEAD"), "ref: refs/heads/feature/ghost\n").unwrap();
        assert_eq!(branch(&tree).as_deref(), Some("feature/ghost"));
        let linked = temp.path().join("linked");
        fs::create_dir(&linked).unwrap();
        fs::write(linked.join(".git"), "gitdir: ../tree/.git\n").unwrap();
        assert_eq!(branch(&linked).as_deref(), Some("feature/ghost"));
        fs::write(git.join("HEAD"), "0123456789abcdef\n").unwrap();
        assert_eq!(branch(&tree), None, "a detached head is no branch");
    }

    #[test]
    fn names_are_bounded_and_without_hidden_ones() {
        let temp = tempfile::tempdir().unwrap();
        for i in 0..100 {
            fs::write(temp.path().join(format!("file{i}")), "").unwrap();
        }
        fs::write(temp.path().join(".hidden"), "").unwrap();
        let found = names(temp.path());
        assert_eq!(found.len(), MAX_NAMES);
        assert!(!found.iter().any(|name| name.starts_with('.')));
        assert_eq!(names(&temp.path().join("missing")), Vec::<String>::new());
    }

    #[test]
    fn a_candidate_with_a_secret_stays_here() {
        let index =
            history::Index::from_lines(["curl -u me:hunter2 https://a.example", "curl https://b.example"]);
        let found = candidates(&Context::default(), &Buffer::at_end("curl "), &index);
        assert_eq!(
            found.iter().map(|found| found.suffix.as_str()).collect::<Vec<_>>(),
            ["https://b.example"]
        );
    }

    #[test]
    fn commands_are_looked_up_only_for_the_first_word() {
        assert!(commands("l").contains(&"ls".to_owned()));
        assert_eq!(commands("ls -"), Vec::<String>::new());
    }
}
