//! The configuration: the file `nemoterm/config.toml` in the user's configuration directory, and variables of the
//! environment that win over it.

pub mod file;
mod key;

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use toml_edit::{Document, Item, TomlError};

pub use key::{Key, Value};

use crate::{
    failure::Failure,
    models::{EMBEDDED, Quantize},
};

/// Minutes without a client after which the daemon ends, where nothing is set.
const IDLE_MINUTES: u64 = 60;

/// Minutes without a request after which a large model is let go of on battery or where memory is short, where nothing is set.
const SCARCE_MINUTES: u64 = 10;

/// What can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// A preset's name, a name on the Hub, a directory or a GGUF file. The embedded model where nothing is set.
    pub model: Option<String>,
    /// How the model's weights are quantised when it is loaded. As they are in its files where nothing is set.
    pub quantize: Option<Quantize>,
    /// Threads the model runs on. As many as the engine sees fit where nothing is set.
    pub threads: Option<usize>,
    /// Whether no tokens are drafted.
    pub no_drafts: bool,
    /// MiB of a graphics card's memory that the model may take; 0 keeps off it. All there is where nothing is set.
    pub gpu_memory: Option<u64>,
    /// The model is let go of after so many minutes in which nobody asked; 0 is never. What the machine can afford decides
    /// where nothing is set.
    pub unload_minutes: Option<u64>,
    /// Whether it is not counted what was suggested and taken.
    pub no_stats: bool,
    /// The daemon ends after so many minutes without a client; 0 is never.
    pub idle_minutes: Option<u64>,
    /// Address and port of the HTTP server, such as `127.0.0.1:8000`. There is none where nothing is set.
    pub http: Option<String>,
    /// A file that holds the token which HTTP clients must know. Without one, only this machine is served.
    pub http_token_file: Option<String>,
    /// Who completes.
    pub backend: BackendName,
    /// The server that does where it is [`BackendName::Openai`].
    pub remote: Remote,
}

/// When a model that nobody asks is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unload {
    Never,
    /// After that time.
    After(Duration),
    /// After that time, where it is large and the machine runs on a battery or is short of memory.
    WhereScarce(Duration),
}

/// Who completes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendName {
    /// The model of the daemon.
    #[default]
    Local,
    /// A server elsewhere that speaks OpenAI's API, and the model of the daemon where it does not answer.
    Openai,
}

/// A server elsewhere. The key itself is never part of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// Where it is, such as `http://gpu.example:8000/v1`.
    pub url: Option<String>,
    /// What it calls its model.
    pub model: Option<String>,
    /// A file that holds the key.
    pub key_file: Option<String>,
    /// A variable of the environment that holds it, in place of a file.
    pub key_env: Option<String>,
    /// A file with certificates that vouch for it, in place of the system's.
    pub ca_file: Option<String>,
    /// How long an answer may take, in milliseconds.
    pub wait_ms: Option<u64>,
}

impl Config {
    /// What holds: the variables, then the file, then the defaults.
    ///
    /// # Errors
    /// Where the file can't be read, or something in it or a variable is not allowed: the key, the place and what is
    /// allowed are named.
    pub fn load() -> Result<Self, Failure> {
        Settings::load().map(|settings| settings.config)
    }

    /// The name of the model that is set, or of the embedded one.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or(EMBEDDED)
    }

    /// How long the model stays while nobody asks.
    pub fn unload(&self) -> Unload {
        match self.unload_minutes {
            None => Unload::WhereScarce(Duration::from_secs(60 * SCARCE_MINUTES)),
            Some(0) => Unload::Never,
            Some(minutes) => Unload::After(Duration::from_secs(60 * minutes)),
        }
    }

    /// How long the daemon stays without a client; zero is for ever.
    pub fn idle_time(&self) -> Duration {
        Duration::from_secs(60 * self.idle_minutes.unwrap_or(IDLE_MINUTES))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// The configuration with the origin of each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub config: Config,
    /// Every key once, in their order. No value is the default.
    pub rows: Vec<(Key, Option<Value>, Origin)>,
}

impl Settings {
    /// As [`Config::load`].
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load() -> Result<Self, Failure> {
        let path = path().unwrap_or_default();
        let text = file::read(&path)?.unwrap_or_default();
        Self::of(&path, &text, |name| env::var_os(name))
    }

    /// What a text of the file and an environment make together.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of(path: &Path, text: &str, var: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let mut config = Config::default();
        let mut rows: Vec<_> = Key::ALL.into_iter().map(|key| (key, None, Origin::Default)).collect();
        let mut put = |config: &mut Config, key: Key, value: Value, origin: Origin| {
            let taken = config.put(key, &value);
            if taken && let Some(row) = rows.iter_mut().find(|row| row.0 == key) {
                *row = (key, Some(value), origin);
            }
            taken
        };
        let document = Document::parse(text).map_err(|error| not_toml(path, text, &error))?;
        for (name, item) in document.iter() {
            let span = document.as_table().key(name).and_then(toml_edit::Key::span);
            let line = line_of(text, span.map_or(0, |span| span.start));
            let place = format!("{}, line {line}", path.display());
            let Ok(key) = Key::of(name) else {
                let hint =
                    format!("nemoterm config unset {name} takes it out; nemoterm config edit opens the file");
                return Err(Failure::new(format!("{place}: {}", key::unknown(name)), hint));
            };
            let origin = Origin::File { path: path.to_path_buf(), line };
            if !value(item).is_some_and(|value| put(&mut config, key, value, origin)) {
                let written = item.span().and_then(|span| text.get(span)).unwrap_or("a table");
                let hint = format!(
                    "nemoterm config unset {name} takes it out; nemoterm config set {name} VALUE replaces it"
                );
                return Err(Failure::new(format!("{place}: {}", key.refusal(written)), hint));
            }
        }
        for key in Key::ALL {
            let name = key.variable();
            // One that is set to nothing counts as not set.
            let Some(given) = var(name).filter(|given| !given.is_empty()) else { continue };
            let text = given.to_str().map(str::to_owned);
            let taken =
                text.is_some_and(|text| put(&mut config, key, key.read(&text), Origin::Variable(name)));
            if !taken {
                let hint = format!("unset {name}, or set it to what is allowed");
                return Err(Failure::new(format!("{name}: {}", key.refusal(&format!("{given:?}"))), hint));
            }
        }
        if config.backend == BackendName::Openai {
            let missing = [
                (Key::RemoteUrl, config.remote.url.is_none()),
                (Key::RemoteModel, config.remote.model.is_none()),
            ];
            if let Some((key, _)) = missing.into_iter().find(|(_, missing)| *missing) {
                let origin = rows.iter().find(|row| row.0 == Key::Backend).map(|row| row.2.to_string());
                let example = key.example_line();
                return Err(Failure::new(
                    format!(
                        "{}: backend = \"openai\" needs {} as well, such as {example}",
                        origin.unwrap_or_default(),
                        key.name()
                    ),
                    format!("nemoterm config set {} VALUE; nemoterm config unset backend", key.name()),
                ));
            }
        }
        Ok(Self { config, rows })
    }
}

/// Where the file lies. `None` without a home directory.
pub fn path() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.config_dir().join("nemoterm").join("config.toml"))
}

/// The same, for those who can't do without.
///
/// # Errors
/// Without a home directory.
pub fn path_or_failure() -> Result<PathBuf, Failure> {
    path().ok_or_else(|| Failure::new("there is no home directory", "set HOME"))
}

/// Sets keys in the file, or takes them out, and keeps everything else; a file that is missing is made.
///
/// # Errors
/// Where the file is no TOML, or can't be read or written.
pub fn change(changes: &[(Key, Option<Value>)]) -> Result<PathBuf, Failure> {
    let path = path_or_failure()?;
    let mut text = file::read(&path)?.unwrap_or_else(file::template);
    for (key, value) in changes {
        text = match value {
            Some(value) => file::with(&path, &text, *key, value)?,
            None => file::without(&path, &text, key.name())?.unwrap_or(text),
        };
    }
    file::write(&path, &text)?;
    Ok(path)
}

fn value(item: &Item) -> Option<Value> {
    if let Some(text) = item.as_str() {
        return Some(Value::Text(text.to_owned()));
    }
    item.as_integer().and_then(|number| number.try_into().ok()).map(Value::Number)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

fn not_toml(path: &Path, text: &str, error: &TomlError) -> Failure {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    Failure::new(
        format!("{}, line {line}: {}", path.display(), error.message()),
        "nemoterm config edit opens the file; a line is KEY = VALUE, with text in quotes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, vars: &[(&str, &str)]) -> Result<Settings, Failure> {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Settings::of(Path::new("/c.toml"), text, var)
    }

    #[test]
    fn a_bad_value_is_named_with_its_line_and_what_is_allowed() {
        assert_eq!(of("model = \"embedded\"\nthreads = 2\n", &[]).unwrap().config.threads, Some(2));
        assert_eq!(of("", &[]).unwrap().config, Config::default());
        for (text, expected) in [
            (
                "model = \"x\"\nthreads = \"two\"\n",
                "/c.toml, line 2: threads can't be \"two\"; allowed is a whole number from 1 to 1024, such as 4",
            ),
            ("threads = \"2\"", "/c.toml, line 1: threads can't be \"2\"; allowed is a whole number"),
            ("threads = 1.5", "/c.toml, line 1: threads can't be 1.5;"),
            ("idle_minutes = -1", "/c.toml, line 1: idle_minutes can't be -1;"),
            ("quantize = true", "quantize can't be true; allowed is q8_0, q4_0, q4_k or q6_k"),
            (
                "# x\n\nhttp = '8000'",
                "/c.toml, line 3: http can't be '8000'; allowed is an address and a port",
            ),
            (
                "\ncolour = 1\n",
                "/c.toml, line 2: there is no key \"colour\"; known are model, quantize, threads",
            ),
            ("[threads]\nx = 1\n", "/c.toml, line 1: threads can't be "),
            ("model = \n", "/c.toml, line 1: "),
            ("\nbackend = 'vllm'", "/c.toml, line 2: backend can't be 'vllm'; allowed is local or openai"),
            (
                "\nbackend = 'openai'\nremote_model = 'm'",
                "/c.toml, line 2: backend = \"openai\" needs remote_url as well",
            ),
            ("remote_key_env = 'sk-123'", "remote_key_env can't be this; allowed is the name of a variable"),
            ("threads = 1\nthreads = 2\n", "/c.toml, line 2: duplicate key"),
        ] {
            let failure = of(text, &[]).unwrap_err();
            assert!(failure.message.starts_with(expected) || failure.message.contains(expected), "{failure}");
            assert!(failure.hint.contains("nemoterm config "), "{}", failure.hint);
        }
    }

    #[test]
    fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
        let settings =
            of("# head\nthreads = 2\nmodel = 'a'\n", &[("NEMOTERM_THREADS", "3"), ("NEMOTERM_HTTP", "")])
                .unwrap();
        let config = Config { model: Some("a".to_owned()), threads: Some(3), ..Config::default() };
        assert_eq!(settings.config, config);
        let shown: Vec<_> =
            settings.rows.iter().map(|(key, _, origin)| format!("{} {origin}", key.name())).collect();
        let expected = [
            "model /c.toml, line 3",
            "quantize default",
            "threads NEMOTERM_THREADS",
            "drafts default",
            "gpu_memory default",
            "unload_minutes default",
            "idle_minutes default",
            "stats default",
            "http default",
            "http_token_file default",
            "backend default",
            "remote_url default",
            "remote_model default",
            "remote_key_file default",
            "remote_key_env default",
            "remote_ca_file default",
            "remote_wait_ms default",
        ];
        assert_eq!(shown, expected);
        let message = of("", &[("NEMOTERM_QUANTIZE", "q5")]).unwrap_err().message;
        assert!(
            message.starts_with("NEMOTERM_QUANTIZE: quantize can't be \"q5\"; allowed is q8_0"),
            "{message}"
        );
        assert!(
            of("threads = 0", &[("NEMOTERM_THREADS", "3")]).is_err(),
            "the file is looked at all the same"
        );
    }

    #[test]
    fn the_default_that_is_shown_is_the_one_that_holds() {
        assert_eq!(Key::IdleMinutes.default_value(), Some(IDLE_MINUTES.to_string().as_str()));
        assert_eq!(Config::default().idle_time(), Duration::from_secs(3600));
        assert!(Key::UnloadMinutes.otherwise().contains(&format!(", else {SCARCE_MINUTES})")));
        assert_eq!(Config::default().unload(), Unload::WhereScarce(Duration::from_secs(60 * SCARCE_MINUTES)));
        let set = |minutes| Config { unload_minutes: Some(minutes), ..Config::default() }.unload();
        assert_eq!((set(0), set(2)), (Unload::Never, Unload::After(Duration::from_secs(120))));
    }
}
