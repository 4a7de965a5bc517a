//! What went wrong with a server, and when it is asked again.

use std::time::{Duration, Instant, SystemTime};

use nemoterm_protocol::RemoteState;

use crate::failure::Failure;

/// How long a server is left alone after its first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What only a person can mend is tried again after this.
const MENDING: Duration = Duration::from_secs(300);

/// A server that asks for more patience is asked again after this all the same.
const LONGEST_WISH: Duration = Duration::from_secs(600);

/// A server may be too late so often in a row; the next key may be luckier.
const MAX_LATE: u32 = 3;

/// What went wrong. Nothing the server has said is kept: it may repeat what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, and why.
    Unreachable(String),
    /// No text within this time.
    Late(Duration),
    /// The connection ended in the middle of an answer.
    Broken,
    /// What came is no answer, and why not.
    Garbled(&'static str),
    /// A status that is no success, and how long it asks to be left alone.
    Status(u16, Option<Duration>),
    /// A secret is being typed, which is nothing to send; no fault of the server.
    Secret,
}

impl Trouble {
    /// What is wrong with the server at this URL.
    pub fn message(&self, url: &str) -> String {
        match self {
            Self::Unreachable(why) => format!("{url} can't be reached: {why}"),
            Self::Late(time) => format!("{url} did not answer within {} ms", time.as_millis()),
            Self::Broken => format!("{url} broke off its answer"),
            Self::Garbled(why) => format!("{url} does not answer as OpenAI's API does: {why}"),
            Self::Status(401 | 403, _) => format!("{url} does not accept the key"),
            Self::Status(429, _) => format!("{url} has too much to do"),
            Self::Status(status @ 300..=399, _) => {
                format!("{url} sends us elsewhere (status {status}), and we do not go")
            }
            Self::Status(status, _) => format!("{url} answers with status {status}"),
            Self::Secret => "the line holds a secret, and was not sent".to_owned(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable(why) if why.contains("ddress family") => {
                "nemoterm daemon install gives the service a network, once backend is in the configuration"
            }
            Self::Unreachable(why) if why.contains("certificate") => {
                "nemoterm config set remote_ca_file FILE, with the certificate of who vouches for the server"
            }
            Self::Unreachable(_) => "start the server, or nemoterm config set remote_url URL",
            Self::Late(_) => {
                "NEMOTERM_TIMEOUT_MS lets a shell wait longer, remote_wait_ms everything; a faster server is better"
            }
            Self::Broken | Self::Status(500..=599, _) => "the server's own log may tell why",
            Self::Garbled(_) | Self::Status(300..=399 | 404 | 405, _) => {
                "check remote_url, which mostly ends in /v1, and remote_model"
            }
            Self::Status(401 | 403, _) => "set remote_key_file or remote_key_env to the right key",
            Self::Status(429, _) => "it is asked again later",
            Self::Status(..) => "the server's log may tell what it did not like; check remote_model",
            Self::Secret => "nothing has to be done",
        }
        .to_owned()
    }

    /// How long the server is left alone after so many failures in a row, this one included.
    fn pause(&self, failures: u32) -> Duration {
        let doubled =
            FIRST_PAUSE.saturating_mul(1 << (failures.saturating_sub(1)).min(16)).min(LONGEST_PAUSE);
        match self {
            Self::Late(_) if failures < MAX_LATE => Duration::ZERO,
            Self::Status(300..=399 | 401 | 403 | 404 | 405, _) => MENDING,
            Self::Status(_, Some(wish)) => doubled.max((*wish).min(LONGEST_WISH)),
            _ => doubled,
        }
    }

    /// As an answer to who has asked.
    pub fn failure(&self, url: &str) -> Failure {
        Failure::new(self.message(url), self.hint())
    }
}

/// How long a `Retry-After` asks to be left alone: it tells seconds, or a date. Nothing where it tells neither.
pub fn wish(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    // A date that has passed is no reason to wait.
    let until = || httpdate::parse_http_date(text).ok().map(|at| at.duration_since(now).unwrap_or_default());
    seconds.or_else(until)
}

/// How a server has done so far.
#[derive(Debug, Default)]
pub struct Health {
    answered: u64,
    failed: u64,
    /// Failures since it last answered, the last one, and when it is asked again.
    failures: u32,
    last: Option<(Trouble, Instant)>,
}

impl Health {
    /// Why it is not asked now, if so.
    pub fn paused(&self, now: Instant) -> Option<&Trouble> {
        self.last.as_ref().filter(|(_, until)| now < *until).map(|(trouble, _)| trouble)
    }

    /// It has answered; tells whether that is news.
    pub fn answered(&mut self) -> bool {
        self.answered += 1;
        self.failures = 0;
        self.last.take().is_some() || self.answered == 1
    }

    /// It has not; tells whether that is news.
    pub fn failed(&mut self, trouble: Trouble, now: Instant) -> bool {
        if trouble == Trouble::Secret {
            return false;
        }
        self.failed += 1;
        self.failures += 1;
        let until = now + trouble.pause(self.failures);
        let is_news = self.last.as_ref().is_none_or(|(last, _)| *last != trouble);
        self.last = Some((trouble, until));
        is_news
    }

    /// How often it has answered, and how often not.
    pub fn counts(&self) -> (u64, u64) {
        (self.answered, self.failed)
    }

    /// For people and programs.
    pub fn state(&self, url: &str, now: Instant) -> RemoteState {
        let Some((trouble, until)) = &self.last else {
            return if self.answered > 0 { RemoteState::Answering } else { RemoteState::Untried };
        };
        let (error, hint) = (trouble.message(url), trouble.hint());
        match until.saturating_duration_since(now) {
            Duration::ZERO => RemoteState::Failing { error, hint },
            left => RemoteState::Paused { error, hint, again_s: Some(left.as_secs() + 1) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a server is left alone after the last of these.
    fn pause(troubles: &[Trouble]) -> Duration {
        let (mut health, now) = (Health::default(), Instant::now());
        for trouble in troubles {
            health.failed(trouble.clone(), now);
        }
        health.last.map_or(Duration::ZERO, |(_, until)| until - now)
    }

    #[test]
    fn pauses_grow_and_end() {
        let refused = || Trouble::Unreachable("connection refused".to_owned());
        assert_eq!(pause(&[refused()]), Duration::from_secs(1));
        assert_eq!(pause(&[refused(), Trouble::Broken, refused()]), Duration::from_secs(4));
        assert_eq!(pause(&vec![refused(); 100]), LONGEST_PAUSE);
    }

    #[test]
    fn what_a_server_asks_for_is_heeded_within_reason() {
        let busy = |seconds| Trouble::Status(429, Some(Duration::from_secs(seconds)));
        assert_eq!(pause(&[busy(30)]), Duration::from_secs(30));
        assert_eq!(pause(&[busy(0)]), FIRST_PAUSE);
        assert_eq!(pause(&[busy(1_000_000)]), LONGEST_WISH);
        assert_eq!(pause(&[Trouble::Status(401, None)]), MENDING);
    }

    #[test]
    fn a_wish_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("30", Some(30)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(252_618_189_022)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(wish(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn being_late_once_is_forgiven_and_a_secret_is_no_failure() {
        let late = || Trouble::Late(Duration::from_millis(90));
        assert_eq!(pause(&[late(), late()]), Duration::ZERO);
        assert_eq!(pause(&[late(), late(), late()]), Duration::from_secs(4));
        assert_eq!(pause(&[Trouble::Secret]), Duration::ZERO);
    }

    #[test]
    fn the_state_tells_what_is() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert_eq!(health.state("u", now), RemoteState::Untried);
        assert!(health.answered());
        assert_eq!(health.state("u", now), RemoteState::Answering);
        assert!(health.failed(Trouble::Status(503, None), now));
        assert!(!health.failed(Trouble::Status(503, None), now), "no news");
        let RemoteState::Paused { error, again_s, .. } = health.state("u", now) else { panic!("not paused") };
        assert_eq!((error.as_str(), again_s), ("u answers with status 503", Some(3)));
        assert!(health.paused(now).is_some());
        let later = now + LONGEST_PAUSE;
        assert!(health.paused(later).is_none());
        assert!(matches!(health.state("u", later), RemoteState::Failing { .. }));
        assert!(health.answered());
        assert_eq!((health.state("u", now), health.counts()), (RemoteState::Answering, (2, 2)));
    }
}
