//! `/v1/completions`.

use std::{collections::HashMap, fs, path::Path};

use serde_json::{Value, json};

use super::{infill::filler, server::Server};
use crate::util::nemotermd;

const PROMPT: &str = "find . -name";

#[test]
fn a_prompt_is_continued() {
    let server = Server::start();
    let answer = server.complete(json!({ "prompt": PROMPT }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert_eq!((&json["object"], &json["model"]), (&json!("text_completion"), &json!("nemoterm-mini")));
    assert_eq!(json["choices"].as_array().unwrap().len(), 1);
    assert!(answer.text(0).starts_with([' ', '=']), "{}", answer.body);
    let usage = &json["usage"];
    assert_eq!(usage["completion_tokens"], 8);
    assert_eq!(
        usage["total_tokens"].as_u64(),
        Some(usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap())
    );
    assert_eq!(
        server.complete(json!({ "prompt": PROMPT, "echo": true })).text(0),
        PROMPT.to_owned() + &answer.text(0)
    );
    let again = server.complete(json!({ "prompt": PROMPT }));
    assert_eq!(again.text(0), answer.text(0));
    let again = again.json();
    assert_ne!(again["id"], json["id"]);
    assert_eq!(
        again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64(),
        usage["prompt_tokens"].as_u64().map(|tokens| tokens - 1),
        "all but the last token is in a cache"
    );
}

#[test]
fn a_prompt_may_be_text_or_tokens_one_or_several() {
    let server = Server::start();
    let other = "git checkout ";
    let (one, two) = (ids(&server, PROMPT), ids(&server, other));
    let expected = [
        server.complete(json!({ "prompt": PROMPT })).text(0),
        server.complete(json!({ "prompt": other })).text(0),
    ];
    for (prompt, texts) in [
        (json!(one), &expected[..1]),
        (json!([PROMPT]), &expected[..1]),
        (json!([one]), &expected[..1]),
        (json!([PROMPT, other]), &expected[..]),
        (json!([one, two]), &expected[..]),
    ] {
        let answer = server.complete(json!({ "prompt": prompt }));
        let found: Vec<_> = (0..texts.len()).map(|index| answer.text(index)).collect();
        assert_eq!(found, texts, "{prompt}");
        assert_eq!(answer.json()["choices"].as_array().unwrap().len(), texts.len());
    }
    let several = server.complete(json!({ "prompt": [PROMPT, other], "n": 2 })).json();
    let choices = several["choices"].as_array().unwrap();
    let numbers: Vec<_> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(several["usage"]["prompt_tokens"].as_u64(), Some((one.len() + two.len()) as u64));
}

#[test]
fn text_ends_before_a_stop_string() {
    let server = Server::start();
    let whole = server.complete(json!({ "prompt": PROMPT })).text(0);
    let middle: String = whole.chars().skip(3).take(2).collect();
    for stop in [json!(middle), json!(["no such text", middle])] {
        for stream in [false, true] {
            let answer = server.complete(json!({ "prompt": PROMPT, "stop": stop, "stream": stream }));
            let (text, end) = if stream { joined(&answer.chunks(), 0) } else { whole_of(&answer.json()) };
            assert_eq!(text, whole[..whole.find(&middle).unwrap()], "{stop} {stream}");
            assert_eq!(end, "stop");
        }
    }
    let (text, end) = whole_of(&server.complete(json!({ "prompt": PROMPT, "stop": "no such text" })).json());
    assert_eq!((text, end.as_str()), (whole, "length"));
}

#[test]
fn a_stream_tells_the_same_text_and_the_usage() {
    let server = Server::start();
    for options in [json!({}), json!({ "echo": true }), json!({ "temperature": 1.2, "seed": 5, "n": 3 })] {
        let mut body = json!({ "prompt": PROMPT });
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let expected = server.complete(body.clone());
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        let mut chunks = server.complete(body).chunks();
        let usage = chunks.pop().unwrap();
        assert_eq!(usage["choices"], json!([]));
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage["usage"][count], expected.json()["usage"][count], "{count}");
        }
        for (index, choice) in expected.json()["choices"].as_array().unwrap().iter().enumerate() {
            let (text, end) = joined(&chunks, index);
            assert_eq!(text, choice["text"].as_str().unwrap());
            assert_eq!(end, choice["finish_reason"].as_str().unwrap());
        }
        assert!(chunks.iter().all(|chunk| chunk["id"] == usage["id"]));
    }
}

#[test]
fn a_seed_repeats_and_no_seed_does_not() {
    let server = Server::start();
    let texts = |seed: Value, n: usize| {
        let body = json!({ "prompt": "", "temperature": 1.5, "n": n, "max_tokens": 24, "seed": seed });
        let answer = server.complete(body);
        (0..n).map(|index| answer.text(index)).collect::<Vec<_>>()
    };
    let three = texts(7.into(), 3);
    assert_eq!(texts(7.into(), 3), three);
    assert_eq!(texts(7.into(), 1), three[..1]);
    assert!(three[0] != three[1] && three[1] != three[2], "{three:?}");
    assert_ne!(texts(8.into(), 3), three);
    assert_ne!(texts(Value::Null, 3), texts(Value::Null, 3));
    let looked_at = json!({ "prompt": "", "temperature": 1.5, "max_tokens": 24, "seed": 7, "logprobs": 1 });
    assert_eq!(server.complete(looked_at).text(0), three[0]);
    // With next to no share to choose from, the likeliest is left.
    let narrow = json!({ "prompt": "", "temperature": 1.5, "top_p": 0, "max_tokens": 24 });
    let greedy = json!({ "prompt": "", "temperature": 0, "max_tokens": 24 });
    assert_eq!(server.complete(narrow).text(0), server.complete(greedy).text(0));
}

#[test]
fn the_best_of_several_is_the_likeliest() {
    // How a prompt was read may not decide what is drawn.
    let server = Server::exact();
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|logprob| logprob.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let body = json!({ "prompt": "git ", "temperature": 1.5, "seed": 3, "logprobs": 0, "n": 6 });
    let all = server.complete(body.clone()).json();
    let best = all["choices"].as_array().unwrap().iter().map(mean).fold(f64::NEG_INFINITY, f64::max);
    let mut body = body;
    body["n"] = 1.into();
    body["best_of"] = 6.into();
    let answer = server.complete(body).json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
    assert!((mean(&answer["choices"][0]) - best).abs() < 1e-6, "{answer} is not the best of {all}");
    assert_eq!(answer["usage"]["completion_tokens"], all["usage"]["completion_tokens"]);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let server = Server::exact();
    for max_tokens in [0, 1, 5] {
        let body = json!({ "prompt": PROMPT, "max_tokens": max_tokens, "echo": true, "logprobs": 3 });
        let choice = server.complete(body).json()["choices"][0].clone();
        let logprobs = &choice["logprobs"];
        let list = |name: &str| logprobs[name].as_array().unwrap().clone();
        let (tokens, told, top) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
        let text: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(text, choice["text"].as_str().unwrap());
        assert!([told.len(), top.len(), list("text_offset").len()].iter().all(|&len| len == tokens.len()));
        assert_eq!((&told[0], &top[0]), (&Value::Null, &Value::Null));

        let ids = ids_of(&tokens);
        let rows = logits(&ids);
        for position in 1..ids.len() {
            let row = &rows[position - 1];
            let sum = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            let expected = row[ids[position] as usize] - sum;
            let found = told[position].as_f64().unwrap();
            assert!(
                (found - expected).abs() < 1e-3,
                "{} at {position}: {found}, {expected}",
                tokens[position]
            );
            let best = top[position].as_object().unwrap().values().map(|value| value.as_f64().unwrap());
            let best = best.fold(f64::NEG_INFINITY, f64::max);
            let likeliest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max) - sum;
            assert!((best - likeliest).abs() < 1e-3);
            assert!((3..=4).contains(&top[position].as_object().unwrap().len()), "{}", top[position]);
        }
        let offsets = list("text_offset");
        for (token, offset) in tokens.iter().zip(&offsets) {
            assert!(text[offset.as_u64().unwrap() as usize..].starts_with(token.as_str().unwrap()));
        }
    }
}

#[test]
fn penalties_and_biases_change_the_choice() {
    let server = Server::start();
    let first = ids(
        &server,
        &(PROMPT.to_owned() + &server.complete(json!({ "prompt": PROMPT, "max_tokens": 1 })).text(0)),
    );
    let first = first.last().unwrap().to_string();
    let plain = server.complete(json!({ "prompt": PROMPT })).text(0);
    assert_ne!(
        server.complete(json!({ "prompt": PROMPT, "logit_bias": { first.as_str(): -100 } })).text(0),
        plain
    );
    let forced = server
        .complete(json!({ "prompt": PROMPT, "logit_bias": { "50": 100 }, "max_tokens": 3, "logprobs": 0 }));
    let tokens = forced.json()["choices"][0]["logprobs"]["tokens"].clone();
    assert!(tokens[0] == tokens[1] && tokens[1] == tokens[2], "{tokens}");
    let penalised = json!({ "prompt": PROMPT, "logit_bias": { "50": 30 }, "max_tokens": 20, "logprobs": 0, "frequency_penalty": 2.0, "presence_penalty": 2.0 });
    let penalised = server.complete(penalised).json()["choices"][0]["logprobs"]["tokens"].clone();
    let count = penalised.as_array().unwrap().iter().filter(|token| **token == tokens[0]).count();
    assert!((1..20).contains(&count), "{count} of {penalised}");
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let server = Server::start();
    let long = "ls ".repeat(600);
    for (body, param) in [
        (json!({ "prompt": null }), "prompt"),
        (json!({ "prompt": 5 }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [-1] }), "prompt"),
        (json!({ "prompt": [1, "x"] }), "prompt"),
        (json!({ "prompt": ["x", 1] }), "prompt"),
        (json!({ "prompt": [4096] }), "prompt"),
        (json!({ "prompt": [[]] }), "prompt"),
        (json!({ "prompt": long }), "prompt"),
        (json!({ "prompt": long, "stream": true }), "prompt"),
        (json!({ "prompt": "x".repeat(1_000_000) }), "prompt"),
        (json!({ "prompt": vec!["x"; 129] }), "prompt"),
        (json!({ "prompt": "x", "max_tokens": -1 }), "max_tokens"),
        (json!({ "prompt": "x", "max_tokens": "many" }), "max_tokens"),
        (json!({ "prompt": "x", "temperature": 2.5 }), "temperature"),
        (json!({ "prompt": "x", "top_p": -0.1 }), "top_p"),
        (json!({ "prompt": "x", "n": 0 }), "n"),
        (json!({ "prompt": "x", "n": 129 }), "n"),
        (json!({ "prompt": "x", "n": 2, "best_of": 1 }), "best_of"),
        (json!({ "prompt": "x", "best_of": 2, "stream": true }), "best_of"),
        (json!({ "prompt": "x", "stop": 1 }), "stop"),
        (json!({ "prompt": "x", "stop": [""] }), "stop"),
        (json!({ "prompt": "x", "logprobs": 21 }), "logprobs"),
        (json!({ "prompt": "x", "presence_penalty": 3 }), "presence_penalty"),
        (json!({ "prompt": "x", "frequency_penalty": -3 }), "frequency_penalty"),
        (json!({ "prompt": "x", "logit_bias": { "word": 1 } }), "logit_bias"),
        (json!({ "prompt": "x", "logit_bias": { "5": 101 } }), "logit_bias"),
        (json!({ "prompt": "x", "stream_options": {} }), "stream_options"),
        (json!({ "prompt": "x", "suffix": "y" }), "suffix"),
        (json!({ "prompt": "x", "min_p": 0.1 }), "min_p"),
    ] {
        let answer = server.complete(body.clone());
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(error["param"], param, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].is_string() && error["code"].is_string());
    }
    let fine = json!({ "prompt": "x", "user": "me", "min_p": null, "suffix": "", "stop": [] });
    assert_eq!(server.complete(fine).status, 200);
}

#[test]
fn a_gap_is_filled_by_a_model_that_was_taught_to() {
    let server = filler();
    let marked = "<|fim_prefix|>find . <|fim_suffix|> -type f<|fim_middle|>";
    let expected = server.complete(json!({ "prompt": marked }));
    let filled = server.complete(json!({ "prompt": "find . ", "suffix": " -type f" }));
    assert_eq!(filled.text(0), expected.text(0));
    assert_eq!(filled.json()["usage"]["prompt_tokens"], expected.json()["usage"]["prompt_tokens"]);
    for (body, param) in [
        (json!({ "prompt": [5], "suffix": "x" }), "suffix"),
        (json!({ "prompt": "x", "suffix": "x", "echo": true }), "echo"),
    ] {
        assert_eq!(server.complete(body).json()["error"]["param"], param);
    }
}

#[test]
fn a_text_ends_where_the_context_does() {
    let server = Server::start();
    // A token that ends no text, so that nothing but the context can.
    let body = json!({ "prompt": "ls ".repeat(490), "max_tokens": 100_000, "logit_bias": { "50": 100 } });
    let json = server.complete(body).json();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    // The last token is not run, so it needs no room.
    assert_eq!(json["usage"]["total_tokens"], 513);
}

/// Text and end of the first choice.
fn whole_of(answer: &Value) -> (String, String) {
    let choice = &answer["choices"][0];
    (choice["text"].as_str().unwrap().to_owned(), choice["finish_reason"].as_str().unwrap().to_owned())
}

/// Text and end of a choice in a stream.
fn joined(chunks: &[Value], index: usize) -> (String, String) {
    let choices: Vec<_> = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
        .filter(|choice| choice["index"] == index)
        .collect();
    let ends: Vec<_> = choices.iter().filter_map(|choice| choice["finish_reason"].as_str()).collect();
    assert_eq!(ends.len(), 1, "{choices:?}");
    (choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect(), ends[0].to_owned())
}

/// The token ids of a text, as the server splits it.
fn ids(server: &Server, text: &str) -> Vec<u32> {
    let body = json!({ "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 0 });
    ids_of(server.complete(body).json()["choices"][0]["logprobs"]["tokens"].as_array().unwrap())
}

/// The ids of tokens, by the vocabulary file. The token without a text is the one that begins every text.
fn ids_of(tokens: &[Value]) -> Vec<u32> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/nemoterm-mini/tokenizer.json");
    let tokenizer: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let vocabulary: HashMap<String, u32> =
        serde_json::from_value(tokenizer["model"]["vocab"].clone()).unwrap();
    let id = |token: &Value| match token.as_str().unwrap() {
        "" => 1,
        text => vocabulary[&text.replace(' ', "Ġ")],
    };
    tokens.iter().map(id).collect()
}

/// The model's logits, without the server, and not quantised.
pub fn logits(ids: &[u32]) -> Vec<Vec<f64>> {
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    let mut command = std::process::Command::new(nemotermd());
    command.args(["model", "logits", "nemoterm-mini", "--json", "--tokens", &ids.join(",")]);
    let output = command.output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(json["logits"].clone()).unwrap()
}
