//! Keymaps: tables of what keys do.

use std::ffi::{c_char, c_void};

use super::symbols::Command;

/// An entry of a keymap, as `keymaps.h` has it.
#[repr(C)]
pub struct KeymapEntry {
    kind: c_char,
    function: *mut c_void,
}

/// The kinds of an entry.
const FUNCTION: c_char = 0;
const KEYMAP: c_char = 1;

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

/// Follows a key sequence through keymaps.
pub fn lookup(mut keymap: *mut KeymapEntry, bytes: &[u8]) -> Binding {
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

#[cfg(test)]
mod tests {
    use std::ffi::c_int;

    use super::*;

    extern "C" fn inserts(_: c_int, _: c_int) -> c_int {
        1
    }

    extern "C" fn moves(_: c_int, _: c_int) -> c_int {
        2
    }

    /// A keymap in which nothing is bound.
    fn empty() -> Vec<KeymapEntry> {
        (0..257).map(|_| KeymapEntry { kind: FUNCTION, function: std::ptr::null_mut() }).collect()
    }

    fn bind(keymap: &mut [KeymapEntry], key: usize, kind: c_char, function: *mut c_void) {
        keymap[key] = KeymapEntry { kind, function };
    }

    fn found(keymap: &mut [KeymapEntry], bytes: &[u8]) -> Option<c_int> {
        match lookup(keymap.as_mut_ptr(), bytes) {
            Binding::Nothing => None,
            Binding::Command(command) => Some(command(0, 0)),
            Binding::Other => Some(0),
        }
    }

    #[test]
    fn sequences_are_followed_to_their_commands() {
        let (mut first, mut second) = (empty(), empty());
        bind(&mut second, usize::from(b'C'), FUNCTION, moves as *mut c_void);
        bind(&mut first, 27, KEYMAP, second.as_mut_ptr().cast());
        bind(&mut first, usize::from(b'a'), FUNCTION, inserts as *mut c_void);
        bind(&mut first, usize::from(b'm'), 2, std::ptr::dangling_mut());
        assert_eq!(found(&mut first, b"a"), Some(1));
        assert_eq!(found(&mut first, b"\x1bC"), Some(2));
        assert_eq!(found(&mut first, b"m"), Some(0), "a macro");
        for nothing in [b"b".as_slice(), b"\x1bD", b"aC", b"\x1bCC", b"\x1b", b""] {
            assert_eq!(found(&mut first, nothing), None, "{nothing:?}");
        }
        // The beginning of sequences may do something by itself.
        bind(&mut second, 256, FUNCTION, inserts as *mut c_void);
        assert_eq!(found(&mut first, b"\x1b"), Some(1));
        assert!(matches!(lookup(std::ptr::null_mut(), b"a"), Binding::Nothing));
    }
}
