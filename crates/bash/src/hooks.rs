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
    sync::Mutex,
    time::Duration,
};

use crate::{
    ghost::{Done, Ghost, Key},
    keys::{Action, Keys},
    readline::{self, FILE, Readline, Ready},
};

/// How long after an Esc the rest of a key sequence may come. Terminals send both at once.
const ESCAPE_PAUSE: Duration = Duration::from_millis(50);

struct State {
    ghost: Option<Ghost>,
    keys: Keys,
}

static STATE: Mutex<State> = Mutex::new(State { ghost: None, keys: Keys::new() });

/// Does something with the ghost of this shell. Nothing where there is none, in a shell that was forked from this
/// one, or after a panic.
pub fn with<T>(act: impl FnOnce(&mut Ghost, &mut Keys, &'static Readline) -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let readline = Readline::get()?;
        let mut state = STATE.try_lock().ok()?;
        let State { ghost, keys } = &mut *state;
        let ghost = ghost.as_mut().filter(|ghost| ghost.is_here())?;
        Some(act(ghost, keys, readline))
    }))
    .ok()
    .flatten()
}

/// Hooks into readline.
pub fn start(program: &str, histfile: &str) {
    let (Some(readline), Ok(mut state)) = (Readline::get(), STATE.try_lock()) else { return };
    match &mut state.ghost {
        Some(ghost) if ghost.is_here() => ghost.use_program(program, histfile),
        ghost => *ghost = Some(Ghost::new(program, histfile)),
    }
    readline.install(getc);
}

/// Takes the hooks back and ends the client. Our keys do what they did before.
pub fn stop() {
    let (Some(readline), Ok(mut state)) = (Readline::get(), STATE.try_lock()) else { return };
    state.ghost = None;
    readline.uninstall(getc);
}

/// Chooses the keys of an action.
pub fn choose_keys(action: Action, sequences: &[&str]) {
    if let Ok(mut state) = STATE.try_lock() {
        state.keys.choose(action, sequences);
    }
}

/// Reads a key. While there is none, the client's answers are shown as they come.
pub extern "C" fn getc(stream: *mut FILE) -> c_int {
    let Some(readline) = Readline::get() else { return readline::END_OF_FILE };
    if !readline.is_at_prompt() {
        return readline.getc(stream);
    }
    // `None` is a panic, or a shell that was forked from ours.
    if with(|ghost, keys, readline| {
        keys.bind(readline);
        ghost.prompt(readline);
        ghost.redrawn(readline);
    })
    .is_none()
    {
        return readline.getc(stream);
    }
    loop {
        if readline.is_signalled()
            && let Some(end) = handle_signals(readline)
        {
            return end;
        }
        let Some(client) = with(|ghost, _, _| ghost.descriptor()) else { return readline.getc(stream) };
        let mut ready = readline.wait(stream, client, Some(Duration::ZERO));
        if ready == Ready::Nothing {
            with(|ghost, _, readline| ghost.idle(readline));
            ready = readline.wait(stream, client, None);
        }
        match ready {
            Ready::Key => {
                let key = readline.getc(stream);
                let read = with(|ghost, keys, readline| ghost.key(readline, keys, readline::key(key)));
                if read != Some(Key::Await) || follows(readline, stream) {
                    return key;
                }
                with(|ghost, _, readline| ghost.dismiss_now(readline));
            }
            Ready::Client => {
                with(|ghost, _, readline| ghost.receive(readline));
            }
            Ready::Interrupted => {
                if let Some(end) = handle_signals(readline) {
                    return end;
                }
            }
            Ready::Nothing => {}
        }
    }
}

/// Lets readline and bash do what signals ask for, on a screen without a ghost. May be left by `longjmp`.
fn handle_signals(readline: &Readline) -> Option<c_int> {
    with(|ghost, _, readline| ghost.erase(readline));
    let end = readline.handle_signals();
    if end.is_none() {
        with(|ghost, _, readline| ghost.redrawn(readline));
    }
    end
}

/// Whether more of a key sequence follows an Esc.
fn follows(readline: &Readline, stream: *mut FILE) -> bool {
    loop {
        match readline.wait(stream, None, Some(ESCAPE_PAUSE)) {
            Ready::Interrupted if !readline.is_signalled() => {}
            ready => return ready != Ready::Nothing,
        }
    }
}

/// Runs what a key did before, where our action did nothing.
fn pass(done: Option<Done>, count: c_int, key: c_int) -> c_int {
    match done {
        Some(Done::Passed(Some(command))) => command(count, key),
        _ => 0,
    }
}

pub extern "C" fn accept(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.accept(readline, keys, false)), count, key)
}

pub extern "C" fn word(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.accept(readline, keys, true)), count, key)
}

pub extern "C" fn next(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.step(readline, keys, 1)), count, key)
}

pub extern "C" fn previous(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.step(readline, keys, -1)), count, key)
}

pub extern "C" fn ask(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.ask(readline, keys)), count, key)
}

pub extern "C" fn dismiss(count: c_int, key: c_int) -> c_int {
    pass(with(|ghost, keys, readline| ghost.dismiss(readline, keys)), count, key)
}
