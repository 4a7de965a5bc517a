//! The terminal while a suggestion is on it: every key comes to us, and whatever happens it is given back as it was.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::{Duration, Instant},
};

use crossterm::style::{Attribute, Print, SetAttribute};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{
        InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
        tcsetattr,
    },
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::keys::Key;

/// How long the rest of a key's bytes may take.
const REST_OF_KEY: Duration = Duration::from_millis(30);

/// How long the rest of a pasted text may take.
const REST_OF_PASTE: Duration = Duration::from_secs(1);

/// How long the terminal may take to say where its cursor is.
const WHERE: Duration = Duration::from_millis(200);

/// What a special character is set to that is none.
const DISABLED: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

/// The terminal of this process.
#[derive(Debug)]
pub struct Tty {
    file: File,
    before: Termios,
    /// Readable after a signal that ends us.
    signalled: UnixStream,
    /// What was read and is no key yet.
    unread: Vec<u8>,
    drawn: bool,
}

impl Tty {
    /// Opens it and has every key sent to us. With `interrupts`, Ctrl-C stays a signal for the shell.
    ///
    /// # Errors
    /// Where there is no terminal.
    pub fn open(interrupts: bool) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&file)?;
        let (signalled, sender) = UnixStream::pair()?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let tty = Self { file, before, signalled, unread: Vec::new(), drawn: false };
        let mut raw = tty.before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        raw.local_modes.set(LocalModes::ISIG, interrupts);
        raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IXON;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // These would stop or kill us with the shell waiting.
        raw.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        raw.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
        tcsetattr(&tty.file, OptionalActions::Now, &raw)?;
        Ok(tty)
    }

    /// Columns of the screen.
    pub fn width(&self) -> usize {
        // A terminal that does not know has no columns.
        tcgetwinsize(&self.file)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|&width| width > 0)
            .unwrap_or(80)
    }

    /// The column of the cursor, from 0; nothing where the terminal does not say. Keys that come first are kept.
    pub fn column(&mut self) -> Option<usize> {
        self.draw("\x1b[6n").ok()?;
        let deadline = Instant::now() + WHERE;
        loop {
            if let Some((range, column)) = report(&self.unread) {
                self.unread.drain(range);
                return Some(column - 1);
            }
            if !self.read(Some(deadline.checked_duration_since(Instant::now())?)).ok()? {
                return None;
            }
        }
    }

    /// Writes to the screen.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn draw(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())
    }

    /// Draws a ghost after the cursor, which stays.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn draw_ghost(&mut self, ghost: &str) -> io::Result<()> {
        self.drawn = true;
        let mut text = String::new();
        let mut put = |command: &dyn Ansi| command.put(&mut text);
        put(&crossterm::cursor::SavePosition);
        put(&SetAttribute(Attribute::Dim));
        put(&Print(ghost));
        put(&SetAttribute(Attribute::NormalIntensity));
        put(&crossterm::cursor::RestorePosition);
        self.draw(&text)
    }

    /// Takes the ghost away.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn wipe_ghost(&mut self) -> io::Result<()> {
        self.drawn = false;
        self.draw("\x1b[K")
    }

    /// Waits for a key.
    ///
    /// # Errors
    /// Where the terminal is gone, or we are told to end.
    pub fn key(&mut self) -> io::Result<Key> {
        loop {
            if let Some(key) = Key::take(&mut self.unread) {
                return Ok(key);
            }
            let patience = match self.unread.as_slice() {
                [] => None,
                unread if unread.starts_with(b"\x1b[200~") => Some(REST_OF_PASTE),
                _ => Some(REST_OF_KEY),
            };
            if !self.read(patience)?
                && let Some(key) = Key::take_unfinished(&mut self.unread)
            {
                return Ok(key);
            }
        }
    }

    /// The keys that came while something else was read.
    pub fn rest(&mut self) -> Vec<Key> {
        std::iter::from_fn(|| Key::take_unfinished(&mut self.unread)).collect()
    }

    /// Reads a byte, once there is one; tells whether that was in time.
    fn read(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let timeout = patience.map(|patience| Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.file, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signalled.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if fds[0].revents().is_empty() {
            return Ok(true);
        }
        // One byte at a time, so that what follows a key stays in the terminal, for the shell.
        let mut byte = [0];
        match self.file.read(&mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {
                self.unread.push(byte[0]);
                Ok(true)
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if self.drawn {
            let _ = self.wipe_ghost();
        }
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

/// A command for the terminal, whatever its type.
trait Ansi {
    fn put(&self, text: &mut String);
}

impl<T: crossterm::Command> Ansi for T {
    fn put(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = self.write_ansi(text);
    }
}

/// Where among the bytes the terminal reports its cursor's place, and the column.
fn report(bytes: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    bytes.windows(2).enumerate().filter(|(_, window)| *window == b"\x1b[").find_map(|(start, _)| {
        let length = bytes[start..].iter().position(|&byte| byte == b'R')?;
        let text = std::str::from_utf8(&bytes[start + 2..start + length]).ok()?;
        let (row, column) = text.split_once(';')?;
        row.parse::<usize>().ok()?;
        let column: usize = column.parse().ok()?;
        (column > 0).then_some((start..start + length + 1, column))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_among_keys() {
        assert_eq!(report(b"\x1b[12;7R"), Some((0..7, 7)));
        assert_eq!(report(b"a\x1b[C\x1b[1;80Rb"), Some((4..11, 80)));
        assert_eq!(report(b"\x1b[12;7"), None);
        assert_eq!(report(b"\x1b[R\x1b[1;0R"), None);
    }
}
