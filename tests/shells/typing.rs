//! Whatever is typed, the screen is the one that a shell without us has, plus at most one ghost.
//!
//! Two terminals get the same keys: a shell with ghost text, and its twin without. After every few keys both have to
//! show the same, apart from the ghost after the cursor; and so does what has left the screen. Where a ghost is accepted, the
//! twin is typed what it added.
//!
//! What is done is chosen by a seed, each round by itself, so that what a round does never depends on the time that the ones before
//! it took. A failure names the seed and the round:
//!
//! - `NEMOTERM_TYPING_SEED=7` begins with that seed;
//! - `NEMOTERM_TYPING_ROUNDS=4000` or `NEMOTERM_TYPING_SECONDS=600` goes on for longer.

mod model;
mod page;
mod shells;

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use model::{Numbers, model};
use page::{Page, without_blanks};
use rustix::process::{Pid, Signal, kill_process};
use shells::{DUMP, END, HISTORY, RECORD, Shell};

use super::{ALT_RIGHT, BACKSPACE, LEFT, RIGHT};
use crate::util::{DEADLINE, eventually, home::Home, pass, terminal::Terminal};

/// Keys that change the line, complete and paste, and none that accepts a suggestion.
const KEYS: [&str; 39] = [
    "e",
    "h",
    "o",
    " ",
    "z",
    "日",
    "é",
    "e\u{301}",
    "'",
    "\"",
    "echo ",
    "echo ",
    "hello",
    "h",
    "e",
    "cat fi",
    BACKSPACE,
    BACKSPACE,
    "\x1b[3~",
    LEFT,
    LEFT,
    "\x02",
    "\x01",
    "\x1b[H",
    END,
    END,
    "\x1bb",
    "\x1bd",
    "\x0b",
    "\x15",
    "\x17",
    "\x19",
    "\x14",
    "\x1f",
    TAB,
    UP,
    DOWN,
    "\x1b[200~a paste é\x1b[201~",
    "\x1b[200~# c\x1b[201~",
];

/// Goes a character back.
const BACK: &str = "\x02";
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const TAB: &str = "\t";

/// Keys that kill.
const KILLING: [&str; 4] = ["\x1bd", "\x0b", "\x15", "\x17"];

const UNDO: &str = "\x1f";

/// A number before a letter.
pub const ARGUMENT: &str = "\x1b2z";

/// Keys that accept a suggestion where there is one.
const ACCEPTING: [&str; 6] = [RIGHT, "\x1b[F", "\x05", "\x06", ALT_RIGHT, "\x1bf"];

/// Columns of the terminal.
const WIDTHS: [u16; 4] = [34, 20, 51, 80];

/// A shell in a terminal.
struct Side {
    home: Home,
    terminal: Terminal,
    /// The first row that is compared; what came before was compared and cleared.
    first: usize,
}

impl Side {
    fn page(&self) -> Page {
        self.terminal.look(|screen| Page::read(screen, self.first))
    }

    /// What the shell writes when a key has it write its line.
    fn dump(&self) -> String {
        let file = self.home.path().join("line");
        let _ = fs::remove_file(&file);
        self.terminal.send(DUMP);
        let mut line = String::new();
        eventually("the shell's line", || {
            line = fs::read_to_string(&file).unwrap_or_default();
            line.ends_with(RECORD)
        });
        line.pop();
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.terminal.pid() as i32).unwrap(), signal).unwrap();
    }

    fn prompts(&self) -> usize {
        read(&self.home.path().join("prompts")).len()
    }

    /// What was run last.
    fn ran(&self) -> String {
        let records = read(&self.home.path().join("ran"));
        records.trim_end_matches(RECORD).rsplit(RECORD).next().unwrap_or_default().to_owned()
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Both of them.
struct Twins {
    shell: Shell,
    plain: Side,
    ghostly: Side,
    /// What was done in the last rounds.
    log: Vec<String>,
    /// Whether something was accepted in this line: typed, it is undone in other steps.
    accepted: bool,
    /// Whether the history was searched since the last prompt.
    searched: bool,
    ghosts: usize,
}

impl Twins {
    fn start(shell: Shell) -> Option<Self> {
        let homes = [Home::new(), Home::new()];
        let mut sides = Vec::new();
        for (home, with_us) in homes.into_iter().zip([false, true]) {
            let terminal = shell.start(&home, with_us, 24, WIDTHS[0])?;
            sides.push(Side { home, terminal, first: 0 });
        }
        let (ghostly, plain) = (sides.pop()?, sides.pop()?);
        Some(Self { shell, plain, ghostly, log: Vec::new(), accepted: false, searched: false, ghosts: 0 })
    }

    fn sides(&self) -> [&Side; 2] {
        [&self.plain, &self.ghostly]
    }

    fn send(&mut self, keys: &str) {
        self.log.push(format!("{keys:?}"));
        for side in self.sides() {
            side.terminal.send(keys);
        }
    }

    fn fail(&self, what: &str) -> ! {
        let [plain, ghostly] = self.sides().map(Side::page);
        let written = self.ghostly.terminal.written();
        // What differs may have left the screen.
        let rows = plain.rows.iter().zip(&ghostly.rows).enumerate();
        let differ: Vec<_> = rows.filter(|(_, (plain, ghostly))| plain != ghostly).take(5).collect();
        let tail = |page: &Page| page.rows[page.rows.len().saturating_sub(24)..].join("\n  ");
        panic!(
            "{what}, prompts {:?}, rows that differ {differ:?}\nlast of what was done: {}\nwithout us, cursor {:?} of {} rows:\n  {}\nwith us, cursor {:?} of {} rows, ghost {:?}:\n  {}\nit has written at last {:?}",
            self.sides().map(Side::prompts),
            self.log[self.log.len().saturating_sub(40)..].join(" "),
            plain.cursor,
            plain.rows.len(),
            tail(&plain),
            ghostly.cursor,
            ghostly.rows.len(),
            ghostly.ghost,
            tail(&ghostly),
            String::from_utf8_lossy(&written[written.len().saturating_sub(300)..]),
        )
    }

    /// Waits until something is so on both sides, and both show the same for a moment.
    fn wait(&self, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
        let began = Instant::now();
        let mut same = None;
        loop {
            let [plain, ghostly] = self.sides().map(Side::page);
            let rows = |page: &Page| page.rows.iter().map(|row| self.shell.row(row)).collect::<Vec<_>>();
            if rows(&plain) == rows(&ghostly) && self.is_cursor(&plain, &ghostly) && is_so(&plain) {
                let since = *same.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(5) {
                    return ghostly;
                }
            } else {
                same = None;
            }
            if began.elapsed() > DEADLINE {
                self.fail(what);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the cursor is where it is without us. In zsh it stands on what follows it, a ghost too; and what is wide and finds
    /// one column stands in the next row.
    fn is_cursor(&self, plain: &Page, ghostly: &Page) -> bool {
        let (row, column) = plain.cursor;
        let wraps = self.shell == Shell::Zsh
            && ghostly.ghost.starts_with('日')
            && column + 1 == self.plain.terminal.look(|screen| usize::from(screen.size().1));
        ghostly.cursor == plain.cursor || (wraps && ghostly.cursor == (row + 1, 0))
    }

    fn quiet(&self) -> Page {
        self.wait("a screen like that of the twin", |_| true)
    }

    /// Gives a ghost some time to come.
    fn linger(&self) {
        let since = Instant::now();
        while self.ghostly.page().ghost.is_empty() && since.elapsed() < Duration::from_millis(15) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does what brings a new prompt, and waits for it.
    fn wait_prompt(&mut self, what: &str, ends_line: impl FnOnce(&mut Self)) {
        let before = self.sides().map(Side::prompts);
        ends_line(self);
        let began = Instant::now();
        while self.sides().map(Side::prompts).iter().zip(before).any(|(now, before)| *now <= before) {
            if began.elapsed() > DEADLINE {
                self.fail(what);
            }
            // zsh sees an interrupt that comes between its looking for one and its waiting only when a signal or a key
            // ends that waiting; on a busy machine an answer may part the two.
            if self.shell == Shell::Zsh && began.elapsed() > DEADLINE / 20 {
                self.sides().iter().for_each(|side| side.signal(Signal::CHILD));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.wait(what, Page::is_at_prompt);
        // A bash keeps the steps of a line of the history when another is run.
        self.accepted &= self.shell == Shell::Bash;
        self.searched = false;
    }

    /// Types something that was never there, and waits for it: both sides have then taken all keys.
    fn mark(&mut self, round: usize) {
        self.send(&format!("o{round}"));
        let mark = format!("o{round}");
        self.wait("what was typed last", |page| {
            let rows = page.rows.get(page.prompt()..).unwrap_or_default().concat();
            rows.contains(&mark)
        });
    }

    fn round(&mut self, seed: u64, round: usize) {
        let mut numbers = Numbers::of(seed, round);
        self.log.push(format!("\n{round}:"));
        let page = self.quiet();
        // What is longer than the screen is another subject.
        if page.rows.len() - page.prompt().min(page.rows.len()) > 7 {
            return self.interrupt(round, &mut numbers);
        }
        match numbers.below(100) {
            0..72 => self.burst(&mut numbers),
            // In bash nothing is undone after the first.
            72..81 if self.shell == Shell::Bash && round < 100 => self.burst(&mut numbers),
            72..81 => self.accept(ACCEPTING[numbers.below(ACCEPTING.len())]),
            81..84 => self.dismiss(),
            84..87 => self.resize(WIDTHS[numbers.below(WIDTHS.len())]),
            87..90 => {
                let signal = [Signal::CONT, Signal::USR1, Signal::USR2, Signal::WINCH][numbers.below(4)];
                self.signal(signal);
            }
            90..94 => self.enter(round, &mut numbers),
            94..97 => self.interrupt(round, &mut numbers),
            97..99 => self.clear(),
            _ => self.suspend(round, &mut numbers),
        }
        let page = self.quiet();
        self.ghosts += usize::from(!page.ghost.is_empty());
    }

    fn burst(&mut self, numbers: &mut Numbers) {
        let own = self.shell.own_keys();
        let count = numbers.below(6);
        let at_once = numbers.chance(50);
        let mut previous = "";
        for _ in 0..=count {
            let key = numbers.below(KEYS.len() + own.len());
            let key = KEYS.get(key).copied().unwrap_or_else(|| own[key - KEYS.len()]);
            // In fish each key of ours is a step of its own, where fish joins those that follow each other.
            if key == UNDO && (self.accepted || self.shell == Shell::Fish) {
                continue;
            }
            // A key of ours ends fish's search of the history. One of fish's own does not in fish 3, nor in fish 4 where the next key
            // is already there: what was typed gives way to what the search before it finds next.
            let goes_on = previous == UP || previous == DOWN;
            if key == DOWN && self.shell == Shell::Fish && !goes_on {
                continue;
            }
            if key == UP && self.shell == Shell::Fish && self.searched && !goes_on {
                self.send(BACK);
            }
            self.searched |= key == UP;
            if key == ARGUMENT && self.shell == Shell::Bash && !self.has_room() {
                continue;
            }
            previous = key;
            // Where one is there before readline has taken what was typed, it goes on with what was killed before that.
            if KILLING.contains(&key) && self.shell == Shell::Bash {
                self.quiet();
            }
            // Where a command is expected fish and zsh would list functions, and some are ours.
            self.send(if key == TAB && self.shell != Shell::Bash { "cat fi\t" } else { key });
            // Half of the time the next key comes after the ghost, where there is one.
            if !at_once {
                self.linger();
            }
        }
    }

    /// Whether the line has room for the prompt that bash shows while a number is typed. Where that wraps, a bash without us leaves
    /// some of the line behind.
    fn has_room(&self) -> bool {
        const PROMPT: usize = "(arg: 2) ".len();
        let page = self.quiet();
        let width = self.plain.terminal.look(|screen| usize::from(screen.size().1));
        page.prompt() + 1 == page.rows.len() && page.rows[page.prompt()].chars().count() * 2 + PROMPT < width
    }

    /// Presses a key that accepts the ghost if there is one, and tells the twin what that has typed.
    fn accept(&mut self, key: &str) {
        self.linger();
        let ghost = self.ghostly.page().ghost;
        let drawn = self.ghostly.terminal.ghosts().len();
        self.log.push(format!("accept {key:?} {ghost:?}"));
        self.ghostly.terminal.send(key);
        let (line, before) = (self.ghostly.dump(), self.plain.dump());
        if line == before || ghost.is_empty() && !line.starts_with(&before) {
            // There was none, or not any more, and the key has done what it does without us: in zsh also take away the blank that
            // a completion has added.
            self.plain.terminal.send(key);
            if line != before && self.plain.dump() != line {
                self.fail(&format!("{key:?} made {line:?} of {before:?}"));
            }
            return;
        }
        let Some(added) = line.strip_prefix(&before) else {
            self.fail(&format!("accepting made {line:?} of {before:?}"))
        };
        // What is on the screen is what is taken. Just before the key something else may have been drawn, the first or a better
        // one, and what has no room is not.
        let added_text = without_blanks(added);
        let is_taken = |ghost: &String| {
            let ghost = without_blanks(ghost.trim_end_matches('…'));
            !ghost.is_empty() && (added_text.starts_with(&ghost) || ghost.starts_with(&added_text))
        };
        let since = self.ghostly.terminal.ghosts().split_off(drawn.saturating_sub(1));
        // Drawn and taken in one piece of output, it was never seen.
        let said = model::says(&before).map(|(_, suffix)| suffix.to_owned());
        let records = read(&self.ghostly.home.path().join("ran"));
        let ran = records.split(RECORD).chain(HISTORY).filter_map(|ran| ran.strip_prefix(&before));
        let ran = ran.filter(|_| ghost.is_empty());
        let unseen: Vec<String> = said.into_iter().chain(ran.map(str::to_owned)).collect();
        if !is_taken(&ghost) && !since.iter().chain(&unseen).any(is_taken) {
            self.fail(&format!("{added:?} was accepted where {ghost:?} was seen, and since then {since:?}"));
        }
        self.accepted = true;
        match self.shell {
            // Typed, it may become part of the last step to undo, and readline then takes the line for unchanged.
            Shell::Bash => self.plain.terminal.send(format!("\x1b[200~{added}\x1b[201~")),
            Shell::Zsh | Shell::Fish => self.plain.terminal.send(added),
        }
    }

    fn dismiss(&mut self) {
        self.linger();
        let ghost = self.quiet().ghost;
        if ghost.is_empty() {
            return;
        }
        self.log.push("Esc".to_owned());
        self.ghostly.terminal.send("\x1b");
        let began = Instant::now();
        while !self.ghostly.page().ghost.is_empty() {
            if began.elapsed() > DEADLINE {
                self.fail("Esc does not dismiss the ghost");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Until then, what follows an Esc belongs to it.
        pass(Duration::from_millis(200));
    }

    fn resize(&mut self, columns: u16) {
        self.log.push(format!("to {columns} columns"));
        if self.shell == Shell::Fish {
            // One that follows another at once, or comes while fish draws, finds it with a width that is not the terminal's any more: what it
            // draws then is a matter of time, with us and without.
            pass(Duration::from_millis(100));
        }
        let same = self.plain.terminal.look(|screen| screen.size().1) == columns;
        let before = self.sides().map(|side| side.terminal.written().len());
        for side in self.sides() {
            side.terminal.resize(24, columns);
        }
        if same {
            return;
        }
        for (side, before) in self.sides().iter().zip(before) {
            eventually("a line that is drawn again", || side.terminal.written().len() > before);
        }
    }

    fn signal(&mut self, signal: Signal) {
        self.log.push(format!("{signal:?}"));
        self.sides().iter().for_each(|side| side.signal(signal));
    }

    fn enter(&mut self, round: usize, numbers: &mut Numbers) {
        let [plain, ghostly] = self.sides().map(Side::dump);
        if plain != ghostly {
            self.fail(&format!("the line is {ghostly:?} and should be {plain:?}"));
        }
        // With nothing but a comment after it, cat reads what is typed.
        if !is_whole(&plain) || plain.contains("cat #") {
            return self.interrupt(round, numbers);
        }
        self.mark(round);
        if numbers.chance(60) {
            self.linger();
        }
        let seen = self.shell.row(&self.quiet().line());
        self.wait_prompt("a prompt after Enter", |twins| twins.send("\r"));
        let ran = self.sides().map(Side::ran);
        // Quoted, a Ctrl-E stands in the line; and what zsh lists below it stays.
        let shown = self.shell.row(&without_blanks(&ran[1])).replace('\x05', "^E");
        if ran[0] != ran[1] || shown.is_empty() || !seen.starts_with(&shown) {
            self.fail(&format!(
                "on the screen was {seen:?}, the twin ran {:?}, and this ran {:?}",
                ran[0], ran[1]
            ));
        }
    }

    /// Presses Ctrl-C, once; in a fish without us again where it has lost that, as it does on a busy machine.
    fn interrupt(&mut self, round: usize, numbers: &mut Numbers) {
        self.mark(round);
        if numbers.chance(60) {
            self.linger();
        }
        self.wait_prompt("a prompt after Ctrl-C", |twins| {
            let before = twins.plain.prompts();
            twins.send("\x03");
            let began = Instant::now();
            while twins.shell == Shell::Fish && twins.plain.prompts() == before {
                if began.elapsed() > DEADLINE / 5 {
                    twins.log.push("once more without us".to_owned());
                    twins.plain.terminal.send("\x03");
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    fn clear(&mut self) {
        self.quiet();
        self.send("\x0c");
        let began = Instant::now();
        // The screens may have scrolled by different numbers of rows, for which the ghost was too long.
        for side in [&mut self.plain, &mut self.ghostly] {
            while side.terminal.screen().rows.first().is_none_or(|row| !row.starts_with('>')) {
                assert!(began.elapsed() < DEADLINE, "Ctrl-L clears nothing");
                std::thread::sleep(Duration::from_millis(1));
            }
            side.first = side.terminal.look(page::above);
        }
    }

    /// Stops a program, and goes on with it.
    fn suspend(&mut self, round: usize, numbers: &mut Numbers) {
        self.interrupt(round, numbers);
        self.send("talk\r");
        self.say("talking", "one");
        self.wait_prompt("a prompt after Ctrl-Z", |twins| twins.send("\x1a"));
        self.send("fg\r");
        self.say("again", "two");
        self.wait_prompt("a prompt after the program", |twins| twins.send("end\r"));
    }

    /// Says something to the program that repeats it, once that listens.
    fn say(&mut self, greeting: &str, word: &str) {
        self.wait("a program that listens", |page| {
            page.cursor.1 == 0 && page.rows.last().is_some_and(|row| row == greeting)
        });
        self.send(&format!("{word}\r"));
        self.wait("what the program repeats", |page| {
            page.cursor.1 == 0 && page.rows.ends_with(&[word.to_owned(), word.to_owned()])
        });
    }
}

/// Whether a shell takes a line as one that has ended.
fn is_whole(line: &str) -> bool {
    let mut open = None;
    for character in line.chars() {
        match open {
            None if "'\"".contains(character) => open = Some(character),
            Some(quote) if quote == character => open = None,
            _ => {}
        }
    }
    open.is_none() && !line.contains('\n')
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn walk(shell: Shell) {
    let seed = number("NEMOTERM_TYPING_SEED").unwrap_or(1);
    let seconds = number("NEMOTERM_TYPING_SECONDS");
    let rounds = number("NEMOTERM_TYPING_ROUNDS").unwrap_or(if seconds.is_some() { u64::MAX } else { 250 });
    let Some(mut twins) = Twins::start(shell) else { return };
    let _model = model(&twins.ghostly.home);
    let began = Instant::now();
    let mut round = 0;
    while (round as u64) < rounds && seconds.is_none_or(|seconds| began.elapsed().as_secs() < seconds) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| twins.round(seed, round)));
        if let Err(panic) = done {
            eprintln!("{shell:?}, NEMOTERM_TYPING_SEED={seed}, round {round}");
            std::panic::resume_unwind(panic);
        }
        round += 1;
    }
    eprintln!("{shell:?}, seed {seed}: {round} rounds, {} of which ended with a ghost", twins.ghosts);
    assert!(twins.ghosts > round / 20, "there were hardly any ghosts to get in the way");
}

#[test]
fn in_zsh_whatever_is_typed_the_screen_is_that_of_a_zsh_without_us() {
    walk(Shell::Zsh);
}

#[test]
fn in_bash_whatever_is_typed_the_screen_is_that_of_a_bash_without_us() {
    walk(Shell::Bash);
}

#[test]
fn in_fish_whatever_is_typed_the_screen_is_that_of_a_fish_without_us() {
    walk(Shell::Fish);
}
