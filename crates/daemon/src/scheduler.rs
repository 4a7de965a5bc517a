//! Who gets the model next: one waiting job for each client, the newest of that client; and only then the texts of
//! programs.
//!
//! Connections submit from the async side, one worker thread takes. A job whose receiver has been dropped is
//! dead: the worker passes it over, and gives a running one up at the next token. A program's text is written a token
//! at a time, so a key stroke waits for one token at most.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use nemoterm_engine::Generator;
use tokio::sync::oneshot;

use crate::{
    backend::Written,
    complete::Generate,
    failure::Failure,
    http::{job::Job as Text, writer::MAX_WRITING},
};

/// Texts of programs that may wait.
const MAX_TEXTS: usize = 1024;

/// Names a client.
pub type ClientId = u64;

/// What a job gives back.
pub type Answer = Result<Generated, Failure>;

/// What the model generated.
#[derive(Debug)]
pub struct Generated {
    pub written: Written,
    /// Name of the model that did.
    pub model: String,
    /// How long the job waited for it.
    pub queue: std::time::Duration,
}

/// A generation that is to be done.
#[derive(Debug)]
pub struct Job {
    pub generate: Generate,
    /// When it was queued.
    pub arrived: std::time::Instant,
    /// Generating ends here, and what is there by then is the answer.
    pub deadline: Option<std::time::Instant>,
    pub reply: oneshot::Sender<Answer>,
}

/// What the worker does next.
pub enum Task {
    /// Generate.
    Generate(Job),
    /// Begin a program's text.
    Begin(Text),
    /// Write the next token of a text that was begun.
    Write,
    /// Use this model from now on.
    Install { name: String, generator: Box<Generator>, installed: oneshot::Sender<()> },
    /// Let go of the model.
    Release { released: oneshot::Sender<()> },
    /// End.
    Quit,
}

/// The queue between the connections and the worker.
#[derive(Default)]
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(ClientId, Job)>,
    texts: VecDeque<Text>,
    install: Option<(String, Box<Generator>, oneshot::Sender<()>)>,
    release: Option<oneshot::Sender<()>>,
    quit: bool,
}

impl Scheduler {
    /// Queues a job. A waiting one of the same client is replaced and keeps its place.
    pub fn submit(&self, client: ClientId, job: Job) {
        let mut state = self.lock();
        match state.waiting.iter_mut().find(|(other, _)| *other == client) {
            Some((_, waiting)) => *waiting = job,
            None => state.waiting.push_back((client, job)),
        }
        self.changed.notify_one();
    }

    /// Queues the texts of one request behind all key strokes; false where too many wait already.
    pub fn submit_texts(&self, texts: Vec<Text>) -> bool {
        let mut state = self.lock();
        if state.quit || state.texts.len() + texts.len() > MAX_TEXTS {
            return false;
        }
        state.texts.extend(texts);
        self.changed.notify_one();
        true
    }

    /// Hands the worker another model. It is installed before the next job; the receiver is told.
    pub fn install(&self, name: String, generator: Box<Generator>) -> oneshot::Receiver<()> {
        let (installed, receiver) = oneshot::channel();
        self.lock().install = Some((name, generator, installed));
        self.changed.notify_one();
        receiver
    }

    /// Has the worker let go of its model once nothing is left to do; the receiver is told.
    pub fn release(&self) -> oneshot::Receiver<()> {
        let (released, receiver) = oneshot::channel();
        self.lock().release = Some(released);
        self.changed.notify_one();
        receiver
    }

    /// Ends the worker. What waits is dropped, and with it the clients' senders.
    pub fn quit(&self) {
        let mut state = self.lock();
        state.quit = true;
        state.waiting.clear();
        state.texts.clear();
        state.release = None;
        self.changed.notify_one();
    }

    /// What to do next, where so many texts are being written; waits for something where none is.
    pub fn next(&self, writing: usize) -> Task {
        let mut state = self.lock();
        loop {
            if state.quit {
                return Task::Quit;
            }
            if let Some((name, generator, installed)) = state.install.take() {
                return Task::Install { name, generator, installed };
            }
            match state.waiting.pop_front() {
                Some((_, job)) if job.reply.is_closed() => continue,
                Some((_, job)) => return Task::Generate(job),
                None => {}
            }
            if writing < MAX_WRITING
                && let Some(text) = state.texts.pop_front()
            {
                return Task::Begin(text);
            }
            if writing > 0 {
                return Task::Write;
            }
            if let Some(released) = state.release.take() {
                return Task::Release { released };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done under this lock, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::{metrics::Metrics, prompt::Prompt};

    fn job(prompt: &str) -> (Job, oneshot::Receiver<Answer>) {
        let (reply, receiver) = oneshot::channel();
        let generate = Generate { prompt: prompt.to_owned(), ..Generate::default() };
        (Job { generate, arrived: std::time::Instant::now(), deadline: None, reply }, receiver)
    }

    fn text(index: usize) -> Text {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let prompt = Arc::new(Prompt::Text(String::new()));
        Text::new(index, prompt, Arc::default(), 0, events, Arc::new(Metrics::new()))
    }

    fn next_prompt(scheduler: &Scheduler) -> String {
        match scheduler.next(0) {
            Task::Generate(job) => job.generate.prompt,
            _ => panic!("not a job"),
        }
    }

    #[test]
    fn the_newest_of_a_client_wins_and_keeps_its_place() {
        let scheduler = Scheduler::default();
        let (old, old_reply) = job("gi");
        let (other, _other_reply) = job("ls");
        let (new, _new_reply) = job("git");
        scheduler.submit(1, old);
        scheduler.submit(2, other);
        scheduler.submit(1, new);
        let mut old_reply = old_reply;
        assert!(matches!(old_reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "never answered");
        assert_eq!(next_prompt(&scheduler), "git");
        assert_eq!(next_prompt(&scheduler), "ls");
    }

    #[test]
    fn a_job_nobody_waits_for_is_passed_over() {
        let scheduler = Scheduler::default();
        let (dead, receiver) = job("dead");
        drop(receiver);
        let (alive, _reply) = job("alive");
        scheduler.submit(1, dead);
        scheduler.submit(2, alive);
        assert_eq!(next_prompt(&scheduler), "alive");
    }

    #[test]
    fn key_strokes_go_before_texts_and_texts_take_turns() {
        let scheduler = Scheduler::default();
        assert!(scheduler.submit_texts((0..=MAX_WRITING).map(text).collect()));
        let (stroke, _reply) = job("ls");
        scheduler.submit(1, stroke);
        assert_eq!(next_prompt(&scheduler), "ls");
        for writing in 0..MAX_WRITING {
            assert!(matches!(scheduler.next(writing), Task::Begin(text) if text.index == writing));
        }
        assert!(matches!(scheduler.next(MAX_WRITING), Task::Write));
        let (stroke, _reply) = job("cd");
        scheduler.submit(1, stroke);
        assert!(matches!(scheduler.next(MAX_WRITING), Task::Generate(_)));
        assert!(matches!(scheduler.next(MAX_WRITING - 1), Task::Begin(text) if text.index == MAX_WRITING));
        assert!(matches!(scheduler.next(1), Task::Write));
    }

    #[test]
    fn more_texts_than_can_wait_are_refused_together() {
        let scheduler = Scheduler::default();
        assert!(scheduler.submit_texts((1..MAX_TEXTS).map(text).collect()));
        assert!(!scheduler.submit_texts(vec![text(0), text(1)]));
        assert!(scheduler.submit_texts(vec![text(0)]));
    }

    #[test]
    fn the_model_goes_only_when_nothing_is_left_to_do() {
        let scheduler = Scheduler::default();
        let mut told = scheduler.release();
        let (stroke, _reply) = job("ls");
        scheduler.submit(1, stroke);
        assert!(matches!(scheduler.next(1), Task::Generate(_)));
        assert!(matches!(scheduler.next(1), Task::Write));
        let Task::Release { released } = scheduler.next(0) else { panic!("not let go") };
        assert!(told.try_recv().is_err());
        released.send(()).unwrap();
        assert_eq!(told.try_recv(), Ok(()));
    }

    #[test]
    fn quitting_drops_what_waits() {
        let scheduler = Scheduler::default();
        let (waiting, mut reply) = job("x");
        scheduler.submit(1, waiting);
        scheduler.quit();
        assert!(matches!(scheduler.next(1), Task::Quit));
        assert!(reply.try_recv().is_err());
    }
}
