//! A server that speaks OpenAI's API to order: well, late, not at all, or something else.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
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
    /// The end of the connection and not a byte before.
    Gone,
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
    state: Arc<State>,
}

struct State {
    asked: Mutex<Vec<Asked>>,
    left: AtomicUsize,
    opened: AtomicUsize,
    answer: Mutex<Answer>,
    special: Box<Special>,
}

/// What answers some requests, where the common answer does not.
type Special = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;

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
        Self::start_as("http", answer, special, State::serve)
    }

    /// One that speaks TLS and takes so long to begin. With it comes the certificate of the authority that vouches for
    /// it, in PEM.
    pub fn start_tls(answer: Answer, handshake: Duration) -> (Self, String) {
        let (config, authority) = certified();
        let config = Arc::new(config);
        let fake = Self::start_as(
            "https",
            answer,
            |_| None,
            move |state, stream| {
                thread::sleep(handshake);
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                state.serve(StreamOwned::new(connection, stream));
            },
        );
        (fake, authority)
    }

    fn start_as(
        scheme: &str,
        answer: Answer,
        special: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        serve: impl Fn(&State, TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            asked: Mutex::default(),
            left: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            answer: Mutex::new(answer),
            special: Box::new(special),
        });
        let fake = Self {
            url: format!("{scheme}://{}/v1", listener.local_addr().unwrap()),
            state: Arc::clone(&state),
        };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, serve) = (Arc::clone(&state), Arc::clone(&serve));
                thread::spawn(move || serve(&state, stream));
            }
        });
        fake
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How many clients went away before they had their answer.
    pub fn left(&self) -> usize {
        self.state.left.load(Ordering::SeqCst)
    }

    /// How many connections were opened ahead.
    pub fn opened(&self) -> usize {
        self.state.opened.load(Ordering::SeqCst)
    }
}

impl State {
    /// Answers what is asked on one connection.
    fn serve(&self, mut stream: impl Read + Write) {
        while let Some(request) = read(&mut stream) {
            if request.head.starts_with("HEAD /v1/models ") {
                self.opened.fetch_add(1, Ordering::SeqCst);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").is_err() {
                    return;
                }
                continue;
            }
            let answer = (self.special)(&request).unwrap_or_else(|| self.answer.lock().unwrap().clone());
            self.asked.lock().unwrap().push(request);
            let goes_on = matches!(answer, Answer::Pieces(_));
            if write(&mut stream, answer).is_err() {
                self.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if !goes_on {
                return;
            }
        }
    }
}

/// A server's certificate for this machine, and that of the authority which has signed it.
fn certified() -> (ServerConfig, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    (config.with_single_cert(vec![certificate.der().clone()], key).unwrap(), authority_pem)
}

fn read(stream: &mut impl Read) -> Option<Asked> {
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
fn write(stream: &mut (impl Read + Write), answer: Answer) -> std::io::Result<()> {
    let piece = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "text": text}]}));
    let end =
        "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if let Answer::Status(status, more) = answer {
        let head = format!("HTTP/1.1 {status} No\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
        return stream.write_all(head.as_bytes());
    }
    if matches!(answer, Answer::Gone) {
        return Ok(());
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
        Answer::Status(..) | Answer::Gone => Ok(()),
    }
}
