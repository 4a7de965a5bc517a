//! Text to token ids and back. The algorithms are the `tokenizers` crate's; this module decides what stands in front
//! of a prompt, which tokens end a text, and which bytes each token stands for.

mod gguf;
#[cfg(test)]
mod tests;
mod vocabulary;

use aho_corasick::AhoCorasick;
use serde::Deserialize;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

use crate::config::Config;
use crate::error::{EngineError, LoadError};
use crate::weights::gguf::Metadata;
pub(crate) use vocabulary::Vocabulary;

/// How the strings of a vocabulary spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Every byte is a printable character (GPT-2).
    ByteLevel,
    /// U+2581 is a space, `<0xAB>` a byte (SentencePiece).
    SentencePiece,
}

/// Tokens that begin a text in the families that want one, for files that only name the token's id.
const BEGINNINGS: [&str; 3] = ["<s>", "<bos>", "<|begin_of_text|>"];
/// Tokens that end a turn or a text, for files whose one end-of-text id leaves the others out.
const ENDINGS: [&str; 6] = ["</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>"];

/// The tokens in front of the text before a gap, in front of the text after it, and where the model goes on: Qwen 2.5
/// Coder and CodeGemma, StarCoder, SantaCoder, DeepSeek Coder.
const FILL_IN_MARKS: [[&str; 3]; 4] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// What stands in front of each file where a model knows of files.
const FILE_MARKS: [&str; 2] = ["<|file_sep|>", "<file_sep>"];

/// The control tokens of a model that was trained to fill a gap between two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillIn {
    /// In front of the text before the gap.
    pub prefix: u32,
    /// In front of the text after it.
    pub suffix: u32,
    /// Where the model goes on.
    pub middle: u32,
    /// In front of each file, where the model knows of files.
    pub file: Option<u32>,
}

/// Whether an added token is no text. Checkpoints do not call all of them special: those of Qwen 2.5 Coder for a gap
/// are not. By their shape they are, as llama.cpp's converter has it.
fn is_control(token: &AddedToken) -> bool {
    let name = token.content.as_str();
    let shaped = ["<|", "<｜"].iter().any(|start| name.starts_with(start))
        && ["|>", "｜>"].iter().any(|end| name.ends_with(end));
    token.special || shaped || FILL_IN_MARKS.as_flattened().contains(&name) || FILE_MARKS.contains(&name)
}

/// What the model's other files say about its tokens.
pub(crate) struct TokensConfig {
    vocabulary: usize,
    bos: Option<u32>,
    eos: Vec<u32>,
    add_bos: Option<bool>,
}

impl TokensConfig {
    pub(crate) fn new(config: &Config) -> Self {
        Self { vocabulary: config.vocabulary, bos: config.bos, eos: config.eos.clone(), add_bos: None }
    }

    /// Reads `tokenizer_config.json`.
    pub(crate) fn read_settings(&mut self, json: &[u8], file: &str) -> Result<(), LoadError> {
        #[derive(Deserialize)]
        struct Settings {
            add_bos_token: Option<bool>,
        }
        let settings: Settings = serde_json::from_slice(json)
            .map_err(|e| LoadError::Tokenizer { file: file.to_owned(), reason: e.to_string() })?;
        self.add_bos = settings.add_bos_token;
        Ok(())
    }

    /// Reads GGUF metadata.
    pub(crate) fn read_metadata(&mut self, metadata: &Metadata) -> Result<(), LoadError> {
        self.add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?;
        Ok(())
    }
}

/// The tokenizer of a model.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    /// A space is put in front of every text.
    space_prefix: bool,
    /// Finds the names of control tokens; `None` where there are none.
    controls: Option<AhoCorasick>,
    /// Put in front of every prompt.
    bos: Option<u32>,
    /// End a text.
    ends: Vec<u32>,
}

impl Tokens {
    /// Reads `tokenizer.json`.
    pub(crate) fn from_json(json: &[u8], file: &str, config: &TokensConfig) -> Result<Self, LoadError> {
        let refused = |reason: String| LoadError::Tokenizer { file: file.to_owned(), reason };
        let tokenizer = Tokenizer::from_bytes(json).map_err(|e| refused(e.to_string()))?;
        let spelling = match tokenizer.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => Spelling::ByteLevel,
            Some(DecoderWrapper::Sequence(steps))
                if steps.get_decoders().iter().any(|step| matches!(step, DecoderWrapper::ByteLevel(_))) =>
            {
                Spelling::ByteLevel
            }
            Some(DecoderWrapper::Sequence(_) | DecoderWrapper::Metaspace(_)) => Spelling::SentencePiece,
            _ => return Err(refused("its decoder is neither byte-level nor SentencePiece".into())),
        };
        Self::new(tokenizer, spelling, config).map_err(refused)
    }

    /// Builds the tokenizer that GGUF metadata describes.
    pub(crate) fn from_gguf(metadata: &Metadata, config: &TokensConfig) -> Result<Self, LoadError> {
        let (tokenizer, spelling) = gguf::build(metadata)?;
        let with_default = TokensConfig {
            // llama.cpp's defaults: SentencePiece prompts begin with the token unless the file says otherwise.
            add_bos: Some(config.add_bos.unwrap_or(spelling == Spelling::SentencePiece)),
            eos: config.eos.clone(),
            ..*config
        };
        Self::new(tokenizer, spelling, &with_default)
            .map_err(|reason| LoadError::Tokenizer { file: metadata.file().to_owned(), reason })
    }

    fn new(tokenizer: Tokenizer, spelling: Spelling, config: &TokensConfig) -> Result<Self, String> {
        let size = tokenizer.get_vocab_size(true);
        if size > config.vocabulary {
            return Err(format!("it has {size} tokens, the model {}", config.vocabulary));
        }
        if let Some(bos) = config.bos.filter(|&bos| bos as usize >= config.vocabulary) {
            return Err(format!(
                "begin-of-text token {bos} is outside the vocabulary of {}",
                config.vocabulary
            ));
        }
        let vocabulary = Vocabulary::new(&tokenizer, spelling, config.vocabulary);
        let mut ends = config.eos.clone();
        ends.extend(ENDINGS.iter().filter_map(|name| tokenizer.token_to_id(name)));
        ends.sort_unstable();
        ends.dedup();
        let bos = config.bos.filter(|&bos| config.add_bos.unwrap_or_else(|| begins_with(&tokenizer, bos)));
        let added = tokenizer.get_added_tokens_decoder();
        let names: Vec<_> =
            added.values().filter(|token| is_control(token)).map(|token| &token.content).collect();
        let controls = if names.is_empty() {
            None
        } else {
            Some(AhoCorasick::new(names).map_err(|error| error.to_string())?)
        };
        let space_prefix = spelling == Spelling::SentencePiece && {
            let encoding = tokenizer.encode_fast("a", false).map_err(|e| e.to_string())?;
            encoding.get_ids().first().is_some_and(|&id| vocabulary.bytes(id).starts_with(b" "))
        };
        Ok(Self { tokenizer, vocabulary, space_prefix, controls, bos, ends })
    }

    /// The ids of a text, the begin-of-text token in front where the model wants one. The name of a control token
    /// stands for that token.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        self.append(text, &mut ids)?;
        Ok(ids)
    }

    /// The same for text that somebody else wrote: the name of a control token is text like any other. It is cut
    /// after its first character, since a tokenizer finds such names before it does anything else.
    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        let mut rest = text;
        while let Some(found) = self.controls.as_ref().and_then(|controls| controls.find(rest)) {
            let first = rest[found.range()].chars().next().map_or(0, char::len_utf8);
            let (before, after) = rest.split_at(found.start() + first);
            self.append(before, &mut ids)?;
            rest = after;
        }
        self.append(rest, &mut ids)?;
        Ok(ids)
    }

    fn append(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let encoding =
            self.tokenizer.encode_fast(text, false).map_err(|e| EngineError::Tokenizer(e.to_string()))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The text of some tokens.
    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.vocabulary.bytes(token)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.space_prefix => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// The tokens around a gap, if the model knows any.
    pub(crate) fn fill_in(&self) -> Option<FillIn> {
        let control = |name: &&str| {
            let id = self.tokenizer.token_to_id(name)?;
            self.vocabulary.is_control(id).then_some(id)
        };
        FILL_IN_MARKS.iter().find_map(|[prefix, suffix, middle]| {
            Some(FillIn {
                prefix: control(prefix)?,
                suffix: control(suffix)?,
                middle: control(middle)?,
                file: FILE_MARKS.iter().find_map(control),
            })
        })
    }

    /// The bytes of the tokens.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The id of the token with this name.
    #[cfg(feature = "train")]
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// True for tokens that end a text: the model's own, and every other control token, which no text contains.
    pub(crate) fn ends_text(&self, token: u32) -> bool {
        self.ends.contains(&token) || self.vocabulary.is_control(token)
    }
}

/// Whether texts begin with `bos` as far as the tokenizer itself tells.
fn begins_with(tokenizer: &Tokenizer, bos: u32) -> bool {
    let adds = tokenizer.encode_fast("", true).is_ok_and(|encoding| encoding.get_ids().first() == Some(&bos));
    adds || tokenizer.id_to_token(bos).is_some_and(|name| BEGINNINGS.contains(&name.as_str()))
}
