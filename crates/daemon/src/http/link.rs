//! The HTTP server that is wanted now, if any.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinHandle;

use super::Settings;
use crate::{config::Config, failure::Failure, serve::Daemon};

/// Follows the configuration.
pub struct Link {
    /// The address in place of the configured one, where who started the daemon gave one.
    given: Option<String>,
    /// What runs, for those who ask.
    state: Mutex<Option<Result<SocketAddr, Failure>>>,
    server: tokio::sync::Mutex<Option<Running>>,
}

struct Running {
    settings: Settings,
    task: JoinHandle<()>,
}

impl Link {
    /// Serves nothing before it has followed a configuration.
    pub fn new(given: Option<String>) -> Self {
        Self { given, state: Mutex::default(), server: tokio::sync::Mutex::default() }
    }

    /// Takes the configuration as it is now. A server that stays what it was goes on; any other begins anew, and the
    /// connections of the old one end.
    pub async fn follow(&self, config: &Config, daemon: &Arc<Daemon>) {
        let mut server = self.server.lock().await;
        let address = self.given.as_ref().or(config.http.as_ref());
        let wanted = address.map(|address| Settings::new(address, config));
        if let (Some(running), Some(Ok(settings))) = (&*server, &wanted)
            && running.settings == *settings
        {
            return;
        }
        if let Some(old) = server.take() {
            old.task.abort();
            // The address is free once the task is gone.
            let _ = old.task.await;
            tracing::info!("HTTP is not served any more");
        }
        let Some(wanted) = wanted else {
            self.tell(None);
            return;
        };
        let bound = wanted.and_then(|settings| Ok((settings.clone(), settings.bind()?)));
        let (settings, bound) = match bound {
            Ok(bound) => bound,
            Err(failure) => {
                if self.state() != Some(Err(failure.clone())) {
                    tracing::error!(hint = failure.hint, "no HTTP server: {failure}");
                }
                self.tell(Some(Err(failure)));
                return;
            }
        };
        tracing::info!(address = %bound.address(), "listening for HTTP");
        self.tell(Some(Ok(bound.address())));
        let daemon = Arc::clone(daemon);
        let task = tokio::spawn(async move {
            if !daemon.keeper.writes_texts() {
                // On an accelerator caches for programs take memory, so they are only made where they are wanted.
                daemon.keeper.load_again(true).await;
            }
            bound.serve(daemon).await;
        });
        *server = Some(Running { settings, task });
    }

    /// Where it listens, or why it does not; nothing where none is wanted.
    pub fn state(&self) -> Option<Result<SocketAddr, Failure>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether programs may come.
    pub fn is_on(&self) -> bool {
        matches!(self.state(), Some(Ok(_)))
    }

    fn tell(&self, state: Option<Result<SocketAddr, Failure>>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
