//! Who may ask. Any web page can make the user's browser send requests to a port of this machine, so what a browser
//! sends is told from what a program sends before anything is looked at: by `Origin` and `Sec-Fetch-Site`, by a `Host`
//! that is not ours (a name that was rebound to this address), and by content types that a page may send without
//! asking first.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::error::ApiError;

/// The rules of one server.
#[derive(Debug)]
pub struct Policy {
    /// What `Host` may say, in lower case. Any name where a token keeps strangers out of a server that other
    /// machines reach, for it can't know what they call it.
    hosts: Option<Vec<String>>,
    token: Option<String>,
}

impl Policy {
    /// The rules of a server that is bound to `address`.
    pub fn new(address: SocketAddr, token: Option<String>) -> Self {
        let (ip, port) = (address.ip(), address.port());
        let hosts = ip.is_loopback().then(|| {
            let literal = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            let names = [literal, "localhost".to_owned()];
            let with_port = names.iter().map(|name| format!("{name}:{port}"));
            if port == 80 { with_port.chain(names.clone()).collect() } else { with_port.collect() }
        });
        Self { hosts, token }
    }

    /// Refuses what no program would send, or what does not know the token.
    ///
    /// # Errors
    /// 403 for a browser or a wrong host, 401 for a wrong token, 415 for a body that is not said to be JSON.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let forbidden = |message: &str| ApiError::new(StatusCode::FORBIDDEN, "forbidden", message);
        if headers.contains_key(header::ORIGIN) {
            return Err(forbidden("requests of web pages are refused: there is an Origin header"));
        }
        let sites = headers.get_all("sec-fetch-site");
        if sites.iter().any(|site| site != "none") {
            return Err(forbidden("requests of web pages are refused: there is a Sec-Fetch-Site header"));
        }
        if !self.is_our_host(uri, headers) {
            return Err(forbidden("the Host header does not name this server"));
        }
        // How a load balancer or a person asks whether it is up; it tells nothing else.
        if self.token.is_some() && uri.path() != "/health" && !self.knows_token(headers) {
            let message = "the Authorization header does not hold this server's token";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
        }
        if *method == Method::POST && !is_json(headers) {
            let message = "the content type must be application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "unsupported_media_type", message));
        }
        Ok(())
    }

    fn is_our_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut said = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (said.next().and_then(as_text), said.next()) else { return false };
        let Some(hosts) = &self.hosts else { return true };
        let is_ours = |name: &str| hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        is_ours(host) && uri.authority().is_none_or(|authority| is_ours(authority.as_str()))
    }

    fn knows_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(said), None) = (said.next().and_then(as_text), said.next()) else { return false };
        match said.split_once(' ') {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => same(given.trim(), token),
            _ => false,
        }
    }
}

/// The middleware.
pub async fn guard(State(policy): State<Arc<Policy>>, request: Request, next: Next) -> Response {
    match policy.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn as_text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Whether the body is said to be JSON, and nothing but JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(said), None) = (said.next().and_then(as_text), said.next()) else { return false };
    let essence = said.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Compares in a time that does not tell how much of a token was right.
fn same(given: &str, token: &str) -> bool {
    let differences = given.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(address: &str, token: Option<&str>) -> Policy {
        Policy::new(address.parse().unwrap(), token.map(str::to_owned))
    }

    fn status(policy: &Policy, method: &Method, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        policy.check(method, &uri.parse().unwrap(), &map).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_our_own_names_are_hosts() {
        let policy = policy("127.0.0.1:8000", None);
        let get = |headers: &[(&str, &str)]| status(&policy, &Method::GET, "/v1/models", headers);
        for host in ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"] {
            assert_eq!(get(&[("host", host)]), 200, "{host}");
        }
        for host in ["localhost", "127.0.0.1", "localhost:80", "evil.example:8000", "localhost.evil:8000", ""]
        {
            assert_eq!(get(&[("host", host)]), 403, "{host}");
        }
        assert_eq!(get(&[]), 403);
        assert_eq!(get(&[("host", "localhost:8000"), ("host", "localhost:8000")]), 403);
        let absolute = |uri| status(&policy, &Method::GET, uri, &[("host", "localhost:8000")]);
        assert_eq!(absolute("http://localhost:8000/v1/models"), 200);
        assert_eq!(absolute("http://evil.example:8000/v1/models"), 403);
        let v6 = Policy::new("[::1]:80".parse().unwrap(), None);
        for host in ["[::1]", "[::1]:80", "localhost"] {
            assert_eq!(status(&v6, &Method::GET, "/", &[("host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        let policy = policy("0.0.0.0:8000", Some("s3cret"));
        let get = |uri, said| {
            status(&policy, &Method::GET, uri, &[("host", "box.lan:8000"), ("authorization", said)])
        };
        assert_eq!(get("/v1/models", "Bearer s3cret"), 200);
        assert_eq!(get("/v1/models", "bearer  s3cret"), 200);
        for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer", "Basic s3cret", "s3cret", "Bearer S3CRET"] {
            assert_eq!(get("/v1/models", wrong), 401, "{wrong}");
            assert_eq!(get("/metrics", wrong), 401, "{wrong}");
            assert_eq!(get("/health", wrong), 200, "{wrong}");
        }
    }

    #[test]
    fn a_body_must_be_said_to_be_json() {
        let policy = policy("127.0.0.1:8000", None);
        let post = |kind| {
            let headers = [("host", "localhost:8000"), ("content-type", kind)];
            status(&policy, &Method::POST, "/v1/completions", &headers)
        };
        for kind in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert_eq!(post(kind), 200, "{kind}");
        }
        for kind in ["", "text/plain", "text/plain; application/json", "application/jsonp", "*/*"] {
            assert_eq!(post(kind), 415, "{kind}");
        }
        let none = [("host", "localhost:8000")];
        assert_eq!(status(&policy, &Method::POST, "/v1/completions", &none), 415);
    }

    #[test]
    fn browsers_are_refused() {
        let policy = policy("127.0.0.1:8000", Some("x"));
        for (name, value, expected) in [
            ("origin", "null", 403),
            ("origin", "http://localhost:8000", 403),
            ("origin", "", 403),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-origin", 403),
            ("sec-fetch-site", "none", 200),
        ] {
            let headers = [("host", "localhost:8000"), ("authorization", "Bearer x"), (name, value)];
            assert_eq!(status(&policy, &Method::GET, "/", &headers), expected, "{name}: {value}");
        }
    }
}
