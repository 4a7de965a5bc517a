//! Which files of a repository make a model.

use thiserror::Error;

/// Files that are one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One file holds everything.
    Gguf(String),
    /// `config.json` and the files that belong to it.
    Directory(Vec<String>),
}

impl Selection {
    /// The files' paths in the repository.
    pub fn files(&self) -> &[String] {
        match self {
            Self::Gguf(file) => std::slice::from_ref(file),
            Self::Directory(files) => files,
        }
    }
}

/// Why no files could be chosen.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectError {
    /// Nothing is called so.
    #[error("it has no file \"{wanted}\"{}", among(.have))]
    NoSuchFile {
        /// What was asked for.
        wanted: String,
        /// What could be had.
        have: Vec<String>,
    },
    /// Several are.
    #[error("several of its files could be meant{}", among(.have))]
    Ambiguous {
        /// The candidates.
        have: Vec<String>,
    },
    /// The file is a part of several, which is not read here.
    #[error("\"{0}\" is one of several pieces of a model; only whole GGUF files can be read")]
    Split(String),
    /// No weights in a format that is read here.
    #[error("it holds no weights that can be read here (GGUF, safetensors or pytorch_model.bin)")]
    NoWeights,
    /// Weights, but nothing to make tokens with.
    #[error("it has weights but no tokenizer.json")]
    NoTokenizer,
}

fn among(have: &[String]) -> String {
    if have.is_empty() { String::new() } else { format!("; there are {}", have.join(", ")) }
}

/// Quantisations that are taken unasked, best first: the smallest one that costs next to nothing in quality.
const PREFERRED: [&str; 3] = ["Q4_K_M", "Q8_0", "Q4_0"];

/// Chooses among the `files` of a repository; `wanted` is a path or a part of a GGUF file's name.
///
/// # Errors
/// Where nothing fits, or more than one file does.
pub fn select(files: &[String], wanted: Option<&str>) -> Result<Selection, SelectError> {
    let ggufs: Vec<&String> = files.iter().filter(|file| is_gguf(file)).collect();
    if let Some(wanted) = wanted {
        let named = files.iter().find(|file| *file == wanted);
        if let Some(file) = named.filter(|file| is_gguf(file)) {
            return whole(file);
        }
        let fitting: Vec<&String> = ggufs.iter().copied().filter(|file| has_part(file, wanted)).collect();
        return match fitting.as_slice() {
            [file] => whole(file),
            [] => Err(SelectError::NoSuchFile { wanted: wanted.to_owned(), have: owned(&ggufs) }),
            several => Err(SelectError::Ambiguous { have: owned(several) }),
        };
    }
    if files.iter().any(|file| file == "config.json")
        && let Some(weights) = weights(files)
    {
        if !files.iter().any(|file| file == "tokenizer.json") {
            return Err(SelectError::NoTokenizer);
        }
        const BESIDE: [&str; 5] = [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ];
        let beside = files.iter().filter(|file| BESIDE.contains(&file.as_str())).cloned();
        return Ok(Selection::Directory(beside.chain(weights).collect()));
    }
    match ggufs.as_slice() {
        [] => Err(SelectError::NoWeights),
        [file] => whole(file),
        several => {
            let preferred =
                PREFERRED.iter().find_map(|part| several.iter().find(|file| has_part(file, part)));
            preferred.map_or_else(|| Err(SelectError::Ambiguous { have: owned(several) }), |file| whole(file))
        }
    }
}

/// The weights of a checkpoint in the root of a repository.
fn weights(files: &[String]) -> Option<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    for (single, index, stem, end) in [
        ("model.safetensors", "model.safetensors.index.json", "model-", ".safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-", ".bin"),
    ] {
        if has(index) {
            let shards = files.iter().filter(|file| file.starts_with(stem) && file.ends_with(end)).cloned();
            return Some(std::iter::once(index.to_owned()).chain(shards).collect());
        }
        if has(single) {
            return Some(vec![single.to_owned()]);
        }
    }
    None
}

fn is_gguf(file: &str) -> bool {
    file.to_ascii_lowercase().ends_with(".gguf") && !file.to_ascii_lowercase().contains("mmproj")
}

/// Whether `part` stands in the file's name, between its beginning, its end, `-`, `.` and `/`.
fn has_part(file: &str, part: &str) -> bool {
    let (file, part) = (file.to_ascii_lowercase(), part.to_ascii_lowercase());
    let is_end = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '.' | '/'));
    file.match_indices(&part).any(|(at, _)| {
        is_end(file[..at].chars().next_back()) && is_end(file[at + part.len()..].chars().next())
    })
}

fn whole(file: &str) -> Result<Selection, SelectError> {
    // NAME-00001-of-00003.gguf
    let is_piece = file.to_ascii_lowercase().trim_end_matches(".gguf").rsplit_once("-of-").is_some_and(
        |(before, count)| {
            count.bytes().all(|byte| byte.is_ascii_digit())
                && before.rsplit('-').next().is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()))
        },
    );
    if is_piece { Err(SelectError::Split(file.to_owned())) } else { Ok(Selection::Gguf(file.to_owned())) }
}

fn owned(files: &[&String]) -> Vec<String> {
    files.iter().map(|file| (*file).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn chosen(names: &str, wanted: Option<&str>) -> Result<String, SelectError> {
        select(&files(names), wanted).map(|selection| selection.files().join(" "))
    }

    #[test]
    fn a_quantisation_is_found_by_its_name() {
        let names = "README.md M-Q4_K_M.gguf M-Q4_K_S.gguf M-IQ4_K_M.gguf M-f16.gguf mmproj-f16.gguf";
        assert_eq!(chosen(names, Some("q4_k_m")).unwrap(), "M-Q4_K_M.gguf");
        assert_eq!(chosen(names, Some("F16")).unwrap(), "M-f16.gguf");
        assert_eq!(chosen(names, Some("M-Q4_K_S.gguf")).unwrap(), "M-Q4_K_S.gguf");
        assert_eq!(chosen(names, None).unwrap(), "M-Q4_K_M.gguf");
        let error = chosen(names, Some("Q2_K")).unwrap_err().to_string();
        assert!(error.contains("no file \"Q2_K\"; there are M-Q4_K_M.gguf"), "{error}");
        assert!(matches!(chosen(names, Some("README.md")), Err(SelectError::NoSuchFile { .. })));
        assert!(matches!(
            chosen("a-Q2_K.gguf b-Q2_K.gguf", Some("Q2_K")),
            Err(SelectError::Ambiguous { .. })
        ));
        assert!(matches!(chosen("a-IQ1.gguf b-IQ2.gguf", None), Err(SelectError::Ambiguous { .. })));
    }

    #[test]
    fn a_checkpoint_is_all_its_files_and_no_others() {
        assert_eq!(
            chosen("README.md config.json tokenizer.json tokenizer.model model.safetensors x.bin", None)
                .unwrap(),
            "config.json tokenizer.json model.safetensors"
        );
        assert_eq!(
            chosen(
                "config.json tokenizer.json model-1-of-2.safetensors model-2-of-2.safetensors model.safetensors.index.json \
                 original/model-1.safetensors pytorch_model.bin",
                None
            )
            .unwrap(),
            "config.json tokenizer.json model.safetensors.index.json model-1-of-2.safetensors model-2-of-2.safetensors"
        );
        assert_eq!(
            chosen("config.json tokenizer.json pytorch_model.bin", None).unwrap(),
            "config.json tokenizer.json pytorch_model.bin"
        );
        assert_eq!(chosen("config.json model.safetensors", None), Err(SelectError::NoTokenizer));
        assert_eq!(chosen("config.json README.md", None), Err(SelectError::NoWeights));
    }

    #[test]
    fn a_piece_is_no_model() {
        assert!(matches!(chosen("m-00001-of-00003.gguf", None), Err(SelectError::Split(_))));
        assert_eq!(chosen("list-of-things.gguf", None).unwrap(), "list-of-things.gguf");
    }
}
