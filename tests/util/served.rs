//! The real daemon in a home, as a child of the test.

use std::process::{Child, Stdio};

use nemoterm_protocol::client::Client;

use super::{DEADLINE, eventually, home::Home, nemotermd};

/// A daemon that listens. It ends when it is dropped.
pub struct Served {
    daemon: Child,
}

impl Served {
    /// Starts one. Shells that are started in that home from now on wait for it as long as it takes.
    pub fn start(home: &Home) -> Self {
        home.limit(DEADLINE);
        let mut command = home.command(nemotermd());
        let daemon = command.arg("serve").stderr(Stdio::null()).spawn().unwrap();
        let served = Self { daemon };
        eventually("the daemon to listen", || Client::connect(home.runtime(), DEADLINE).is_ok());
        served
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) {
        self.daemon.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
