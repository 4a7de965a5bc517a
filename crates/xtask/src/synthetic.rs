//! `cargo xtask synthetic`: a model with random weights in the shape of Minitron-4B, as a GGUF file. How fast a model is does
//! not depend on what its weights are, so this measures a machine on which there is no network. It writes nothing of sense.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, bail};

/// How the weights of matrices are stored, by its name in the GGUF format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F16,
    Q80,
    Q4K,
}

impl Element {
    fn parse(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "f16" => Self::F16,
            "q8_0" => Self::Q80,
            "q4_k" => Self::Q4K,
            _ => bail!("weights are f16, q8_0 or q4_k, not {name}"),
        })
    }

    /// Its number in the format; weights and bytes of a block.
    fn layout(self) -> (u32, usize, usize) {
        match self {
            Self::F16 => (1, 1, 2),
            Self::Q80 => (8, 32, 34),
            Self::Q4K => (12, 256, 144),
        }
    }

    /// Appends a random block of weights about 1/50 large, as those of a layer 3072 wide are.
    fn block(self, random: &mut Random, bytes: &mut Vec<u8>) {
        // Numbers in f16: 2^-6 to 2^-5 of either sign; 2^-12; 2^-14 and 2^-11.
        match self {
            Self::F16 => bytes.extend((random.next() as u16 & 0x83FF | 0x2400).to_le_bytes()),
            Self::Q80 => {
                bytes.extend(0x0C00u16.to_le_bytes());
                bytes.extend((0..32).map(|_| random.next() as u8));
            }
            Self::Q4K => {
                bytes.extend(0x0400u16.to_le_bytes());
                bytes.extend(0x1000u16.to_le_bytes());
                bytes.extend((0..140).map(|_| random.next() as u8));
            }
        }
    }
}

/// The sizes of a model of Minitron's architecture.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
}

/// Minitron-4B-Base, by its configuration.
const MINITRON_4B: Shape =
    Shape { layers: 32, hidden: 3072, feed_forward: 9216, heads: 24, kv_heads: 8, vocabulary: 256_000 };
/// One that a processor runs at once, with the same ratios.
const SMALL: Shape =
    Shape { layers: 4, hidden: 768, feed_forward: 2304, heads: 6, kv_heads: 2, vocabulary: 4096 };
const HEAD: usize = 128;
const CONTEXT: usize = 4096;

/// What comes after `cargo xtask synthetic`.
pub fn from_arguments(args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let (mut file, mut element, mut shape) = (None, Element::F16, MINITRON_4B);
    for arg in args {
        match arg.as_str() {
            "--small" => shape = SMALL,
            _ if file.is_none() => file = Some(arg),
            name => element = Element::parse(name)?,
        }
    }
    let file = file.context("synthetic wants the name of a file")?;
    // Half of one would be taken for a model.
    let unfinished = Path::new(&file).with_extension("unfinished");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    write(&mut out, shape, element).and_then(|()| out.flush()).with_context(|| format!("writing {file}"))?;
    Ok(std::fs::rename(unfinished, file)?)
}

/// A tensor, with the width of its rows first, as the format has it.
struct Tensor {
    name: String,
    dims: Vec<usize>,
    /// What each number of a vector is; matrices have random ones.
    value: Option<f32>,
}

fn tensors(shape: Shape) -> Vec<Tensor> {
    let Shape { layers, hidden, feed_forward, heads, kv_heads, vocabulary } = shape;
    let matrix = |name: String, width, rows| Tensor {
        name: format!("{name}.weight"),
        dims: vec![width, rows],
        value: None,
    };
    let norm = |name: String| {
        // In this format one is added to the weights of the norms already.
        [("weight", 1.0), ("bias", 0.0)].map(|(part, value)| Tensor {
            name: format!("{name}.{part}"),
            dims: vec![hidden],
            value: Some(value),
        })
    };
    let mut all = vec![matrix("token_embd".into(), hidden, vocabulary)];
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        all.extend(norm(name("attn_norm")));
        all.push(matrix(name("attn_q"), hidden, heads * HEAD));
        all.push(matrix(name("attn_k"), hidden, kv_heads * HEAD));
        all.push(matrix(name("attn_v"), hidden, kv_heads * HEAD));
        all.push(matrix(name("attn_output"), heads * HEAD, hidden));
        all.extend(norm(name("ffn_norm")));
        all.push(matrix(name("ffn_up"), hidden, feed_forward));
        all.push(matrix(name("ffn_down"), feed_forward, hidden));
    }
    all.extend(norm("output_norm".into()));
    all.push(matrix("output".into(), hidden, vocabulary));
    all
}

/// A tensor's data begins at a multiple of this.
const ALIGNMENT: usize = 32;

fn write(out: &mut impl Write, shape: Shape, element: Element) -> io::Result<()> {
    let all = tensors(shape);
    let (kind, weights, bytes) = element.layout();
    let length = |tensor: &Tensor| match tensor.value {
        Some(_) => tensor.dims[0] * 4,
        None => tensor.dims.iter().product::<usize>() / weights * bytes,
    };
    let mut header = Header::new(all.len(), shape);
    let mut offset = 0usize;
    for tensor in &all {
        header.text(&tensor.name);
        header.number(tensor.dims.len() as u32);
        for &dim in &tensor.dims {
            header.long(dim as u64);
        }
        header.number(if tensor.value.is_some() { 0 } else { kind });
        header.long(offset as u64);
        offset += length(tensor).next_multiple_of(ALIGNMENT);
    }
    header.pad();
    out.write_all(&header.bytes)?;

    // A few megabytes of weights again and again: making billions takes longer than measuring with them. Each tensor goes on
    // where the last one ended, so that no two of them are the same.
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut supply = Vec::new();
    while supply.len() < (4 << 20) + 7 * bytes {
        element.block(&mut random, &mut supply);
    }
    let mut at = 0;
    for tensor in &all {
        let mut left = length(tensor);
        let padding = left.next_multiple_of(ALIGNMENT) - left;
        if let Some(value) = tensor.value {
            out.write_all(&value.to_le_bytes().repeat(tensor.dims[0]))?;
            left = 0;
        }
        while left > 0 {
            let part = left.min(supply.len() - at);
            out.write_all(&supply[at..at + part])?;
            left -= part;
            at = (at + part) % supply.len();
        }
        out.write_all(&[0; ALIGNMENT][..padding])?;
    }
    Ok(())
}

/// The beginning of a file: metadata, and a table of tensors.
struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// With the metadata. The vocabulary is of 256 bytes and two control tokens; what more there is stands for nothing.
    fn new(tensors: usize, shape: Shape) -> Self {
        let mut header = Self { bytes: b"GGUF".to_vec() };
        let integers = [
            ("nemotron.block_count", shape.layers),
            ("nemotron.context_length", CONTEXT),
            ("nemotron.embedding_length", shape.hidden),
            ("nemotron.feed_forward_length", shape.feed_forward),
            ("nemotron.attention.head_count", shape.heads),
            ("nemotron.attention.head_count_kv", shape.kv_heads),
            ("nemotron.attention.key_length", HEAD),
            ("nemotron.rope.dimension_count", HEAD / 2),
            ("nemotron.vocab_size", shape.vocabulary),
            ("tokenizer.ggml.bos_token_id", 256),
            ("tokenizer.ggml.eos_token_id", 257),
        ];
        let floats = [("nemotron.attention.layer_norm_epsilon", 1e-5f32), ("nemotron.rope.freq_base", 1e4)];
        let texts = [
            ("general.architecture", "nemotron"),
            ("tokenizer.ggml.model", "gpt2"),
            ("tokenizer.ggml.pre", "gpt-2"),
        ];
        header.number(3);
        header.long(tensors as u64);
        header.long((integers.len() + floats.len() + texts.len() + 3) as u64);
        for (key, value) in integers {
            header.key(key, 4);
            header.number(value as u32);
        }
        for (key, value) in floats {
            header.key(key, 6);
            header.bytes.extend(value.to_le_bytes());
        }
        for (key, value) in texts {
            header.key(key, 8);
            header.text(value);
        }
        header.array("tokenizer.ggml.tokens", 8, shape.vocabulary);
        for token in bytes_as_gpt2_spells_them() {
            header.text(&token.to_string());
        }
        header.text("<s>");
        header.text("</s>");
        // The only merge there is.
        header.text("ls");
        for i in 259..shape.vocabulary {
            header.text(&format!("<unused{i}>"));
        }
        header.array("tokenizer.ggml.token_type", 5, shape.vocabulary);
        for i in 0..shape.vocabulary {
            header.number(if (256..258).contains(&i) { 3 } else { 1 });
        }
        header.array("tokenizer.ggml.merges", 8, 1);
        header.text("l s");
        header
    }

    fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.long(text.len() as u64);
        self.bytes.extend(text.bytes());
    }

    /// A key, and the number of its type.
    fn key(&mut self, key: &str, kind: u32) {
        self.text(key);
        self.number(kind);
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, 9);
        self.number(kind);
        self.long(length as u64);
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// The 256 bytes in characters that can be seen; those that can't be have others in their place.
fn bytes_as_gpt2_spells_them() -> impl Iterator<Item = char> {
    let mut next = 256;
    (0..=255u32).filter_map(move |byte| {
        if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
            return char::from_u32(byte);
        }
        next += 1;
        char::from_u32(next - 1)
    })
}

/// Marsaglia's xorshift. What it gives is the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file must be as a whole, the engine tells: `benches/gpu.sh --small` loads it.
    #[test]
    fn a_file_is_as_long_as_its_tensors() {
        for (name, bits) in [("f16", 16.0), ("q8_0", 8.5), ("q4_k", 4.5)] {
            let element = Element::parse(name).unwrap();
            let mut file = Vec::new();
            let shape = Shape { layers: 1, vocabulary: 512, ..SMALL };
            write(&mut file, shape, element).unwrap();
            let all = tensors(shape);
            let matrices = all.iter().filter(|tensor| tensor.value.is_none());
            let weights: usize = matrices.map(|tensor| tensor.dims.iter().product::<usize>()).sum();
            let least = weights as f64 * bits / 8.0;
            let more = file.len() as f64 - least;
            assert!((0.0..100_000.0).contains(&more), "{name}: {more} bytes beside the matrices");
            assert_eq!(file.len() % ALIGNMENT, 0);
        }
        assert!(Element::parse("q5_1").is_err());
    }

    #[test]
    fn the_shape_is_minitrons() {
        let weights: usize =
            tensors(MINITRON_4B).iter().map(|tensor| tensor.dims.iter().product::<usize>()).sum();
        assert_eq!(weights, 4_190_509_056);
    }
}
