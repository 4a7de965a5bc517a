//! What can go wrong while loading a model and while running it. Every message is one line that names the file
//! and the field or tensor at fault; none is meant to be matched on by its text.

use std::path::PathBuf;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file could not be opened, mapped or read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A directory without `config.json`, or without any weights.
    #[error("{}: not a model directory: {missing} is missing", .path.display())]
    NotAModel {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// There is no tokenizer for these weights.
    #[error("{file}: no tokenizer: {}", plain(.reason))]
    MissingTokenizer {
        /// The weights or directory.
        file: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The tokenizer file cannot be used.
    #[error("{file}: tokenizer: {}", plain(.reason))]
    Tokenizer {
        /// The file it came from.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model family this program has no decoder for.
    #[error("{file}: unknown architecture \"{}\" (known: {known})", plain(.architecture))]
    UnknownArchitecture {
        /// The configuration's file.
        file: String,
        /// The name found there.
        architecture: String,
        /// The names that are known.
        known: String,
    },
    /// A known family with a feature that is not implemented.
    #[error("{file}: {} is not supported", plain(.what))]
    Unsupported {
        /// The file.
        file: String,
        /// The feature.
        what: String,
    },
    /// A file that contradicts its format: truncated, overflowing, misaligned.
    #[error("{file}: {}: {}", plain(.field), plain(.reason))]
    Malformed {
        /// The file.
        file: String,
        /// The header field, metadata key or tensor.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor the configuration asks for is not in the file.
    #[error("{file}: tensor \"{tensor}\" is missing")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{file}: tensor \"{tensor}\" has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The shape in the file, rows first.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// The wanted device is not there.
    #[error("device {device}: {reason}")]
    Device {
        /// The device as asked for.
        device: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The model is too large for the part of a device's memory that it may take.
    #[error("the model takes {} MB of the memory of device {device}, and {} MB are allowed", .needed / 1_000_000, .allowed / 1_000_000)]
    DeviceMemory {
        /// The device.
        device: String,
        /// Bytes of weights and caches.
        needed: u64,
        /// Bytes that may be taken.
        allowed: u64,
    },
    /// The tensor library refused.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Characters of a file's text that a message repeats at most.
const MOST: usize = 300;

/// What a file says, as it can stand in a message: in one line, without characters that a terminal obeys, and not for ever.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().take(MOST) {
        match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => {
                plain.extend(c.escape_unicode());
            }
            c if c.is_control() => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    if text.chars().nth(MOST).is_some() {
        plain.push('…');
    }
    plain
}

impl LoadError {
    /// Whether the model may load well on another device.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::DeviceMemory { .. })
    }
}

/// Why a loaded model could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The prompt does not fit the context.
    #[error("prompt of {tokens} tokens does not fit the context of {context}")]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Positions the model was loaded for.
        context: usize,
    },
    /// There is nothing to run the model on.
    #[error("prompt has no tokens, and the model has no begin-of-text token")]
    EmptyPrompt,
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The tokenizer refused the text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The tensor library or the device failed.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
}

#[cfg(test)]
mod tests {
    use super::LoadError;

    #[test]
    fn a_message_is_one_line_whatever_the_file_says() {
        let error = |field: &str| {
            let field = field.to_owned();
            LoadError::Malformed { file: "m.gguf".into(), field, reason: "is wrong".into() }.to_string()
        };
        assert_eq!(error("größe \"x\""), "m.gguf: größe \"x\": is wrong");
        assert_eq!(error("a\nb\u{1b}[2J\u{202e}"), r"m.gguf: a\nb\u{1b}[2J\u{202e}: is wrong");
        assert!(error(&"k".repeat(60_000)).len() < 400);
    }
}
