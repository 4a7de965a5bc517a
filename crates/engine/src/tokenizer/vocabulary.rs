//! The bytes of every token, in an order that finds all tokens with a given beginning by binary search.

use std::ops::Range;

use tokenizers::Tokenizer;

use super::{Spelling, is_control};

/// Token bytes, by id and sorted.
pub(crate) struct Vocabulary {
    arena: Vec<u8>,
    /// For each id, its bytes in `arena`; empty for control tokens and unused ids.
    spans: Vec<Range<u32>>,
    control: Vec<bool>,
    /// Ids of all tokens that have bytes, sorted by them.
    sorted: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &Tokenizer, spelling: Spelling, size: usize) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let byte_of = char_bytes();
        let mut vocabulary = Self {
            arena: Vec::new(),
            spans: Vec::with_capacity(size),
            control: vec![false; size],
            sorted: Vec::new(),
        };
        for id in 0..size as u32 {
            let start = vocabulary.arena.len() as u32;
            match added.get(&id) {
                Some(token) if is_control(token) => vocabulary.control[id as usize] = true,
                Some(token) => vocabulary.arena.extend_from_slice(token.content.as_bytes()),
                None => {
                    if let Some(token) = tokenizer.id_to_token(id) {
                        spell(&token, spelling, &byte_of, &mut vocabulary.arena);
                    }
                }
            }
            vocabulary.spans.push(start..vocabulary.arena.len() as u32);
        }
        let mut sorted: Vec<u32> = (0..size as u32).filter(|&id| !vocabulary.bytes(id).is_empty()).collect();
        sorted.sort_unstable_by_key(|&id| vocabulary.bytes(id));
        vocabulary.sorted = sorted;
        vocabulary
    }

    /// The bytes of a token; none for control tokens.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        let span = self.spans.get(token as usize).cloned().unwrap_or(0..0);
        &self.arena[span.start as usize..span.end as usize]
    }

    /// True for tokens that are no text.
    pub(crate) fn is_control(&self, token: u32) -> bool {
        self.control.get(token as usize).copied().unwrap_or(true)
    }

    /// Every token that agrees with `wanted`: its bytes begin with `wanted`, or `wanted` begins with them.
    pub(crate) fn agreeing(&self, wanted: &[u8]) -> Vec<u32> {
        let mut tokens = self.sorted[self.beginning_with(wanted)].to_vec();
        for length in 1..wanted.len() {
            let same = self.beginning_with(&wanted[..length]);
            // Tokens of exactly these bytes come first in their range.
            tokens.extend(self.sorted[same].iter().take_while(|&&id| self.bytes(id).len() == length));
        }
        tokens
    }

    fn beginning_with(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.sorted.partition_point(|&id| self.bytes(id) < prefix);
        let count = self.sorted[start..].partition_point(|&id| self.bytes(id).starts_with(prefix));
        start..start + count
    }
}

/// Appends the bytes that a vocabulary string stands for.
fn spell(token: &str, spelling: Spelling, byte_of: &[Option<u8>; 512], out: &mut Vec<u8>) {
    match spelling {
        Spelling::ByteLevel => {
            for c in token.chars() {
                match byte_of.get(c as usize).copied().flatten() {
                    Some(byte) => out.push(byte),
                    None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
        Spelling::SentencePiece => {
            let byte = token.strip_prefix("<0x").and_then(|hex| hex.strip_suffix('>'));
            match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(token.replace('\u{2581}', " ").as_bytes()),
            }
        }
    }
}

/// GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the other 68 bytes are the characters
/// from U+0100 on, in order.
fn char_bytes() -> [Option<u8>; 512] {
    let mut table = [None; 512];
    let mut next = 256;
    for byte in 0..=255u8 {
        let at = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => usize::from(byte),
            _ => {
                next += 1;
                next - 1
            }
        };
        table[at] = Some(byte);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::PathBuf;

    use tokenizers::Tokenizer;

    use super::{Spelling, Vocabulary};

    fn mini() -> (Tokenizer, Vocabulary) {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini/tokenizer.json");
        let tokenizer = Tokenizer::from_file(path).unwrap();
        let vocabulary = Vocabulary::new(&tokenizer, Spelling::ByteLevel, 4096);
        (tokenizer, vocabulary)
    }

    #[test]
    fn bytes_are_those_of_the_text() {
        let (tokenizer, vocabulary) = mini();
        let text = "git commit -m 'größe 漢字 🚀'\n\ttail -n 5";
        let encoding = tokenizer.encode(text, false).unwrap();
        let bytes: Vec<u8> =
            encoding.get_ids().iter().flat_map(|&id| vocabulary.bytes(id)).copied().collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
        assert!(vocabulary.is_control(1) && vocabulary.bytes(1).is_empty());
    }

    #[test]
    fn agreeing_tokens_are_exactly_those_that_agree() {
        let (_, vocabulary) = mini();
        for wanted in [" ", " co", "-", " --na", "é", "\u{1F680}x", "q"] {
            let wanted = wanted.as_bytes();
            let have: HashSet<u32> = vocabulary.agreeing(wanted).into_iter().collect();
            let want: HashSet<u32> = (0..4096)
                .filter(|&id| {
                    let bytes = vocabulary.bytes(id);
                    !bytes.is_empty() && (bytes.starts_with(wanted) || wanted.starts_with(bytes))
                })
                .collect();
            assert_eq!(have, want, "{wanted:?}");
            assert!(!have.is_empty(), "{wanted:?}");
        }
    }
}
