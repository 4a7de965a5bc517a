//! The configuration file: `nemoterm/config.toml` in the user's configuration directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, models::Quantize};

/// What can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A preset's name, a name on the Hub, a directory or a GGUF file. The embedded model where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How the model's weights are quantised when it is loaded. As they are in its files where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantize>,
    /// Threads the model runs on. As many as the engine sees fit where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The daemon ends after so many minutes without a client; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u64>,
    /// Address and port of the HTTP server, such as `127.0.0.1:8000`. There is none where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// A file that holds the token which HTTP clients must know. Without one, only this machine is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_token_file: Option<String>,
}

impl Config {
    /// Reads the file; the defaults where there is none.
    ///
    /// # Errors
    /// Where it can't be read, or holds something that is not understood: the key and the line are named.
    pub fn load() -> Result<Self, Failure> {
        match path() {
            Some(path) => Self::load_from(&path),
            None => Ok(Self::default()),
        }
    }

    fn load_from(path: &Path) -> Result<Self, Failure> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                let line = error
                    .span()
                    .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                Failure::new(
                    format!("{}, line {line}: {}", path.display(), error.message()),
                    "known keys are model, quantize, threads, idle_minutes, http and http_token_file",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::new(
                format!("{} can't be read: {error}", path.display()),
                "mend its permissions or remove it",
            )),
        }
    }

    /// Writes the file, in one step, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// Where the system does not let it be written.
    pub fn save(&self) -> Result<PathBuf, Failure> {
        let path = path().ok_or_else(|| Failure::new("there is no home directory", "set HOME"))?;
        let written = || -> anyhow::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            let fresh = path.with_extension("toml.new");
            fs::write(&fresh, toml::to_string(self)?)?;
            Ok(fs::rename(&fresh, &path)?)
        };
        match written() {
            Ok(()) => Ok(path),
            Err(error) => Err(Failure::new(
                format!("{} can't be written: {error}", path.display()),
                "mend its permissions",
            )),
        }
    }
}

/// Where the file lies. `None` without a home directory.
pub fn path() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.config_dir().join("nemoterm").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, text).unwrap();
        Config::load_from(&path)
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        assert_eq!(load("model = \"embedded\"\nthreads = 2\n").unwrap().threads, Some(2));
        assert_eq!(load("").unwrap(), Config::default());
        for (text, expected) in [
            ("model = \"x\"\nthreads = \"two\"\n", "line 2"),
            ("\ncolour = 1\n", "colour"),
            ("model = \n", "line 1"),
        ] {
            let message = load(text).unwrap_err().message;
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_the_defaults() {
        assert_eq!(Config::load_from(Path::new("/nonexistent/config.toml")).unwrap(), Config::default());
    }
}
