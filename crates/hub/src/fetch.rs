//! One file, from the Hub into a blob: resumed, checked, and only then given its name.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use futures_util::StreamExt as _;
use hf_hub::{HFRepository, repository::RepoTypeModel};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio_retry::strategy::{ExponentialBackoff, jitter};

use crate::error::Error;

/// Tries without a byte between them.
const TRIES: usize = 5;
/// A connection that is silent for so long is given up.
const STALLED: Duration = Duration::from_secs(30);
/// Longest wait that a server may impose on us.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a `HEAD` request tells of a file.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) file: String,
    pub(crate) commit: String,
    /// SHA-256 of large files, git's own hash of small ones.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// The hash that an etag is.
enum Hasher {
    Sha256(Sha256),
    /// SHA-1 of `blob SIZE\0` and the contents, as in git.
    Git(Sha1),
    /// The server names contents in a way of its own.
    Unknown,
}

impl Hasher {
    fn of(remote: &Remote) -> Self {
        let is_hex = remote.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match remote.etag.len() {
            64 if is_hex => Self::Sha256(Sha256::new()),
            40 if is_hex => Self::Git(Sha1::new_with_prefix(format!("blob {}\0", remote.size))),
            _ => Self::Unknown,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    /// The algorithm's name and the hash; `None` where there is nothing to compare.
    fn finish(self) -> Option<(&'static str, String)> {
        match self {
            Self::Sha256(hash) => Some(("SHA-256", hex::encode(hash.finalize()))),
            Self::Git(hash) => Some(("git hash", hex::encode(hash.finalize()))),
            Self::Unknown => None,
        }
    }
}

/// Fetches `remote` into `blob`. `advanced` hears of bytes as they arrive; of those that were there already, first.
/// A cut connection is taken up where it ended; what has arrived survives a failure in `ETAG.incomplete`.
pub(crate) async fn fetch(
    repository: &HFRepository<RepoTypeModel>,
    remote: &Remote,
    blob: &Path,
    advanced: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    let part = incomplete(blob);
    let io = |source| Error::Io { path: part.clone(), source };
    fs::create_dir_all(blob.parent().unwrap_or(blob)).map_err(io)?;
    let mut hasher = Hasher::of(remote);
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&part).map_err(io)?;
    let mut have = hash_all(&mut file, &mut hasher).map_err(io)?;
    if have > remote.size {
        (have, hasher) = (0, Hasher::of(remote));
        start_over(&mut file).map_err(io)?;
    }
    advanced(have);
    let mut delays = delays();
    while have < remote.size {
        let before = have;
        let done = stream(repository, remote, have, async |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)?;
            have += bytes.len() as u64;
            advanced(bytes.len() as u64);
            Ok(())
        })
        .await;
        let Err(failure) = done else { break };
        let error = match failure {
            Failure::Write(source) => return Err(io(source)),
            Failure::Read(error) => error,
        };
        if have > before {
            delays = self::delays();
        }
        let Some(delay) = delays.next().filter(|_| error.is_transient()) else { return Err(error) };
        tokio::time::sleep(error.retry_after().unwrap_or(delay).min(LONGEST_WAIT)).await;
    }
    file.sync_all().map_err(io)?;
    if let Some((algorithm, found)) = hasher.finish()
        && !found.eq_ignore_ascii_case(&remote.etag)
    {
        fs::remove_file(&part).map_err(io)?;
        return Err(Error::Hash {
            file: remote.file.clone(),
            algorithm,
            found,
            expected: remote.etag.clone(),
        });
    }
    fs::rename(&part, blob).map_err(io)
}

/// Where a file is kept until it is whole.
pub(crate) fn incomplete(blob: &Path) -> std::path::PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

enum Failure {
    Read(Error),
    Write(io::Error),
}

/// Hands the bytes from `start` on to `take`, until the end of the file.
async fn stream(
    repository: &HFRepository<RepoTypeModel>,
    remote: &Remote,
    start: u64,
    mut take: impl AsyncFnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let endpoint = repository.client().endpoint().to_owned();
    let from_hub =
        |error| Failure::Read(Error::from_hub(error, &repository.repo_path(), &remote.commit, &endpoint));
    let broken =
        |what: &str| Failure::Read(Error::Network { endpoint: endpoint.clone(), what: what.to_owned() });
    let request = repository
        .download_file_stream()
        .filename(remote.file.as_str())
        .revision(remote.commit.as_str())
        .maybe_range((start > 0).then_some(start..remote.size))
        .send();
    let (length, mut bytes) = tokio::time::timeout(STALLED, request)
        .await
        .map_err(|_| broken("it does not answer"))?
        .map_err(from_hub)?;
    // A server that does not know ranges sends all of it again.
    let mut skip = if start > 0 && length == Some(remote.size) { start } else { 0 };
    let mut left = remote.size - start;
    while left > 0 {
        let Some(chunk) = tokio::time::timeout(STALLED, bytes.next())
            .await
            .map_err(|_| broken("nothing comes any more"))?
        else {
            return Err(broken("the connection ended too early"));
        };
        // A body that breaks off is a broken connection, whatever the library makes of it.
        let chunk = chunk.map_err(|error| match error {
            hf_hub::HFError::Request { source, .. } => Failure::Read(Error::network(&source, &endpoint)),
            other => from_hub(other),
        })?;
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        let chunk = &chunk[skipped as usize..];
        let chunk = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        take(chunk).await.map_err(Failure::Write)?;
        left -= chunk.len() as u64;
    }
    Ok(())
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBackoff::from_millis(2)
        .factor(150)
        .max_delay(Duration::from_secs(10))
        .map(jitter)
        .take(TRIES - 1)
}

fn hash_all(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            read => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

fn start_over(file: &mut File) -> io::Result<()> {
    use std::io::Seek as _;
    file.set_len(0)?;
    file.rewind()
}
