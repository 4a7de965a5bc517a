//! A server elsewhere as what completes: another nemoterm, llama.cpp, and one that misbehaves to order.

mod llama_cpp;
mod tls;

use std::{
    fs,
    io::Write as _,
    mem,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;

use crate::{
    openai::server::Server,
    util::{
        eventually,
        openai::{Answer, Fake},
        sandbox::{Printed, Sandbox, printed},
    },
};

/// A home in which a server completes.
pub struct Place {
    pub sandbox: Sandbox,
}

impl Place {
    pub fn new(url: &str) -> Self {
        Self::with(url, "")
    }

    /// The same with more lines in the configuration.
    pub fn with(url: &str, more: &str) -> Self {
        let sandbox = Sandbox::new();
        let dir = sandbox.home().join(".config/nemoterm");
        fs::create_dir_all(&dir).unwrap();
        let text =
            format!("backend = \"openai\"\nremote_url = \"{url}\"\nremote_model = \"the-model\"\n{more}");
        fs::write(dir.join("config.toml"), text).unwrap();
        Self { sandbox }
    }

    pub fn run(&self, args: &[&str]) -> Printed {
        self.sandbox.nemoterm(args)
    }

    /// What `complete --json` prints, and what it notes.
    #[track_caller]
    pub fn complete(&self, args: &[&str]) -> (Value, String) {
        let printed = self.run(&[&["complete", "--json"], args].concat());
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        (serde_json::from_str(&printed.stdout).unwrap(), printed.stderr)
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["daemon", "status", "--json"]).stdout).unwrap()
    }
}

/// A port where nobody listens. It is taken as long as the tests run, or another test's server could get it.
fn nobody() -> String {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    mem::forget(socket);
    format!("http://{address}/v1")
}

#[test]
fn another_nemoterm_completes() {
    let server = Server::start();
    let place = Place::new(&server.url("/v1"));
    for line in ["git com", "find . -na", "tar -x", "ls -l | gr", "git ", "# list files by size"] {
        let (answer, notes) = place.complete(&[line]);
        assert_eq!((answer["model"].as_str(), notes.as_str()), (Some("the-model"), ""));
        // Here the likeliest word is looked for, there the likeliest token, so the answers need not be the same.
        let completed = answer["line"].as_str().unwrap();
        assert!(
            line.starts_with('#') || completed.starts_with(line) && completed.len() > line.len(),
            "{answer}"
        );
        assert!(answer["alternatives"][0]["logprob"].is_number(), "{answer}");
    }
    let (answer, _) = place.complete(&["git ", "-n", "3"]);
    let lines: Vec<_> =
        answer["alternatives"].as_array().unwrap().iter().map(|found| &found["line"]).collect();
    assert!(lines.len() == 3 && lines[0] != lines[1] && lines[1] != lines[2], "{answer}");
    let status = place.status();
    assert_eq!(status["remote"]["state"]["name"], "answering", "{status}");
    assert_eq!(status["remote"]["answered"], 7);
    // In one process, and with a key that the server wants, from a file.
    let (answer, notes) = place.complete(&["--no-daemon", "git com"]);
    assert_eq!((answer["model"].as_str(), notes.as_str()), (Some("the-model"), ""));
}

/// A server may close a connection that was idle just when it is used again. That is no answer, so it is asked once more.
#[test]
fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    let asked = AtomicUsize::new(0);
    let server = Fake::start_with(Answer::Pieces(vec![" com", "mit"]), move |_| {
        (asked.fetch_add(1, Ordering::SeqCst) == 1).then_some(Answer::Gone)
    });
    let place = Place::new(&server.url);
    for _ in 0..2 {
        let (answer, notes) = place.complete(&["git com"]);
        assert_eq!((answer["model"].as_str(), notes.as_str()), (Some("the-model"), ""), "{answer}");
    }
    assert_eq!(server.asked().len(), 3);
    assert_eq!(place.status()["remote"]["state"]["name"], "answering");
    // Where that happens twice it is one.
    server.answer(Answer::Gone);
    let (answer, notes) = place.complete(&["git com"]);
    assert_eq!(answer["model"], "nemoterm-mini");
    assert!(notes.contains("broke off its answer"), "{notes}");
    assert_eq!(server.asked().len(), 5);
}

/// Whatever a server does, the model here answers in its place, says so, and the state tells why.
#[test]
fn a_server_that_fails_is_told_and_replaced() {
    let garbage = || Answer::Bytes(b"data: <html>so sorry</html>\n\n".to_vec());
    for (answer, told) in [
        (Answer::Status(401, ""), "does not accept the key"),
        (Answer::Status(403, ""), "does not accept the key"),
        (Answer::Status(404, ""), "answers with status 404"),
        (Answer::Status(429, "Retry-After: 100\r\n"), "has too much to do"),
        (Answer::Status(429, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n"), "has too much to do"),
        (Answer::Status(500, ""), "answers with status 500"),
        (Answer::Status(503, ""), "answers with status 503"),
        (Answer::Status(302, "Location: /elsewhere\r\n"), "sends us elsewhere (status 302)"),
        (Answer::Bytes(Vec::new()), "broke off its answer"),
        (Answer::Break(vec![]), "broke off its answer"),
        (Answer::Break(vec!["mit", " -m"]), "broke off its answer"),
        (garbage(), "does not answer as OpenAI's API does"),
        (Answer::Bytes(vec![b'x'; 1 << 20]), "an event is too long"),
        (Answer::Endless(": nothing but comments\n"), "did not answer within 75 ms"),
        (Answer::Stall(vec![]), "did not answer within 75 ms"),
    ] {
        let server = Fake::start(answer.clone());
        let place = Place::with(&server.url, "remote_wait_ms = 100\n");
        let (completion, note) = place.complete(&["git com"]);
        assert_eq!(completion["model"], "nemoterm-mini", "{answer:?}");
        // A busy machine may not even get to what is wrong in so short a time.
        let late = note.contains("did not answer within 75 ms");
        assert!(late || note.contains(told), "{answer:?}: {note}");
        assert!(note.ends_with("nemoterm-mini answers in its place\n"), "{note}");
        let status = place.status();
        let state = &status["remote"]["state"];
        assert!(["paused", "failing"].contains(&state["name"].as_str().unwrap()), "{status}");
        assert!(state["error"].as_str().unwrap().starts_with(&server.url), "{status}");
        assert_eq!(status["state"]["name"], "ready");
        assert!(place.run(&["daemon", "status"]).stdout.contains("the model here answers meanwhile"));
        assert!(server.asked().iter().all(|asked| asked.path == "/v1/completions"), "{:?}", server.asked());
        if matches!(answer, Answer::Status(429, _)) && !late {
            assert!(state["again_s"].as_u64().unwrap() > 60, "as long as it asks for: {status}");
        }
        if state["name"] == "paused" {
            let count = server.asked().len();
            place.complete(&["git com"]);
            assert_eq!(server.asked().len(), count, "it is left alone: {answer:?}");
        }
        assert!(!place.sandbox.log().contains("git com"), "{}", place.sandbox.log());
    }
    let place = Place::new(&nobody());
    let (_, note) = place.complete(&["git com"]);
    assert!(note.contains("can't be reached: Connection refused"), "{note}");
    let doctor = place.run(&["doctor"]).stdout;
    let finding = doctor
        .lines()
        .skip_while(|line| !line.starts_with("!! remote"))
        .take(2)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(finding.contains("can't be reached") && finding.contains("hint: start the server"), "{doctor}");
    // A score is of what was asked to be scored.
    let cases = place.sandbox.home().join("cases.jsonl");
    fs::write(
        &cases,
        "{\"id\":\"a\",\"source\":\"x\",\"cut\":\"x\",\"prefix\":\"git com\",\"expected\":\"mit\"}\n",
    )
    .unwrap();
    let scored = place.run(&["eval", cases.to_str().unwrap()]);
    assert!(scored.code == Some(1) && scored.stderr.contains("can't be reached"), "{}", scored.stderr);
    let (answer, note) = place.complete(&["--no-daemon", "git com"]);
    assert!(answer["model"] == "nemoterm-mini" && note.contains("can't be reached"), "{note}");
}

#[test]
fn it_is_asked_again_when_the_pause_is_over_and_what_came_in_time_is_taken() {
    let server = Fake::start(Answer::Status(500, ""));
    let place = Place::new(&server.url);
    assert_eq!(place.complete(&["git com"]).0["model"], "nemoterm-mini");
    server.answer(Answer::Pieces(vec![" com", "mit", " -m", " x"]));
    eventually("the server to be asked again", || place.complete(&["git com"]).0["model"] == "the-model");
    assert_eq!(place.complete(&["git com"]).0["line"], "git commit -m x");
    assert_eq!(place.status()["remote"]["state"]["name"], "answering");
    // What was written before the end of the time is an answer, but for a word that may be broken off.
    server.answer(Answer::Stall(vec![" com", "mit", " -m", " x"]));
    let (answer, note) = place.complete(&["git com", "--timeout", "1000"]);
    assert_eq!((answer["line"].as_str(), note.as_str()), (Some("git commit -m"), ""));
}

/// Without log-probabilities there is no telling which other token would have done.
#[test]
fn an_answer_must_go_on_as_it_was_typed() {
    let server = Fake::start_with(Answer::Pieces(vec![" status"]), |asked| {
        asked.prompt().ends_with("git com").then(|| Answer::Pieces(vec!["mit -m"]))
    });
    let place = Place::new(&server.url);
    let (answer, _) = place.complete(&["git com"]);
    assert_eq!(answer["line"], "git commit -m");
    assert_eq!(answer["alternatives"][0]["logprob"], Value::Null);
    let prompts: Vec<_> = server.asked().iter().map(|asked| asked.prompt().to_owned()).collect();
    assert_eq!(prompts, ["git", "git com"]);
    assert_eq!(place.complete(&["git s"]).0["line"], "git status");
    assert_eq!(place.complete(&["git "]).0["line"], "git status");
}

/// Servers refuse what they don't know, and are asked for less then, once.
#[test]
fn what_a_server_does_not_take_is_left_out() {
    let server = Fake::start_with(Answer::Pieces(vec![" commit", " x"]), |asked| {
        let refuses = asked.body.get("suffix").is_some() || asked.body["logprobs"].as_u64().unwrap_or(0) > 5;
        refuses.then_some(Answer::Status(400, ""))
    });
    let place = Place::new(&server.url);
    for _ in 0..2 {
        assert_eq!(place.complete(&["git com"]).0["line"], "git commit x");
        // In the middle of a line, what was written may be taken over as far as it is good there.
        let filled = place.complete(&["git  -q", "--cursor", "4"]).0["line"].to_string();
        assert!(filled.starts_with("\"git commit") && filled.ends_with("-q\""), "{filled}");
    }
    let forms: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| format!("{} {}", asked.body["suffix"], asked.body["logprobs"]))
        .collect();
    let first = ["null 20", "null 5", "\" -q\" 20", "null 20", "\" -q\" 5", "null 5"];
    // A server that refuses a gap gets the last word cut off, as it is without one.
    assert_eq!(forms[..6], first, "{forms:?}");
    assert!(forms[6..].iter().all(|form| form == "null 5"), "{forms:?}");
    let body = &server.asked()[0].body;
    assert_eq!(body["model"], "the-model");
    assert_eq!((&body["stream"], &body["temperature"]), (&Value::Bool(true), &0.into()));
    assert_eq!(body["stop"], serde_json::json!(["\n"]));
    assert!(body["seed"].is_number() && body["max_tokens"].is_number(), "{body}");
}

/// All that is ever sent, in the words of OpenAI's API: vLLM, NIM and TensorRT-LLM know every one of them, and some servers
/// refuse those they don't know. Greedy texts have no `n` and no `top_p`, which vLLM refuses beside a temperature of 0;
/// `suffix`, which vLLM has never taken, is sent only where there is text after the cursor, and then left out for good;
/// no `stream_options`, since the usage comes after the text has ended and would not be waited for.
#[test]
fn what_is_sent_is_what_servers_know() {
    let server = Fake::start(Answer::Pieces(vec![" commit", " x"]));
    let place = Place::new(&server.url);
    place.complete(&["git com", "-n", "1"]);
    place.complete(&["git  -q", "--cursor", "4"]);
    let sampled = ["--seed", "5", "--temperature", "0.5", "-n", "2"];
    assert_eq!(place.run(&[&["complete"], &sampled[..], &["git com"]].concat()).code, Some(0));
    let mut seen = Vec::new();
    for mut asked in server.asked() {
        assert!(asked.head.starts_with("POST /v1/completions HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains("\r\ncontent-type: application/json\r\n"), "{}", asked.head);
        let body = asked.body.as_object_mut().unwrap();
        assert!(body.remove("prompt").unwrap().is_string());
        let max_tokens = body.remove("max_tokens").unwrap().as_u64().unwrap();
        assert!((1..=256).contains(&max_tokens), "{max_tokens}");
        seen.push(asked.body);
    }
    let model = "the-model";
    let greedy = serde_json::json!({
        "model": model, "temperature": 0, "seed": 0, "stop": ["\n"], "stream": true, "logprobs": 20,
    });
    let filling = serde_json::json!({
        "model": model, "temperature": 0, "seed": 0, "stop": ["\n"], "stream": true, "logprobs": 20,
        "suffix": " -q",
    });
    let sampled = serde_json::json!({
        "model": model, "temperature": 0.5, "top_p": 0.95, "seed": 5, "n": 2, "stop": ["\n"], "stream": true,
        "logprobs": 20,
    });
    assert_eq!(seen[0], greedy);
    assert!(seen.contains(&filling), "{seen:#?}");
    let mut last = seen.pop().unwrap();
    let top_p = last.as_object_mut().unwrap().insert("top_p".to_owned(), 0.95.into()).unwrap();
    assert!(top_p.as_f64().is_some_and(|top_p| 0.0 < top_p && top_p <= 1.0), "{top_p}");
    assert_eq!(last, sampled);
    assert!(seen.iter().all(|body| [&greedy, &filling].contains(&body)), "{seen:#?}");
}

#[test]
fn nothing_goes_elsewhere_and_no_secret_goes_anywhere() {
    let elsewhere = Fake::start(Answer::Pieces(vec!["x"]));
    let location = format!("Location: {}/completions\r\n", elsewhere.url).leak();
    let redirecting = Fake::start(Answer::Status(307, location));
    let place = Place::new(&redirecting.url);
    place.complete(&["git com"]);

    let server = Fake::start(Answer::Pieces(vec!["mit"]));
    let place = Place::new(&server.url);
    let history = place.sandbox.home().join("history");
    fs::write(&history, "export API_TOKEN=abc123def456\nls\n").unwrap();
    let proxy = elsewhere.url.trim_end_matches("/v1");
    let mut command = place.sandbox.command(crate::util::nemoterm());
    command
        .args(["complete", "--shell", "bash", "--history"])
        .arg(&history)
        .arg("curl -u me:hunter2 http://h && git com");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, proxy);
    }
    command.output().unwrap();
    place.run(&["complete", "mysql -phunter2"]);
    let asked = server.asked();
    assert!(!asked.is_empty());
    for asked in asked {
        let text = format!("{}{}", asked.head, asked.body);
        assert!(!text.contains("hunter2") && !text.contains("abc123"), "{text}");
    }
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let server = Fake::start_with(Answer::Status(401, ""), |asked| {
        asked
            .head
            .contains("\r\nauthorization: Bearer sk-right\r\n")
            .then(|| Answer::Pieces(vec![" com", "mit"]))
    });
    let key = tempfile::NamedTempFile::new().unwrap();
    writeln!(&key, "sk-wrong").unwrap();
    let place = Place::with(&server.url, &format!("remote_key_file = {:?}\n", key.path()));
    let (answer, note) = place.complete(&["git com"]);
    assert!(answer["model"] == "nemoterm-mini" && note.contains("does not accept the key"), "{note}");
    let status = place.status();
    assert!(status["remote"]["state"]["again_s"].as_u64().unwrap() > 60, "{status}");
    // Another key is taken at once.
    fs::write(key.path(), "sk-right\n").unwrap();
    eventually("the right key to be taken", || place.complete(&["git com"]).0["model"] == "the-model");
    fs::write(key.path(), "").unwrap();
    eventually("an empty key to be told", || place.complete(&["git com"]).1.contains("is empty"));
    for args in [
        &["config", "show", "--origin"][..],
        &["daemon", "status", "--json"],
        &["doctor"],
        &["daemon", "logs"],
    ] {
        let printed = place.run(args);
        assert!(
            !format!("{}{}", printed.stdout, printed.stderr).contains("sk-"),
            "{args:?}: {}",
            printed.stdout
        );
    }
    // From a variable of the daemon's environment.
    let place = Place::with(&server.url, "remote_key_env = \"THE_KEY\"\n");
    let (_, note) = place.complete(&["git com"]);
    assert!(note.contains("the variable THE_KEY") && note.contains("is not set"), "{note}");
    place.run(&["daemon", "stop"]);
    let mut command = place.sandbox.command(crate::util::nemoterm());
    let printed = printed(command.args(["complete", "git com"]).env("THE_KEY", "sk-right").output().unwrap());
    assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("git commit\n", ""));
}

#[test]
fn a_key_stroke_ends_the_request_before_it() {
    let server = Fake::start(Answer::Stall(vec![]));
    let place = Place::with(&server.url, "remote_wait_ms = 60000\n");
    place.run(&["daemon", "start"]);
    let runtime = nemoterm_protocol::runtime::Runtime::at(place.sandbox.runtime().to_owned());
    let client = nemoterm_protocol::client::Client::connect(&runtime, crate::util::DEADLINE).unwrap();
    let ask = |id, line: &str| {
        let request = nemoterm_protocol::Complete {
            id,
            line: line.to_owned(),
            cursor: line.len(),
            alternatives: 1,
            ..Default::default()
        };
        client.send(&nemoterm_protocol::Request::Complete(Box::new(request))).unwrap();
    };
    ask(1, "git c");
    eventually("the server to be asked", || server.asked().len() == 1);
    server.answer(Answer::Pieces(vec![" com", "mit"]));
    ask(2, "git com");
    let reply = client.receive(Some(std::time::Instant::now() + crate::util::DEADLINE)).unwrap();
    let nemoterm_protocol::Reply::Completion(completion) = reply else { panic!("{reply:?}") };
    assert_eq!((completion.id, completion.alternatives[0].line.as_str()), (2, "git commit"));
    eventually("the first connection to be dropped", || server.left() == 1);
}

#[test]
fn the_running_daemon_switches() {
    let server = Fake::start(Answer::Pieces(vec![" com", "mit", " x"]));
    let place = Place { sandbox: Sandbox::new() };
    let model = |expected: &str| {
        assert_eq!(place.complete(&["git com"]).0["model"], expected);
    };
    model("nemoterm-mini");
    let pid = place.status()["pid"].clone();
    let refused = place.run(&["config", "set", "backend", "openai"]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("needs remote_url as well"),
        "{}",
        refused.stderr
    );
    place.run(&["config", "set", "remote_url", &server.url]);
    place.run(&["config", "set", "remote_model", "a"]);
    model("nemoterm-mini");
    let set = place.run(&["config", "set", "backend", "openai"]);
    assert!(set.code == Some(0) && set.stderr.contains("the running daemon has taken it"), "{}", set.stderr);
    model("a");
    place.run(&["config", "set", "remote_model", "b"]);
    model("b");
    let refused = place.run(&["config", "unset", "remote_url"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("needs remote_url"), "{}", refused.stderr);
    let noted = place.run(&["config", "set", "remote_url", &nobody()]);
    assert!(
        noted.code == Some(0) && noted.stderr.contains("note: ") && noted.stderr.contains("can't be reached"),
        "{}",
        noted.stderr
    );
    model("nemoterm-mini");
    place.run(&["config", "unset", "backend"]);
    assert_eq!(place.status()["remote"], Value::Null);
    assert_eq!(place.complete(&["git com"]).1, "");
    assert_eq!(place.status()["pid"], pid);
}

/// A shell's own suggestions are there whatever the server does, and the model here answers in what is left of the time.
#[test]
fn a_shell_is_answered_beside_a_server_that_stalls() {
    let server = Fake::start(Answer::Stall(vec![]));
    let place = Place::new(&server.url);
    place.run(&["daemon", "start"]);
    let history = place.sandbox.home().join(".zsh_history");
    fs::write(history, "cargo test --workspace\n").unwrap();
    let mut command: Command = place.sandbox.command(crate::util::nemoterm());
    let mut child = command
        .args(["attach", "zsh"])
        .env("NEMOTERM_TIMEOUT_MS", "5000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = child.stdout.take().unwrap();
    let mut records = std::io::BufRead::split(std::io::BufReader::new(output), 0).map(|record| {
        String::from_utf8(record.unwrap()).unwrap().split('\x1f').map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(records.next().unwrap()[1], "hello");
    input.write_all(b"1\x1ftype\x1f7\x1fcargo t\0").unwrap();
    assert_eq!(records.next().unwrap()[3], "est --workspace");
    // Nothing of the history goes on so, and it takes the server's time until the model is asked.
    input.write_all(b"2\x1fask\x1f12\x1ffind . -name\0").unwrap();
    assert_eq!(records.next().unwrap()[0], "2");
    assert!(!server.asked().is_empty());
    drop(input);
    child.wait().unwrap();
}

#[test]
fn a_service_gets_a_network_where_a_server_is_set() {
    let place = Place::new("http://gpu.example:8000/v1");
    let shown = place.run(&["daemon", "install", "--print"]).stdout;
    assert!(shown.contains("# A remote server is asked, because the configuration says so.\n"), "{shown}");
    assert!(shown.contains("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"), "{shown}");
    let unit = place.sandbox.home().join(".config/systemd/user/nemoterm.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "").unwrap();
    fs::set_permissions(&unit, fs::Permissions::from_mode(0o644)).unwrap();
    place.run(&["config", "unset", "backend"]);
    place.run(&["daemon", "start"]);
    let set = place.run(&["config", "set", "backend", "openai"]).stderr;
    assert!(set.contains("nemoterm daemon install"), "{set}");
}
