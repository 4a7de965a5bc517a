//! Quantised weights on disk, so that they are made once.
//!
//! A file has its name from the place of its source and the format, and says in its metadata which files it was made of:
//! their paths, sizes and times. It is taken where its header is, byte for byte, the one that would be written now, and its
//! length is what that says; so a source that has changed, another version of the quantiser and a damaged header are all
//! noticed without a look at the weights. What does not fit is made anew, under the same name.
//!
//! Files are written under another name, synchronised and renamed, so what has its name is whole. A file that is being
//! written is locked by who writes it; one that is not locked was left behind, and is removed. There are [`MOST`] files at
//! most; the one that was used longest ago goes first.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Plan, Quantisation};
use crate::progress::Progress;
use crate::weights::gguf::read_gguf;
use crate::weights::gguf_writer::Datum;
use crate::weights::{Bytes, Origin};

/// Files that are kept: the present one, and the one before it.
const MOST: usize = 2;
/// Room that is left on the disk.
const MARGIN: u64 = 64 << 20;
/// Metadata: where the source is, and what its files were like.
const SOURCE: &str = "nemoterm.source";
const FILES: &str = "nemoterm.source.files";
/// The end of the name of a file that is not whole yet.
const UNFINISHED: &str = ".incomplete";

/// A directory of quantised weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    directory: PathBuf,
}

/// What became of quantised weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kept {
    /// None were to be kept.
    #[default]
    No,
    /// They were there, and are mapped.
    Found(PathBuf),
    /// They were made, and are mapped.
    Made {
        /// The file.
        path: PathBuf,
        /// What was wrong with the file that was there.
        instead: Option<String>,
    },
    /// They are in memory, and will be made again at the next start.
    Failed(String),
}

impl Kept {
    /// The file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::No | Self::Failed(_) => None,
            Self::Found(path) | Self::Made { path, .. } => Some(path),
        }
    }
}

/// A file on a shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The file.
    pub path: PathBuf,
    /// The directory or file it was made of; `None` where the file does not say.
    pub source: Option<PathBuf>,
    /// The format of its weights, such as "q4_k".
    pub quantisation: String,
    /// Its size.
    pub bytes: u64,
    used: SystemTime,
}

impl Shelf {
    /// The shelf in that directory, which is made when something is to be kept.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is kept, the last used first.
    pub fn files(&self) -> Vec<KeptFile> {
        let mut files: Vec<KeptFile> =
            self.entries().filter_map(|path| KeptFile::read(path).ok().flatten()).collect();
        files.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        files
    }

    /// Removes what was made of a directory or file. Returns the bytes that are free again.
    ///
    /// # Errors
    /// Where a file can't be removed.
    pub fn remove(&self, source: &Path) -> io::Result<u64> {
        let source = canonical(source);
        let mut freed = 0;
        for file in self.files().into_iter().filter(|file| file.source.as_ref() == Some(&source)) {
            fs::remove_file(&file.path)?;
            freed += file.bytes;
        }
        Ok(freed)
    }

    /// Where weights of a source are kept in a format; what is put into their metadata comes with it.
    pub(crate) fn slot(&self, source: &Path, origin: &[Origin], quantisation: Quantisation) -> Slot {
        let source = canonical(source);
        let hash = hex::encode(&Sha256::digest(source.as_os_str().as_bytes())[..8]);
        let name = source.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        let short: String = name.chars().map(plain).take(48).collect();
        // Quoted, so that any path can be read off it again.
        let line = |file: &Origin| {
            let (seconds, nanoseconds) = file.modified;
            format!("{:?} {} {seconds}.{nanoseconds:09}", file.path, file.bytes)
        };
        let files: Vec<String> = origin.iter().map(line).collect();
        let about = vec![
            ("general.name".to_owned(), Datum::Text(name)),
            (SOURCE.to_owned(), Datum::Text(source.to_string_lossy().into_owned())),
            (FILES.to_owned(), Datum::Text(files.join("\n"))),
        ];
        let path = self.directory.join(format!("{short}-{hash}-{}.gguf", quantisation.name()));
        Slot { shelf: self.clone(), path, about }
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Makes room for one more file beside those that are used: removes what was left behind by those who were ended
    /// while they wrote, what has lost its source, and the oldest.
    fn tidy(&self, coming: &Path) {
        for path in self.entries().filter(|path| path.to_string_lossy().ends_with(UNFINISHED)) {
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(path);
            }
        }
        let others = self.files().into_iter().filter(|file| file.path != coming);
        let (sourced, lost): (Vec<_>, Vec<_>) =
            others.partition(|file| file.source.as_ref().is_some_and(|source| source.exists()));
        for file in sourced.into_iter().skip(MOST - 1).chain(lost) {
            let _ = fs::remove_file(file.path);
        }
    }
}

impl KeptFile {
    /// `None` where the name is that of something else.
    fn read(path: PathBuf) -> io::Result<Option<Self>> {
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".gguf")) else {
            return Ok(None);
        };
        let quantisation = stem.rsplit('-').next().unwrap_or_default().to_owned();
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let gguf = Bytes::of_file(&file).ok().and_then(|bytes| read_gguf(&bytes, "").ok());
        let source = gguf.and_then(|gguf| gguf.metadata.text(SOURCE).ok().map(PathBuf::from));
        Ok(Some(Self { quantisation, source, bytes: metadata.len(), used: metadata.modified()?, path }))
    }
}

/// Where one model's weights in one format are kept.
pub(crate) struct Slot {
    shelf: Shelf,
    path: PathBuf,
    /// What the file says of its source.
    pub(crate) about: Vec<(String, Datum)>,
}

impl Slot {
    /// The planned file: the one that is there where it fits, else a new one. `None` where it can't be kept.
    pub(super) fn take(&self, plan: &Plan, threads: usize, progress: &Progress) -> (Option<Bytes>, Kept) {
        let instead = match self.find(plan) {
            Ok(Some(bytes)) => {
                plan.tensors.iter().for_each(|tensor| progress.advance(tensor.from.elements()));
                return (Some(bytes), Kept::Found(self.path.clone()));
            }
            Ok(None) => None,
            Err(reason) => {
                // It is of no use to anybody, and its room may be needed.
                let _ = fs::remove_file(&self.path);
                Some(reason)
            }
        };
        let before = progress.done();
        match self.make(plan, threads, progress) {
            Ok(bytes) => (Some(bytes), Kept::Made { path: self.path.clone(), instead }),
            Err(error) => {
                progress.go_back(before);
                (None, Kept::Failed(format!("{}: {error}", self.path.display())))
            }
        }
    }

    /// The file, mapped. `None` where there is none, an error where it is not the planned one.
    fn find(&self, plan: &Plan) -> Result<Option<Bytes>, String> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let bytes = Bytes::of_file(&file).map_err(|error| error.to_string())?;
        if bytes.len() as u64 == plan.bytes() && bytes.starts_with(&plan.header.bytes) {
            // When it was used last; one that is not ours to change is not ours to remove either.
            let _ = file.set_modified(SystemTime::now());
            return Ok(Some(bytes));
        }
        let gguf = read_gguf(&bytes, &self.path.display().to_string()).map_err(|error| error.to_string())?;
        let files = self.about.iter().find(|(key, _)| key == FILES).map(|(_, files)| files);
        let found = gguf.metadata.text_owned(FILES).ok().map(Datum::Text);
        Err(if found.as_ref() == files {
            format!("{}: it was made in another way", self.path.display())
        } else {
            format!("{}: its source has changed", self.path.display())
        })
    }

    fn make(&self, plan: &Plan, threads: usize, progress: &Progress) -> io::Result<Bytes> {
        fs::create_dir_all(&self.shelf.directory)?;
        self.shelf.tidy(&self.path);
        self.make_room(plan.bytes())?;
        let mut unfinished = self.unfinished()?;
        plan.write(unfinished.as_file_mut(), threads, progress)?;
        debug_assert_eq!(unfinished.as_file_mut().stream_position().ok(), Some(plan.bytes()));
        unfinished.as_file().sync_all()?;
        // By the file and not by its name, which another program may give to its own meanwhile.
        Bytes::of_file(&unfinished.persist(&self.path)?)
    }

    /// A new file, locked. Between the one and the other somebody may have taken it for one that was left behind.
    fn unfinished(&self) -> io::Result<NamedTempFile> {
        let name = self.path.file_name().unwrap_or_default();
        loop {
            let file = tempfile::Builder::new()
                .prefix(name)
                .suffix(UNFINISHED)
                .tempfile_in(&self.shelf.directory)?;
            // Where locks are not known, nobody takes it.
            let _ = file.as_file().try_lock();
            if file.as_file().metadata()?.nlink() > 0 {
                return Ok(file);
            }
        }
    }

    fn make_room(&self, needed: u64) -> io::Result<()> {
        let disk = rustix::fs::statvfs(&self.shelf.directory)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed.saturating_add(MARGIN) > free {
            let [needed, free] = [needed, free].map(|bytes| bytes / 1_000_000);
            return Err(io::Error::other(format!("the disk is full: needs {needed} MB, {free} MB are free")));
        }
        Ok(())
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
