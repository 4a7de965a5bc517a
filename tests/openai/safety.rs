//! Nothing but a program of this machine, or one that knows the token, reaches the model.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use serde_json::{Value, json};

use super::server::Server;
use crate::util::{DEADLINE, eventually, sandbox::Sandbox};

const BODY: &str = r#"{"prompt": "ls", "max_tokens": 1}"#;

/// 1050 combinations. Only one host with no origin, JSON and POST may make the model write.
#[test]
fn no_request_that_a_web_page_could_send_reaches_the_model() {
    let server = Server::start();
    let ours = server.address.clone();
    let port = ours.rsplit(':').next().unwrap();
    let localhost = format!("localhost:{port}");
    let rebound = format!("attacker.example:{port}");
    let subdomain = format!("localhost:{port}.attacker.example");
    let hosts =
        [Some(&*ours), Some(&localhost), Some(&rebound), Some(&subdomain), Some("localhost"), Some(""), None];
    let origins = [None, Some("null"), Some("http://localhost"), Some("https://attacker.example"), Some("")];
    let kinds = [
        None,
        Some("application/json"),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
    ];
    let methods = ["POST", "GET", "PUT", "DELETE", "OPTIONS", "PATCH"];
    let header = |name: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("{name}: {value}\r\n"))
    };
    let (mut answered, mut refused) = (0, 0);
    for host in hosts {
        for origin in origins {
            for kind in kinds {
                for method in methods {
                    let request = format!(
                        "{method} /v1/completions HTTP/1.1\r\n{}{}{}Connection: close\r\nContent-Length: {}\r\n\r\n{BODY}",
                        header("Host", host),
                        header("Origin", origin),
                        header("Content-Type", kind),
                        BODY.len()
                    );
                    let (status, answer) = server.raw(&request);
                    let is_ours = host == Some(&*ours) || host == Some(&*localhost);
                    let expected = match (is_ours, origin, method, kind) {
                        (false, ..) | (_, Some(_), ..) => 403,
                        (_, _, "POST", Some("application/json")) => 200,
                        (_, _, "POST", _) => 415,
                        _ => 405,
                    };
                    // A host that is no host at all is refused before anybody looks.
                    let is_refused = status == expected || (!is_ours && status == 400);
                    assert!(is_refused, "{status} and not {expected} for {request}");
                    if status == 200 {
                        answered += 1;
                    } else {
                        refused += 1;
                    }
                    // Nothing tells a page's script that it may read the answer.
                    assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
                }
            }
        }
    }
    assert_eq!((answered, refused), (2, 1048));
    assert!(server.metric("nemoterm_written_tokens_total") <= 2.0);
}

#[test]
fn other_machines_need_a_token() {
    let sandbox = Sandbox::new();
    let refused = sandbox.nemoterm(&["daemon", "start", "--http", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no token") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    // The shells have their daemon all the same, and it says what is wrong.
    assert_eq!(sandbox.nemoterm(&["complete", "find . -name"]).code, Some(0));
    let status = sandbox.nemoterm(&["daemon", "status"]).stdout;
    assert!(status.contains("no token"), "{status}");

    let token = sandbox.home().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let dir = sandbox.home().join(".config/nemoterm");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), format!("http_token_file = {:?}\n", token.to_str().unwrap())).unwrap();
    let started = sandbox.nemoterm(&["daemon", "restart", "--http", "0.0.0.0:0"]);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    let status: Value =
        serde_json::from_str(&sandbox.nemoterm(&["daemon", "status", "--json"]).stdout).unwrap();
    let port = status["http"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let mut server = Server::running_in(sandbox);
    server.http.address = format!("127.0.0.1:{port}");
    let ask = |authorization: &str| {
        let head = format!(
            "Host: box.lan:{port}\r\n{authorization}Content-Type: application/json\r\nConnection: close"
        );
        let length = BODY.len();
        server
            .raw(&format!(
                "POST /v1/completions HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{BODY}"
            ))
            .0
    };
    assert_eq!(ask("Authorization: Bearer s3cret\r\n"), 200);
    for wrong in
        ["", "Authorization: Bearer s3cre\r\n", "Authorization: Basic s3cret\r\n", "api-key: s3cret\r\n"]
    {
        assert_eq!(ask(wrong), 401, "{wrong}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/metrics").status, 401);
}

#[test]
fn a_port_that_is_taken_is_named_and_costs_the_shells_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sandbox = Sandbox::new();
    let started = sandbox.nemoterm(&["daemon", "start", "--http", &address]);
    assert_eq!(started.code, Some(1));
    assert!(started.stderr.contains(&address) && started.stderr.contains("hint: "), "{}", started.stderr);
    assert_eq!(sandbox.nemoterm(&["complete", "find . -name"]).code, Some(0));
}

#[test]
fn a_daemon_without_http_has_none() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    let status: Value =
        serde_json::from_str(&sandbox.nemoterm(&["daemon", "status", "--json"]).stdout).unwrap();
    assert_eq!((&status["http"], &status["http_error"]), (&Value::Null, &Value::Null));
    let late = sandbox.nemoterm(&["daemon", "start", "--http", "127.0.0.1:0"]);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("hint: nemoterm daemon restart --http 127.0.0.1:0"), "{}", late.stderr);
}

#[test]
fn bad_requests_are_told_from_bad_servers() {
    let server = Server::start();
    let host = format!("Host: {}\r\nConnection: close\r\n", server.address);
    let post = |headers: &str, body: &str| {
        server.raw(&format!(
            "POST /v1/completions HTTP/1.1\r\n{host}Content-Type: application/json\r\n{headers}\r\n{body}"
        ))
    };
    let sized = |body: &str| post(&format!("Content-Length: {}\r\n", body.len()), body).0;
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"prompt\"",
        "{\"prompt\": \"x\"} {}",
        "{\"prompt\": \"\u{0}\"}",
        &"[".repeat(10_000),
    ] {
        assert_eq!(sized(body), 400, "{body:?}");
    }
    assert_eq!(post("Content-Length: 1048577\r\n", "{").0, 413);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16));
    assert_eq!(post("Transfer-Encoding: chunked\r\n", &chunk.repeat(17)).0, 413);
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.get("/v1/models/other").status, 404);
    assert_eq!(server.get("/v1/models/nemoterm-mini").status, 200);
    assert_eq!(server.get("/v1/completions").status, 405);
    for path in ["/v1/nothing", "/v1/models/other", "/v1/completions"] {
        assert!(server.get(path).json()["error"]["message"].is_string());
    }
    let head = format!("GET /health HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(1_000_000));
    assert_eq!(server.raw(&head).0, 431);
    assert_eq!(server.raw("nonsense\r\n\r\n").0, 400);
    assert_eq!(server.complete(json!({ "prompt": "ls" })).status, 200);
}

#[test]
fn a_client_that_dawdles_is_given_up() {
    let server = Server::start();
    // One that never finishes its head, and one that never sends its body.
    let mut head = server.connect();
    head.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: ").unwrap();
    let mut body = server.connect();
    let start = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{",
        server.address
    );
    body.write_all(start.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = body.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut answer = String::new();
    let _ = head.read_to_string(&mut answer);
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[test]
fn connections_are_limited_and_the_next_one_waits() {
    let server = Server::start();
    let mut held: Vec<_> = (0..128).map(|_| server.connect()).collect();
    let mut next = server.connect();
    let host = &server.address;
    next.write_all(format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    next.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = String::new();
    assert!(next.read_to_string(&mut answer).is_err() && answer.is_empty(), "{answer}");
    // The place of one that goes is the next one's.
    held.pop();
    next.set_read_timeout(Some(DEADLINE)).unwrap();
    next.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn nothing_that_was_asked_is_in_the_log() {
    let server = Server::start();
    let canary = "zanzibarcanary";
    server.complete(json!({ "prompt": canary }));
    server.complete(json!({ "prompt": canary.repeat(1000) }));
    server.complete(json!({ canary: 1 }));
    server.sandbox.nemoterm(&["daemon", "stop"]);
    eventually("the daemon to end", || server.sandbox.log().contains("ended"));
    assert!(!server.sandbox.log().contains(canary));
}
