//! A tokenizer from the vocabulary inside a GGUF file.
//!
//! `tokenizer.ggml.model` names the algorithm and `tokenizer.ggml.pre` how text is cut before it: the names and
//! their patterns are llama.cpp's (`llama-vocab.cpp`). What is not known is refused, because a wrong cut gives wrong
//! ids without any sign of it.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use super::Spelling;
use crate::error::LoadError;
use crate::weights::gguf::{Metadata, Value};

/// Words with one leading sign, numbers of up to three digits, runs of signs, white space.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Values of `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// Builds the tokenizer.
pub(super) fn build(metadata: &Metadata) -> Result<(Tokenizer, Spelling), LoadError> {
    let missing = |reason: &str| LoadError::MissingTokenizer {
        file: metadata.file().to_owned(),
        reason: reason.to_owned(),
    };
    if metadata.get("tokenizer.ggml.model").is_none() {
        return Err(missing("no vocabulary in the file and no tokenizer.json beside it"));
    }
    let (mut tokenizer, spelling) = match metadata.text("tokenizer.ggml.model")? {
        "gpt2" => (byte_level(metadata)?, Spelling::ByteLevel),
        "llama" => (sentence_piece(metadata)?, Spelling::SentencePiece),
        other => {
            let reason = format!("vocabulary of type \"{other}\" needs a tokenizer.json beside the file");
            return Err(missing(&reason));
        }
    };
    add_special_tokens(metadata, &mut tokenizer)?;
    Ok((tokenizer, spelling))
}

fn refused(metadata: &Metadata, reason: impl ToString) -> LoadError {
    LoadError::Tokenizer { file: metadata.file().to_owned(), reason: reason.to_string() }
}

fn vocabulary(metadata: &Metadata) -> Result<Vec<(String, u32)>, LoadError> {
    let tokens = metadata.texts("tokenizer.ggml.tokens")?;
    Ok(tokens.iter().cloned().zip(0..).collect())
}

fn finish(metadata: &Metadata, builder: BpeBuilder) -> Result<Tokenizer, LoadError> {
    let bpe: BPE = builder.build().map_err(|e| refused(metadata, e))?;
    Ok(Tokenizer::new(bpe))
}

fn byte_level(metadata: &Metadata) -> Result<Tokenizer, LoadError> {
    let merges = metadata
        .texts("tokenizer.ggml.merges")?
        .iter()
        .map(|merge| {
            // The first character may itself be a space's stand-in but never a space.
            let (left, right) = merge.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| refused(metadata, "tokenizer.ggml.merges has an entry without a space"))?;
    let vocabulary: tokenizers::models::bpe::Vocab = vocabulary(metadata)?.into_iter().collect();
    let plain = || ByteLevel::new(false, false, false);
    let split = |pattern: &str| -> Result<PreTokenizerWrapper, LoadError> {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split =
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|e| refused(metadata, e))?;
        Ok(Sequence::new(vec![split.into(), plain().into()]).into())
    };
    let gpt2 = || ByteLevel::new(false, false, true);
    let pre = metadata.optional("tokenizer.ggml.pre", Metadata::text_owned)?;
    let pre = pre.as_deref().unwrap_or("default");
    let (cut, whole_words): (PreTokenizerWrapper, bool) = match pre {
        "default" | "gpt-2" => (gpt2().into(), false),
        "smollm" => (Sequence::new(vec![Digits::new(true).into(), gpt2().into()]).into(), false),
        // The last is what the files of Nemotron-H say; llama.cpp cuts for all of them alike.
        "llama3" | "llama-v3" | "llama-bpe" | "pixtral" => (split(LLAMA3)?, true),
        "qwen2" => (split(QWEN2)?, false),
        other => {
            let reason = format!("tokenizer.ggml.pre \"{other}\" needs a tokenizer.json beside the file");
            return Err(LoadError::MissingTokenizer { file: metadata.file().to_owned(), reason });
        }
    };
    let builder = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(whole_words);
    let mut tokenizer = finish(metadata, builder)?;
    if pre == "qwen2" {
        tokenizer.with_normalizer(Some(NFC)).map_err(|e| refused(metadata, e))?;
    }
    tokenizer.with_pre_tokenizer(Some(cut)).with_decoder(Some(plain()));
    Ok(tokenizer)
}

/// SentencePiece's BPE stores a score for each piece instead of merges. Every way to put a piece together from two
/// others is a merge, ordered by the piece's score.
fn sentence_piece(metadata: &Metadata) -> Result<Tokenizer, LoadError> {
    let pieces = vocabulary(metadata)?;
    let Some(Value::Floats(scores)) = metadata.get("tokenizer.ggml.scores") else {
        return Err(refused(metadata, "tokenizer.ggml.scores is missing"));
    };
    if scores.len() != pieces.len() {
        return Err(refused(metadata, format!("{} scores for {} tokens", scores.len(), pieces.len())));
    }
    let ids: tokenizers::models::bpe::Vocab = pieces.iter().cloned().collect();
    let mut merges = Vec::new();
    for (piece, id) in &pieces {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[*id as usize], l, r, left.to_owned(), right.to_owned()));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let merges = merges.into_iter().map(|(_, _, _, left, right)| (left, right)).collect::<Vec<_>>();

    let mut builder = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(true).fuse_unk(true);
    let unknown = metadata.optional("tokenizer.ggml.unknown_token_id", Metadata::integer)?.unwrap_or(0);
    if let Some((token, _)) = pieces.get(unknown) {
        builder = builder.unk_token(token.clone());
    }
    let mut tokenizer = finish(metadata, builder)?;
    let space = Replace::new(" ", "\u{2581}").map_err(|e| refused(metadata, e))?;
    let back = Replace::new("\u{2581}", " ").map_err(|e| refused(metadata, e))?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        steps.push(Prepend::new("\u{2581}".to_owned()).into());
    }
    steps.push(space.into());
    let decoder = DecoderSequence::new(vec![
        back.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
        Strip::new(' ', 1, 0).into(),
    ]);
    tokenizer.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(|e| refused(metadata, e))?;
    tokenizer.with_decoder(Some(decoder));
    Ok(tokenizer)
}

/// Control tokens are recognised in texts and have no text themselves; user-defined ones are text that is never cut.
fn add_special_tokens(metadata: &Metadata, tokenizer: &mut Tokenizer) -> Result<(), LoadError> {
    let Some(Value::Integers(types)) = metadata.get("tokenizer.ggml.token_type") else {
        return Ok(());
    };
    let names = metadata.texts("tokenizer.ggml.tokens")?;
    let of_type = |wanted: &'static [i64], special: bool| {
        let matching =
            names.iter().zip(types).filter(|&(name, kind)| wanted.contains(kind) && !name.is_empty());
        matching
            .map(|(name, _)| AddedToken::from(name.clone(), special).normalized(false))
            .collect::<Vec<_>>()
    };
    tokenizer
        .add_special_tokens(of_type(&[token_type::UNKNOWN, token_type::CONTROL], true))
        .map_err(|e| refused(metadata, e))?;
    tokenizer.add_tokens(of_type(&[token_type::USER_DEFINED], false)).map_err(|e| refused(metadata, e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Metadata, Spelling, Value, build};

    const PIECES: [&str; 12] = [
        "\u{2581}",
        "g",
        "i",
        "t",
        "\u{2581}g",
        "it",
        "\u{2581}git",
        "s",
        "st",
        "is",
        "\u{2581}s",
        "\u{2581}st",
    ];

    /// `<unk>`, `<s>`, `</s>`, 256 bytes, then pieces whose scores fall with their number.
    fn sentence_piece(space_prefix: bool) -> Metadata {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(PIECES.map(str::to_owned));
        let scores = (0..tokens.len()).map(|i| if i < 259 { 0.0 } else { 259.0 - i as f32 }).collect();
        let types =
            (0..tokens.len()).map(|i| [2, 3, 3].get(i).copied().unwrap_or(if i < 259 { 6 } else { 1 }));
        Metadata::from_values([
            ("tokenizer.ggml.model", Value::Text("llama".into())),
            ("tokenizer.ggml.token_type", Value::Integers(types.collect())),
            ("tokenizer.ggml.tokens", Value::Texts(tokens)),
            ("tokenizer.ggml.scores", Value::Floats(scores)),
            ("tokenizer.ggml.add_space_prefix", Value::Bool(space_prefix)),
        ])
    }

    fn ids(metadata: &Metadata, text: &str) -> Vec<u32> {
        build(metadata).unwrap().0.encode(text, false).unwrap().get_ids().to_vec()
    }

    #[test]
    fn sentence_piece_merges_by_score() {
        let piece = |name: &str| 259 + PIECES.iter().position(|&piece| piece == name).unwrap() as u32;
        let metadata = sentence_piece(true);
        assert_eq!(build(&metadata).unwrap().1, Spelling::SentencePiece);
        // "\u{2581}g" has a better score than "it", but both are made before "\u{2581}git".
        assert_eq!(ids(&metadata, "git"), [piece("\u{2581}git")]);
        // "st" has a better score than "is" and "\u{2581}s".
        assert_eq!(ids(&metadata, "git st"), [piece("\u{2581}git"), piece("\u{2581}st")]);
        assert_eq!(ids(&metadata, "gist"), ["\u{2581}g", "i", "st"].map(piece));
        // What has no piece is spelled in bytes; control tokens are recognised.
        let spelled: Vec<u32> = "é".bytes().map(|byte| 3 + u32::from(byte)).collect();
        assert_eq!(ids(&metadata, "é"), [&[piece("\u{2581}")], spelled.as_slice()].concat());
        assert_eq!(ids(&metadata, "<s>")[0], 1);
        assert_eq!(ids(&sentence_piece(false), "git"), ["g", "it"].map(piece));
    }

    #[test]
    fn byte_level_cuts_follow_the_name() {
        let tokens: Vec<String> = ["1", "2", "Ġ", "a", "Ċ", "12", "Ġa", "aa", "ĊĊ"].map(str::to_owned).into();
        let merges: Vec<String> = ["1 2", "Ġ a", "a a", "Ċ Ċ"].map(str::to_owned).into();
        let with = |pre: &str| {
            Metadata::from_values([
                ("tokenizer.ggml.model", Value::Text("gpt2".into())),
                ("tokenizer.ggml.pre", Value::Text(pre.into())),
                ("tokenizer.ggml.tokens", Value::Texts(tokens.clone())),
                ("tokenizer.ggml.merges", Value::Texts(merges.clone())),
            ])
        };
        for (pre, numbers) in [
            ("gpt-2", &[5][..]),
            ("default", &[5]),
            ("smollm", &[0, 1]),
            ("llama-bpe", &[5]),
            ("pixtral", &[5]),
            ("qwen2", &[0, 1]),
        ] {
            assert_eq!(ids(&with(pre), "12"), numbers, "{pre}");
            assert_eq!(ids(&with(pre), "aa a"), [7, 6], "{pre}");
            // No space appears in front of the text.
            assert_eq!(ids(&with(pre), "a"), [3], "{pre}");
        }
        assert!(build(&with("something else")).is_err());
    }
}
