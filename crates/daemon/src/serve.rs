//! `nemotermd serve`: the daemon's life, from the lock to the clean end.
//!
//! The order matters. The lock comes first and is held for life, so that there is one daemon; then the socket,
//! so that clients are answered at once; then the model, in a thread of its own. A service manager may have bound the
//! socket already and passed it; see [`crate::socket`].

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use interprocess::local_socket::{tokio::Listener, traits::tokio::Listener as _};
use nemoterm_engine::Generator;
use nemoterm_protocol::{ModelStatus, State, Status, runtime::Runtime};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, oneshot, watch},
};

use crate::{
    backend::remote::Link, config::Config, connection, failure::Failure, http, http::writer::MAX_WRITING,
    log, models, scheduler::Scheduler, socket::Socket, worker,
};

/// Connections that are served at a time; more than this many shells means that something is broken.
const MAX_CONNECTIONS: usize = 256;

/// Shells that may alternate without losing what the cache holds of their prompts.
const CACHE_SLOTS: usize = 4;

/// After so many panics the model is not loaded again.
const MAX_LOSSES: u32 = 3;

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
    /// The server that completes in place of the model, where one is set.
    pub remote: Link,
    state: watch::Sender<State>,
    model: Mutex<Option<ModelStatus>>,
    connections: watch::Sender<usize>,
    completions: AtomicU64,
    cancelled: AtomicU64,
    losses: AtomicU32,
    started: Instant,
    log: Option<PathBuf>,
    /// The name of the model that was last installed or asked for, as it was given.
    name: Mutex<String>,
    /// Where the HTTP server listens, or why it does not; nothing where none was asked for.
    http: Option<Result<SocketAddr, Failure>>,
    reload: Notify,
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
    let name =
        args.model.clone().or_else(|| config.model.clone()).unwrap_or_else(|| models::EMBEDDED.to_owned());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let http = args.http.as_ref().or(config.http.as_ref()).map(|address| {
        let _context = tokio.enter();
        // Shells are served in any case.
        http::Settings::new(address, &config).and_then(http::Settings::bind).inspect_err(|failure| {
            tracing::error!(hint = failure.hint, "no HTTP server: {failure}");
        })
    });
    // Programs come and go without holding a connection, so there is no telling when the last one has gone.
    let idle = http.is_some().then_some(Duration::ZERO);
    let daemon = Arc::new(Daemon {
        scheduler: Arc::new(Scheduler::default()),
        remote: Link::default(),
        state: watch::Sender::new(State::Loading),
        model: Mutex::new(None),
        connections: watch::Sender::new(0),
        completions: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        losses: AtomicU32::new(0),
        started: Instant::now(),
        log,
        name: Mutex::new(name),
        http: http.as_ref().map(|http| http.as_ref().map(http::Server::address).map_err(Clone::clone)),
        reload: Notify::new(),
        stop: Notify::new(),
    });
    daemon.remote.follow(&config);
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
        daemon.reload.notify_one();
        if let Some(Ok(server)) = http {
            tracing::info!(address = %server.address(), "listening for HTTP");
            tokio::spawn(server.serve(Arc::clone(&daemon)));
        }
        accept(listener, socket, Arc::clone(&daemon), idle).await
    })?;
    // The tasks go first, and with them the receivers of what the worker still does.
    tokio.shutdown_background();
    daemon.scheduler.quit();
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

/// Takes connections until the daemon is told to stop, or nobody has been there for the idle time: the one that is given,
/// else the configured one. Returns the socket.
async fn accept(
    mut listener: Listener,
    mut socket: Socket,
    daemon: Arc<Daemon>,
    given_idle: Option<Duration>,
) -> anyhow::Result<Socket> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut connections = daemon.connections.subscribe();
    let mut next_client = 0;
    let mut idle = Duration::ZERO;
    loop {
        // Read again whenever a client has come or gone, so that a change counts at once. A file that is wrong
        // changes nothing.
        if let Ok(config) = Config::load() {
            daemon.remote.follow(&config);
            idle = config.idle_time();
        }
        idle = given_idle.unwrap_or(idle);
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
            () = daemon.reload.notified() => {
                let daemon = Arc::clone(&daemon);
                tokio::spawn(async move { daemon.load_again().await });
            }
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

    /// The state of the model, after at most `patience` if it is being loaded.
    pub async fn wait_for_model(&self, patience: Duration) -> State {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| *state != State::Loading);
        if !patience.is_zero() {
            // Whether it settled or the time ran out is read off the state itself.
            let _ = tokio::time::timeout(patience, settled).await;
        }
        self.state.borrow().clone()
    }

    /// The name of the model that was last installed or asked for, as it was given.
    pub fn model_name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn count_completion(&self) {
        self.completions.fetch_add(1, Ordering::Relaxed);
    }

    pub fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: self.state.borrow().clone(),
            model: self.model.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            uptime_s: self.started.elapsed().as_secs(),
            connections: *self.connections.borrow(),
            completions: self.completions.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            rss_mib: rss_mib(),
            log: self.log.as_ref().map(|path| path.display().to_string()),
            http: self.http.as_ref().and_then(|http| http.as_ref().ok()).map(ToString::to_string),
            http_error: match &self.http {
                Some(Err(failure)) => Some(Box::new(failure.clone().reply(None))),
                _ => None,
            },
            remote: self.remote.status().map(Box::new),
        }
    }

    /// Loads a model and answers with it from then on. Until it is there, the present one answers.
    ///
    /// # Errors
    /// Where it can't be loaded; then the present one stays.
    pub async fn use_model(&self, name: &str) -> Result<(), Failure> {
        let (loaded, receiver) = oneshot::channel();
        // How it is to be loaded may have been written since we started.
        let config = Config::load()?;
        let given = name.to_owned();
        let load = move || {
            let started = Instant::now();
            let model = models::load(&given, &config);
            tracing::info!(
                given,
                ok = model.is_ok(),
                seconds = started.elapsed().as_secs_f64(),
                "loaded a model"
            );
            let _ = loaded.send(model);
        };
        let lost = || Failure::new("loading the model failed", "nemoterm daemon logs tells more");
        thread::Builder::new().name("loader".to_owned()).spawn(load).map_err(|_| lost())?;
        let (short, model) = receiver.await.map_err(|_| lost())??;
        let texts = if matches!(self.http, Some(Ok(_))) { MAX_WRITING } else { 0 };
        let generator = Generator::with_texts(model, CACHE_SLOTS, texts)
            .map(Box::new)
            .map_err(|error| Failure::new(error.to_string(), "nemoterm model use takes another model"))?;
        self.scheduler.install(short, generator).await.map_err(|_| lost())?;
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
        Ok(())
    }

    /// Loads the model that was last asked for, with nobody waiting for the answer.
    async fn load_again(&self) {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(failure) = self.use_model(&name).await {
            tracing::error!("{failure}");
            self.state.send_replace(State::Failed { error: failure.message, hint: failure.hint });
        }
    }
}

/// What the worker reports goes into the daemon's state.
struct Watcher(Arc<Daemon>);

impl worker::Observer for Watcher {
    fn installed(&self, name: &str, generator: &Generator) {
        let status = models::status(name, generator.model());
        *self.0.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        self.0.state.send_replace(State::Ready);
    }

    fn lost(&self) {
        let losses = self.0.losses.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(losses, "the model panicked");
        *self.0.model.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if losses < MAX_LOSSES {
            self.0.state.send_replace(State::Loading);
            self.0.reload.notify_one();
        } else {
            self.0.state.send_replace(State::Failed {
                error: "the model failed again and again".to_owned(),
                hint: "nemoterm daemon logs tells more; nemoterm model use takes another model".to_owned(),
            });
        }
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
