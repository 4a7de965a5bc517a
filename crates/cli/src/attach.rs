//! `nemoterm attach`: the resident client of one interactive shell.
//!
//! A shell starts one when its first prompt appears and talks to it over pipes, so that a key stroke costs the
//! shell one write and no fork. Connecting, deadlines, backing off and starting the daemon happen here, where
//! nobody waits for them.
//!
//! # The records
//!
//! Both directions carry records. A record is fields, separated by a unit separator (0x1f), and ends in a NUL,
//! so that a line break in a command breaks nothing. The shell writes
//!
//! | fields | meaning |
//! | --- | --- |
//! | SEQ `type` CURSOR LINE | complete the line, as it is being typed |
//! | SEQ `ask` CURSOR LINE | complete it because the user asked: more alternatives, more patience |
//! | SEQ `accept` TEXT | this of the suggestion was taken; not answered |
//! | SEQ `event` STATUS CWD LINE | a prompt appears: where, and what was run before with which exit status |
//! | SEQ `nudge` | signal me: fish wants to draw, and can't where it is |
//! | SEQ `quiet` | signal me no more until I tell my line: fish runs something that a signal may cut short |
//! | SEQ `typed` LINE | fish's line has changed, and the cursor is at its end |
//! | SEQ `asked` LINE | the same, and the user has asked |
//! | SEQ `next` LINE, SEQ `previous` LINE | the user wants to see another suggestion |
//!
//! SEQ is a number the shell chooses, larger each time (fish: at each prompt), and CURSOR counts characters. It reads
//!
//! | fields | meaning |
//! | --- | --- |
//! | 0 `hello` FIFO | the client is ready; with `--fifo`, where it reads requests |
//! | SEQ `add` SOURCE TEXT... | what may be added at the cursor of that request, best first |
//! | SEQ `replace` SOURCE TEXT... | commands that may take the place of that description, best first |
//!
//! A request may be answered twice, from the history at once and again when the model knows better, or not at
//! all. Only the newest one is worked on. A record is never longer than a pipe takes in one piece, and a reply
//! the shell has no room for is dropped.
//!
//! fish can neither keep a pipe open nor wait for one. With `--background` we print the pipe's name and our process
//! id, a line each, and go on by ourselves; the shell opens the pipe for every request, and finds the newest reply in
//! the file that is named like the pipe with `.reply` at its end, whenever SIGURG reaches it. Which suggestion continues the line,
//! and how it is drawn, is found out here ([`shown`]), as every value that a function of fish computes costs it a thread:
//!
//! | fields | meaning |
//! | --- | --- |
//! | SEQ LINE `add` TEXT DRAWING LAST NEXT CHARACTER... WIPE... | what may be added to that line, and what draws it, see below |
//! | SEQ LINE `replace` TEXT DRAWING LAST NEXT GHOST WIPE | the command that may take its place |
//!
//! DRAWING draws the ghost once the cursor is saved. Then come its characters, the last of which is field LAST, and from field NEXT on
//! what wipes each of them, counted from one.
//!
//! While there is a file that is named like the pipe with `.signals` at its end, signals may come.
//!
//! With `--pipes` what has that name is a pipe too, and no signal is sent. That is for ble.sh, which looks for answers while it
//! waits for keys, and where a client that is the shell's own child would be waited for by `wait`.
//!
//! # Its life
//!
//! It leaves the shell's session, so Ctrl-C does not reach it, never writes to the terminal, sleeps in `poll`
//! when there is nothing to do, and ends when its input does or when the shell is gone.

mod daemon;
mod mailbox;
mod pipe;
mod session;
mod shown;
pub mod tally;

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use nemoterm_protocol::runtime::Runtime;

use crate::failure::Failure;
use mailbox::Mailbox;
use pipe::{Fifo, Replies, Requests};
use rustix::process::Pid;
use session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that talks to it
    #[arg(value_parser = ["zsh", "bash", "fish"])]
    shell: String,
    /// The shell's history file
    #[arg(long)]
    histfile: Option<PathBuf>,
    /// The shell's process id: its end is noticed even where a child of it keeps the pipe open
    #[arg(long)]
    pid: Option<i32>,
    /// Read requests from a pipe with a name, which the first reply tells
    #[arg(long)]
    fifo: bool,
    /// Go on in the background, answer in a file and signal the shell
    #[arg(long, requires = "fifo", requires = "pid")]
    background: bool,
    /// In the background, answer through a second pipe with a name, and signal nobody
    #[arg(long, requires = "fifo", requires = "pid")]
    pipes: bool,
    /// The process in the background
    #[arg(long, hide = true, requires = "fifo", requires = "pid", conflicts_with = "background")]
    mailbox: bool,
}

/// Serves one shell until it ends.
///
/// # Errors
/// Where it was not started by a shell's integration, or can't set itself up.
pub fn run(args: Args) -> anyhow::Result<()> {
    if rustix::termios::isatty(std::io::stdout()) {
        return Err(Failure::new(
            "attach talks to a shell's integration, not to a terminal",
            "run eval \"$(nemoterm init zsh)\" in your shell",
        )
        .into());
    }
    if args.background {
        return go_on_in_background();
    }
    // Fails for the leader of a process group, which no Ctrl-C reaches either.
    let _ = rustix::process::setsid();
    pipe::close_on_exec();
    // Whoever stays in a directory keeps it from being unmounted.
    let cwd = env::current_dir().unwrap_or_default();
    let _ = env::set_current_dir("/");

    let runtime = Runtime::locate().ok();
    let fifo = args.fifo.then(|| Fifo::create(runtime.as_ref())).transpose()?;
    let path = fifo.as_ref().map(|fifo| fifo.path().to_owned());
    let answers = path.as_deref().filter(|_| args.mailbox).map(Mailbox::beside);
    let pipe = answers.as_deref().filter(|_| args.pipes).map(Fifo::at).transpose()?;
    let mut requests = Requests::new(fifo, args.pid, args.mailbox)?;
    let mut replies = Replies::new(std::io::stdout().as_fd())?;
    let opened = pipe.as_ref().map(Replies::through).transpose()?;
    // Only now: who opens a pipe that nobody reads or writes is refused, or waits.
    replies.hello(path.as_deref());
    if let Some(opened) = opened {
        replies = opened;
    } else if let (Some(file), Some(shell)) = (&answers, args.pid.and_then(Pid::from_raw)) {
        replies = Replies::with_mailbox(Mailbox::new(file.clone(), shell));
    }

    let history = args.histfile.map(|file| cwd.join(file));
    let mut session = Session::new(&args.shell, cwd, history, runtime, replies);
    let ended = loop {
        match requests.wait() {
            Ok(Some(batch)) => session.answer(batch),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    session.end();
    if let Some(file) = answers {
        // They may never have been written.
        let _ = std::fs::remove_file(Mailbox::sign(&file));
        let _ = std::fs::remove_file(file);
    }
    ended
}

/// Starts the same once more, and says where it reads and which process it is.
fn go_on_in_background() -> anyhow::Result<()> {
    let arguments =
        env::args_os().skip(1).map(|word| if word == "--background" { "--mailbox".into() } else { word });
    let mut child = Command::new(env::current_exe().context("finding this program")?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("going on in the background")?;
    let mut hello = Vec::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_until(0, &mut hello)
            .context("waiting for the process in the background")?;
    }
    let hello = String::from_utf8_lossy(&hello);
    let path = hello.trim_end_matches('\0').rsplit('\x1f').next().filter(|path| !path.is_empty());
    let path = path.context("the process in the background has ended")?;
    writeln!(std::io::stdout().lock(), "{path}\n{}", child.id())?;
    Ok(())
}
