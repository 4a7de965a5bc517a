//! Who gets the model next: one waiting job for each client, the newest of that client.
//!
//! Connections submit from the async side, one worker thread takes. A job whose receiver has been dropped is
//! dead: the worker passes it over, and gives a running one up at the next token.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use nemoterm_engine::{Generator, Output};
use tokio::sync::oneshot;

use crate::{complete::Generate, failure::Failure};

/// Names a client.
pub type ClientId = u64;

/// What a job gives back.
pub type Answer = Result<Generated, Failure>;

/// What the model generated.
#[derive(Debug)]
pub struct Generated {
    pub output: Output,
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
    /// Use this model from now on.
    Install { name: String, generator: Box<Generator>, installed: oneshot::Sender<()> },
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
    install: Option<(String, Box<Generator>, oneshot::Sender<()>)>,
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

    /// Hands the worker another model. It is installed before the next job; the receiver is told.
    pub fn install(&self, name: String, generator: Box<Generator>) -> oneshot::Receiver<()> {
        let (installed, receiver) = oneshot::channel();
        self.lock().install = Some((name, generator, installed));
        self.changed.notify_one();
        receiver
    }

    /// Ends the worker. What waits is dropped, and with it the clients' senders.
    pub fn quit(&self) {
        let mut state = self.lock();
        state.quit = true;
        state.waiting.clear();
        self.changed.notify_one();
    }

    /// Waits for something to do.
    pub fn next(&self) -> Task {
        let mut state = self.lock();
        loop {
            if state.quit {
                return Task::Quit;
            }
            if let Some((name, generator, installed)) = state.install.take() {
                return Task::Install { name, generator, installed };
            }
            match state.waiting.pop_front() {
                Some((_, job)) if job.reply.is_closed() => {}
                Some((_, job)) => return Task::Generate(job),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done under this lock, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(prompt: &str) -> (Job, oneshot::Receiver<Answer>) {
        let (reply, receiver) = oneshot::channel();
        let generate = Generate { prompt: prompt.to_owned(), ..Generate::default() };
        (Job { generate, arrived: std::time::Instant::now(), deadline: None, reply }, receiver)
    }

    fn next_prompt(scheduler: &Scheduler) -> String {
        match scheduler.next() {
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
    fn quitting_drops_what_waits() {
        let scheduler = Scheduler::default();
        let (waiting, mut reply) = job("x");
        scheduler.submit(1, waiting);
        scheduler.quit();
        assert!(matches!(scheduler.next(), Task::Quit));
        assert!(reply.try_recv().is_err());
    }
}
