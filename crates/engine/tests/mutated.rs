//! Whole models of which something was changed at random: they are loaded, or refused with an error that names the file,
//! and never is memory asked for that a file of this size can't need.

#![allow(clippy::unwrap_used)] // Helpers of tests fail the test as the tests themselves do.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use nemoterm_engine::{DeviceChoice, LoadOptions, Model, Quantisation, Source};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};
use tempfile::{TempDir, tempdir};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// Bits of one byte are flipped.
    Flip(prop::sample::Index, u8),
    /// The file ends there.
    Cut(prop::sample::Index),
    /// Eight bytes, as most lengths are, become another number.
    Long(prop::sample::Index, u64),
    /// Four bytes, as counts of dimensions and types are, become another number.
    Short(prop::sample::Index, u32),
    /// A piece of it is there twice.
    Repeat(prop::sample::Index, u8),
    /// A piece of it is missing.
    Drop(prop::sample::Index, u8),
    /// A run of digits, as lengths in a header of text are, becomes another number.
    Digits(prop::sample::Index, u64),
}

impl Change {
    /// Changes a file, the most of it before `most`, where lengths and names are.
    fn apply(&self, bytes: &mut Vec<u8>, most: usize) {
        let most = most.min(bytes.len());
        if most < 9 {
            return;
        }
        match *self {
            Self::Flip(at, bits) => bytes[at.index(most)] ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Long(at, number) => {
                let at = at.index(most - 8);
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            Self::Short(at, number) => {
                let at = at.index(most - 8);
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            Self::Repeat(at, length) => {
                let at = at.index(most);
                let end = bytes.len().min(at + usize::from(length));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Drop(at, length) => {
                let at = at.index(most);
                let end = bytes.len().min(at + usize::from(length));
                bytes.drain(at..end);
            }
            Self::Digits(at, number) => {
                let from = at.index(most);
                let Some(start) = bytes[from..most].iter().position(u8::is_ascii_digit) else { return };
                let start = from + start;
                let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(start..start + length, number.to_string().into_bytes());
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<prop::sample::Index>;
    let long = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 63),
        Just((1 << 63) - 1),
        Just(1 << 32),
        Just(1 << 28),
        any::<u64>(),
        0..4096u64,
    ];
    let short = prop_oneof![Just(0), Just(u32::MAX), Just(1 << 31), Just(1 << 27), any::<u32>(), 0..40u32];
    let change = prop_oneof![
        4 => (at(), 1..=255u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => at().prop_map(Change::Cut),
        4 => (at(), long.clone()).prop_map(|(at, number)| Change::Long(at, number)),
        4 => (at(), short).prop_map(|(at, number)| Change::Short(at, number)),
        1 => (at(), any::<u8>()).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => (at(), any::<u8>()).prop_map(|(at, length)| Change::Drop(at, length)),
        2 => (at(), long).prop_map(|(at, number)| Change::Digits(at, number)),
    ];
    prop::collection::vec(change, 1..4)
}

struct Subject {
    temp: TempDir,
    source: Source,
    /// The file that is changed, and what it was.
    file: PathBuf,
    valid: Vec<u8>,
    /// Where its data begins, about.
    header: usize,
}

impl Subject {
    /// A fixture's directory, with one of its files to be changed.
    fn new(fixture: &str, name: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        let temp = tempdir().unwrap();
        let is_gguf = name.ends_with(".gguf");
        let names: &[&str] =
            if is_gguf { &["tokenizer.json", name] } else { &["config.json", "tokenizer.json", name] };
        for name in names {
            fs::copy(from.join(name), temp.path().join(name)).unwrap();
        }
        let file = temp.path().join(name);
        let valid = fs::read(&file).unwrap();
        let header = if is_gguf {
            valid.windows(18).rposition(|text| text == b"output_norm.weight").unwrap_or(valid.len()) + 64
        } else {
            8 + u64::from_le_bytes(valid[..8].try_into().unwrap()) as usize
        };
        let source =
            if is_gguf { Source::Gguf(file.clone()) } else { Source::Directory(temp.path().to_owned()) };
        Self { temp, source, file, valid, header }
    }

    /// Loads it as it is now, and runs it where that works. Returns whether it did, and the memory that took.
    fn load(&self) -> Result<(bool, usize), String> {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let options = LoadOptions {
            device: DeviceChoice::Cpu,
            threads: Some(1),
            max_context: Some(32),
            quantise: Some(Quantisation::Q8_0),
            ..LoadOptions::default()
        };
        let worked = match Model::load(&self.source, &options) {
            Ok(model) => {
                // Numbers may be anything; a refusal is as good as a row of them.
                let _ = model.logits(&[1, 2, 3]);
                true
            }
            Err(error) => {
                let error = error.to_string();
                let directory = self.temp.path().to_str().unwrap();
                if !error.contains(directory) || error.contains('\n') {
                    return Err(format!("names no file, or has two lines: {error}"));
                }
                false
            }
        };
        Ok((worked, MEMORY.peak_usage().saturating_sub(before)))
    }
}

/// One test: the allocator counts for the whole process.
#[test]
fn changed_files_are_refused_by_name_and_take_no_more_than_their_size() {
    for (fixture, name) in [
        ("llama-8-1", "model.gguf"),
        ("nemotron-3-1", "model.gguf"),
        ("nemotron-h-3-1", "model.gguf"),
        ("nemotron-h-bias", "model.safetensors"),
        ("qwen2-tied", "model.gguf"),
        ("llama-bias", "model.safetensors"),
        ("gemma3-8-1", "model.safetensors"),
    ] {
        let subject = Subject::new(fixture, name);
        let (worked, usual) = subject.load().unwrap();
        assert!(worked, "{fixture}/{name} as it is");
        // What a loaded model takes beside its file: the tokenizer, mostly, which is not what is changed.
        let most = 2 * usual + 8 * subject.valid.len();
        let mut config =
            ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
        // The same changes each time, so that a failure can be looked at. PROPTEST_RNG_SEED names others.
        if let RngSeed::Random = config.rng_seed {
            config.rng_seed = RngSeed::Fixed(1);
        }
        let mut runner = TestRunner::new(config);
        let (taken, largest) = (Cell::new(0), Cell::new(0));
        let outcome = runner.run(&changes(), |changes| {
            let mut bytes = subject.valid.clone();
            for change in &changes {
                change.apply(&mut bytes, subject.header);
            }
            // By rename: a file that is mapped is not changed under anybody.
            let new = subject.file.with_extension("new");
            fs::write(&new, &bytes).unwrap();
            fs::rename(&new, &subject.file).unwrap();
            drop(bytes);
            let (worked, memory) = subject.load().map_err(TestCaseError::fail)?;
            taken.set(taken.get() + usize::from(worked));
            largest.set(memory.max(largest.get()));
            prop_assert!(memory <= most, "{memory} bytes of memory, {usual} for the whole file");
            Ok(())
        });
        println!(
            "{fixture}/{name}: {} bytes, {usual} of memory as it is, {} at most; {} were taken",
            subject.valid.len(),
            largest.get(),
            taken.get()
        );
        if let Err(failed) = outcome {
            panic!("{fixture}/{name}: {failed}");
        }
    }
}
