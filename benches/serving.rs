//! Programs and shells at one model: `cargo bench --bench serving -- [--rounds N] [--requests N] [--json]`.
//!
//! - Together: tokens a second of eight clients at once, against one client that asks for the same texts one after the
//!   other; rounds of both in turn, medians.
//! - Flood: so many requests of mixed sizes on 64 connections, while a shell types eight keys a second: how long its
//!   answers take, alone and during the flood, what was refused, and what the daemon's memory does.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to save")]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/util/mod.rs"]
mod util;

use std::{
    env, fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::{Complete, Reply, Request, client::Client, runtime::Runtime};
use serde_json::{Value, json};
use util::sandbox::Sandbox;

const CLIENTS: usize = 8;
const CONNECTIONS: usize = 64;
/// Tokens of each text where clients are compared.
const TOKENS: usize = 64;
/// Between two keys of the shell.
const KEY: Duration = Duration::from_millis(125);
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    url: String,
    pid: i32,
    runtime: Runtime,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let number = |name: &str, default: usize| {
        let position = arguments.iter().position(|argument| argument == name);
        position.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let together = server.together(number("--rounds", 5));
    let flood = server.flood(number("--requests", 10_000));
    let report = json!({ "together": together, "flood": flood });
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
}

impl Server {
    fn start(sandbox: &Sandbox) -> Self {
        let started = sandbox.nemoterm(&["daemon", "start", "--http", "127.0.0.1:0"]);
        assert_eq!(started.code, Some(0), "{}", started.stderr);
        let status = sandbox.nemoterm(&["daemon", "status", "--json"]).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        let address = status["http"].as_str().unwrap();
        Self {
            url: format!("http://{address}/v1/completions"),
            pid: sandbox.daemon_pid().unwrap(),
            runtime: Runtime::at(sandbox.runtime()),
        }
    }

    /// Tokens that were written; nothing where the server refused.
    fn write(&self, agent: &ureq::Agent, number: usize, tokens: usize) -> Option<usize> {
        let body = json!({
            "prompt": format!("ls -la src/{number}\ngit add src/{number}\ngit "),
            "max_tokens": tokens, "temperature": 1, "seed": number,
            // The end of a text and of a line, so that all texts have the same length.
            "logit_bias": { "2": -100 },
        });
        let mut response = agent.post(&self.url).send_json(&body).ok()?;
        let answer: Value = response.body_mut().read_json().ok()?;
        Some(answer["usage"]["completion_tokens"].as_u64()? as usize)
    }

    /// Tokens a second of so many clients that together ask for so many texts.
    fn speed(&self, clients: usize, texts: usize) -> f64 {
        let (next, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let agent = agent();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= texts {
                            return;
                        }
                        let tokens = self.write(&agent, number, TOKENS).unwrap();
                        written.fetch_add(tokens, Ordering::Relaxed);
                    }
                });
            }
        });
        written.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
    }

    fn together(&self, rounds: usize) -> Value {
        let texts = 4 * CLIENTS;
        self.speed(CLIENTS, texts);
        let pairs: Vec<(f64, f64)> =
            (0..rounds).map(|_| (self.speed(1, texts), self.speed(CLIENTS, texts))).collect();
        let middle = |of: fn(&(f64, f64)) -> f64| percentile(pairs.iter().map(of).collect(), 0.5);
        json!({
            "one_client_tokens_per_s": middle(|pair| pair.0),
            "eight_clients_tokens_per_s": middle(|pair| pair.1),
            "ratio": middle(|pair| pair.1 / pair.0),
        })
    }

    fn flood(&self, requests: usize) -> Value {
        let alone = self.keys(&AtomicBool::new(false), 40);
        let before = self.resident();
        let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let over = AtomicBool::new(false);
        let started = Instant::now();
        let during = thread::scope(|scope| {
            let shell = scope.spawn(|| self.keys(&over, usize::MAX));
            let connections: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    scope.spawn(|| {
                        let agent = agent();
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= requests {
                                return;
                            }
                            if self.write(&agent, number, 1 + number * 7919 % 32).is_none() {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            for connection in connections {
                connection.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            shell.join().unwrap()
        });
        json!({
            "requests": requests,
            "refused": refused.into_inner(),
            "seconds": started.elapsed().as_secs_f64(),
            "key_ms_alone": { "p50": percentile(alone.clone(), 0.5), "p99": percentile(alone, 0.99) },
            "key_ms_during": { "p50": percentile(during.clone(), 0.5), "p99": percentile(during, 0.99) },
            "resident_mib": { "before": before, "after": self.resident() },
        })
    }

    /// Milliseconds from each key of a shell to its answer, until it is over or so many keys were typed.
    fn keys(&self, over: &AtomicBool, most: usize) -> Vec<f64> {
        const LINE: &str = "docker run --rm -it -v src:/src alpine sh";
        let client = Client::connect(&self.runtime, DEADLINE).unwrap();
        let mut times = Vec::new();
        for id in 0..most {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let cursor = 1 + id % LINE.len();
            let request = Request::Complete(Box::new(Complete {
                id: id as u64,
                line: LINE[..cursor].to_owned(),
                cursor,
                alternatives: 1,
                ..Complete::default()
            }));
            let pressed = Instant::now();
            let reply = client.ask(&request, DEADLINE).unwrap();
            assert!(matches!(reply, Reply::Completion(_)), "{reply:?}");
            times.push(pressed.elapsed().as_secs_f64() * 1e3);
            thread::sleep(KEY.saturating_sub(pressed.elapsed()));
        }
        times
    }

    /// Resident memory of the daemon in MiB.
    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .map_or(f64::NAN, |kib| kib / 1024.0)
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build().into()
}

/// The value below which this share of the values lies.
fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
