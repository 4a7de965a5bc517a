//! `pytorch_model.bin`: tensors in a zip archive behind a pickle, which the tensor library reads (it runs no code from it).
//! Archives hold tensors as they are, one after the other, so these are mapped; one that is compressed or strided is copied.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::pickle::{PthTensors, TensorInfo};
use candle_core::{DType, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::{Bytes, Checkpoint, ElementType, Origin, RawTensor};
use crate::error::LoadError;

/// Reads every tensor of the file.
pub(crate) fn read_pickle(path: &Path) -> Result<Checkpoint, LoadError> {
    let file = path.display().to_string();
    let io = |source| LoadError::Io { path: path.to_path_buf(), source };
    let malformed = |field: &str, reason: String| LoadError::Malformed {
        file: file.clone(),
        field: field.to_owned(),
        reason,
    };
    let origin = vec![Origin::of(path)?];
    let bytes = Bytes::map(path)?;
    let pickle = PthTensors::new(path, None).map_err(|e| malformed("pickle", e.to_string()))?;
    let archive = ZipArchive::new(BufReader::new(File::open(path).map_err(io)?));
    let mut archive = archive.map_err(|e| malformed("archive", e.to_string()))?;
    let mut tensors = HashMap::new();
    for (name, info) in pickle.tensor_infos() {
        let refused = |reason: String| malformed(&format!("tensor \"{name}\""), reason);
        let raw = match in_place(&mut archive, info, &bytes).map_err(refused)? {
            Some(raw) => raw,
            None => {
                let tensor = pickle.get(name).map_err(|e| refused(e.to_string()))?;
                let tensor = tensor.ok_or_else(|| refused("is not there".to_owned()))?;
                to_raw(&tensor).map_err(|e| refused(e.to_string()))?
            }
        };
        tensors.insert(name.clone(), raw);
    }
    Ok(Checkpoint { origin, ..Checkpoint::new(file, tensors) })
}

/// The tensor in the mapped file; `None` where it does not lie there as it is used.
fn in_place(
    archive: &mut ZipArchive<BufReader<File>>,
    info: &TensorInfo,
    bytes: &Bytes,
) -> Result<Option<RawTensor>, String> {
    let element = match info.dtype {
        DType::F32 => ElementType::F32,
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::BF16,
        _ => return Ok(None),
    };
    let entry = archive.by_name(&info.path).map_err(|e| e.to_string())?;
    let is_plain = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
    let Some(start) = entry.data_start().filter(|_| is_plain && info.layout.is_contiguous()) else {
        return Ok(None);
    };
    let shape = info.layout.dims().to_vec();
    let beyond = || "lies beyond the end of its storage".to_owned();
    let offset = info.layout.start_offset();
    let length = element.tensor_bytes(&shape)?;
    let end = offset.checked_add(length).filter(|&end| end as u64 <= entry.size()).ok_or_else(beyond)?;
    let start = usize::try_from(start).map_err(|_| beyond())?;
    let range = start.checked_add(end).map(|end| end - length..end).ok_or_else(beyond)?;
    RawTensor::new(element, shape, bytes.slice(range).ok_or_else(beyond)?).map(Some)
}

fn to_raw(tensor: &Tensor) -> candle_core::Result<RawTensor> {
    let flat = tensor.flatten_all()?;
    let (element, bytes) = match tensor.dtype() {
        DType::F16 => {
            let values = flat.to_vec1::<half::f16>()?;
            (ElementType::F16, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        DType::BF16 => {
            let values = flat.to_vec1::<half::bf16>()?;
            (ElementType::BF16, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        _ => {
            let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            (ElementType::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
        }
    };
    RawTensor::new(element, tensor.dims().to_vec(), Bytes::from_vec(bytes)).map_err(candle_core::Error::Msg)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ElementType, read_pickle};

    #[test]
    fn tensors_keep_their_type_and_shape() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.bin");
        let checkpoint = read_pickle(&path).unwrap();
        for (name, element, shape, numbers) in [
            ("plain", ElementType::F32, &[2, 3][..], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]),
            ("half", ElementType::F16, &[4], &[0.5, -1.0, 2.0, 0.25]),
            ("brain", ElementType::BF16, &[2, 2], &[1.0, -2.0, 0.5, 3.0]),
        ] {
            let tensor = checkpoint.get(name, shape).unwrap();
            assert_eq!((tensor.element, tensor.to_f32().as_slice()), (element, numbers), "{name}");
            assert!(tensor.bytes.is_mapped(), "{name} was copied");
        }
    }
}
