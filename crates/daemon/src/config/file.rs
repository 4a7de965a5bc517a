//! Changing the file: one key at a time, in one step, with everything else as it was.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use toml_edit::{Document, DocumentMut};

use super::{Key, Value, not_toml};
use crate::failure::Failure;

/// What a file begins with that we make: how to change it, and every key with what it is for.
pub fn template() -> String {
    let mut text = String::from(
        "# nemoterm's configuration. `nemoterm config set KEY VALUE` changes it, `nemoterm config show --origin` says what\n\
         # holds. A variable of the environment, NEMOTERM_MODEL and so on, wins over this file.\n#\n",
    );
    for key in Key::ALL {
        text += &format!("# {:<44} # {}\n", key.example_line(), key.purpose());
    }
    text
}

/// A text of the file with that key set.
///
/// # Errors
/// Where it is no TOML.
pub fn with(path: &Path, text: &str, key: Key, value: &Value) -> Result<String, Failure> {
    let mut document: DocumentMut = text.parse().map_err(|error| not_toml(path, text, &error))?;
    let mut value: toml_edit::Value = match value {
        Value::Text(text) => text.as_str().into(),
        Value::Number(number) => i64::try_from(*number).unwrap_or(i64::MAX).into(),
    };
    let table = document.as_table_mut();
    if let Some(old) = table.get_mut(key.name()) {
        if let Some(old) = old.as_value() {
            // With the blanks and the comment behind it.
            *value.decor_mut() = old.decor().clone();
        }
        *old = toml_edit::Item::Value(value);
        return Ok(document.to_string());
    }
    table.insert(key.name(), toml_edit::Item::Value(value));
    // What stands behind the last key stays before the new one: in a file of comments only, that is all of it.
    let mut before = document.trailing().as_str().unwrap_or_default().to_owned();
    if !before.is_empty() {
        if !before.ends_with('\n') {
            before.push('\n');
        }
        document.set_trailing("");
        if let Some(mut fresh) = document.as_table_mut().key_mut(key.name()) {
            fresh.leaf_decor_mut().set_prefix(before);
        }
    }
    Ok(document.to_string())
}

/// A text of the file without that key, known or not; `None` where it is not there.
///
/// # Errors
/// Where it is no TOML.
pub fn without(path: &Path, text: &str, name: &str) -> Result<Option<String>, Failure> {
    let document = Document::parse(text).map_err(|error| not_toml(path, text, &error))?;
    let Some((key, item)) = document.as_table().get_key_value(name) else { return Ok(None) };
    let whole_line = match (key.span(), item.as_value().and_then(toml_edit::Value::span)) {
        // Its lines go, with the comment behind it; comments above it may be about more, and stay.
        (Some(key), Some(value)) => {
            let start = text[..key.start].rfind('\n').map_or(0, |newline| newline + 1);
            let end = text[value.end..].find('\n').map_or(text.len(), |newline| value.end + newline + 1);
            Some([&text[..start], &text[end..]].concat())
        }
        _ => None,
    };
    Ok(Some(whole_line.unwrap_or_else(|| {
        // A table, which we have none of.
        let mut document = document.into_mut();
        document.as_table_mut().remove(name);
        document.to_string()
    })))
}

/// Reads the file; nothing where there is none.
///
/// # Errors
/// Where the system does not let it be read, or it is no text.
pub fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(
            format!("{} can't be read: {error}", path.display()),
            "mend its permissions or remove it",
        )),
    }
}

/// Writes the file in one step, so that a crash leaves the old one or the new one. Where the file is a link, what it
/// leads to is written.
///
/// # Errors
/// Where the system does not let it be written.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let dir = target.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        fs::create_dir_all(&dir)?;
        let mut fresh = tempfile::NamedTempFile::new_in(&dir)?;
        fresh.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(&target) {
            fresh.as_file().set_permissions(old.permissions())?;
        }
        fresh.as_file().sync_all()?;
        fresh.persist(&target).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|error| {
        Failure::new(format!("{} can't be written: {error}", path.display()), "mend its permissions")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, key: Key, value: &str) -> String {
        with(Path::new("c.toml"), text, key, &key.read(value)).unwrap()
    }

    fn unset(text: &str, name: &str) -> Option<String> {
        without(Path::new("c.toml"), text, name).unwrap()
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# head\n\nthreads = 2   # cores\n# why\nmodel = 'a' # mine\n# tail\n";
        let changed = "# head\n\nthreads = 4   # cores\n# why\nmodel = 'a' # mine\n# tail\n";
        assert_eq!(set(text, Key::Threads, "4"), changed);
        assert_eq!(set(changed, Key::Threads, "2"), text);
        assert_eq!(set(text, Key::Quantize, "q8_0"), format!("{text}quantize = \"q8_0\"\n"));
        let without_threads = text.replace("threads = 2   # cores\n", "");
        assert_eq!(unset(text, "threads"), Some(without_threads));
        assert_eq!(unset(text, "http"), None);
    }

    #[test]
    fn odd_files_are_changed_too() {
        assert_eq!(set("", Key::Threads, "4"), "threads = 4\n");
        assert_eq!(set("# only this", Key::Threads, "4"), "# only this\nthreads = 4\n");
        assert_eq!(set("threads = 1", Key::Http, "[::1]:80"), "threads = 1\nhttp = \"[::1]:80\"\n");
        assert_eq!(set("threads = 'x' # c", Key::Threads, "4").trim_end(), "threads = 4 # c");
        assert_eq!(set("", Key::Model, "/a b/\"x\"").trim_end(), "model = '/a b/\"x\"'");
        assert_eq!(unset("a = [\n 1,\n] # c\nb = 1", "a").unwrap(), "b = 1");
        assert_eq!(unset("a = 1\n[t]\nx = 1\n", "t").unwrap(), "a = 1\n");
        assert_eq!(unset("a.b = 1\nc = 2\n", "a").unwrap(), "c = 2\n");
        assert!(with(Path::new("c.toml"), "a = \n", Key::Http, &Value::Number(1)).is_err());
    }

    #[test]
    fn the_template_sets_nothing_and_its_lines_are_valid() {
        assert!(template().lines().all(|line| line.starts_with('#')));
        let text = set(&template(), Key::Threads, "2");
        assert_eq!(text, template() + "threads = 2\n");
        for key in Key::ALL {
            assert!(key.example_line().parse::<DocumentMut>().is_ok(), "{}", key.example_line());
        }
    }

    #[test]
    fn a_link_stays_a_link_and_a_mode_stays() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("nemoterm/config.toml"));
        fs::write(&real, "").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(link.parent().unwrap()).unwrap();
        symlink(&real, &link).unwrap();
        write(&link, "threads = 1\n").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "threads = 1\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
