//! Files that lie. Every one is refused with an error that names what is wrong; none panics or asks for absurd memory.

use std::path::Path;

use candle_core::quantized::GgmlDType;
use tempfile::tempdir;

use super::fabricate::{Fabricated, Shape};
use crate::config::Config;
use crate::{LoadError, LoadOptions, Model, Source};

/// Loads a GGUF file with these bytes.
fn load(bytes: &[u8]) -> Result<Model, LoadError> {
    let directory = tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Model::load(&Source::Gguf(path), &LoadOptions::default())
}

fn error(bytes: &[u8]) -> String {
    let error = load(bytes).err().expect("the file is refused").to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("the bytes are there")
}

/// The file with the bytes behind `after` overwritten.
fn patched(bytes: &[u8], after: &str, skip: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = find(&bytes, after.as_bytes()) + after.len() + skip;
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

fn valid() -> Vec<u8> {
    Fabricated::new(Shape::llama(6, 2, false)).gguf(GgmlDType::F32)
}

#[test]
fn gguf_headers_that_lie_are_refused() {
    let valid = valid();
    assert!(load(&valid).is_ok());
    // A tensor's entry is its name, the number of dimensions, the dimensions, the type, the offset.
    let tensor = "blk.1.ffn_up.weight";
    let (rank, dims, kind, offset) = (0, 4, 20, 24);
    let huge = u64::MAX.to_le_bytes();
    for (what, bytes, expected) in [
        ("magic", patched(&valid, "GG", 0, b"ML"), "magic"),
        ("version", patched(&valid, "GGUF", 0, &9u32.to_le_bytes()), "version"),
        ("tensor count", patched(&valid, "GGUF", 4, &huge), "tensor name"),
        ("metadata count", patched(&valid, "GGUF", 12, &huge), "metadata key"),
        ("string length", patched(&valid, "general.architecture", 4, &huge), "general.architecture"),
        (
            "value type",
            patched(&valid, "general.architecture", 0, &77u32.to_le_bytes()),
            "unknown value type 77",
        ),
        ("array length", patched(&valid, "tokenizer.ggml.tokens", 8, &huge), "tokenizer.ggml.tokens"),
        (
            "array type",
            patched(&valid, "tokenizer.ggml.tokens", 4, &9u32.to_le_bytes()),
            "tokenizer.ggml.tokens",
        ),
        ("rank", patched(&valid, tensor, rank, &9u32.to_le_bytes()), "dimensions"),
        ("dimension", patched(&valid, tensor, dims, &huge), "overflows"),
        (
            "dimension",
            patched(&valid, tensor, dims, &63u64.to_le_bytes()),
            "has shape [96, 63], expected [96, 64]",
        ),
        (
            "block",
            patched(&patched(&valid, tensor, dims, &40u64.to_le_bytes()), tensor, kind, &2u32.to_le_bytes()),
            "divisible",
        ),
        ("type", patched(&valid, tensor, kind, &99u32.to_le_bytes()), "type 99"),
        ("offset", patched(&valid, tensor, offset, &(1u64 << 40).to_le_bytes()), "beyond the end"),
        ("offset", patched(&valid, tensor, offset, &(u64::MAX - 31).to_le_bytes()), "beyond the end"),
        ("alignment", patched(&valid, tensor, offset, &1u64.to_le_bytes()), "not aligned"),
        ("heads", patched(&valid, "llama.attention.head_count", 4, &0u32.to_le_bytes()), "head_count: is 0"),
        ("kv heads", patched(&valid, "llama.attention.head_count_kv", 4, &4u32.to_le_bytes()), "multiple"),
        (
            "layers",
            patched(&valid, "llama.block_count", 4, &(1u32 << 27).to_le_bytes()),
            "blk.2.attn_norm.weight",
        ),
        ("rotary", patched(&valid, "llama.rope.dimension_count", 4, &25u32.to_le_bytes()), "rotary size"),
        ("kind", patched(&valid, "llama.block_count", 0, &8u32.to_le_bytes()), ""),
    ] {
        let message = error(&bytes);
        assert!(message.contains(expected), "{what}: {message}");
        assert!(message.contains("model.gguf"), "{what}: {message}");
    }
}

#[test]
fn configurations_that_lie_are_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemma3-8-1/config.json");
    let valid: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let read = |key: &str, value: serde_json::Value| {
        let mut config = valid.clone();
        config[key] = value;
        Config::from_json(config.to_string().as_bytes(), "config.json")
    };
    assert!(read("unknown", 1.into()).is_ok());
    for (key, value, expected) in [
        ("sliding_window", 0.into(), "sliding window: is 0"),
        ("layer_types", serde_json::json!(["full_attention"]), "layer_types: has 1 elements, not 6"),
        ("layer_types", serde_json::json!(["chunked_attention"]), "layer type \"chunked_attention\""),
        ("query_pre_attn_scalar", 0.into(), "query_pre_attn_scalar"),
        ("query_pre_attn_scalar", (-4).into(), "query_pre_attn_scalar"),
        ("attn_logit_softcapping", 50.into(), "softcapping"),
        ("final_logit_softcapping", 30.into(), "softcapping"),
        ("use_bidirectional_attention", true.into(), "bidirectional"),
        ("hidden_activation", "gelu".into(), "hidden_act \"gelu\""),
        ("rope_parameters", serde_json::json!({ "rope_type": "yarn" }), "rope scaling \"yarn\""),
    ] {
        let message = read(key, value).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("config.json"), "{key}: {message}");
    }
}

#[test]
fn configurations_of_hybrids_that_lie_are_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nemotron-h-bias/config.json");
    let text = std::fs::read_to_string(path).unwrap();
    // As Python writes it; a text that has the word in it stays as it is.
    assert!(text.contains(" Infinity\n"), "{text}");
    let text = text.replace("\"vocab_size\"", "\"note \\\" Infinity\": NaN, \"vocab_size\"");
    let read = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Config::from_json(text.replace(from, to).as_bytes(), "config.json")
    };
    assert!(read("Infinity\n", "{\"__float__\": \"Infinity\"}\n").is_ok());
    let list =
        "\"layers_block_type\": [\"mamba\", \"attention\", \"mlp\", \"linear_attention\"], \"hybrid\": \"\"";
    assert!(read("\"hybrid_override_pattern\": \"M*-M\"", list).is_ok());
    for (from, to, expected) in [
        ("M*-M", "M*EM", "a mixture of experts is not supported"),
        ("M*-M", "M*?M", "layer type \"?\" is not supported"),
        ("M*-M", "M*-", "kinds of layers: 3 for 4 layers"),
        ("\"hybrid_override_pattern\"", "\"pattern\"", "without \"hybrid_override_pattern\""),
        ("\"mamba_num_heads\": 4", "\"mamba_num_heads\": 0", "state-space heads: 0 is out of range"),
        ("\"mamba_num_heads\": 4", "\"mamba_num_heads\": 6", "6 are not a multiple of 4 groups"),
        ("\"mamba_num_heads\": 4", "\"mamba_num_heads\": 1000000", "state-space width: 10000000 is out"),
        (
            "\"mamba_head_dim\": 10",
            "\"mamba_head_dim\": 18446744073709551615",
            "state-space head size: 18446744073709551615 is out of range",
        ),
        ("\"n_groups\": 4", "\"n_groups\": 8", "state-space groups: 8 is out of range"),
        ("\"ssm_state_size\": 12", "\"ssm_state_size\": 4096", "state size: 4096 is out of range"),
        ("\"conv_kernel\": 3", "\"conv_kernel\": 1", "convolution kernel: 1 is out of range"),
        ("\"use_bias\"", "\"mamba_hidden_act\": \"relu\", \"use_bias\"", "mamba_hidden_act \"relu\""),
        ("\"use_bias\"", "\"mlp_hidden_act\": \"silu\", \"use_bias\"", "hidden_act \"silu\""),
        ("Infinity\n", "0.1\n", "a limit of time steps is not supported"),
        ("  0.0,", "  0.001,", "a limit of time steps is not supported"),
    ] {
        let message = read(from, to).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("config.json"), "{from} {to}: {message}");
    }
}

#[test]
fn alignment_of_zero_is_refused() {
    // The key has the length of one that is not needed, so it can take its place.
    let valid = valid();
    let at = find(&valid, b"tokenizer.ggml.model");
    let mut bytes = valid;
    // Shorten that key's own length and drop the surplus, and replace the string by the number 0.
    let key = b"general.alignment";
    let entry =
        [&(key.len() as u64).to_le_bytes()[..], key, &4u32.to_le_bytes(), &0u32.to_le_bytes()].concat();
    let end = at + "tokenizer.ggml.model".len() + 4 + 8 + "gpt2".len();
    bytes.splice(at - 8..end, entry);
    assert!(error(&bytes).contains("general.alignment"));
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    let valid = valid();
    for length in (0..valid.len()).step_by(97) {
        assert!(load(&valid[..length]).is_err(), "{length} of {} bytes", valid.len());
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let valid = valid();
    let header = find(&valid, b"token_embd.weight") + 2000;
    let directory = tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut state = 12345u64;
    for _ in 0..400 {
        let mut bytes = valid.clone();
        for _ in 0..2 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes[(state >> 33) as usize % header] ^= 1 << (state >> 20 & 7);
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(model) = Model::load(&Source::Gguf(path.clone()), &LoadOptions::default()) {
            let _ = model.logits(&[1, 2, 3]);
        }
    }
}

#[test]
fn directories_that_are_no_models_are_named() {
    let directory = tempdir().unwrap();
    let load = |path: &Path| {
        Model::load(&Source::Directory(path.to_owned()), &LoadOptions::default()).err().unwrap()
    };
    let path = directory.path().join("model");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(load(&path), LoadError::NotAModel { missing: "config.json", .. }));

    let fabricated = Fabricated::new(Shape::nemotron(6, 2, 0.5));
    fabricated.write_directory(&path, 1);
    let rewrite = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = path.join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        change(&mut bytes);
        std::fs::write(file, bytes).unwrap();
        let error = load(&path);
        fabricated.write_directory(&path, 1);
        error
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            assert!(text.contains(from), "{text}");
            *bytes = text.replace(from, to).into_bytes();
        }
    };

    let error = rewrite("config.json", &replace("NemotronForCausalLM", "MambaForCausalLM"));
    assert!(
        matches!(error, LoadError::UnknownArchitecture { ref architecture, .. } if architecture == "MambaForCausalLM")
    );
    let error = rewrite("config.json", &replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3"));
    assert!(
        matches!(error, LoadError::MissingTensor { ref tensor, .. } if tensor.starts_with("model.layers.2"))
    );
    let error = rewrite("config.json", &replace("\"relu2\"", "\"gelu\""));
    assert!(matches!(error, LoadError::Unsupported { .. }));
    let error = rewrite("config.json", &|bytes| bytes.truncate(10));
    assert!(matches!(error, LoadError::Malformed { .. }));
    let error = rewrite("model.safetensors", &|bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    let error = rewrite("model.safetensors", &|bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    let error = rewrite("model.safetensors", &|bytes| bytes.clear());
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    let error = rewrite("tokenizer.json", &|bytes| bytes.truncate(100));
    assert!(matches!(error, LoadError::Tokenizer { .. }));

    std::fs::remove_file(path.join("tokenizer.json")).unwrap();
    assert!(matches!(load(&path), LoadError::MissingTokenizer { .. }));
    std::fs::remove_file(path.join("model.safetensors")).unwrap();
    assert!(matches!(load(&path), LoadError::NotAModel { .. }));
    std::fs::write(path.join("pytorch_model.bin"), b"PK\x03\x04 not a zip").unwrap();
    assert!(matches!(load(&path), LoadError::Malformed { .. }));
    std::fs::remove_file(path.join("pytorch_model.bin")).unwrap();
    let index = r#"{"weight_map": {"model.norm.weight": "../../etc/passwd"}}"#;
    std::fs::write(path.join("model.safetensors.index.json"), index).unwrap();
    assert!(load(&path).to_string().contains("not a plain file name"));
}

#[test]
fn files_without_a_tokenizer_say_so() {
    let valid = valid();
    let without = patched(&valid, "tokenizer.ggml.", 0, b"mudel");
    assert!(matches!(load(&without), Err(LoadError::MissingTokenizer { .. })));
    let unknown = patched(&valid, "tokenizer.ggml.pre", 12, b"gpt-9");
    assert!(matches!(load(&unknown), Err(LoadError::MissingTokenizer { .. })));
}
