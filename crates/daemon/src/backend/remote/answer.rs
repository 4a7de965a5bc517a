//! An answer that comes, piece by piece, and until when it is waited for.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use nemoterm_engine::Finish;
use reqwest::Response;
use tokio::time::timeout_at;

use super::{
    Text,
    healing::{Continuation, Step},
    health::Trouble,
    spare::Loan,
    stream::{Event, Events},
};

/// What is left of an answer that has ended is read for so long, so that its connection can be used again.
const REST: Duration = Duration::from_secs(1);

/// Until when to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) start: Instant,
    /// Something must be there.
    pub(super) first: Instant,
    /// What is there then is the answer.
    pub(super) end: Instant,
}

impl Time {
    pub(super) fn late(self) -> Trouble {
        Trouble::Late(self.first - self.start)
    }
}

/// An answer that comes.
pub(super) struct Answer {
    response: Option<(Response, Loan)>,
    events: Events,
    ready: VecDeque<Event>,
    pub(super) prompt_tokens: usize,
    pub(super) text: Continuation,
    finish: Option<Finish>,
}

impl Answer {
    pub(super) fn new(response: Response, loan: Loan) -> Self {
        Self {
            response: Some((response, loan)),
            events: Events::default(),
            ready: VecDeque::new(),
            prompt_tokens: 0,
            text: Continuation::default(),
            finish: None,
        }
    }

    pub(super) fn answering(mut self, text: Continuation) -> Self {
        self.text = text;
        self
    }

    /// The next event; nothing at the end of the time.
    ///
    /// # Errors
    /// Where the stream breaks off, or is none.
    pub(super) async fn next(&mut self, until: Instant) -> Result<Option<Event>, Trouble> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if let Event::PromptTokens(tokens) = event {
                    self.prompt_tokens = tokens;
                    continue;
                }
                return Ok(Some(event));
            }
            let Some((response, _)) = &mut self.response else { return Err(Trouble::Broken) };
            match timeout_at(until.into(), response.chunk()).await {
                Err(_) => return Ok(None),
                Ok(Ok(Some(bytes))) => self.ready.extend(self.events.take(&bytes)?),
                Ok(Ok(None) | Err(_)) => return Err(Trouble::Broken),
            }
        }
    }

    /// Takes the next event of the text.
    async fn step(&mut self, until: Instant) -> Result<Option<Step>, Trouble> {
        Ok(match self.next(until).await? {
            None => None,
            Some(Event::Piece(0, piece)) => {
                let step = self.text.take(&piece);
                if step == Step::Done {
                    self.finish = Some(Finish::Stop);
                }
                Some(step)
            }
            Some(Event::End(0, cut)) => {
                self.finish = Some(if cut { Finish::Length } else { Finish::Stop });
                self.read_rest();
                Some(if self.text.is_behind() { Step::Astray } else { Step::Done })
            }
            Some(Event::Done) => {
                self.finish.get_or_insert(Finish::Stop);
                Some(if self.text.is_behind() { Step::Astray } else { Step::Done })
            }
            Some(_) => Some(Step::More),
        })
    }

    /// Reads until something is there, it is another word, or the text has ended.
    pub(super) async fn begin(&mut self, time: Time) -> Result<Step, Trouble> {
        loop {
            match self.step(time.first).await? {
                None => return Err(time.late()),
                Some(Step::More) if self.text.is_empty() => {}
                Some(step) => return Ok(step),
            }
        }
    }

    /// Reads the rest, as much as comes in time.
    pub(super) async fn finish(&mut self, time: Time) -> Result<Text, Trouble> {
        while self.finish.is_none() {
            if self.step(time.end).await?.is_none() {
                self.finish = Some(Finish::Cancelled);
            }
        }
        let finish = self.finish.unwrap_or(Finish::Cancelled);
        Ok(Text { text: self.text.text(), tokens: std::mem::take(&mut self.text.tokens), finish })
    }

    /// The text has ended, and so will the answer: its connection can be used again once it is read.
    fn read_rest(&mut self) {
        let Some((mut response, loan)) = self.response.take() else { return };
        tokio::spawn(tokio::time::timeout(REST, async move {
            loop {
                match response.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return loan.give_back(),
                    Err(_) => return loan.forget(),
                }
            }
        }));
    }
}
