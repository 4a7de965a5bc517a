//! This shell's `nemoterm attach`: started, written to and read from without ever waiting for it.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd as _, BorrowedFd, IntoRawFd as _, OwnedFd},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use nemoterm_suggest::clean::is_displayable;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat},
    io::Errno,
};

use crate::session::{Reply, Request};

/// Between the fields of a record.
const SEPARATOR: char = '\x1f';

/// Bytes of a record we write: a socket takes as many in one piece, or none.
const MAX_REQUEST: usize = 4096;

/// Bytes of a record the client may write.
const MAX_REPLY: usize = 64 * 1024;

/// Where our descriptors lie: above those that scripts choose by number.
const FIRST_DESCRIPTOR: i32 = 64;

/// A running client. It ends when this is dropped.
#[derive(Debug)]
pub struct Client {
    requests: Descriptor,
    replies: Descriptor,
    unread: Vec<u8>,
}

/// The client has ended, or writes nonsense.
#[derive(Debug)]
pub struct Ended;

impl Client {
    /// Starts one. `environment` are the variables bash would give it.
    ///
    /// # Errors
    /// Where the program can't be started.
    pub fn start(program: &Path, histfile: &str, environment: Vec<(OsString, OsString)>) -> io::Result<Self> {
        // A socket, because writing to a pipe without a reader would raise a signal that ends the shell.
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args(["attach", "bash", "--pid", &std::process::id().to_string()]);
        if !histfile.is_empty() {
            command.arg(format!("--histfile={histfile}"));
        }
        let mut child = command
            .env_clear()
            .envs(environment)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let replies = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // bash waits for all its children, so nobody has to wait for this one.
        Ok(Self {
            requests: Descriptor::new(ours.into())?,
            replies: Descriptor::new(replies.into())?,
            unread: Vec::new(),
        })
    }

    /// What becomes readable when the client has written something, or has ended.
    ///
    /// # Errors
    /// Where it is not ours any more.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, Ended> {
        self.replies.get()
    }

    /// Asks. A question the client has no room for is lost, and the next one will do.
    ///
    /// # Errors
    /// Where there is no client any more.
    pub fn ask(&self, request: &Request) -> Result<(), Ended> {
        let Request { sequence, asked, line, cursor } = request;
        let kind = if *asked { "ask" } else { "type" };
        // Counted in characters, as the records have it.
        let cursor = line.get(..*cursor).unwrap_or(line).chars().count();
        self.send(&format!("{sequence}{SEPARATOR}{kind}{SEPARATOR}{cursor}{SEPARATOR}{line}\0"))
    }

    /// Tells that a prompt appears.
    ///
    /// # Errors
    /// Where there is no client any more.
    pub fn tell(&self, status: i32, cwd: &str, line: &str) -> Result<(), Ended> {
        self.send(&format!("0{SEPARATOR}event{SEPARATOR}{status}{SEPARATOR}{cwd}{SEPARATOR}{line}\0"))
    }

    /// Tells that this of a suggestion was taken, to be counted.
    ///
    /// # Errors
    /// Where there is no client any more.
    pub fn accepted(&self, text: &str) -> Result<(), Ended> {
        self.send(&format!("0{SEPARATOR}accept{SEPARATOR}{text}\0"))
    }

    fn send(&self, record: &str) -> Result<(), Ended> {
        if record.len() > MAX_REQUEST {
            return Ok(());
        }
        match send(self.requests.get()?, record.as_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(_) => Err(Ended),
        }
    }

    /// What the client has said since.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn receive(&mut self) -> Result<Vec<Reply>, Ended> {
        let mut chunk = [0; 8192];
        match rustix::io::read(self.replies.get()?, &mut chunk) {
            Ok(0) => return Err(Ended),
            Ok(length) => self.unread.extend_from_slice(&chunk[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(_) => return Err(Ended),
        }
        let end = self.unread.iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1);
        let rest = self.unread.split_off(end);
        let records = std::mem::replace(&mut self.unread, rest);
        if self.unread.len() > MAX_REPLY {
            return Err(Ended);
        }
        Ok(records.split(|&byte| byte == 0).filter_map(parse).collect())
    }
}

/// Reads a record. Texts that must not be drawn are left out, and what is no reply is nothing.
fn parse(record: &[u8]) -> Option<Reply> {
    let mut fields = std::str::from_utf8(record).ok()?.split(SEPARATOR);
    let sequence = fields.next()?.parse().ok()?;
    let replaces = match fields.next()? {
        "add" => false,
        "replace" => true,
        _ => return None,
    };
    let _source = fields.next()?;
    let texts: Vec<String> =
        fields.filter(|text| !text.is_empty() && is_displayable(text)).map(str::to_owned).collect();
    (!texts.is_empty()).then_some(Reply { sequence, replaces, texts })
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    rustix::net::sockopt::set_socket_nosigpipe(fd, true)?;
    #[cfg(target_vendor = "apple")]
    let flags = rustix::net::SendFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    let flags = rustix::net::SendFlags::NOSIGNAL;
    rustix::net::send(fd, bytes, flags)
}

/// A descriptor that does not block, and is only used while it is ours: scripts may close any number and open
/// something else there.
#[derive(Debug)]
struct Descriptor {
    fd: Option<OwnedFd>,
    /// Device and inode it had when it was opened.
    identity: (u64, u64),
}

impl Descriptor {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, FIRST_DESCRIPTOR)?;
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let identity = identity(fd.as_fd())?;
        Ok(Self { fd: Some(fd), identity })
    }

    fn get(&self) -> Result<BorrowedFd<'_>, Ended> {
        let fd = self.fd.as_ref().ok_or(Ended)?.as_fd();
        identity(fd).ok().filter(|identity| *identity == self.identity).map(|_| fd).ok_or(Ended)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.get().is_err()
            && let Some(fd) = self.fd.take()
        {
            // Somebody else's by now, who will close it.
            let _ = fd.into_raw_fd();
        }
    }
}

fn identity(fd: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    let found = fstat(fd)?;
    Ok((found.st_dev as u64, found.st_ino as u64))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn replies_are_read() {
        let reply = Reply { sequence: 7, replaces: false, texts: vec!["s -la".to_owned(), "n".to_owned()] };
        assert_eq!(parse(b"7\x1fadd\x1fmodel\x1fs -la\x1fn"), Some(reply));
        assert!(parse(b"8\x1freplace\x1fmodel\x1fecho").unwrap().replaces);
    }

    #[test]
    fn what_is_no_reply_is_nothing() {
        let records: [&[u8]; 6] = [
            b"",
            b"0\x1fhello\x1f",
            b"x\x1fadd\x1fmodel\x1fa",
            b"1\x1fadd\x1fmodel",
            b"1\x1fadd\x1fmodel\x1f",
            b"1\x1fadd\x1fmodel\x1f\xff",
        ];
        for record in records {
            assert_eq!(parse(record), None, "{record:?}");
        }
    }

    #[test]
    fn what_must_not_be_drawn_is_left_out() {
        assert_eq!(parse(b"1\x1fadd\x1fmodel\x1fa\x1b[2J\x1fb").unwrap().texts, ["b"]);
        assert_eq!(parse(b"1\x1fadd\x1fmodel\x1f\x07"), None);
    }

    #[test]
    fn a_descriptor_that_is_not_ours_any_more_is_left_alone() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut descriptor = Descriptor::new(ours.into()).unwrap();
        assert!(descriptor.get().is_ok());
        descriptor.identity.1 += 1;
        assert!(descriptor.get().is_err());
        let raw = descriptor.fd.as_ref().unwrap().as_raw_fd();
        drop(descriptor);
        assert!(std::fs::read_link(format!("/dev/fd/{raw}")).is_ok(), "it was closed");
    }
}
