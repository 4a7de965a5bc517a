//! The table of options and subcommands that exist, which is made with the model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use fst::MapBuilder;
use nemoterm_suggest::specs::{self, Specs};

use crate::corpora::{Corpora, Excluded};

/// The file's name beside the weights.
const FILE: &str = "specs.fst";
/// An option that only other people's lines have is believed when so many of them have it.
const BELIEVED: u64 = 2;
/// Shorter names are typed faster than they are read.
const MIN_NAME: usize = 3;

/// Writes what the corpora's tables have, and what their lines use, beside the weights in `directory`.
pub fn write(directory: &Path, corpora: &Corpora, excluded: &Excluded) -> Result<()> {
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for spec in &corpora.specs {
        // A subcommand's own path ends with its name.
        let path = if spec.is_option {
            spec.path.as_str()
        } else {
            let Some((path, _)) = spec.path.rsplit_once(' ') else { continue };
            path
        };
        for name in spec.names.split(',').map(str::trim) {
            let is_name = name.len() >= if spec.is_option { MIN_NAME } else { 1 };
            if is_name && !name.contains(char::is_whitespace) {
                names.insert(specs::key(path, name.trim_end_matches('=')), 0);
            }
        }
    }
    // Which programs there are, they tell by their paths, and lines by what they begin with.
    for spec in &corpora.specs {
        let program = spec.path.split(' ').next().unwrap_or_default();
        names.insert(specs::key(specs::PROGRAMS, program), 0);
    }
    let known = Specs::new(table(&names)?).context("the table was made wrongly")?;
    let mut lines: Vec<&str> = corpora.lines().filter(|line| !excluded.command(line)).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut unknown: BTreeMap<String, u64> = BTreeMap::new();
    let mut again: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        for option in specs::given_twice(line) {
            *again.entry(specs::key(specs::AGAIN, option)).or_default() += 1;
        }
        for (key, is_known) in known.named(line) {
            // `-abc` may be three options, so it is nobody's name because somebody has typed it.
            if is_known || !key.contains("\t-") || key.contains("\t--") {
                *if is_known { &mut names } else { &mut unknown }.entry(key).or_default() += 1;
            }
        }
    }
    let listed = names.len();
    names.extend(again.into_iter().filter(|&(_, seen)| seen >= BELIEVED));
    names.extend(unknown.into_iter().filter(|&(_, seen)| seen >= BELIEVED));
    let bytes = table(&names)?;
    println!(
        "{listed} options and subcommands that are listed and {} that are used, in {} bytes",
        names.len() - listed,
        bytes.len()
    );
    fs::write(directory.join(FILE), bytes).with_context(|| format!("{FILE} can't be written"))
}

fn table(names: &BTreeMap<String, u64>) -> Result<Vec<u8>> {
    let mut builder = MapBuilder::memory();
    builder.extend_iter(names.iter().map(|(key, &seen)| (key, seen)))?;
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpora::{Example, Spec};

    #[test]
    fn what_is_listed_and_what_is_used_is_known() {
        let spec = |path: &str, is_option, names: &str| Spec {
            path: path.to_owned(),
            is_option,
            names: names.to_owned(),
            arguments: String::new(),
            description: String::new(),
        };
        let line = |command: &str| Example {
            command: command.to_owned(),
            doc: String::new(),
            description: String::new(),
            source: String::new(),
        };
        let corpora = Corpora {
            examples: ["kit pull --all", "kit pull --quiet x", "kit pull --quiet y", "kit pull --alll z"]
                .map(line)
                .to_vec(),
            specs: vec![
                spec("kit pull", false, "pull"),
                spec("kit pull", true, "--all,-a"),
                spec("kit pull", true, "--allow-unsafe"),
                spec("kit", true, "--config="),
            ],
            sessions: Vec::new(),
        };
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &corpora, &Excluded::default()).unwrap();
        let specs = Specs::new(fs::read(directory.path().join(FILE)).unwrap()).unwrap();
        let names = |before: &str| {
            let names = specs.place(before).unwrap().names();
            names.into_iter().map(|name| name.rest).collect::<Vec<_>>()
        };
        assert_eq!(names("kit pull --"), Vec::<String>::new(), "too little is typed");
        assert_eq!(names("kit pull --a"), ["ll", "llow-unsafe"], "the used one first");
        assert_eq!(names("kit pull --q"), ["uiet"], "used twice");
        assert_eq!(names("kit pull --c"), ["onfig"], "of the program itself");
    }
}
