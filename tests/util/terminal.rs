//! A terminal: a pseudo-terminal with a program in it, and the screen as that program drew it.
//!
//! The reference is the grid of the `vt100` crate. Tests wait for a screen and never sleep.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal},
    pty::OpenptFlags,
    termios::Winsize,
};

use super::{DEADLINE, margin::Margin};

/// How many rows that have left the screen are kept: all of them, in every test.
const SCROLLBACK: usize = 1_000_000;

/// How long nothing is drawn when what was drawn is whole.
const SETTLED: Duration = Duration::from_millis(20);

/// How long nothing is drawn between the pieces of one screen, at most.
const PIECES: Duration = Duration::from_millis(5);

/// A running program and its screen.
pub struct Terminal {
    child: Child,
    master: File,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A test that failed while it looked at the screen leaves a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    parser: vt100::Parser,
    margin: Margin,
    /// What the screen showed after each piece of output.
    moments: Vec<Moment>,
    /// Everything that was ever written.
    written: Vec<u8>,
    ended: bool,
}

/// The screen at one time, in short.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "only the measurements ask when")]
pub struct Moment {
    /// When the bytes that made it so arrived.
    pub at: Instant,
    /// Row and column of the cursor.
    pub cursor: (u16, u16),
    /// The text drawn as a ghost.
    pub ghost: String,
}

impl State {
    fn draw(&mut self, written: &[u8]) {
        self.margin.draw(&mut self.parser, written);
    }

    fn ghosts(&self) -> Vec<String> {
        let mut ghosts: Vec<String> = self.moments.iter().map(|moment| moment.ghost.clone()).collect();
        ghosts.dedup();
        if ghosts.first().is_some_and(String::is_empty) {
            ghosts.remove(0);
        }
        ghosts
    }
}

/// What is on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    /// Its rows without blanks at the end, without empty rows at the end.
    pub rows: Vec<String>,
    /// The text drawn as a ghost.
    pub ghost: String,
    /// Row and column of the cursor.
    pub cursor: (u16, u16),
}

impl Screen {
    fn of(screen: &vt100::Screen) -> Self {
        let (height, width) = screen.size();
        let mut rows: Vec<String> = screen.rows(0, width).map(|row| row.trim_end().to_owned()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        let mut ghost = String::new();
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let Some(cell) = screen.cell(row, column) else { continue };
            if is_ghost(cell) && !cell.is_wide_continuation() {
                ghost.push_str(if cell.has_contents() { cell.contents() } else { " " });
            }
        }
        Self { rows, ghost: ghost.trim_end().to_owned(), cursor: screen.cursor_position() }
    }

    /// All rows.
    pub fn text(&self) -> String {
        self.rows.join("\n")
    }

    /// The last row with anything on it.
    pub fn last_row(&self) -> &str {
        self.rows.last().map_or("", String::as_str)
    }
}

/// Ghosts are drawn in bright black or dim.
pub fn is_ghost(cell: &vt100::Cell) -> bool {
    cell.fgcolor() == vt100::Color::Idx(8) || cell.dim()
}

impl Terminal {
    /// Runs a program in a terminal of 24 rows and 80 columns.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_sized(command, 24, 80)
    }

    /// Runs a program in a terminal of that size.
    pub fn spawn_sized(mut command: Command, rows: u16, columns: u16) -> Self {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave: OwnedFd = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        rustix::termios::tcsetwinsize(&slave, size(rows, columns)).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: these are plain system calls, which are allowed between fork and exec.
        #[expect(unsafe_code, reason = "a controlling terminal can only be taken in the child")]
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                // A job in the background is begun with these ignored, and a shell has no traps for what it finds ignored.
                for signal in [libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let master = File::from(master);
        let state = State {
            parser: vt100::Parser::new(rows, columns, SCROLLBACK),
            margin: Margin::default(),
            moments: Vec::new(),
            written: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (reader, reading) = (master.try_clone().unwrap(), Arc::clone(&shared));
        thread::spawn(move || read(reader, &reading));
        Self { child, master, shared }
    }

    /// Types. A Ctrl-C is typed when nothing is being drawn: what the terminal has not read by then, the kernel throws away.
    pub fn send(&self, keys: impl AsRef<[u8]>) {
        if keys.as_ref().contains(&3) {
            self.settle();
        }
        if keys.as_ref() == b"\x03" {
            // The kernel throws away what was written and not read, after it has sent the signal: a shell that answers at once loses
            // its answer. There is nothing typed before that it would have to throw away.
            let mut modes = rustix::termios::tcgetattr(&self.master).unwrap();
            modes.local_modes.insert(rustix::termios::LocalModes::NOFLSH);
            rustix::termios::tcsetattr(&self.master, rustix::termios::OptionalActions::Now, &modes).unwrap();
        }
        (&self.master).write_all(keys.as_ref()).unwrap();
    }

    /// Waits until nothing has been drawn for a moment.
    pub fn settle(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state();
        let mut written = usize::MAX;
        while written != state.written.len() && !state.ended && Instant::now() < deadline {
            written = state.written.len();
            state = self.shared.changed.wait_timeout(state, SETTLED).unwrap().0;
        }
    }

    /// Types one character after the other, each when the one before is on the screen.
    pub fn type_slowly(&self, text: &str) {
        for key in text.chars() {
            let before = self.written().len();
            self.send(key.to_string());
            drop(self.wait_until(&format!("an echo of {key:?}"), |state| state.written.len() > before));
        }
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        let mut state = self.state();
        // A wide character that is cut in half makes the emulator (vt100 0.16.2) look beyond the row when it is erased. A terminal
        // shows a blank there.
        let screen = state.parser.screen();
        let (row, column) = screen.cursor_position();
        let mut blanks = String::new();
        for cut in 0..screen.size().0 {
            if screen.cell(cut, columns - 1).is_some_and(vt100::Cell::is_wide) {
                blanks.push_str(&format!("\x1b[{};{columns}H ", cut + 1));
            }
        }
        if !blanks.is_empty() {
            state.parser.process(format!("{blanks}\x1b[{};{}H", row + 1, column + 1).as_bytes());
        }
        state.parser.screen_mut().set_size(rows, columns);
        drop(state);
        rustix::termios::tcsetwinsize(&self.master, size(rows, columns)).unwrap();
    }

    /// What is on the screen now.
    pub fn screen(&self) -> Screen {
        Screen::of(self.state().parser.screen())
    }

    /// Lets somebody look at the screen, and at what has left it.
    pub fn look<T>(&self, look: impl FnOnce(&mut vt100::Screen) -> T) -> T {
        look(self.state().parser.screen_mut())
    }

    /// A picture of the first so many rows, see [`super::picture`].
    pub fn picture(&self, rows: u16) -> String {
        super::picture::svg(self.state().parser.screen(), rows)
    }

    /// Waits for a screen and returns it, when it is whole: what is drawn comes in pieces, and the cursor last.
    pub fn wait(&self, what: &str, is_there: impl Fn(&Screen) -> bool) -> Screen {
        loop {
            let mut state = self.wait_until(what, |state| is_there(&Screen::of(state.parser.screen())));
            let until = Instant::now() + SETTLED;
            let mut written = usize::MAX;
            // Programs that never stop drawing are not waited for.
            while written != state.written.len() && !state.ended && Instant::now() < until {
                written = state.written.len();
                state = self.shared.changed.wait_timeout(state, PIECES).unwrap().0;
            }
            let screen = Screen::of(state.parser.screen());
            if is_there(&screen) {
                return screen;
            }
        }
    }

    /// Whether there is any ghost before that time is over.
    pub fn has_ghost_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        loop {
            if !Screen::of(state.parser.screen()).ghost.is_empty() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for this ghost.
    pub fn wait_ghost(&self, ghost: &str) -> Screen {
        self.wait(&format!("the ghost {ghost:?}"), |screen| screen.ghost == ghost)
    }

    /// Waits until the last row is this, ghost and all.
    pub fn wait_row(&self, row: &str) -> Screen {
        self.wait(&format!("the row {row:?}"), |screen| screen.last_row() == row)
    }

    /// Waits until a row of the screen is this and the prompt `>` follows: what is typed before the shell reads would
    /// be echoed by the terminal.
    pub fn wait_output(&self, row: &str) -> Screen {
        self.wait(&format!("a row {row:?} and a prompt"), |screen| {
            screen.rows.iter().any(|other| other == row) && screen.last_row() == ">" && screen.cursor.1 == 2
        })
    }

    /// Every ghost that was ever on the screen, in order; an empty one where it went away.
    pub fn ghosts(&self) -> Vec<String> {
        self.state().ghosts()
    }

    /// What the screen showed since the first so many moments.
    #[allow(dead_code, reason = "only the measurements ask when")]
    pub fn moments(&self, since: usize) -> Vec<Moment> {
        self.state().moments[since..].to_vec()
    }

    /// Everything the program has written.
    pub fn written(&self) -> Vec<u8> {
        self.state().written.clone()
    }

    /// Waits until the program ends.
    pub fn wait_end(&mut self) {
        let child = &mut self.child;
        super::eventually("the program ends", || child.try_wait().unwrap().is_some());
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            let screen = Screen::of(state.parser.screen());
            assert!(!state.ended, "the program ended before {what}:\n{}", screen.text());
            assert!(
                left > Duration::ZERO,
                "{what} never came. ghost {:?}, cursor {:?}, ghosts so far {:?}, screen:\n{}",
                screen.ghost,
                screen.cursor,
                state.ghosts(),
                screen.text()
            );
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
        state
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The session ends with its leader, as when a window is closed.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, Signal::HUP);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Draws what arrives, and answers what terminals are asked.
fn read(mut master: File, shared: &Shared) {
    let mut chunk = [0; 65536];
    // The beginning of a question of which the end has not arrived.
    let mut unread = Vec::new();
    loop {
        let length = match master.read(&mut chunk) {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        let at = Instant::now();
        let mut state = shared.lock();
        state.written.extend_from_slice(&chunk[..length]);
        unread.extend_from_slice(&chunk[..length]);
        // Where the cursor is, is asked about between two pieces of text.
        while let Some((end, question)) = first_question(&unread) {
            state.draw(&unread[..end]);
            unread.drain(..end);
            let (row, column) = state.parser.screen().cursor_position();
            let _ = match question {
                WHERE => write!(master, "\x1b[{};{}R", row + 1, column + 1),
                _ => write!(master, "\x1b[?6c"),
            };
        }
        let whole = unread.len() - unfinished(&unread);
        state.draw(&unread[..whole]);
        unread.drain(..whole);
        let screen = Screen::of(state.parser.screen());
        state.moments.push(Moment { at, cursor: screen.cursor, ghost: screen.ghost });
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

/// Where is the cursor?
const WHERE: &[u8] = b"\x1b[6n";
/// That, and twice: what kind of terminal is this?
const QUESTIONS: [&[u8]; 3] = [WHERE, b"\x1b[c", b"\x1b[0c"];

/// The first question in what was written, and where it ends.
fn first_question(written: &[u8]) -> Option<(usize, &'static [u8])> {
    let ends = QUESTIONS.iter().filter_map(|&question| {
        let start = written.windows(question.len()).position(|window| window == question)?;
        Some((start + question.len(), question))
    });
    ends.min_by_key(|&(end, _)| end)
}

/// How many bytes at the end may be the beginning of a question.
fn unfinished(written: &[u8]) -> usize {
    let begins = |&length: &usize| {
        let end = written.len().checked_sub(length).map(|start| &written[start..]);
        end.is_some_and(|end| {
            QUESTIONS.iter().any(|question| question.len() > length && question.starts_with(end))
        })
    };
    (1..WHERE.len()).rev().find(begins).unwrap_or(0)
}

#[test]
fn a_question_in_two_pieces_is_one() {
    assert_eq!(first_question(b"a\x1b[c\x1b[6nb"), Some((4, QUESTIONS[1])));
    assert_eq!(first_question(b"\x1b[6m\x1b[6"), None);
    for (written, length) in [(&b"abc\x1b"[..], 1), (b"\x1b[6", 3), (b"\x1b[0", 3), (b"\x1b[7", 0), (b"", 0)]
    {
        assert_eq!(unfinished(written), length, "{written:?}");
    }
}
