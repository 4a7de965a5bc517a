//! What readline calls: reading a key, and the commands of our keys.
//!
//! Reading a key is all it takes to draw: readline has redrawn the line whenever it begins to read the key of the
//! next command. Its hook for redrawing is of no use, since readline takes a terminal that somebody else draws on
//! for a simple one.
//!
//! Each hook looks after the ghost with the state locked, and calls readline with nothing locked and nothing
//! waiting to be dropped, because bash may leave readline by `longjmp`. A panic of ours poisons the lock, and
//! from then on the hooks do nothing but call readline.

use std::{
    ffi::c_int,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    ghost::{Done, Ghost, Key},
    keys::{Action, Keys},
    readline::{self, FILE, Readline, Ready},
};

/// How long after an Esc the rest of a key sequence may come. Terminals send both at once.
const SEQUENCE_PAUSE: Duration = Duration::from_millis(50);

/// How long no key may come before the line is asked about: the terminal shows the last one first, and keys that
/// come in a burst are one question.
const BURST: Duration = Duration::from_millis(1);

static GHOST: Mutex<Option<Ghost>> = Mutex::new(None);

/// Apart from the ghost, because our keys have to do what they did before when there is none, too.
static KEYS: Mutex<Keys> = Mutex::new(Keys::new());

/// Does something with the ghost of this shell. Nothing where there is none, in a shell that was forked from this
/// one, or after a panic.
pub fn with<T>(act: impl FnOnce(&mut Ghost, &'static Readline) -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let readline = Readline::get()?;
        let mut ghost = GHOST.try_lock().ok()?;
        let ghost = ghost.as_mut().filter(|ghost| ghost.is_here())?;
        Some(act(ghost, readline))
    }))
    .ok()
    .flatten()
}

/// Does something with the keys.
fn with_keys<T>(act: impl FnOnce(&mut Keys, &'static Readline) -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let readline = Readline::get()?;
        // A panic may have left a key out, and nothing worse.
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        Some(act(&mut keys, readline))
    }))
    .ok()
    .flatten()
}

/// Hooks into readline.
pub fn start(program: &str, histfile: &str) {
    let (Some(readline), Ok(mut ghost)) = (Readline::get(), GHOST.try_lock()) else { return };
    match &mut *ghost {
        Some(ghost) if ghost.is_here() => ghost.use_program(program, histfile),
        ghost => *ghost = Some(Ghost::new(program, histfile)),
    }
    readline.install(getc);
    with_keys(Keys::name);
}

/// Takes the hooks back and ends the client. Our keys do what they did before.
pub fn stop() {
    let (Some(readline), Ok(mut ghost)) = (Readline::get(), GHOST.try_lock()) else { return };
    *ghost = None;
    readline.uninstall(getc);
}

/// Chooses the keys of an action.
pub fn choose_keys(action: Action, sequences: &[&str]) {
    with_keys(|keys, _| keys.choose(action, sequences));
}

/// Reads a key. While there is none, the client's answers are shown as they come.
pub extern "C" fn getc(stream: *mut FILE) -> c_int {
    let Some(readline) = Readline::get() else { return readline::END_OF_FILE };
    if !readline.is_at_prompt() {
        return readline.getc(stream);
    }
    if !readline.is_reading_command() {
        // In the midst of a command nothing is drawn. Inserting reads on where keys wait.
        let key = readline.getc(stream);
        with(|ghost, readline| ghost.key(readline, readline::key(key)));
        return key;
    }
    // `None` is a panic, or a shell that was forked from ours.
    if with(|ghost, readline| {
        with_keys(Keys::bind);
        ghost.prompt(readline);
        ghost.redrawn(readline);
    })
    .is_none()
    {
        return readline.getc(stream);
    }
    // Signals are served once before every wait, so that a hook that stays set does not keep us from waiting.
    let mut served = false;
    loop {
        if readline.is_signalled() && !served {
            served = true;
            if let Some(end) = handle_signals(readline) {
                return end;
            }
        }
        let Some(client) = with(|ghost, _| ghost.descriptor()) else { return readline.getc(stream) };
        let mut ready = readline.wait(stream, client, Some(BURST));
        if ready == Ready::Nothing {
            with(Ghost::idle);
            if readline.is_signalled() && !served {
                continue;
            }
            ready = readline.wait(stream, client, None);
            served = false;
        }
        match ready {
            Ready::Key => {
                let key = readline.getc(stream);
                let read = with(|ghost, readline| ghost.key(readline, readline::key(key)));
                if read == Some(Key::Escape) && escaped(readline, stream) {
                    continue;
                }
                if readline.is_signalled() {
                    // Readline handles it before the key.
                    with(Ghost::signalled);
                }
                return key;
            }
            Ready::Client => {
                with(Ghost::receive);
            }
            Ready::Interrupted | Ready::Nothing => {}
        }
    }
}

/// Lets readline and bash do what signals ask for, on a screen without a ghost. May be left by `longjmp`.
fn handle_signals(readline: &Readline) -> Option<c_int> {
    with(Ghost::signalled);
    let end = readline.handle_signals();
    if end.is_none() {
        with(Ghost::redrawn);
    }
    end
}

/// Does what Esc by itself and Alt-[ are for, where an Esc that was read is one of these. May be left by `longjmp`.
fn escaped(readline: &Readline, stream: *mut FILE) -> bool {
    let is_usual = |action| with_keys(|keys, _| keys.are_usual(action)) == Some(true);
    if !follows(readline, stream) {
        let dismisses = is_usual(Action::Dismiss);
        if dismisses {
            with(Ghost::dismiss_now);
        }
        return dismisses;
    }
    let next = readline.getc(stream);
    if next == c_int::from(b'[') && is_usual(Action::Previous) && !follows(readline, stream) {
        with(|ghost, readline| {
            ghost.step(readline, -1);
            ghost.redrawn(readline);
        });
        return true;
    }
    readline.unread(next);
    false
}

/// Whether more of a key sequence follows.
fn follows(readline: &Readline, stream: *mut FILE) -> bool {
    loop {
        match readline.wait(stream, None, Some(SEQUENCE_PAUSE)) {
            Ready::Interrupted if !readline.is_signalled() => {}
            ready => return ready != Ready::Nothing,
        }
    }
}

/// Acts with a key of ours. Where there is no ghost to act on, the key does what it did before.
fn act(act: impl FnOnce(&mut Ghost, &'static Readline) -> Done, count: c_int, key: c_int) -> Option<c_int> {
    match with(act) {
        Some(Done::Acted) => Some(0),
        _ => with_keys(|keys, readline| keys.before(readline)).flatten().map(|before| before(count, key)),
    }
}

pub extern "C" fn accept(count: c_int, key: c_int) -> c_int {
    act(|ghost, readline| ghost.accept(readline, false), count, key).unwrap_or(0)
}

pub extern "C" fn word(count: c_int, key: c_int) -> c_int {
    act(|ghost, readline| ghost.accept(readline, true), count, key)
        .or_else(|| Readline::get().map(|readline| readline.forward_word(count, key)))
        .unwrap_or(0)
}

pub extern "C" fn next(count: c_int, key: c_int) -> c_int {
    act(|ghost, readline| ghost.step(readline, 1), count, key).unwrap_or(0)
}

pub extern "C" fn previous(count: c_int, key: c_int) -> c_int {
    act(|ghost, readline| ghost.step(readline, -1), count, key).unwrap_or(0)
}

pub extern "C" fn ask(count: c_int, key: c_int) -> c_int {
    act(Ghost::ask, count, key).unwrap_or(0)
}

pub extern "C" fn dismiss(count: c_int, key: c_int) -> c_int {
    act(Ghost::dismiss, count, key).unwrap_or(0)
}
