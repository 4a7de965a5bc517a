//! Replies to a shell that can't wait for a pipe and a key at once: the newest lies in a file, a signal tells of it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
    termios::tcgetwinsize,
};

use super::shown::Shown;

/// How long a signal is held back. fish handles it between two commands too, and what is drawn must come after what
/// it draws itself for the key that led to the request.
const DELAY: Duration = Duration::from_millis(2);

/// How long the shell is left alone after a signal: another one that comes while it draws ends its write to the terminal,
/// which fish does not begin again.
const REST: Duration = Duration::from_millis(10);

/// When a last signal follows. A Ctrl-C that comes while a handler draws, or just before fish waits for keys, is seen by fish only
/// when something ends its waiting.
const LAST: Duration = Duration::from_millis(40);

/// How long the shell is left alone after its terminal has got another size: fish makes the prompt anew then, and a signal can end what
/// that writes.
const RESIZED: Duration = Duration::from_millis(100);

/// The file and who is told. Whoever made it removes the file: the last owner is a thread that never ends.
#[derive(Debug)]
pub struct Mailbox {
    path: PathBuf,
    signals: Sender<()>,
    /// Whether signals are sent.
    awake: Arc<Mutex<bool>>,
    shown: Shown,
}

impl Mailbox {
    /// Leaves replies to that shell in that file, which lies in a directory closed to others.
    pub fn new(path: PathBuf, shell: Pid) -> Self {
        let (signals, wanted) = mpsc::channel();
        let awake = Arc::new(Mutex::new(false));
        let may_signal = Arc::clone(&awake);
        thread::spawn(move || {
            let mut owes_last = false;
            let mut size = size_of_terminal(shell);
            loop {
                let next = if owes_last {
                    wanted.recv_timeout(LAST)
                } else {
                    wanted.recv().map_err(|_| RecvTimeoutError::Disconnected)
                };
                match next {
                    Ok(()) => {
                        thread::sleep(DELAY);
                        // One signal tells of everything that came meanwhile.
                        while wanted.try_recv().is_ok() {}
                        owes_last = true;
                    }
                    Err(RecvTimeoutError::Timeout) => owes_last = false,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                loop {
                    let before = std::mem::replace(&mut size, size_of_terminal(shell));
                    if size == before {
                        break;
                    }
                    thread::sleep(RESIZED);
                }
                // Held until the signal is sent: whoever has made us quiet gets none afterwards.
                let may_signal = may_signal.lock().unwrap_or_else(PoisonError::into_inner);
                if !*may_signal {
                    owes_last = false;
                    continue;
                }
                // Ignored by default, so a shell without a handler is safe. One that is gone is noticed elsewhere.
                let _ = kill_process(shell, Signal::URG);
                drop(may_signal);
                thread::sleep(REST);
            }
        });
        Self { path, signals, awake, shown: Shown::default() }
    }

    /// The mailbox that belongs to a pipe.
    pub fn beside(pipe: &Path) -> PathBuf {
        pipe.with_extension(format!(
            "{}.reply",
            pipe.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
        ))
    }

    /// Where it is seen whether signals are sent.
    pub fn sign(path: &Path) -> PathBuf {
        path.with_extension("signals")
    }

    /// Sends signals again. A shell that could not see that they are sent gets none.
    pub fn wake(&self) {
        let mut awake = self.awake.lock().unwrap_or_else(PoisonError::into_inner);
        if !*awake {
            let sign = Self::sign(&self.path);
            *awake =
                fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(sign).is_ok();
        }
    }

    /// Sends no signal any more: the shell runs something that one would disturb, and waits until the sign is gone.
    pub fn quiet(&self) {
        *self.awake.lock().unwrap_or_else(PoisonError::into_inner) = false;
        // It may not have been there.
        let _ = fs::remove_file(Self::sign(&self.path));
    }

    /// The line that suggestions are for, and what becomes of them.
    pub fn shown(&mut self) -> &mut Shown {
        &mut self.shown
    }

    /// Leaves what is to be shown now, and tells the shell, also where that is nothing: it counts what is not answered.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn show(&self) -> io::Result<()> {
        match self.shown.record() {
            Some(record) => self.leave(&record),
            // What lies there names another line. It stays, as the shell may be about to open it.
            None => {
                self.signal();
                Ok(())
            }
        }
    }

    /// Replaces what lies there, all at once, and tells the shell.
    fn leave(&self, record: &str) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(record.as_bytes())?;
        fs::rename(&new, &self.path)?;
        self.signal();
        Ok(())
    }

    /// Tells the shell.
    pub fn signal(&self) {
        // The thread lives as long as the sender.
        let _ = self.signals.send(());
    }
}

/// Rows and columns of a shell's terminal; nothing where that can't be told, as on macOS. The terminal is opened each time, as one that
/// somebody holds does not end with its shell.
fn size_of_terminal(shell: Pid) -> Option<(u16, u16)> {
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits();
    let input = format!("/proc/{}/fd/0", shell.as_raw_nonzero());
    let terminal = fs::File::options().read(true).custom_flags(flags as i32).open(input).ok()?;
    let size = tcgetwinsize(&terminal).ok()?;
    Some((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_newest_reply_lies_there_for_the_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = Mailbox::beside(&dir.path().join("attach.7"));
        assert!(path.ends_with("attach.7.reply"));
        // SIGURG is ignored by this process too.
        let mut mailbox = Mailbox::new(path.clone(), rustix::process::getpid());
        mailbox.wake();
        mailbox.show().unwrap();
        assert!(!path.exists(), "there is nothing to show");
        let sequence = mailbox.shown().typed(1, "l").unwrap();
        for text in ["s", "n"] {
            assert!(mailbox.shown().take(sequence, false, &[text.to_owned()]));
            mailbox.show().unwrap();
        }
        let record = fs::read_to_string(&path).unwrap();
        assert!(record.starts_with("1\x1fl\x1fadd\x1fn\x1f") && record.ends_with('\0'), "{record:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(dir.path().join("attach.7.signals").exists());
        mailbox.quiet();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
    }
}
