//! What we use of bash and readline, with the types of their headers.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};

use libc::FILE;

use super::keymap::KeymapEntry;

/// A command a key can be bound to: gets the numeric argument and the key.
pub type Command = extern "C" fn(c_int, c_int) -> c_int;
/// Reads a key from a stream.
pub type Getc = extern "C" fn(*mut FILE) -> c_int;
/// A function without arguments.
pub type IntHook = extern "C" fn() -> c_int;

/// A line of the history, as `history.h` has it.
#[repr(C)]
pub struct HistoryEntry {
    /// The line, or nothing.
    pub line: *const c_char,
    timestamp: *const c_char,
    data: *const c_void,
}

macro_rules! symbols {
    ($($field:ident: $kind:ty = $name:literal;)*) => {
        /// Functions of bash and readline, and pointers to their variables.
        pub struct Symbols { $(pub $field: $kind,)* }

        impl Symbols {
            /// Looks them up.
            ///
            /// # Errors
            /// Where this bash lacks one.
            pub fn resolve() -> Result<Self, Missing> {
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
    redisplay: extern "C" fn() = c"rl_redisplay";
    begin_undo_group: IntHook = c"rl_begin_undo_group";
    end_undo_group: IntHook = c"rl_end_undo_group";
    current_keymap: extern "C" fn() -> *mut KeymapEntry = c"rl_get_keymap";
    named_keymap: extern "C" fn(*const c_char) -> *mut KeymapEntry = c"rl_get_keymap_by_name";
    translate_keyseq: extern "C" fn(*const c_char, *mut c_char, *mut c_int) -> c_int = c"rl_translate_keyseq";
    bind_keyseq: extern "C" fn(*const c_char, Command, *mut KeymapEntry) -> c_int = c"rl_bind_keyseq_in_map";
    add_command: extern "C" fn(*const c_char, Command, c_int) -> c_int = c"rl_add_defun";
    stuff_char: extern "C" fn(c_int) -> c_int = c"rl_stuff_char";
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
