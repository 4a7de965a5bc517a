//! `/v1/chat/completions`. The embedded model was never taught to talk, so these tests give a copy of it a template.

use std::fs;

use serde_json::{Value, json};

use super::server::Server;
use crate::util::sandbox::Sandbox;

const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ '# ' + message.role + ': ' + message.content.strip() }}\n\
    {% endfor %}{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}\
    {% if add_generation_prompt %}find . {% endif %}";

fn server() -> Server {
    let sandbox = Sandbox::new();
    let model = sandbox.copy_of_model("talker");
    let config = json!({ "chat_template": TEMPLATE, "bos_token": { "content": "<s>" }, "eos_token": "</s>" });
    fs::write(model.join("tokenizer_config.json"), config.to_string()).unwrap();
    let dir = sandbox.home().join(".config/nemoterm");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("config.toml"),
        format!("model = {:?}\nhttp = \"127.0.0.1:0\"\n", model.to_str().unwrap()),
    )
    .unwrap();
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    Server::running_in(sandbox)
}

fn chat(server: &Server, options: Value) -> super::server::Answer {
    let mut body = json!({
        "model": "any",
        "messages": [{ "role": "user", "content": " list\tfiles " }],
        "temperature": 0,
        "max_tokens": 6,
    });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    server.post("/v1/chat/completions", &body)
}

#[test]
fn a_conversation_is_read_as_the_template_says() {
    let server = server();
    let plain = server.complete(json!({ "prompt": "# user: list\tfiles\nfind . ", "max_tokens": 6 }));
    let expected = plain.text(0);
    let parts = json!([{ "type": "text", "text": "list\t" }, { "type": "text", "text": "files" }]);
    for options in [json!({}), json!({ "messages": [{ "role": "user", "content": parts }] })] {
        let json = chat(&server, options).json();
        assert_eq!(json["object"], "chat.completion");
        assert_eq!(json["choices"][0]["message"], json!({ "role": "assistant", "content": expected }));
        // The template's first token is not put in front once more.
        assert_eq!(json["usage"]["prompt_tokens"], plain.json()["usage"]["prompt_tokens"]);
    }
    let options = json!({ "stream": true, "n": 2, "stream_options": { "include_usage": true } });
    let mut chunks = chat(&server, options).chunks();
    // Where the model ends by itself is its own affair.
    let tokens = plain.json()["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(chunks.pop().unwrap()["usage"]["completion_tokens"], 2 * tokens);
    for index in 0..2 {
        let choices =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let choices: Vec<_> = choices.collect();
        assert_eq!(choices[0]["delta"]["role"], "assistant");
        let text: String = choices.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, expected);
        assert_eq!(choices.last().unwrap()["finish_reason"], plain.json()["choices"][0]["finish_reason"]);
    }
}

#[test]
fn log_probabilities_come_in_the_form_of_chats() {
    let server = server();
    let json = chat(&server, json!({ "logprobs": true, "top_logprobs": 2 })).json();
    let choice = &json["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    let text: String = content.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        // The likeliest is taken at temperature 0.
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
        assert_eq!(token["bytes"], json!(token["token"].as_str().unwrap().as_bytes()));
    }
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let server = server();
    for (options, param) in [
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": [{ "role": "system", "content": "x" }] }), "messages"),
        (json!({ "messages": [{ "role": "user", "content": 5 }] }), "messages[0].content"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            "messages[0].content",
        ),
        (json!({ "tools": [{}] }), "tools"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (json!({ "max_completion_tokens": 2 }), "max_completion_tokens"),
    ] {
        let answer = chat(&server, options.clone());
        assert_eq!(answer.status, 400, "{options}: {}", answer.body);
        assert_eq!(answer.json()["error"]["param"], param, "{options}: {}", answer.body);
    }
    let answer = chat(&server, json!({ "messages": [{ "role": "system", "content": "x" }] }));
    assert_eq!(answer.json()["error"]["message"], "no system messages");
}

#[test]
fn a_model_without_a_template_says_so() {
    let answer = chat(&Server::start(), json!({}));
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("has no chat template"), "{error}");
}
