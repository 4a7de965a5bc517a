//! What went wrong and what it left: an error of one line with a hint, and every file as it was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::sandbox::Printed;

/// Files and links below a home, with what is in them.
pub struct Intact {
    home: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Intact {
    /// Looks at everything below a home but sockets, logs, locks of downloads and what is not whole yet.
    pub fn of(home: &Path) -> Self {
        Self { home: home.to_owned(), before: files(home) }
    }

    /// Fails where a file is gone, has changed, or is new; of new ones, `may_come` may be.
    #[track_caller]
    pub fn check(&self, way: &str, may_come: impl Fn(&Path) -> bool) {
        let after = files(&self.home);
        for (path, what) in &self.before {
            assert_eq!(after.get(path), Some(what), "{way}: {} was {what}", path.display());
        }
        for path in after.keys().filter(|path| !self.before.contains_key(*path)) {
            assert!(may_come(path), "{way}: {} is new", path.display());
        }
    }
}

fn files(home: &Path) -> BTreeMap<PathBuf, String> {
    const PASSING: [&str; 4] = ["run", ".local/state", ".cache/huggingface/hub/.locks", "calls"];
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(home.join(&below)).unwrap().map(Result::unwrap) {
            let path = below.join(entry.file_name());
            if PASSING.iter().any(|passing| path == Path::new(passing))
                || path.extension().is_some_and(|extension| extension == "incomplete")
            {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                let to = fs::read_link(entry.path()).unwrap();
                found.insert(path, format!("a link to {}", to.display()));
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                let hash = hex::encode(Sha256::digest(&bytes));
                found.insert(path, format!("{mode:o}, {} bytes, {hash}", bytes.len()));
            }
        }
    }
    found
}

/// Fails unless a command has: with nothing on standard output, one line that names what is wrong and one with what to do.
/// What a pull says before, that a model is here or what would be fetched, may stand above them.
#[track_caller]
pub fn refused(printed: &Printed, way: &str, message: &str, hint: &str) {
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{way}: {}", printed.stderr);
    let is_news = |line: &&str| {
        let is_here = line.ends_with(" is here; nothing has to be fetched") || line.contains(" is in /");
        line.contains("; licence: ") || is_here
    };
    let lines: Vec<_> = printed.stderr.lines().skip_while(is_news).collect();
    let [said, hinted] = lines.as_slice() else { panic!("{way}: {}", printed.stderr) };
    assert!(said.starts_with("nemoterm: ") && said.contains(message), "{way}: {said}");
    assert!(hinted.starts_with("hint: ") && hinted.contains(hint), "{way}: {hinted}");
    assert!(hinted.len() > "hint: ".len(), "{way}: nothing to do");
}
