//! Secrets in command lines, replaced before a line goes into a prompt, a cache or a log.
//!
//! A secret is known by its own form (`ghp_...`, a JSON web token, a private key), by the name of what it is
//! given to (`PASSWORD=`, `--token`, an `Authorization:` header), or by the option of a command that takes
//! one (`mysql -p`, `curl -u`). The rest of the line stays, so that the model still sees what was done. No
//! list of forms is complete: lines that begin with a blank never get this far, and that is the sure way.

mod forms;
mod names;
mod options;

use std::borrow::Cow;
use std::ops::Range;

use crate::buffer::Buffer;

/// What stands in place of a secret: an ordinary word, so that the line keeps its shape.
pub const MARKER: &str = "REDACTED";

/// A longer line is pasted data. It is not searched but taken for a secret as a whole.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// The line with every secret in it replaced by [`MARKER`].
pub fn redact(line: &str) -> Cow<'_, str> {
    let ranges = secrets(line);
    if ranges.is_empty() {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    for range in ranges {
        text.push_str(&line[at..range.start]);
        text.push_str(MARKER);
        at = range.end;
    }
    text.push_str(&line[at..]);
    Cow::Owned(text)
}

/// Whether the line holds a secret.
pub fn holds_secret(line: &str) -> bool {
    !secrets(line).is_empty()
}

/// The buffer as it may be sent, or nothing if a secret is being typed at the cursor.
pub fn redact_buffer(buffer: &Buffer) -> Option<Buffer> {
    let mut cursor = buffer.cursor();
    for range in secrets(buffer.line()) {
        if range.contains(&buffer.cursor()) || range.end == buffer.cursor() {
            return None;
        }
        if range.end < buffer.cursor() {
            cursor = cursor + MARKER.len() - range.len();
        }
    }
    Some(Buffer::new(redact(buffer.line()), cursor))
}

/// The places of the secrets of a line, in order and apart from each other.
fn secrets(line: &str) -> Vec<Range<usize>> {
    if line.len() > MAX_LINE_BYTES {
        return std::iter::once(0..line.len()).collect();
    }
    let mut found = forms::find(line);
    found.extend(names::find(line));
    found.extend(options::find(line));
    found.retain(|range| !range.is_empty() && line.get(range.clone()).is_some_and(|value| value != MARKER));
    found.sort_by_key(|range| (range.start, range.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in found {
        match apart.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// Whether a value stands for something else than itself: a variable, a placeholder of a manual, a pattern.
fn is_placeholder(value: &str) -> bool {
    value.is_empty()
        || value.starts_with(['$', '`', '<', '{', '*', '.', '[', '\\', '%', '('])
        || value.chars().all(|c| matches!(c, 'x' | 'X' | '*' | '.' | '-' | '_'))
        || matches!(
            value,
            "true" | "false" | "yes" | "no" | "none" | "null" | "on" | "off" | "stdin" | "prompt"
        )
}

/// The range of the text inside the quotes that a value may stand in.
fn inside_quotes(line: &str, range: Range<usize>) -> Range<usize> {
    let value = &line[range.clone()];
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return range };
    let end = if value.len() > 1 && value.ends_with(quote) { range.end - 1 } else { range.end };
    range.start + 1..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(redact(line), expected);
    }

    #[test]
    fn by_form() {
        // The pieces are joined here so that no scanner of secrets takes this file for a leak.
        let github = format!("ghp_{}", "a1B2".repeat(9));
        check(
            &format!("git clone https://{github}@host.example/a.git"),
            "git clone https://REDACTED@host.example/a.git",
        );
        check(&format!("export X=AKIA{}", "IOSFODNN7EXAMPLE"), "export X=REDACTED");
        check(&format!("echo {}.eyJzdWIiOiIx.c2lnbmF0dXJl", "eyJhbGciOiJIUzI1NiJ9"), "echo REDACTED");
        check("echo '-----BEGIN RSA PRIVATE KEY-----MIIE'", "echo 'REDACTED'");
        check("psql postgres://me:hunter2@db/x", "psql postgres://me:REDACTED@db/x");
        check(
            "git rev-parse 3f786850e387550fdab836ed7e6dc881de23001b",
            "git rev-parse 3f786850e387550fdab836ed7e6dc881de23001b",
        );
        check("curl https://host.example/a@2x.png", "curl https://host.example/a@2x.png");
    }

    #[test]
    fn by_name() {
        check("export API_TOKEN=abc123def", "export API_TOKEN=REDACTED");
        check("PGPASSWORD='a b' psql", "PGPASSWORD='REDACTED' psql");
        check("curl -H \"Authorization: Bearer abc.def\" u", "curl -H \"Authorization: Bearer REDACTED\" u");
        check("curl -H 'X-Api-Key: 123456' u", "curl -H 'X-Api-Key: REDACTED' u");
        check(
            "curl -d '{\"user\":\"me\",\"password\":\"p w\"}' u",
            "curl -d '{\"user\":\"me\",\"password\":\"REDACTED\"}' u",
        );
        check("curl 'https://h/?access_token=abcd&x=1'", "curl 'https://h/?access_token=REDACTED&x=1'");
        check("deploy --token abcd --password=efgh", "deploy --token REDACTED --password=REDACTED");
        check("set -gx GITHUB_TOKEN abcd", "set -gx GITHUB_TOKEN REDACTED");
    }

    #[test]
    fn by_option() {
        check("mysql -u root -phunter2 db", "mysql -u root -pREDACTED db");
        check("mysql -u root -p db", "mysql -u root -p db");
        check("sshpass -p hunter2 ssh h", "sshpass -p REDACTED ssh h");
        check("curl -u me:hunter2 u", "curl -u me:REDACTED u");
        check("sudo docker login -u me -p hunter2 r", "sudo docker login -u me -p REDACTED r");
        check("mkdir -p hunter2", "mkdir -p hunter2");
        check("echo hunter2 | sudo -S ls", "echo REDACTED | sudo -S ls");
        check("cryptsetup open d x <<< hunter2", "cryptsetup open d x <<< REDACTED");
        check("curl -ume:hunter2 -b 'sid=ab12' u", "curl -ume:REDACTED -b 'sid=REDACTED' u");
        check("vault login hunter2", "vault login REDACTED");
        check(
            "mysql -e \"create user u identified by 'hunter2'\"",
            "mysql -e \"create user u identified by 'REDACTED'\"",
        );
        check(
            "npm config set //registry/:_authToken hunter2",
            "npm config set //registry/:_authToken REDACTED",
        );
    }

    #[test]
    fn what_only_names_a_secret_stays() {
        for line in [
            "export TOKEN=$(cat f)",
            "vault --token-file f",
            "mysql --password=$PW",
            "ls --password-store x",
            "grep password: f",
            "kubectl get secret my-secret",
            "PWD=/tmp make",
            "ssh-keygen -t ed25519 -f ~/.ssh/key",
            "gpg --passphrase-fd 0",
            "tr -d '\\n' < token",
            "ssh me@host.example",
            "docker secret create my_secret file",
            "git commit -m 'rotate password: now'",
            "read -s -p \"Password: \" answer",
            "alias pwd='pwd -P'",
            "aws s3api list-objects --starting-token abcdef",
            "sign --signing-key ./keys/release.pem",
        ] {
            check(line, line);
        }
    }

    #[test]
    fn a_line_is_redacted_once() {
        let line = redact("export API_TOKEN=abc123def").into_owned();
        check(&line, &line);
    }

    #[test]
    fn pasted_data_is_a_secret_as_a_whole() {
        check(&"word ".repeat(10_000), MARKER);
    }

    #[test]
    fn a_buffer_keeps_its_cursor() {
        let buffer = redact_buffer(&Buffer::at_end("mysql -phunter2 -u ")).unwrap();
        assert_eq!((buffer.before(), buffer.after()), ("mysql -pREDACTED -u ", ""));
        let buffer = redact_buffer(&Buffer::new("ls x --token abc", 4)).unwrap();
        assert_eq!((buffer.before(), buffer.after()), ("ls x", " --token REDACTED"));
        assert_eq!(redact_buffer(&Buffer::at_end("deploy --token ab")), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read(before in "[ a-cé日:=@/'\"&-]{0,30}|.{0,30}", key in 0usize..5, after in ".{0,9}") {
            let names = ["--password ", "TOKEN=", "curl -u a:", "mysql -p", "-----BEGIN é PRIVATE KEY-----"];
            let line = format!("{before}{}{after}", names[key]);
            redact(&line);
            redact_buffer(&Buffer::new(line.clone(), line.len() / 2));
        }

        #[test]
        fn a_secret_never_gets_through(
            before in "([a-z./-]{1,8} ){0,3}",
            key in 0usize..9,
            secret in "[a-zA-Z0-9+!]{3}[a-zA-Z0-9+/_!-]{5,20}[a-z][0-9]",
            after in "( [a-z./-]{1,8}){0,3}",
        ) {
            let keys = [
                "deploy --password ", "export DB_PASSWORD=", "MYSQL_PWD=", "curl -u me:", "export API_KEY='",
                "curl -H 'Authorization: Bearer ", "mysql -p", "git clone https://me:", "curl 'http://h/?token=",
            ];
            let close = if keys[key].contains('\'') { "'" } else { "" };
            let host = if keys[key].contains("me:") && keys[key].contains("://") { "@h.example/x" } else { "" };
            prop_assume!(!secret.contains('/') || host.is_empty());
            let line = format!("{before}; {}{secret}{host}{close}{after}", keys[key]);
            let redacted = redact(&line);
            prop_assert!(!redacted.contains(&secret), "{redacted}");
        }
    }
}
