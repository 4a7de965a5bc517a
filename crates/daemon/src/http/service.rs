//! The routes, and what is not about writing: models, health, figures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use nemoterm_protocol::{ModelStatus, State as ModelState};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    body, chat, completions,
    error::ApiError,
    guard::{Policy, guard},
    infill,
    metrics::{KeyStrokes, Metrics},
    template::Template,
};
use crate::{models, serve::Daemon};

/// How long a request waits for a model that is being loaded.
const LOADING: Duration = Duration::from_secs(60);

/// What every handler has.
#[derive(Clone)]
pub struct Api {
    pub daemon: Arc<Daemon>,
    pub metrics: Arc<Metrics>,
    started: u64,
    ids: Arc<AtomicU64>,
    template: Arc<Mutex<Option<Known>>>,
}

/// What was found out about the chat template of a model.
struct Known {
    model: String,
    template: Option<Arc<Template>>,
}

impl Api {
    /// Names an answer. No other one of this daemon, or of an earlier one, has the same name.
    pub fn next_id(&self) -> String {
        format!("{:x}-{}", self.started, self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// The model, as soon as there is one.
    ///
    /// # Errors
    /// Where it takes too long, or there will be none.
    pub async fn model(&self) -> Result<ModelStatus, ApiError> {
        self.daemon.keeper.wake();
        let state = self.daemon.keeper.wait(LOADING).await;
        match (state, self.daemon.keeper.model()) {
            (ModelState::Ready, Some(model)) => Ok(model),
            (ModelState::Failed { error, hint }, _) => Err(ApiError::unavailable(format!("{error}; {hint}"))),
            _ => Err(ApiError::unavailable("the model is being loaded")),
        }
    }

    /// The model's chat template; `None` where it has none.
    ///
    /// # Errors
    /// Where it has one that can't be used.
    pub async fn template(&self) -> Result<Option<Arc<Template>>, ApiError> {
        let name = self.daemon.keeper.name();
        let mut known = self.template.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.model == name) {
            return Ok(known.template.clone());
        }
        let unusable =
            |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "chat_template", message);
        let source = models::resolve(&name)?.source;
        let read = tokio::task::spawn_blocking(move || Template::of(&source)).await;
        let template = read.map_err(|error| unusable(error.to_string()))?.map_err(unusable)?;
        *known = Some(Known { model: name, template: template.clone() });
        Ok(template)
    }
}

/// The whole server.
pub fn router(daemon: Arc<Daemon>, policy: Policy) -> Router {
    let api = Api {
        daemon,
        metrics: Arc::new(Metrics::new()),
        started: now(),
        ids: Arc::default(),
        template: Arc::default(),
    };
    Router::new()
        .route("/v1/completions", post(completions::complete))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/infill", post(infill::infill))
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(async || {
            ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
        })
        .method_not_allowed_fallback(async || {
            let message = "this address does not take this method";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(DefaultBodyLimit::max(body::MAX_BYTES))
        .layer(middleware::from_fn_with_state(Arc::new(policy), guard))
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics.requests.inc();
    response
}

async fn models(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let model = api.model().await?;
    Ok(Json(json!({ "object": "list", "data": [described(&model, &api)] })))
}

async fn model(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let model = api.model().await?;
    if model.name != name {
        let message = format!("the model is {}, not {name}", model.name);
        return Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"));
    }
    Ok(Json(described(&model, &api)))
}

fn described(model: &ModelStatus, api: &Api) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": api.started,
        "owned_by": "nemoterm",
        "max_model_len": model.context,
    })
}

async fn health(State(api): State<Api>) -> Response {
    let (status, state) = match api.daemon.keeper.wait(Duration::ZERO).await {
        ModelState::Ready => (StatusCode::OK, "ok"),
        ModelState::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading model"),
        ModelState::Failed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no model"),
    };
    (status, Json(json!({ "status": state }))).into_response()
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.daemon.status();
    let key_strokes = KeyStrokes {
        answered: status.completions,
        given_up: status.cancelled,
        connections: status.connections,
        rss_mib: status.rss_mib,
    };
    let text = api.metrics.text(key_strokes).map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "the figures can't be written")
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
