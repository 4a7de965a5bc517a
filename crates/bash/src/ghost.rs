//! One shell's ghost: what is suggested, what of it is on the screen, and the client that finds it.

use std::{
    os::fd::{AsRawFd as _, RawFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, Ended},
    draw,
    readline::{Readline, Snapshot},
    session::{Edit, Exchange, Request, Session},
};

/// After a client's first failure in a row this long passes before the next one is started, and longer each time.
const PAUSE: Duration = Duration::from_secs(5);

/// How a ghost looks, in parameters of SGR: bright black, or underlined where the user wants no colours.
const STYLE: &str = "90";
const STYLE_WITHOUT_COLOUR: &str = "4";

/// What precedes a command that takes the place of the line.
const INSTEAD: &str = "  -> ";

/// The bytes of the keys that are known here.
const ESCAPE: u8 = 0x1b;
const TAB: u8 = b'\t';

/// What is on the screen.
#[derive(Debug)]
struct Shown {
    /// The line it stands after.
    line: String,
    /// The text, which may have been clipped when it was drawn.
    text: String,
    /// Rows below the cursor's that it takes.
    below: usize,
    /// How many of its bytes have been typed since and are not drawn as part of the line yet.
    typed: usize,
    replaces: bool,
}

/// What to do with a key that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Give it to readline.
    Deliver,
    /// Give it to readline where it is the beginning of a key sequence; by itself it dismisses the ghost.
    Escape,
}

/// What an action did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// What it is for.
    Acted,
    /// Nothing, there being no ghost.
    Passed,
}

/// One shell's ghost.
pub struct Ghost {
    process: u32,
    program: PathBuf,
    histfile: String,
    client: Option<Client>,
    started: Option<Instant>,
    /// How often in a row a client ended.
    failures: u32,
    /// The line that was entered last, or its last part.
    entered: Option<String>,
    /// The number of the newest command in the history when the last prompt appeared.
    remembered: Option<i32>,
    /// The number of the command that is being entered.
    command: Option<i32>,
    session: Session,
    shown: Option<Shown>,
    /// Whether there is a ghost the user can see, or could until the key that is being handled.
    offered: bool,
}

impl Ghost {
    /// The ghost of this process, without a client yet.
    pub fn new(program: &str, histfile: &str) -> Self {
        Self {
            process: std::process::id(),
            program: program.into(),
            histfile: histfile.to_owned(),
            client: None,
            started: None,
            failures: 0,
            entered: None,
            remembered: None,
            command: None,
            session: Session::default(),
            shown: None,
            offered: false,
        }
    }

    /// Names another program or history file, for the next client.
    pub fn use_program(&mut self, program: &str, histfile: &str) {
        self.program = program.into();
        histfile.clone_into(&mut self.histfile);
    }

    /// Whether it is this process's, and not that of a shell it was forked from.
    pub fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    // --- the client ---------------------------------------------------------------------------------------

    /// A key is about to be read. Where that is the first one of a command, tells the client what ran before, and
    /// starts one where there is none.
    pub fn prompt(&mut self, readline: &Readline) {
        let Some(command) = readline.command_number().filter(|&command| self.command != Some(command)) else {
            return;
        };
        self.command = Some(command);
        let pause = PAUSE * self.failures * self.failures;
        if self.client.is_none() && self.started.is_none_or(|started| started.elapsed() > pause) {
            self.started = Some(Instant::now());
            match Client::start(&self.program, &self.histfile, readline.environment()) {
                Ok(client) => self.client = Some(client),
                // `nemoterm doctor` is the one to say why.
                Err(_) => self.failures += 1,
            }
        }
        let ran = self.ran(readline);
        self.session.begin(!ran.is_empty());
        let (status, cwd) = (readline.exit_status(), readline.variable(c"PWD").unwrap_or_default());
        self.talk(|client| client.tell(status, &cwd, &ran));
    }

    /// The command that ran last; empty where none did, and where the user keeps it from the history.
    fn ran(&mut self, readline: &Readline) -> String {
        let (number, command) = readline.last_command();
        let before = self.remembered.replace(number);
        let entered = self.entered.take().filter(|line| !line.trim().is_empty());
        let (Some(entered), Some(command)) = (entered, command) else { return String::new() };
        // What is entered twice may be in the history once.
        if before != Some(number) || command == entered { command } else { String::new() }
    }

    /// Says something to the client, which is given up when it is gone.
    fn talk<T>(&mut self, say: impl FnOnce(&mut Client) -> Result<T, Ended>) -> Option<T> {
        let answer = say(self.client.as_mut()?);
        if answer.is_err() {
            self.client = None;
            self.failures += 1;
        }
        answer.ok()
    }

    fn send(&mut self, request: &Request) {
        self.talk(|client| client.ask(request));
    }

    /// What becomes readable when the client answers.
    pub fn descriptor(&mut self) -> Option<RawFd> {
        self.talk(|client| client.descriptor().map(|fd| fd.as_raw_fd()))
    }

    /// Reads what the client has said and shows it, if it fits.
    pub fn receive(&mut self, readline: &Readline) {
        let Some(replies) = self.talk(Client::receive) else { return };
        if !replies.is_empty() {
            self.failures = 0;
        }
        let now = readline.snapshot();
        let Some(line) = &now.line else { return };
        let mut exchange = None;
        for reply in replies {
            match self.session.reply_between(&reply, line, now.cursor) {
                None => self.session.reply(reply, line),
                found if exchange.is_none() => exchange = found,
                Some(_) => {}
            }
        }
        if let Some(exchange) = exchange.filter(|_| !now.commanding) {
            self.exchange(readline, &exchange);
            readline.redisplay();
            return;
        }
        self.paint(readline, &now);
    }

    fn exchange(&mut self, readline: &Readline, exchange: &Exchange) {
        self.erase(readline);
        readline.exchange(exchange.remove, &exchange.insert);
    }

    /// Nothing is being typed: asks about the line, if there is anything to ask.
    pub fn idle(&mut self, readline: &Readline) {
        let now = readline.snapshot();
        let Some(line) = now.line.as_deref() else { return };
        self.session.update(line);
        let silent = now.commanding || !now.at_end || is_off(readline) || is_on_demand(readline);
        if silent || !self.session.is_open(line, wants_next_command(readline)) {
            return;
        }
        // Pasted comments are no questions.
        if now.pasted && line.trim_start().starts_with('#') {
            self.session.settle(line);
            return;
        }
        let request = self.session.ask(line, false);
        self.send(&request);
    }

    // --- the screen ---------------------------------------------------------------------------------------

    /// Readline has redrawn the line and reads the next key: draws the ghost that belongs to the line.
    pub fn redrawn(&mut self, readline: &Readline) {
        let now = readline.snapshot();
        let line = now.line.as_deref().unwrap_or_default();
        if let Some(shown) = &mut self.shown {
            let added = line.strip_prefix(shown.line.as_str()).filter(|_| now.at_end);
            match added.filter(|added| shown.text.as_bytes()[..shown.typed].starts_with(added.as_bytes())) {
                Some(added) => {
                    // What was typed of the ghost is part of the line now, in its place.
                    shown.typed -= added.len();
                    shown.text.drain(..added.len());
                    line.clone_into(&mut shown.line);
                    if !shown.text.is_char_boundary(shown.typed) {
                        // The rest of a character follows.
                        return;
                    }
                    shown.typed = 0;
                }
                None if now.at_end => self.erase(readline),
                // The rest of the line stands there.
                None => self.shown = None,
            }
        }
        self.session.update(line);
        self.paint(readline, &now);
    }

    /// Brings the screen in line with the suggestions.
    fn paint(&mut self, readline: &Readline, now: &Snapshot) {
        self.offered = false;
        let drawing = self.drawing(readline, now);
        let Some((shown, bytes)) = drawing else {
            self.erase(readline);
            return;
        };
        // Where the same text is there already, drawing over it does not flicker.
        let over = self.shown.as_ref().is_some_and(|old| old.line == shown.line && old.text == shown.text);
        let bytes = match &self.shown {
            Some(old) if !over => format!("{}{bytes}", draw::erase(old.below)),
            _ => bytes,
        };
        write(readline, &bytes);
        let below = self.shown.as_ref().filter(|_| over).map_or(0, |old| old.below);
        self.shown = Some(Shown { below: shown.below.max(below), ..shown });
        self.offered = true;
    }

    fn drawing(&self, readline: &Readline, now: &Snapshot) -> Option<(Shown, String)> {
        let place = now.place.filter(|_| now.at_end && !now.commanding)?;
        let line = now.line.as_deref()?;
        let suggestion = self.session.suggestion(line)?;
        if is_off(readline) {
            return None;
        }
        let replaces = self.session.replaces();
        let text = if replaces { format!("{INSTEAD}{suggestion}") } else { suggestion.to_owned() };
        let drawing = draw::draw(&text, place, &style(readline))?;
        let shown = Shown { line: line.to_owned(), text, below: drawing.below, typed: 0, replaces };
        Some((shown, drawing.bytes))
    }

    /// Takes the ghost from the screen. It stays on offer until the line changes.
    pub fn erase(&mut self, readline: &Readline) {
        if let Some(shown) = self.shown.take() {
            write(readline, draw::erase(shown.below));
        }
    }

    // --- keys ---------------------------------------------------------------------------------------------

    /// A key was read, or the end. The ghost goes, unless the key is the next one of it.
    pub fn key(&mut self, readline: &Readline, key: Option<u8>) -> Key {
        if matches!(key, Some(b'\r' | b'\n')) {
            self.entered = readline.snapshot().line;
            self.erase(readline);
            self.abandon();
        }
        let Some(shown) = &mut self.shown else { return Key::Deliver };
        if let Some(key) = key
            && !shown.replaces
            && shown.text.as_bytes().get(shown.typed) == Some(&key)
            && readline.inserts(key)
        {
            shown.typed += 1;
            return Key::Deliver;
        }
        self.erase(readline);
        match key {
            Some(ESCAPE) => {
                let now = readline.snapshot();
                if now.emacs { Key::Escape } else { Key::Deliver }
            }
            Some(TAB) => {
                // What completion lists stands where the ghost stood.
                self.dismiss_now(readline);
                Key::Deliver
            }
            _ => Key::Deliver,
        }
    }

    /// The line is done, or given up: the next one may be alike and yet another one.
    fn abandon(&mut self) {
        self.session.begin(false);
        self.offered = false;
    }

    /// A signal has come: the screen has to be without a ghost while it is handled.
    pub fn signalled(&mut self, readline: &Readline) {
        self.erase(readline);
        if readline.is_interrupted() {
            self.abandon();
        }
    }

    /// Takes the suggestions away until the line changes.
    pub fn dismiss_now(&mut self, readline: &Readline) {
        if let Some(line) = readline.snapshot().line {
            self.session.dismiss(&line);
        }
        self.offered = false;
    }

    /// The line, where there is a ghost after it that the user can see.
    fn visible(&self, readline: &Readline) -> Option<String> {
        let now = readline.snapshot();
        let line = now.line.filter(|_| self.offered && now.at_end)?;
        self.session.suggestion(&line).is_some().then_some(line)
    }

    /// Accepts the suggestion, or its next word.
    pub fn accept(&mut self, readline: &Readline, word: bool) -> Done {
        if self.visible(readline).is_none() {
            return Done::Passed;
        }
        self.erase(readline);
        let edit = if word { self.session.accept_word() } else { self.session.accept() };
        if let (Some(Edit::Insert(text) | Edit::Replace(text)), Some(client)) = (&edit, &self.client) {
            // One that has ended is noticed when it is asked next.
            let _ = client.accepted(text);
        }
        match edit {
            Some(Edit::Insert(text)) => readline.insert(&text),
            Some(Edit::Replace(text)) => readline.replace(&text),
            None => {}
        }
        Done::Acted
    }

    /// Shows another suggestion.
    pub fn step(&mut self, readline: &Readline, by: isize) -> Done {
        if self.visible(readline).is_none() {
            return Done::Passed;
        }
        if let Some(request) = self.session.step(by) {
            self.send(&request);
        }
        Done::Acted
    }

    /// Asks for suggestions; shows the next one where they have been asked for.
    pub fn ask(&mut self, readline: &Readline) -> Done {
        let now = readline.snapshot();
        if !now.at_end && !now.commanding {
            return self.ask_between(readline, &now);
        }
        let is_blank = |line: &String| !line.is_empty() && line.trim().is_empty();
        let line = now.line.filter(|line| now.at_end && !is_blank(line) && !is_off(readline));
        let Some(line) = line.filter(|_| self.client.is_some()) else {
            return Done::Passed;
        };
        if self.session.is_complete() && self.visible(readline).is_some() {
            return self.step(readline, 1);
        }
        let request = self.session.ask(&line, true);
        self.send(&request);
        Done::Acted
    }

    /// Asks for what leads up to the text after the cursor; where it has come and stands there, takes the next one.
    fn ask_between(&mut self, readline: &Readline, now: &Snapshot) -> Done {
        let Some(line) = now.line.as_deref().filter(|_| self.client.is_some() && !is_off(readline)) else {
            return Done::Passed;
        };
        if let Some(exchange) = self.session.step_between(line, now.cursor) {
            self.exchange(readline, &exchange);
        } else if let Some(request) = self.session.ask_between(line, now.cursor) {
            self.send(&request);
        }
        Done::Acted
    }

    /// Takes the ghost away until the line changes.
    pub fn dismiss(&mut self, readline: &Readline) -> Done {
        if self.visible(readline).is_none() {
            return Done::Passed;
        }
        self.dismiss_now(readline);
        Done::Acted
    }
}

fn is_off(readline: &Readline) -> bool {
    readline.is_set(c"NEMOTERM_OFF")
}

fn is_on_demand(readline: &Readline) -> bool {
    readline.variable(c"NEMOTERM_MODE").is_some_and(|mode| mode == "hotkey")
}

fn wants_next_command(readline: &Readline) -> bool {
    readline.variable(c"NEMOTERM_NEXT_COMMAND").is_none_or(|choice| choice != "off")
}

/// The user's style, where it can't be anything else.
fn style(readline: &Readline) -> String {
    let chosen = readline.variable(c"NEMOTERM_HIGHLIGHT").filter(|style| is_style(style));
    let usual = if readline.is_set(c"NO_COLOR") { STYLE_WITHOUT_COLOUR } else { STYLE };
    chosen.unwrap_or_else(|| usual.to_owned())
}

fn is_style(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
}

/// Writes to the terminal in one piece where that is possible.
fn write(readline: &Readline, text: &str) {
    let Some(terminal) = readline.terminal() else { return };
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(terminal, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            // Readline will notice.
            Err(_) => return,
        }
    }
}
