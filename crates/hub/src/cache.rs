//! The cache that the Hub's clients share.
//!
//! Layout, as documented by Python's `huggingface_hub`: `models--OWNER--NAME` holds `blobs/ETAG` (contents, named by hash),
//! `snapshots/COMMIT/PATH` (links to blobs) and `refs/REVISION` (files with a commit in them). A file that is being fetched is
//! `blobs/ETAG.incomplete`; whoever fetches it holds a lock on `.locks/models--OWNER--NAME/ETAG.lock`.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    id::ModelId,
    select::{Selection, select},
};

/// Where models are kept.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory with `config.json`.
    Directory(PathBuf),
    /// A file.
    Gguf(PathBuf),
}

impl Place {
    /// The path, whatever it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Gguf(path) => path,
        }
    }
}

impl Cache {
    /// The user's: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub fn of_user() -> Self {
        Self { root: hf_hub::resolve_cache_dir() }
    }

    /// One in a directory of choice.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Finds a model that was fetched, by whichever program. Nothing is asked of the network.
    ///
    /// # Errors
    /// [`Error::NotCached`] where it is not there or not whole.
    pub fn find(&self, id: &ModelId) -> Result<Place, Error> {
        let repository = self.repository(id);
        let missing = || Error::NotCached { model: id.to_string(), cache: self.root.clone() };
        let commit = repository.commit(&id.revision).ok_or_else(missing)?;
        let snapshot = repository.snapshot(&commit);
        let files = files_in(&snapshot).map_err(|_| missing())?;
        // What is there may be a part of what the repository has; what it lacks was never fetched.
        let selection = select(&files, id.file.as_deref()).map_err(|_| missing())?;
        if let Selection::Directory(files) = &selection
            && !shards_are_there(&snapshot, files)
        {
            return Err(missing());
        }
        Ok(place(&snapshot, &selection))
    }

    /// Removes a model, and the contents that nothing else links to. Returns the bytes that were freed.
    ///
    /// # Errors
    /// Where it is not there or can't be removed.
    pub fn remove(&self, id: &ModelId) -> Result<u64, Error> {
        let found = self.find(id)?;
        let repository = self.repository(id);
        let commit = repository.commit(&id.revision).unwrap_or_default();
        let snapshot = repository.snapshot(&commit);
        let files = files_in(&snapshot).unwrap_or_default();
        let whole = matches!(found, Place::Directory(_));
        let doomed = match select(&files, id.file.as_deref()) {
            Ok(selection) if !whole => selection.files().to_vec(),
            _ => files,
        };
        for file in &doomed {
            let path = snapshot.join(file);
            fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
        }
        let freed = repository.sweep()?;
        if files_in(&snapshot).is_ok_and(|left| left.is_empty()) {
            let _ = fs::remove_dir_all(&snapshot);
        }
        Ok(freed)
    }

    pub(crate) fn repository(&self, id: &ModelId) -> Repository {
        let folder = format!("models--{}--{}", id.owner, id.name);
        Repository { locks: self.root.join(".locks").join(&folder), root: self.root.join(folder) }
    }
}

/// What the cache keeps of one repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// The commit of a revision, if that is known here.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if crate::id::is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        crate::id::is_commit(commit).then(|| commit.to_owned())
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits until no other program fetches this content; it is ours while the file is open.
    pub(crate) fn lock(&self, etag: &str) -> Result<File, Error> {
        let path = self.locks.join(format!("{etag}.lock"));
        let open = || -> io::Result<File> {
            fs::create_dir_all(&self.locks)?;
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Makes `file` of a commit a link to a blob.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Error> {
        let path = self.snapshot(commit).join(file);
        let up = "../".repeat(file.split('/').count() + 1);
        let make = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &path)
        };
        make().map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Says which commit a revision is.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            fs::write(&path, commit)
        };
        write().map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Removes blobs that no snapshot links to. Returns their bytes.
    fn sweep(&self) -> Result<u64, Error> {
        let mut linked = HashSet::new();
        for snapshot in fs::read_dir(self.root.join("snapshots")).into_iter().flatten().flatten() {
            for file in files_in(&snapshot.path()).unwrap_or_default() {
                linked.extend(fs::canonicalize(snapshot.path().join(file)));
            }
        }
        let mut freed = 0;
        for blob in fs::read_dir(self.root.join("blobs")).into_iter().flatten().flatten() {
            let path = blob.path();
            if fs::canonicalize(&path).is_ok_and(|path| !linked.contains(&path)) {
                freed += blob.metadata().map_or(0, |metadata| metadata.len());
                fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
            }
        }
        Ok(freed)
    }
}

pub(crate) fn place(snapshot: &Path, selection: &Selection) -> Place {
    match selection {
        Selection::Gguf(file) => Place::Gguf(snapshot.join(file)),
        Selection::Directory(_) => Place::Directory(snapshot.to_owned()),
    }
}

/// Paths of the files in a snapshot whose contents are there.
fn files_in(snapshot: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(snapshot.join(&below))? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            match fs::metadata(snapshot.join(&path)) {
                Ok(metadata) if metadata.is_dir() => open.push(path),
                Ok(_) => found.push(path),
                // A link to a blob that is gone.
                Err(_) => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether every piece that an index names is among the files.
fn shards_are_there(snapshot: &Path, files: &[String]) -> bool {
    let Some(index) = files.iter().find(|file| file.ends_with(".index.json")) else { return true };
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index =
        fs::read(snapshot.join(index)).ok().and_then(|text| serde_json::from_slice::<Index>(&text).ok());
    index.is_some_and(|index| index.weight_map.values().all(|shard| files.contains(shard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn filled() -> (tempfile::TempDir, Cache, ModelId) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let id: ModelId = "a/b".parse().unwrap();
        let repository = cache.repository(&id);
        fs::create_dir_all(repository.root.join("blobs")).unwrap();
        for (etag, file) in [("e1", "M-Q4_K_M.gguf"), ("e2", "sub/M-Q8_0.gguf")] {
            fs::write(repository.blob(etag), etag).unwrap();
            repository.link(COMMIT, file, etag).unwrap();
        }
        repository.write_ref("main", COMMIT).unwrap();
        (dir, cache, id)
    }

    #[test]
    fn a_model_is_found_by_revision_and_file() {
        let (_dir, cache, id) = filled();
        let place = cache.find(&id).unwrap();
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "e1");
        let id: ModelId = format!("a/b@{COMMIT}:Q8_0").parse().unwrap();
        assert_eq!(fs::read_to_string(cache.find(&id).unwrap().path()).unwrap(), "e2");
        for absent in ["a/c", "a/b@v2", "a/b:Q2_K"] {
            let id: ModelId = absent.parse().unwrap();
            assert!(matches!(cache.find(&id), Err(Error::NotCached { .. })), "{absent}");
        }
    }

    #[test]
    fn what_is_removed_is_removed_and_nothing_else() {
        let (_dir, cache, id) = filled();
        assert_eq!(cache.remove(&"a/b:Q8_0".parse().unwrap()).unwrap(), 2);
        assert!(cache.find(&"a/b:Q8_0".parse().unwrap()).is_err());
        assert!(cache.find(&id).is_ok());
        assert!(!cache.repository(&id).blob("e2").exists());
    }

    #[test]
    fn a_link_to_nothing_is_no_file() {
        let (_dir, cache, id) = filled();
        fs::remove_file(cache.repository(&id).blob("e1")).unwrap();
        assert!(cache.find(&"a/b:Q4_K_M".parse().unwrap()).is_err());
    }
}
