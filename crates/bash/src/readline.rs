//! bash and the readline in it, as they are when this library has been loaded: the only unsafe code of the crate.
//!
//! Every symbol is looked up when bash loads the builtin, which is refused where one is missing. That works for
//! a bash with a readline of its own and for one that uses the system's.
//!
//! bash leaves functions it is interrupted in with `longjmp`. What can be left like this is named so below, and
//! is called only while nothing of ours is locked or borrowed and nothing waits to be dropped.
#![expect(unsafe_code, reason = "readline is C")]

use std::{
    cell::UnsafeCell,
    ffi::{CStr, CString, OsString, c_char, c_int, c_uchar, c_ulong, c_void},
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

/// C's type for a stream.
pub use libc::FILE;

/// A command a key can be bound to: gets the numeric argument and the key.
pub type Command = extern "C" fn(c_int, c_int) -> c_int;
/// Reads a key from a stream.
type Getc = extern "C" fn(*mut FILE) -> c_int;
/// A function without arguments.
type IntHook = extern "C" fn() -> c_int;

/// An entry of a keymap, as `keymaps.h` has it.
#[repr(C)]
struct KeymapEntry {
    kind: c_char,
    function: *mut c_void,
}

/// A line of the history, as `history.h` has it.
#[repr(C)]
struct HistoryEntry {
    line: *const c_char,
    timestamp: *const c_char,
    data: *const c_void,
}

/// The kinds of an entry.
const FUNCTION: c_char = 0;
const KEYMAP: c_char = 1;

/// Bits of `rl_readline_state`, the same since readline 5.
const READING_COMMAND: c_ulong = 0x8;
/// Searching, reading a numeric argument or a motion, running a macro, completing, and the callback interface:
/// what is on the screen then is not just the line.
const BUSY: c_ulong = 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x4000 | 0x8_0000 | 0x10_0000 | 0x80_0000;

/// What a reader of keys returns when reading failed, as readline has it.
const READ_ERROR: c_int = -2;
/// What it returns at the end.
pub const END_OF_FILE: c_int = -1;

macro_rules! symbols {
    ($($field:ident: $kind:ty = $name:literal;)*) => {
        struct Symbols { $($field: $kind,)* }

        impl Symbols {
            fn resolve() -> Result<Self, Missing> {
                // SAFETY: the types are those of bash's and readline's headers.
                Ok(Self { $($field: unsafe { symbol::<$kind>($name)? },)* })
            }
        }
    };
}

symbols! {
    line_buffer: *mut *mut c_char = c"rl_line_buffer";
    point: *mut c_int = c"rl_point";
    end: *mut c_int = c"rl_end";
    state: *mut c_ulong = c"rl_readline_state";
    editing_mode: *mut c_int = c"rl_editing_mode";
    outstream: *mut *mut FILE = c"rl_outstream";
    display_prompt: *mut *mut c_char = c"rl_display_prompt";
    last_function: *mut Option<Command> = c"rl_last_func";
    executing_keyseq: *mut *mut c_char = c"rl_executing_keyseq";
    keyseq_length: *mut c_int = c"rl_key_sequence_length";
    getc_function: *mut Option<Getc> = c"rl_getc_function";
    signal_event_hook: *mut Option<IntHook> = c"rl_signal_event_hook";
    screen_row: *mut c_int = c"_rl_last_v_pos";
    screen_column: *mut c_int = c"_rl_last_c_pos";
    autowrap: *mut c_int = c"_rl_term_autowrap";
    horizontal_scroll: *mut c_int = c"_rl_horizontal_scroll_mode";
    echoing: *mut c_int = c"_rl_echoing_p";
    executing_builtin: *mut c_int = c"executing_builtin";
    command_number: *mut c_int = c"current_command_number";
    exit_status: *mut c_int = c"last_command_exit_value";
    current_prompt: *mut *mut c_char = c"current_prompt_string";
    first_prompt: *mut *mut c_char = c"ps1_prompt";
    export_env: *mut *mut *mut c_char = c"export_env";
    screen_size: extern "C" fn(*mut c_int, *mut c_int) = c"rl_get_screen_size";
    insert: Command = c"rl_insert";
    paste: Command = c"rl_bracketed_paste_begin";
    forward_word: Command = c"rl_forward_word";
    insert_text: extern "C" fn(*const c_char) -> c_int = c"rl_insert_text";
    delete_text: extern "C" fn(c_int, c_int) -> c_int = c"rl_delete_text";
    begin_undo_group: IntHook = c"rl_begin_undo_group";
    end_undo_group: IntHook = c"rl_end_undo_group";
    current_keymap: extern "C" fn() -> *mut KeymapEntry = c"rl_get_keymap";
    named_keymap: extern "C" fn(*const c_char) -> *mut KeymapEntry = c"rl_get_keymap_by_name";
    translate_keyseq: extern "C" fn(*const c_char, *mut c_char, *mut c_int) -> c_int = c"rl_translate_keyseq";
    bind_keyseq: extern "C" fn(*const c_char, Command, *mut KeymapEntry) -> c_int = c"rl_bind_keyseq_in_map";
    add_command: extern "C" fn(*const c_char, Command, c_int) -> c_int = c"rl_add_defun";
    pending_signal: IntHook = c"rl_pending_signal";
    handle_signal: extern "C" fn(c_int) = c"_rl_signal_handler";
    history_base: *mut c_int = c"history_base";
    history_length: *mut c_int = c"history_length";
    history_get: extern "C" fn(c_int) -> *const HistoryEntry = c"history_get";
    variable: extern "C" fn(*const c_char) -> *const c_char = c"get_string_value";
    make_export_env: extern "C" fn() = c"maybe_make_export_env";
}

// SAFETY: bash has one thread, and we start none.
unsafe impl Send for Symbols {}
// SAFETY: as above.
unsafe impl Sync for Symbols {}

/// The name of a symbol this bash does not have.
#[derive(Debug)]
pub struct Missing(pub &'static CStr);

/// Looks up a symbol, which `T` points to.
///
/// # Safety
/// `T` has to be a pointer to what the symbol is.
unsafe fn symbol<T: Copy>(name: &'static CStr) -> Result<T, Missing> {
    const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return Err(Missing(name));
    }
    // SAFETY: of the same size, and the caller answers for the type.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

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
    /// Whether the cursor is at its end.
    pub at_end: bool,
    /// Whether the line is being edited, rather than searched for, completed and so on.
    pub calm: bool,
    /// Whether the first key of a command is being read.
    pub reading: bool,
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

/// What a key was bound to.
#[derive(Clone, Copy)]
pub enum Binding {
    /// Nothing.
    Nothing,
    /// A command.
    Command(Command),
    /// Something that can't be called: a macro.
    Other,
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

    /// Does about signals what readline does when they interrupt its reading. Returns what reading a key has to
    /// return, where it has to end. May be left by `longjmp`.
    pub fn handle_signals(&self) -> Option<c_int> {
        let signal = (self.symbols.pending_signal)();
        if matches!(signal, libc::SIGHUP | libc::SIGTERM) {
            return Some(if self.state() & READING_COMMAND != 0 { READ_ERROR } else { END_OF_FILE });
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

    /// Looks at the line.
    pub fn snapshot(&self) -> Snapshot {
        let (line, at_end) = self.line();
        let state = self.state();
        // SAFETY: variables of readline.
        let (vi, last) = unsafe { (*self.symbols.editing_mode == 0, *self.symbols.last_function) };
        let keymap = (self.symbols.current_keymap)();
        Snapshot {
            line,
            at_end,
            calm: state & BUSY == 0,
            reading: state & READING_COMMAND != 0,
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

/// Follows a key sequence through keymaps.
fn lookup(mut keymap: *mut KeymapEntry, bytes: &[u8]) -> Binding {
    /// The entry of a keymap that says what its prefix alone does.
    const ANY_OTHER_KEY: usize = 256;
    for (index, &byte) in bytes.iter().enumerate() {
        if keymap.is_null() {
            return Binding::Nothing;
        }
        // SAFETY: keymaps have 257 entries, and what an entry of that kind points to is a keymap.
        let (mut kind, mut function) = unsafe {
            let entry = &*keymap.add(usize::from(byte));
            (entry.kind, entry.function)
        };
        if index + 1 == bytes.len() {
            if kind == KEYMAP && !function.is_null() {
                // SAFETY: as above.
                (kind, function) = unsafe {
                    let entry = &*function.cast::<KeymapEntry>().add(ANY_OTHER_KEY);
                    (entry.kind, entry.function)
                };
            }
            if kind != FUNCTION {
                return Binding::Other;
            }
            // SAFETY: what an entry of that kind points to is a command, or nothing.
            let command = unsafe { std::mem::transmute::<*mut c_void, Option<Command>>(function) };
            return command.map_or(Binding::Nothing, Binding::Command);
        }
        if kind != KEYMAP {
            return Binding::Nothing;
        }
        keymap = function.cast();
    }
    Binding::Nothing
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

/// A list of words, as bash gives it to builtins.
#[repr(C)]
pub struct WordList {
    next: *const WordList,
    word: *const Word,
}

#[repr(C)]
struct Word {
    word: *const c_char,
    flags: c_int,
}

/// The words of a list; nothing where one is not valid UTF-8.
fn words(mut list: *const WordList) -> Option<Vec<String>> {
    let mut words = Vec::new();
    // SAFETY: bash's list, which ends in a null pointer, of words that are C strings.
    unsafe {
        while !list.is_null() {
            words.push(CStr::from_ptr((*(*list).word).word).to_str().ok()?.to_owned());
            list = (*list).next;
        }
    }
    Some(words)
}

/// A builtin, as bash's `builtins.h` has it.
#[repr(C)]
pub struct Builtin {
    name: *const c_char,
    function: extern "C" fn(*const WordList) -> c_int,
    flags: c_int,
    long_doc: *const *const c_char,
    short_doc: *const c_char,
    handle: *mut c_void,
}

/// A builtin in memory that bash may write to, as it does when it loads one.
#[repr(transparent)]
pub struct Shared(UnsafeCell<Builtin>);

// SAFETY: only bash looks at it, and bash has one thread.
unsafe impl Sync for Shared {}

/// A list of C strings.
#[repr(transparent)]
struct Lines([*const c_char; 3]);

// SAFETY: what it points to never changes.
unsafe impl Sync for Lines {}

static LONG_DOC: Lines = Lines([
    c"Draws nemoterm's suggestions after the line while it is typed.".as_ptr(),
    c"The script that `nemoterm init bash` prints is the one to call it.".as_ptr(),
    ptr::null(),
]);

/// Bit of a builtin's flags: it can be used.
const ENABLED: c_int = 1;

/// What `enable -f FILE nemoterm_ghost` looks for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "bash composes the name")]
pub static nemoterm_ghost_struct: Shared = Shared(UnsafeCell::new(Builtin {
    name: c"nemoterm_ghost".as_ptr(),
    function: builtin,
    flags: ENABLED,
    long_doc: LONG_DOC.0.as_ptr(),
    short_doc: c"nemoterm_ghost start|keys|stop [ARGUMENT...]".as_ptr(),
    handle: ptr::null_mut(),
}));

/// Called by bash when it has loaded the library; 0 refuses.
#[unsafe(no_mangle)]
pub extern "C" fn nemoterm_ghost_builtin_load(_name: *const c_char) -> c_int {
    c_int::from(crate::load())
}

/// Called by bash before it forgets the builtin.
#[unsafe(no_mangle)]
pub extern "C" fn nemoterm_ghost_builtin_unload(_name: *const c_char) {
    crate::unload();
}

extern "C" fn builtin(list: *const WordList) -> c_int {
    crate::call(words(list))
}

/// A key as the reader of keys returns it, if it is one.
pub fn key(value: c_int) -> Option<c_uchar> {
    c_uchar::try_from(value).ok()
}
