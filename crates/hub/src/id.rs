//! `OWNER/NAME[@REVISION][:FILE]`, the name of a model on the Hub.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A repository of the Hub, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId {
    /// Who publishes it.
    pub owner: String,
    /// The repository's name.
    pub name: String,
    /// A branch, a tag or a commit; `main` where nothing is said.
    pub revision: String,
    /// A file's path, or a part of a name such as `Q4_K_M`.
    pub file: Option<String>,
}

/// Why a text names no model.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is no name of a model on the Hub: OWNER/NAME[@REVISION][:FILE]")]
pub struct IdError(String);

impl ModelId {
    /// `OWNER/NAME`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// A commit's name: 40 hexadecimal digits.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl FromStr for ModelId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError(text.chars().filter(|c| !c.is_control()).take(200).collect());
        let (rest, file) = match text.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (text, None),
        };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let (owner, name) = repository.split_once('/').ok_or_else(refused)?;
        // These become names of directories.
        let is_plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && !part.starts_with(['.', '-'])
                && !part.contains("..")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let is_path = |path: &str| path.split('/').all(|part| is_plain(part.trim_start_matches('-')));
        if !is_plain(owner)
            || !is_plain(name)
            || !is_path(revision)
            || file.is_some_and(|file| !is_path(file))
        {
            return Err(refused());
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        match &self.file {
            Some(file) => write!(f, ":{file}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_owner_and_may_have_a_revision_and_a_file() {
        for text in ["a/b", "a/b@v1.0", "a/b:Q4_K_M", "a/b@refs/pr/3:sub/x-Q8_0.gguf"] {
            assert_eq!(text.parse::<ModelId>().unwrap().to_string(), text);
        }
        let id: ModelId = "nvidia/Minitron-4B-Base@main".parse().unwrap();
        assert_eq!((id.repository().as_str(), id.revision.as_str()), ("nvidia/Minitron-4B-Base", "main"));
        assert_eq!(id.to_string(), "nvidia/Minitron-4B-Base");
    }

    #[test]
    fn what_would_leave_the_cache_is_refused() {
        for text in [
            "",
            "a",
            "/b",
            "a/",
            "../b",
            "a/..",
            "a/b/c",
            "a/b@../x",
            "a/b:../../x",
            "a/b:/etc/passwd",
            "a b/c",
            "a/b@",
            "a/b:",
        ] {
            assert!(text.parse::<ModelId>().is_err(), "{text}");
        }
    }
}
