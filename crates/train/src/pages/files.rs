//! Which files of a repository are its documentation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use walkdir::{DirEntry, WalkDir};

use super::licence::{self, Verdict};
use super::{Piece, markdown, rst};

/// A file of documentation.
#[derive(Debug)]
pub struct Page {
    /// Where it lies in the repository, without the ending.
    pub name: String,
    pub pieces: Vec<Piece>,
}

/// Larger files are made by programs. Bytes.
const LARGEST: u64 = 600_000;
/// Folders of what others have written.
const OF_OTHERS: [&str; 5] = ["vendor", "_vendor", "node_modules", "third_party", "patched"];
/// Languages of translations, as folders are named after them.
const LANGUAGES: [&str; 29] = [
    "ar", "bn", "cs", "de", "el", "es", "fa", "fi", "fr", "he", "hi", "hu", "it", "ja", "ko", "nb", "nl",
    "pl", "pt", "ro", "ru", "sk", "sv", "th", "tr", "uk", "ur", "vi", "zh",
];

struct Patterns {
    /// A folder of one version of the documentation.
    version: Regex,
    /// Pages that tell about the project, not how it is used.
    about: Regex,
    translation: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        version: Regex::new(r"^(?:v|version-|release-)?(\d+(?:\.\d+)+|\d+(?:\.\d+)*\.x)$|^(?:v|version-|release-)(\d+)$")
            .ok()?,
        about: Regex::new(concat!(
            r"(?i)^(?:changelogs?|changes|history|news|releases?|release[-_]notes.*|whatsnew|contributing|security",
            r"|code[-_]of[-_]conduct|licen[cs]e.*)(?:[-_.].*)?$",
        ))
        .ok()?,
        translation: Regex::new(r"(?i)^([a-z]{2})(?:[-_](?:[a-z]{2}|hans|hant))?$").ok()?,
    })
});

/// The documentation of a repository, in the order of its paths; where there are several versions, the newest.
pub fn pages(folder: &Path) -> Vec<Page> {
    let Some(patterns) = PATTERNS.as_ref() else { return Vec::new() };
    let is_wanted = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !entry.file_type().is_dir() || is_folder(&name, entry.path(), patterns)
    };
    let mut newest: BTreeMap<String, (Vec<u32>, Page)> = BTreeMap::new();
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(is_wanted).flatten() {
        let path = entry.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let read = match ending.as_str() {
            "md" | "mdx" | "markdown" => markdown::pieces,
            "rst" => rst::pieces,
            _ => continue,
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_page = entry.file_type().is_file() && !patterns.about.is_match(&stem) && !is_translated(&stem);
        if !is_page || entry.metadata().is_ok_and(|data| data.len() > LARGEST) {
            continue;
        }
        let (Ok(bytes), Ok(inside)) = (fs::read(path), path.strip_prefix(folder)) else { continue };
        let name = inside.with_extension("").to_string_lossy().replace('\\', "/");
        let (place, version) = without_version(&name, patterns);
        if newest.get(&place).is_none_or(|(other, _)| version >= *other) {
            let text = String::from_utf8_lossy(&bytes).replace('\r', "").replace('\t', "    ");
            newest.insert(place, (version, Page { name, pieces: read(&text) }));
        }
    }
    let mut pages: Vec<Page> = newest.into_values().map(|(_, page)| page).collect();
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}

fn is_folder(name: &str, path: &Path, patterns: &Patterns) -> bool {
    let is_translation = patterns
        .translation
        .captures(name)
        .is_some_and(|found| LANGUAGES.contains(&found[1].to_lowercase().as_str()));
    !name.starts_with('.')
        && !OF_OTHERS.contains(&name)
        && !is_translation
        && !patterns.about.is_match(name)
        // Part of a repository may be under a licence of its own.
        && !matches!(licence::of_folder(path), Verdict::Refused(_))
}

/// `README-ru` and `guide.zh`, but not `unzip-it`.
fn is_translated(stem: &str) -> bool {
    let ending = stem.rsplit_once(['.', '-', '_']).map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| {
        ending != "it" && (LANGUAGES.contains(&ending.as_str()) || ["cn", "br"].contains(&ending.as_str()))
    })
}

/// The name with `*` for a folder that is named after a version, and that version.
fn without_version(name: &str, patterns: &Patterns) -> (String, Vec<u32>) {
    let mut version = Vec::new();
    let parts: Vec<&str> = name
        .split('/')
        .map(|part| match patterns.version.captures(part) {
            Some(found) if version.is_empty() => {
                let number = found.get(1).or(found.get(2)).map_or("", |found| found.as_str());
                version = number.split('.').map(|digits| digits.parse().unwrap_or(0)).collect();
                "*"
            }
            _ => part,
        })
        .collect();
    (parts.join("/"), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        pages(folder.path()).into_iter().map(|page| page.name).collect()
    }

    #[test]
    fn documentation_is_markdown_and_restructured_text() {
        assert_eq!(
            names(&[("README.md", ""), ("docs/a.rst", ""), ("docs/b.mdx", ""), ("c.txt", "")]),
            ["README", "docs/a", "docs/b"]
        );
        assert!(names(&[("CHANGELOG.md", ""), ("vendor/x/README.md", ""), (".github/a.md", "")]).is_empty());
    }

    #[test]
    fn translations_are_left_out() {
        assert_eq!(
            names(&[("en/a.md", ""), ("pt-br/a.md", ""), ("README-ja.md", ""), ("git-it.md", "")]),
            ["en/a", "git-it"]
        );
    }

    #[test]
    fn the_newest_version_is_read() {
        assert_eq!(
            names(&[("v1.9/a.md", ""), ("v1.10/a.md", ""), ("v1.2/b.md", ""), ("lab1/a.md", "")]),
            ["lab1/a", "v1.10/a", "v1.2/b"]
        );
    }

    #[test]
    fn a_folder_has_to_be_free_as_well() {
        let by_nc = "Attribution-NonCommercial 4.0 International";
        assert_eq!(names(&[("a/x.md", ""), ("b/LICENSE", by_nc), ("b/c/x.md", "")]), ["a/x"]);
    }
}
