//! Whatever is typed, the line is the one that a bash without us has.

use std::time::{Duration, Instant};

use super::{start_sized, wait_plain};
use crate::shells::{BACKSPACE, LEFT};
use crate::util::{home::Home, terminal::Terminal};

/// The end of the line, on keys that accept nothing.
const END: &str = "\x18e";

/// Keys that change the line, complete, search and paste, and none that accepts a suggestion.
const KEYS: [&str; 36] = [
    "e",
    "h",
    "o",
    " ",
    "z",
    "日",
    "é",
    "echo ",
    "hello",
    "h",
    "e",
    BACKSPACE,
    LEFT,
    "\x01",
    END,
    "\x1bb",
    "\x0b",
    "\x19",
    "\x1f",
    "\x14",
    "\x17",
    "\x1bd",
    "\t",
    "\x1b[A",
    "\x1b[B",
    "\x12ech\x07",
    "\x12h\x1b[D",
    "\x1b2z",
    "\x1b[Z",
    "\x1bOS",
    "\x0c",
    "\x16\x05",
    "\x1b[200~a paste é\x1b[201~",
    "\x1b[200~# c\x1b[201~",
    "\x1bu",
    "\x15",
];

const HISTORY: &str = "echo hello world 日本語 and some more text that wraps around\necho héllo zoo\nhello there\nzoo\n\
    oh no it is long long long long long long long\né accent\n日本 wide 日本 wide 日本 wide\n";

/// Numbers that look random and are the same every time (Knuth's constants for 64 bits).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn twin(home: &Home, setting: &str) -> Option<Terminal> {
    home.write(".bash_history", HISTORY);
    let rc = format!("PATH= PS1='\\[\\e[32m\\]> \\[\\e[0m\\]'; bind '\"\\C-xe\": end-of-line'\n{setting}");
    start_sized(home, &rc, 12, 34)
}

#[test]
fn a_bash_with_a_ghost_has_the_line_of_one_without() {
    let homes = [Home::new(), Home::new()];
    // The one without has the hotkey, which is not pressed.
    let Some(plain) = twin(&homes[0], "NEMOTERM_BASH_BUILTIN=") else { return };
    let Some(ghostly) = twin(&homes[1], "") else { return };
    wait_plain(&plain, ">");
    let mut numbers = Numbers(1);
    let mut ghosts = 0;
    for round in 0..150 {
        let keys: Vec<&str> = (0..=numbers.below(6)).map(|_| KEYS[numbers.below(KEYS.len())]).collect();
        let at_once = numbers.below(2) == 0;
        for key in &keys {
            plain.send(key);
            ghostly.send(key);
            // Half of the time the next key comes after the ghost, where there is one.
            let sent = Instant::now();
            while !at_once && ghostly.screen().ghost.is_empty() && sent.elapsed() < Duration::from_millis(10)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        ghosts += usize::from(!ghostly.screen().ghost.is_empty());
        // At the beginning of the line there is no ghost, and the cursor is where both have to have it.
        plain.send("\x01");
        ghostly.send("\x01");
        let start = Instant::now();
        loop {
            let (screen, other) = (plain.screen(), ghostly.screen());
            if screen == other && start.elapsed() > Duration::from_millis(5) {
                break;
            }
            assert!(
                start.elapsed() < crate::util::DEADLINE,
                "round {round}, {keys:?}:\n{screen:#?}\n{other:#?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        plain.send(END);
        ghostly.send(END);
    }
    assert!(ghosts > 5, "there were hardly any ghosts to get in the way: {ghosts}");
}
