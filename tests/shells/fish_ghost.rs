//! fish: ghost text as it is typed.

mod answers;
mod keys;
mod life;

use std::time::{Duration, Instant};

use crate::util::{DEADLINE, home::Home, terminal::Terminal};

/// How long a shell has to make a prompt before Ctrl-C is pressed again.
const PAUSE: Duration = Duration::from_millis(500);

/// A fish that has read nothing but these settings and the integration, at its first prompt. `None` where there is no
/// fish.
fn start(home: &Home, settings: &str) -> Option<Terminal> {
    start_sized(home, settings, 24, 80)
}

fn start_sized(home: &Home, settings: &str, rows: u16, columns: u16) -> Option<Terminal> {
    super::fish::start_in_mode(home, "", settings, rows, columns)
}

/// Waits for a line without a ghost.
fn wait_plain(terminal: &Terminal, row: &str) {
    terminal.wait(&format!("{row:?} without a ghost"), |screen| {
        screen.ghost.is_empty() && screen.last_row() == row
    });
}

/// Presses Ctrl-C until there is a prompt. Not again at once: each one ends whatever is about to make the prompt.
fn interrupt(terminal: &Terminal) {
    let (began, mut pressed) = (Instant::now(), Instant::now() - PAUSE);
    loop {
        if pressed.elapsed() >= PAUSE {
            terminal.send("\x03");
            pressed = Instant::now();
        }
        let screen = terminal.screen();
        if screen.last_row() == ">" && screen.cursor.1 == 2 {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "Ctrl-C brings no prompt: {screen:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Empties the line.
fn clear(terminal: &Terminal) {
    terminal.send("\x05\x15");
    terminal.wait_row(">");
}
