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
