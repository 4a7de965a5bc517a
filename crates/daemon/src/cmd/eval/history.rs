//! One's own commands as cases: each cut somewhere, with what was run before it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use nemoterm_suggest::{
    buffer::Buffer,
    context::{Context, HistoryLine, Shell},
    history::{self, Index},
    redact::redact,
    replay::Replay,
    score::{Case, CaseContext},
};

use crate::failure::Failure;

/// Last lines that are part of a request, as many as clients send.
const RECENT: usize = 20;

/// Characters of a command that is completed; nobody types a longer one.
const MAX_CHARS: usize = 400;

#[derive(Debug, clap::Args)]
pub struct OwnArgs {
    /// Whose history [default: of $SHELL]
    #[arg(long, requires = "history", value_parser = ["zsh", "bash", "fish"])]
    shell: Option<String>,
    /// The history in this file [default: the shell's own]
    #[arg(long, requires = "history", value_name = "FILE")]
    histfile: Option<PathBuf>,
    /// So many commands, the last ones
    #[arg(long, requires = "history", default_value_t = 2000, value_name = "N")]
    last: usize,
    /// Decides where they are cut
    #[arg(long, requires = "history", default_value_t = 0)]
    seed: u64,
}

/// Commands, oldest first.
pub struct History {
    shell: Shell,
    lines: Vec<String>,
    /// Of these, the first that is completed.
    first: usize,
    seed: u64,
}

impl History {
    /// Reads the history that is meant.
    ///
    /// # Errors
    /// Where there is none, or nothing in it to complete.
    pub fn read(args: &OwnArgs) -> Result<Self, Failure> {
        let login = env::var("SHELL").unwrap_or_default();
        let login = Path::new(&login).file_name().and_then(|name| name.to_str()).unwrap_or("sh");
        let name = args.shell.as_deref().unwrap_or(login);
        let shell = Shell::from_name(name);
        let usual = || {
            let dirs = directories::BaseDirs::new()?;
            Some(history::usual(shell, dirs.home_dir(), |name| env::var_os(name)))
        };
        let file = args.histfile.clone().or_else(usual).ok_or_else(|| {
            Failure::new(
                "there is no home directory for a history",
                "set HOME, or name a file with --histfile",
            )
        })?;
        let hint = "--shell and --histfile name another; zsh keeps one where HISTFILE and SAVEHIST are set";
        // As much as shells' clients read.
        let read = fs::File::open(&file).and_then(|file| history::end(file, history::MAX_BYTES));
        let bytes = read.map_err(|error| {
            Failure::new(format!("the history {} can't be read: {error}", file.display()), hint)
        })?;
        let history = Self::of(shell, history::parse(shell, &bytes), args.last, args.seed);
        if history.len() == 0 {
            return Err(Failure::new(format!("{} holds no command to try", file.display()), hint));
        }
        Ok(history)
    }

    fn of(shell: Shell, lines: Vec<String>, last: usize, seed: u64) -> Self {
        let first = lines.len().saturating_sub(last);
        Self { shell, lines, first, seed }
    }

    /// How many commands are completed.
    pub fn len(&self) -> usize {
        self.lines[self.first..].iter().filter(|line| is_case(line)).count()
    }

    /// Goes through them as they were typed: nothing is known of a command that comes later.
    ///
    /// # Errors
    /// Those of `complete`.
    pub fn replay(self, mut complete: impl FnMut(Case, &Replay) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut replay = Replay {
            context: Context { shell: self.shell, ..Context::default() },
            buffer: Buffer::at_end(String::new()),
            index: Index::from_lines(&self.lines[..self.first]),
        };
        for line in &self.lines[self.first.saturating_sub(RECENT)..self.first] {
            remember(&mut replay.context, line);
        }
        for (number, line) in self.lines.iter().enumerate().skip(self.first) {
            if is_case(line) {
                let cut = cut(line, self.seed.wrapping_add(number as u64));
                let is_known = self.lines[..number].contains(line);
                replay.buffer = Buffer::at_end(line[..cut].to_owned());
                let case = Case {
                    id: number.to_string(),
                    source: "history".to_owned(),
                    shell: self.shell,
                    cut: kind(&line[..cut]).to_owned(),
                    prefix: line[..cut].to_owned(),
                    expected: line[cut..].to_owned(),
                    alts: Vec::new(),
                    context: Some(CaseContext::default()),
                    tier: None,
                    generic: None,
                    recover: Some(if is_known { "line" } else { "none" }.to_owned()),
                };
                complete(case, &replay)?;
            }
            replay.index.push(line);
            remember(&mut replay.context, line);
        }
        Ok(())
    }
}

/// Whether a command is one to complete: of one line, not too long, and without a secret, which would not be sent either.
fn is_case(line: &str) -> bool {
    let chars = line.chars().count();
    (2..=MAX_CHARS).contains(&chars)
        && !line.contains('\n')
        && !line.starts_with([' ', '\t', '#'])
        && !line.trim().is_empty()
        && redact(line) == line
}

/// A place in a line, not at its ends, in bytes. The same number gives the same place.
fn cut(line: &str, number: u64) -> usize {
    // SplitMix64.
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let places: Vec<usize> = line.char_indices().map(|(at, _)| at).skip(1).collect();
    places.get(mixed as usize % places.len().max(1)).copied().unwrap_or(line.len())
}

/// Where that is, by the names of files of cases.
fn kind(before: &str) -> &'static str {
    if !before.contains(' ') {
        "sess_command"
    } else if before.ends_with(' ') {
        "sess_arg_start"
    } else {
        "sess_mid_arg"
    }
}

fn remember(context: &mut Context, line: &str) {
    if context.history.len() >= RECENT {
        context.history.remove(0);
    }
    context.history.push(HistoryLine::new(redact(line).into_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(lines: &[&str], last: usize, seed: u64) -> Vec<(Case, usize, Vec<String>)> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let history = History::of(Shell::Bash, lines, last, seed);
        let count = history.len();
        let mut found = Vec::new();
        let replayed = history.replay(|case, replay| {
            let before = replay.context.history.iter().map(|entry| entry.line.clone()).collect();
            assert_eq!(replay.buffer.before(), case.prefix);
            found.push((case, replay.index.matches("", 99).len(), before));
            Ok(())
        });
        replayed.unwrap();
        assert_eq!(found.len(), count);
        found
    }

    #[test]
    fn a_command_is_completed_with_what_came_before_it_only() {
        let lines = ["git status", "ls -la", "git status", "cargo test"];
        let found = cases(&lines, 3, 0);
        let whole: Vec<_> =
            found.iter().map(|(case, ..)| format!("{}{}", case.prefix, case.expected)).collect();
        assert_eq!(whole, ["ls -la", "git status", "cargo test"]);
        assert!(found.iter().all(|(case, ..)| !case.prefix.is_empty() && !case.expected.is_empty()));
        assert_eq!(found[0].2, ["git status"]);
        assert_eq!(found[2].2, ["git status", "ls -la", "git status"]);
        let known: Vec<_> = found.iter().map(|(case, ..)| case.recover.clone().unwrap()).collect();
        assert_eq!(known, ["none", "line", "none"]);
        assert_eq!(cases(&lines, 3, 0), found, "the same seed, the same places");
        assert_ne!(cases(&lines, 3, 1), found);
    }

    #[test]
    fn what_is_secret_is_neither_completed_nor_remembered() {
        let found = cases(
            &[
                "curl -u me:hunter2 https://a.example",
                " hidden",
                "x",
                "a\nb",
                "# note",
                "größe ändern",
                "ls -l",
            ],
            99,
            7,
        );
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(.., before)| before.iter().all(|line| !line.contains("hunter2"))));
        for number in 0..100 {
            assert!("größe".is_char_boundary(cut("größe", number)));
        }
    }
}
