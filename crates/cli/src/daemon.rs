//! `nemoterm daemon`: start, stop, restart, status, logs. `install` and `uninstall` are in [`service`].

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    ErrorReply, Loading, RemoteState, RemoteStatus, Reply, Request, State, Status,
    client::{Client, ClientError},
    runtime::Runtime,
};

use crate::{
    daemon_process::{connect_or_start_with, explain, stop},
    failure::Failure,
    service,
};

const ANSWER: Duration = Duration::from_millis(1000);

/// Exit code of `status` where no daemon runs, as in the Linux Standard Base's init script actions.
const NOT_RUNNING: u8 = 3;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Start the daemon, if it does not run, and wait for its model
    Start(StartArgs),
    /// Stop the daemon
    Stop,
    /// Stop the daemon and start it again
    Restart(StartArgs),
    /// Say how the daemon is; exits with 3 where none runs
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the end of the daemon's log
    Logs {
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
    },
    /// Make the daemon a service of yours, started by the first shell that asks (systemd, launchd)
    Install {
        /// Print the files in place of writing them
        #[arg(long)]
        print: bool,
    },
    /// Take the service back
    Uninstall,
}

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// Serve OpenAI's API on this address and port, such as 127.0.0.1:8000
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let runtime = locate()?;
    match command {
        Command::Start(args) => start(&runtime, args),
        Command::Stop => {
            if end(&runtime)? {
                eprintln!("stopped");
            } else {
                eprintln!("the daemon is not running");
            }
            Ok(())
        }
        Command::Restart(args) => {
            end(&runtime)?;
            start(&runtime, args)
        }
        Command::Status { json } => status(&runtime, *json),
        Command::Logs { lines } => logs(*lines),
        Command::Install { print } => service::install(&runtime, *print),
        Command::Uninstall => service::uninstall(&runtime),
    }
}

/// The runtime directory, with an error made for people.
pub fn locate() -> Result<Runtime, Failure> {
    Runtime::locate().map_err(|error| Failure::new(error.to_string(), error.hint()))
}

fn start(runtime: &Runtime, args: &StartArgs) -> anyhow::Result<()> {
    let client = connect_or_start_with(runtime, args.http.as_deref())?;
    let deadline = Instant::now() + Duration::from_secs(600);
    let shows = io::stderr().is_terminal();
    loop {
        let status = ask_status(&client)?;
        if shows && let Some(loading) = &status.loading {
            eprint!("\r\x1b[Kloading {}", describe_loading(loading));
        } else if shows {
            eprint!("\r\x1b[K");
        }
        match status.state {
            State::Ready if status.resting => {
                eprintln!("running (pid {}); its model comes back at the next key", status.pid);
                return check_http(args, status.http, status.http_error);
            }
            State::Ready => {
                let model = status.model.map(|model| model.name).unwrap_or_default();
                eprintln!("running (pid {}) with model {model}", status.pid);
                if let Some(remote) = status.remote {
                    eprintln!(
                        "completing with {} at {}: {}",
                        remote.model,
                        remote.url,
                        describe_remote(&remote)
                    );
                }
                return check_http(args, status.http, status.http_error);
            }
            State::Failed { error, hint } => return Err(Failure::new(error, hint).into()),
            State::Loading if Instant::now() > deadline => {
                return Err(Failure::new("the model is still loading", "nemoterm daemon status").into());
            }
            State::Loading => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Says where HTTP is served, and fails where it was asked for and is not.
fn check_http(
    args: &StartArgs,
    served: Option<String>,
    error: Option<Box<ErrorReply>>,
) -> anyhow::Result<()> {
    match (&args.http, served, error) {
        (_, Some(address), _) => eprintln!("serving HTTP on http://{address}/v1"),
        (Some(_), None, Some(error)) => return Err(Failure::of_daemon(*error).into()),
        (Some(asked), None, None) => {
            let hint = if service::is_installed() {
                format!(
                    "a service manager starts it: nemoterm config set http {asked}, then install and restart"
                )
            } else {
                format!("nemoterm daemon restart --http {asked}")
            };
            return Err(Failure::new("the daemon was running already, without HTTP", hint).into());
        }
        (None, None, _) => {}
    }
    Ok(())
}

/// Ends the daemon, whether it answers or not; false where none runs.
pub fn end(runtime: &Runtime) -> anyhow::Result<bool> {
    match connect(runtime) {
        Ok(client) => stop(runtime, &client).map(|()| true),
        Err(ClientError::NotRunning) => Ok(false),
        Err(ClientError::Unresponsive) if runtime.is_locked() => {
            // It is ours (it holds the lock in our directory) and deaf: the lock file names its process.
            let text = fs::read_to_string(runtime.lock())?;
            let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw).ok_or_else(|| {
                Failure::new("the daemon does not answer", "end the nemotermd process yourself")
            })?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            let deadline = Instant::now() + Duration::from_secs(5);
            while runtime.is_locked() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(true)
        }
        Err(error) => Err(explain(error).into()),
    }
}

fn ask_status(client: &Client) -> anyhow::Result<Status> {
    match client.ask(&Request::Status, ANSWER).map_err(explain)? {
        Reply::Status(status) => Ok(*status),
        Reply::Error(error) => Err(Failure::of_daemon(error).into()),
        other => Err(Failure::plain(format!("the daemon answered {other:?} to status")).into()),
    }
}

/// Connects to a daemon that runs. A service manager that listens for one starts it when somebody connects, so where one
/// is installed the lock is looked at first.
///
/// # Errors
/// Every [`ClientError`].
pub fn connect(runtime: &Runtime) -> Result<Client, ClientError> {
    if service::is_installed() && !runtime.is_locked() {
        return Err(ClientError::NotRunning);
    }
    Client::connect(runtime, ANSWER)
}

/// The daemon's state, where one runs.
pub fn current(runtime: &Runtime) -> anyhow::Result<Option<Status>> {
    match connect(runtime) {
        Ok(client) => ask_status(&client).map(Some),
        Err(ClientError::NotRunning) => Ok(None),
        Err(error) => Err(explain(error).into()),
    }
}

fn status(runtime: &Runtime, json: bool) -> anyhow::Result<()> {
    let status = current(runtime)?;
    let mut out = io::stdout().lock();
    if json {
        let mut value = serde_json::to_value(&status)?;
        match value.as_object_mut() {
            Some(object) => object.insert("running".to_owned(), true.into()),
            None => {
                value = serde_json::json!({ "running": false });
                None
            }
        };
        writeln!(out, "{value}")?;
    } else if let Some(status) = &status {
        write!(out, "{}", describe(status))?;
    }
    match status {
        Some(_) => Ok(()),
        None => {
            let hint = if service::is_installed() {
                "the first shell that asks starts it; nemoterm daemon start does so now"
            } else {
                "nemoterm daemon start"
            };
            Err(Failure::new("the daemon is not running", hint).code(NOT_RUNNING).into())
        }
    }
}

fn describe(status: &Status) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let state = match &status.state {
        State::Loading => "loading the model".to_owned(),
        State::Ready if status.resting => {
            "resting: the model was let go of, and comes back at the next key".to_owned()
        }
        State::Ready => "ready".to_owned(),
        State::Failed { error, hint } => format!("no model: {error} ({hint})"),
    };
    row("state", state);
    if let Some(remote) = &status.remote {
        row("remote", format!("{} at {}", remote.model, remote.url));
        row("", describe_remote(remote));
        row("", format!("{} answered, {} failed or late", remote.answered, remote.failed));
    }
    if let Some(model) = &status.model {
        row(
            "model",
            format!(
                "{} ({}, {:.1} M parameters, {})",
                model.name,
                model.architecture,
                model.parameters as f64 / 1e6,
                model.quantisation
            ),
        );
        row("device", model.device.clone());
        row("context", format!("{} tokens", model.context));
        if let Some(why) = &model.not_kept {
            row("", format!("its quantised weights are made again at each start: {why}"));
        }
    }
    if let Some(why) = &status.instead {
        row(
            "",
            format!(
                "in place of the one that is set: {} ({})",
                why.message,
                why.hint.as_deref().unwrap_or("")
            ),
        );
    }
    if let Some(loading) = &status.loading {
        row("loading", describe_loading(loading));
    }
    row("release", status.version.clone());
    row("pid", status.pid.to_string());
    row("uptime", format!("{} s", status.uptime_s));
    row("connections", status.connections.to_string());
    row("completions", format!("{} answered, {} given up", status.completions, status.cancelled));
    if let Some(rss) = status.rss_mib {
        row("memory", format!("{rss:.1} MiB"));
    }
    match (&status.http, &status.http_error) {
        (Some(address), _) => row("http", format!("http://{address}/v1")),
        (None, Some(error)) => {
            row("http", format!("none: {} ({})", error.message, error.hint.as_deref().unwrap_or("no hint")));
        }
        (None, None) => {}
    }
    if let Some(log) = &status.log {
        row("log", log.clone());
    }
    text
}

/// Which model is being loaded, and how far that is.
fn describe_loading(loading: &Loading) -> String {
    format!("{}, {:.0} % after {} s", loading.model, 100.0 * loading.share, loading.seconds)
}

/// How a remote server is, and who answers in its place.
pub fn describe_remote(remote: &RemoteStatus) -> String {
    let (error, hint, again) = match &remote.state {
        RemoteState::Untried => return "not asked yet".to_owned(),
        RemoteState::Answering => return "answering".to_owned(),
        RemoteState::Failing { error, hint } => (error, hint, "asked again at the next key".to_owned()),
        RemoteState::Paused { error, hint, again_s: Some(seconds) } => {
            (error, hint, format!("asked again in {seconds} s"))
        }
        RemoteState::Paused { error, hint, again_s: None } => {
            (error, hint, "asked again once the configuration changes".to_owned())
        }
    };
    format!("{error} ({hint}); {again}, the model here answers meanwhile")
}

fn logs(lines: usize) -> anyhow::Result<()> {
    let path = nemoterm_protocol::runtime::log_file()
        .ok_or_else(|| Failure::new("there is no home directory for the log", "set HOME"))?;
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(
                format!("there is no log at {} yet", path.display()),
                "nemoterm daemon start",
            )
            .into());
        }
        Err(error) => return Err(Failure::plain(format!("{} can't be read: {error}", path.display())).into()),
    };
    let all: Vec<_> = text.lines().collect();
    let mut out = io::stdout().lock();
    for line in &all[all.len().saturating_sub(lines)..] {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
