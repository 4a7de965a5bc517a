//! Token healing. A prompt that ends inside a word is cut into other tokens than the finished word would be, and a
//! model that continues from those rarely writes the finished word. So the last word's tokens are taken back, and
//! the model chooses anew among tokens whose bytes agree with what was typed.

use crate::tokenizer::Vocabulary;

/// Tokens that are taken back at most.
const MOST_HEALED: usize = 8;

/// How many of `tokens` stay. The rest is the last word, with the space in front of it, in whole tokens; control
/// tokens and the first token always stay.
pub(super) fn kept(tokens: &[u32], vocabulary: &Vocabulary) -> usize {
    let earliest = tokens.len().saturating_sub(MOST_HEALED).max(1);
    let first = (earliest..tokens.len())
        .rev()
        .take_while(|&i| !vocabulary.is_control(tokens[i]))
        .last()
        .unwrap_or(tokens.len());
    let ends: Vec<usize> = tokens[first..]
        .iter()
        .scan(0, |end, &token| {
            *end += vocabulary.bytes(token).len();
            Some(*end)
        })
        .collect();
    let bytes = bytes_of(&tokens[first..], vocabulary);
    let word = match bytes.iter().rposition(u8::is_ascii_whitespace) {
        // A line break is never part of the token that follows it.
        Some(at) if bytes[at] == b'\n' => at + 1,
        Some(at) => at,
        None => 0,
    };
    first + ends.partition_point(|&end| end <= word)
}

/// The bytes of some tokens.
pub(super) fn bytes_of(tokens: &[u32], vocabulary: &Vocabulary) -> Vec<u8> {
    tokens.iter().flat_map(|&token| vocabulary.bytes(token)).copied().collect()
}
