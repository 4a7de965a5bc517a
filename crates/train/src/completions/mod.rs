//! A table of options from zsh's completion functions: `spec-zsh.tsv.xz`, in the form of the other tables.

mod lex;
mod read;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use walkdir::WalkDir;

use crate::corpora::{Corpora, Excluded, Spec, write_compressed};
use crate::pages::licence::{self, Verdict};

/// What functions are read, and where the table goes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of completion functions whose licence allows it; may be given more than once. A file that names a stricter one is left out
    #[arg(long, required = true)]
    functions: Vec<PathBuf>,
    /// Directory of the other corpora: what their tables have is left out
    #[arg(long)]
    corpora: PathBuf,
    /// Where spec-zsh.tsv.xz is written
    #[arg(long)]
    out: PathBuf,
}

/// The table's stem.
const NAME: &str = "spec-zsh";

/// Reads the functions and writes the table.
pub fn write(args: &Args) -> Result<()> {
    let corpora = Corpora::read(&args.corpora, &Excluded::default())?;
    let names = |spec: &Spec| -> Vec<(String, String)> {
        let names = spec.names.split(',').map(|name| name.trim().trim_end_matches('=').to_owned());
        names.map(|name| (spec.path.clone(), name)).collect()
    };
    let known: HashSet<(String, String)> = corpora.specs.iter().flat_map(names).collect();
    let mut rows = Vec::new();
    let (mut used, mut refused) = (0, 0);
    for path in functions(&args.functions)? {
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let specs = read::specs(&text);
        if specs.is_empty() {
            continue;
        }
        if let Verdict::Refused(why) = licence::of_text(&text) {
            println!("{} is not used: {why}", path.display());
            refused += 1;
            continue;
        }
        used += 1;
        rows.extend(specs.into_iter().filter(|spec| !names(spec).iter().any(|name| known.contains(name))));
    }
    rows.sort_by(|a, b| (&a.path, a.is_option, &a.names).cmp(&(&b.path, b.is_option, &b.names)));
    rows.dedup_by(|a, b| a.path == b.path && a.names == b.names);
    fs::create_dir_all(&args.out).with_context(|| format!("{} can't be made", args.out.display()))?;
    write_compressed(&args.out.join(format!("{NAME}.tsv.xz")), &table(&rows))?;
    let programs: HashSet<&str> = rows.iter().filter_map(|row| row.path.split(' ').next()).collect();
    let options = rows.iter().filter(|row| row.is_option).count();
    println!(
        "{used} functions used, {refused} refused: {options} options and {} subcommands of {} programs that no other table has",
        rows.len() - options,
        programs.len()
    );
    Ok(())
}

/// The functions' files, in the order of their paths.
fn functions(directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in directories {
        for entry in WalkDir::new(directory).sort_by_file_name() {
            let entry = entry.with_context(|| format!("{} can't be read", directory.display()))?;
            if entry.file_type().is_file() && entry.file_name().to_string_lossy().starts_with('_') {
                files.push(entry.into_path());
            }
        }
    }
    Ok(files)
}

fn table(rows: &[Spec]) -> String {
    let row = |spec: &Spec| {
        let kind = if spec.is_option { "option" } else { "subcommand" };
        let Spec { path, names, arguments, description, .. } = spec;
        format!("{path}\t{kind}\t{names}\t{arguments}\t\t{description}\n")
    };
    format!("path\tkind\tnames\targs\tvalues\tdescription\n{}", rows.iter().map(row).collect::<String>())
}
