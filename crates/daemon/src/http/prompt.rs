//! Prompts: the forms they come in, and the tokens they are.

use axum::http::StatusCode;
use nemoterm_engine::{EngineError, Model};

use super::{
    error::ApiError,
    fill_in::{self, Gap},
};

/// Text is cut into tokens on the model's thread, so a text that is longer than so many bytes for each token of the context
/// is refused unread. A token has three or four bytes on average.
const BYTES_PER_TOKEN: usize = 64;

/// The text to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    Text(String),
    /// A text that begins as the model wants texts to begin: nothing is put in front of it once more.
    Whole(String),
    /// Token ids, taken as they are: nothing is put in front.
    Tokens(Vec<u32>),
    /// What stands between two texts is wanted.
    Gap(Gap),
}

impl Prompt {
    /// The tokens, as many as the model takes and at least one.
    ///
    /// # Errors
    /// Where there are none, too many, or some that the model does not have.
    pub fn tokens(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        let (context, vocabulary) = (model.info().context, model.info().vocabulary);
        let tokens = match self {
            Self::Text(text) => encode(model, text)?,
            Self::Whole(text) => {
                let mut tokens = encode(model, text)?;
                let always = encode(model, "")?;
                if let [first] = always[..]
                    && tokens.starts_with(&[first, first])
                {
                    tokens.remove(0);
                }
                tokens
            }
            Self::Tokens(tokens) => tokens.clone(),
            Self::Gap(gap) => {
                let most = BYTES_PER_TOKEN * context;
                let cut;
                let gap = match gap.trim {
                    Some(_) => {
                        cut = gap.cut(most);
                        &cut
                    }
                    None => {
                        check_length(&gap.before, context)?;
                        check_length(&gap.after, context)?;
                        gap
                    }
                };
                fill_in::tokens(model, gap).map_err(|error| refused(&error))?.ok_or_else(|| {
                    ApiError::unsupported("suffix", "the model was not trained to fill gaps")
                })?
            }
        };
        if tokens.is_empty() {
            return Err(refused(&EngineError::EmptyPrompt));
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(refused(&EngineError::TokenOutOfRange { token, vocabulary }));
        }
        if tokens.len() > context {
            return Err(refused(&EngineError::PromptTooLong { tokens: tokens.len(), context }));
        }
        Ok(tokens)
    }

    /// The text, as it is given back where it is to be echoed.
    pub fn text(&self, model: &Model) -> String {
        match self {
            Self::Text(text) | Self::Whole(text) => text.clone(),
            Self::Tokens(tokens) => model.decode(tokens),
            Self::Gap(gap) => gap.before.clone(),
        }
    }
}

fn encode(model: &Model, text: &str) -> Result<Vec<u32>, ApiError> {
    check_length(text, model.info().context)?;
    model.encode(text).map_err(|error| refused(&error))
}

fn check_length(text: &str, context: usize) -> Result<(), ApiError> {
    let most = BYTES_PER_TOKEN * context;
    if text.len() <= most {
        return Ok(());
    }
    let length = text.len();
    Err(too_long(format!(
        "prompt of {length} bytes is over the limit of {most} for a context of {context} tokens"
    )))
}

fn too_long(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).about("prompt")
}

/// An error of the engine, as far as the request is to blame for it.
pub fn refused(error: &EngineError) -> ApiError {
    match error {
        EngineError::PromptTooLong { .. } => too_long(error.to_string()),
        EngineError::EmptyPrompt | EngineError::TokenOutOfRange { .. } => {
            ApiError::invalid("prompt", error.to_string())
        }
        _ => {
            tracing::warn!(%error, "generation failed");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", error.to_string())
        }
    }
}
