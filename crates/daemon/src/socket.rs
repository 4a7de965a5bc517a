//! The socket the daemon listens on: one it binds itself, or one that a service manager has bound and passed.
//!
//! A socket of our own is removed when we end, and bound again where somebody has removed it. One that was passed is the
//! service manager's: it goes on listening when we end, and starts us again.

use std::{
    env, fs, io,
    os::{
        fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::{fs::MetadataExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use interprocess::{
    local_socket::{GenericFilePath, ListenerOptions, ToFsName, tokio::Listener},
    os::unix::local_socket::ListenerOptionsExt as _,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::failure::Failure;

/// Where the first passed descriptor is, by sd_listen_fds(3).
const FIRST_PASSED: RawFd = 3;

/// Connections that wait to be accepted, at most; the system may have a lower limit.
const BACKLOG: i32 = 4096;

/// Where the socket lies, and whose it is.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode of what we have bound; nothing where it was passed.
    bound: Option<(u64, u64)>,
}

impl Socket {
    /// Binds the path, closed to others; nothing where another program listens there. What else lies there is stale,
    /// provided that the lock is held.
    ///
    /// # Errors
    /// Where the system does not let it be bound. There must be a tokio runtime around.
    pub fn bind(path: &Path) -> anyhow::Result<Option<(Self, Listener)>> {
        if is_listening(path) {
            return Ok(None);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} can't be removed", path.display()));
            }
            _ => {}
        }
        let listener = ListenerOptions::new()
            .name(path.to_fs_name::<GenericFilePath>()?)
            .reclaim_name(false)
            .mode(0o600)
            .create_tokio()
            .with_context(|| format!("{} can't be bound", path.display()))?;
        Ok(Some((Self { path: path.to_owned(), bound: identity(path) }, listener)))
    }

    /// Takes the socket that was passed. There must be a tokio runtime around.
    ///
    /// # Errors
    /// Where it lies elsewhere than clients look.
    pub fn adopt(path: &Path, passed: UnixListener) -> anyhow::Result<(Self, Listener)> {
        let address = passed.local_addr()?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if address.as_pathname().map(real) != Some(real(path)) {
            let message =
                format!("the socket that was passed is {address:?}, and clients look for {}", path.display());
            return Err(Failure::new(message, "nemoterm daemon install writes units that fit").into());
        }
        let listener =
            interprocess::os::unix::uds_local_socket::tokio::Listener::try_from(OwnedFd::from(passed))?;
        Ok((Self { path: path.to_owned(), bound: None }, listener.into()))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it came from a service manager.
    pub fn was_passed(&self) -> bool {
        self.bound.is_none()
    }

    /// Whether somebody has removed it.
    pub fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Removes it, where it is still the one we have bound.
    pub fn remove(&self) {
        if self.bound.is_some() && identity(&self.path) == self.bound {
            // Where it fails, the next daemon removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The listening socket that a service manager has passed to this process; nothing where there is none. To be called
/// once, before anything is opened.
///
/// # Errors
/// Where something else was passed.
pub fn passed() -> anyhow::Result<Option<UnixListener>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // The variables of another process may have been inherited.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let wrong = |what: String| Failure::new(what, "pass one Unix socket that listens, or unset LISTEN_PID");
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => return Err(wrong(format!("{count} sockets were passed by LISTEN_FDS")).into()),
    }
    // SAFETY: it is only asked whether the descriptor is open, before anything in this process could close it.
    #[expect(unsafe_code, reason = "descriptors are passed by number")]
    let descriptor = unsafe { BorrowedFd::borrow_raw(FIRST_PASSED) };
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| wrong(format!("LISTEN_FDS promises a socket that is not there: {error}")))?;
    // SAFETY: it is open, and LISTEN_PID says that it was opened for this process, in which nobody else has taken it.
    #[expect(unsafe_code, reason = "descriptors are passed by number")]
    let descriptor = unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) };
    // On a socket that listens already this changes nothing but the length of its queue.
    rustix::net::listen(&descriptor, BACKLOG)
        .map_err(|error| wrong(format!("what was passed by LISTEN_FDS does not listen: {error}")))?;
    let listener = UnixListener::from(descriptor);
    if listener.local_addr().is_err() {
        return Err(wrong("what was passed by LISTEN_FDS is no Unix socket".to_owned()).into());
    }
    Ok(Some(listener))
}

/// Whether a program listens there. It is not waited for.
fn is_listening(path: &Path) -> bool {
    let connected = || -> rustix::io::Result<()> {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    // A full queue is somebody's, too.
    matches!(connected(), Ok(()) | Err(rustix::io::Errno::AGAIN))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_bound_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "stale").unwrap();
        let (socket, listener) = Socket::bind(&path).unwrap().unwrap();
        assert!(!socket.is_gone() && !socket.was_passed() && is_listening(&path));
        assert!(Socket::bind(&path).unwrap().is_none(), "somebody listens");
        // Somebody else's in its place stays.
        fs::rename(&path, dir.path().join("old")).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        socket.remove();
        assert!(path.exists());
        drop((other, listener));
        assert!(!is_listening(&path));
        let (socket, _listener) = Socket::bind(&path).unwrap().unwrap();
        socket.remove();
        assert!(socket.is_gone());
    }

    #[tokio::test]
    async fn a_passed_one_stays_and_has_to_be_the_one_clients_look_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let passed = UnixListener::bind(&path).unwrap();
        assert!(Socket::adopt(&dir.path().join("t"), passed.try_clone().unwrap()).is_err());
        let (socket, listener) = Socket::adopt(&path, passed).unwrap();
        drop(listener);
        socket.remove();
        assert!(socket.was_passed() && path.exists());
        assert!(super::passed().unwrap().is_none());
    }
}
