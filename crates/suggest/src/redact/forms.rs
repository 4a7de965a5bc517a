//! Secrets that are known by their own form, wherever they stand.

use std::ops::Range;

use super::is_placeholder;

/// Prefixes that services give their tokens, so that leaks can be found, and the least number of characters
/// after them. The services' own documentation names them.
const PREFIXES: [(&str, usize); 48] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("ya29.", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("gldt-", 16),
    ("glrt-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xoxa-", 16),
    ("xoxr-", 16),
    ("xoxs-", 16),
    ("xoxe-", 16),
    ("xapp-", 16),
    ("sk-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("rk_test_", 16),
    ("whsec_", 16),
    ("npm_", 30),
    ("pypi-", 40),
    ("hf_", 30),
    ("nvapi-", 30),
    ("dop_v1_", 32),
    ("doo_v1_", 32),
    ("dckr_pat_", 20),
    ("SG.", 40),
    ("shpat_", 24),
    ("shpss_", 24),
    ("hvs.", 20),
    ("hvb.", 20),
    ("tskey-", 16),
    ("lin_api_", 20),
    ("figd_", 20),
    ("secret_", 32),
    ("ntn_", 32),
    ("EAAC", 40),
    ("AGE-SECRET-KEY-1", 40),
    ("cfut_", 30),
    ("phc_", 32),
    ("rubygems_", 32),
];

/// A run of letters of both cases and digits that is at least this long is taken for a secret.
const MIN_RANDOM: usize = 32;

pub(super) fn find(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = line[at..].find(is_token_char).map(|offset| at + offset) {
        let end = line[start..].find(|c| !is_token_char(c)).map_or(line.len(), |offset| start + offset);
        found.extend(token(line, start..end));
        at = end;
    }
    found.extend(private_key(line));
    found.extend(url_credentials(line));
    found.extend(webhooks(line));
    found
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')
}

/// The secret in one run of the characters that tokens are made of.
fn token(line: &str, run: Range<usize>) -> Option<Range<usize>> {
    let text = &line[run.clone()];
    let has_prefix = |(prefix, least): &(&str, usize)| {
        let body = text.strip_prefix(prefix)?;
        (body.len() >= *least && body.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
            .then_some(())
    };
    let is_web_token = text.starts_with("eyJ") && text.matches('.').count() >= 2 && text.len() >= 30;
    let is_secret = PREFIXES.iter().find_map(has_prefix).is_some() || is_web_token || is_random(text);
    is_secret.then_some(run)
}

/// Whether a text looks drawn by lot: long, with letters of both cases and digits, and going from one kind to
/// another at two characters in five or more (at three in five by chance; names in CamelCase at one in four).
/// Hashes in hexadecimal and identifiers made of them have no letters past `f`.
fn is_random(text: &str) -> bool {
    let kind = |byte: u8| (byte.is_ascii_uppercase(), byte.is_ascii_digit(), byte.is_ascii_lowercase());
    let changes = text.as_bytes().windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    let joints = text.bytes().filter(|byte| !byte.is_ascii_alphanumeric()).count();
    text.len() >= MIN_RANDOM
        && joints <= 2
        && changes * 5 >= text.len() * 2
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().filter(u8::is_ascii_uppercase).count() >= 3
        && text.bytes().filter(|byte| (b'g'..=b'z').contains(byte)).count() >= 3
}

/// A private key in PEM, to the quote that closes it or the end of the line.
fn private_key(line: &str) -> Option<Range<usize>> {
    let start = line.find("-----BEGIN ")?;
    let header = line[start..].split("-----").nth(1)?;
    if !header.ends_with("PRIVATE KEY") && !header.ends_with("PRIVATE KEY BLOCK") {
        return None;
    }
    let end = line[start..].find(['"', '\'']).map_or(line.len(), |offset| start + offset);
    Some(start..end)
}

/// The password of `scheme://user:password@host`, or a long user name without one, which is a token.
fn url_credentials(line: &str) -> Vec<Range<usize>> {
    const MIN_TOKEN: usize = 20;
    let mut found = Vec::new();
    for (at, _) in line.match_indices("://") {
        let start = at + 3;
        let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#');
        let end = line[start..].find(is_end).map_or(line.len(), |offset| start + offset);
        let Some(sign) = line[start..end].rfind('@') else { continue };
        let user = &line[start..start + sign];
        match user.split_once(':') {
            Some((_, password)) if is_placeholder(password) => {}
            Some((name, _)) => found.push(start + name.len() + 1..start + sign),
            None if user.len() >= MIN_TOKEN => found.push(start..start + sign),
            None => {}
        }
    }
    found
}

/// What follows the fixed part of a chat service's webhook: whoever has it can post.
fn webhooks(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for part in ["hooks.slack.com/services/", "/api/webhooks/", "api.telegram.org/bot"] {
        for (at, _) in line.match_indices(part) {
            let start = at + part.len();
            let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '?');
            let end = line[start..].find(is_end).map_or(line.len(), |offset| start + offset);
            if !is_placeholder(&line[start..end]) && end - start >= 16 {
                found.push(start..end);
            }
        }
    }
    found
}
