//! GGUF files put together byte by byte, each with one thing wrong: the cases that llama.cpp's own test of its reader
//! has, and those that matter for a program that maps the file.

use crate::config::Config;
use crate::weights::Bytes;
use crate::weights::gguf::read_gguf;

const U32: u32 = 4;
const I32: u32 = 5;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A file of two tensors of eight numbers each, unless something else is said.
#[derive(Clone)]
struct Crafted {
    magic: &'static [u8; 4],
    version: u32,
    /// Counts, where they are not those of what is there.
    tensor_count: Option<u64>,
    entry_count: Option<u64>,
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    /// What the data begins at a multiple of.
    alignment: usize,
    /// Bytes of data.
    data: usize,
}

fn valid() -> Crafted {
    Crafted {
        magic: b"GGUF",
        version: 3,
        tensor_count: None,
        entry_count: None,
        entries: vec![entry("general.architecture", TEXT, &text(b"llama"))],
        tensors: vec![tensor("a", &[4, 2], 0, 0), tensor("b", &[8], 0, 32)],
        alignment: 32,
        data: 64,
    }
}

impl Crafted {
    fn bytes(&self) -> Vec<u8> {
        let count = |claim: Option<u64>, there: usize| claim.unwrap_or(there as u64).to_le_bytes();
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(count(self.tensor_count, self.tensors.len()));
        bytes.extend(count(self.entry_count, self.entries.len()));
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment) + self.data, 0);
        bytes
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key.as_bytes()), &kind.to_le_bytes()[..], value].concat()
}

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// The entry of a tensor; dimensions as GGUF has them, the width first.
fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let rank = dims.len() as u32;
    ranked(name, rank, dims, kind, offset)
}

fn ranked(name: &str, rank: u32, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name.as_bytes());
    bytes.extend(rank.to_le_bytes());
    bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// The valid file with one thing changed.
fn with(change: impl FnOnce(&mut Crafted)) -> Vec<u8> {
    let mut crafted = valid();
    change(&mut crafted);
    crafted.bytes()
}

fn with_entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    with(|file| file.entries.push(entry(key, kind, value)))
}

/// The valid file with another second tensor.
fn with_tensor(bytes: Vec<u8>) -> Vec<u8> {
    with(|file| file.tensors[1] = bytes)
}

fn with_alignment(kind: u32, alignment: u32) -> Vec<u8> {
    with_entry("general.alignment", kind, &alignment.to_le_bytes())
}

#[test]
fn files_with_nothing_wrong_are_read() {
    for (what, bytes) in [
        ("version 3", with(|_| ())),
        ("version 2", with(|file| file.version = 2)),
        ("nothing in it", with(|file| (file.entries, file.tensors, file.data) = (vec![], vec![], 0))),
        ("keys alone", with(|file| (file.tensors, file.data) = (vec![], 0))),
        (
            "alignment 1",
            with(|file| {
                file.entries.push(entry("general.alignment", U32, &1u32.to_le_bytes()));
                file.alignment = 1;
                file.tensors[1] = tensor("b", &[7], 0, 33);
            }),
        ),
        ("a tensor of one number without a dimension", with_tensor(tensor("b", &[], 0, 32))),
        // Of no use, and no harm: the model that asks for such a tensor has an error of its own.
        ("a tensor of no numbers", with_tensor(tensor("b", &[0, 8], 0, 32))),
        ("an array", with_entry("x", ARRAY, &array(U32, 2, &[0; 8]))),
        ("an array of nothing", with_entry("x", ARRAY, &array(TEXT, 0, &[]))),
        (
            "a gap between tensors",
            with(|file| {
                file.tensors[1] = tensor("b", &[8], 0, 64);
                file.data = 96;
            }),
        ),
        ("more behind the data", with(|file| file.data = 4096)),
    ] {
        if let Err(error) = read_gguf(&Bytes::from_vec(bytes), "crafted.gguf") {
            panic!("{what}: {error}");
        }
    }
}

#[test]
fn files_with_one_thing_wrong_are_refused_and_it_is_named() {
    const MOST: u64 = u64::MAX;
    // Positive as a signed number, and so much that a few of them overflow.
    const MUCH: u64 = 1 << 62;
    let mut wrong = Vec::new();
    for (what, bytes, field, reason) in [
        // The header.
        ("bad magic", with(|file| file.magic = b"FUGG"), "magic", "not a GGUF file"),
        ("the other byte order", with(|file| file.version = 3u32.swap_bytes()), "version", "is not 2 or 3"),
        ("version 0", with(|file| file.version = 0), "version", "0 is not 2 or 3"),
        ("version 1", with(|file| file.version = 1), "version", "1 is not 2 or 3"),
        ("a version to come", with(|file| file.version = 4), "version", "4 is not 2 or 3"),
        ("count of tensors", with(|file| file.tensor_count = Some(MOST)), "tensor name", "of 0 bytes"),
        ("count of entries", with(|file| file.entry_count = Some(MOST)), "metadata key", ""),
        ("one entry too many", with(|file| file.entry_count = Some(2)), "tensor name", "truncated"),
        ("an empty file", Vec::new(), "magic", "truncated"),
        ("the magic alone", b"GGUF".to_vec(), "version", "truncated"),
        // The metadata.
        (
            "length of a key",
            with(|file| file.entries = vec![MOST.to_le_bytes().to_vec()]),
            "metadata key",
            "truncated",
        ),
        ("an empty key", with_entry("", U32, &[0; 4]), "metadata key", "of 0 bytes"),
        ("a key that is too long", with_entry(&"k".repeat(65_536), U32, &[0; 4]), "metadata key", "65536"),
        ("type of a value", with_entry("x", 13, &[0; 8]), "x", "unknown value type 13"),
        ("length of a text", with_entry("x", TEXT, &MOST.to_le_bytes()), "x", "truncated"),
        ("type of an array", with_entry("x", ARRAY, &array(13, 1, &[0; 8])), "x", "value type 13"),
        ("an array of arrays", with_entry("x", ARRAY, &array(ARRAY, 1, &[0; 12])), "x", "value type 9"),
        (
            "count of an array",
            with_entry("x", ARRAY, &array(U32, MOST, &[0; 8])),
            "x",
            "does not fit the file",
        ),
        ("count of texts", with_entry("x", ARRAY, &array(TEXT, MUCH, &[0; 8])), "x", "does not fit the file"),
        (
            "a key twice",
            with_entry("general.architecture", TEXT, &text(b"qwen2")),
            "general.architecture",
            "appears twice",
        ),
        ("alignment 0", with_alignment(U32, 0), "general.alignment", "not a power of two"),
        ("alignment 13", with_alignment(U32, 13), "general.alignment", "not a power of two"),
        ("a signed alignment", with_alignment(I32, 32), "general.alignment", "not a power of two"),
        (
            "an alignment beyond all files",
            with_entry("general.alignment", 10, &(1u64 << 63).to_le_bytes()),
            "tensor \"a\"",
            "beyond the end",
        ),
        // The table of tensors.
        ("length of a name", with_tensor(MOST.to_le_bytes().to_vec()), "tensor name", "truncated"),
        (
            "a name that is too long",
            with_tensor(tensor(&"n".repeat(65), &[8], 0, 32)),
            "tensor name",
            "has 65 bytes, at most 64",
        ),
        ("five dimensions", with_tensor(tensor("b", &[1; 5], 0, 32)), "b", "5 dimensions, at most 4"),
        (
            "more dimensions than bytes",
            with_tensor(ranked("b", u32::MAX, &[8], 0, 32)),
            "b",
            "4294967295 dimensions",
        ),
        ("a negative dimension", with_tensor(tensor("b", &[MOST], 0, 32)), "tensor \"b\"", "overflows"),
        ("too many numbers", with_tensor(tensor("b", &[MUCH, 4], 0, 32)), "tensor \"b\"", "overflows"),
        ("too many bytes", with_tensor(tensor("b", &[MUCH], 0, 32)), "tensor \"b\"", "overflows"),
        (
            "a type to come",
            with_tensor(tensor("b", &[8], 99, 32)),
            "tensor \"b\" of type 99",
            "not supported",
        ),
        (
            "a type that is no more",
            with_tensor(tensor("b", &[8], 4, 32)),
            "tensor \"b\" of type 4",
            "not supported",
        ),
        (
            "half a block",
            with_tensor(tensor("b", &[16], 8, 32)),
            "tensor \"b\"",
            "not divisible by the block of Q8_0",
        ),
        (
            "half a block of the large ones",
            with_tensor(tensor("b", &[128, 2], 12, 32)),
            "tensor \"b\"",
            "not divisible by the block of Q4_K",
        ),
        ("a name twice", with_tensor(tensor("a", &[8], 0, 32)), "tensor \"a\"", "appears twice"),
        // The data.
        (
            "an offset between two",
            with_tensor(tensor("b", &[8], 0, 33)),
            "tensor \"b\"",
            "33 is not aligned to 32",
        ),
        ("an offset beyond the end", with_tensor(tensor("b", &[8], 0, 96)), "tensor \"b\"", "beyond the end"),
        (
            "an offset that overflows",
            with_tensor(tensor("b", &[8], 0, MOST - 31)),
            "tensor \"b\"",
            "beyond the end",
        ),
        (
            "the same data twice",
            with_tensor(tensor("b", &[8], 0, 0)),
            "tensor \"b\"",
            "overlaps that of \"a\"",
        ),
        (
            "data that begins in other data",
            with(|file| {
                file.tensors[0] = tensor("a", &[9], 0, 0);
            }),
            "tensor \"b\"",
            "overlaps that of \"a\"",
        ),
        ("too little data", with(|file| file.data = 63), "tensor \"b\"", "beyond the end of the file"),
        ("no data", with(|file| file.data = 0), "tensor \"a\"", "beyond the end of the file"),
        (
            "sizes that overflow together",
            with(|file| {
                file.tensors[0] = tensor("a", &[MUCH - 8], 0, 0);
                file.tensors[1] = tensor("b", &[MUCH - 8], 0, 32);
            }),
            "tensor \"a\"",
            "",
        ),
    ] {
        let answer = match read_gguf(&Bytes::from_vec(bytes), "crafted.gguf") {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        };
        let named = answer.strip_prefix("crafted.gguf: ");
        let is_right = named.is_some_and(|named| named.starts_with(field) && named.contains(reason));
        if !is_right || answer.contains('\n') {
            wrong.push(format!("{what}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The metadata of a hybrid of three layers, one of them replaced or left out.
fn hybrid(changed: &str, value: Option<Vec<u8>>) -> Vec<u8> {
    let number = |n: u32| [&U32.to_le_bytes()[..], &n.to_le_bytes()].concat();
    let mut entries = vec![entry("general.architecture", TEXT, &text(b"nemotron_h"))];
    let epsilon = [&6u32.to_le_bytes()[..], &1e-5f32.to_le_bytes()].concat();
    for (name, default) in [
        ("block_count", number(3)),
        ("context_length", number(64)),
        ("embedding_length", number(16)),
        ("vocab_size", number(8)),
        ("attention.head_count", number(4)),
        ("attention.head_count_kv", sizes(&[0, 2, 0])),
        ("feed_forward_length", sizes(&[0, 0, 24])),
        ("attention.layer_norm_rms_epsilon", epsilon),
        ("ssm.conv_kernel", number(4)),
        ("ssm.inner_size", number(24)),
        ("ssm.state_size", number(8)),
        ("ssm.time_step_rank", number(6)),
        ("ssm.group_count", number(2)),
        ("expert_count", number(0)),
    ] {
        let value = if name == changed { value.clone() } else { Some(default) };
        let key = format!("nemotron_h.{name}");
        entries.extend(value.map(|value| [&text(key.as_bytes()), value.as_slice()].concat()));
    }
    with(|file| file.entries = entries)
}

/// An array of sizes with its type.
fn sizes(sizes: &[u32]) -> Vec<u8> {
    let elements: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    [&ARRAY.to_le_bytes()[..], &array(U32, sizes.len() as u64, &elements)].concat()
}

#[test]
fn hybrids_with_one_thing_wrong_are_refused_and_it_is_named() {
    let answer = |bytes: Vec<u8>| {
        let gguf = read_gguf(&Bytes::from_vec(bytes), "crafted.gguf").unwrap();
        match Config::from_gguf(&gguf.metadata, None) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let number = |n: u32| Some([&U32.to_le_bytes()[..], &n.to_le_bytes()].concat());
    let negative = [&ARRAY.to_le_bytes()[..], &array(I32, 3, &[[0; 4], [0xFF; 4], [0; 4]].concat())].concat();
    assert_eq!(answer(hybrid("", None)), "taken");
    for (key, value) in [
        ("expert_count", None),
        // As older versions of the converter have it.
        ("attention.head_count", Some(sizes(&[0, 4, 0]))),
        ("feed_forward_length", Some(sizes(&[24, 0, 0]))),
    ] {
        assert_eq!(answer(hybrid(key, value)), "taken", "{key}");
    }
    let mut wrong = Vec::new();
    for (key, value, expected) in [
        ("attention.head_count_kv", number(2), "attention.head_count_kv: is not an array of integers"),
        ("attention.head_count_kv", None, "attention.head_count_kv: is missing"),
        ("attention.head_count_kv", Some(negative), "attention.head_count_kv: is not an array of sizes"),
        ("attention.head_count_kv", Some(sizes(&[0, 2])), "attention.head_count_kv: has 2 elements"),
        ("attention.head_count_kv", Some(sizes(&[0, 2, 2])), "layer 2 has both attention and"),
        ("attention.head_count_kv", Some(sizes(&[1, 2, 0])), "head_count_kv that differs between layers"),
        ("attention.head_count_kv", Some(sizes(&[0, 0, 0])), "head_count_kv of 0 in all layers"),
        ("attention.head_count_kv", Some(sizes(&[0, 3, 0])), "heads: 4 are not a multiple of 3"),
        ("attention.head_count", Some(sizes(&[3, 4, 0])), "head_count that differs between layers"),
        ("feed_forward_length", number(24), "feed_forward_length: is not an array of integers"),
        ("feed_forward_length", Some(sizes(&[0, 0, 0])), "feed_forward_length of 0 in all layers"),
        ("feed_forward_length", Some(sizes(&[8, 0, 24])), "feed_forward_length that differs"),
        ("block_count", number(4), "kinds of layers: 3 for 4 layers"),
        ("block_count", number(u32::MAX), "layers: 4294967295 is out of range"),
        ("ssm.conv_kernel", number(0), "convolution kernel: 0 is out of range"),
        ("ssm.conv_kernel", number(65), "convolution kernel: 65 is out of range"),
        ("ssm.inner_size", number(25), "ssm.inner_size: 25 is not a multiple of 6 heads"),
        ("ssm.inner_size", number(0), "state-space head size: 0 is out of range"),
        ("ssm.inner_size", number(6 << 20), "state-space head size: 1048576 is out of range"),
        ("ssm.state_size", number(0), "state size: 0 is out of range"),
        ("ssm.state_size", number(u32::MAX), "state size: 4294967295 is out of range"),
        ("ssm.time_step_rank", number(0), "ssm.inner_size: 24 is not a multiple of 0 heads"),
        ("ssm.time_step_rank", None, "ssm.time_step_rank: is missing"),
        ("ssm.group_count", number(0), "state-space groups: 0 is out of range"),
        ("ssm.group_count", number(4), "state-space heads: 6 are not a multiple of 4 groups"),
        ("expert_count", number(8), "a mixture of experts is not supported"),
    ] {
        let answer = answer(hybrid(key, value));
        if !answer.contains(expected) || !answer.starts_with("crafted.gguf: ") || answer.contains('\n') {
            wrong.push(format!("{key}, {expected}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
