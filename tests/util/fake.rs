//! A daemon to order: late, silent, garbled or hostile. It speaks the real wire.

use std::{
    fs,
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nemoterm_protocol::{
    Alternative, Complete, Completion, Reply, Request, Source, Timing, VERSION, Welcome, frame,
    runtime::Runtime,
};

/// What a request gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These suffixes, best first.
    Suffixes(Vec<String>),
    /// These suffixes, so much later.
    Late(Duration, Vec<String>),
    /// Nothing, ever.
    Silence,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The end of the conversation.
    HangUp,
}

impl Answer {
    /// One suffix.
    pub fn suffix(text: &str) -> Self {
        Self::Suffixes(vec![text.to_owned()])
    }
}

/// A listening daemon. It ends when it is dropped.
pub struct Fake {
    socket: PathBuf,
    requests: Arc<Mutex<Vec<Complete>>>,
    answered: Arc<AtomicUsize>,
    others: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    ended: Arc<AtomicBool>,
}

impl Fake {
    /// Listens where clients look, and answers each request as told.
    pub fn start(runtime: &Runtime, answer: impl Fn(&Complete) -> Answer + Send + Sync + 'static) -> Self {
        runtime.create().unwrap();
        let _ = fs::remove_file(runtime.socket());
        let listener = UnixListener::bind(runtime.socket()).unwrap();
        let fake = Self {
            socket: runtime.socket(),
            requests: Arc::default(),
            answered: Arc::default(),
            others: Arc::default(),
            streams: Arc::default(),
            ended: Arc::default(),
        };
        let (requests, answered) = (Arc::clone(&fake.requests), Arc::clone(&fake.answered));
        let others = Arc::clone(&fake.others);
        let (streams, ended) = (Arc::clone(&fake.streams), Arc::clone(&fake.ended));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (requests, answered) = (Arc::clone(&requests), Arc::clone(&answered));
                let (answer, others) = (Arc::clone(&answer), Arc::clone(&others));
                thread::spawn(move || serve(stream, &requests, &answered, &others, &*answer));
            }
        });
        fake
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Complete> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests it has answered with suffixes.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// How many requests it got that it does not know.
    pub fn others(&self) -> usize {
        self.others.load(Ordering::SeqCst)
    }

    /// Waits until a line was asked about.
    pub fn wait_line(&self, line: &str) -> Complete {
        let mut found = None;
        super::eventually(&format!("a request about {line:?}"), || {
            found = self.requests.lock().unwrap().iter().find(|request| request.line == line).cloned();
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listening thread, which then ends and closes the socket.
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(
    mut stream: UnixStream,
    requests: &Mutex<Vec<Complete>>,
    answered: &Arc<AtomicUsize>,
    others: &AtomicUsize,
    answer: &dyn Fn(&Complete) -> Answer,
) {
    while let Ok(Some(request)) = frame::read::<Request>(&mut stream) {
        match request {
            Request::Hello(_) => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let welcome = Welcome { protocol: VERSION, version, pid: std::process::id(), stats: None };
                frame::write(&mut stream, &Reply::Welcome(welcome)).unwrap();
            }
            Request::Complete(request) => {
                let answer = answer(&request);
                requests.lock().unwrap().push((*request).clone());
                match answer {
                    Answer::Suffixes(suffixes) => {
                        reply(&mut stream, &request, suffixes);
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    Answer::Late(delay, suffixes) => {
                        let (mut stream, answered) = (stream.try_clone().unwrap(), Arc::clone(answered));
                        thread::spawn(move || {
                            thread::sleep(delay);
                            reply(&mut stream, &request, suffixes);
                            answered.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                    Answer::Silence => {}
                    Answer::Bytes(bytes) => {
                        let _ = stream.write_all(&bytes);
                    }
                    Answer::HangUp => {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                }
            }
            Request::Cancel => {}
            _ => {
                others.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn reply(stream: &mut UnixStream, request: &Complete, suffixes: Vec<String>) {
    let (before, after) = request.line.split_at(request.cursor);
    let alternatives = suffixes
        .into_iter()
        .map(|suffix| Alternative {
            line: format!("{before}{suffix}{after}"),
            suffix,
            logprob: Some(-0.5),
            source: Source::Model,
        })
        .collect();
    let completion = Completion {
        id: request.id,
        alternatives,
        model: "fake".to_owned(),
        timing: Timing::default(),
        instead: None,
    };
    // The client may have gone.
    let _ = frame::write(stream, &Reply::Completion(completion));
}
