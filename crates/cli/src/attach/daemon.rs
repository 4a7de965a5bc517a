//! The daemon, as one shell's client sees it: somebody who may be missing, slow, hung or wrong.
//!
//! One thread owns the conversation. It takes questions, of which only the newest counts, gives up on an answer
//! that does not come, and after several of these leaves the daemon alone for a while. Reading and starting the
//! daemon have threads of their own, which report here, so that nothing ever waits behind them.

use std::{
    collections::HashSet,
    env,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    Candidate, Complete, Completion, Context, Reply, Request, Source,
    client::{Client, ClientError},
    runtime::Runtime,
};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    clean::is_displayable,
    foreign::before_missing,
    redact::{MARKER, redact},
};

use super::{pipe::Replies, session::Place, tally::Tally};
use crate::{
    context::{self, Commands},
    daemon_process,
};

/// How long an answer to a key stroke is worth waiting for, from connecting to the last byte. Who reaches a
/// daemon through a long wire sets `NEMOTERM_TIMEOUT_MS`.
const PATIENCE: Duration = Duration::from_millis(150);

/// The same when the user has asked, where it is longer.
const PATIENCE_WHEN_ASKED: Duration = Duration::from_secs(2);

/// How long the end of the shell's client may wait for the last of it.
const END: Duration = Duration::from_secs(2);

/// How many answers in a row may be missing before the daemon is left alone.
const MAX_TIMEOUTS: u32 = 3;

/// How long the commands on the PATH count as known.
const COMMANDS: Duration = Duration::from_secs(60);

/// How long it is left alone then, and how often it is started at most.
const PAUSE: Duration = Duration::from_secs(5);

/// Alternatives wanted when the user has asked.
const ALTERNATIVES: usize = 5;

/// What is to be completed.
#[derive(Debug, Clone)]
pub struct Question {
    /// The shell's number for it.
    pub seq: u64,
    /// Whether the user asked.
    pub asked: bool,
    /// The line.
    pub buffer: Buffer,
    /// What is known around it.
    pub context: Context,
    /// What was found without the daemon.
    pub candidates: Vec<Candidate>,
    /// What of this the shell has been told, best first.
    pub shown: Vec<(String, Source)>,
    /// Programs that the history had when the shell began.
    pub used: Arc<HashSet<String>>,
}

#[derive(Debug)]
enum Event {
    Complete(Box<Question>),
    Look(PathBuf),
    /// The reader of the conversation with that number has received something, or ends.
    Received(u64, Box<Result<Reply, ClientError>>),
    /// The attempt to start a daemon is over.
    Started(Option<Client>),
    /// The shell has gone. Whoever waits for what is left to be done hears of it by the end of the channel.
    End(mpsc::Sender<()>),
}

/// The commands on the PATH, empty until they were looked at.
pub type SharedCommands = Arc<Mutex<Commands>>;

/// The way to the thread that talks with the daemon.
#[derive(Debug)]
pub struct Daemon {
    events: mpsc::Sender<Event>,
}

impl Daemon {
    /// Starts the thread, which looks for a daemon at once.
    pub fn spawn(
        runtime: Option<Runtime>,
        replies: Replies,
        tally: Tally,
        place: Arc<Mutex<Place>>,
        commands: SharedCommands,
    ) -> Self {
        let (events, inbox) = mpsc::channel();
        let mut talk = Talk {
            runtime,
            replies,
            tally,
            place,
            events: events.clone(),
            conversation: None,
            conversations: 0,
            last_id: 0,
            waiting: None,
            timeouts: 0,
            quiet_until: None,
            starting: false,
            started: None,
            commands,
            looked: None,
            patience: patience(env::var("NEMOTERM_TIMEOUT_MS").ok().as_deref()),
        };
        thread::spawn(move || talk.run(&inbox));
        Self { events }
    }

    /// Asks the daemon. A later question replaces this one.
    pub fn complete(&self, question: Question) {
        // The thread ends only with the program.
        let _ = self.events.send(Event::Complete(Box::new(question)));
    }

    /// Does what is left to be done, and waits a moment for it.
    pub fn end(&self) {
        let (done, ended) = mpsc::channel();
        let _ = self.events.send(Event::End(done));
        // It ends with an error in any case: nothing is ever sent.
        let _ = ended.recv_timeout(END);
    }

    /// Looks at the shell's directory afresh.
    pub fn look(&self, cwd: PathBuf) {
        let _ = self.events.send(Event::Look(cwd));
    }
}

#[derive(Debug)]
struct Talk {
    runtime: Option<Runtime>,
    replies: Replies,
    tally: Tally,
    place: Arc<Mutex<Place>>,
    events: mpsc::Sender<Event>,
    /// The open conversation, and its number.
    conversation: Option<(Client, u64)>,
    conversations: u64,
    last_id: u64,
    waiting: Option<Waiting>,
    timeouts: u32,
    quiet_until: Option<Instant>,
    starting: bool,
    started: Option<Instant>,
    commands: SharedCommands,
    /// When it was begun to look for the commands.
    looked: Option<Instant>,
    /// How long an answer to a key stroke is waited for.
    patience: Duration,
}

fn patience(setting: Option<&str>) -> Duration {
    setting.and_then(|text| text.parse().ok()).map_or(PATIENCE, Duration::from_millis)
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Waiting {
    /// Its id in the conversation, once it is sent.
    id: Option<u64>,
    question: Box<Question>,
    patience: Duration,
    deadline: Instant,
}

impl Talk {
    fn run(&mut self, inbox: &mpsc::Receiver<Event>) {
        self.connect();
        loop {
            let first = match self.waiting.as_ref().map(|waiting| waiting.deadline) {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => {
                    let mut newest = None;
                    for event in std::iter::once(first).chain(inbox.try_iter()) {
                        match event {
                            Event::Complete(question) => newest = Some(question),
                            Event::Look(cwd) => {
                                newest = None;
                                self.look(cwd);
                            }
                            Event::Received(conversation, reply) => self.received(conversation, *reply),
                            Event::Started(client) => self.has_started(client),
                            Event::End(_waits) => {
                                self.tell_counts(true);
                                return;
                            }
                        }
                    }
                    if let Some(question) = newest {
                        self.ask(question);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.give_up(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A prompt appeared: what was asked before is obsolete, and the directory may have changed.
    fn look(&mut self, cwd: PathBuf) {
        if self.waiting.take().is_some_and(|waiting| waiting.id.is_some())
            && let Some((client, _)) = &self.conversation
            && client.send(&Request::Cancel).is_err()
        {
            self.hang_up();
        }
        self.tell_counts(false);
        if self.looked.is_none_or(|looked| looked.elapsed() > COMMANDS) {
            self.looked = Some(Instant::now());
            let commands = Arc::clone(&self.commands);
            thread::spawn(move || {
                let found = Commands::look();
                *commands.lock().unwrap_or_else(PoisonError::into_inner) = found;
            });
        }
        let seen = Place { names: context::names(&cwd), branch: context::branch(&cwd), cwd };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// Tells the daemon what was counted, where it wants to know; `now` even where it has heard so lately.
    fn tell_counts(&mut self, now: bool) {
        let Some((client, _)) = &self.conversation else { return };
        if client.welcome().stats != Some(true) {
            return;
        }
        if let Some(stats) = self.tally.take(now)
            && client.send(&Request::Count(Box::new(stats))).is_err()
        {
            self.hang_up();
        }
    }

    fn ask(&mut self, question: Box<Question>) {
        self.waiting = None;
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let patience = if question.asked { self.patience.max(PATIENCE_WHEN_ASKED) } else { self.patience };
        self.waiting = Some(Waiting { id: None, question, patience, deadline: Instant::now() + patience });
        if self.conversation.is_some() || self.connect() {
            self.send();
        }
    }

    /// Sends the waiting question; once more over a new conversation where the daemon has hung up.
    fn send(&mut self) {
        for _ in 0..2 {
            let (Some((client, _)), Some(waiting)) = (&self.conversation, &mut self.waiting) else { return };
            self.last_id += 1;
            waiting.id = Some(self.last_id);
            let request = {
                let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
                let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
                request(self.last_id, waiting, &place, &commands)
            };
            let Some(request) = request else {
                self.waiting = None;
                return;
            };
            match client.send(&Request::Complete(Box::new(request))) {
                Ok(()) => return,
                Err(ClientError::Unresponsive) => {
                    self.hang_up();
                    self.give_up();
                    return;
                }
                Err(_) => {
                    self.hang_up();
                    if !self.connect() {
                        return;
                    }
                }
            }
        }
    }

    /// Opens a conversation. Where nobody is there, a daemon is started.
    fn connect(&mut self) -> bool {
        let Some(runtime) = &self.runtime else { return false };
        match Client::connect(runtime, self.patience) {
            Ok(client) => {
                self.converse(client);
                true
            }
            Err(ClientError::NotRunning | ClientError::HungUp) => {
                self.start();
                false
            }
            Err(ClientError::Unresponsive) => {
                self.give_up();
                false
            }
            Err(_) => {
                self.pause();
                false
            }
        }
    }

    fn converse(&mut self, client: Client) {
        self.conversations += 1;
        let number = self.conversations;
        let events = self.events.clone();
        let reader = client.clone();
        thread::spawn(move || {
            loop {
                let reply = reader.receive(None);
                let ends = reply.is_err();
                if events.send(Event::Received(number, Box::new(reply))).is_err() || ends {
                    return;
                }
            }
        });
        self.conversation = Some((client, number));
    }

    fn hang_up(&mut self) {
        if let Some((client, _)) = self.conversation.take() {
            client.hang_up();
        }
    }

    /// Starts a daemon, in the background and not too often.
    fn start(&mut self) {
        let recently = self.started.is_some_and(|started| started.elapsed() < PAUSE);
        let forbidden = env::var_os("NEMOTERM_AUTOSTART").is_some_and(|value| value == "0");
        let Some(runtime) = self.runtime.clone().filter(|_| !self.starting && !recently && !forbidden) else {
            return;
        };
        self.starting = true;
        self.started = Some(Instant::now());
        let events = self.events.clone();
        thread::spawn(move || {
            // Why it failed is for `nemoterm doctor` to say: there is no place to print here.
            let _ = events.send(Event::Started(daemon_process::connect_or_start(&runtime).ok()));
        });
    }

    fn has_started(&mut self, client: Option<Client>) {
        self.starting = false;
        if let Some(client) = client.filter(|_| self.conversation.is_none()) {
            self.converse(client);
            self.send();
        }
    }

    fn received(&mut self, conversation: u64, reply: Result<Reply, ClientError>) {
        if self.conversation.as_ref().is_none_or(|(_, number)| *number != conversation) {
            return;
        }
        let Ok(reply) = reply else {
            self.hang_up();
            // Killed, most likely, and the question still waits.
            if self.waiting.is_some() && self.connect() {
                self.send();
            }
            return;
        };
        self.timeouts = 0;
        let id = match &reply {
            Reply::Completion(completion) => Some(completion.id),
            Reply::Loading { id } => Some(*id),
            Reply::Error(error) => error.id,
            Reply::Welcome(_) | Reply::Status(_) | Reply::Stats(_) | Reply::Stopping => None,
        };
        let Some(waiting) = self.waiting.take_if(|waiting| id.is_some() && waiting.id == id) else { return };
        if let Reply::Completion(completion) = reply {
            self.forward(&waiting.question, &completion);
        }
    }

    /// Tells the shell what the model adds to what it has been told already.
    fn forward(&self, question: &Question, completion: &Completion) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<(String, Source)> = completion
            .alternatives
            .iter()
            // The daemon has looked already, and a daemon may be wrong.
            .filter(|found| is_displayable(&found.suffix))
            .map(|found| (runnable(&found.suffix, question, &commands).to_owned(), found.source))
            .filter(|(suffix, _)| !suffix.trim().is_empty())
            .collect();
        drop(commands);
        for (text, source) in &question.shown {
            if !found.iter().any(|(other, _)| other == text) {
                found.push((text.clone(), *source));
            }
        }
        let Some((_, source)) = found.first() else { return };
        let replaces = matches!(question.buffer.kind(), Kind::Description(_));
        if found != question.shown {
            let texts: Vec<String> = found.iter().map(|(text, _)| text.clone()).collect();
            self.replies.send(question.seq, replaces, *source, &texts);
        }
    }

    fn give_up(&mut self) {
        self.waiting = None;
        self.timeouts += 1;
        if self.timeouts >= MAX_TIMEOUTS {
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.waiting = None;
        self.timeouts = 0;
        self.quiet_until = Some(Instant::now() + PAUSE);
    }
}

/// What may appear of a suggestion: of a line that nobody has asked for, what can be run here. Functions and aliases are known by
/// their use.
fn runnable<'a>(suffix: &'a str, question: &Question, commands: &Commands) -> &'a str {
    if question.asked || matches!(question.buffer.kind(), Kind::Description(_)) {
        return suffix;
    }
    // What the PATH has got since the shell began, only its use tells.
    let is_used = |name: &str| {
        question.used.contains(name) || question.context.history.iter().any(|entry| entry.line.contains(name))
    };
    before_missing(question.buffer.before(), suffix, |name| commands.may_have(name) || is_used(name))
}

/// What is sent for a question; nothing where a secret is being typed.
fn request(id: u64, waiting: &Waiting, place: &Place, commands: &Commands) -> Option<Complete> {
    let question = &waiting.question;
    let before = redact(question.buffer.before());
    if before.ends_with(MARKER) && before != question.buffer.before() {
        return None;
    }
    let mut context = question.context.clone();
    if context.cwd.as_deref() == place.cwd.to_str() {
        context.names.clone_from(&place.names);
        context.branch.clone_from(&place.branch);
    }
    context.commands = commands.wanted(question.buffer.before());
    let patience = waiting.patience.as_millis() as u64;
    Some(Complete {
        id,
        cursor: before.len(),
        line: format!("{before}{}", redact(question.buffer.after())),
        context,
        candidates: question.candidates.clone(),
        alternatives: if question.asked { ALTERNATIVES } else { 1 },
        unasked: !question.asked,
        // The way back takes a little as well.
        budget_ms: patience * 4 / 5,
        wait_ms: patience / 2,
        ..Complete::default()
    })
}

#[cfg(test)]
mod tests {
    use nemoterm_protocol::HistoryLine;

    use super::*;

    fn waiting(line: &str) -> Waiting {
        let question = Box::new(Question {
            seq: 1,
            asked: false,
            buffer: Buffer::at_end(line),
            context: Context::default(),
            candidates: Vec::new(),
            shown: Vec::new(),
            used: Arc::default(),
        });
        Waiting { id: None, question, patience: PATIENCE, deadline: Instant::now() }
    }

    #[test]
    fn a_request_fits_its_patience() {
        let request = request(3, &waiting("git ch"), &Place::default(), &Commands::default()).unwrap();
        assert_eq!((request.id, request.cursor, request.alternatives), (3, 6, 1));
        assert!(request.budget_ms < PATIENCE.as_millis() as u64);
    }

    #[test]
    fn what_appears_can_be_run_here() {
        let mut question = *waiting("cat x").question;
        let commands = Commands::named(["cat", "wc"]);
        assert_eq!(runnable(" | wc | findstr a", &question, &commands), " | wc");
        assert_eq!(runnable(" | findstr a", &question, &Commands::default()), " | findstr a", "nobody knows");
        question.context.history.push(HistoryLine { line: "findstr b".to_owned(), status: Some(0) });
        assert_eq!(runnable(" | findstr a", &question, &commands), " | findstr a", "a function");
        question.context.history.clear();
        question.used = Arc::new(["findstr".to_owned()].into());
        assert_eq!(runnable(" | findstr a", &question, &commands), " | findstr a", "used long ago");
        question.used = Arc::default();
        question.asked = true;
        assert_eq!(runnable(" | findstr a", &question, &commands), " | findstr a");
    }

    #[test]
    fn a_line_in_which_a_secret_is_being_typed_is_not_sent() {
        let secret = "export GITHUB_TOKEN=ghp_0123456789abcdefghijABCDEFGHIJ012345";
        assert!(request(1, &waiting(secret), &Place::default(), &Commands::default()).is_none());
        let line = format!("{secret} && git push ");
        let request = request(2, &waiting(&line), &Place::default(), &Commands::default()).unwrap();
        assert!(!request.line.contains("ghp_") && request.line.ends_with(" && git push "));
        assert_eq!(request.cursor, request.line.len());
    }
}
