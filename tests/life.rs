//! Models that come and go under a daemon that goes on answering.

use std::{
    fs,
    io::{BufWriter, Write as _},
    path::PathBuf,
    thread,
    time::Duration,
};

use nemoterm_protocol::{Complete, Reply, Request, Status, client::Client, runtime::Runtime};
use serde_json::json;

use crate::{
    shells::zsh,
    util::{eventually, home::Home, sandbox::Sandbox, served::Served},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn start(sandbox: &Sandbox) -> Client {
    let started = sandbox.nemoterm(&["daemon", "start"]);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    connect(sandbox)
}

fn connect(sandbox: &Sandbox) -> Client {
    Client::connect(&Runtime::at(sandbox.runtime()), PATIENCE).unwrap()
}

fn status(client: &Client) -> Status {
    match client.ask(&Request::Status, PATIENCE).unwrap() {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// What a shell's request is answered, without waiting for a model.
fn ask(client: &Client, id: u64, line: &str) -> Reply {
    let request =
        Complete { id, line: line.to_owned(), cursor: line.len(), alternatives: 1, ..Complete::default() };
    client.ask(&Request::Complete(Box::new(request)), PATIENCE).unwrap()
}

/// A model with the embedded one's tokens and more weights, in a directory: one that takes a while to be quantised.
fn large_model(sandbox: &Sandbox) -> PathBuf {
    const HIDDEN: usize = 1024;
    let dir = sandbox.copy_of_model("large");
    fs::remove_file(dir.join("blend.safetensors")).unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    let (vocabulary, layers, width) = (4096, 2, 4 * HIDDEN);
    for (key, value) in [("hidden_size", HIDDEN), ("num_hidden_layers", layers), ("head_dim", 128)] {
        config[key] = json!(value);
    }
    for (key, value) in [("num_attention_heads", 8), ("num_key_value_heads", 2), ("intermediate_size", width)]
    {
        config[key] = json!(value);
    }
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
        ("model.norm.bias".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(&format!("{norm}.weight"), &[HIDDEN]);
            add(&format!("{norm}.bias"), &[HIDDEN]);
        }
        for (name, rows) in [("q", HIDDEN), ("k", 256), ("v", 256), ("o", HIDDEN)] {
            add(&format!("self_attn.{name}_proj.weight"), &[rows, HIDDEN]);
        }
        add("mlp.up_proj.weight", &[width, HIDDEN]);
        add("mlp.down_proj.weight", &[HIDDEN, width]);
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let about = json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), about);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(fs::File::create(dir.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    // Small numbers of both signs.
    for index in 0..end as u32 / 2 {
        let bits = 0x1c00 | (index.wrapping_mul(2_654_435_761) >> 20) as u16 & 0x83ff;
        file.write_all(&bits.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    dir
}

#[test]
fn a_model_in_the_making_is_told_and_the_old_one_answers() {
    let sandbox = Sandbox::new();
    let model = large_model(&sandbox);
    let client = start(&sandbox);
    let config = sandbox.home().join(".config/nemoterm");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "quantize = \"q4_k\"\n").unwrap();
    let loading = connect(&sandbox);
    let name = model.display().to_string();
    loading.send(&Request::UseModel { model: name.clone() }).unwrap();
    let mut shares = Vec::new();
    eventually("a part of it to be there", || {
        let now = status(&client);
        let loading = now.loading.expect("a model that is being loaded");
        assert_eq!(
            (loading.model.as_str(), now.model.unwrap().name.as_str()),
            (name.as_str(), "nemoterm-mini")
        );
        shares.push(loading.share);
        // The first half is quantising, which is what takes time.
        loading.share > 0.05
    });
    assert!(shares.is_sorted() && shares.iter().all(|share| *share <= 1.0), "{shares:?}");
    match ask(&client, 1, "find . -name") {
        Reply::Completion(completion) => assert_eq!(completion.model, "nemoterm-mini"),
        other => panic!("{other:?}"),
    }
    let text = sandbox.nemoterm(&["daemon", "status"]).stdout;
    let row = text.lines().find(|row| row.starts_with("loading ")).map(str::to_owned);
    let still = status(&client).loading.is_some();
    assert!(!still || row.is_some_and(|row| row.contains(&name) && row.contains(" % after ")), "{text}");
    assert!(matches!(loading.receive(None).unwrap(), Reply::Status(_)));
    let after = status(&client);
    assert_eq!((after.model.unwrap().name.as_str(), after.loading), ("large", None));
}

#[test]
fn a_model_that_was_let_go_of_comes_back_with_the_next_key() {
    let sandbox = Sandbox::new();
    let client = start(&sandbox);
    let freed = sandbox.nemoterm(&["model", "unload"]);
    assert_eq!(freed.code, Some(0), "{}", freed.stderr);
    assert!(freed.stderr.contains("has let go of its model"), "{}", freed.stderr);
    let resting = status(&client);
    assert!(resting.resting && resting.model.is_none(), "{resting:?}");
    assert!(sandbox.nemoterm(&["daemon", "status"]).stdout.contains("resting"));
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    assert!(status(&client).resting, "looking does not wake it");
    // Whoever types is not kept waiting.
    assert!(matches!(ask(&client, 1, "find . -name"), Reply::Loading { id: 1 }));
    eventually("it to come back", || status(&client).model.is_some());
    assert!(matches!(ask(&client, 2, "find . -name"), Reply::Completion(_)));
    assert!(!status(&client).resting);
    // And whoever can wait does.
    assert_eq!(sandbox.nemoterm(&["model", "unload"]).code, Some(0));
    let completed = sandbox.nemoterm(&["complete", "find . -name"]);
    assert!(completed.stdout.starts_with("find . -name "), "{}", completed.stderr);
    let stopped = sandbox.nemoterm(&["daemon", "stop"]);
    assert_eq!(stopped.code, Some(0));
    let none = sandbox.nemoterm(&["model", "unload"]);
    assert!(none.stderr.contains("the daemon is not running\nhint: "), "{}", none.stderr);
}

#[test]
fn models_are_switched_fifty_times_under_typing() {
    const SWITCHES: usize = 50;
    let home = Home::new();
    let daemon = Served::start(&home);
    let client = Client::connect(home.runtime(), PATIENCE).unwrap();
    eventually("the model to be there", || status(&client).model.is_some());
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    let mini = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/nemoterm-mini");
    for entry in fs::read_dir(mini).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    let names = ["nemoterm-mini".to_owned(), other.display().to_string()];
    let switch = |index: usize| {
        let reply = client.ask(&Request::UseModel { model: names[index % 2].clone() }, PATIENCE).unwrap();
        let Reply::Status(status) = reply else { panic!("{reply:?}") };
        assert_eq!(status.model.unwrap().name, ["nemoterm-mini", "other"][index % 2]);
        status.rss_mib
    };
    // What both models and the first keys bring with them is there before it is measured.
    let line = "find . -name '*.log' -mtime +7 -print";
    let Some(terminal) = zsh::start(&home, "") else { return };
    let type_line = || {
        for (at, key) in line.char_indices() {
            terminal.send(key.to_string());
            if at % 9 == 0 {
                // A person sees what they have typed.
                let typed = format!("> {}", line[..=at].trim_end());
                terminal.wait("the keys", |screen| screen.rows.iter().any(|row| row.starts_with(&typed)));
            }
        }
        terminal.wait("the whole line", |screen| screen.text().contains(&format!("> {line}")));
        terminal.send("\x15");
        terminal.wait("an empty line", |screen| screen.last_row() == ">");
    };
    type_line();
    for index in 1..5 {
        switch(index);
    }
    let before = switch(0);
    let after = thread::scope(|scope| {
        let switching = scope.spawn(|| (1..=SWITCHES).map(switch).fold(None, |_, rss_mib| rss_mib));
        while !switching.is_finished() {
            type_line();
        }
        switching.join().unwrap()
    });
    type_line();
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + 16.0, "{before} MiB before, {after} MiB after");
        println!("{before:.1} MiB before, {after:.1} MiB after {SWITCHES} switches");
    }
    // The same process, and the last of them answers.
    assert_eq!(status(&client).pid, daemon.pid());
    terminal.send("find . -name");
    terminal.wait("a suggestion", |screen| !screen.ghost.is_empty());
}
