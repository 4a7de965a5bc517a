//! bash and the readline in it, as they are when this library has been loaded: the only unsafe code of the crate.
//!
//! Every symbol is looked up when bash loads the builtin, which is refused where one is missing. That works for
//! a bash with a readline of its own and for one that uses the system's.
//!
//! bash leaves functions it is interrupted in with `longjmp`. What can be left like this is named so below, and
//! is called only while nothing of ours is locked or borrowed and nothing waits to be dropped.
#![expect(unsafe_code, reason = "readline is C")]

mod builtin;
mod keymap;
mod symbols;

use std::{
    ffi::{CStr, CString, OsString, c_int, c_uchar, c_ulong},
    os::{
        fd::{BorrowedFd, RawFd},
        unix::ffi::OsStringExt as _,
    },
    ptr,
    sync::OnceLock,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::draw::Place;
use keymap::{KeymapEntry, lookup};
use symbols::{Getc, Missing, Symbols};

pub use keymap::Binding;
/// C's type for a stream.
pub use libc::FILE;
pub use symbols::Command;

/// Bits of `rl_readline_state`, the same since readline 5.
const READING_COMMAND: c_ulong = 0x8;
/// Searching, reading a numeric argument, a motion or a name, running a macro, completing, and the callback interface:
/// what is on the screen then is not just the line.
const BUSY: c_ulong =
    0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x4000 | 0x8_0000 | 0x10_0000 | 0x80_0000 | 0x1000_0000;

/// What a reader of keys returns when reading failed, as readline has it.
const READ_ERROR: c_int = -2;
/// What it returns at the end.
pub const END_OF_FILE: c_int = -1;

/// The readline of this process.
pub struct Readline {
    symbols: Symbols,
    /// What read keys before [`Readline::install`].
    before: OnceLock<Getc>,
}

static READLINE: OnceLock<Readline> = OnceLock::new();

/// The line and its surroundings.
#[derive(Debug)]
pub struct Snapshot {
    /// The line; nothing where it is not valid UTF-8.
    pub line: Option<String>,
    /// Where the cursor is in it, in bytes.
    pub cursor: usize,
    /// Whether the cursor is at its end.
    pub at_end: bool,
    /// Whether the last command was a paste.
    pub pasted: bool,
    /// Whether keys edit the line as in emacs, and Esc by itself means nothing.
    pub emacs: bool,
    /// Whether keys are commands, as in vi.
    pub commanding: bool,
    /// Where the line ends on the screen, if that is certain.
    pub place: Option<Place>,
}

/// Which of readline's keymaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Keys in emacs mode.
    Emacs,
    /// Keys that insert in vi mode.
    ViInsert,
}

impl Readline {
    /// Looks everything up.
    ///
    /// # Errors
    /// Where this bash lacks something.
    pub fn load() -> Result<(), Missing> {
        let symbols = Symbols::resolve()?;
        let _ = READLINE.set(Self { symbols, before: OnceLock::new() });
        Ok(())
    }

    /// The readline that was loaded.
    pub fn get() -> Option<&'static Self> {
        READLINE.get()
    }

    /// Puts our function in the place of the one that reads keys.
    pub fn install(&self, getc: Getc) {
        // SAFETY: a variable of readline, which holds a function of this type from the beginning.
        unsafe {
            if let Some(before) = *self.symbols.getc_function
                && !ptr::fn_addr_eq(before, getc)
            {
                let _ = self.before.set(before);
                *self.symbols.getc_function = Some(getc);
            }
        }
    }

    /// Takes our function back, where it is still there.
    pub fn uninstall(&self, getc: Getc) {
        // SAFETY: as in `install`.
        unsafe {
            if let Some(before) = self.before.get()
                && (*self.symbols.getc_function).is_some_and(|current| ptr::fn_addr_eq(current, getc))
            {
                *self.symbols.getc_function = Some(*before);
            }
        }
    }

    /// Reads a key as readline does. May be left by `longjmp`.
    pub fn getc(&self, stream: *mut FILE) -> c_int {
        self.before.get().map_or(END_OF_FILE, |before| before(stream))
    }

    /// Gives back a key, which is read next.
    pub fn unread(&self, key: c_int) {
        if key >= 0 {
            (self.symbols.stuff_char)(key);
        }
    }

    /// Waits for a key or for the client, for so long or for ever. May be left by `longjmp`.
    pub fn wait(&self, stream: *mut FILE, client: Option<RawFd>, timeout: Option<Duration>) -> Ready {
        // SAFETY: readline's stream. Descriptors that were closed are reported by `poll` and not used otherwise.
        let (keys, client) = unsafe {
            (
                BorrowedFd::borrow_raw(libc::fileno(stream).max(0)),
                client.filter(|&fd| fd >= 0).map(|fd| BorrowedFd::borrow_raw(fd)),
            )
        };
        let keys = PollFd::from_borrowed_fd(keys, PollFlags::IN);
        let second = client.map(|client| PollFd::from_borrowed_fd(client, PollFlags::IN));
        let mut fds = [keys.clone(), second.clone().unwrap_or(keys)];
        let count = if second.is_some() { 2 } else { 1 };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(0) => Ready::Nothing,
            Ok(_) if !fds[0].revents().is_empty() => Ready::Key,
            Ok(_) => Ready::Client,
            Err(Errno::INTR) => Ready::Interrupted,
            // Reading will tell.
            Err(_) => Ready::Key,
        }
    }

    /// Whether a signal waits to be handled by readline, or by bash, which sets its hook then.
    pub fn is_signalled(&self) -> bool {
        // SAFETY: a variable of readline.
        (self.symbols.pending_signal)() != 0 || unsafe { *self.symbols.signal_event_hook }.is_some()
    }

    /// Whether that is the one that gives up the line.
    pub fn is_interrupted(&self) -> bool {
        (self.symbols.pending_signal)() == libc::SIGINT
    }

    /// Does about signals what readline does when they interrupt its reading. Returns what reading a key has to
    /// return, where it has to end. May be left by `longjmp`.
    pub fn handle_signals(&self) -> Option<c_int> {
        let signal = (self.symbols.pending_signal)();
        if matches!(signal, libc::SIGHUP | libc::SIGTERM) {
            return Some(READ_ERROR);
        }
        if signal != 0 {
            (self.symbols.handle_signal)(signal);
        }
        // SAFETY: a variable of readline.
        if let Some(hook) = unsafe { *self.symbols.signal_event_hook } {
            hook();
        }
        None
    }

    fn state(&self) -> c_ulong {
        // SAFETY: a variable of readline.
        unsafe { *self.symbols.state }
    }

    /// Whether bash reads a command, rather than a builtin (`read -e`) a line of its own.
    pub fn is_at_prompt(&self) -> bool {
        // SAFETY: a variable of bash.
        unsafe { *self.symbols.executing_builtin == 0 }
    }

    /// Whether the first key of a command is being read, and nothing is in progress.
    pub fn is_reading_command(&self) -> bool {
        self.state() & (READING_COMMAND | BUSY) == READING_COMMAND
    }

    /// Looks at the line.
    pub fn snapshot(&self) -> Snapshot {
        let (line, at_end) = self.line();
        // SAFETY: variables of readline.
        let (vi, last) = unsafe { (*self.symbols.editing_mode == 0, *self.symbols.last_function) };
        let keymap = (self.symbols.current_keymap)();
        // SAFETY: a variable of readline.
        let cursor = unsafe { *self.symbols.point }.max(0) as usize;
        Snapshot {
            line,
            cursor,
            at_end,
            pasted: last.is_some_and(|last| ptr::fn_addr_eq(last, self.symbols.paste)),
            emacs: !vi,
            commanding: vi && keymap == (self.symbols.named_keymap)(c"vi-command".as_ptr()),
            place: self.place(),
        }
    }

    fn line(&self) -> (Option<String>, bool) {
        // SAFETY: readline keeps `rl_end` bytes of text in the buffer, where there is one.
        unsafe {
            let (buffer, end) = (*self.symbols.line_buffer, *self.symbols.end);
            if buffer.is_null() {
                return (None, false);
            }
            let bytes = std::slice::from_raw_parts(buffer.cast::<u8>(), end.max(0) as usize);
            (std::str::from_utf8(bytes).ok().map(str::to_owned), *self.symbols.point == end)
        }
    }

    fn place(&self) -> Option<Place> {
        let (mut rows, mut columns) = (0, 0);
        (self.symbols.screen_size)(&raw mut rows, &raw mut columns);
        // SAFETY: variables of readline.
        let (row, mut column, wraps, certain) = unsafe {
            (
                *self.symbols.screen_row,
                *self.symbols.screen_column,
                *self.symbols.autowrap != 0,
                *self.symbols.horizontal_scroll == 0 && *self.symbols.echoing != 0,
            )
        };
        // SAFETY: asks the C library, which answers with a string that stays as it is until the locale changes.
        let codeset = unsafe { CStr::from_ptr(libc::nl_langinfo(libc::CODESET)) };
        let unicode = codeset == c"UTF-8";
        if !unicode {
            let codeset = codeset.to_bytes();
            if codeset != b"ANSI_X3.4-1968" && codeset != b"US-ASCII" && !codeset.starts_with(b"ISO-8859") {
                return None;
            }
            // Where a character is a byte, readline counts the invisible parts of the prompt as well.
            let (visible, hidden) = self.prompt();
            if hidden > 0 && visible >= columns {
                return None;
            }
            if row == 0 {
                column -= hidden;
            }
        }
        let all = certain && rows > 0 && columns > 0 && row >= 0 && column >= 0;
        all.then_some(Place {
            rows: rows as usize,
            columns: columns as usize,
            above: row as usize,
            column: column as usize,
            wraps,
            unicode,
        })
    }

    /// Bytes in the last line of the prompt that are seen, and that are not.
    fn prompt(&self) -> (c_int, c_int) {
        // SAFETY: a C string, or nothing.
        let prompt = unsafe {
            let prompt = *self.symbols.display_prompt;
            if prompt.is_null() { b"" } else { CStr::from_ptr(prompt).to_bytes() }
        };
        let last = prompt.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let (mut visible, mut hidden, mut hiding) = (0, 0, false);
        for byte in last {
            match byte {
                // What readline puts around invisible parts, and drops.
                1 => hiding = true,
                2 => hiding = false,
                _ if hiding => hidden += 1,
                _ => visible += 1,
            }
        }
        (visible, hidden)
    }

    /// The terminal that is written to, with everything written that waited to be.
    pub fn terminal(&self) -> Option<BorrowedFd<'static>> {
        // SAFETY: readline's stream, which stays open as long as bash runs.
        unsafe {
            let stream = *self.symbols.outstream;
            if stream.is_null() || libc::fflush(stream) != 0 {
                return None;
            }
            let fd = libc::fileno(stream);
            (fd >= 0).then(|| BorrowedFd::borrow_raw(fd))
        }
    }

    /// Adds text at the cursor, as one step of undoing.
    pub fn insert(&self, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        (self.symbols.begin_undo_group)();
        (self.symbols.insert_text)(text.as_ptr());
        (self.symbols.end_undo_group)();
    }

    /// Puts text in the place of so many bytes before the cursor, as one step of undoing.
    pub fn exchange(&self, remove: usize, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        (self.symbols.begin_undo_group)();
        // SAFETY: a variable of readline; nothing is deleted before the beginning.
        unsafe {
            let end = *self.symbols.point;
            let start = (end - remove as c_int).max(0);
            (self.symbols.delete_text)(start, end);
            *self.symbols.point = start;
        }
        (self.symbols.insert_text)(text.as_ptr());
        (self.symbols.end_undo_group)();
    }

    /// Draws the line as it is now.
    pub fn redisplay(&self) {
        (self.symbols.redisplay)();
    }

    /// Puts text in the place of the line, as one step of undoing.
    pub fn replace(&self, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        (self.symbols.begin_undo_group)();
        // SAFETY: variables of readline; nothing is deleted beyond the end.
        unsafe {
            (self.symbols.delete_text)(0, *self.symbols.end);
            *self.symbols.point = 0;
        }
        (self.symbols.insert_text)(text.as_ptr());
        (self.symbols.end_undo_group)();
    }

    /// Whether a byte that is typed is added to the line.
    pub fn inserts(&self, key: u8) -> bool {
        let keymap = (self.symbols.current_keymap)();
        matches!(lookup(keymap, &[key]), Binding::Command(command) if ptr::fn_addr_eq(command, self.symbols.insert))
    }

    /// The bytes of a key sequence as `bind` takes it.
    pub fn translate(&self, sequence: &str) -> Option<Vec<u8>> {
        let sequence = CString::new(sequence).ok()?;
        // A control character with meta becomes two bytes; nothing becomes more.
        let mut bytes = vec![0_u8; 2 * sequence.as_bytes().len() + 2];
        let mut length = 0;
        let failed =
            (self.symbols.translate_keyseq)(sequence.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut length);
        bytes.truncate(length.max(0) as usize);
        (failed == 0 && !bytes.is_empty()).then_some(bytes)
    }

    /// What a key sequence does now.
    pub fn binding(&self, map: Map, bytes: &[u8]) -> Binding {
        lookup(self.map(map), bytes)
    }

    /// Binds a key sequence, in the form `bind` takes.
    pub fn bind(&self, map: Map, sequence: &str, command: Command) {
        let (Ok(sequence), map) = (CString::new(sequence), self.map(map)) else { return };
        if !map.is_null() {
            (self.symbols.bind_keyseq)(sequence.as_ptr(), command, map);
        }
    }

    /// Names a command, for the user's own key bindings. The name stays known as long as bash runs.
    pub fn name(&self, name: &'static CStr, command: Command) {
        (self.symbols.add_command)(name.as_ptr(), command, -1);
    }

    fn map(&self, map: Map) -> *mut KeymapEntry {
        let name = match map {
            Map::Emacs => c"emacs-standard",
            Map::ViInsert => c"vi-insert",
        };
        (self.symbols.named_keymap)(name.as_ptr())
    }

    /// The keymap and the key sequence of the command that is being executed.
    pub fn executing(&self) -> (Option<Map>, Vec<u8>) {
        let keymap = (self.symbols.current_keymap)();
        let map = [Map::Emacs, Map::ViInsert].into_iter().find(|&map| self.map(map) == keymap);
        // SAFETY: readline keeps that many bytes there, where there is a sequence.
        let bytes = unsafe {
            let (bytes, length) = (*self.symbols.executing_keyseq, *self.symbols.keyseq_length);
            if bytes.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(bytes.cast::<u8>(), length.max(0) as usize)
            }
        };
        (map, bytes.to_vec())
    }

    /// Goes a word forward, as the command of that name does.
    pub fn forward_word(&self, count: c_int, key: c_int) -> c_int {
        (self.symbols.forward_word)(count, key)
    }

    /// The number of the command that is being entered, where it is at its first line.
    pub fn command_number(&self) -> Option<c_int> {
        // SAFETY: variables of bash.
        unsafe {
            (*self.symbols.current_prompt == *self.symbols.first_prompt)
                .then_some(*self.symbols.command_number)
        }
    }

    /// The exit status of the last command.
    pub fn exit_status(&self) -> c_int {
        // SAFETY: a variable of bash.
        unsafe { *self.symbols.exit_status }
    }

    /// The newest command of the history, and a number that changes when there is a newer one.
    pub fn last_command(&self) -> (c_int, Option<String>) {
        // SAFETY: variables of the history, and its newest entry, which holds a C string.
        unsafe {
            let number = *self.symbols.history_base + *self.symbols.history_length - 1;
            let entry = (self.symbols.history_get)(number);
            if entry.is_null() || (*entry).line.is_null() {
                return (number, None);
            }
            (number, CStr::from_ptr((*entry).line).to_str().ok().map(str::to_owned))
        }
    }

    /// Whether a variable of the shell has a value that is not empty.
    pub fn is_set(&self, name: &CStr) -> bool {
        self.value(name).is_some_and(|value| !value.is_empty())
    }

    /// The value of a variable of the shell.
    pub fn variable(&self, name: &CStr) -> Option<String> {
        self.value(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    fn value(&self, name: &CStr) -> Option<&CStr> {
        let value = (self.symbols.variable)(name.as_ptr());
        // SAFETY: a C string, which is not looked at after anything else of bash's has run.
        (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
    }

    /// The variables that bash gives to programs.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        (self.symbols.make_export_env)();
        let mut variables = Vec::new();
        // SAFETY: bash's list of C strings, which ends in a null pointer.
        unsafe {
            let mut entry = *self.symbols.export_env;
            while !entry.is_null() && !(*entry).is_null() {
                let bytes = CStr::from_ptr(*entry).to_bytes();
                if let Some(equals) = bytes.iter().position(|&byte| byte == b'=') {
                    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
                    variables.push((text(&bytes[..equals]), text(&bytes[equals + 1..])));
                }
                entry = entry.add(1);
            }
        }
        variables
    }
}

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// A key, or the end of the terminal.
    Key,
    /// Something from the client, or its end.
    Client,
    /// A signal.
    Interrupted,
    /// The end of the time.
    Nothing,
}

/// A key as the reader of keys returns it, if it is one.
pub fn key(value: c_int) -> Option<c_uchar> {
    c_uchar::try_from(value).ok()
}
