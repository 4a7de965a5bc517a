//! A case of an evaluation, seen as a live client would see it.

use crate::buffer::Buffer;
use crate::context::{Context, HistoryLine};
use crate::history::Index;
use crate::score::Case;

/// What the daemon and the client would hold at the moment the case's line is typed.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The context; directory names, branch and commands are not part of a case.
    pub context: Context,
    /// The typed line, with the cursor at its end.
    pub buffer: Buffer,
    /// The history of the session.
    pub index: Index,
}

impl Replay {
    /// Sets the scene for a case.
    pub fn new(case: &Case) -> Self {
        let before = case.context.clone().unwrap_or_default();
        Self {
            index: Index::from_lines(&before.history),
            context: Context {
                shell: case.shell,
                cwd: before.cwd,
                history: before.history.into_iter().map(HistoryLine::new).collect(),
                ..Context::default()
            },
            buffer: Buffer::at_end(case.prefix.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_becomes_context_and_index() {
        let case: Case = serde_json::from_str(
            r#"{"id":"1","source":"s","shell":"bash","cut":"sess_mid_arg","prefix":"git a","expected":"dd .",
                "context":{"history":["ls","git status"],"cwd":"~/x"}}"#,
        )
        .unwrap();
        let replay = Replay::new(&case);
        assert_eq!(replay.buffer.before(), "git a");
        assert_eq!(replay.context.history.len(), 2);
        assert_eq!(replay.context.cwd.as_deref(), Some("~/x"));
        assert_eq!(replay.index.matches("git", 1)[0].line, "git status");
    }
}
