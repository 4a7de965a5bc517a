//! Weights as they lie in a file: named tensors of raw bytes, mapped or borrowed, never converted here.
//!
//! Every reader checks lengths, shapes and offsets before a tensor is handed out, so that code past this module
//! may rely on `bytes.len() == rows * bytes_per_row`.

pub(crate) mod gguf;
pub(crate) mod gguf_writer;
mod pickle;
mod safetensors;
mod types;

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut, UncheckedAdvice};

use crate::error::LoadError;
use crate::progress::Progress;
pub(crate) use pickle::read_pickle;
pub(crate) use safetensors::{read_safetensors, read_sharded};
pub(crate) use types::ElementType;

/// Bytes that several tensors may share without copying.
#[derive(Clone)]
pub(crate) struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Static(&'static [u8]),
    Mapped(Arc<Mmap>),
    Heap(Arc<Vec<u8>>),
    Pages(Arc<MmapMut>),
}

impl Bytes {
    /// Bytes that are part of the program.
    pub(crate) fn from_static(bytes: &'static [u8]) -> Self {
        Self { range: 0..bytes.len(), owner: Owner::Static(bytes) }
    }

    /// Bytes that were computed.
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), owner: Owner::Heap(Arc::new(bytes)) }
    }

    /// So many bytes, which `fill` writes where there are zeros; in large pages, of which the processor finds more at a time, where
    /// the system has some.
    pub(crate) fn in_large_pages(length: usize, fill: impl FnOnce(&mut [u8])) -> std::io::Result<Self> {
        let mut pages = MmapMut::map_anon(length)?;
        // What is said is a hint alone.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        fill(&mut pages);
        Ok(Self { range: 0..length, owner: Owner::Pages(Arc::new(pages)) })
    }

    /// Maps a whole file.
    #[allow(unsafe_code)]
    pub(crate) fn map(path: &Path) -> Result<Self, LoadError> {
        let io = |source| LoadError::Io { path: path.to_path_buf(), source };
        Self::of_file(&File::open(path).map_err(io)?).map_err(io)
    }

    /// Maps a whole file that is open.
    #[allow(unsafe_code)]
    pub(crate) fn of_file(file: &File) -> std::io::Result<Self> {
        // SAFETY: the mapping is read-only and private. A file that another process rewrites meanwhile changes
        // the numbers we compute with (or, truncated, ends the process); model files are replaced by rename, and
        // every length was checked against the mapping, so no code here relies on the contents staying put.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self { range: 0..map.len(), owner: Owner::Mapped(Arc::new(map)) })
    }

    /// Tells the system that these bytes are not needed for now. Where they are a file's, they no longer count as
    /// memory of this process; they are read again when somebody looks.
    #[allow(unsafe_code)]
    pub(crate) fn let_go(&self) {
        if let Owner::Mapped(map) = &self.owner {
            // SAFETY: the mapping is of a file and is never written to, so that a page that was dropped comes back with
            // the same contents. That what is said is a hint alone makes an error one that does not matter.
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.range.start, self.range.len())
            };
        }
    }

    /// Whether they are those of a file, and no copy.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.owner, Owner::Mapped(_))
    }

    /// A part of these bytes; `None` when it is not inside.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { owner: self.owner.clone(), range: start..start + range.len() })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Static(bytes) => bytes,
            Owner::Mapped(map) => map,
            Owner::Heap(bytes) => bytes,
            Owner::Pages(bytes) => bytes,
        };
        &all[self.range.clone()]
    }
}

/// One tensor: rows of `shape[1..]` elements, last dimension contiguous.
#[derive(Clone)]
pub(crate) struct RawTensor {
    pub(crate) element: ElementType,
    /// Rows first, as in PyTorch (GGUF stores it the other way round).
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
}

impl RawTensor {
    /// Checks that `bytes` is exactly what `shape` and `element` imply.
    pub(crate) fn new(element: ElementType, shape: Vec<usize>, bytes: Bytes) -> Result<Self, String> {
        let expected = element.tensor_bytes(&shape)?;
        if expected != bytes.len() {
            return Err(format!("{} bytes of data for a shape that needs {expected}", bytes.len()));
        }
        Ok(Self { element, shape, bytes })
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as f32; exact for f32, f16 and bf16.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.elements()];
        crate::kernels::dequantise(self.element, &self.bytes, &mut out);
        out
    }
}

/// A file as it was before it was read. Where one is changed meanwhile, what was read counts as that of the older file,
/// and is looked at again because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// With all links followed; in the cache of the Hub the last part of it is the hash of the contents.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, i64),
}

impl Origin {
    pub(crate) fn of(path: &Path) -> Result<Self, LoadError> {
        use std::os::unix::fs::MetadataExt as _;
        let io = |source| LoadError::Io { path: path.to_path_buf(), source };
        let metadata = path.metadata().map_err(io)?;
        Ok(Self {
            path: path.canonicalize().map_err(io)?,
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// All tensors of a model.
pub(crate) struct Checkpoint {
    /// The file or directory, for messages.
    pub(crate) file: String,
    /// The files that the weights are in; none where they are part of the program.
    pub(crate) origin: Vec<Origin>,
    pub(crate) tensors: HashMap<String, RawTensor>,
    /// Learns of every tensor that is taken.
    pub(crate) progress: Arc<Progress>,
}

impl Checkpoint {
    /// These tensors, of that file.
    pub(crate) fn new(file: String, tensors: HashMap<String, RawTensor>) -> Self {
        Self { file, origin: Vec::new(), tensors, progress: Arc::default() }
    }

    /// The tensor `name`, which must have `shape`.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<RawTensor, LoadError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor { file: self.file.clone(), tensor: name.to_owned() })?;
        if tensor.shape != shape {
            return Err(LoadError::Shape {
                file: self.file.clone(),
                tensor: name.to_owned(),
                found: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        self.progress.advance(tensor.elements());
        Ok(tensor.clone())
    }

    /// The numbers of the tensor `name`, which must have one of `shapes`; a file that has another is told the first of them.
    pub(crate) fn numbers(&self, name: &str, shapes: &[&[usize]]) -> Result<Vec<f32>, LoadError> {
        let found = self.tensors.get(name).map(|tensor| tensor.shape.as_slice());
        let shape = shapes.iter().find(|&&shape| found == Some(shape)).or(shapes.first());
        Ok(self.get(name, shape.copied().unwrap_or_default())?.to_f32())
    }
}
