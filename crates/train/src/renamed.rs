//! A described command made into one about other things, so that names are copied rather than learnt by heart.

use std::sync::LazyLock;

use nemoterm_suggest::analogy::{is_word_of, replace_word};
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
}
