//! Any bytes as the weights beside a configuration and a tokenizer that are in order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nemoterm_engine::Source;

const CONFIG: &[u8] = include_bytes!("../../crates/engine/tests/fixtures/llama-bias/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../crates/engine/tests/fixtures/llama-bias/tokenizer.json");

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, contents) in
        [("config.json", CONFIG), ("tokenizer.json", TOKENIZER), ("model.safetensors", bytes)]
    {
        std::fs::write(directory.path().join(name), contents).expect("a temporary file");
    }
    nemoterm_fuzz::load(&Source::Directory(directory.path().to_owned()), directory.path());
});
