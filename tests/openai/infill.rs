//! `/infill`, with what llama.vim sends. The embedded model was never taught to fill gaps, so a copy of it gets the marks.

use std::fs;

use serde_json::{Value, json};

use super::server::{Answer, Server};
use crate::util::sandbox::Sandbox;

/// A server with a model that knows the marks of a gap.
pub fn filler() -> Server {
    let sandbox = Sandbox::new();
    let model = sandbox.copy_of_model("filler");
    // Three control tokens of ours get the names of Qwen's marks.
    let file = model.join("tokenizer.json");
    let mut tokenizer = fs::read_to_string(&file).unwrap();
    for (ours, mark) in [("<unk>", "<|fim_prefix|>"), ("<pad>", "<|fim_suffix|>"), ("</s>", "<|fim_middle|>")]
    {
        tokenizer = tokenizer.replace(ours, mark);
    }
    fs::write(&file, tokenizer).unwrap();
    let started = sandbox.nemoterm(&["model", "use", model.to_str().unwrap()]);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    Server::start_in(sandbox)
}

/// A request as the plug-in words it.
fn infill(server: &Server, options: Value) -> Answer {
    let mut body = json!({
        "input_prefix": "ls -la\n",
        "input_suffix": " -type f\n",
        "input_extra": [],
        "prompt": "find . ",
        "n_predict": 8,
        "n_indent": 0,
        "top_k": 40,
        "top_p": 0.99,
        "stream": false,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": true,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 60_000,
        "response_fields": ["content", "timings/prompt_n", "timings/predicted_n", "truncated", "tokens_cached"],
    });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    server.post("/infill", &body)
}

#[test]
fn a_gap_is_filled() {
    let server = filler();
    let expected = server.complete(json!({ "prompt": "ls -la\nfind . ", "suffix": " -type f\n" }));
    let answer = infill(&server, json!({}));
    let json = answer.json();
    assert_eq!(json["content"], expected.text(0), "{}", answer.body);
    assert_eq!(json["truncated"], false);
    assert!(json["timings/predicted_n"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json.as_object().unwrap().len(), 5, "just what was asked for: {json}");
    let all = infill(&server, json!({ "response_fields": null })).json();
    assert_eq!(all["content"], json["content"]);
    assert_eq!(all["tokens_evaluated"], expected.json()["usage"]["prompt_tokens"]);
}

#[test]
fn the_name_of_a_mark_in_a_file_is_text() {
    let server = filler();
    let count = |suffix| {
        infill(&server, json!({ "response_fields": null, "input_suffix": suffix })).json()["tokens_evaluated"]
            .clone()
    };
    let one_token = count("x");
    assert!(count("<|fim_middle|>").as_u64() > one_token.as_u64());
}

#[test]
fn what_is_far_from_the_gap_is_left_out() {
    let server = filler();
    let far = "cat notes.txt\n".repeat(300);
    let extra =
        json!([{ "text": far, "filename": "far", "time": 1 }, { "text": "make\n", "filename": "near" }]);
    let options =
        json!({ "response_fields": null, "input_prefix": far, "input_suffix": far, "input_extra": extra });
    let whole = infill(&server, options).json();
    // The context is 512 tokens, and 8 are for the answer.
    assert_eq!(whole["tokens_evaluated"], 504, "{whole}");
    let huge = "ä".repeat(50_000);
    let extra_huge = json!([{ "text": huge, "filename": "huge" }]);
    let options = json!({ "input_prefix": huge, "input_suffix": huge, "input_extra": extra_huge });
    assert_eq!(infill(&server, options).status, 200);
    let near = infill(&server, json!({ "response_fields": null, "input_extra": extra })).json();
    let without = infill(&server, json!({ "response_fields": null })).json();
    let added = near["tokens_evaluated"].as_u64().unwrap() - without["tokens_evaluated"].as_u64().unwrap();
    assert!((1..10).contains(&added), "the near one fits, the far one does not: {added}");
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let server = filler();
    for (options, param) in [
        (json!({ "stream": true }), "stream"),
        (json!({ "grammar": "x" }), "grammar"),
        (json!({ "temperature": 0.5 }), "top_k"),
        (json!({ "input_prefix": 5 }), "input_prefix"),
    ] {
        let answer = infill(&server, options.clone());
        assert_eq!(answer.status, 400, "{options}: {}", answer.body);
        assert_eq!(answer.json()["error"]["param"], param, "{options}: {}", answer.body);
    }
    let answer = infill(&Server::start(), json!({}));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("not trained to fill gaps"), "{}", answer.body);
}
