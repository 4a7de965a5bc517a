//! A server on this machine that speaks the Hub's protocol, as far as a download needs it, and misbehaves to order.
//!
//! As on the Hub, small files are answered at once and named by git's hash, large ones redirect to another place and are
//! named by their SHA-256.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The token that opens `o/private`.
pub const TOKEN: &str = "hf_right";
/// Files from this size on are large.
const LARGE: usize = 1 << 20;

/// The server. It ends with the test's process.
pub struct FakeHub {
    /// Where it listens, as `HF_ENDPOINT` wants it.
    pub endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where large files lie: another place, as clients take a redirect within one place for a new name.
    storage: String,
    files: Vec<(String, Vec<u8>)>,
    log: Mutex<Vec<String>>,
    cut: Mutex<HashSet<String>>,
    /// Whether `o/held` may send the second half.
    released: Mutex<bool>,
    release: Condvar,
}

impl FakeHub {
    /// Serves the files of a directory in every repository. A repository's name says how it fails; `o/ok` does not.
    pub fn serving(dir: &Path) -> Self {
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let endpoint = address(&hub);
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        let shared = Arc::new(Shared {
            storage: address(&storage),
            files,
            log: Mutex::default(),
            cut: Mutex::default(),
            released: Mutex::default(),
            release: Condvar::default(),
        });
        for listener in [hub, storage] {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let shared = Arc::clone(&shared);
                    // A client that goes away in the middle is part of the game.
                    thread::spawn(move || drop(answer(&shared, stream)));
                }
            });
        }
        Self { endpoint, shared }
    }

    /// Lets `o/held` send the second half of large files, which it keeps until then.
    pub fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.release.notify_all();
    }

    /// Requests so far, as `METHOD PATH`, with ` RANGE` where one was asked for.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }
}

struct Request {
    method: String,
    path: String,
    range: Option<usize>,
    token: Option<String>,
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // As much of percent-encoding as the names of the tests' files need.
    let path = path.replace("%20", " ").replace("%23", "#");
    let mut request = Request { method, path, range: None, token: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value.trim().strip_prefix("bytes=").and_then(|range| range.split('-').next());
                request.range = start.and_then(|start| start.parse().ok());
            }
            "authorization" => request.token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    Ok(request)
}

fn answer(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let request = read(&stream)?;
    let range = request.range.map(|start| format!(" {start}-")).unwrap_or_default();
    shared.log.lock().unwrap().push(format!("{} {}{range}", request.method, request.path));
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    let (repository, rest) = match parts.as_slice() {
        ["api", "models", owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        ["cdn", owner, name, rest @ ..] | [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        _ => return respond(&mut stream, 404, &[], b""),
    };
    let refused = match repository.as_str() {
        "o/gated" => Some((403, "x-error-code: GatedRepo")),
        "o/absent" => Some((404, "x-error-code: RepoNotFound")),
        "o/hidden" => Some((401, "x-error-code: RepoNotFound")),
        // Who got as far as the storage had a token for the way there, and must not be asked to show it again.
        "o/private" if parts[0] == "cdn" && request.token.is_some() => Some((400, "x: y")),
        "o/private" if parts[0] != "cdn" && request.token.as_deref() != Some(TOKEN) => {
            Some((401, "x-error-code: Other"))
        }
        "o/forbidden" => Some((403, "x-error-code: Other")),
        "o/limited" => Some((429, "retry-after: 1")),
        "o/broken" => Some((500, "x: y")),
        _ => None,
    };
    if let Some((status, header)) = refused {
        return respond(&mut stream, status, &[header.to_owned()], b"{\"error\":\"no\"}");
    }
    match rest {
        ["revision", revision] if matches!(*revision, "main" | COMMIT) => {
            let info = serde_json::json!({ "id": repository, "sha": COMMIT, "cardData": { "license": "apache-2.0" } });
            json(&mut stream, &info)
        }
        ["revision", _] => respond(&mut stream, 404, &["x-error-code: RevisionNotFound".to_owned()], b""),
        ["tree", COMMIT] if repository == "o/garbage" => respond(&mut stream, 200, &[], b"<html>"),
        ["tree", COMMIT] => {
            let named = |(name, bytes): &(String, Vec<u8>)| {
                let path = match repository.as_str() {
                    "o/evil" => format!("../../{name}"),
                    "o/empty" => format!("{name}.txt"),
                    _ => name.clone(),
                };
                serde_json::json!({ "type": "file", "oid": git_hash(bytes), "size": bytes.len(), "path": path })
            };
            json(&mut stream, &shared.files.iter().map(named).collect())
        }
        ["resolve", COMMIT, file] => {
            let Some((_, bytes)) = shared.files.iter().find(|(name, _)| name == file) else {
                return respond(&mut stream, 404, &["x-error-code: EntryNotFound".to_owned()], b"");
            };
            let is_nonsense = repository == "o/unreadable" && *file == "config.json";
            let bytes = if is_nonsense { &b"no JSON".to_vec() } else { bytes };
            let mut headers = vec![format!("x-repo-commit: {COMMIT}")];
            if bytes.len() < LARGE {
                headers.push(format!("etag: \"{}\"", git_hash(bytes)));
                return body(shared, &mut stream, &request, &repository, headers, bytes);
            }
            let size = if repository == "o/huge" { 1 << 60 } else { bytes.len() };
            if repository != "o/nameless" {
                headers.push(format!("x-linked-etag: \"{}\"", hex::encode(Sha256::digest(bytes))));
            }
            headers.push(format!("x-linked-size: {size}"));
            headers.push(format!("location: {}/cdn/{repository}/{file}", shared.storage));
            respond(&mut stream, 302, &headers, b"")
        }
        [file] => match shared.files.iter().find(|(name, _)| name == file) {
            Some((_, bytes)) => body(shared, &mut stream, &request, &repository, Vec::new(), bytes),
            None => respond(&mut stream, 404, &[], b""),
        },
        _ => respond(&mut stream, 404, &[], b""),
    }
}

/// A file's bytes, or what a bad server makes of them.
fn body(
    shared: &Shared,
    stream: &mut TcpStream,
    request: &Request,
    repository: &str,
    mut headers: Vec<String>,
    bytes: &[u8],
) -> std::io::Result<()> {
    let is_large = bytes.len() >= LARGE;
    let mut bytes = bytes.to_vec();
    if repository == "o/wrong" && is_large {
        bytes[LARGE / 2] ^= 1;
    }
    let start = request.range.filter(|_| repository != "o/rangeless").unwrap_or(0).min(bytes.len());
    let status = if start > 0 { 206 } else { 200 };
    headers.push(format!("content-length: {}", bytes.len() - start));
    head(stream, status, &headers)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let rest = &bytes[start..];
    if repository == "o/held" && is_large {
        let (now, later) = rest.split_at(rest.len() / 2);
        stream.write_all(now)?;
        let released = shared.released.lock().unwrap();
        drop(shared.release.wait_while(released, |released| !*released).unwrap());
        return stream.write_all(later);
    }
    let is_cut = match repository {
        "o/cut" | "o/rangeless" => is_large && shared.cut.lock().unwrap().insert(repository.to_owned()),
        "o/dying" => is_large,
        _ => false,
    };
    // A server that dies for good sends a little and then nothing at all.
    let sent = match (is_cut, repository, start) {
        (false, ..) => rest.len(),
        (true, "o/dying", 1..) => 0,
        _ => rest.len() / 2,
    };
    stream.write_all(&rest[..sent])
}

fn json(stream: &mut TcpStream, value: &serde_json::Value) -> std::io::Result<()> {
    respond(stream, 200, &["content-type: application/json".to_owned()], value.to_string().as_bytes())
}

fn respond(stream: &mut TcpStream, status: u16, headers: &[String], body: &[u8]) -> std::io::Result<()> {
    let length = format!("content-length: {}", body.len());
    head(stream, status, &[headers, &[length]].concat())?;
    stream.write_all(body)
}

fn head(stream: &mut TcpStream, status: u16, headers: &[String]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\n{}\r\n\r\n", headers.join("\r\n"))
}

/// What git calls a file's contents.
fn git_hash(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex::encode(hash.finalize())
}
