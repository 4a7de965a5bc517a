//! Weights made smaller while they are loaded.
//!
//! A model whose weights are to be quantised becomes a GGUF file first, on disk or in memory, and is loaded from that; so
//! it is the same model whether it was quantised just now or at an earlier start. The file is written row by row: never is
//! more of the source in memory than the rows at hand.
//!
//! Names, order of rows and norms are those of llama.cpp's converter. The file is read with the source's configuration,
//! which may say what GGUF has no key for.

mod shelf;
mod space;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Write};

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::backend::host::Host;
use crate::config::{Config, RopeStyle};
use crate::decoder::{Decoder, numbered};
use crate::error::LoadError;
use crate::kernels;
use crate::progress::Progress;
use crate::weights::gguf::read_gguf;
use crate::weights::gguf_writer::{Datum, Entry, Header, pad};
use crate::weights::{Bytes, Checkpoint, ElementType, RawTensor};
pub use shelf::{Kept, KeptFile, Shelf};

/// Goes up with every change after which the same source gives other numbers, the library's quantiser included.
const VERSION: u32 = 1;
/// Numbers that are widened and quantised at a time, by each thread.
const CHUNK: usize = 1 << 18;
/// Memory that a model in memory is called in messages.
const IN_MEMORY: &str = "quantised weights";

/// Block formats that weights can be quantised to while loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight.
    Q4_0,
    /// 4.5 bits a weight, rows in blocks of 256.
    Q4K,
    /// 6.6 bits a weight, rows in blocks of 256.
    Q6K,
}

impl Quantisation {
    fn element(self) -> ElementType {
        match self {
            Self::Q8_0 => ElementType::Q8_0,
            Self::Q4_0 => ElementType::Q4_0,
            Self::Q4K => ElementType::Q4K,
            Self::Q6K => ElementType::Q6K,
        }
    }

    /// `general.file_type` of a file most of whose weights are of this format. For Q4_K there are two, and this one has no
    /// larger formats among its matrices.
    fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4K => 14,
            Self::Q6K => 18,
        }
    }

    /// The name that files have at their end.
    fn name(self) -> String {
        self.element().name().to_lowercase()
    }
}

/// One tensor of the file to come.
struct Planned {
    entry: Entry,
    from: RawTensor,
    /// Where each row comes from, if not from its own place.
    order: Option<Vec<usize>>,
    /// Added to every number.
    offset: f32,
}

/// A file to come: what it holds, and how it is made of the source.
pub(crate) struct Plan {
    header: Header,
    tensors: Vec<Planned>,
    /// How the file is read.
    pub(crate) config: Config,
}

impl Plan {
    /// What becomes of these weights; `None` where nothing would become smaller. `about` is put into the metadata.
    ///
    /// # Errors
    /// Where they do not fit the configuration, as if they were loaded as they are.
    pub(crate) fn new(
        config: &Config,
        checkpoint: &Checkpoint,
        quantisation: Quantisation,
        about: Vec<(String, Datum)>,
    ) -> Result<Option<Self>, LoadError> {
        // So that an error names a file and a tensor of the source. Matrices are not touched by it.
        let plain = Checkpoint::new(checkpoint.file.clone(), checkpoint.tensors.clone());
        Decoder::load(Host::new(1)?, config.clone(), 1, &plain)?;

        let plan = Self::of(config, checkpoint, quantisation, about);
        let stays =
            |tensor: &Planned| tensor.entry.shape.len() < 2 || tensor.entry.element == tensor.from.element;
        Ok(if plan.tensors.iter().all(stays) { None } else { Some(plan) })
    }

    /// The same where nothing has to become smaller.
    fn of(
        config: &Config,
        checkpoint: &Checkpoint,
        quantisation: Quantisation,
        about: Vec<(String, Datum)>,
    ) -> Self {
        let tensors = planned(config, checkpoint, quantisation.element());
        let mut metadata = config.to_gguf();
        metadata.extend([
            ("general.type".to_owned(), Datum::Text("model".to_owned())),
            ("general.file_type".to_owned(), Datum::U32(quantisation.file_type())),
            ("general.quantization_version".to_owned(), Datum::U32(2)),
            // Tokens stay with the source.
            ("tokenizer.ggml.model".to_owned(), Datum::Text("no_vocab".to_owned())),
            ("nemoterm.quantiser".to_owned(), Datum::U32(VERSION)),
        ]);
        metadata.extend(about);
        let header = Header::new(&metadata, tensors.iter().map(|tensor| &tensor.entry));
        let mut config = config.clone();
        config.names = config.family.gguf_names;
        config.norm_offset = 0.0;
        config.attention.rope_style = config.family.gguf_rope_style;
        if let Some(hybrid) = &mut config.hybrid {
            hybrid.space.logarithmic_decay = false;
        }
        Self { header, tensors, config }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Where `out` refuses.
    fn write(&self, out: &mut dyn Write, threads: usize, progress: &Progress) -> io::Result<()> {
        let build =
            |n| ThreadPoolBuilder::new().num_threads(n).thread_name(|i| format!("quantise-{i}")).build();
        let pool = (threads > 1).then(|| build(threads)).transpose().map_err(io::Error::other)?;
        out.write_all(&self.header.bytes)?;
        for tensor in &self.tensors {
            tensor.write(out, pool.as_ref())?;
            pad(out, tensor.entry.length)?;
            tensor.from.bytes.let_go();
            progress.advance(tensor.from.elements());
        }
        Ok(())
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.header.file_length
    }

    /// The file in memory.
    fn in_memory(&self, threads: usize, progress: &Progress) -> Result<Bytes, LoadError> {
        let mut bytes = Vec::with_capacity(self.bytes() as usize);
        // Memory refuses nothing; what is left is the library.
        self.write(&mut bytes, threads, progress).map_err(candle_core::Error::wrap)?;
        Ok(Bytes::from_vec(bytes))
    }

    /// The weights: those that are kept on `shelf`, else made anew, and kept where there is a shelf and it takes them.
    pub(crate) fn load(
        &self,
        place: Option<&shelf::Slot>,
        threads: usize,
        progress: &Progress,
    ) -> Result<(Checkpoint, Kept), LoadError> {
        let (bytes, file, kept) = match place.map(|slot| slot.take(self, threads, progress)) {
            Some((Some(bytes), kept)) => {
                let file = kept.path().map_or_else(String::new, |path| path.display().to_string());
                (bytes, file, kept)
            }
            Some((None, kept)) => (self.in_memory(threads, progress)?, IN_MEMORY.to_owned(), kept),
            None => (self.in_memory(threads, progress)?, IN_MEMORY.to_owned(), Kept::No),
        };
        Ok((read_gguf(&bytes, &file)?.checkpoint, kept))
    }
}

impl Planned {
    /// Numbers of 32 bits that are not in the source as they are.
    fn computed(name: String, numbers: &[f32], shape: Vec<usize>) -> Self {
        let bytes = Bytes::from_vec(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        let (element, length) = (ElementType::F32, bytes.len());
        let from = RawTensor { element, shape: vec![numbers.len(), 1], bytes };
        Self { entry: Entry { name, element, shape, length }, from, order: None, offset: 0.0 }
    }

    fn write(&self, out: &mut dyn Write, pool: Option<&ThreadPool>) -> io::Result<()> {
        let width = self.from.shape.last().copied().unwrap_or(1);
        let rows = self.from.elements().checked_div(width).unwrap_or(0);
        let at_once = (CHUNK / width.max(1)).max(1);
        let mut first = 0;
        while first < rows {
            let end = rows.min(first + at_once * pool.map_or(1, ThreadPool::current_num_threads));
            let starts: Vec<usize> = (first..end).step_by(at_once).collect();
            let make = |&start: &usize| self.rows(start..end.min(start + at_once), width);
            let made: Vec<io::Result<Vec<u8>>> = match pool {
                Some(pool) => pool.install(|| starts.par_iter().map(make).collect()),
                None => starts.iter().map(make).collect(),
            };
            for bytes in made {
                out.write_all(&bytes?)?;
            }
            first = end;
        }
        Ok(())
    }

    /// The bytes of some rows.
    fn rows(&self, rows: std::ops::Range<usize>, width: usize) -> io::Result<Vec<u8>> {
        let count = rows.len();
        let row_bytes = self.from.element.row_bytes(width);
        let mut bytes = Vec::with_capacity(count * row_bytes);
        for row in rows {
            let row = self.order.as_ref().map_or(row, |order| order[row]);
            bytes.extend_from_slice(&self.from.bytes[row * row_bytes..][..row_bytes]);
        }
        if self.entry.element == self.from.element && self.offset == 0.0 {
            return Ok(bytes);
        }
        let mut numbers = vec![0.0; count * width];
        kernels::dequantise(self.from.element, &bytes, &mut numbers);
        drop(bytes);
        for x in &mut numbers {
            *x += self.offset;
        }
        if self.entry.element == ElementType::F32 {
            return Ok(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        }
        if self.entry.element == ElementType::Q8_0 {
            return Ok(kernels::quantise_q8_0(&numbers));
        }
        // Blocks do not know of rows, nor of what stands beside them.
        let quantise = || -> candle_core::Result<Vec<u8>> {
            let source = Tensor::from_vec(numbers, (count, width), &Device::Cpu)?;
            Ok(QTensor::quantize(&source, self.entry.element.to_candle())?.data()?.into_owned())
        };
        quantise().map_err(io::Error::other)
    }
}

/// The tensors of the file, in the order of their use. What the decoder does not know is left out.
fn planned(config: &Config, checkpoint: &Checkpoint, element: ElementType) -> Vec<Planned> {
    let names = config.names;
    let (whole, layer) = names.beside(config.family.gguf_names);
    let mut all: Vec<Planned> = Vec::new();
    // Where a layer has one norm, two names mean it.
    let mut taken = HashSet::new();
    let mut take = |from: &str, to: &str, number: usize| {
        let tied = from == names.output && config.tied == Some(true);
        for suffix in ["weight", "bias"] {
            let name = format!("{}.{suffix}", numbered(from, number));
            if !taken.insert(name.clone()) {
                continue;
            }
            let Some(tensor) = checkpoint.tensors.get(&name).filter(|_| !tied) else { continue };
            let is_norm = to.ends_with("norm");
            let heads = match () {
                () if from == names.query => Some(config.attention.heads),
                () if from == names.key => Some(config.attention.kv_heads),
                () => None,
            };
            let order = heads.and_then(|heads| interleaved(config, heads));
            let offset = if is_norm && suffix == "weight" { config.norm_offset } else { 0.0 };
            all.push(plan(
                format!("{}.{suffix}", numbered(to, number)),
                tensor.clone(),
                element,
                order,
                offset,
            ));
        }
    };
    for (from, to) in whole {
        take(from, to, 0);
    }
    for number in 0..config.layers {
        for (from, to) in layer.into_iter().filter(|(from, _)| !from.is_empty()) {
            take(from, to, number);
        }
    }
    all.extend(space::planned(config, checkpoint));
    if let Some(divisors) = config.rope.divisors(config.attention.rotary_dim) {
        let shape = vec![divisors.len()];
        all.push(Planned::computed("rope_freqs.weight".to_owned(), &divisors, shape));
    }
    all
}

fn plan(
    name: String,
    from: RawTensor,
    wanted: ElementType,
    order: Option<Vec<usize>>,
    offset: f32,
) -> Planned {
    // A vector in blocks can't be taken apart into the rows below, and no file that is meant well has one.
    if let &[length] = from.shape.as_slice()
        && from.element.is_quantised()
    {
        let computed = Planned::computed(name, &from.to_f32(), vec![length]);
        return Planned { order, offset, ..computed };
    }
    let element = match from.shape.as_slice() {
        // Norms and biases, which are added to numbers of 32 bits.
        [_] => ElementType::F32,
        _ if from.element.is_quantised() => from.element,
        [_, width] if width.is_multiple_of(wanted.block()) => wanted,
        _ => from.element,
    };
    // Vectors are rows of one number as far as their order goes.
    let shape = from.shape.clone();
    let from = match from.shape.as_slice() {
        &[length] => RawTensor { shape: vec![length, 1], ..from },
        _ => from,
    };
    let length = from.elements() / element.block() * element.block_bytes();
    Planned { entry: Entry { name, element, shape, length }, from, order, offset }
}

/// The order of the rows of queries or keys where the elements that are rotated together shall be neighbours: `0, half, 1,
/// half + 1, ...` in each head. `None` where they stay.
fn interleaved(config: &Config, heads: usize) -> Option<Vec<usize>> {
    let attention = &config.attention;
    if attention.rope_style == config.family.gguf_rope_style {
        return None;
    }
    debug_assert_eq!(config.family.gguf_rope_style, RopeStyle::Pairs);
    let (width, rotary) = (attention.head_dim, attention.rotary_dim);
    let in_head = (0..rotary / 2).flat_map(|i| [i, i + rotary / 2]).chain(rotary..width);
    let in_head: Vec<usize> = in_head.collect();
    Some((0..heads).flat_map(|head| in_head.iter().map(move |row| head * width + row)).collect())
}
