//! The server that is set now, if any.

use std::sync::{Arc, Mutex, PoisonError};

use nemoterm_protocol::{RemoteState, RemoteStatus};

use super::{Remote, Settings};
use crate::{config::Config, failure::Failure};

/// Follows the configuration.
#[derive(Debug, Default)]
pub struct Link {
    current: Mutex<Option<Current>>,
}

#[derive(Debug, Clone)]
enum Current {
    Usable(Arc<Remote>),
    /// It can't be asked before the configuration changes.
    Unusable {
        url: String,
        model: String,
        failure: Failure,
    },
}

impl Link {
    /// Takes the configuration as it is now. A server that stays what it was keeps what is known of it; any other is new.
    /// Somebody may ask soon, so a connection is opened where that takes long.
    pub fn follow(&self, config: &Config) {
        self.take(config);
        if let Some(Ok(remote)) = self.remote() {
            remote.expect();
        }
    }

    fn take(&self, config: &Config) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(settings) = Settings::new(config) else {
            *current = None;
            return;
        };
        if let (Some(Current::Usable(remote)), Ok(settings)) = (&*current, &settings)
            && remote.settings == *settings
        {
            return;
        }
        *current = Some(match settings.and_then(Remote::new) {
            Ok(remote) => Current::Usable(Arc::new(remote)),
            Err(failure) => {
                let unchanged =
                    matches!(&*current, Some(Current::Unusable { failure: known, .. }) if *known == failure);
                if !unchanged {
                    tracing::error!(hint = failure.hint, "no remote server: {failure}");
                }
                let [url, model] =
                    [&config.remote.url, &config.remote.model].map(|text| text.clone().unwrap_or_default());
                Current::Unusable { url, model, failure }
            }
        });
    }

    /// The server, where one is set.
    ///
    /// # Errors
    /// Where one is set and can't be asked.
    pub fn remote(&self) -> Option<Result<Arc<Remote>, Failure>> {
        Some(match self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()? {
            Current::Usable(remote) => Ok(remote),
            Current::Unusable { failure, .. } => Err(failure),
        })
    }

    /// How it is, where one is set.
    pub fn status(&self) -> Option<RemoteStatus> {
        Some(match self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()? {
            Current::Usable(remote) => remote.status(),
            Current::Unusable { url, model, failure } => RemoteStatus {
                url,
                model,
                state: RemoteState::Paused { error: failure.message, hint: failure.hint, again_s: None },
                answered: 0,
                failed: 0,
            },
        })
    }
}
