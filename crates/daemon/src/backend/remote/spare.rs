//! A connection that is there before it is needed. A TLS handshake takes longer than a shell waits, where the server is
//! far away, and who gives a request up gives its connection up as well; so another one is opened meanwhile.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, HeaderValue},
};

/// So long an unused connection is believed to be there: servers close them after five seconds or later.
const KEPT: Duration = Duration::from_secs(4);

/// How long opening one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens connections ahead.
#[derive(Debug)]
pub struct Spare {
    client: Client,
    /// An address of the server that costs it nothing.
    url: String,
    key: Option<HeaderValue>,
    is_wanted: bool,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There may be none.
    Missing,
    Opening,
    /// There is one, as far as is known, until then.
    Open(Instant),
}

/// A connection that is in use. It is lost when this is dropped, unless its answer was read to the end.
#[derive(Debug)]
pub struct Loan {
    spare: Arc<Spare>,
    is_settled: bool,
}

impl Spare {
    /// For the server at this base URL. What is not encrypted is opened fast enough.
    pub fn new(client: Client, base: &Url, key: Option<HeaderValue>) -> Arc<Self> {
        Arc::new(Self {
            client,
            url: format!("{}/models", base.as_str().trim_end_matches('/')),
            key,
            is_wanted: base.scheme() == "https",
            state: Mutex::new(State::Missing),
        })
    }

    /// Opens a connection in the background, unless there is one. Outside of tokio this does nothing.
    pub fn open(self: &Arc<Self>) {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_wanted || !self.begin(Instant::now()) {
            return;
        }
        let spare = Arc::clone(self);
        tokio.spawn(async move {
            let mut request = spare.client.head(&spare.url).timeout(PATIENCE);
            if let Some(key) = &spare.key {
                request = request.header(AUTHORIZATION, key.clone());
            }
            // Whatever the server says to that, there is a connection; what is wrong with it the next request will tell.
            let state = if request.send().await.is_ok() {
                State::Open(Instant::now() + KEPT)
            } else {
                State::Missing
            };
            spare.set(state);
        });
    }

    /// Whether one is to be opened now, which is noted.
    fn begin(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Opening => false,
            State::Open(until) if now < until => false,
            _ => {
                *state = State::Opening;
                true
            }
        }
    }

    /// Notes that a request takes a connection.
    pub fn lend(self: &Arc<Self>) -> Loan {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Opening {
            *state = State::Missing;
        }
        Loan { spare: Arc::clone(self), is_settled: false }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Loan {
    /// The answer was read to the end, so the connection can be used again.
    pub fn give_back(mut self) {
        self.is_settled = true;
        self.spare.set(State::Open(Instant::now() + KEPT));
    }

    /// Something is wrong with the server, so no other connection is opened before the next request.
    pub fn forget(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.is_settled {
            self.spare.open();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_opened_where_none_is_there() {
        let url = Url::parse("https://gpu.example/v1/").unwrap();
        let spare = Spare::new(Client::new(), &url, None);
        assert_eq!(spare.url, "https://gpu.example/v1/models");
        let now = Instant::now();
        assert!(spare.begin(now));
        assert!(!spare.begin(now), "one is being opened");
        spare.set(State::Open(now + KEPT));
        assert!(!spare.begin(now) && spare.begin(now + KEPT), "it may have been closed by then");
        spare.set(State::Open(now + KEPT));
        spare.lend().forget();
        assert!(spare.begin(now), "it was taken");
        spare.lend().give_back();
        assert!(!spare.begin(now), "it came back");
        // Nothing happens outside of tokio.
        drop(spare.lend());
        assert!(spare.begin(now));
    }
}
