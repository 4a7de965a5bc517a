//! Where the socket lies, and whether that place can be trusted; and where the log is.
//!
//! The directory is `$NEMOTERM_RUNTIME_DIR`, else `nemoterm` in `$XDG_RUNTIME_DIR`, else in `/run/user/UID`,
//! else `/tmp/nemoterm-UID`: the same from a terminal, ssh, tmux, cron and su. It must belong to the user and be
//! closed to everyone else.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Longest path of a Unix socket that every system takes, in bytes (`sun_path` is 104 on macOS and 108 on Linux).
const MAX_SOCKET_PATH: usize = 103;

/// Why a runtime directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Somebody else could read or replace what is in it.
    #[error("the socket directory {path} {problem}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system does not let it be made or read.
    #[error("the socket directory {path} can't be used: {error}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl RuntimeError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        "set NEMOTERM_RUNTIME_DIR to a directory of your own with mode 0700".to_owned()
    }
}

/// The directory of the socket and the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    dir: PathBuf,
}

impl Runtime {
    /// Finds the directory for this user, and checks it where it exists. It is not made.
    ///
    /// # Errors
    /// [`RuntimeError`], also where the path is too long for a socket.
    pub fn locate() -> Result<Self, RuntimeError> {
        let uid = rustix::process::geteuid().as_raw();
        let runtime = Self { dir: choose(|name| env::var_os(name).map(PathBuf::from), uid, owner) };
        let length = runtime.socket().as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(
                runtime.refuse(format!("makes a socket path of {length} bytes, over {MAX_SOCKET_PATH}"))
            );
        }
        // An inherited XDG_RUNTIME_DIR of somebody else is no place for our directory.
        if let Some(parent) = runtime.dir.parent().filter(|_| runtime.dir.ends_with("nemoterm"))
            && let Some(other) = owner(parent).filter(|&owner| owner != uid && owner != 0)
        {
            return Err(runtime.refuse(format!("lies in a directory of user {other}, not of user {uid}")));
        }
        match runtime.check() {
            Err(RuntimeError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(runtime),
            other => other.map(|()| runtime),
        }
    }

    /// Uses a given directory, unchecked.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes the directory with mode 0700 where it is missing, and checks it.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn create(&self) -> Result<(), RuntimeError> {
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.dir);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(RuntimeError::Io { path: self.dir.clone(), error })
            }
            _ => self.check(),
        }
    }

    /// Checks that the directory is a real one, belongs to this user and is closed to others.
    ///
    /// # Errors
    /// [`RuntimeError`]; where it does not exist, [`RuntimeError::Io`] with `NotFound`.
    pub fn check(&self) -> Result<(), RuntimeError> {
        let found = fs::symlink_metadata(&self.dir)
            .map_err(|error| RuntimeError::Io { path: self.dir.clone(), error })?;
        let uid = rustix::process::geteuid().as_raw();
        if found.file_type().is_symlink() {
            return Err(self.refuse("is a symbolic link".to_owned()));
        }
        if !found.is_dir() {
            return Err(self.refuse("is not a directory".to_owned()));
        }
        if found.uid() != uid {
            return Err(self.refuse(format!("belongs to user {}, not to user {uid}", found.uid())));
        }
        if found.mode() & 0o077 != 0 {
            return Err(self.refuse(format!("is open to other users (mode {:04o})", found.mode() & 0o7777)));
        }
        Ok(())
    }

    fn refuse(&self, problem: String) -> RuntimeError {
        RuntimeError::Unsafe { path: self.dir.clone(), problem }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket the daemon listens on.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("daemon.sock")
    }

    /// The file whose lock a daemon holds as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("daemon.lock")
    }

    /// Whether some daemon holds the lock, be it reachable or not.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = fs::File::open(self.lock()) else { return false };
        matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
    }

    /// The file whose presence turns suggestions off everywhere.
    pub fn off_switch(&self) -> PathBuf {
        self.dir.join("off")
    }
}

/// Where the daemon writes its log: `nemoterm/daemon.log` in the user's state directory. `None` without a home.
pub fn log_file() -> Option<PathBuf> {
    let dirs = directories::BaseDirs::new()?;
    Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).join("nemoterm").join("daemon.log"))
}

/// Where what can be made again is kept: `nemoterm` in the user's cache directory. `None` without a home.
pub fn cache_dir() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.cache_dir().join("nemoterm"))
}

/// Picks the directory from the environment.
fn choose(var: impl Fn(&str) -> Option<PathBuf>, uid: u32, owner: impl Fn(&Path) -> Option<u32>) -> PathBuf {
    let set = |name| var(name).filter(|path| path.is_absolute());
    if let Some(dir) = set("NEMOTERM_RUNTIME_DIR") {
        return dir;
    }
    let own = PathBuf::from(format!("/run/user/{uid}"));
    // `su` keeps the variable of the session it was called from, which names the other user's directory.
    let inherited = |path: &Path| path.starts_with("/run/user") && path != own;
    if let Some(dir) = set("XDG_RUNTIME_DIR").filter(|path| !inherited(path)) {
        return dir.join("nemoterm");
    }
    if owner(&own) == Some(uid) {
        return own.join("nemoterm");
    }
    PathBuf::from(format!("/tmp/nemoterm-{uid}"))
}

fn owner(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn chosen(vars: &[(&str, &str)], run_user: bool) -> String {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        choose(var, 1000, |_| run_user.then_some(1000)).display().to_string()
    }

    #[test]
    fn the_same_place_from_everywhere() {
        assert_eq!(chosen(&[("XDG_RUNTIME_DIR", "/run/user/1000")], true), "/run/user/1000/nemoterm");
        assert_eq!(chosen(&[], true), "/run/user/1000/nemoterm", "cron, ssh without a session");
        assert_eq!(chosen(&[("XDG_RUNTIME_DIR", "/run/user/7")], true), "/run/user/1000/nemoterm", "su");
        assert_eq!(chosen(&[], false), "/tmp/nemoterm-1000");
        assert_eq!(chosen(&[("XDG_RUNTIME_DIR", "/my/run")], true), "/my/run/nemoterm");
        assert_eq!(chosen(&[("NEMOTERM_RUNTIME_DIR", "/x")], true), "/x");
        assert_eq!(chosen(&[("NEMOTERM_RUNTIME_DIR", "relative")], false), "/tmp/nemoterm-1000");
    }

    #[test]
    fn hostile_layouts_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let problem = |path: &Path| Runtime::at(path).create().unwrap_err().to_string();

        let open = temp.path().join("open");
        fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o755, 0o701, 0o710, 0o1777] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            assert!(problem(&open).contains("open to other users"), "mode {mode:o}");
        }
        let real = temp.path().join("real");
        Runtime::at(&real).create().unwrap();
        let link = temp.path().join("link");
        symlink(&real, &link).unwrap();
        assert!(problem(&link).contains("symbolic link"));
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(problem(&file).contains("not a directory"));
        if rustix::process::geteuid().is_root() {
            let foreign = temp.path().join("foreign");
            fs::create_dir(&foreign).unwrap();
            std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
            assert!(problem(&foreign).contains("belongs to user 65534"));
        } else {
            eprintln!("skipped: giving a directory to another user needs root");
        }
    }
}
