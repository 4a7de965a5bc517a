//! Where a server is, and what it has to be told and to show.

use std::time::Duration;

use reqwest::{Certificate, Url, header::HeaderValue};

use crate::{
    config::{BackendName, Config},
    failure::Failure,
};

/// How long an answer may take, where nothing is set.
const WAIT: Duration = Duration::from_secs(5);

/// The URL of a server; nothing where the text is none that can be used.
pub fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim_end_matches('/')).ok()?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain).then_some(url)
}

/// Where a server is, and what it has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) url: Url,
    pub(super) model: String,
    /// The header with the key, which no debug output shows.
    pub(super) key: Option<HeaderValue>,
    /// Certificates that vouch for it in place of the system's, in PEM.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) wait: Duration,
}

impl Settings {
    /// Those of the configuration, where a server is set; the key and certificates are read from their places.
    ///
    /// # Errors
    /// Where that can't be done.
    pub fn new(config: &Config) -> Option<Result<Self, Failure>> {
        let remote = &config.remote;
        let (Some(url), Some(model)) = (remote.url.as_deref().and_then(base_url), remote.model.clone())
        else {
            return None;
        };
        if config.backend != BackendName::Openai {
            return None;
        }
        let wait = remote.wait_ms.map_or(WAIT, Duration::from_millis);
        Some(
            key(config).and_then(|key| Ok(Self { url, model, key, authorities: authorities(config)?, wait })),
        )
    }
}

fn authorities(config: &Config) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = &config.remote.ca_file else { return Ok(None) };
    let unreadable =
        |error| Failure::new(format!("{path} can't be read: {error}"), "mend remote_ca_file in config.toml");
    let pem = std::fs::read(path).map_err(unreadable)?;
    if Certificate::from_pem_bundle(&pem).is_ok_and(|found| !found.is_empty()) {
        return Ok(Some(pem));
    }
    Err(Failure::new(
        format!("{path} holds no certificate"),
        "remote_ca_file has to name a file with certificates in PEM, as in /etc/ssl/certs",
    ))
}

fn key(config: &Config) -> Result<Option<HeaderValue>, Failure> {
    let remote = &config.remote;
    let (key, place) = match (&remote.key_env, &remote.key_file) {
        (Some(name), _) => {
            let missing = |_| {
                Failure::new(
                    format!(
                        "the variable {name}, which is to hold the remote server's key, is not set where nemotermd runs"
                    ),
                    "nemoterm daemon restart, in a shell that has it; or use remote_key_file",
                )
            };
            (std::env::var(name).map_err(missing)?, name)
        }
        (None, Some(path)) => {
            let unreadable = |error| {
                Failure::new(format!("{path} can't be read: {error}"), "mend remote_key_file in config.toml")
            };
            (std::fs::read_to_string(path).map_err(unreadable)?, path)
        }
        (None, None) => return Ok(None),
    };
    let key = key.trim();
    let header = HeaderValue::from_str(&format!("Bearer {key}"));
    match header {
        Ok(mut header) if !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic()) => {
            header.set_sensitive(true);
            Ok(Some(header))
        }
        _ => Err(Failure::new(
            format!("the remote server's key in {place} is empty or holds blanks"),
            "it has to be one word of letters, digits and signs",
        )),
    }
}
