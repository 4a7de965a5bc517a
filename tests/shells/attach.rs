//! `nemoterm attach` by itself: the records, the deadlines, and when it ends.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use super::knowing;
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    home::Home,
    nemoterm, pass,
};

/// A client, and what it writes, record by record.
struct Attach {
    child: Child,
    input: Option<ChildStdin>,
    replies: Receiver<Vec<String>>,
}

impl Attach {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command: Command = home.command(nemoterm());
        command.args(["attach", "zsh"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            let mut record = Vec::new();
            while output.read_until(0, &mut record).is_ok_and(|length| length > 0) {
                record.pop();
                let fields = String::from_utf8_lossy(&record).split('\x1f').map(str::to_owned).collect();
                if sender.send(fields).is_err() {
                    return;
                }
                record.clear();
            }
        });
        let attach = Self { child, input, replies };
        assert_eq!(attach.reply()[..2], ["0", "hello"]);
        attach
    }

    fn send(&self, fields: &[&str]) {
        let record = fields.join("\x1f") + "\0";
        self.input.as_ref().unwrap().write_all(record.as_bytes()).unwrap();
    }

    fn reply(&self) -> Vec<String> {
        self.replies.recv_timeout(crate::util::DEADLINE).expect("no reply came")
    }

    fn wait_end(&mut self) {
        let child = &mut self.child;
        eventually("the client ends", || child.try_wait().unwrap().is_some());
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HISTORY: &str = "cargo test --workspace\ncargo tree\n";

/// Whatever the daemon is like, the history answers, and at once.
#[test]
fn the_history_never_waits_for_the_daemon() {
    let ask = |home: &Home| {
        home.write(".zsh_history", HISTORY);
        let attach = Attach::start(home, &[]);
        for i in 1..=20 {
            let line = "cargo test "[..i % 9 + 3].to_owned();
            attach.send(&[&i.to_string(), "type", &line.len().to_string(), &line]);
            let reply = attach.reply();
            assert_eq!(reply[..2], [i.to_string(), "add".to_owned()]);
            assert!(HISTORY.contains(&(line + &reply[3])), "{reply:?}");
        }
    };
    let home = Home::new();
    ask(&home);

    // Listens and never accepts, with a full queue.
    let home = Home::new();
    let _listener = UnixListener::bind(home.runtime().socket()).unwrap();
    let mut queue = Vec::new();
    rustix::io::ioctl_fionbio(&_listener, true).unwrap();
    loop {
        let stream = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let address = rustix::net::SocketAddrUnix::new(home.runtime().socket()).unwrap();
        if rustix::net::connect(&stream, &address).is_err() {
            break;
        }
        queue.push(stream);
    }
    ask(&home);

    // One byte a moment, for ever.
    let home = Home::new();
    let listener = UnixListener::bind(home.runtime().socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drip(stream));
        }
    });
    ask(&home);

    for answer in [Answer::Silence, Answer::HangUp, Answer::Bytes(vec![0; 3]), Answer::Bytes(vec![0xff; 9])] {
        let home = Home::new();
        let _daemon = Fake::start(home.runtime(), move |_| answer.clone());
        ask(&home);
    }
}

/// Sends a frame of 64 bytes, one byte at a time.
fn drip(mut stream: UnixStream) {
    for byte in [64, 0, 0, 0].into_iter().chain([b' '; 64]) {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_model_follows_the_history_where_it_knows_better() {
    let home = Home::new();
    home.write(".zsh_history", HISTORY);
    let daemon = knowing(&home, &["cargo test -p protocol"]);
    let attach = Attach::start(&home, &[]);
    attach.send(&["1", "type", "10", "cargo test"]);
    assert_eq!(attach.reply(), ["1", "add", "history", " --workspace"]);
    assert_eq!(attach.reply(), ["1", "add", "model", " -p protocol", " --workspace"]);
    let request = daemon.wait_line("cargo test");
    assert_eq!(request.candidates[0].suffix, " --workspace");
    // The daemon agrees: there is nothing new to say. The next request shows that nothing was.
    attach.send(&["2", "type", "8", "cargo tr"]);
    assert_eq!(attach.reply()[3..], ["ee"]);
    daemon.wait_line("cargo tr");
    attach.send(&["3", "ask", "9", "cargo tes"]);
    assert_eq!(attach.reply()[3], "t --workspace");
    assert_eq!(attach.reply(), ["3", "add", "model", "t -p protocol", "t --workspace"]);
}

/// The fake knows a program that no PATH has.
#[test]
fn what_appears_ends_before_a_program_that_is_not_here() {
    let home = Home::new();
    home.write(".zsh_history", "cat nothing\n");
    let _daemon = knowing(&home, &["cat x | wc -l | nemoterm-nowhere"]);
    let attach = Attach::start(&home, &[]);
    let mut seq = 0;
    let mut answer = |kind| {
        seq += 1;
        attach.send(&[&seq.to_string(), kind, "5", "cat x"]);
        attach.reply()[3].clone()
    };
    eventually("the PATH is read", || answer("type") == " | wc -l");
    assert_eq!(answer("ask"), " | wc -l | nemoterm-nowhere", "whoever asks sees all of it");
}

#[test]
fn a_secret_is_not_sent() {
    let home = Home::new();
    let daemon = knowing(&home, &[]);
    let attach = Attach::start(&home, &[]);
    attach.send(&["0", "event", "0", "/", "export GITHUB_TOKEN=ghp_0123456789abcdefghijABCDEFGHIJ012345"]);
    attach.send(&["0", "event", "0", "/", " echo what begins with a blank is private"]);
    attach.send(&["1", "type", "3", "ls "]);
    daemon.wait_line("ls ");
    let line = "curl -H 'Authorization: Bearer ghp_0123456789abcdefghijABCDEFGHIJ012345' ";
    attach.send(&["2", "type", &line.len().to_string(), line]);
    attach.send(&["3", "type", "4", "true"]);
    daemon.wait_line("true");
    let sent = format!("{:?}", daemon.requests());
    assert!(!sent.contains("ghp_"), "{sent}");
    assert!(!sent.contains("private"), "{sent}");
}

#[test]
fn a_daemon_that_hangs_is_left_alone_for_a_while() {
    let home = Home::new();
    home.limit(Duration::from_millis(30));
    home.write(".zsh_history", HISTORY);
    let daemon = Fake::start(home.runtime(), |_| Answer::Silence);
    let attach = Attach::start(&home, &[]);
    let started = Instant::now();
    let mut number = 0;
    // The history's answer tells that a question was taken.
    let mut ask = || {
        number += 1;
        let line = &"cargo test --works"[..3 + number % 15];
        attach.send(&[&number.to_string(), "type", &line.len().to_string(), line]);
        assert_eq!(attach.reply()[0], number.to_string());
    };
    // Three times it is waited for until the time is over. A question that came earlier would take the place of the one
    // before.
    for count in 1..=3 {
        ask();
        // On a busy machine the time may be over before the question has left.
        let mut asked = Instant::now();
        eventually("a question", || {
            if asked.elapsed() > Duration::from_millis(500) {
                ask();
                asked = Instant::now();
            }
            daemon.requests().len() >= count
        });
        // Nothing tells that it is over.
        pass(Duration::from_millis(60));
    }
    let questions = daemon.requests().len();
    for _ in 0..20 {
        ask();
    }
    if questions == 3 && started.elapsed() < Duration::from_secs(4) {
        assert_eq!(daemon.requests().len(), questions, "it is asked while it is left alone");
    }
    // And then it gets another chance.
    eventually("another question", || {
        ask();
        daemon.requests().len() > questions
    });
    assert!(started.elapsed() >= Duration::from_secs(5), "after {:?}", started.elapsed());
}

#[test]
fn turned_off_everywhere_it_says_nothing() {
    let home = Home::new();
    home.write(".zsh_history", HISTORY);
    let daemon = knowing(&home, &["cargo test"]);
    fs::write(home.runtime().off_switch(), "").unwrap();
    let mut attach = Attach::start(&home, &[]);
    attach.send(&["1", "type", "5", "cargo"]);
    attach.send(&["2", "ask", "6", "cargo "]);
    // It reads to the end before it ends.
    drop(attach.input.take());
    attach.wait_end();
    assert!(attach.replies.recv().is_err() && daemon.requests().is_empty());
}

#[test]
fn it_ends_with_its_input_and_with_its_shell() {
    let home = Home::new();
    let _daemon = knowing(&home, &[]);
    let mut attach = Attach::start(&home, &[]);
    drop(attach.input.take());
    attach.wait_end();

    // The pipe stays open here, as a child of the shell would keep it.
    let mut shell = Command::new("sleep").arg("60").spawn().unwrap();
    let mut attach = Attach::start(&home, &["--pid", &shell.id().to_string()]);
    shell.kill().unwrap();
    shell.wait().unwrap();
    attach.wait_end();
}

#[test]
fn it_uses_no_time_while_nothing_happens() {
    let home = Home::new();
    let _daemon = knowing(&home, &["ls -la"]);
    let attach = Attach::start(&home, &[]);
    attach.send(&["1", "type", "2", "ls"]);
    assert_eq!(attach.reply()[3], " -la");
    let switches = || -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", attach.child.id())).unwrap();
        let status =
            tasks.flatten().map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default());
        status
            .flat_map(|status| {
                status
                    .lines()
                    .filter_map(|line| {
                        line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok()
                    })
                    .collect::<Vec<_>>()
            })
            .sum()
    };
    // Until it is quiet, and then for a while.
    let mut before = switches();
    eventually("quiet", || {
        pass(Duration::from_millis(300));
        let now = switches();
        std::mem::replace(&mut before, now) == now
    });
}
