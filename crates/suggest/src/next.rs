//! The command that is likely to come next, before anything of it is typed.

use crate::clean::is_displayable;
use crate::history::Index;
use crate::redact::{MARKER, holds_secret};
use crate::safety;

/// A line that followed once may have done so by chance.
const MIN_USES: u32 = 2;

/// A line of the history that is likely to be run next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Next<'a> {
    /// The whole line.
    pub line: &'a str,
    /// The estimated probability that it is the next one.
    pub score: f32,
}

/// What followed the last line before, most likely first, at most `n`. `last` was run just now, and is the newest of
/// the index. Nothing that destroys data: whoever wants that begins to type it.
pub fn next<'a>(last: &str, index: &'a Index, n: usize) -> Vec<Next<'a>> {
    // Its use just now has no follower yet, which makes up for the follower that was never seen.
    let times = index.uses(last).max(1) as f32;
    let mut found: Vec<Next<'a>> = index
        .next(last, usize::MAX)
        .into_iter()
        .filter(|found| found.uses >= MIN_USES && may_be_next(found.line))
        .map(|found| Next { line: found.line, score: (found.uses as f32 / times).min(1.0) })
        .collect();
    // Those of one estimate stay as they are: newest first.
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(n);
    found
}

/// Whether a line may appear before anything is typed.
pub fn may_be_next(line: &str) -> bool {
    is_displayable(line) && safety::is_harmless(line) && !holds_secret(line) && !line.contains(MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(history: &[&str]) -> Vec<(String, f32)> {
        let index = Index::from_lines(history);
        let last = history.last().unwrap();
        next(last, &index, 3).into_iter().map(|next| (next.line.to_owned(), next.score)).collect()
    }

    #[test]
    fn what_has_followed_again_and_again() {
        let history = ["git add .", "git commit", "git add .", "git commit", "ls", "git add ."];
        assert_eq!(lines(&history), [("git commit".to_owned(), 2.0 / 3.0)]);
        assert!(lines(&["git add .", "git commit", "git add ."]).is_empty(), "once is chance");
        assert!(lines(&["ls"]).is_empty());
    }

    #[test]
    fn one_of_many_is_unlikely() {
        let history = ["ls", "a", "ls", "b", "ls", "a", "ls", "c", "ls", "d", "ls"];
        assert_eq!(lines(&history), [("a".to_owned(), 2.0 / 6.0)]);
    }

    #[test]
    fn nothing_dangerous_or_secret() {
        for line in ["rm -rf build", "export API_TOKEN=a1b2c3d4e5f6", "git push --force", "sudo reboot"] {
            assert!(lines(&["make", line, "make", line, "make"]).is_empty(), "{line}");
        }
    }
}
