//! A daemon that serves HTTP on a port of its own.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    ops::Deref,
    time::Duration,
};

use serde_json::Value;

use crate::util::sandbox::Sandbox;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon. It ends when this is dropped.
pub struct Server {
    pub sandbox: Sandbox,
    pub http: Http,
}

/// What talks to it.
pub struct Http {
    /// Address and port.
    pub address: String,
    agent: ureq::Agent,
}

impl Deref for Server {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.http
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The text of a choice.
    pub fn text(&self, index: usize) -> String {
        self.json()["choices"][index]["text"].as_str().unwrap_or_else(|| panic!("{}", self.body)).to_owned()
    }

    /// The data of a stream's events.
    pub fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }

    /// The chunks of a stream that must have ended well.
    pub fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.body);
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_in(Sandbox::new())
    }

    /// With the embedded model's weights as they lie, rather than quantised.
    pub fn exact() -> Self {
        let sandbox = Sandbox::new();
        let copy = sandbox.copy_of_model("exact");
        let set = sandbox.nemoterm(&["config", "set", "model", copy.to_str().unwrap()]);
        assert_eq!(set.code, Some(0), "{}", set.stderr);
        Self::start_in(sandbox)
    }

    pub fn start_in(sandbox: Sandbox) -> Self {
        let started = sandbox.nemoterm(&["daemon", "start", "--http", "127.0.0.1:0"]);
        assert_eq!(started.code, Some(0), "{}", started.stderr);
        Self::running_in(sandbox)
    }

    /// A daemon that was started already.
    pub fn running_in(sandbox: Sandbox) -> Self {
        let status = sandbox.nemoterm(&["daemon", "status", "--json"]).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        let address = status["http"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Self { sandbox, http: Http { address, agent: config.build().into() } }
    }
}

impl Http {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(self.url(path)).call().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.agent.post(self.url(path)).send_json(body).unwrap())
    }

    /// Completes, with what every test wants to be so unless it says otherwise.
    pub fn complete(&self, body: Value) -> Answer {
        let mut request = serde_json::json!({ "model": "any", "max_tokens": 8, "temperature": 0 });
        request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.post("/v1/completions", &request)
    }

    /// A figure of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// A connection to write to by hand.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes, and returns the status of the answer, and the answer.
    pub fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A server that closes a connection with unread bytes resets it.
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{request:?}: {answer:?}")), answer)
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    Answer { status: response.status().as_u16(), body: response.body_mut().read_to_string().unwrap() }
}
