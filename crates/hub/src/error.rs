//! What can go wrong with a pull, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

use hf_hub::HFError;
use thiserror::Error;

use crate::select::SelectError;

/// Why a model could not be fetched or found. What had been fetched before stays as it was.
#[derive(Debug, Error)]
pub enum Error {
    /// Not in the cache, and the network may not be used.
    #[error("{model} is not in {}", .cache.display())]
    NotCached {
        /// The model.
        model: String,
        /// The cache.
        cache: PathBuf,
    },
    /// No such repository, or one that is hidden from strangers.
    #[error("the Hub knows no {0}")]
    NoRepository(String),
    /// No such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    NoRevision {
        /// The repository.
        repository: String,
        /// What was asked for.
        revision: String,
    },
    /// The licence has to be accepted first.
    #[error("{repository} is open only to those who accept its conditions")]
    Gated {
        /// The repository.
        repository: String,
        /// Where to do so.
        page: String,
    },
    /// The token is not known, or there is none.
    #[error("the Hub wants to know who asks for {0}")]
    Unauthorised(String),
    /// Known, but not allowed.
    #[error("the Hub does not let us have {0}")]
    Forbidden(String),
    /// Too many requests.
    #[error("the Hub asks us to come back later")]
    RateLimited {
        /// When, if it said so.
        after: Option<Duration>,
    },
    /// The server failed.
    #[error("the Hub failed with status {status} at {url}")]
    Server {
        /// HTTP status.
        status: u16,
        /// What was asked for.
        url: String,
    },
    /// It can't be reached, or the connection broke.
    #[error("{endpoint} can't be reached: {what}")]
    Network {
        /// The Hub's address.
        endpoint: String,
        /// What happened.
        what: String,
    },
    /// An answer that makes no sense.
    #[error("the Hub's answer makes no sense: {0}")]
    Malformed(String),
    /// What came is not what the Hub says it is.
    #[error("{file} did not arrive as it was sent: its {algorithm} is {found}, not {expected}")]
    Hash {
        /// The file.
        file: String,
        /// Which hash.
        algorithm: &'static str,
        /// What came.
        found: String,
        /// What the Hub says.
        expected: String,
    },
    /// It would not fit.
    #[error("{needed} bytes are to be fetched, and {} has {free} free", .path.display())]
    DiskFull {
        /// Bytes missing.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// The cache.
        path: PathBuf,
    },
    /// The repository holds no model, or several.
    #[error("{repository} can't be used: {source}")]
    Select {
        /// The repository.
        repository: String,
        /// Why.
        source: SelectError,
    },
    /// The cache can't be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const MAKE_ROOM: &str = "make room, or set HF_HOME to a directory on a larger disk";

/// Whether a disk, a quota or a limit takes no more.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

impl Error {
    /// What to do about it, in a few words.
    pub fn hint(&self) -> String {
        match self {
            Self::NotCached { model, .. } => format!("nemoterm model pull {model} fetches it"),
            Self::NoRepository(_) => {
                "check the name; if it is private, set HF_TOKEN to a token that may read it".to_owned()
            }
            Self::NoRevision { .. } => "leave the revision out to get the newest".to_owned(),
            Self::Gated { page, .. } => {
                format!("accept them at {page}, then set HF_TOKEN to a token of that account")
            }
            Self::Unauthorised(_) | Self::Forbidden(_) => {
                "set HF_TOKEN to a token that may read it, or write the token to the Hub's token file"
                    .to_owned()
            }
            Self::RateLimited { after: Some(after) } => format!("try again in {} s", after.as_secs()),
            Self::RateLimited { after: None } | Self::Server { .. } => {
                "try again in a few minutes; what has arrived is kept".to_owned()
            }
            Self::Network { .. } => {
                "check the network and HF_ENDPOINT, and run it again; what has arrived is kept".to_owned()
            }
            Self::Malformed(_) => "check that HF_ENDPOINT names a Hub".to_owned(),
            Self::Hash { .. } => "run it again; the damaged file was thrown away".to_owned(),
            Self::DiskFull { .. } => MAKE_ROOM.to_owned(),
            Self::Io { source, .. } if is_full(source) => format!("{MAKE_ROOM}; what has arrived is kept"),
            Self::Select {
                source: SelectError::NoSuchFile { .. } | SelectError::Ambiguous { .. }, ..
            } => "name one, as in OWNER/NAME:Q4_K_M".to_owned(),
            Self::Select { .. } => "nemoterm model list names models that work".to_owned(),
            Self::Io { .. } => "mend its permissions, or set HF_HOME to another directory".to_owned(),
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } | Self::RateLimited { .. } => true,
            Self::Server { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }

    /// How long the server wants us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { after } => *after,
            _ => None,
        }
    }

    /// Says in our words what the library says about `repository` at `endpoint`.
    pub(crate) fn from_hub(error: HFError, repository: &str, revision: &str, endpoint: &str) -> Self {
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                refused(context.status.as_u16(), context.error_code.as_deref(), repository, endpoint)
            }
            HFError::RepoNotFound { .. } => Self::NoRepository(repository.to_owned()),
            HFError::RevisionNotFound { context: Some(context), .. }
                if context.error_code.as_deref() == Some("RepoNotFound") =>
            {
                Self::NoRepository(repository.to_owned())
            }
            HFError::RevisionNotFound { .. } => {
                Self::NoRevision { repository: repository.to_owned(), revision: revision.to_owned() }
            }
            HFError::RateLimited { retry_after, .. } => Self::RateLimited { after: retry_after },
            HFError::Http { context } => {
                Self::Server { status: context.status.as_u16(), url: context.url.clone() }
            }
            HFError::Request { source, .. } if source.is_decode() => Self::Malformed(innermost(&source)),
            HFError::Request { source, .. } => Self::network(&source, endpoint),
            HFError::Io(source) => Self::Io { path: hf_hub::resolve_cache_dir(), source },
            other => Self::Malformed(other.to_string()),
        }
    }

    /// A failure below HTTP.
    pub(crate) fn network(source: &reqwest::Error, endpoint: &str) -> Self {
        Self::Network { endpoint: endpoint.to_owned(), what: innermost(source) }
    }
}

/// The cause that a person understands.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Statuses 401 and 403; the Hub's `X-Error-Code` tells why.
pub(crate) fn refused(status: u16, code: Option<&str>, repository: &str, endpoint: &str) -> Error {
    match (status, code) {
        (_, Some("GatedRepo")) => {
            Error::Gated { repository: repository.to_owned(), page: format!("{endpoint}/{repository}") }
        }
        // Strangers are not told whether a repository is private or absent.
        (401, Some("RepoNotFound")) => Error::NoRepository(repository.to_owned()),
        (401, _) => Error::Unauthorised(repository.to_owned()),
        _ => Error::Forbidden(repository.to_owned()),
    }
}
