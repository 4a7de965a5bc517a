//! Words that stand for what a reader is to put there, as manuals write them: `path/to/file`, `<branch>`, `[OPTIONS]`, `CONTAINER_NAME`.
//!
//! To one who asks how a command goes on they say what comes there. What appears unasked is taken with a key, and then such a
//! word has to be deleted again. (What takes the place of such a word in an example is another question, see [`crate::analogy`]: there
//! plain words like `file` stand for names, too.)

/// What words in capitals stand for. Others are names of their own: `HEAD`, `POST`, `README`.
const NOUNS: &str = "ADDR ADDRESS ARCHIVE ARG ARGS ARGUMENTS BRANCH BUCKET CLUSTER CMD COMMAND COMMIT CONTAINER DATABASE DATE DEST \
    DESTINATION DEVICE DIR DIRECTORY DOMAIN EMAIL FILE FILENAME FILES FOLDER GROUP HOST HOSTNAME ID IMAGE IP KEY MESSAGE MODULE \
    NAME NAMESPACE NODE NUM NUMBER OPTIONS PACKAGE PACKAGES PASSWORD PATH PATTERN PID PKG PLUGIN POD PORT PROJECT REGEX REGION REPO \
    REPOSITORY SERVER SERVICE SIZE SOURCE SRC STRING TABLE TAG TARGET TEXT TITLE TOKEN URI URL USER USERNAME VALUE VERSION VM";

/// What is left of a suggestion before the first such word, without the operator that led there. `is_known` tells whether a word stands
/// where the user has seen it.
pub fn before_placeholder(suffix: &str, is_known: impl Fn(&str) -> bool) -> &str {
    let mut end = 0;
    let mut at = 0;
    for word in suffix.split_inclusive(char::is_whitespace) {
        let name = word.trim_end();
        if is_placeholder(name) && !is_known(name) {
            return &suffix[..end];
        }
        at += word.len();
        if !name.is_empty() && !name.ends_with(['|', '&', ';', '>', '<']) {
            end = at - (word.len() - name.len());
        }
    }
    suffix
}

fn is_placeholder(word: &str) -> bool {
    // What an option is set to is such a word as well.
    let value = word.split_once('=').map_or(word, |(_, value)| value).trim_matches(['"', '\'']);
    if value.contains("path/to") || value.starts_with("your-") || value.starts_with("your_") {
        return true;
    }
    let enclosed = |open, close| value.strip_prefix(open).and_then(|rest: &str| rest.split_once(close));
    if let Some((name, _)) = enclosed('<', '>') {
        return name.starts_with(|c: char| c.is_ascii_alphabetic());
    }
    if let Some((name, _)) = enclosed('[', ']') {
        return is_noun(name);
    }
    is_noun(value)
}

/// Whether a word in capitals ends in one of [`NOUNS`], as `CONTAINER_NAME` and `FILE1` do.
fn is_noun(word: &str) -> bool {
    let is_name =
        word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    let last = word.rsplit(['_', '-']).next().unwrap_or_default();
    let noun = last.trim_end_matches(|c: char| c.is_ascii_digit());
    is_name && !noun.is_empty() && NOUNS.split_ascii_whitespace().any(|known| known == noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_ends_before_what_a_reader_is_to_put_there() {
        for (suffix, expected) in [
            ("lone URL", "lone"),
            ("czf path/to/target.tar.gz path/to/file1", "czf"),
            ("-n kube-system POD", "-n kube-system"),
            ("[OPTIONS] IMAGE[:TAG]", ""),
            ("checkout <branch-name>", "checkout"),
            ("-v --file=\"<file>\"", "-v"),
            ("exec -it CONTAINER_NAME bash", "exec -it"),
            ("diff FILE1 FILE2", "diff"),
            ("cat a > FILE", "cat a"),
            ("ls | grep PATTERN", "ls | grep"),
            ("--user your_name", "--user"),
            // Names of their own, and what a shell reads.
            ("reset --hard HEAD", "reset --hard HEAD"),
            ("-X POST URLS", "-X POST URLS"),
            ("sort < names > sorted", "sort < names > sorted"),
            ("ls [A-Z]* [a-c].txt", "ls [A-Z]* [a-c].txt"),
            ("echo $PATH ${HOME}", "echo $PATH ${HOME}"),
            ("cat README FILE.md", "cat README FILE.md"),
            ("make TARGET", "make TARGET"),
            (" -l  ", " -l  "),
            ("", ""),
        ] {
            assert_eq!(before_placeholder(suffix, |word| word == "TARGET"), expected, "{suffix}");
        }
    }
}
