//! GGUF, version 3, written: the header at once, the data as it comes.
//!
//! Where every tensor will lie is known from types and shapes alone, so nothing of the data is needed for the header,
//! and nothing has to be held in memory to be written.

use std::io::{self, Write};

use super::ElementType;

/// Of every tensor's data; `general.alignment` when it is not given.
const ALIGNMENT: usize = 32;

/// A metadata value of the types that a model's sizes and names have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum {
    U32(u32),
    U32s(Vec<u32>),
    F32(f32),
    Text(String),
}

/// What the table says of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    /// Rows first.
    pub(crate) shape: Vec<usize>,
    /// Bytes of its data.
    pub(crate) length: usize,
}

/// The beginning of a file, up to where the data begins, and the length of the whole.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) bytes: Vec<u8>,
    pub(crate) file_length: u64,
}

impl Header {
    /// Of a file with this metadata and these tensors, whose data follows in the same order.
    pub(crate) fn new<'a>(
        metadata: &[(String, Datum)],
        entries: impl ExactSizeIterator<Item = &'a Entry>,
    ) -> Self {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        bytes.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            text(&mut bytes, key);
            match value {
                Datum::U32(n) => {
                    bytes.extend(4u32.to_le_bytes());
                    bytes.extend(n.to_le_bytes());
                }
                Datum::U32s(numbers) => {
                    bytes.extend(9u32.to_le_bytes());
                    bytes.extend(4u32.to_le_bytes());
                    bytes.extend((numbers.len() as u64).to_le_bytes());
                    bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
                }
                Datum::F32(x) => {
                    bytes.extend(6u32.to_le_bytes());
                    bytes.extend(x.to_le_bytes());
                }
                Datum::Text(value) => {
                    bytes.extend(8u32.to_le_bytes());
                    text(&mut bytes, value);
                }
            }
        }
        let mut offset = 0u64;
        for entry in entries {
            text(&mut bytes, &entry.name);
            bytes.extend((entry.shape.len() as u32).to_le_bytes());
            for &dim in entry.shape.iter().rev() {
                bytes.extend((dim as u64).to_le_bytes());
            }
            bytes.extend(entry.element.to_gguf().to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += entry.length.next_multiple_of(ALIGNMENT) as u64;
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let file_length = bytes.len() as u64 + offset;
        Self { bytes, file_length }
    }
}

/// Ends a tensor's data: fills up to where the next one begins.
pub(crate) fn pad(out: &mut dyn Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT][..length.next_multiple_of(ALIGNMENT) - length])
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
