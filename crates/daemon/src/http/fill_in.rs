//! Filling a gap between two texts, with models that were trained to: they mark the parts with tokens of their own.

use nemoterm_engine::Model;

/// The tokens in front of the text before the gap, in front of the text after it, and where the model goes on:
/// Qwen 2.5 Coder and CodeGemma, StarCoder, SantaCoder, DeepSeek Coder.
const MARKS: [[&str; 3]; 4] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// The prompt for what stands between two texts; `None` where the model can't fill gaps.
pub fn prompt(model: &Model, before: &str, after: &str) -> Option<String> {
    let [prefix, suffix, middle] =
        MARKS.iter().find(|marks| marks.iter().all(|mark| is_one_control_token(model, mark)))?;
    Some(format!("{prefix}{before}{suffix}{after}{middle}"))
}

/// Whether a text is one token that stands for itself and not for its letters.
fn is_one_control_token(model: &Model, text: &str) -> bool {
    let Ok(tokens) = model.encode(text) else { return false };
    // Some models begin every text with a token.
    let always = model.encode("").map_or(0, |tokens| tokens.len());
    matches!(&tokens[always.min(tokens.len())..], [token] if model.decode(&[*token]).is_empty())
}
