//! `nemoterm daemon install` and `uninstall`: the daemon as a service of this user, by systemd or launchd.
//!
//! systemd binds the socket and starts the daemon when the first client connects. launchd starts it when the user logs in.
//! Without a service the first shell starts the daemon.

mod launchd;
mod systemd;

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    Request,
    client::Client,
    runtime::{self, Runtime},
};

use crate::{daemon, daemon_process::Program, failure::Failure};
use systemd::Sandbox;

/// Variables that say where the daemon and its libraries find what they need. The service's are those of the shell that
/// installs it, as a service manager knows none of a shell's.
const VARIABLES: &[&str] = &[
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    CUDA_CACHE,
];

/// Where the driver keeps kernels that it has compiled; without it, in the home directory.
const CUDA_CACHE: &str = "CUDA_CACHE_PATH";

/// How long a service may take to answer once it was started. It does so before it loads its model.
const ANSWER: Duration = Duration::from_secs(10);

/// What the files are made of.
#[derive(Debug)]
struct Plan {
    /// The daemon's program, its whole path.
    program: String,
    /// Where the socket lies.
    runtime: String,
    /// Whether that is where a service finds it without being told.
    is_usual: bool,
    /// What its environment holds besides the manager's.
    environment: Vec<(&'static str, String)>,
    /// Where the log lies, and where quantised weights and compiled kernels are kept.
    writes: Vec<String>,
    /// Whether HTTP is served.
    http: bool,
    /// Whether a remote server completes.
    remote: bool,
}

/// A file of the service, and what belongs into it.
#[derive(Debug)]
struct Unit {
    path: PathBuf,
    text: String,
}

/// Writes the files, has the service manager take them, and looks whether the daemon answers; or only prints them.
///
/// # Errors
/// Where there is no service manager, it fails, or the daemon does not answer; then the files are as they were.
pub fn install(runtime: &Runtime, print: bool) -> anyhow::Result<()> {
    let plan = plan(runtime)?;
    let whole = units(&plan, Sandbox::Whole)?;
    if print {
        let mut out = io::stdout().lock();
        for unit in &whole {
            writeln!(out, "# {}\n{}", unit.path.display(), unit.text)?;
        }
        return Ok(());
    }
    // It is asked for something harmless first, so that nothing is touched where it can't be reached.
    probe()?;
    let before: Vec<_> = whole.iter().map(|unit| (&unit.path, fs::read(&unit.path).ok())).collect();
    if let Err(error) = set_up(runtime, &plan, &whole) {
        // What fails from here on is told by the error that brought us here.
        let _ = disable();
        for (path, text) in &before {
            let _ = match text {
                Some(text) => fs::write(path, text),
                None => fs::remove_file(path),
            };
        }
        let _ = reload();
        if before.iter().all(|(_, text)| text.is_some()) {
            let _ = begin(&whole);
        }
        return Err(error);
    }
    for unit in &whole {
        eprintln!("installed {}", unit.path.display());
    }
    eprintln!("nemoterm daemon uninstall takes it back");
    Ok(())
}

/// Puts the service in place and starts it.
fn set_up(runtime: &Runtime, plan: &Plan, whole: &[Unit]) -> anyhow::Result<()> {
    whole.iter().try_for_each(write)?;
    // Behind a sandbox the daemon can't make them.
    for dir in &plan.writes {
        let failed = |error| Failure::new(format!("{dir} can't be made: {error}"), "mend its permissions");
        fs::create_dir_all(dir).map_err(failed)?;
    }
    // One that runs on its own would keep the lock.
    let taken = || -> anyhow::Result<()> {
        take(whole)?;
        daemon::end(runtime)?;
        Ok(begin(whole)?)
    };
    taken()?;
    if cfg!(target_os = "macos") {
        return answers(runtime);
    }
    if systemd::start().is_err() {
        if !systemd::lacks_namespaces() {
            return Err(silent("it does not start").into());
        }
        // Some systems forbid them, Ubuntu since 23.10 by default.
        units(plan, Sandbox::WithoutFiles)?.iter().try_for_each(write)?;
        taken()?;
        systemd::start().map_err(|_| silent("it does not start"))?;
        eprintln!(
            "note: this system gives a service no user namespace, so the daemon could write wherever you can; \
             system calls and networks are closed to it all the same"
        );
    }
    answers(runtime)
}

/// The error of a service that does not answer.
fn silent(why: &str) -> Failure {
    let message = format!("the service does not answer: {why}");
    if cfg!(target_os = "macos") {
        return Failure::new(message, "nemoterm daemon logs may tell why");
    }
    let hint = format!("journalctl --user -u {} may tell why", systemd::SERVICE_UNIT);
    Failure::new(format!("{message} ({})", systemd::state()), hint)
}

/// Waits until the daemon has answered a request.
fn answers(runtime: &Runtime) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let error =
            match Client::connect(runtime, ANSWER).and_then(|client| client.ask(&Request::Status, ANSWER)) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
        let is_gone = || !cfg!(target_os = "macos") && !runtime.is_locked() && systemd::has_failed();
        if Instant::now() > deadline || is_gone() {
            return Err(silent(&error.to_string()).into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Takes the service back.
///
/// # Errors
/// Where the service manager fails; then the files are as they were.
pub fn uninstall(runtime: &Runtime) -> anyhow::Result<()> {
    let present: Vec<_> = paths()?.into_iter().filter(|path| path.exists()).collect();
    if present.is_empty() {
        eprintln!("no service is installed");
        return Ok(());
    }
    disable()?;
    for path in &present {
        fs::remove_file(path)
            .map_err(|error| Failure::plain(format!("{} can't be removed: {error}", path.display())))?;
        eprintln!("removed {}", path.display());
    }
    reload()?;
    // Nobody starts it again before it is needed.
    daemon::end(runtime)?;
    Ok(())
}

/// Whether the files are there.
pub fn is_installed() -> bool {
    paths().is_ok_and(|paths| paths.iter().any(|path| path.exists()))
}

fn plan(runtime: &Runtime) -> anyhow::Result<Plan> {
    let program = Program::find()?;
    // A variable of this shell is unknown to the service.
    let set = |key: &str| {
        let mut command = Command::new(&program.path);
        command.args(["config", "get", key]);
        for (name, _) in env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        let output = command.output().ok().filter(|output| output.status.success());
        output.map(|output| output.stdout.trim_ascii().to_vec()).unwrap_or_default()
    };
    let http = !set("http").is_empty();
    let remote = set("backend") == b"openai";
    let usual = env::var_os("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())),
        PathBuf::from,
    );
    let is_usual = runtime.dir() == usual.join("nemoterm");
    let (log, cache) = (runtime::log_file(), runtime::cache_dir());
    let mut writes: Vec<_> =
        [log.and_then(|log| log.parent().map(Path::to_owned)), cache.clone()].into_iter().flatten().collect();
    let is_set = |name: &&'static str| Some((*name, env::var_os(name).filter(|value| !value.is_empty())?));
    let mut environment: Vec<_> = VARIABLES.iter().filter_map(is_set).collect();
    if !is_usual {
        environment.push(("NEMOTERM_RUNTIME_DIR", runtime.dir().into()));
    }
    // The driver would compile its kernels anew at each start where it can't keep them.
    match environment.iter().find(|(name, _)| *name == CUDA_CACHE) {
        Some((_, kernels)) => writes.push(kernels.into()),
        None if program.path.ends_with("nemotermd-cuda") => {
            let kernels = cache.map(|cache| cache.join("cuda"));
            environment.extend(kernels.map(|kernels| (CUDA_CACHE, kernels.into())));
        }
        None => {}
    }
    let environment = environment.into_iter().map(|(name, value)| Ok((name, text(Path::new(&value))?)));
    Ok(Plan {
        program: text(&std::path::absolute(&program.path)?)?,
        is_usual,
        runtime: text(runtime.dir())?,
        environment: environment.collect::<Result<_, Failure>>()?,
        writes: writes.iter().map(|path| text(path)).collect::<Result<_, _>>()?,
        http,
        remote,
    })
}

/// Whether a variable may be one that wins over a key of the configuration.
fn is_setting(name: &OsStr) -> bool {
    let elsewhere = ["NEMOTERM_RUNTIME_DIR", "NEMOTERM_DAEMON"];
    name.to_str().is_some_and(|name| name.starts_with("NEMOTERM_") && !elsewhere.contains(&name))
}

/// A path that can stand in a file of the service.
fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        Failure::new(format!("the path {} is no plain text", path.display()), "install nemoterm elsewhere")
    })
}

/// Whether it listens; nothing where none is installed, or that can't be told.
pub fn is_listening(runtime: &Runtime) -> Option<bool> {
    if !is_installed() || cfg!(target_os = "macos") {
        return None;
    }
    Some(runtime.socket().exists() && systemd::is_listening().unwrap_or(true))
}

/// Where the files lie.
fn paths() -> Result<Vec<PathBuf>, Failure> {
    let dirs =
        directories::BaseDirs::new().ok_or_else(|| Failure::new("there is no home directory", "set HOME"))?;
    if cfg!(target_os = "macos") {
        return Ok(vec![
            dirs.home_dir().join("Library/LaunchAgents").join(format!("{}.plist", launchd::LABEL)),
        ]);
    }
    let dir = dirs.config_dir().join("systemd/user");
    Ok(vec![dir.join(systemd::SOCKET_UNIT), dir.join(systemd::SERVICE_UNIT)])
}

/// The files of the service.
fn units(plan: &Plan, sandbox: Sandbox) -> Result<Vec<Unit>, Failure> {
    let texts = if cfg!(target_os = "macos") {
        vec![plan.agent()]
    } else {
        vec![plan.socket(), plan.service(sandbox)]
    };
    Ok(paths()?.into_iter().zip(texts).map(|(path, text)| Unit { path, text }).collect())
}

fn write(unit: &Unit) -> Result<(), Failure> {
    let written = || {
        fs::create_dir_all(unit.path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&unit.path, &unit.text)
    };
    written().map_err(|error| {
        Failure::new(format!("{} can't be written: {error}", unit.path.display()), "mend its permissions")
    })
}

fn probe() -> Result<(), Failure> {
    if cfg!(target_os = "macos") { launchd::probe() } else { systemd::reload() }
}

fn reload() -> Result<(), Failure> {
    if cfg!(target_os = "macos") { Ok(()) } else { systemd::reload() }
}

fn disable() -> Result<(), Failure> {
    if cfg!(target_os = "macos") { launchd::disable() } else { systemd::disable() }
}

/// Has the service manager know the files, and nothing run of them.
fn take(units: &[Unit]) -> Result<(), Failure> {
    match units {
        [socket, service] => systemd::take([&socket.path, &service.path]),
        _ => Ok(()),
    }
}

/// Has the service manager listen for clients, or run the daemon.
fn begin(units: &[Unit]) -> Result<(), Failure> {
    match units {
        [agent] => launchd::enable(&agent.path),
        _ => systemd::listen(),
    }
}

/// Runs the service manager's program.
fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    let hint = "nothing has to be installed: without a service the first shell starts the daemon";
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("there is no {program} here"), hint));
        }
        Err(error) => return Err(Failure::new(format!("{program} can't be run: {error}"), hint)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Failure::new(format!("{program} {} failed: {said}", args.join(" ")), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn plan() -> Plan {
        Plan {
            program: "/opt/a \"b\" 100%/nemotermd".to_owned(),
            runtime: "/run/user/7/nemoterm".to_owned(),
            is_usual: true,
            environment: Vec::new(),
            writes: ["/home/u/.local/state/nemoterm", "/home/u/.cache/$1"].map(str::to_owned).to_vec(),
            http: false,
            remote: false,
        }
    }
}
