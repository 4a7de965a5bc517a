//! The records between the shell and its client, as [`super`] describes them.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use nemoterm_protocol::{Source, runtime::Runtime};
use nemoterm_suggest::buffer::Buffer;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::Pid,
};

use super::{mailbox::Mailbox, tally::Tally};

/// How the names of our files in the runtime directory begin. Our process id follows.
const PREFIX: &str = "attach.";

/// What separates the fields of a record.
pub const SEPARATOR: char = '\x1f';

/// Bytes a pipe takes in one piece on every system we know, Linux allowing 4096 and macOS 512.
const MAX_REPLY: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Bytes a request may have. Nobody types that much.
const MAX_REQUEST: usize = 64 * 1024;

/// What the shell says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A line to complete.
    Complete {
        /// Names the request in its replies.
        seq: u64,
        /// Whether the user asked for it.
        asked: bool,
        /// The line and the cursor.
        buffer: Buffer,
    },
    /// The line of a fish has changed, or the user wants to know or to see another suggestion; the cursor is at its end.
    Line {
        /// The shell's number for its prompt.
        prompt: u64,
        /// What is wanted.
        wanted: Wanted,
        /// The line.
        line: String,
    },
    /// The user has taken this of a suggestion.
    Accept {
        /// What was taken.
        text: String,
    },
    /// Nothing but a signal is wanted, see [`super`].
    Nudge,
    /// No signal is wanted until there is a line again.
    Quiet,
    /// A prompt appears.
    Prompt {
        /// Working directory of the shell.
        cwd: PathBuf,
        /// What was run before the prompt, and its exit status.
        ran: Option<(String, i32)>,
    },
}

/// What a fish wants that tells its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What continues it.
    Typed,
    /// The same, and the user has asked.
    Asked,
    /// The suggestion that is so much further on.
    Step(isize),
}

impl Request {
    /// Reads a record without its NUL. One that is no request, or no text, is nothing.
    fn parse(record: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(record).ok()?.splitn(5, SEPARATOR);
        let seq = fields.next()?.parse().ok()?;
        let kind = fields.next()?;
        match kind {
            "type" | "ask" => {
                let cursor = fields.next()?.parse().ok()?;
                let line = fields.next()?;
                let whole = fields.next().is_none();
                whole.then(|| Self::Complete {
                    seq,
                    asked: kind == "ask",
                    buffer: Buffer::at_char(line, cursor),
                })
            }
            "typed" | "asked" | "next" | "previous" => {
                let line = fields.next()?.to_owned();
                let wanted = match kind {
                    "typed" => Wanted::Typed,
                    "asked" => Wanted::Asked,
                    "next" => Wanted::Step(1),
                    _ => Wanted::Step(-1),
                };
                fields.next().is_none().then_some(Self::Line { prompt: seq, wanted, line })
            }
            "accept" => {
                let text = fields.next()?.to_owned();
                fields.next().is_none().then_some(Self::Accept { text })
            }
            "nudge" => Some(Self::Nudge),
            "quiet" => Some(Self::Quiet),
            "event" => {
                let status = fields.next()?.parse().ok()?;
                let cwd = PathBuf::from(fields.next()?);
                let line = fields.next()?;
                Some(Self::Prompt { cwd, ran: (!line.is_empty()).then(|| (line.to_owned(), status)) })
            }
            _ => None,
        }
    }
}

/// Where requests come from.
#[derive(Debug)]
pub struct Requests {
    input: File,
    /// The pipe's name, until the shell has opened it.
    fifo: Option<Fifo>,
    /// Our own end to write to, where the shell opens the pipe anew for every request: without it the input would end
    /// each time, and the shell would wait for us to open it again.
    writer: Option<File>,
    shell: Option<Watched>,
    unread: Vec<u8>,
}

impl Requests {
    /// Reads from a named pipe, or from standard input without one, and watches the shell of that process id.
    /// A pipe that is `reopened` for every request keeps its name.
    ///
    /// # Errors
    /// Where the pipe can't be opened.
    pub fn new(fifo: Option<Fifo>, shell: Option<i32>, reopened: bool) -> anyhow::Result<Self> {
        let input = match &fifo {
            Some(fifo) => fifo.open()?,
            None => File::from(io::stdin().as_fd().try_clone_to_owned()?),
        };
        let writer = match &fifo {
            Some(fifo) if reopened => Some(File::options().write(true).open(fifo.path())?),
            _ => None,
        };
        Ok(Self { input, fifo, writer, shell: shell.and_then(Watched::new), unread: Vec::new() })
    }

    /// Waits for requests and gives all there are; nothing when the shell has gone.
    ///
    /// # Errors
    /// Where the input can't be read.
    pub fn wait(&mut self) -> anyhow::Result<Option<Vec<Request>>> {
        loop {
            if !self.readable()? {
                return Ok(None);
            }
            let mut chunk = [0; 8192];
            let length = match self.input.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error).context("reading requests"),
            };
            if self.writer.is_none() {
                self.fifo = None;
            }
            self.unread.extend_from_slice(&chunk[..length]);
            let requests = self.take();
            if !requests.is_empty() {
                return Ok(Some(requests));
            }
        }
    }

    /// Blocks until there is input, or tells that the shell has gone.
    fn readable(&self) -> anyhow::Result<bool> {
        loop {
            let mut fds = vec![PollFd::new(&self.input, PollFlags::IN)];
            let mut timeout = None;
            match &self.shell {
                Some(Watched::Handle(shell)) => fds.push(PollFd::new(shell, PollFlags::IN)),
                Some(Watched::Pid(_)) => timeout = Some(Timespec { tv_sec: 5, tv_nsec: 0 }),
                None => {}
            }
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => {
                    if let Some(Watched::Pid(pid)) = self.shell
                        && rustix::process::test_kill_process(pid).is_err()
                    {
                        return Ok(false);
                    }
                }
                // What the shell wrote last is counted, if not answered any more.
                Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(true),
                Ok(_) if fds.get(1).is_some_and(|shell| !shell.revents().is_empty()) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for requests"),
            }
        }
    }

    /// The complete records of what was read.
    fn take(&mut self) -> Vec<Request> {
        let Some(end) = self.unread.iter().rposition(|&byte| byte == 0) else {
            if self.unread.len() > MAX_REQUEST {
                self.unread.clear();
            }
            return Vec::new();
        };
        let rest = self.unread.split_off(end + 1);
        let records = std::mem::replace(&mut self.unread, rest);
        records.split(|&byte| byte == 0).filter_map(Request::parse).collect()
    }
}

/// A process whose end is noticed.
#[derive(Debug)]
enum Watched {
    /// A handle that becomes readable when the process ends.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has such handles"))]
    Handle(OwnedFd),
    /// Where there are no handles, it is looked after now and then.
    Pid(Pid),
}

impl Watched {
    fn new(pid: i32) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        #[cfg(target_os = "linux")]
        if let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            return Some(Self::Handle(handle));
        }
        Some(Self::Pid(pid))
    }
}

/// A pipe with a name, for shells that can't make one without. The name goes away with it.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
}

impl Fifo {
    /// Makes one in the runtime directory, which is closed to other users.
    ///
    /// # Errors
    /// Where there is no such directory, or the pipe can't be made.
    pub fn create(runtime: Option<&Runtime>) -> anyhow::Result<Self> {
        let runtime = runtime.context("there is no directory for the pipe")?;
        runtime.create()?;
        sweep(runtime.dir());
        Self::at(&runtime.dir().join(format!("{PREFIX}{}", std::process::id())))
    }

    /// Makes one there, which has to be in a directory that is closed to other users.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        // Left over from an earlier process with our id.
        let _ = fs::remove_file(path);
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: mkfifo reads the name, which is a C string that outlives the call.
        #[expect(unsafe_code, reason = "rustix has no mkfifo on every system")]
        let made = unsafe { libc::mkfifo(name.as_ptr(), 0o600) };
        if made != 0 {
            return Err(io::Error::last_os_error()).context("making the pipe");
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the end that is read. Does not wait for the shell.
    fn open(&self) -> io::Result<File> {
        File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&self.path)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what clients that were killed have left.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && has_ended(pid)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a process has ended, even where nobody has asked how: a zombie has no program any more.
fn has_ended(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        || Path::new("/proc/self/exe").exists()
            && fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).is_err()
}

/// How the shell is answered. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct Replies {
    output: Arc<Mutex<Output>>,
    tally: Tally,
}

#[derive(Debug)]
enum Output {
    Pipe(File),
    Mailbox(Mailbox),
}

impl Replies {
    /// Leaves replies in a file and signals the shell, for one that can't read a pipe while it waits for keys.
    pub fn with_mailbox(mailbox: Mailbox) -> Self {
        Self { output: Arc::new(Mutex::new(Output::Mailbox(mailbox))), tally: Tally::default() }
    }

    /// The same, and counts there what is told.
    pub fn counting(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    /// A fish has told its line. Gives the number of a request for it, where one is to be made.
    pub fn line(&self, prompt: u64, wanted: Wanted, line: &str) -> Option<u64> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let Output::Mailbox(mailbox) = &mut *output else { return None };
        mailbox.wake();
        let shown = mailbox.shown();
        let sequence = match wanted {
            Wanted::Typed => shown.typed(prompt, line),
            Wanted::Asked => shown.asked(prompt, line),
            Wanted::Step(by) => shown.stepped(prompt, line, by),
        };
        // A shell that has no room for files is shown nothing.
        let _ = mailbox.show();
        sequence
    }

    /// Signals the shell no more, until it tells its line again.
    pub fn quiet(&self) {
        if let Output::Mailbox(mailbox) = &*self.output.lock().unwrap_or_else(PoisonError::into_inner) {
            mailbox.quiet();
        }
    }

    /// Signals the shell, where that is how it is answered.
    pub fn nudge(&self) {
        if let Output::Mailbox(mailbox) = &*self.output.lock().unwrap_or_else(PoisonError::into_inner) {
            mailbox.signal();
        }
    }

    /// Writes to a pipe, which becomes non-blocking: a shell that does not read must not hold us up.
    ///
    /// # Errors
    /// Where the pipe can't be set up.
    pub fn new(output: BorrowedFd<'_>) -> io::Result<Self> {
        let output = output.try_clone_to_owned()?;
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        let output = Arc::new(Mutex::new(Output::Pipe(File::from(output))));
        Ok(Self { output, tally: Tally::default() })
    }

    /// Writes to a pipe with a name, whether or not the shell has opened it yet. Our own end to read keeps it open.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub fn through(fifo: &Fifo) -> io::Result<Self> {
        let pipe = File::options().read(true).write(true).open(fifo.path())?;
        Self::new(pipe.as_fd())
    }

    /// Says that requests are read, and where.
    pub fn hello(&self, fifo: Option<&Path>) {
        let path = fifo.and_then(Path::to_str).unwrap_or_default();
        self.write(&format!("0{SEPARATOR}hello{SEPARATOR}{path}\0"));
    }

    /// Answers a request. Alternatives that do not fit the record are left out.
    pub fn send(&self, seq: u64, replaces: bool, source: Source, texts: &[String]) {
        let from = source;
        if let Output::Mailbox(mailbox) = &mut *self.output.lock().unwrap_or_else(PoisonError::into_inner) {
            if mailbox.shown().take(seq, replaces, texts) {
                self.tally.answered(seq, from);
                let _ = mailbox.show();
            }
            return;
        }
        let verb = if replaces { "replace" } else { "add" };
        let source = match source {
            Source::Model => "model",
            Source::History => "history",
            Source::Context => "context",
        };
        let mut record = format!("{seq}{SEPARATOR}{verb}{SEPARATOR}{source}");
        let before = record.len();
        for text in texts {
            // One byte for the separator and one for the NUL.
            if record.len() + text.len() + 2 <= MAX_REPLY {
                record.push(SEPARATOR);
                record.push_str(text);
            }
        }
        if record.len() > before {
            record.push('\0');
            self.tally.answered(seq, from);
            self.write(&record);
        }
    }

    fn write(&self, record: &str) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // A full pipe takes nothing of a record this short. A shell that is gone is noticed at the input.
        if let Output::Pipe(pipe) = &mut *output {
            let _ = pipe.write_all(record.as_bytes());
        }
    }
}

/// Keeps what the shell had open from the programs we start: a daemon outlives the shell, and what waits for the end
/// of some pipe must not wait for the daemon.
pub fn close_on_exec() {
    let Ok(open) = fs::read_dir("/dev/fd") else { return };
    let open: Vec<i32> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: a number that is open no more is answered with an error, and nothing is closed here.
        #[expect(unsafe_code, reason = "inherited descriptors have no owner in this program")]
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(record: &str) -> Option<Request> {
        Request::parse(record.as_bytes())
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(
            parsed("7\x1ftype\x1f4\x1fcd ü\nls"),
            Some(Request::Complete { seq: 7, asked: false, buffer: Buffer::at_char("cd ü\nls", 4) })
        );
        assert_eq!(
            parsed("8\x1fask\x1f2\x1fls"),
            Some(Request::Complete { seq: 8, asked: true, buffer: Buffer::at_end("ls") })
        );
        assert_eq!(
            parsed("9\x1fevent\x1f130\x1f/tmp\x1fsleep 9"),
            Some(Request::Prompt { cwd: "/tmp".into(), ran: Some(("sleep 9".to_owned(), 130)) })
        );
        assert_eq!(
            parsed("3\x1fnext\x1fls "),
            Some(Request::Line { prompt: 3, wanted: Wanted::Step(1), line: "ls ".to_owned() })
        );
        assert_eq!(parsed("9\x1faccept\x1f -la"), Some(Request::Accept { text: " -la".to_owned() }));
        assert_eq!(parsed("9\x1fevent\x1f0\x1f/\x1f"), Some(Request::Prompt { cwd: "/".into(), ran: None }));
    }

    #[test]
    fn what_is_no_request_is_dropped() {
        for record in
            ["", "x", "1\x1fdance", "1\x1ftype\x1fx\x1fls", "1\x1ftype\x1f2", "1\x1ftype\x1f2\x1fa\x1fb"]
        {
            assert_eq!(parsed(record), None, "{record:?}");
        }
        assert_eq!(Request::parse(b"1\x1ftype\x1f2\x1f\xff\xfe"), None);
    }

    #[test]
    fn records_may_arrive_in_pieces() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut requests =
            Requests { input: read.into(), fifo: None, writer: None, shell: None, unread: Vec::new() };
        let mut write = File::from(write);
        write.write_all(b"1\x1ftype\x1f2\x1fls\x002\x1ftype\x1f3\x1fls").unwrap();
        assert_eq!(requests.wait().unwrap().unwrap().len(), 1);
        write.write_all(b" \0").unwrap();
        let buffer = Buffer::at_end("ls ");
        assert_eq!(requests.wait().unwrap().unwrap(), [Request::Complete { seq: 2, asked: false, buffer }]);
        drop(write);
        assert_eq!(requests.wait().unwrap(), None);
    }

    #[test]
    fn what_a_shell_wrote_before_its_end_is_read() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut shell = std::process::Command::new("true").spawn().unwrap();
        let watched = Watched::new(i32::try_from(shell.id()).unwrap());
        let mut requests =
            Requests { input: read.into(), fifo: None, writer: None, shell: watched, unread: Vec::new() };
        let mut write = File::from(write);
        write.write_all(b"0\x1faccept\x1f -la\0").unwrap();
        shell.wait().unwrap();
        assert_eq!(requests.wait().unwrap().unwrap(), [Request::Accept { text: " -la".to_owned() }]);
        // The pipe is still open, as where we hold its other end.
        assert_eq!(requests.wait().unwrap(), None);
    }

    #[test]
    fn a_reply_fits_the_pipe() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let replies = Replies::new(write.as_fd()).unwrap();
        drop(write);
        replies.send(
            3,
            false,
            Source::History,
            &["x".repeat(MAX_REPLY), " -la".to_owned(), " -l".to_owned()],
        );
        replies.send(4, true, Source::Model, &["x".repeat(MAX_REPLY)]);
        drop(replies);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "3\x1fadd\x1fhistory\x1f -la\x1f -l\0");
    }
}
