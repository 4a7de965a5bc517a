//! lm-eval, which scores models by the log-likelihoods a server tells.

use std::fs;

use serde_json::{Value, json};

use super::{clients::python, completions::logits, server::Server};
use crate::util::sandbox::printed;

const TASK: &str = r#"task: lines
dataset_path: json
dataset_kwargs:
  data_files: lines.jsonl
output_type: loglikelihood
test_split: train
doc_to_text: "{{prompt}}"
doc_to_target: "{{target}}"
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"#;

/// Prints the token ids of a text, as lm-eval has them made.
const TOKENS: &str = "import sys, transformers\n\
    tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])\n\
    print(*[len(tokenizer.encode(sys.argv[2], add_special_tokens=False))] + \
    tokenizer.encode(sys.argv[2] + sys.argv[3], add_special_tokens=False))";

#[test]
fn it_finds_the_log_likelihoods_of_a_direct_computation() {
    let Some(python) = python("lm_eval, transformers") else { return };
    let server = Server::exact();
    let home = server.sandbox.home();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/nemoterm-mini");
    let lines = [
        ("find . -name", " \"*.txt\""),
        ("git checkout", " -b feature"),
        ("tar -xzf", " archive.tar.gz"),
        ("ls -la |", " grep foo"),
    ];
    let data = lines.map(|(prompt, target)| json!({ "prompt": prompt, "target": target }).to_string() + "\n");
    fs::write(home.join("lines.jsonl"), data.concat()).unwrap();
    fs::write(home.join("lines.yaml"), TASK).unwrap();
    let arguments = format!(
        "model=nemoterm-mini,base_url={},tokenizer={model},tokenizer_backend=huggingface,max_length=512",
        server.url("/v1/completions")
    );
    let mut command = server.sandbox.command(&python);
    command.args(["-m", "lm_eval", "--model", "local-completions", "--model_args", &arguments]);
    command.args(["--tasks", "lines", "--include_path", ".", "--output_path", "out", "--log_samples"]);
    command.envs([("OPENAI_API_KEY", "x"), ("HF_HUB_OFFLINE", "1"), ("HF_HOME", home.to_str().unwrap())]);
    let run = printed(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);

    let out = fs::read_dir(home.join("out/nemoterm-mini")).unwrap().map(|entry| entry.unwrap().path());
    let samples = out.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let samples: String = samples.map(|path| fs::read_to_string(path).unwrap()).collect();
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), lines.len());
    for sample in samples {
        let document = &sample["doc"];
        let (prompt, target) = (document["prompt"].as_str().unwrap(), document["target"].as_str().unwrap());
        let mut command = server.sandbox.command(&python);
        let tokens = printed(command.args(["-c", TOKENS, model, prompt, target]).output().unwrap()).stdout;
        let tokens: Vec<u32> = tokens.split_whitespace().map(|token| token.parse().unwrap()).collect();
        let (before, ids) = (tokens[0] as usize, &tokens[1..]);
        let rows = logits(ids);
        let (mut expected, mut greedy) = (0.0, true);
        for position in before..ids.len() {
            let row = &rows[position - 1];
            let logit = row[ids[position] as usize];
            expected += logit - row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            greedy &= row.iter().all(|other| *other <= logit);
        }
        let response = &sample["resps"][0][0];
        let found: f64 = response[0].as_str().unwrap().parse().unwrap();
        assert!((found - expected).abs() < 1e-3, "{prompt}{target}: {found}, {expected}");
        assert_eq!(response[1].as_str().unwrap(), if greedy { "True" } else { "False" }, "{prompt}{target}");
    }
}
