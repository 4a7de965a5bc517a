//! The lines of the corpora by what they begin with, which are made with the model.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use fst::SetBuilder;

use crate::corpora::{Corpora, Excluded};

/// The file's name beside the weights.
const FILE: &str = "lines.fst";
/// Longer lines, in bytes, are seldom begun alike, and take most of the room.
const LONGEST: usize = 100;

/// Writes the set beside the weights in `directory`.
pub fn write(directory: &Path, corpora: &Corpora, excluded: &Excluded) -> Result<()> {
    let lines = chosen(corpora.lines().filter(|line| !excluded.command(line)));
    let count = lines.len();
    let mut builder = SetBuilder::memory();
    builder.extend_iter(lines)?;
    let bytes = builder.into_inner()?;
    println!("{count} lines, in {} bytes", bytes.len());
    fs::write(directory.join(FILE), bytes).with_context(|| format!("{FILE} can't be written"))
}

/// Those of several words that are short, each once, in order.
fn chosen<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let is_wanted =
        |line: &&str| line.len() <= LONGEST && line.contains(' ') && !line.contains(char::is_control);
    let mut lines: Vec<&str> = lines.filter(is_wanted).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_stand_once() {
        let long = "x ".repeat(LONGEST);
        let lines = ["kit push", "kit", "kit pull", "kit push", "a\tb c", long.as_str()];
        assert_eq!(chosen(lines.into_iter()), ["kit pull", "kit push"]);
    }
}
