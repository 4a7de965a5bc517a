//! The daemon's life: one at a time, alive through bad clients, gone when told to.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

use nemoterm_protocol::{
    Complete, MAX_FRAME, Reply, Request, VERSION, Welcome, client::Client, frame, runtime::Runtime,
};
use rustix::process::Signal;

use crate::util::{
    eventually, nemotermd,
    sandbox::{Sandbox, signal},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn complete(id: u64, line: &str) -> Request {
    Request::Complete(Box::new(Complete {
        id,
        line: line.to_owned(),
        cursor: line.len(),
        alternatives: 1,
        wait_ms: 20_000,
        ..Complete::default()
    }))
}

fn start(sandbox: &Sandbox) -> (Runtime, i32) {
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(0));
    (Runtime::at(sandbox.runtime()), sandbox.daemon_pid().unwrap())
}

fn connect(runtime: &Runtime) -> Client {
    Client::connect(runtime, PATIENCE).unwrap()
}

fn suggests(client: &Client, id: u64, line: &str) -> String {
    match client.ask(&complete(id, line), PATIENCE).unwrap() {
        Reply::Completion(completion) => {
            assert_eq!(completion.id, id);
            completion.alternatives[0].line.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_starts_says_how_it_is_and_ends() {
    let sandbox = Sandbox::new();
    let absent = sandbox.nemoterm(&["daemon", "status", "--json"]);
    assert_eq!((absent.stdout.as_str(), absent.code), ("{\"running\":false}\n", Some(3)));
    start(&sandbox);
    let status: serde_json::Value =
        serde_json::from_str(&sandbox.nemoterm(&["daemon", "status", "--json"]).stdout).unwrap();
    assert_eq!((&status["running"], &status["state"]["name"]), (&true.into(), &"ready".into()));
    assert_eq!(status["model"]["name"], "nemoterm-mini");
    let logs = sandbox.nemoterm(&["daemon", "logs"]);
    assert!(logs.stdout.contains("listening"), "{}", logs.stdout);
    assert_eq!(sandbox.nemoterm(&["daemon", "stop"]).code, Some(0));
    assert_eq!(sandbox.daemon_pid(), None);
    assert!(!sandbox.runtime().join("daemon.sock").exists());
    assert!(sandbox.log().contains("ended"));
    assert_eq!(sandbox.nemoterm(&["daemon", "stop"]).code, Some(0), "stopping nothing is done at once");
}

#[test]
fn a_signal_ends_it_cleanly() {
    let sandbox = Sandbox::new();
    for end in [Signal::TERM, Signal::INT] {
        let (_, pid) = start(&sandbox);
        signal(pid, end);
        eventually("the socket to go", || !sandbox.runtime().join("daemon.sock").exists());
    }
}

#[test]
fn a_killed_one_is_replaced() {
    let sandbox = Sandbox::new();
    for _ in 0..5 {
        let (_, pid) = start(&sandbox);
        signal(pid, Signal::KILL);
        let printed = sandbox.nemoterm(&["complete", "find . -name"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert_ne!(sandbox.daemon_pid(), Some(pid));
        sandbox.nemoterm(&["daemon", "stop"]);
    }
}

#[test]
fn of_many_started_at_once_one_stays() {
    let sandbox = Sandbox::new();
    let started: Vec<_> = (0..20)
        .map(|_| sandbox.command(nemotermd()).args(["serve", "--background"]).spawn().unwrap())
        .collect();
    eventually("one to answer", || sandbox.daemon_pid().is_some());
    let winner = sandbox.daemon_pid().unwrap();
    // The others give up by themselves. Only then is the lock let go, or a late one would take it.
    let (mut winners, others): (Vec<_>, Vec<_>) =
        started.into_iter().partition(|child| child.id() as i32 == winner);
    for mut other in others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(sandbox.nemoterm(&["daemon", "stop"]).code, Some(0));
    assert!(winners[0].wait().unwrap().success());
}

#[test]
fn a_removed_socket_comes_back() {
    let sandbox = Sandbox::new();
    let (_, pid) = start(&sandbox);
    fs::remove_file(sandbox.runtime().join("daemon.sock")).unwrap();
    let printed = sandbox.nemoterm(&["complete", "find . -name"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(sandbox.daemon_pid(), Some(pid), "the same daemon");
}

#[test]
fn a_hung_one_is_an_error_and_can_be_restarted() {
    let sandbox = Sandbox::new();
    let (_, pid) = start(&sandbox);
    signal(pid, Signal::STOP);
    let printed = sandbox.nemoterm(&["complete", "ls"]);
    assert!(
        printed.stderr.contains("does not answer") && printed.stderr.contains("hint: "),
        "{}",
        printed.stderr
    );
    assert_eq!(sandbox.nemoterm(&["daemon", "restart"]).code, Some(0));
    assert_ne!(sandbox.daemon_pid(), Some(pid));
}

#[test]
fn bad_clients_do_not_bring_it_down() {
    let sandbox = Sandbox::new();
    let (runtime, pid) = start(&sandbox);
    let raw = || UnixStream::connect(runtime.socket()).unwrap();
    let ended = |mut stream: UnixStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut rest);
        rest
    };
    // Half a header, a body that never comes, a giant, no JSON, no greeting.
    let mut half = raw();
    half.write_all(&[9, 0]).unwrap();
    let mut slow = raw();
    slow.write_all(&100_u32.to_le_bytes()).unwrap();
    let mut giant = raw();
    giant.write_all(&(MAX_FRAME as u32 + 1).to_le_bytes()).unwrap();
    let mut garbage = raw();
    garbage.write_all(&[3, 0, 0, 0, b'{', 0xff, b'}']).unwrap();
    let mut rude = raw();
    rude.write_all(&frame::encode(&Request::Status).unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&ended(giant)).contains("over the limit"));
    assert!(String::from_utf8_lossy(&ended(garbage)).contains("not a message"));
    for stream in [half, slow, rude] {
        assert_eq!(ended(stream), b"", "given up within a second");
    }
    let client = connect(&runtime);
    for line in ["", " ", "\n", "\u{0}", "ä", "日本 ", "\u{202e}x", "'", "\"", "\\", "#", "# "] {
        assert!(client.ask(&complete(1, line), PATIENCE).is_ok(), "{line:?}");
    }
    let mut misplaced = Complete { line: "ä".to_owned(), cursor: 1, ..Complete::default() };
    misplaced.id = 2;
    let reply = client.ask(&Request::Complete(Box::new(misplaced)), PATIENCE).unwrap();
    assert!(matches!(reply, Reply::Error(error) if error.id == Some(2)));
    assert_eq!(sandbox.daemon_pid(), Some(pid));
    assert!(suggests(&client, 3, "find . -name").starts_with("find . -name "));
}

#[test]
fn the_newest_request_of_a_shell_wins() {
    let sandbox = Sandbox::new();
    let (runtime, _) = start(&sandbox);
    let client = connect(&runtime);
    let line = "find . -name";
    for id in 1..=50 {
        client.send(&complete(id, &line[..1 + (id as usize - 1) % line.len()])).unwrap();
    }
    client.send(&complete(51, line)).unwrap();
    let mut answered = Vec::new();
    loop {
        match client.receive(Some(Instant::now() + PATIENCE)).unwrap() {
            Reply::Completion(completion) if completion.id == 51 => break,
            Reply::Completion(completion) => answered.push(completion.id),
            other => panic!("{other:?}"),
        }
    }
    assert!(answered.is_sorted() && answered.len() < 50, "some were replaced: {answered:?}");
}

#[test]
fn clients_do_not_mix() {
    let sandbox = Sandbox::new();
    let (runtime, _) = start(&sandbox);
    let lines = ["find . -name", "tar -x", "docker run ", "git checkout "];
    let alone: Vec<_> = lines.iter().map(|line| suggests(&connect(&runtime), 1, line)).collect();
    thread::scope(|scope| {
        for (line, expected) in lines.iter().zip(&alone) {
            let runtime = &runtime;
            scope.spawn(move || {
                let client = connect(runtime);
                for id in 1..=20 {
                    assert_eq!(&suggests(&client, id, line), expected);
                }
            });
        }
    });
}

#[test]
fn a_model_that_is_gone_is_named() {
    let sandbox = Sandbox::new();
    let dir = sandbox.home().join(".config/nemoterm");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "model = \"/no/such/model.gguf\"\n").unwrap();
    let printed = sandbox.nemoterm(&["complete", "ls"]);
    assert!(
        printed.stderr.contains("/no/such/model.gguf") && printed.stderr.contains("hint: "),
        "{}",
        printed.stderr
    );
    assert_ne!(printed.code, Some(0));
    assert_eq!(sandbox.nemoterm(&["daemon", "start"]).code, Some(1));
    assert!(sandbox.daemon_pid().is_some(), "the daemon is there and says so");
}

#[test]
fn an_older_daemon_is_replaced() {
    let sandbox = Sandbox::new();
    let runtime = Runtime::at(sandbox.runtime());
    runtime.create().unwrap();
    let listener = UnixListener::bind(runtime.socket()).unwrap();
    let socket = runtime.socket();
    let old = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let hello = frame::read::<Request>(&mut stream).unwrap();
        assert!(matches!(hello, Some(Request::Hello(_))));
        let version = "0.0.1".to_owned();
        let welcome = Welcome { protocol: VERSION, version, pid: std::process::id(), stats: None };
        frame::write(&mut stream, &Reply::Welcome(welcome)).unwrap();
        let stop = frame::read::<Request>(&mut stream).unwrap();
        drop(listener);
        fs::remove_file(socket).unwrap();
        frame::write(&mut stream, &Reply::Stopping).unwrap();
        stop
    });
    let printed = sandbox.nemoterm(&["complete", "find . -name"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(old.join().unwrap(), Some(Request::Stop));
    assert!(sandbox.daemon_pid().is_some());
}

#[test]
fn nothing_that_was_typed_is_in_the_log() {
    let sandbox = Sandbox::new();
    let (runtime, _) = start(&sandbox);
    let canary = "zanzibarcanary";
    connect(&runtime).ask(&complete(1, &format!("echo {canary} ")), PATIENCE).unwrap();
    connect(&runtime).ask(&complete(2, &canary.repeat(2000)), PATIENCE).unwrap();
    sandbox.nemoterm(&["daemon", "stop"]);
    assert!(sandbox.log().contains("ended") && !sandbox.log().contains(canary));
}
