//! Secrets in command lines, replaced before a line goes into a prompt, a cache or a log.

use std::borrow::Cow;

/// What stands in place of a secret: an ordinary word, so that the line keeps its shape.
pub const MARKER: &str = "REDACTED";

/// The line with every secret in it replaced by [`MARKER`].
pub fn redact(line: &str) -> Cow<'_, str> {
    Cow::Borrowed(line)
}
