//! The client's side of a conversation, blocking, with a deadline on every step.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use interprocess::{
    ConnectWaitMode,
    local_socket::{
        ConnectOptions, GenericFilePath, Stream, ToFsName,
        traits::{Stream as _, StreamCommon as _},
    },
};

use crate::{
    Hello, Reply, Request, Welcome,
    frame::{self, FrameError},
    runtime::{Runtime, RuntimeError},
};

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the daemon is not running")]
    NotRunning,
    /// Somebody listens and does not answer in time.
    #[error("the daemon does not answer")]
    Unresponsive,
    /// The place of the socket, or who listens there, can't be trusted.
    #[error(transparent)]
    Unsafe(#[from] RuntimeError),
    /// The listener runs as somebody else.
    #[error("the daemon's socket belongs to user {0}")]
    Foreign(u32),
    /// The daemon broke off the conversation.
    #[error("the daemon hung up")]
    HungUp,
    /// What arrived is no message, or not the one that was due.
    #[error("the daemon's answer is not understood: {0}")]
    Garbled(String),
    /// The stream failed.
    #[error("talking to the daemon failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::ConnectionRefused => Self::NotRunning,
            Kind::WouldBlock | Kind::TimedOut => Self::Unresponsive,
            Kind::BrokenPipe | Kind::ConnectionReset | Kind::UnexpectedEof => Self::HungUp,
            _ => Self::Io(error),
        }
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => error.into(),
            other => Self::Garbled(other.to_string()),
        }
    }
}

/// A conversation with the daemon. Clones speak over the same connection, so that one thread can wait for
/// replies while another sends.
#[derive(Debug, Clone)]
pub struct Client {
    stream: Arc<Stream>,
    welcome: Welcome,
}

impl Client {
    /// Connects, checks who listens, and exchanges greetings, all within `timeout`.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub fn connect(runtime: &Runtime, timeout: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now() + timeout;
        match runtime.check() {
            Err(RuntimeError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ClientError::NotRunning);
            }
            other => other?,
        }
        let stream = ConnectOptions::new()
            .name(runtime.socket().to_fs_name::<GenericFilePath>()?)
            .wait_mode(ConnectWaitMode::Timeout(timeout))
            .connect_sync()?;
        if let Some(uid) = stream.peer_creds()?.euid()
            && uid != rustix::process::geteuid().as_raw()
        {
            return Err(ClientError::Foreign(uid));
        }
        stream.set_send_timeout(Some(timeout))?;
        let greeting = Welcome { protocol: 0, version: String::new(), pid: 0, stats: None };
        let mut client = Self { stream: Arc::new(stream), welcome: greeting };
        client.send(&Request::Hello(Hello::new()))?;
        match client.receive(Some(deadline))? {
            Reply::Welcome(welcome) => client.welcome = welcome,
            other => return Err(ClientError::Garbled(format!("{other:?} in place of a welcome"))),
        }
        Ok(client)
    }

    /// What the daemon said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`ClientError::Unresponsive`] where the daemon does not read, and the others.
    pub fn send(&self, request: &Request) -> Result<(), ClientError> {
        Ok(frame::write(&mut &*self.stream, request)?)
    }

    /// Waits for the next reply, at most until `deadline`.
    ///
    /// # Errors
    /// [`ClientError::Unresponsive`] after the deadline, and the others.
    pub fn receive(&self, deadline: Option<Instant>) -> Result<Reply, ClientError> {
        let mut stream = Deadline { stream: &self.stream, deadline };
        frame::read(&mut stream)?.ok_or(ClientError::HungUp)
    }

    /// Ends the conversation, also for clones that are waiting for a reply: they get [`ClientError::HungUp`].
    pub fn hang_up(&self) {
        // Where it fails, the conversation has ended already.
        let Stream::UdSocket(stream) = &*self.stream;
        let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Both);
    }

    /// Sends a request and waits for its reply, at most for `timeout`.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub fn ask(&self, request: &Request, timeout: Duration) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + timeout;
        self.send(request)?;
        self.receive(Some(deadline))
    }
}

/// Reads that end at a point in time, however slowly the bytes drip.
struct Deadline<'a> {
    stream: &'a Stream,
    deadline: Option<Instant>,
}

impl io::Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.deadline {
            None => None,
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(io::ErrorKind::TimedOut.into()),
                left => Some(left),
            },
        };
        self.stream.set_recv_timeout(left)?;
        io::Read::read(&mut &*self.stream, buffer)
    }
}
