//! Any bytes as a GGUF file: metadata, vocabulary, table of tensors.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nemoterm_engine::Source;

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("model.gguf");
    std::fs::write(&file, bytes).expect("a temporary file");
    nemoterm_fuzz::load(&Source::Gguf(file), directory.path());
});
