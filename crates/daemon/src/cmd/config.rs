//! `nemoterm config`: what is set, why, and how to change it.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command as Process,
    time::Duration,
};

use nemoterm_protocol::{
    Complete, Reply, Request, State, Status,
    client::{Client, ClientError},
    runtime::Runtime,
};
use serde::Serialize;

use super::loading;
use crate::{
    backend::Own,
    complete::Plan,
    config::{self, BackendName, Config, Key, Origin, Settings, Value, file},
    failure::Failure,
    http, models,
};

/// How long a daemon may take to load another model.
const LOAD: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show every key with its value
    Show {
        /// With the file and line, the variable or the default a value comes from
        #[arg(long)]
        origin: bool,
        /// As JSON, origins included
        #[arg(long)]
        json: bool,
    },
    /// Print a key's value; nothing where it has none
    Get {
        /// A key that `nemoterm config show` lists
        key: String,
    },
    /// Set a key in the file; the running daemon takes it at once where it can
    Set {
        /// A key that `nemoterm config show` lists
        key: String,
        /// Its value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key out of the file, so that its default holds
    Unset {
        /// A key of the file
        key: String,
    },
    /// Edit the file in $VISUAL or $EDITOR; what can't be used is told, and does not get into it
    Edit,
    /// Print where the file lies
    Path,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show { origin, json } => show(*origin, *json),
        Command::Get { key } => get(Key::of(key)?),
        Command::Set { key, value } => set(Key::of(key)?, value),
        Command::Unset { key } => unset(key),
        Command::Edit => edit(),
        Command::Path => Ok(writeln!(io::stdout(), "{}", config::path_or_failure()?.display())?),
    }
}

fn show(origins: bool, json: bool) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Printed {
        key: &'static str,
        value: Option<String>,
        origin: String,
    }
    let settings = Settings::load()?;
    let mut out = io::stdout().lock();
    if json {
        let rows = settings.rows.into_iter().map(|(key, value, origin)| Printed {
            key: key.name(),
            value: value.map(|value| value.to_string()).or_else(|| key.default_value().map(str::to_owned)),
            origin: origin.to_string(),
        });
        writeln!(out, "{}", serde_json::to_string(&rows.collect::<Vec<_>>())?)?;
        return Ok(());
    }
    for (key, value, origin) in settings.rows {
        let value = value.map_or_else(|| key.otherwise().to_owned(), |value| value.to_string());
        if origins {
            writeln!(out, "{:<16} {value:<28} {origin}", key.name())?;
        } else {
            writeln!(out, "{:<16} {value}", key.name())?;
        }
    }
    Ok(())
}

fn get(key: Key) -> anyhow::Result<()> {
    let settings = Settings::load()?;
    let set = settings.rows.into_iter().find(|row| row.0 == key).and_then(|row| row.1);
    if let Some(value) = set.map(|value| value.to_string()).or(key.default_value().map(str::to_owned)) {
        writeln!(io::stdout(), "{value}")?;
    }
    Ok(())
}

fn set(key: Key, given: &str) -> anyhow::Result<()> {
    // What is a path must mean the same wherever the daemon runs.
    let given = match key {
        Key::Model => models::absolute(given),
        Key::HttpTokenFile | Key::RemoteKeyFile | Key::RemoteCaFile => {
            std::path::absolute(given).map_or(given.to_owned(), |path| path.display().to_string())
        }
        _ => given.to_owned(),
    };
    let value = key.read(&given);
    if !Config::default().put(key, &value) {
        let hint = format!("nemoterm config set {} VALUE", key.name());
        return Err(Failure::new(key.refusal(&format!("{given:?}")), hint).into());
    }
    let path = config::path_or_failure()?;
    let before = file::read(&path)?;
    let text = file::with(&path, &before.clone().unwrap_or_else(file::template), key, &value)?;
    // The file as it will be, without this shell's variables, is what the daemon finds.
    let after = Settings::of(&path, &text, |_| None)?.config;
    check(key, &after)?;
    file::write(&path, &text)?;
    eprintln!("{} = {value} is written to {}", key.name(), path.display());
    changed(&path, before.as_deref())
}

/// Tries what can't be seen from the value alone.
fn check(key: Key, config: &Config) -> anyhow::Result<()> {
    match key {
        // It is loaded once here, so that a model that does not work changes nothing.
        Key::Model | Key::Quantize => {
            let (_, model) = models::check(config.model_name(), config)?;
            super::model::say_if_not_kept(&model);
        }
        Key::Http | Key::HttpTokenFile => {
            let address = config.http.as_deref().unwrap_or("127.0.0.1:0");
            http::Settings::new(address, config)?;
        }
        Key::Threads | Key::Drafts | Key::GpuMemory | Key::UnloadMinutes | Key::IdleMinutes | Key::Stats => {}
        Key::Backend
        | Key::RemoteUrl
        | Key::RemoteModel
        | Key::RemoteKeyFile
        | Key::RemoteKeyEnv
        | Key::RemoteCaFile
        | Key::RemoteWaitMs => try_remote(config)?,
    }
    Ok(())
}

/// Asks the remote server for a completion. One that does not answer may be there tomorrow, so that is only told.
fn try_remote(config: &Config) -> anyhow::Result<()> {
    let Some(mut own) = Own::remote(config)? else { return Ok(()) };
    let line = "git ".to_owned();
    let plan = Plan::new(&Complete { cursor: line.len(), line, max_tokens: 1, ..Complete::default() })?;
    if let Err(failure) = own.write(&plan, None) {
        eprintln!("note: {failure} ({}); until it answers, {} does", failure.hint, config.model_name());
    }
    Ok(())
}

fn unset(name: &str) -> anyhow::Result<()> {
    let path = config::path_or_failure()?;
    let before = file::read(&path)?;
    let Some(text) = file::without(&path, before.as_deref().unwrap_or_default(), name)? else {
        Key::of(name)?;
        eprintln!("{name} is not set in {}", path.display());
        return Ok(());
    };
    // A file that is right stays so; one that is wrong is being mended.
    let check = |text: &str| Settings::of(&path, text, |_| None);
    if before.as_deref().is_some_and(|before| check(before).is_ok()) {
        check(&text)?;
    }
    file::write(&path, &text)?;
    eprintln!("{name} is taken out of {}", path.display());
    changed(&path, before.as_deref())
}

/// Has a draft of the file edited, and takes its place when all of it can be used. Until then the draft stays, to go on with.
fn edit() -> anyhow::Result<()> {
    let path = config::path_or_failure()?;
    let before = file::read(&path)?;
    let draft = path.with_file_name("config.draft.toml");
    let left = file::read(&draft)?;
    if left.is_some() {
        eprintln!("going on with {}; remove it to begin with {} anew", draft.display(), path.display());
    }
    let given = left.or(before.clone()).unwrap_or_else(file::template);
    file::write(&draft, &given)?;
    run_editor(&draft)?;
    let text = file::read(&draft)?.unwrap_or_default();
    if before.as_ref() == Some(&text) {
        eprintln!("nothing has changed");
        return Ok(fs::remove_file(&draft)?);
    }
    take_draft(&path, before.as_deref(), &draft, &text)?;
    fs::remove_file(&draft)?;
    changed(&path, before.as_deref())
}

/// Opens a file in the user's editor. One that fails leaves it as it was before, and a draft nobody wrote in goes.
fn run_editor(draft: &Path) -> anyhow::Result<()> {
    let given = file::read(draft)?;
    let named = |name| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // These variables hold a command, with its arguments.
    let status = Process::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg(&editor)
        .arg(draft)
        .status()
        .map_err(|error| Failure::new(format!("/bin/sh can't be run: {error}"), "edit the file yourself"))?;
    if status.success() {
        return Ok(());
    }
    if file::read(draft)? == given {
        fs::remove_file(draft)?;
    }
    let hint = "set EDITOR to one that works, or change one key: nemoterm config set KEY VALUE";
    Err(Failure::new(format!("the editor {editor} failed ({status})"), hint).into())
}

/// Puts what was written into the place of the file, where it can be used and nobody has changed that meanwhile.
fn take_draft(path: &Path, before: Option<&str>, draft: &Path, text: &str) -> anyhow::Result<()> {
    let goes_on = "nemoterm config edit goes on with what you wrote";
    let after =
        Settings::of(draft, text, |_| None).map_err(|failure| Failure::new(failure.message, goes_on))?;
    for key in changed_keys(path, before, &after) {
        check(key, &after.config).map_err(|error| {
            let Failure { message, hint } = Failure::of(error);
            Failure::new(message, format!("{hint}; {goes_on}"))
        })?;
    }
    if file::read(path)?.as_deref() != before {
        return Err(Failure::new(format!("{} has changed while you edited", path.display()), goes_on).into());
    }
    Ok(file::write(path, text)?)
}

/// The keys whose values differ between a text of the file and the settings of another one.
fn changed_keys(path: &Path, before: Option<&str>, after: &Settings) -> Vec<Key> {
    // A file that was wrong held nothing.
    let before = Settings::of(path, before.unwrap_or_default(), |_| None).ok();
    let differs = |(key, value, _): &&(Key, Option<Value>, Origin)| {
        let old = before.as_ref().and_then(|before| before.rows.iter().find(|row| row.0 == *key));
        old.and_then(|row| row.1.as_ref()) != value.as_ref()
    };
    after.rows.iter().filter(differs).map(|row| row.0).collect()
}

/// Checks the file as it is now, says where a variable wins over what has changed in it, and has the running daemon take
/// the rest.
fn changed(path: &Path, before: Option<&str>) -> anyhow::Result<()> {
    let text = file::read(path)?.unwrap_or_default();
    let after = Settings::of(path, &text, |_| None)?;
    let mut changed = changed_keys(path, before, &after);
    changed.retain(|key| {
        let hidden = env::var_os(key.variable()).is_some_and(|value| !value.is_empty());
        if hidden {
            eprintln!("note: {} is set here and wins over the file", key.variable());
        }
        !hidden
    });
    let wants_network = changed.contains(&Key::Http) && after.config.http.is_some()
        || changed.contains(&Key::Backend) && after.config.backend == BackendName::Openai;
    if wants_network && is_sandboxed(path) {
        eprintln!("its service gets a network when it is installed again: nemoterm daemon install");
    }
    let Some(client) = running()? else { return Ok(()) };
    let failed = matches!(status(&client)?.state, State::Failed { .. });
    if failed
        || changed.iter().any(|key| {
            matches!(key, Key::Model | Key::Quantize | Key::Threads | Key::Drafts | Key::GpuMemory)
        })
    {
        load(&client, Settings::load()?.config.model_name())?;
        eprintln!("the running daemon has taken it");
    } else if changed.iter().any(|key| key.is_followed()) {
        // It looks into the file whenever a client comes or goes, and we are one.
        eprintln!("the running daemon has taken it");
    }
    if changed.iter().any(|key| matches!(key, Key::Http | Key::HttpTokenFile)) {
        match status(&client)? {
            Status { http: Some(address), .. } => eprintln!("HTTP is served on http://{address}/v1"),
            Status { http_error: Some(error), .. } => {
                eprintln!("note: {} ({})", error.message, error.hint.unwrap_or_default());
            }
            _ => eprintln!("HTTP is not served"),
        }
    }
    Ok(())
}

/// The file of the daemon's service, where it may be one; `path` is that of the configuration.
fn unit(path: &Path) -> Option<PathBuf> {
    Some(path.ancestors().nth(2)?.join("systemd/user/nemoterm.service"))
}

/// Whether the daemon is a service.
fn service(path: &Path) -> bool {
    unit(path).is_some_and(|unit| unit.exists())
}

/// Whether it is one that was installed without a network.
fn is_sandboxed(path: &Path) -> bool {
    let text = unit(path).and_then(|unit| fs::read_to_string(unit).ok());
    text.is_some_and(|text| !text.contains("AF_INET"))
}

/// A conversation with the running daemon; nothing where none runs.
pub fn running() -> anyhow::Result<Option<Client>> {
    let located = Runtime::locate().map_err(Into::into);
    // A service manager that listens would start one for us.
    let is_service = config::path().is_some_and(|path| service(&path));
    let connect = |runtime: Runtime| {
        if is_service && !runtime.is_locked() {
            return Err(ClientError::NotRunning);
        }
        Client::connect(&runtime, Duration::from_secs(1))
    };
    match located.and_then(connect) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NotRunning) => Ok(None),
        Err(error) => Err(Failure::new(error.to_string(), "nemoterm daemon restart").into()),
    }
}

/// Has the daemon load a model, as the configuration says now; it answers with its present one until it is there.
pub fn load(client: &Client, model: &str) -> anyhow::Result<()> {
    // The conversation is busy with the answer, so how far it is comes over another one.
    let share = || match running().ok()??.ask(&Request::Status, Duration::from_secs(1)) {
        Ok(Reply::Status(status)) => status.loading.map(|loading| loading.share),
        _ => None,
    };
    let ask = || client.ask(&Request::UseModel { model: model.to_owned() }, LOAD);
    match loading::watch("the daemon loads it", share, ask)? {
        Reply::Status(_) => Ok(()),
        Reply::Error(error) => Err(Failure::new(error.message, error.hint.unwrap_or_default()).into()),
        other => anyhow::bail!("the daemon answered {other:?}"),
    }
}

fn status(client: &Client) -> anyhow::Result<Status> {
    match client.ask(&Request::Status, Duration::from_secs(1))? {
        Reply::Status(status) => Ok(*status),
        other => anyhow::bail!("the daemon answered {other:?}"),
    }
}
