//! `pytorch_model.bin`: tensors in a zip archive behind a pickle, read by the tensor library (which runs no code
//! from it). The data is copied: the archive stores tensors with strides and in any order.

use std::collections::HashMap;
use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};

use super::{Bytes, Checkpoint, ElementType, RawTensor};
use crate::error::LoadError;

/// Reads every tensor of the file.
pub(crate) fn read_pickle(path: &Path) -> Result<Checkpoint, LoadError> {
    let file = path.display().to_string();
    let malformed = |field: &str, reason: String| LoadError::Malformed {
        file: file.clone(),
        field: field.to_owned(),
        reason,
    };
    let archive = PthTensors::new(path, None).map_err(|e| malformed("pickle", e.to_string()))?;
    let mut tensors = HashMap::new();
    for name in archive.tensor_infos().keys() {
        let tensor = archive
            .get(name)
            .map_err(|e| malformed(name, e.to_string()))?
            .ok_or_else(|| LoadError::MissingTensor { file: file.clone(), tensor: name.clone() })?;
        let raw = to_raw(&tensor).map_err(|e| malformed(name, e.to_string()))?;
        tensors.insert(name.clone(), raw);
    }
    Ok(Checkpoint::new(file, tensors))
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
        }
    }
}
