//! GGUF, versions 2 and 3: a header of typed metadata, a table of tensors, and their data.
//!
//! Written against the specification in the ggml repository (`docs/gguf.md`). The file is read in place: strings
//! and tensors stay in the mapping. Nothing in it is trusted: counts, lengths, shapes, alignment and offsets are
//! checked against the size of the file, and what is refused is named.

use std::collections::HashMap;

use super::{Bytes, Checkpoint, ElementType, RawTensor};
use crate::error::LoadError;

const MAGIC: &[u8] = b"GGUF";
const MAX_DIMENSIONS: u32 = 4;
/// Bytes of a tensor's name and of a key at most, as the specification has it.
const MAX_NAME: usize = 64;
const MAX_KEY: usize = 65_535;
/// `general.alignment` when it is not given.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A metadata value. Integers of every width are widened; arrays are homogeneous in GGUF, so one variant for each
/// element type that a model's metadata uses.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    /// Present and skipped: arrays of arrays and of booleans describe nothing that is used here.
    Other,
}

/// A parsed file.
pub(crate) struct Gguf {
    pub(crate) metadata: Metadata,
    pub(crate) checkpoint: Checkpoint,
}

/// The metadata of a file, with typed access.
pub(crate) struct Metadata {
    file: String,
    values: HashMap<String, Value>,
}

impl Metadata {
    /// Metadata without a file.
    #[cfg(test)]
    pub(crate) fn from_values(values: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { file: "made up".to_owned(), values }
    }

    fn wrong(&self, key: &str, expected: &str) -> LoadError {
        let reason = if self.values.contains_key(key) { "is not" } else { "is missing, expected" };
        LoadError::Malformed {
            file: self.file.clone(),
            field: key.to_owned(),
            reason: format!("{reason} {expected}"),
        }
    }

    /// The file, for messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, LoadError> {
        match self.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn text_owned(&self, key: &str) -> Result<String, LoadError> {
        self.text(key).map(str::to_owned)
    }

    pub(crate) fn integer(&self, key: &str) -> Result<usize, LoadError> {
        match self.get(key) {
            Some(&Value::Unsigned(n)) => usize::try_from(n).map_err(|_| self.wrong(key, "a size")),
            Some(&Value::Signed(n)) => usize::try_from(n).map_err(|_| self.wrong(key, "a size")),
            _ => Err(self.wrong(key, "an integer")),
        }
    }

    /// An array of sizes; one number alone is none.
    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<usize>, LoadError> {
        let Some(Value::Integers(numbers)) = self.get(key) else {
            return Err(self.wrong(key, "an array of integers"));
        };
        let size = |&n: &i64| usize::try_from(n).map_err(|_| self.wrong(key, "an array of sizes"));
        numbers.iter().map(size).collect()
    }

    pub(crate) fn float(&self, key: &str) -> Result<f64, LoadError> {
        match self.get(key) {
            Some(&Value::Float(x)) => Ok(x),
            _ => Err(self.wrong(key, "a number")),
        }
    }

    /// `None` when the key is absent, an error when it has another type.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Self, &str) -> Result<T, LoadError>,
    ) -> Result<Option<T>, LoadError> {
        self.get(key).map(|_| read(self, key)).transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(key, "a boolean")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<&[String], LoadError> {
        match self.get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(self.wrong(key, "an array of strings")),
        }
    }
}

/// Reads the header and finds every tensor of `bytes`; `file` is for messages.
pub(crate) fn read_gguf(bytes: &Bytes, file: &str) -> Result<Gguf, LoadError> {
    let mut reader = Reader { bytes, at: 0, file };
    if reader.take(4, "magic")? != MAGIC {
        return Err(reader.malformed("magic", "not a GGUF file"));
    }
    let version = reader.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(reader.malformed("version", format!("{version} is not 2 or 3")));
    }
    let tensor_count = reader.u64("tensor count")?;
    let entry_count = reader.u64("metadata count")?;

    let mut values = HashMap::new();
    for _ in 0..entry_count {
        let key = reader.string("metadata key")?;
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(reader.malformed("metadata key", format!("of {} bytes", key.len())));
        }
        let tag = reader.u32(&key)?;
        let value = reader.value(tag, &key)?;
        if values.contains_key(&key) {
            return Err(reader.malformed(&key, "appears twice"));
        }
        values.insert(key, value);
    }
    let metadata = Metadata { file: file.to_owned(), values };

    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(&Value::Unsigned(n)) if n.is_power_of_two() => n,
        Some(_) => return Err(reader.malformed("general.alignment", "is not a power of two")),
    };

    let mut table = Vec::new();
    for _ in 0..tensor_count {
        let name = reader.string("tensor name")?;
        if name.is_empty() {
            return Err(reader.malformed("tensor name", "of 0 bytes"));
        }
        if name.len() > MAX_NAME {
            let start: String = name.chars().take(MAX_NAME).collect();
            let reason = format!("\"{start}...\" has {} bytes, at most {MAX_NAME}", name.len());
            return Err(reader.malformed("tensor name", reason));
        }
        let dimensions = reader.u32(&name)?;
        if dimensions > MAX_DIMENSIONS {
            return Err(reader.malformed(&name, format!("{dimensions} dimensions, at most {MAX_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let dim = reader.u64(&name)?;
            shape.push(usize::try_from(dim).map_err(|_| reader.malformed(&name, "a dimension overflows"))?);
        }
        shape.reverse();
        let tag = reader.u32(&name)?;
        let offset = reader.u64(&name)?;
        let Some(element) = ElementType::from_gguf(tag) else {
            let what = format!("tensor \"{name}\" of type {tag}");
            return Err(LoadError::Unsupported { file: file.to_owned(), what });
        };
        table.push((name, element, shape, offset));
    }

    let data = (reader.at as u64)
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| reader.malformed("general.alignment", "overflows"))?;
    let mut tensors = HashMap::with_capacity(table.len());
    let mut taken = Vec::with_capacity(table.len());
    for (name, element, shape, offset) in table {
        let refused = |reason: String| LoadError::Malformed {
            file: file.to_owned(),
            field: format!("tensor \"{name}\""),
            reason,
        };
        if !offset.is_multiple_of(alignment) {
            return Err(refused(format!("offset {offset} is not aligned to {alignment}")));
        }
        let length = element.tensor_bytes(&shape).map_err(refused)?;
        taken.push((offset, length as u64, name.clone()));
        let start = data.checked_add(offset).and_then(|start| usize::try_from(start).ok());
        let slice = start
            .and_then(|start| start.checked_add(length).map(|end| start..end))
            .and_then(|range| bytes.slice(range))
            .ok_or_else(|| {
                refused(format!(
                    "{length} bytes at offset {offset} lie beyond the end of the file, {}",
                    bytes.len()
                ))
            })?;
        let tensor = RawTensor::new(element, shape, slice).map_err(refused)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(refused("appears twice".to_owned()));
        }
    }
    // All of them end inside the file, so the sums do not overflow.
    taken.sort_unstable();
    for pair in taken.windows(2) {
        let [(start, length, name), (next, _, other)] = pair else { continue };
        if start + length > *next {
            let field = format!("tensor \"{other}\"");
            let reason = format!("its data overlaps that of \"{name}\"");
            return Err(LoadError::Malformed { file: file.to_owned(), field, reason });
        }
    }
    Ok(Gguf { metadata, checkpoint: Checkpoint::new(file.to_owned(), tensors) })
}

/// A cursor that cannot leave the file.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    file: &'a str,
}

impl<'a> Reader<'a> {
    fn malformed(&self, field: &str, reason: impl Into<String>) -> LoadError {
        LoadError::Malformed { file: self.file.to_owned(), field: field.to_owned(), reason: reason.into() }
    }

    fn take(&mut self, length: usize, field: &str) -> Result<&'a [u8], LoadError> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            let left = self.bytes.len() - self.at;
            return Err(
                self.malformed(field, format!("file is truncated: needs {length} bytes, {left} are left"))
            );
        };
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], LoadError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    fn u32(&mut self, field: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn string(&mut self, field: &str) -> Result<String, LoadError> {
        let length = self.u64(field)?;
        let length = usize::try_from(length).map_err(|_| self.malformed(field, "length overflows"))?;
        // Some vocabularies hold bytes that are no UTF-8; they are replaced, which no merge can then match.
        Ok(String::from_utf8_lossy(self.take(length, field)?).into_owned())
    }

    fn value(&mut self, tag: u32, key: &str) -> Result<Value, LoadError> {
        Ok(match tag {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.string(key)?),
            9 => self.array_value(key)?,
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => return Err(self.malformed(key, format!("unknown value type {tag}"))),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Value, LoadError> {
        let tag = self.u32(key)?;
        let count = self.u64(key)?;
        // Smallest encoding of an element, so that a count is refused before anything is reserved for it.
        let smallest = match tag {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(self.malformed(key, format!("unsupported array of value type {tag}"))),
        };
        let left = (self.bytes.len() - self.at) as u64;
        if count.checked_mul(smallest).is_none_or(|needed| needed > left) {
            return Err(self.malformed(key, format!("array of {count} elements does not fit the file")));
        }
        let (mut texts, mut integers, mut floats) = (Vec::new(), Vec::new(), Vec::new());
        let room = count as usize;
        match tag {
            6 | 12 => floats.reserve_exact(room),
            7 => {}
            8 => texts.reserve_exact(room),
            _ => integers.reserve_exact(room),
        }
        for _ in 0..count {
            match self.value(tag, key)? {
                Value::Text(text) => texts.push(text),
                Value::Unsigned(n) => integers.push(i64::try_from(n).unwrap_or(i64::MAX)),
                Value::Signed(n) => integers.push(n),
                Value::Float(x) => floats.push(x as f32),
                _ => {}
            }
        }
        Ok(match tag {
            8 => Value::Texts(texts),
            6 | 12 => Value::Floats(floats),
            7 => Value::Other,
            _ => Value::Integers(integers),
        })
    }
}
