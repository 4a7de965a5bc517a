//! The element types of weight files and their block geometry.
//!
//! The block formats are those of ggml: `ggml-common.h` in the ggml repository defines the layouts, and
//! [`crate::kernels`] spells them out.

use candle_core::quantized::GgmlDType;

/// How the elements of a tensor are stored. Quantised types store blocks along the last dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ElementType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl ElementType {
    /// The type of GGUF's numeric tag, if it is one that this program reads.
    pub(crate) fn from_gguf(tag: u32) -> Option<Self> {
        Some(match tag {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// GGUF's numeric tag.
    pub(crate) fn to_gguf(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::BF16 => 30,
        }
    }

    /// Elements in a block.
    pub(crate) fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes in a block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// True for the block formats, whose products are computed in integers.
    pub(crate) fn is_quantised(self) -> bool {
        self.block() > 1
    }

    /// Bytes of one row of `width` elements. `width` is a multiple of the block: tensors are checked when read.
    pub(crate) fn row_bytes(self, width: usize) -> usize {
        width / self.block() * self.block_bytes()
    }

    /// Bytes of a tensor of `shape`, or why there can be no such tensor.
    pub(crate) fn tensor_bytes(self, shape: &[usize]) -> Result<usize, String> {
        let elements = shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim))
            .ok_or_else(|| format!("shape {shape:?} overflows"))?;
        let width = shape.last().copied().unwrap_or(1);
        if !width.is_multiple_of(self.block()) {
            let (name, block) = (self.name(), self.block());
            return Err(format!("row of {width} elements is not divisible by the block of {name}, {block}"));
        }
        (elements / self.block())
            .checked_mul(self.block_bytes())
            .ok_or_else(|| format!("shape {shape:?} overflows"))
    }

    /// The usual name, as in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The tensor library's name for the same type.
    pub(crate) fn to_candle(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::BF16 => GgmlDType::BF16,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }
}
