//! Finding, starting and reaching the daemon.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    Reply, Request, VERSION, Welcome,
    client::{Client, ClientError},
    runtime::Runtime,
};

use crate::failure::Failure;

/// How long a started daemon may take to bind its socket. It does so before it loads the model.
const START: Duration = Duration::from_secs(2);

/// How long one try to connect may take.
const CONNECT: Duration = Duration::from_millis(500);

/// The daemon's program, and why it is that one.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it was picked, in a few words.
    pub reason: String,
    /// What the program for CUDA beside it says when it is started, where it does not start though a driver is here.
    pub cuda_fails: Option<String>,
}

impl Program {
    /// Picks the program: `$NEMOTERM_DAEMON`; else the one beside this program, built for CUDA where the driver's
    /// library can be loaded and it starts; else the one on the PATH.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find() -> Result<Self, Failure> {
        if let Some(path) = env::var_os("NEMOTERM_DAEMON").map(PathBuf::from) {
            return if path.is_file() {
                Ok(Self { path, reason: "named by NEMOTERM_DAEMON".to_owned(), cuda_fails: None })
            } else {
                Err(Failure::new(
                    format!("NEMOTERM_DAEMON names {}, which is no file", path.display()),
                    "unset NEMOTERM_DAEMON or set it to a nemotermd",
                ))
            };
        }
        let here = env::current_exe().ok().and_then(|path| path.canonicalize().ok());
        let beside = here.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let on_path =
            env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
        for dir in beside.into_iter().chain(on_path) {
            // A CUDA build does not even start where there is no driver, so the driver is asked for first. A driver alone
            // is not enough: it comes without the libraries of CUDA that the program is linked with.
            let cuda = dir.join("nemotermd-cuda");
            let (is_built, is_driven) = (cuda.is_file(), cuda_driver());
            let cuda_fails = if is_built && is_driven { start_fails(&cuda) } else { None };
            if is_built && is_driven && cuda_fails.is_none() {
                return Ok(Self { path: cuda, reason: "an NVIDIA driver is here".to_owned(), cuda_fails });
            }
            let plain = dir.join("nemotermd");
            if plain.is_file() {
                let reason = match (is_built, is_driven) {
                    (true, true) => "nemotermd-cuda does not start",
                    (true, false) => "no NVIDIA driver could be loaded",
                    (false, true) => "an NVIDIA driver is here, but no nemotermd-cuda beside",
                    (false, false) => "no NVIDIA driver is here",
                };
                return Ok(Self { path: plain, reason: reason.to_owned(), cuda_fails });
            }
        }
        Err(Failure::new("nemotermd is neither beside nemoterm nor on the PATH", "run install.sh again"))
    }
}

/// Why a program does not start, in the loader's words; nothing where it does. Only the loader knows what of the libraries it
/// needs can be had, so it is asked.
fn start_fails(program: &Path) -> Option<String> {
    let output = match Command::new(program).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return None,
        Ok(output) => output,
        Err(error) => return Some(error.to_string()),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    Some(line.map_or_else(|| format!("it ended with {}", output.status), str::to_owned))
}

/// Whether the CUDA driver's library can be loaded.
pub fn cuda_driver() -> bool {
    // SAFETY: loading libcuda runs NVIDIA's own initialisers and nothing else; it has no preconditions.
    #[expect(unsafe_code, reason = "there is no other way to ask the loader")]
    unsafe { libloading::Library::new("libcuda.so.1") }.is_ok()
}

/// Starts a daemon in the background and returns at once. Where one runs already, the new one ends by itself.
///
/// # Errors
/// Where there is no program or the system does not start it.
pub fn ensure_started(runtime: &Runtime) -> anyhow::Result<()> {
    start(runtime, None)
}

/// As [`ensure_started`], with an HTTP server at this address.
fn start(runtime: &Runtime, http: Option<&str>) -> anyhow::Result<()> {
    let program = Program::find()?;
    let mut child = Command::new(&program.path)
        .args(["serve", "--background"])
        .args(http.iter().flat_map(|address| ["--http", address]))
        .env("NEMOTERM_RUNTIME_DIR", runtime.dir())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Failure::plain(format!("{} can't be started: {error}", program.path.display())))?;
    // Whoever starts a process also collects it, or it stays behind as a zombie as long as we live.
    thread::Builder::new().name("daemon-reaper".to_owned()).spawn(move || child.wait())?;
    Ok(())
}

/// Connects to the daemon, and starts one where none runs or an older release does.
///
/// # Errors
/// Where none can be started, or the running one can't be used.
pub fn connect_or_start(runtime: &Runtime) -> anyhow::Result<Client> {
    connect_or_start_with(runtime, None)
}

/// As [`connect_or_start`]; a daemon that is started serves HTTP at this address.
///
/// # Errors
/// Where none can be started, or the running one can't be used.
pub fn connect_or_start_with(runtime: &Runtime, http: Option<&str>) -> anyhow::Result<Client> {
    match Client::connect(runtime, CONNECT) {
        Ok(client) => match skew(client.welcome()) {
            Skew::None => return Ok(client),
            Skew::DaemonOlder => stop(runtime, &client)?,
            Skew::DaemonNewer => {
                return Err(Failure::new(
                    format!(
                        "the running daemon is of release {}, newer than this program",
                        client.welcome().version
                    ),
                    "install this release again, or run nemoterm daemon restart",
                )
                .into());
            }
        },
        // One that hangs up while it greets is dying.
        Err(ClientError::NotRunning | ClientError::HungUp) => {}
        Err(error) => return Err(explain(error).into()),
    }
    runtime.create().map_err(|error| Failure::new(error.to_string(), error.hint()))?;
    start(runtime, http)?;
    let deadline = Instant::now() + START;
    loop {
        match Client::connect(runtime, CONNECT) {
            Ok(client) => return Ok(client),
            Err(ClientError::NotRunning | ClientError::HungUp) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(ClientError::NotRunning | ClientError::HungUp) => {
                return Err(Failure::new(
                    format!("the daemon did not start within {} s", START.as_secs()),
                    "nemoterm daemon logs tells why",
                )
                .into());
            }
            Err(error) => return Err(explain(error).into()),
        }
    }
}

/// Asks the daemon to end and waits until it has let go of its lock.
///
/// # Errors
/// Where it does not end in time.
pub fn stop(runtime: &Runtime, client: &Client) -> anyhow::Result<()> {
    match client.ask(&Request::Stop, CONNECT) {
        Ok(Reply::Stopping) | Err(ClientError::HungUp) => {}
        Ok(other) => return Err(Failure::plain(format!("the daemon answered {other:?} to stop")).into()),
        Err(error) => return Err(explain(error).into()),
    }
    let pid = client.welcome().pid;
    // A shell that has lost it may have started another one by now, which has the lock.
    let another = || Client::connect(runtime, CONNECT).is_ok_and(|client| client.welcome().pid != pid);
    let deadline = Instant::now() + Duration::from_secs(5);
    while runtime.is_locked() && !another() {
        if Instant::now() > deadline {
            return Err(Failure::new("the daemon does not end", format!("kill {pid}")).into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What a failed conversation means to a person.
pub fn explain(error: ClientError) -> Failure {
    match error {
        ClientError::NotRunning => Failure::new("the daemon is not running", "nemoterm daemon start"),
        ClientError::Unresponsive => Failure::new(
            "the daemon does not answer",
            "nemoterm daemon restart; nemoterm daemon logs may tell why",
        ),
        ClientError::Unsafe(error) => Failure::new(error.to_string(), error.hint()),
        ClientError::Foreign(uid) => Failure::new(
            format!("the daemon's socket belongs to user {uid}"),
            "set NEMOTERM_RUNTIME_DIR to a directory of your own with mode 0700",
        ),
        other => Failure::new(other.to_string(), "nemoterm daemon logs may tell why"),
    }
}

/// How the daemon's release compares to this program's.
#[derive(Debug, PartialEq, Eq)]
enum Skew {
    None,
    DaemonOlder,
    /// And it speaks another protocol. A newer one that speaks ours is as good as our own.
    DaemonNewer,
}

fn skew(daemon: &Welcome) -> Skew {
    let ours = semver::Version::parse(env!("CARGO_PKG_VERSION")).ok();
    match semver::Version::parse(&daemon.version).ok().partial_cmp(&ours) {
        Some(std::cmp::Ordering::Greater) if daemon.protocol != VERSION => Skew::DaemonNewer,
        Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal) => Skew::None,
        _ => Skew::DaemonOlder,
    }
}

/// Runs one of the daemon program's own subcommands in place of this process: what needs the model or its
/// libraries, which this program does not link.
///
/// # Errors
/// Only where it can't be run at all.
pub fn hand_over(args: &[std::ffi::OsString]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let program = Program::find()?;
    let error: io::Error = Command::new(&program.path).args(args).exec();
    Err(Failure::plain(format!("{} can't be run: {error}", program.path.display())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_daemon_is_replaced() {
        let of = |version: &str, protocol| {
            skew(&Welcome { protocol, version: version.to_owned(), pid: 1, stats: None })
        };
        assert_eq!(of(env!("CARGO_PKG_VERSION"), VERSION), Skew::None);
        assert_eq!(of("0.0.9", VERSION), Skew::DaemonOlder);
        assert_eq!(of("0.1.0-rc.1", VERSION), Skew::DaemonOlder);
        assert_eq!(of("99.0.0", VERSION), Skew::None);
        assert_eq!(of("99.0.0", VERSION + 1), Skew::DaemonNewer);
        assert_eq!(of("nonsense", VERSION), Skew::DaemonOlder);
    }
}
