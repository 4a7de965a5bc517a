//! `nemoterm hotkey`: one suggestion, when the user asks for it, in shells that show none as one types.
//!
//! The shell's key handler runs it with the line. It draws the suggestion after the line, takes keys until one of
//! them settles the matter, wipes what it drew, and prints three lines for the handler:
//!
//! 1. `add` or `replace`, or nothing where the line stays as it is;
//! 2. the text to add to the line or to put in its place;
//! 3. the keys that were not for us, in hexadecimal, one word a key, for the shell to act on; for fish with the names it knows them by.
//!
//! In the middle of a line it draws nothing and adds the best suggestion at the cursor.
//! Where there is nothing to suggest, or no room to show it, it prints three empty lines and has taken no key.
//! The shell stands still meanwhile, so the daemon gets 50 ms and not more; after that the history answers.

mod keys;
mod layout;
mod tty;

use std::{
    env,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    Candidate, Complete, Context, HistoryLine, Reply, Request, Source,
    client::{Client, ClientError},
    runtime::Runtime,
};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    clean::is_displayable,
    context::Shell,
    history::Index,
    redact::{MARKER, redact},
};

use crate::{attach::tally::Tally, context, daemon_process};
use keys::{Action, Key};
use layout::Line;
use tty::Tty;

/// How long the daemon is waited for. Who reaches one through a long wire sets `NEMOTERM_TIMEOUT_MS`.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many suggestions there are to choose from.
const ALTERNATIVES: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that asks
    #[arg(long, value_parser = ["zsh", "bash", "fish"])]
    shell: String,
    /// The line as it stands
    #[arg(long, allow_hyphen_values = true)]
    line: String,
    /// Where the cursor is, in characters
    #[arg(long)]
    cursor: usize,
    /// The shell's history file
    #[arg(long)]
    histfile: Option<PathBuf>,
    /// Read the commands this shell has run from standard input, one a line, oldest first
    #[arg(long)]
    recent: bool,
    /// The last line of the prompt, to draw it and the line; without it they are on the screen already
    #[arg(long, allow_hyphen_values = true)]
    prompt: Option<String>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// What to add to the line, or to put in its place.
    text: String,
    replaces: bool,
    keys: Vec<Key>,
}

/// Suggests, and prints what the user made of it.
///
/// # Errors
/// Where the answer can't be printed. Everything else means that there is no suggestion.
pub fn run(args: Args) -> anyhow::Result<()> {
    let outcome = ask(&args).unwrap_or_default();
    let verb = match (outcome.text.is_empty(), outcome.replaces) {
        (true, _) => "",
        (false, true) => "replace",
        (false, false) => "add",
    };
    let keys: Vec<String> = outcome.keys.iter().map(|key| key.to_hex(args.shell == "fish")).collect();
    writeln!(io::stdout().lock(), "{verb}\n{}\n{}", outcome.text, keys.join(" "))?;
    Ok(())
}

/// Nothing where there is nothing to suggest or to show it on.
fn ask(args: &Args) -> Option<Outcome> {
    let buffer = Buffer::at_char(args.line.clone(), args.cursor);
    let runtime = Runtime::locate().ok();
    let is_off = runtime.as_ref().is_some_and(|runtime| runtime.off_switch().exists());
    if is_off || buffer.before().trim().is_empty() {
        return None;
    }
    if !buffer.after().is_empty() {
        // Nothing can be drawn there, so the best one is put there at once.
        let text = suggest(args, &buffer, runtime.as_ref()).texts.into_iter().next()?;
        return matches!(buffer.kind(), Kind::Command).then(|| Outcome { text, ..Outcome::default() });
    }
    let mut tty = Tty::open(args.shell == "bash").ok()?;
    let mut outcome = on_screen(args, &buffer, runtime.as_ref(), &mut tty).unwrap_or_default();
    // Typed while we were busy with something else.
    outcome.keys.extend(tty.rest());
    Some(outcome)
}

fn on_screen(args: &Args, buffer: &Buffer, runtime: Option<&Runtime>, tty: &mut Tty) -> Option<Outcome> {
    let mut line = match &args.prompt {
        Some(prompt) => Line::after_prompt(prompt, buffer.line(), tty.width())?,
        None => Line::at_column(tty.column()?, tty.width()),
    };
    // Before anything that takes time: bash has wiped the line to make room.
    tty.draw(&line.text()).ok()?;
    let tally = Tally::new(&args.shell);
    let is_command = matches!(buffer.kind(), Kind::Command);
    tally.asked(0, if is_command { 0 } else { buffer.line().chars().count() });
    let found = suggest(args, buffer, runtime);
    if let Some(source) = found.source {
        tally.answered(0, source);
    }
    let outcome = choose(tty, &mut line, buffer, &found.texts);
    // Also when we were told to end: the shell draws the line again where this one began.
    tty.draw(&line.wipe()).ok()?;
    let outcome = outcome.ok()?;
    if !outcome.text.is_empty() {
        tally.accepted(&outcome.text);
    }
    if let Some(client) = found.client.filter(|client| client.welcome().stats == Some(true))
        && let Some(stats) = tally.take(true)
    {
        // What is not counted is not missed.
        let _ = client.send(&Request::Count(Box::new(stats)));
    }
    Some(outcome)
}

/// Suggestions.
#[derive(Default)]
struct Found {
    /// Best first.
    texts: Vec<String>,
    /// Where the best one comes from.
    source: Option<Source>,
    /// Who else was asked.
    client: Option<Client>,
}

/// What the history, the context and the daemon suggest.
fn suggest(args: &Args, buffer: &Buffer, runtime: Option<&Runtime>) -> Found {
    let shell = Shell::from_name(&args.shell);
    let file = args.histfile.clone().or_else(|| context::default_history_file(shell));
    let mut lines = file.and_then(|file| context::read_history(shell, &file).ok()).unwrap_or_default();
    if args.recent {
        let mut recent = String::new();
        // What is no text is no command to suggest.
        let _ = io::stdin().lock().read_to_string(&mut recent);
        lines.extend(recent.lines().map(|line| line.trim_start_matches(['\t', ' ']).to_owned()));
    }
    let cwd = env::current_dir().ok();
    let mut context = context::place(&args.shell, cwd.as_deref(), buffer.before());
    context.history = lines[lines.len().saturating_sub(context::MAX_HISTORY)..]
        .iter()
        .map(|line| HistoryLine { line: redact(line).into_owned(), status: None })
        .collect();
    let index = Index::from_lines(&lines);
    let candidates = context::candidates(&context, buffer, &index);
    let own: Vec<_> =
        candidates.iter().map(|candidate| (candidate.suffix.clone(), candidate.source)).collect();
    let asked = runtime.and_then(|runtime| ask_daemon(runtime, buffer, context, candidates));
    let (asked, client) = asked.map_or_else(Default::default, |(asked, client)| (asked, Some(client)));
    let mut found = Found { client, ..Found::default() };
    for (text, source) in asked.into_iter().chain(own) {
        // The daemon has looked already, and a daemon may be wrong.
        if is_displayable(&text) && !text.trim().is_empty() && !found.texts.contains(&text) {
            found.source.get_or_insert(source);
            found.texts.push(text);
        }
    }
    found
}

/// What the daemon suggests, if it does so in time.
fn ask_daemon(
    runtime: &Runtime,
    buffer: &Buffer,
    context: Context,
    candidates: Vec<Candidate>,
) -> Option<(Vec<(String, Source)>, Client)> {
    let setting = env::var("NEMOTERM_TIMEOUT_MS").ok().and_then(|text| text.parse().ok());
    let patience = setting.map_or(PATIENCE, Duration::from_millis);
    let deadline = Instant::now() + patience;
    let line = redact(buffer.before());
    if line.ends_with(MARKER) && line != buffer.before() {
        return None;
    }
    let client = match Client::connect(runtime, patience) {
        Ok(client) => client,
        Err(ClientError::NotRunning) => {
            if env::var_os("NEMOTERM_AUTOSTART").is_none_or(|value| value != "0") && runtime.create().is_ok()
            {
                // For the next time.
                let _ = daemon_process::ensure_started(runtime);
            }
            return None;
        }
        Err(_) => return None,
    };
    let request = Complete {
        id: 1,
        cursor: line.len(),
        line: format!("{line}{}", redact(buffer.after())),
        context,
        candidates,
        alternatives: ALTERNATIVES,
        budget_ms: deadline.saturating_duration_since(Instant::now()).as_millis() as u64 * 4 / 5,
        ..Complete::default()
    };
    client.send(&Request::Complete(Box::new(request))).ok()?;
    match client.receive(Some(deadline)).ok()? {
        Reply::Completion(completion) => {
            let found = completion.alternatives.into_iter().map(|found| (found.suffix, found.source));
            Some((found.collect(), client))
        }
        _ => None,
    }
}

/// Shows the suggestions and takes keys until the user has decided. The line grows by the words that are accepted.
fn choose(tty: &mut Tty, line: &mut Line, buffer: &Buffer, suggestions: &[String]) -> io::Result<Outcome> {
    let replaces = matches!(buffer.kind(), Kind::Description(_));
    let mut outcome = Outcome { replaces, ..Outcome::default() };
    let mut fitting: Vec<String> = suggestions.to_vec();
    let mut shown = 0;
    while let Some(suggestion) = fitting.get(shown).cloned() {
        let ghost = if replaces { format!("  -> {suggestion}") } else { suggestion.clone() };
        let Some(ghost) = line.clip(&ghost) else { break };
        tty.draw_ghost(&ghost)?;
        let key = tty.key()?;
        tty.wipe_ghost()?;
        match key.action() {
            Some(Action::Accept) => {
                outcome.text.push_str(&suggestion);
                break;
            }
            Some(Action::AcceptWord) if replaces => {
                outcome.text = suggestion;
                break;
            }
            Some(Action::AcceptWord) => {
                let (word, rest) = layout::split_word(&suggestion);
                outcome.text.push_str(word);
                fitting.retain(|other| other.len() > word.len() && other.starts_with(word));
                for other in &mut fitting {
                    other.drain(..word.len());
                }
                shown = fitting.iter().position(|other| other == rest).unwrap_or(0);
                tty.draw(word)?;
                line.add(word);
            }
            Some(Action::Next) => shown = (shown + 1) % fitting.len(),
            Some(Action::Previous) => shown = (shown + fitting.len() - 1) % fitting.len(),
            Some(Action::Dismiss) => break,
            None => {
                outcome.keys.push(key);
                break;
            }
        }
    }
    Ok(outcome)
}
