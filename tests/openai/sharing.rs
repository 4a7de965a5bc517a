//! Programs and shells share one model.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use nemoterm_protocol::{Complete, Reply, Request, client::Client, runtime::Runtime};
use serde_json::json;

use super::server::Server;
use crate::util::{DEADLINE, eventually};

/// As many texts as one request may ask for, none of which ends before the context does.
const ENDLESS: &str =
    r#"{"prompt": "ls ", "max_tokens": 100000, "n": 128, "temperature": 1, "logit_bias": {"2": -100}}"#;

fn request(server: &Server, body: &str) -> String {
    format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    )
}

/// Programs with more texts than can be written while a test runs.
fn programs(server: &Server) -> Vec<TcpStream> {
    let programs = (0..7).map(|_| {
        let mut program = server.connect();
        program.write_all(request(server, ENDLESS).as_bytes()).unwrap();
        program
    });
    let programs = programs.collect();
    eventually("the texts to be begun", || server.metric("nemoterm_texts_unfinished") > 700.0);
    programs
}

#[test]
fn a_client_that_goes_away_gives_its_texts_up() {
    let server = Server::start();
    for stream in [false, true] {
        let given_up = server.metric("nemoterm_texts_given_up_total");
        let body = ENDLESS.replace("\"n\"", &format!("\"stream\": {stream}, \"n\""));
        let mut client = server.connect();
        client.write_all(request(&server, &body).as_bytes()).unwrap();
        eventually("the texts to be begun", || server.metric("nemoterm_texts_unfinished") > 100.0);
        if stream {
            let mut some = [0; 16];
            client.read_exact(&mut some).unwrap();
        }
        drop(client);
        eventually("the texts to be given up", || server.metric("nemoterm_texts_unfinished") == 0.0);
        assert!(server.metric("nemoterm_texts_given_up_total") > given_up);
        let written = server.metric("nemoterm_written_tokens_total");
        assert_eq!(server.metric("nemoterm_written_tokens_total"), written, "nothing is written for nobody");
    }
}

#[test]
fn key_strokes_go_first() {
    let server = Server::start();
    let client = Client::connect(&Runtime::at(server.sandbox.runtime()), DEADLINE).unwrap();
    let complete = |id| {
        Request::Complete(Box::new(Complete {
            id,
            line: "find . -name".to_owned(),
            cursor: 12,
            alternatives: 1,
            ..Complete::default()
        }))
    };
    let Reply::Completion(alone) = client.ask(&complete(1), DEADLINE).unwrap() else { panic!() };
    let _programs = programs(&server);
    for id in 2..20 {
        let reply = client.ask(&complete(id), DEADLINE).unwrap();
        let Reply::Completion(completion) = reply else { panic!("{reply:?}") };
        assert_eq!(
            completion.alternatives, alone.alternatives,
            "the program's text does not get into the shell's"
        );
    }
    assert!(server.metric("nemoterm_texts_unfinished") > 100.0, "the shell did not wait for the program");
}

#[test]
fn programs_do_not_mix() {
    let server = Server::start();
    let prompts = ["find . -name", "tar -x", "docker run ", "git checkout "];
    let alone: Vec<_> =
        prompts.iter().map(|prompt| server.complete(json!({ "prompt": prompt })).text(0)).collect();
    thread::scope(|scope| {
        for (prompt, expected) in prompts.iter().zip(&alone) {
            let server = &server.http;
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(&server.complete(json!({ "prompt": prompt })).text(0), expected);
                }
            });
        }
    });
}

#[test]
fn a_queue_that_is_full_says_so() {
    let server = Server::start();
    let mut programs = Vec::new();
    // Eight times 128 texts, but for those that are being written, fill the queue of 1024.
    for _ in 0..9 {
        let mut program = server.connect();
        program.write_all(request(&server, ENDLESS).as_bytes()).unwrap();
        programs.push(program);
    }
    eventually("the queue to be full", || server.metric("nemoterm_texts_unfinished") > 1000.0);
    eventually("a refusal", || {
        let answer = server.complete(json!({ "prompt": "ls", "n": 128 }));
        assert_eq!(answer.status, 429, "{}", answer.body);
        answer.json()["error"]["code"] == "queue_full"
    });
}

#[test]
fn a_daemon_that_ends_lets_its_programs_go() {
    let server = Server::start();
    let programs = programs(&server);
    assert_eq!(server.sandbox.nemoterm(&["daemon", "stop"]).code, Some(0));
    for mut program in programs {
        program.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = String::new();
        let _ = program.read_to_string(&mut answer);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}
