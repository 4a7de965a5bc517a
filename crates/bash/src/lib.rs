//! Ghost text in bash: a loadable builtin, and hooks around readline.
//!
//! `enable -f libnemoterm_bash.so nemoterm_ghost` loads it into an interactive bash. The script calls
//!
//! | command | |
//! | --- | --- |
//! | `nemoterm_ghost keys ACTION [KEYSEQ...]` | the keys for `accept`, `word`, `next`, `previous`, `ask` or `dismiss`, as `bind` takes them, instead of the usual ones |
//! | `nemoterm_ghost start PROGRAM HISTFILE` | hooks into readline; PROGRAM is the path of `nemoterm` |
//! | `nemoterm_ghost stop` | takes the hooks back and ends the client |
//!
//! and the user sets `NEMOTERM_OFF`, `NEMOTERM_MODE`, `NEMOTERM_NEXT_COMMAND` and `NEMOTERM_HIGHLIGHT` at any time.
//!
//! The library runs in bash's one thread, starts none, and never waits: `hooks` sits between readline and the
//! terminal, `client` talks to `nemoterm attach` (its source describes the records) over descriptors that do not block,
//! `session` decides what to suggest, `draw` makes the bytes, `ghost` puts these together, `keys` knows
//! what the keys did before, and `readline` is all that is unsafe. Whatever goes wrong in here, readline goes
//! on without us.

mod client;
mod draw;
mod ghost;
mod hooks;
mod keys;
mod readline;
mod session;

use std::{ffi::c_int, panic};

use keys::Action;
use readline::Readline;

/// Exit statuses of builtins.
const SUCCESS: c_int = 0;
const FAILURE: c_int = 1;
const WRONG_USAGE: c_int = 2;

/// Looks up what we need of bash; false refuses to be loaded.
fn load() -> bool {
    // A message about a panic would stand in the middle of the line.
    panic::set_hook(Box::new(|_| {}));
    match panic::catch_unwind(Readline::load) {
        Ok(Ok(())) => true,
        Ok(Err(missing)) => {
            complain(&format!("this bash has no {}", missing.0.to_string_lossy()));
            false
        }
        Err(_) => false,
    }
}

fn unload() {
    let _ = panic::catch_unwind(hooks::stop);
}

/// Runs the builtin with these arguments, or with some that are no text.
fn call(arguments: Option<Vec<String>>) -> c_int {
    panic::catch_unwind(|| {
        // Such a path or command is one we say nothing about.
        let Some(arguments) = arguments else { return FAILURE };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments.as_slice() {
            ["start", program, histfile] => hooks::start(program, histfile),
            ["keys", action, sequences @ ..] => {
                let Some(action) = Action::from_name(action) else {
                    complain(&format!("there is no action {action}"));
                    return WRONG_USAGE;
                };
                hooks::choose_keys(action, sequences);
            }
            ["stop"] => hooks::stop(),
            _ => {
                complain("usage: nemoterm_ghost start PROGRAM HISTFILE | keys ACTION [KEYSEQ...] | stop");
                return WRONG_USAGE;
            }
        }
        SUCCESS
    })
    .unwrap_or(FAILURE)
}

fn complain(what: &str) {
    eprintln!("nemoterm_ghost: {what}");
}
