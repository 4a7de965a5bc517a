//! What one shell has run and where it is, and the answer that needs no daemon.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use nemoterm_protocol::{Candidate, Context, HistoryLine, Source, runtime::Runtime};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    clean::is_displayable,
    context::Shell,
    correct::correct,
    history::Index,
    next::next,
    rank,
    redact::redact,
    specs::Specs,
};

use super::{
    daemon::{Daemon, Question, SharedCommands},
    pipe::{Replies, Request, Wanted},
    tally::Tally,
};
use crate::context;

/// The directory the shell is in, as it was last looked at.
#[derive(Debug, Default)]
pub struct Place {
    /// The directory.
    pub cwd: PathBuf,
    /// Names in it.
    pub names: Vec<String>,
    /// The branch of the work tree around it.
    pub branch: Option<String>,
}

/// One shell.
#[derive(Debug)]
pub struct Session {
    shell: String,
    cwd: PathBuf,
    index: Index,
    /// Programs of the history as it was.
    used: Arc<HashSet<String>>,
    /// The last lines that were run, oldest first.
    recent: Vec<HistoryLine>,
    /// What was run right before this prompt, and its exit status.
    ran: Option<(String, i32)>,
    /// That line put right, where it was mistyped.
    correction: Option<String>,
    place: Arc<Mutex<Place>>,
    commands: SharedCommands,
    runtime: Option<Runtime>,
    replies: Replies,
    daemon: Daemon,
    tally: Tally,
}

/// The estimate for a line that was put right, which is done only where it is as good as certain.
const CORRECTION_SCORE: f32 = 0.8;

/// The options and subcommands that exist: a mistyped one is put right without the daemon.
fn specs() -> Option<&'static Specs> {
    static SPECS: LazyLock<Option<Specs>> = LazyLock::new(|| {
        let table: &[u8] = include_bytes!("../../../../models/nemoterm-mini/specs.fst");
        Specs::new(table).ok()
    });
    SPECS.as_ref()
}

/// The words of these lines at which a command begins, or the argument of one that runs another.
fn programs(lines: &[String]) -> HashSet<String> {
    let leads =
        |word: &str| matches!(word, "|" | "||" | "&&" | ";" | "sudo" | "doas" | "xargs" | "env" | "time");
    let mut programs = HashSet::new();
    for line in lines {
        let mut is_program = true;
        for word in line.split_whitespace() {
            if is_program && !programs.contains(word) {
                programs.insert(word.to_owned());
            }
            is_program = leads(word);
        }
    }
    programs
}

impl Session {
    /// Reads the history and begins to look for the daemon.
    pub fn new(
        shell: &str,
        cwd: PathBuf,
        history: Option<PathBuf>,
        runtime: Option<Runtime>,
        replies: Replies,
    ) -> Self {
        let tally = Tally::new(shell);
        let replies = replies.counting(tally.clone());
        let place = Arc::new(Mutex::new(Place::default()));
        let commands = SharedCommands::default();
        let daemon = Daemon::spawn(
            runtime.clone(),
            replies.clone(),
            tally.clone(),
            Arc::clone(&place),
            Arc::clone(&commands),
        );
        daemon.look(cwd.clone());
        let kind = Shell::from_name(shell);
        let history = history.or_else(|| context::default_history_file(kind));
        let lines = history.and_then(|file| context::read_history(kind, &file).ok()).unwrap_or_default();
        let recent = lines[lines.len().saturating_sub(context::MAX_HISTORY)..].iter();
        let recent =
            recent.map(|line| HistoryLine { line: redact(line).into_owned(), status: None }).collect();
        Self {
            shell: shell.to_owned(),
            cwd,
            index: Index::from_lines(&lines),
            used: Arc::new(programs(&lines)),
            recent,
            ran: None,
            correction: None,
            place,
            commands,
            runtime,
            replies,
            daemon,
            tally,
        }
    }

    /// Takes in what happened, and answers the newest question.
    pub fn answer(&mut self, requests: Vec<Request>) {
        let mut newest = None;
        for request in requests {
            match request {
                Request::Complete { seq, asked, buffer } => newest = Some((seq, asked, buffer)),
                Request::Line { prompt, wanted, line } => {
                    if let Some(seq) = self.replies.line(prompt, wanted, &line) {
                        newest = Some((seq, wanted != Wanted::Typed, Buffer::at_end(&line)));
                    }
                }
                Request::Nudge => self.replies.nudge(),
                Request::Quiet => self.replies.quiet(),
                Request::Accept { text } => self.tally.accepted(&text),
                Request::Prompt { cwd, ran } => {
                    newest = None;
                    self.prompt(cwd, ran);
                }
            }
        }
        if let Some((seq, asked, buffer)) = newest
            && !self.is_off()
        {
            self.complete(seq, asked, buffer);
        }
    }

    /// The shell has gone: what was counted is told.
    pub fn end(&self) {
        self.daemon.end();
    }

    fn is_off(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.off_switch().exists())
    }

    fn prompt(&mut self, cwd: PathBuf, ran: Option<(String, i32)>) {
        self.correction = None;
        // A line that begins with a blank is one the user does not want to be remembered.
        self.ran = ran.filter(|(line, _)| !line.starts_with([' ', '\t']));
        if let Some((line, status)) = &self.ran {
            let line = line.trim_end();
            if *status != 0 {
                let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
                self.correction = correct(line, *status, commands.names(), &self.index, specs());
            }
            // Nobody wants a line again that was mistyped.
            if self.correction.is_none() {
                self.index.push(line);
                if self.recent.len() >= context::MAX_HISTORY {
                    self.recent.remove(0);
                }
                self.recent.push(HistoryLine { line: redact(line).into_owned(), status: Some(*status) });
            }
        }
        self.cwd = cwd;
        self.daemon.look(self.cwd.clone());
    }

    fn complete(&self, seq: u64, asked: bool, buffer: Buffer) {
        if buffer.after().is_empty() {
            let described = match buffer.kind() {
                Kind::Description(_) => buffer.line().chars().count(),
                Kind::Command => 0,
            };
            self.tally.asked(seq, described);
        }
        let mut context = Context {
            shell: self.shell.clone(),
            cwd: self.cwd.to_str().map(str::to_owned),
            history: self.recent.clone(),
            ..Context::default()
        };
        {
            let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            if place.cwd == self.cwd {
                context.names.clone_from(&place.names);
                context.branch.clone_from(&place.branch);
            }
        }
        let unbegun = buffer.line().is_empty() && !asked;
        if unbegun && self.ran.as_ref().is_none_or(|(_, status)| *status != 0 && self.correction.is_none()) {
            // Whoever has not run anything, or has to find out why it failed, is left in peace.
            return;
        }
        let mut candidates =
            if unbegun { self.next_lines() } else { context::candidates(&context, &buffer, &self.index) };
        if let Some(rest) = self.correction.as_deref().and_then(|line| rest_of(line, &buffer)) {
            candidates.retain(|candidate| candidate.suffix != rest);
            let source = Source::Context;
            candidates.insert(0, Candidate { suffix: rest.to_owned(), source, score: CORRECTION_SCORE });
            candidates.truncate(context::MAX_CANDIDATES);
        }
        let shown: Vec<(String, Source)> = candidates
            .iter()
            .filter(|candidate| is_displayable(&candidate.suffix) && !candidate.suffix.is_empty())
            .filter(|candidate| asked || is_worth_showing(&buffer, candidate))
            .map(|candidate| (candidate.suffix.clone(), candidate.source))
            .collect();
        if let Some((_, source)) = shown.first() {
            let texts: Vec<String> = shown.iter().map(|(text, _)| text.clone()).collect();
            let replaces = matches!(buffer.kind(), Kind::Description(_));
            self.replies.send(seq, replaces, *source, &texts);
        }
        if unbegun && self.correction.is_some() {
            // A model knows nothing of what went wrong.
            return;
        }
        self.daemon.complete(Question {
            seq,
            asked,
            buffer,
            context,
            candidates,
            shown,
            used: Arc::clone(&self.used),
        });
    }

    /// What usually follows the line that was run last.
    fn next_lines(&self) -> Vec<Candidate> {
        let Some((line, 0)) = &self.ran else { return Vec::new() };
        let found = next(line.trim_end(), &self.index, context::MAX_CANDIDATES).into_iter();
        let found = found.filter(|found| redact(found.line) == found.line);
        found
            .map(|found| Candidate {
                suffix: found.line.to_owned(),
                source: Source::History,
                score: found.score,
            })
            .collect()
    }
}

/// What a whole line adds at the end of one that it begins with.
fn rest_of<'a>(line: &'a str, buffer: &Buffer) -> Option<&'a str> {
    if !buffer.after().is_empty() {
        return None;
    }
    line.strip_prefix(buffer.before()).filter(|rest| !rest.is_empty())
}

/// Whether a suggestion may appear to somebody who only types.
fn is_worth_showing(buffer: &Buffer, found: &Candidate) -> bool {
    rank::Candidate::new(buffer, found.suffix.as_str(), rank::Source::History, found.score)
        .is_worth_showing(buffer)
}
