//! `nemotermd serve`: the daemon's life, from the lock to the clean end.
//!
//! The order matters. The lock comes first and is held for life, so that there is one daemon; then the socket,
//! so that clients are answered at once; then the model, in a thread of its own. A service manager may have bound the
//! socket already and passed it; see [`crate::socket`].

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use interprocess::local_socket::{tokio::Listener, traits::tokio::Listener as _};
use nemoterm_engine::Generator;
use nemoterm_protocol::{State, Status, runtime::Runtime, stats::Stats};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{
    backend::remote,
    config::{Config, Unload},
    connection,
    failure::Failure,
    http,
    keeper::{FromFiles, Keeper},
    log,
    power::Machine,
    scheduler::Scheduler,
    socket::Socket,
    stats::Counts,
    worker,
};

/// Connections that are served at a time; more than this many shells means that something is broken.
const MAX_CONNECTIONS: usize = 256;

/// How long the lock is tried for: a daemon that was killed has it until the system is done with it, and a client that
/// looks whether it is taken has it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// How long a daemon may take to end whose place we take.
const END: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the terminal and log to the log file
    #[arg(long)]
    background: bool,
    /// A model in place of the configured one
    #[arg(long)]
    model: Option<String>,
    /// Serve OpenAI's API on this address and port, such as 127.0.0.1:8000 [default: as configured]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
}

/// What the tasks of the daemon share.
pub struct Daemon {
    pub scheduler: Arc<Scheduler>,
    /// The model, and what becomes of it.
    pub keeper: Keeper,
    /// The server that completes in place of the model, where one is set.
    pub remote: remote::Link,
    /// What shells have counted.
    pub counts: Counts,
    /// The server for programs, where one is wanted.
    pub http: http::link::Link,
    connections: watch::Sender<usize>,
    completions: AtomicU64,
    cancelled: AtomicU64,
    started: Instant,
    log: Option<PathBuf>,
    stop: Notify,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    // The service manager has put us into the background, and what it has passed must stay open.
    let passed = crate::socket::passed()?;
    if args.background && passed.is_none() {
        leave_terminal();
    }
    let log = log::start(!args.background && passed.is_none());
    let served = serve(args, log, passed);
    if let Err(error) = &served {
        tracing::error!("{error:#}");
    }
    served
}

fn serve(args: &Args, log: Option<PathBuf>, passed: Option<UnixListener>) -> anyhow::Result<()> {
    let unusable =
        |error: nemoterm_protocol::runtime::RuntimeError| Failure::new(error.to_string(), error.hint());
    let runtime_dir = Runtime::locate().map_err(unusable)?;
    runtime_dir.create().map_err(unusable)?;
    // Who has the passed socket is the daemon: nobody reaches another one any more.
    let Some(_lock) = lock(&runtime_dir, passed.is_some())? else {
        tracing::info!("another daemon runs");
        return Ok(());
    };
    // A daemon that can't use its configuration is there and says so: loading the model fails the same way.
    let config = Config::load().unwrap_or_default();
    let name = args.model.clone().unwrap_or_else(|| config.model_name().to_owned());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scheduler = Arc::new(Scheduler::default());
    let daemon = Arc::new(Daemon {
        keeper: Keeper::new(Arc::clone(&scheduler), FromFiles, name),
        scheduler,
        remote: remote::Link::default(),
        counts: Counts::read(Stats::file()),
        http: http::link::Link::new(args.http.clone()),
        connections: watch::Sender::new(0),
        completions: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        started: Instant::now(),
        log,
        stop: Notify::new(),
    });
    let bound = {
        let _context = tokio.enter();
        match passed {
            Some(passed) => Some(Socket::adopt(&runtime_dir.socket(), passed)?),
            None => Socket::bind(&runtime_dir.socket())?,
        }
    };
    let Some((socket, listener)) = bound else {
        tracing::info!("another program listens on the socket, most likely a service manager for us");
        return Ok(());
    };
    let passed = socket.was_passed();
    tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), passed, "listening");
    let worker = thread::Builder::new().name("model".to_owned()).spawn({
        let daemon = Arc::clone(&daemon);
        move || worker::run(&Arc::clone(&daemon.scheduler), &Watcher(daemon))
    })?;
    let socket = tokio.block_on(async {
        // Also with a configuration that can't be used: what was asked for on the command line is.
        daemon.remote.follow(&config);
        daemon.counts.turn(!config.no_stats);
        daemon.http.follow(&config, &daemon).await;
        daemon.keeper.reload.notify_one();
        let counting = Arc::clone(&daemon);
        tokio::spawn(async move { counting.counts.write_later().await });
        accept(listener, socket, Arc::clone(&daemon)).await
    })?;
    // The tasks go first, and with them the receivers of what the worker still does.
    tokio.shutdown_background();
    daemon.scheduler.quit();
    daemon.counts.write();
    socket.remove();
    if worker.join().is_err() {
        tracing::error!("the model's thread had panicked");
    }
    tracing::info!("ended");
    Ok(())
}

/// A session of our own, no files of whoever started us, and nothing to die of but our own signals.
fn leave_terminal() {
    // It fails where we lead a process group already; then we have what we want.
    let _ = rustix::process::setsid();
    // SAFETY: nothing has been opened by this process yet, so no descriptor above 2 has an owner here.
    #[expect(unsafe_code, reason = "closing descriptors that have no owner")]
    unsafe {
        close_fds::close_open_fds(3, &[]);
    }
}

/// Takes the lock for life; `None` where another daemon has it. That one is told, in case somebody removed its
/// socket; where we `insist`, it is ended.
fn lock(runtime: &Runtime, insist: bool) -> anyhow::Result<Option<File>> {
    let path = runtime.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{} can't be opened", path.display()))?;
    let mut locked = try_lock(&file, LOCK_PATIENCE);
    if insist && matches!(locked, Err(TryLockError::WouldBlock)) {
        if let Some(pid) = holder(&mut file)? {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        locked = try_lock(&file, END);
    }
    match locked {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) if insist => {
            let hint = "end the other nemotermd process yourself";
            Err(Failure::new("another daemon has the lock and does not end", hint).into())
        }
        Err(TryLockError::WouldBlock) => {
            if let Some(pid) = holder(&mut file)?
                && !runtime.socket().exists()
            {
                // It may have ended just now.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
            }
            Ok(None)
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} can't be locked", path.display()))
        }
    }
}

/// Tries to lock a file for a while.
fn try_lock(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let deadline = Instant::now() + patience;
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
        locked = file.try_lock();
    }
    locked
}

/// The process that says in the lock file that it has the lock.
fn holder(file: &mut File) -> anyhow::Result<Option<rustix::process::Pid>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse().ok().and_then(rustix::process::Pid::from_raw))
}

/// Takes connections until the daemon is told to stop, or nobody has been there for the configured idle time. Returns the
/// socket.
async fn accept(mut listener: Listener, mut socket: Socket, daemon: Arc<Daemon>) -> anyhow::Result<Socket> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut connections = daemon.connections.subscribe();
    let mut next_client = 0;
    let (mut idle, mut unload) = (Duration::ZERO, Unload::Never);
    let machine = Machine::here();
    loop {
        // Read again whenever a client has come or gone, so that a change counts at once.
        if let Some(config) = daemon.follow().await {
            (idle, unload) = (config.idle_time(), config.unload());
        }
        if daemon.http.is_on() {
            // Programs come and go without holding a connection, so there is no telling when the last one has gone.
            idle = Duration::ZERO;
        }
        let nobody_for_long = async {
            if idle.is_zero() || *connections.borrow_and_update() > 0 {
                // The count changes when a client comes or goes; then it is looked at again.
                let _ = connections.changed().await;
                return false;
            }
            tokio::time::timeout(idle, connections.changed()).await.is_err()
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if *daemon.connections.borrow() >= MAX_CONNECTIONS => {
                    tracing::warn!("refused a connection: {MAX_CONNECTIONS} are open");
                }
                Ok(stream) => {
                    next_client += 1;
                    let client = next_client;
                    let daemon = Arc::clone(&daemon);
                    daemon.connections.send_modify(|count| *count += 1);
                    tokio::spawn(async move {
                        connection::serve(stream, client, Arc::clone(&daemon)).await;
                        daemon.connections.send_modify(|count| *count -= 1);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back when clients leave.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = daemon.keeper.reload.notified() => {
                let daemon = Arc::clone(&daemon);
                tokio::spawn(async move { daemon.keeper.load_again(daemon.http.is_on()).await });
            }
            () = daemon.keeper.until_idle(unload, &machine) => daemon.keeper.rest().await,
            () = daemon.stop.notified() => {
                // The farewell is in the client's writer.
                tokio::task::yield_now().await;
                tracing::info!("told to stop");
                return Ok(socket);
            }
            _ = terminate.recv() => return Ok(socket),
            _ = interrupt.recv() => return Ok(socket),
            _ = hangup.recv() => if socket.is_gone() {
                if socket.was_passed() {
                    tracing::warn!("the socket was removed, and is not ours to bind; ending");
                    return Ok(socket);
                }
                tracing::warn!("the socket was removed; binding it again");
                let Some(bound) = Socket::bind(socket.path())? else { return Ok(socket) };
                (socket, listener) = bound;
            },
            ended = nobody_for_long => if ended {
                tracing::info!("nobody was there for {} minutes", idle.as_secs() / 60);
                return Ok(socket);
            },
        }
    }
}

impl Daemon {
    /// Ends the daemon.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Takes the configuration as it is now, and gives it. A file that is wrong changes nothing.
    pub async fn follow(self: &Arc<Self>) -> Option<Config> {
        let config = Config::load().ok()?;
        self.remote.follow(&config);
        self.counts.turn(!config.no_stats);
        self.http.follow(&config, self).await;
        Some(config)
    }

    pub fn count_completion(&self) {
        self.completions.fetch_add(1, Ordering::Relaxed);
    }

    pub fn status(&self) -> Status {
        let http = self.http.state();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: State::Loading,
            model: None,
            uptime_s: self.started.elapsed().as_secs(),
            connections: *self.connections.borrow(),
            completions: self.completions.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            rss_mib: rss_mib(),
            log: self.log.as_ref().map(|path| path.display().to_string()),
            http: http.as_ref().and_then(|http| http.as_ref().ok()).map(ToString::to_string),
            http_error: match http {
                Some(Err(failure)) => Some(Box::new(failure.reply(None))),
                _ => None,
            },
            remote: self.remote.status().map(Box::new),
            loading: None,
            resting: false,
            instead: None,
        };
        self.keeper.describe(&mut status);
        status
    }
}

/// What the worker reports goes to the keeper, and is counted.
struct Watcher(Arc<Daemon>);

impl worker::Observer for Watcher {
    fn installed(&self, name: &str, generator: &Generator) {
        self.0.keeper.installed(name, generator);
    }

    fn lost(&self) {
        self.0.keeper.lost();
    }

    fn device_failed(&self, failure: Failure) {
        self.0.keeper.device_failed(failure);
    }

    fn released(&self) {
        self.0.keeper.released();
    }

    fn cancelled(&self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Resident memory of this process in MiB, where the system tells (`statm` of proc(5): pages, the second
/// number).
pub fn rss_mib() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64 / f64::from(1 << 20))
}
