//! A server that speaks OpenAI's API to order: well, late, not at all, or something else.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

/// What a request gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text in these pieces.
    Pieces(Vec<&'static str>),
    /// These pieces, and then nothing until the client goes away.
    Stall(Vec<&'static str>),
    /// These pieces, and then the end of the connection.
    Break(Vec<&'static str>),
    /// This status, with these lines in its head.
    Status(u16, &'static str),
    /// A stream of these bytes.
    Bytes(Vec<u8>),
    /// The same bytes again and again, until the client goes away.
    Endless(&'static str),
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    /// The head, as it came.
    pub head: String,
    pub body: Value,
}

impl Asked {
    pub fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap_or_default()
    }
}

/// The server. It ends with the test's process.
pub struct Fake {
    /// As `remote_url` wants it.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

impl Fake {
    /// One that answers so.
    pub fn start(answer: Answer) -> Self {
        Self::start_with(answer, |_| None)
    }

    /// One that answers so what `special` does not.
    pub fn start_with(
        answer: Answer,
        special: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            url: format!("http://{}/v1", listener.local_addr().unwrap()),
            asked: Arc::default(),
            left: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let (asked, left, answer) =
            (Arc::clone(&fake.asked), Arc::clone(&fake.left), Arc::clone(&fake.answer));
        let special = Arc::new(special);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, left, answer) = (Arc::clone(&asked), Arc::clone(&left), Arc::clone(&answer));
                let special = Arc::clone(&special);
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let answer = special(&request).unwrap_or_else(|| answer.lock().unwrap().clone());
                    asked.lock().unwrap().push(request);
                    if write(stream, answer).is_err() {
                        left.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        fake
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many clients went away before they had their answer.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    Some(Asked { path, head, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// Writes an answer; an error where the client has gone away.
fn write(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let piece = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "text": text}]}));
    let end =
        "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if let Answer::Status(status, more) = answer {
        let head = format!("HTTP/1.1 {status} No\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
        return stream.write_all(head.as_bytes());
    }
    stream.write_all(head.as_bytes())?;
    let mut chunk = |text: &[u8]| {
        let framed = [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
        stream.write_all(&framed)
    };
    match answer {
        Answer::Pieces(pieces) => {
            for text in pieces {
                chunk(piece(text).as_bytes())?;
            }
            chunk(end.as_bytes())?;
            stream.write_all(b"0\r\n\r\n")
        }
        Answer::Stall(pieces) => {
            for text in pieces {
                chunk(piece(text).as_bytes())?;
            }
            // Nothing more is sent; what ends this is the client.
            let _ = stream.read(&mut [0]);
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        Answer::Break(pieces) => {
            for text in pieces {
                chunk(piece(text).as_bytes())?;
            }
            Ok(())
        }
        Answer::Endless(text) => loop {
            chunk(text.as_bytes())?;
        },
        Answer::Bytes(bytes) => {
            chunk(&bytes)?;
            stream.write_all(b"0\r\n\r\n")
        }
        Answer::Status(..) => Ok(()),
    }
}
