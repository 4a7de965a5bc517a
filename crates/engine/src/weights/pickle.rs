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
    Ok(Checkpoint { file, tensors })
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
