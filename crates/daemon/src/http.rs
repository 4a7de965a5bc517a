//! The OpenAI-compatible server, off unless asked for: `nemotermd serve --http` or `http` in the configuration.
//!
//! It speaks plain HTTP/1.1 to programs of this machine, and to those of others only where a token is set. What they
//! ask becomes jobs for the model's thread, behind all key strokes; see [`writer`].

mod body;
mod chat;
mod completions;
pub mod error;
mod fill_in;
mod guard;
mod infill;
pub mod job;
pub mod link;
pub mod metrics;
mod parameters;
pub mod prompt;
mod sampling;
mod sequence;
mod service;
mod stream;
mod template;
mod text;
mod texts;
pub mod writer;

use std::{env, fs, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;

use crate::{config::Config, failure::Failure, serve::Daemon};
use guard::Policy;
pub use service::now;

/// Connections that are served at a time; more wait to be taken.
const MAX_CONNECTIONS: usize = 128;

/// The head of a request must be there after this long; a connection that is kept open is closed after it.
const HEAD: Duration = Duration::from_secs(10);

/// A client that does not read is given up after this long.
const UNREAD: Duration = Duration::from_secs(30);

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Where the token is looked for before the configuration.
const TOKEN: &str = "NEMOTERM_HTTP_TOKEN";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    address: SocketAddr,
    token: Option<String>,
}

/// A socket that listens, and the rules for those who connect to it.
pub struct Server {
    listener: TcpListener,
    policy: Policy,
    address: SocketAddr,
}

impl Settings {
    /// A server on `address`, with the token that the environment or the configuration names.
    ///
    /// # Errors
    /// Where the address is none, the token can't be read, or there is none and other machines could connect.
    pub fn new(address: &str, config: &Config) -> Result<Self, Failure> {
        let token = match env::var(TOKEN) {
            Ok(token) => Some(token),
            Err(env::VarError::NotPresent) => {
                config.http_token_file.as_deref().map(read_token).transpose()?
            }
            Err(env::VarError::NotUnicode(_)) => {
                return Err(Failure::new(format!("{TOKEN} is no text"), "set it to letters and digits"));
            }
        };
        Self::parse(address, token)
    }

    fn parse(address: &str, token: Option<String>) -> Result<Self, Failure> {
        let none = || {
            let hint = "name an address and a port, such as 127.0.0.1:8000";
            Failure::new(format!("\"{address}\" is no address to listen on"), hint)
        };
        let address = self::address(address).ok_or_else(none)?;
        let token = token.map(|token| token.trim().to_owned());
        if token
            .as_deref()
            .is_some_and(|token| token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(Failure::new(
                "the token for HTTP is empty or holds blanks",
                "use letters and digits",
            ));
        }
        if token.is_none() && !address.ip().is_loopback() {
            return Err(Failure::new(
                format!("other machines could connect to {address}, and no token is set"),
                format!("set {TOKEN}, or http_token_file in config.toml; or listen on 127.0.0.1"),
            ));
        }
        Ok(Self { address, token })
    }

    /// Binds the address. There must be a tokio runtime around.
    ///
    /// # Errors
    /// Where the system does not let us, most likely because another program has the port.
    pub fn bind(self) -> Result<Server, Failure> {
        let bound = || {
            let listener = std::net::TcpListener::bind(self.address)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound().map_err(|error: std::io::Error| {
            let sandboxed = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
            let hint = if sandboxed {
                "nemoterm daemon install gives the service a network, once http is in the configuration"
            } else {
                "choose another port"
            };
            Failure::new(format!("{} can't be listened on: {error}", self.address), hint)
        })?;
        Ok(Server { listener, policy: Policy::new(address, self.token), address })
    }
}

/// The address and port of a text; nothing where it is none.
pub fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

fn read_token(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("{path} can't be read: {error}"), "mend http_token_file in config.toml")
    })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves as long as it is polled.
    pub async fn serve(self, daemon: Arc<Daemon>) {
        let router = service::router(daemon, self.policy);
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // They end with the server.
        let mut connections = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let router = router.clone();
                    connections.spawn(async move {
                        talk(stream, router).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back when clients leave.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Serves one connection until it ends. That drops what the client still waits for, and with it the receivers that
/// the model's thread looks for.
async fn talk(stream: TcpStream, router: Router) {
    // A token is sent when it is there.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(address: &str, token: Option<&str>) -> String {
        Settings::parse(address, token.map(str::to_owned)).unwrap_err().message
    }

    #[test]
    fn without_a_token_only_this_machine_is_served() {
        for address in ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "127.1.2.3:0"] {
            assert!(Settings::parse(address, None).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:8000", "[::]:8000", "192.168.1.2:8000"] {
            assert!(message(address, None).contains("no token"), "{address}");
            assert!(Settings::parse(address, Some("s3cret\n".to_owned())).is_ok(), "{address}");
        }
        for token in ["", " \n", "a b", "ä"] {
            assert!(message("127.0.0.1:8000", Some(token)).contains("token"), "{token:?}");
        }
        for address in ["8000", "localhost", "example.com:80", "127.0.0.1:80000", ""] {
            assert!(message(address, None).contains("no address"), "{address}");
        }
    }
}
