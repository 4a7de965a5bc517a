//! How errors reach a person: one line that names what is wrong, and one that says what to do.

use std::{fmt, io};

/// An error with a hint, and the exit code the program ends with.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// An error and what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), code: 1 }
    }

    /// An error nothing can be said about.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: 1 }
    }

    /// The same error with another exit code.
    pub fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The error a daemon reported.
    pub fn of_daemon(reply: nemoterm_protocol::ErrorReply) -> Self {
        Self { message: reply.message, hint: reply.hint, code: 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error to standard error and returns the exit code. A reader of our output that went away is no
/// error.
pub fn report(error: &anyhow::Error) -> u8 {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return 0;
    }
    eprintln!("nemoterm: {}", one_line(&format!("{error:#}")));
    let failure = error.downcast_ref::<Failure>();
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_deref()) {
        eprintln!("hint: {}", one_line(hint));
    }
    failure.map_or(1, |failure| failure.code)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
