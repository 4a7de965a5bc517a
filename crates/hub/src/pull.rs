//! From a name to files on this machine.

use std::{path::Path, time::Duration};

use futures_util::{StreamExt as _, pin_mut};
use hf_hub::{
    HFClient, HFRepository,
    repository::{RepoTreeEntry, RepoTypeModel},
};
use reqwest::{StatusCode, header};

use crate::{
    cache::{Cache, Place, place},
    error::{Error, refused},
    fetch::{Remote, fetch, incomplete},
    id::ModelId,
    select::select,
};

/// Room that is left on the disk.
const MARGIN: u64 = 64 << 20;
/// A server that does not answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Hosts that a renamed repository may send us through.
const REDIRECTS: usize = 5;

/// How a pull is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// What will be fetched.
    Planned {
        /// Files of the model.
        files: usize,
        /// Bytes of all of them.
        bytes: u64,
        /// The licence its publisher names, by its identifier.
        licence: Option<&'a str>,
    },
    /// Bytes of a file that are there now, in addition to those told before.
    Advanced {
        /// The file.
        file: &'a str,
        /// How many more.
        bytes: u64,
    },
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Where.
    pub place: Place,
    /// The commit its files are of.
    pub commit: String,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// The Hub, and the cache it is fetched to.
#[derive(Debug)]
pub struct Hub {
    client: HFClient,
    /// For `HEAD` requests, whose answers count before they redirect.
    head: reqwest::Client,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// Where the endpoint is no address.
    pub fn from_env() -> Result<Self, Error> {
        let malformed = |error: &dyn std::fmt::Display| Error::Malformed(error.to_string());
        let head = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| malformed(&error))?;
        let client = HFClient::builder()
            .user_agent(concat!("nemoterm/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| malformed(&error))?;
        let is_set =
            |name| std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let offline = is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE");
        Ok(Self { cache: Cache::at(client.cache_dir()), client, head, offline })
    }

    /// Where it fetches to.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Brings a model to this machine; what is there already is not fetched again. `tell` hears how it is going.
    ///
    /// # Errors
    /// See [`Error`]. The files that are there are whole and right at any time.
    pub async fn pull(&self, id: &ModelId, tell: &(dyn Fn(Event<'_>) + Sync)) -> Result<Pulled, Error> {
        let known = self.cache.repository(id);
        if self.offline {
            let place = self.cache.find(id)?;
            let commit = known.commit(&id.revision).unwrap_or_default();
            return Ok(Pulled { place, commit, bytes: 0 });
        }
        let repository = self.client.model(id.owner.as_str(), id.name.as_str());
        let translated =
            |error| Error::from_hub(error, &id.repository(), &id.revision, self.client.endpoint());
        let info = repository.info().revision(id.revision.as_str()).send();
        let info = within(info, self.client.endpoint()).await?.map_err(translated)?;
        let commit = info.sha.filter(|sha| crate::id::is_commit(sha));
        let commit = commit.ok_or_else(|| Error::Malformed("a repository without a commit".to_owned()))?;
        let card = |key| info.card_data.as_ref().and_then(|card| card.get(key)?.as_str());
        // One that is not on the Hub's list is "other", and has a name of its own.
        let licence = card("license").filter(|licence| *licence != "other").or_else(|| card("license_name"));

        let selection = select(&self.list(&repository, id, &commit).await?, id.file.as_deref())
            .map_err(|source| Error::Select { repository: id.repository(), source })?;
        let mut remotes = Vec::new();
        for file in selection.files() {
            remotes.push(self.look_at(id, &commit, file).await?);
        }
        let bytes = remotes.iter().map(|remote| remote.size).fold(0, u64::saturating_add);
        let missing = remotes
            .iter()
            .filter(|remote| !known.blob(&remote.etag).exists())
            .map(|remote| {
                let part = std::fs::metadata(incomplete(&known.blob(&remote.etag)));
                remote.size.saturating_sub(part.map_or(0, |part| part.len()))
            })
            .fold(0, u64::saturating_add);
        make_room(self.cache.root(), missing)?;
        tell(Event::Planned { files: remotes.len(), bytes, licence });
        for remote in &remotes {
            let advanced = |bytes| tell(Event::Advanced { file: &remote.file, bytes });
            let blob = known.blob(&remote.etag);
            // Another program may be at it; then it is there when the lock is ours.
            let _lock = known.lock(&remote.etag)?;
            if blob.exists() {
                advanced(remote.size);
            } else {
                fetch(&repository, remote, &blob, &advanced).await?;
            }
            known.link(&commit, &remote.file, &remote.etag)?;
        }
        known.write_ref(&id.revision, &commit)?;
        Ok(Pulled { place: place(&known.snapshot(&commit), &selection), commit, bytes })
    }

    /// Paths of all files of a commit.
    async fn list(
        &self,
        repository: &HFRepository<RepoTypeModel>,
        id: &ModelId,
        commit: &str,
    ) -> Result<Vec<String>, Error> {
        let translated = |error| Error::from_hub(error, &id.repository(), commit, self.client.endpoint());
        let entries = repository.list_tree().revision(commit).recursive(true).send().map_err(translated)?;
        pin_mut!(entries);
        let mut files = Vec::new();
        while let Some(entry) = within(entries.next(), self.client.endpoint()).await? {
            if let RepoTreeEntry::File { path, .. } = entry.map_err(translated)? {
                // It becomes a path below the cache.
                if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                    return Err(Error::Malformed(format!("a file called {path:?}")));
                }
                files.push(path);
            }
        }
        Ok(files)
    }

    /// What the Hub says of a file, before it sends us to where large files lie: the library follows that at once,
    /// and the hash is told only on the way.
    async fn look_at(&self, id: &ModelId, commit: &str, file: &str) -> Result<Remote, Error> {
        let endpoint = self.client.endpoint();
        let address = |path: &str| {
            let base = reqwest::Url::parse(endpoint).map_err(|error| Error::Malformed(error.to_string()))?;
            base.join(path).map_err(|error| Error::Malformed(error.to_string()))
        };
        let mut url = address("")?;
        // Names may hold what means something in an address.
        url.path_segments_mut()
            .map_err(|()| Error::Malformed(format!("{endpoint} is no address of a server")))?
            .pop_if_empty()
            .extend([id.owner.as_str(), id.name.as_str(), "resolve", commit])
            .extend(file.split('/'));
        for _ in 0..=REDIRECTS {
            let mut request = self.head.head(url.clone());
            if let Some(token) = token() {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.map_err(|error| Error::network(&error, endpoint))?;
            let text = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
            let status = answer.status();
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let code = text("x-error-code");
                    return Err(refused(status.as_u16(), code.as_deref(), &id.repository(), endpoint));
                }
                StatusCode::NOT_FOUND => {
                    return Err(Error::Malformed(format!("{file} is listed, and is not there")));
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    let after = text("retry-after").and_then(|seconds| seconds.parse().ok());
                    return Err(Error::RateLimited { after: after.map(Duration::from_secs) });
                }
                _ if status.is_client_error() || status.is_server_error() => {
                    return Err(Error::Server { status: status.as_u16(), url: url.into() });
                }
                _ => {}
            }
            let etag = text("x-linked-etag").or_else(|| text(header::ETAG.as_str()));
            let size = text("x-linked-size").or_else(|| text(header::CONTENT_LENGTH.as_str()));
            let location = text(header::LOCATION.as_str());
            match (location, etag, size.and_then(|size| size.parse().ok())) {
                // A repository that was renamed; the answer that counts comes from its new name.
                (Some(location), _, _) if location.starts_with('/') && !location.starts_with("//") => {
                    url = address(&location)?;
                }
                (_, Some(etag), Some(size)) => {
                    let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
                    // It becomes a name in the cache.
                    if etag.is_empty()
                        || !etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    {
                        return Err(Error::Malformed(format!("{file} has the etag {etag:?}")));
                    }
                    return Ok(Remote { file: file.to_owned(), commit: commit.to_owned(), etag, size });
                }
                _ => return Err(Error::Malformed(format!("{file} has no etag or no size"))),
            }
        }
        Err(Error::Malformed(format!("{file} is redirected again and again")))
    }
}

/// An answer that has to come within [`PATIENCE`].
async fn within<T>(answer: impl Future<Output = T>, endpoint: &str) -> Result<T, Error> {
    let late = |_| Error::Network { endpoint: endpoint.to_owned(), what: "it does not answer".to_owned() };
    tokio::time::timeout(PATIENCE, answer).await.map_err(late)
}

/// The user's token: `HF_TOKEN`, else the file that the Hub's command-line program writes.
fn token() -> Option<String> {
    let in_file = || {
        let path =
            std::env::var_os("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), Into::into);
        std::fs::read_to_string(path).ok()
    };
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()).or_else(in_file)?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn make_room(cache: &Path, needed: u64) -> Result<(), Error> {
    let io = |source: std::io::Error| Error::Io { path: cache.to_owned(), source };
    std::fs::create_dir_all(cache).map_err(io)?;
    let disk = rustix::fs::statvfs(cache).map_err(|error| io(error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed > 0 && needed.saturating_add(MARGIN) > free {
        return Err(Error::DiskFull { needed, free, path: cache.to_owned() });
    }
    Ok(())
}
