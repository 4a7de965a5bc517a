//! What a repository may be used under, by its licence files.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// What the files of a folder say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The licences that were found, by their SPDX identifiers or families.
    Accepted(BTreeSet<&'static str>),
    /// What stands in the way.
    Refused(String),
    /// No licence file, or none with a licence that is known.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(names) => {
                write!(formatter, "{}", names.iter().copied().collect::<Vec<_>>().join(", "))
            }
            Self::Refused(why) => write!(formatter, "{why}"),
            Self::Unknown => write!(formatter, "no licence file with an accepted licence"),
        }
    }
}

/// Texts are in lower case, with one blank between words, as [`plain`] makes them.
const ACCEPTED: [(&str, &[&str]); 7] = [
    ("MIT", &["permission is hereby granted, free of charge, to any person obtaining a copy", "mit license"]),
    ("Apache-2.0", &["apache license version 2.0", "apache license, version 2.0", "apache-2.0"]),
    (
        "BSD",
        &["redistribution and use in source and binary forms, with or without modification, are permitted"],
    ),
    (
        "ISC",
        &[
            "permission to use, copy, modify, and distribute this software for any purpose",
            "permission to use, copy, modify, and/or distribute this software for any purpose",
        ],
    ),
    ("CC0-1.0", &["cc0 1.0", "cc0-1.0"]),
    ("Unlicense", &["this is free and unencumbered software released into the public domain"]),
    (
        "CC-BY-4.0",
        &[
            "creative commons attribution 4.0 international",
            "creative commons attribution 4.0 license",
            "attribution 4.0 international ====",
            "attribution 4.0 international creative commons",
            "cc-by-4.0",
            "cc by 4.0",
        ],
    ),
];

/// What a licence file must not say.
const REFUSED: [(&str, &[&str]); 4] = [
    ("ShareAlike", &["attribution-sharealike", "share-alike", "cc-by-sa", "cc by-sa", "licenses/by-sa"]),
    ("NonCommercial", &["attribution-noncommercial", "cc-by-nc", "cc by-nc", "licenses/by-nc"]),
    ("NoDerivatives", &["attribution-noderiv", "cc-by-nd", "cc by-nd", "licenses/by-nd"]),
    ("GNU", &["gnu general public license", "gnu lesser general", "gnu affero", "gnu free documentation"]),
];

/// What the licence files of a folder say. One refused text among several is enough.
pub fn of_folder(folder: &Path) -> Verdict {
    let mut names = BTreeSet::new();
    for (name, text) in texts(folder, is_licence) {
        if let Some(why) = refused(&text, &REFUSED) {
            return Verdict::Refused(format!("{why} in {name}"));
        }
        names.extend(accepted(&text));
    }
    if names.is_empty() { Verdict::Unknown } else { Verdict::Accepted(names) }
}

/// What a file says of itself, which may take back what its folder grants. Without a word it is under the folder's licence.
pub fn of_text(text: &str) -> Verdict {
    let text = plain(text);
    match refused(&text, &REFUSED) {
        Some(why) => Verdict::Refused(why.to_owned()),
        None => Verdict::Accepted(accepted(&text).collect()),
    }
}

/// What a repository says: its licence files, and its README. That one can't grant anything, but some take back there
/// what a licence file of the usual form grants. (They name GNU's licences for other reasons, too.)
pub fn of_repository(folder: &Path) -> Verdict {
    let verdict = of_folder(folder);
    if matches!(verdict, Verdict::Accepted(_)) {
        for (name, text) in texts(folder, |name| name.starts_with("readme")) {
            if let Some(why) = refused(&text, &REFUSED[..3]) {
                return Verdict::Refused(format!("{why} in {name}"));
            }
        }
    }
    verdict
}

/// Names and contents of those files of a folder, in the order of their names. What can't be read is no text.
fn texts(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(String, String)> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, path)| is_wanted(&name.to_lowercase()) && path.is_file())
        .filter_map(|(name, path)| Some((name, plain(&String::from_utf8_lossy(&fs::read(path).ok()?)))))
        .collect();
    found.sort();
    found
}

/// Whether a file holds the licence of what is beside it, not of what that is made from.
fn is_licence(name: &str) -> bool {
    let is_named = ["license", "licence", "copying", "copyright", "unlicense"].iter().any(|stem| {
        name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '_']))
    });
    is_named && !name.contains("third") && !name.contains("information")
}

fn plain(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn accepted(text: &str) -> impl Iterator<Item = &'static str> {
    ACCEPTED.iter().filter(|(_, signs)| signs.iter().any(|sign| text.contains(sign))).map(|&(name, _)| name)
}

fn refused(text: &str, list: &[(&'static str, &[&str])]) -> Option<&'static str> {
    list.iter().find(|(_, signs)| signs.iter().any(|sign| text.contains(sign))).map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        of_repository(folder.path()).to_string()
    }

    #[test]
    fn a_licence_is_told_by_its_words() {
        let mit = "The MIT License\n\nPermission is hereby granted, free of charge, to any\n  person obtaining a copy";
        assert_eq!(verdict(&[("LICENSE", mit)]), "MIT");
        assert_eq!(verdict(&[("COPYING", "Apache License\n   Version 2.0, January 2004")]), "Apache-2.0");
        assert_eq!(
            verdict(&[("LICENSE-MIT", mit), ("license.md", "Attribution 4.0 International\n\n====")]),
            "CC-BY-4.0, MIT"
        );
    }

    #[test]
    fn conditions_that_go_on_are_refused_wherever_they_stand() {
        let apache = ("LICENSE", "Apache License, Version 2.0");
        let by_sa = "[text](https://creativecommons.org/licenses/by-sa/4.0/)";
        assert_eq!(verdict(&[apache, ("LICENSE-docs", by_sa)]), "ShareAlike in LICENSE-docs");
        assert_eq!(
            verdict(&[apache, ("README.md", "Creative Commons Attribution-NonCommercial 4.0")]),
            "NonCommercial in README.md"
        );
        assert_eq!(verdict(&[("COPYING", "GNU GENERAL PUBLIC LICENSE")]), "GNU in COPYING");
        assert_eq!(verdict(&[apache, ("README.md", "A GNU General Public License reader")]), "Apache-2.0");
    }

    #[test]
    fn without_a_licence_nothing_is_used() {
        let none = "no licence file with an accepted licence";
        assert_eq!(verdict(&[("README.md", "MIT License")]), none);
        assert_eq!(verdict(&[("LICENSE", "All rights reserved.")]), none);
        assert_eq!(verdict(&[("licenses.md", "How to choose the MIT License")]), none);
        assert_eq!(verdict(&[("LICENSE-THIRD-PARTY", "MIT License")]), none);
    }
}
