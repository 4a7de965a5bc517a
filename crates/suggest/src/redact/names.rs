//! Secrets that are known by the name they are given to: variables, options, headers, fields, parameters.

use std::ops::Range;

use super::{inside_quotes, is_placeholder};
use crate::buffer::open_quote;
use crate::words::tokens;

/// Last parts of names that hold a secret.
const SECRET: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pass",
    "pwd",
    "pw",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
    "authtoken",
    "accesskey",
    "psk",
];

/// What makes a `token` a place in a list or a name for a request, and no secret.
const HARMLESS_TOKENS: [&str; 14] = [
    "next",
    "starting",
    "start",
    "continuation",
    "idempotency",
    "page",
    "pagination",
    "request",
    "sync",
    "eos",
    "max",
    "change",
    "lock",
    "unit",
];

/// What makes a secret of a name that ends in `key`.
const KEY_OF: [&str; 16] = [
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "signing",
    "account",
    "master",
    "auth",
    "session",
    "deploy",
    "license",
    "app",
    "storage",
    "shared",
    "consumer",
];

/// Headers whose whole value is a secret.
const HEADERS: [&str; 4] = ["authorization", "proxyauthorization", "cookie", "setcookie"];

/// Words before the secret in an `Authorization:` header.
const SCHEMES: [&str; 6] = ["Bearer ", "Basic ", "Token ", "token ", "bearer ", "basic "];

pub(super) fn find(line: &str) -> Vec<Range<usize>> {
    let mut found = assigned(line);
    found.extend(following(line));
    found.extend(in_sql(line));
    found
}

/// Values after `name=`, `name:` and `"name": `.
fn assigned(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, sign) in line.match_indices(['=', ':']) {
        let before = line[..at].trim_end_matches(['"', '\'']);
        let is_field = before.len() < at;
        let start = before
            .rfind(|c: char| !is_name_char(c))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let name = &before[start..];
        let value = &line[at + 1..];
        let blanks = value.len() - value.trim_start_matches(' ').len();
        let from = at + 1 + blanks;
        if HEADERS.contains(&folded(name).as_str()) && sign == ":" {
            let scheme =
                SCHEMES.iter().find(|scheme| line[from..].starts_with(**scheme)).map_or(0, |s| s.len());
            let end = line[from..].find(['"', '\'']).map_or(line.len(), |offset| from + offset);
            push(&mut found, line, from + scheme..end);
            continue;
        }
        let takes_value = match sign {
            "=" => blanks == 0,
            // After a colon a value is a value only in a field, in a header, or right after the colon;
            // otherwise it is prose.
            _ => {
                is_field
                    || (blanks == 1 && is_header(line, start))
                    || (blanks == 0 && !line[from..].starts_with('/'))
            }
        };
        if takes_value && is_secret_name(name) && !before[..start].ends_with("alias ") {
            push(&mut found, line, value_range(line, from));
        }
    }
    found
}

/// Values in the next word: `--token VALUE`, and `set NAME VALUE` of fish and of `config` commands.
fn following(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let words = tokens(line);
    let sets = words.iter().any(|word| matches!(word.raw, "set" | "setenv" | "add" | "config"));
    for pair in words.windows(2) {
        let (word, value) = (pair[0].raw, pair[1]);
        if value.operator || value.raw.starts_with('-') || word.contains(['=', '"', '\'']) {
            continue;
        }
        let name = word.rsplit([':', '/']).next().unwrap_or(word);
        // `-p` and the like are for the options of the single commands.
        let is_option = word.starts_with('-') && name.len() > 4 && word != "--secret";
        let is_variable = sets && !word.starts_with('-') && name.contains(['_', '.']);
        if (is_option || is_variable) && is_secret_name(name) {
            push(&mut found, line, value.start..value.end());
        }
    }
    found
}

/// Passwords in SQL: `IDENTIFIED BY '...'`, `PASSWORD '...'`.
fn in_sql(line: &str) -> Vec<Range<usize>> {
    let folded = line.to_ascii_lowercase();
    let mut found = Vec::new();
    for clause in ["identified by ", "password "] {
        for (at, _) in folded.match_indices(clause) {
            let from = at + clause.len();
            if line[from..].starts_with(['"', '\'']) && open_quote(&line[..from]).is_some() {
                push(&mut found, line, value_range(line, from));
            }
        }
    }
    found
}

fn push(found: &mut Vec<Range<usize>>, line: &str, range: Range<usize>) {
    let range = inside_quotes(line, range);
    let value = &line[range.clone()];
    let is_path = value.starts_with(['/', '~', '@']) || value.ends_with(".pem") || value.ends_with(".key");
    let is_short_number = value.len() < 4 && value.bytes().all(|byte| byte.is_ascii_digit());
    if !is_placeholder(value) && !is_path && !is_short_number {
        found.push(range);
    }
}

/// The value that starts at `from`: in quotes, or up to what ends a word, a field or a parameter.
fn value_range(line: &str, from: usize) -> Range<usize> {
    let rest = &line[from..];
    let closes =
        |quote| rest.starts_with(quote) && open_quote(&line[..from]).is_some_and(|open| open.sign() == quote);
    if closes('"') || closes('\'') {
        // The text ends here: it was a prompt such as `"Password: "`.
        return from..from;
    }
    let end = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |i| i + 2),
        _ => rest
            .find([' ', '\t', '\n', '&', ';', '|', ',', '"', '\'', '}', ')', '<', '>'])
            .unwrap_or(rest.len()),
    };
    from..from + end
}

/// Whether a header begins at `start`: right after a quote, as in `-H 'X-Api-Key: ...'`.
fn is_header(line: &str, start: usize) -> bool {
    line[..start].ends_with(['"', '\''])
        && line[..start].trim_end_matches(['"', '\'']).ends_with(['H', ' ', '='])
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// A name in lower case, without what joins its parts.
fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a name says that its value is a secret: by its last part, or by `key` and the part before.
fn is_secret_name(name: &str) -> bool {
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let parts = parts(name);
    match parts.as_slice() {
        [.., of, _] if of == "no" => false,
        [.., of, last] if last == "token" && HARMLESS_TOKENS.contains(&of.as_str()) => false,
        [.., of, last] if last == "key" => {
            KEY_OF.contains(&of.as_str()) || (name.contains('_') && name == name.to_ascii_uppercase())
        }
        [.., last] => SECRET.iter().any(|secret| last == secret || ends_as_word(last, secret)),
        [] => false,
    }
}

/// Whether a part is a longer word with the secret's name at its end, as `dbpassword` and `PGPASSWORD`.
fn ends_as_word(part: &str, secret: &str) -> bool {
    secret.len() >= 6 && part.ends_with(secret)
}

/// The parts of `API_TOKEN`, `api-token`, `apiToken` and `api.token`, in lower case, without final digits.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.trim_end_matches(|c: char| c.is_ascii_digit()).chars() {
        let is_joint = matches!(c, '_' | '-' | '.');
        if is_joint || (was_lower && c.is_ascii_uppercase()) {
            parts.push(String::new());
        }
        if let (false, Some(part)) = (is_joint, parts.last_mut()) {
            part.push(c.to_ascii_lowercase());
        }
        was_lower = c.is_ascii_lowercase();
    }
    parts.retain(|part| !part.is_empty());
    parts
}
