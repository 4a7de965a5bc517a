//! The builtin, in the form in which bash looks for it.

use std::{
    cell::UnsafeCell,
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
};

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
