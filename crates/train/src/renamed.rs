//! A described command made into one about other things, so that names are copied rather than learnt by heart.

use std::sync::LazyLock;

use rand::Rng;
use regex::Regex;

use crate::scene::Scene;

/// The same description and command about other things: names and numbers that stand in both are replaced in both, so
/// that they can't be learnt by heart, only copied.
pub fn with_other_names(description: &str, command: &str, rng: &mut impl Rng) -> (String, String) {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\w~/.*-]*[\w*]").ok());
    let mut pair = (description.to_owned(), command.to_owned());
    let Some(name) = NAME.as_ref() else { return pair };
    let mut scene = Scene::default();
    let mut seen: Vec<&str> = Vec::new();
    for found in name.find_iter(command) {
        let found = found.as_str();
        let plain = found.trim_start_matches(['*', '.']);
        let is_path = found.contains('/') && found.len() > 2;
        let is_number = found.bytes().all(|b| b.is_ascii_digit());
        let is_file = plain.len() > 3 && plain.contains('.') && !is_number;
        let is_pattern = found.starts_with("*.");
        if !(is_path || is_number || is_file) || seen.contains(&found) || !is_word_of(found, description) {
            continue;
        }
        seen.push(found);
        let other = if is_number {
            rng.random_range(1..10_u32.pow(found.len().min(4) as u32)).to_string()
        } else if is_pattern {
            let file = scene.name("file", rng);
            format!("*.{}", file.rsplit('.').next().unwrap_or("txt"))
        } else if found.starts_with('/') {
            let ending =
                found.rsplit('/').next().and_then(|last| last.split_once('.')).map(|(_, ending)| ending);
            let directory = scene.fill("{absolute}", rng);
            match ending {
                Some(ending) => format!("{directory}/{}.{ending}", scene.fill("{stem}", rng)),
                None => directory,
            }
        } else if is_path {
            scene.fill("{dir}/{file}", rng)
        } else {
            let ending = plain.split_once('.').map_or("txt", |(_, ending)| ending);
            format!("{}.{ending}", scene.fill("{stem}", rng))
        };
        pair = (replace_word(&pair.0, found, &other), replace_word(&pair.1, found, &other));
    }
    pair
}

/// Whether `word` stands in `text` with nothing of a name before or after it.
fn is_word_of(word: &str, text: &str) -> bool {
    replace_word(text, word, "") != text
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '-' | '*' | '~');
    let mut out = String::new();
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(word) {
        let previous = rest[..at].chars().next_back().or(before);
        let next = rest[at + word.len()..].chars().next();
        let after_next = rest[at + word.len()..].chars().nth(1);
        let goes_on =
            next.is_some_and(is_name) || (next == Some('.') && after_next.is_some_and(char::is_alphanumeric));
        let is_alone = !goes_on && !previous.is_some_and(|c| is_name(c) || c == '.');
        out.push_str(&rest[..at]);
        out.push_str(if is_alone { by } else { word });
        before = word.chars().next_back();
        rest = &rest[at + word.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn names_that_stand_in_both_change_in_both() {
        let mut rng = StdRng::seed_from_u64(3);
        let (description, command) =
            with_other_names("show the last 15 lines of notes.txt", "tail -n 15 notes.txt", &mut rng);
        assert!(!command.contains("notes.txt"), "{command}");
        let words: Vec<&str> = command.split(' ').collect();
        assert!(description.ends_with(&format!("last {} lines of {}", words[2], words[3])), "{description}");
        let (_, command) = with_other_names("list everything", "ls /etc/x.conf 5", &mut rng);
        assert_eq!(command, "ls /etc/x.conf 5", "what the description does not say stays");
    }

    #[test]
    fn a_word_is_replaced_only_where_it_stands_alone() {
        assert_eq!(replace_word("a.txt b/a.txt a.txt.gz a.txt.", "a.txt", "X"), "X b/a.txt a.txt.gz X.");
        assert_eq!(replace_word("5 15 5", "5", "7"), "7 15 7");
    }
}
