//! safetensors files, single or sharded. The `safetensors` crate checks the header (lengths, overlaps, offsets);
//! this module maps its types and keeps the data in place.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::{Bytes, Checkpoint, ElementType, Origin, RawTensor};
use crate::error::LoadError;

/// Adds every tensor of one file to `tensors`.
pub(crate) fn read_safetensors(
    bytes: &Bytes,
    file: &str,
    tensors: &mut HashMap<String, RawTensor>,
) -> Result<(), LoadError> {
    let malformed =
        |field: String, reason: String| LoadError::Malformed { file: file.to_owned(), field, reason };
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| malformed("header".into(), e.to_string()))?;
    // The eight bytes in front are the header's own length.
    let data = header + 8;
    for (name, info) in metadata.tensors() {
        let element = match info.dtype {
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            other => {
                let what = format!("tensor \"{name}\" of type {other:?}");
                return Err(LoadError::Unsupported { file: file.to_owned(), what });
            }
        };
        let field = format!("tensor \"{name}\"");
        let (start, end) = info.data_offsets;
        let slice = data
            .checked_add(start)
            .zip(data.checked_add(end))
            .and_then(|(start, end)| bytes.slice(start..end))
            .ok_or_else(|| malformed(field.clone(), "lies beyond the end of the file".into()))?;
        let tensor = RawTensor::new(element, info.shape.clone(), slice)
            .map_err(|reason| malformed(field.clone(), reason))?;
        if tensors.insert(name, tensor).is_some() {
            return Err(malformed(field, "appears twice".into()));
        }
    }
    Ok(())
}

/// Reads all files that `model.safetensors.index.json` names; they lie beside it.
pub(crate) fn read_sharded(index: &Path) -> Result<Checkpoint, LoadError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }

    let file = index.display().to_string();
    let text = std::fs::read(index).map_err(|source| LoadError::Io { path: index.to_path_buf(), source })?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| LoadError::Malformed {
        file: file.clone(),
        field: "weight_map".into(),
        reason: e.to_string(),
    })?;
    let (mut tensors, mut origin) = (HashMap::new(), Vec::new());
    let shards: BTreeSet<&String> = parsed.weight_map.values().collect();
    for shard in shards {
        // A shard is a file beside the index; anything else could reach files the user did not name.
        if Path::new(shard).file_name().and_then(|n| n.to_str()) != Some(shard.as_str()) {
            return Err(LoadError::Malformed {
                file: file.clone(),
                field: "weight_map".into(),
                reason: format!("\"{shard}\" is not a plain file name"),
            });
        }
        let path = index.with_file_name(shard);
        origin.push(Origin::of(&path)?);
        read_safetensors(&Bytes::map(&path)?, &path.display().to_string(), &mut tensors)?;
    }
    Ok(Checkpoint { origin, ..Checkpoint::new(file, tensors) })
}
