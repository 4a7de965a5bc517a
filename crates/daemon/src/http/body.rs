//! Reading a request's body: so many bytes, so much time, JSON, and no parameter that nobody knows.

use std::time::Duration;

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;

/// Longest body, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A body must be there after this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request may say.
pub trait Parameters: DeserializeOwned {
    /// A parameter in the request that this server does not know. One that is null is as good as absent.
    fn unknown(&self) -> Option<&str>;
}

/// A request's body.
pub struct Body<T>(pub T);

impl<T: Parameters, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let too_large = || {
            let message = format!("the body is over the limit of {MAX_BYTES} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        };
        // A body that says how long it is need not come.
        if request.body().size_hint().lower() > MAX_BYTES as u64 {
            return Err(too_large());
        }
        // The limit is a layer of the router.
        let bytes = timeout(PATIENCE, Bytes::from_request(request, state)).await.map_err(|_| {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body came too slowly")
        })?;
        let bytes = bytes.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            status => ApiError::new(status, "invalid_body", rejection.body_text()),
        })?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: Parameters>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parameters: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let broken = ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", error.inner().to_string());
        if error.inner().is_data() && path != "." { broken.about(&path) } else { broken }
    })?;
    json.end().map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", error.to_string()))?;
    match parameters.unknown() {
        Some(name) => {
            Err(ApiError::unsupported(name, format!("this server does not know the parameter {name}")))
        }
        None => Ok(parameters),
    }
}
