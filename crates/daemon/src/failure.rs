//! Errors with a hint: for people on standard error, and for clients in a reply.

use std::{fmt, io};

use nemoterm_protocol::ErrorReply;

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub hint: String,
}

impl Failure {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What an error is to a person, with a hint of its own or a general one.
    pub fn of(error: anyhow::Error) -> Self {
        let general =
            |error: anyhow::Error| Self::new(format!("{error:#}"), "nemoterm doctor looks for what is wrong");
        error.downcast().unwrap_or_else(general)
    }

    /// As an answer to a request.
    pub fn reply(self, id: Option<u64>) -> ErrorReply {
        ErrorReply { id, message: one_line(&self.message), hint: Some(one_line(&self.hint)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error and returns the exit code. A reader of our output that went away is no error.
pub fn report(error: &anyhow::Error) -> u8 {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return 0;
    }
    eprintln!("nemoterm: {}", one_line(&format!("{error:#}")));
    if let Some(failure) = error.downcast_ref::<Failure>() {
        eprintln!("hint: {}", one_line(&failure.hint));
    }
    1
}

/// A text as one line, whatever was quoted in it.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
