//! What can be set, and to what.

use clap::ValueEnum as _;

use super::{BackendName, Config};
use crate::{
    backend::remote,
    failure::Failure,
    http,
    models::{EMBEDDED, Quantize},
};

/// More threads than any machine has that a model of ours would run on.
const MAX_THREADS: u64 = 1024;

/// A TiB, in MiB.
const MAX_GPU_MEMORY: u64 = 1 << 20;

/// A year.
const MAX_IDLE_MINUTES: u64 = 525_600;

/// A minute.
const MAX_REMOTE_WAIT_MS: u64 = 60_000;

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Model,
    Quantize,
    Threads,
    Drafts,
    GpuMemory,
    UnloadMinutes,
    IdleMinutes,
    Stats,
    Http,
    HttpTokenFile,
    Backend,
    RemoteUrl,
    RemoteModel,
    RemoteKeyFile,
    RemoteKeyEnv,
    RemoteCaFile,
    RemoteWaitMs,
}

/// A value as it stands in the file or in a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// What people are told of a key.
struct About {
    name: &'static str,
    variable: &'static str,
    purpose: &'static str,
    allowed: &'static str,
    /// What holds where nothing is set.
    otherwise: &'static str,
    example: &'static str,
}

impl Key {
    pub const ALL: [Self; 17] = [
        Self::Model,
        Self::Quantize,
        Self::Threads,
        Self::Drafts,
        Self::GpuMemory,
        Self::UnloadMinutes,
        Self::IdleMinutes,
        Self::Stats,
        Self::Http,
        Self::HttpTokenFile,
        Self::Backend,
        Self::RemoteUrl,
        Self::RemoteModel,
        Self::RemoteKeyFile,
        Self::RemoteKeyEnv,
        Self::RemoteCaFile,
        Self::RemoteWaitMs,
    ];

    const fn about(self) -> About {
        match self {
            Self::Model => About {
                name: "model",
                variable: "NEMOTERM_MODEL",
                purpose: "what completes",
                allowed: "a name that nemoterm model list shows, OWNER/NAME on the Hub, a directory or a GGUF file",
                otherwise: EMBEDDED,
                example: EMBEDDED,
            },
            Self::Quantize => About {
                name: "quantize",
                variable: "NEMOTERM_QUANTIZE",
                purpose: "how the model's weights are quantised when it is loaded",
                allowed: "q8_0, q4_0, q4_k or q6_k",
                otherwise: "(as in the model's files)",
                example: "q8_0",
            },
            Self::Threads => About {
                name: "threads",
                variable: "NEMOTERM_THREADS",
                purpose: "threads the model runs on",
                allowed: "a whole number from 1 to 1024",
                otherwise: "(as many as suit the model)",
                example: "4",
            },
            Self::Drafts => About {
                name: "drafts",
                variable: "NEMOTERM_DRAFTS",
                purpose: "whether tokens are guessed from the context and verified several at a time; the text is the same",
                allowed: "on or off",
                otherwise: "on",
                example: "off",
            },
            Self::GpuMemory => About {
                name: "gpu_memory",
                variable: "NEMOTERM_GPU_MEMORY",
                purpose: "MiB of the graphics card's memory the model may take; 0 keeps off it",
                allowed: "a whole number from 0 to 1048576",
                otherwise: "(all there is)",
                example: "6000",
            },
            Self::UnloadMinutes => About {
                name: "unload_minutes",
                variable: "NEMOTERM_UNLOAD_MINUTES",
                purpose: "minutes without a request after which the model is let go of, until the next key; 0 is never",
                allowed: "a whole number from 0 to 525600",
                otherwise: "(never where power and memory suffice, else 10)",
                example: "30",
            },
            Self::Stats => About {
                name: "stats",
                variable: "NEMOTERM_STATS",
                purpose: "whether it is counted, on this machine only, what was suggested and taken",
                allowed: "on or off",
                otherwise: "on",
                example: "off",
            },
            Self::IdleMinutes => About {
                name: "idle_minutes",
                variable: "NEMOTERM_IDLE_MINUTES",
                purpose: "minutes without a client after which the daemon ends; 0 is never",
                allowed: "a whole number from 0 to 525600",
                otherwise: "60",
                example: "60",
            },
            Self::Http => About {
                name: "http",
                variable: "NEMOTERM_HTTP",
                purpose: "where OpenAI's API is served",
                allowed: "an address and a port",
                otherwise: "(not served)",
                example: "127.0.0.1:8000",
            },
            Self::HttpTokenFile => About {
                name: "http_token_file",
                variable: "NEMOTERM_HTTP_TOKEN_FILE",
                purpose: "a file with the token that HTTP clients must know; without one only this machine is served",
                allowed: "the path of a file",
                otherwise: "(no token)",
                example: "/home/me/.nemoterm-token",
            },
            Self::Backend => About {
                name: "backend",
                variable: "NEMOTERM_BACKEND",
                purpose: "who completes: the model of this machine, or a server elsewhere",
                allowed: "local or openai",
                otherwise: "local",
                example: "openai",
            },
            Self::RemoteUrl => About {
                name: "remote_url",
                variable: "NEMOTERM_REMOTE_URL",
                purpose: "where that server speaks OpenAI's API",
                allowed: "an http or https URL without user, query and fragment",
                otherwise: "(none)",
                example: "http://gpu.example:8000/v1",
            },
            Self::RemoteModel => About {
                name: "remote_model",
                variable: "NEMOTERM_REMOTE_MODEL",
                purpose: "what that server calls its model",
                allowed: "a name",
                otherwise: "(none)",
                example: "nvidia/Nemotron-Mini-4B-Instruct",
            },
            Self::RemoteKeyFile => About {
                name: "remote_key_file",
                variable: "NEMOTERM_REMOTE_KEY_FILE",
                purpose: "a file with the key of that server",
                allowed: "the path of a file",
                otherwise: "(no key)",
                example: "/home/me/.remote-key",
            },
            Self::RemoteKeyEnv => About {
                name: "remote_key_env",
                variable: "NEMOTERM_REMOTE_KEY_ENV",
                purpose: "a variable of the daemon's environment that holds the key, in place of a file",
                allowed: "the name of a variable",
                otherwise: "(no key)",
                example: "OPENAI_API_KEY",
            },
            Self::RemoteCaFile => About {
                name: "remote_ca_file",
                variable: "NEMOTERM_REMOTE_CA_FILE",
                purpose: "a file with certificates that vouch for that server, in place of the system's, where the URL is https",
                allowed: "the path of a file",
                otherwise: "(the system's)",
                example: "/etc/ssl/certs/company.pem",
            },
            Self::RemoteWaitMs => About {
                name: "remote_wait_ms",
                variable: "NEMOTERM_REMOTE_WAIT_MS",
                purpose: "milliseconds an answer of that server may take",
                allowed: "a whole number from 10 to 60000",
                otherwise: "5000",
                example: "5000",
            },
        }
    }

    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// The variable of the environment that wins over the file.
    pub fn variable(self) -> &'static str {
        self.about().variable
    }

    pub fn purpose(self) -> &'static str {
        self.about().purpose
    }

    /// What holds where nothing is set: a value, or words in parentheses.
    pub fn otherwise(self) -> &'static str {
        self.about().otherwise
    }

    /// The default as a value, where there is one.
    pub fn default_value(self) -> Option<&'static str> {
        Some(self.otherwise()).filter(|text| !text.starts_with('('))
    }

    /// A line of the file that sets this key.
    pub fn example_line(self) -> String {
        // What is read as a number is written as one.
        let example = self.about().example;
        match self.read(example) {
            Value::Number(number) => format!("{} = {number}", self.name()),
            Value::Text(text) => format!("{} = {text:?}", self.name()),
        }
    }

    /// Whether it is about the server elsewhere.
    pub fn is_remote(self) -> bool {
        self == Self::Backend || self.name().starts_with("remote_")
    }

    /// Whether the daemon looks at it whenever a client comes or goes.
    pub fn is_followed(self) -> bool {
        matches!(self, Self::UnloadMinutes | Self::IdleMinutes | Self::Stats) || self.is_remote()
    }

    /// The key of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn of(name: &str) -> Result<Self, Failure> {
        let known = || Failure::new(unknown(name), "nemoterm config show lists the keys with their values");
        Self::ALL.into_iter().find(|key| key.name() == name).ok_or_else(known)
    }

    /// A value from a command line or a variable. Whether it is allowed is for [`Config::put`] to say.
    pub fn read(self, text: &str) -> Value {
        let number = match self {
            Self::Threads
            | Self::GpuMemory
            | Self::UnloadMinutes
            | Self::IdleMinutes
            | Self::RemoteWaitMs => text.trim().parse().ok(),
            _ => None,
        };
        number.map_or_else(|| Value::Text(text.to_owned()), Value::Number)
    }

    /// The message for a value that is not allowed, as it was written.
    pub fn refusal(self, written: &str) -> String {
        let About { name, allowed, example, .. } = self.about();
        // Someone may have taken them for the place of the key itself.
        let may_be_secret = matches!(self, Self::RemoteKeyFile | Self::RemoteKeyEnv | Self::RemoteUrl);
        let written = if may_be_secret { "this" } else { written };
        let short: String = written.chars().take(60).collect();
        format!("{name} can't be {short}; allowed is {allowed}, such as {example}")
    }
}

/// The message for a key that does not exist.
pub fn unknown(name: &str) -> String {
    let names = Key::ALL.map(Key::name);
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("there is no key \"{name}\"; known are {} and {last}", others.join(", "))
}

impl Config {
    /// Takes a value; false where the key does not allow it.
    pub fn put(&mut self, key: Key, value: &Value) -> bool {
        match (key, value) {
            (Key::Model, Value::Text(text)) if is_line(text) => self.model = Some(text.clone()),
            (Key::Quantize, Value::Text(text)) => match Quantize::from_str(text, false) {
                Ok(quantize) => self.quantize = Some(quantize),
                Err(_) => return false,
            },
            (Key::Threads, &Value::Number(number @ 1..=MAX_THREADS)) => self.threads = Some(number as usize),
            (Key::Drafts, Value::Text(text)) => match text.as_str() {
                "on" => self.no_drafts = false,
                "off" => self.no_drafts = true,
                _ => return false,
            },
            (Key::GpuMemory, &Value::Number(number @ 0..=MAX_GPU_MEMORY)) => self.gpu_memory = Some(number),
            (Key::UnloadMinutes, &Value::Number(number @ 0..=MAX_IDLE_MINUTES)) => {
                self.unload_minutes = Some(number);
            }
            (Key::Stats, Value::Text(text)) => match text.as_str() {
                "on" => self.no_stats = false,
                "off" => self.no_stats = true,
                _ => return false,
            },
            (Key::IdleMinutes, &Value::Number(number @ 0..=MAX_IDLE_MINUTES)) => {
                self.idle_minutes = Some(number);
            }
            (Key::Http, Value::Text(text)) if http::address(text).is_some() => self.http = Some(text.clone()),
            (Key::HttpTokenFile, Value::Text(text)) if is_line(text) => {
                self.http_token_file = Some(text.clone());
            }
            (Key::Backend, Value::Text(text)) => match BackendName::from_str(text, false) {
                Ok(backend) => self.backend = backend,
                Err(_) => return false,
            },
            (Key::RemoteUrl, Value::Text(text)) if remote::base_url(text).is_some() => {
                self.remote.url = Some(text.clone());
            }
            (Key::RemoteModel, Value::Text(text)) if is_line(text) => self.remote.model = Some(text.clone()),
            (Key::RemoteKeyFile, Value::Text(text)) if is_line(text) => {
                self.remote.key_file = Some(text.clone());
            }
            (Key::RemoteKeyEnv, Value::Text(text)) if is_variable(text) => {
                self.remote.key_env = Some(text.clone());
            }
            (Key::RemoteCaFile, Value::Text(text)) if is_line(text) => {
                self.remote.ca_file = Some(text.clone());
            }
            (Key::RemoteWaitMs, &Value::Number(number @ 10..=MAX_REMOTE_WAIT_MS)) => {
                self.remote.wait_ms = Some(number);
            }
            _ => return false,
        }
        true
    }
}

/// Whether a text can be the name of a variable of the environment. A key itself is hardly one: most hold a dash.
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a text is a name or a path: something, without line breaks and other control characters.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_takes_its_own_example_and_default() {
        for key in Key::ALL {
            for text in [Some(key.about().example), key.default_value()].into_iter().flatten() {
                assert!(Config::default().put(key, &key.read(text)), "{} {text}", key.name());
            }
            assert_eq!(key.variable(), format!("NEMOTERM_{}", key.name().to_uppercase()));
            assert_eq!(Key::of(key.name()), Ok(key));
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        for (key, text) in [
            (Key::Model, ""),
            (Key::Model, "a\nb"),
            (Key::Quantize, "q5"),
            (Key::Quantize, "Q8_0"),
            (Key::Threads, "0"),
            (Key::Threads, "-1"),
            (Key::Threads, "1.5"),
            (Key::Threads, "1025"),
            (Key::IdleMinutes, "525601"),
            (Key::IdleMinutes, "an hour"),
            (Key::GpuMemory, "6 GB"),
            (Key::UnloadMinutes, "-1"),
            (Key::Stats, "no"),
            (Key::Http, "8000"),
            (Key::Http, "localhost"),
            (Key::HttpTokenFile, " "),
            (Key::Backend, "vllm"),
            (Key::RemoteUrl, "gpu:8000/v1"),
            (Key::RemoteUrl, "ftp://gpu/v1"),
            (Key::RemoteUrl, "http://me:secret@gpu/v1"),
            (Key::RemoteUrl, "http://gpu/v1?key=secret"),
            (Key::RemoteKeyEnv, "sk-123"),
            (Key::RemoteWaitMs, "9"),
        ] {
            assert!(!Config::default().put(key, &key.read(text)), "{} {text:?}", key.name());
        }
        let message = Key::Threads.refusal("\"two\"");
        assert_eq!(message, "threads can't be \"two\"; allowed is a whole number from 1 to 1024, such as 4");
        assert!(Key::of("colour").unwrap_err().message.contains("known are model, quantize, threads"));
    }
}
