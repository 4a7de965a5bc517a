//! Vocabularies in GGUF against the libraries they come from (`tests/vocabularies/make.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{FillIn, Tokens, TokensConfig};
use crate::weights::Bytes;
use crate::weights::gguf::read_gguf;

#[derive(Deserialize)]
struct Corpus {
    texts: Vec<String>,
    /// For each vocabulary the ids of each text.
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies")
}

fn config(vocabulary: usize) -> TokensConfig {
    TokensConfig { vocabulary, bos: None, eos: Vec::new(), add_bos: None }
}

fn tokens(name: &str) -> Tokens {
    let path = directory().join(format!("{name}.gguf"));
    let gguf = read_gguf(&Bytes::map(&path).unwrap(), name).unwrap();
    let size = gguf.metadata.texts("tokenizer.ggml.tokens").unwrap().len();
    Tokens::from_gguf(&gguf.metadata, &config(size)).unwrap()
}

#[test]
fn gguf_vocabularies_cut_as_the_libraries_do() {
    let corpus: Corpus =
        serde_json::from_slice(&std::fs::read(directory().join("corpus.json")).unwrap()).unwrap();
    assert_eq!(corpus.ids.len(), 6);
    let mut wrong = Vec::new();
    for (name, ids) in &corpus.ids {
        let tokens = tokens(name);
        assert_eq!(ids.len(), corpus.texts.len());
        for (text, want) in corpus.texts.iter().zip(ids) {
            let have = tokens.encode_plain(text).unwrap();
            if have != *want {
                wrong.push(format!("{name} {text:?}: {have:?}, not {want:?}"));
            }
            // Only Qwen's cut changes characters.
            if name != "qwen2" && !text.contains('\u{2581}') {
                assert_eq!(tokens.decode(&have), *text, "{name}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn marks_around_a_gap_are_control_tokens() {
    let fill_in = FillIn { prefix: 1, middle: 2, suffix: 3, file: None };
    assert_eq!(tokens("qwen2").fill_in(), Some(fill_in));
    assert!(tokens("gemma").fill_in().is_none());

    // In a tokenizer.json of Qwen 2.5 Coder they are not called special.
    let added = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"];
    let added = added.iter().enumerate().map(|(id, name)| {
        serde_json::json!({ "id": id + 3, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                            "normalized": false, "special": id == 0 })
    });
    let level = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                                    "use_regex": true });
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": added.collect::<Vec<_>>(), "pre_tokenizer": level, "decoder": level,
        "model": { "type": "BPE", "vocab": { "<": 0, "|": 1, "a": 2 }, "merges": [] },
    });
    let fill_in = FillIn { prefix: 4, middle: 5, suffix: 6, file: None };
    let tokens = Tokens::from_json(json.to_string().as_bytes(), "made up", &config(8)).unwrap();
    assert_eq!(tokens.fill_in(), Some(fill_in));
    assert_eq!(tokens.decode(&[4, 2]), "a");
    assert_eq!(tokens.encode("<|fim_prefix|>a").unwrap(), [4, 2]);
    assert!(!tokens.encode_plain("<|fim_prefix|>a").unwrap().contains(&4));
}
