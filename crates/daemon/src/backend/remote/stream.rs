//! The stream of an answer: server-sent events, a piece of the texts in each.
//!
//! Of the events' format this reads what servers of completions write, one line of JSON for each event, and it takes no
//! more memory than a line may have.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::health::Trouble;

/// Longest line, in bytes. A token with its twenty likeliest neighbours takes two thousand or so.
const MAX_LINE: usize = 256 * 1024;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// A piece of a text: a token, mostly.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    pub text: String,
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place, where the server tells them.
    pub top: Vec<(String, f32)>,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More of the text with that number.
    Piece(usize, Piece),
    /// The text with that number has ended; true where it was cut for its length.
    End(usize, bool),
    /// Tokens of the prompt.
    PromptTokens(usize),
    /// Nothing comes any more.
    Done,
}

/// Makes events of bytes.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    bytes: usize,
}

impl Events {
    /// Takes bytes as they come.
    ///
    /// # Errors
    /// Where they are no events of a completion, too many, or tell of an error.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Trouble> {
        self.bytes += bytes.len();
        if self.bytes > MAX_ANSWER {
            return Err(Trouble::Garbled("the answer is endless"));
        }
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + part.len() > MAX_LINE {
                return Err(Trouble::Garbled("an event is too long"));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(of_line(&line)?);
            }
        }
        Ok(events)
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    text: String,
    logprobs: Option<Value>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<usize>,
}

/// OpenAI words log-probabilities one way for completions and another one for chats; llama.cpp takes the latter for both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Logprobs {
    Columns {
        tokens: Vec<String>,
        token_logprobs: Vec<Option<f32>>,
        #[serde(default)]
        top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
    },
    Rows {
        content: Vec<Row>,
    },
}

#[derive(Deserialize)]
struct Row {
    token: String,
    logprob: Option<f32>,
    #[serde(default)]
    top_logprobs: Vec<Likely>,
}

#[derive(Deserialize)]
struct Likely {
    token: String,
    logprob: f32,
}

fn of_line(line: &[u8]) -> Result<Vec<Event>, Trouble> {
    let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
        // A comment, a field that means nothing here, or the end of an event.
        return Ok(Vec::new());
    };
    if data == b"[DONE]" {
        return Ok(vec![Event::Done]);
    }
    let garbled = |_| Trouble::Garbled("an event is no piece of a completion");
    let Some(chunk) = serde_json::from_slice::<Option<Chunk>>(data).map_err(garbled)? else {
        // llama.cpp begins so where there are several prompts.
        return Ok(Vec::new());
    };
    if chunk.error.is_some_and(|error| !error.is_null()) {
        return Err(Trouble::Broken);
    }
    let prompt_tokens = chunk.usage.and_then(|usage| usage.prompt_tokens);
    let mut events: Vec<Event> = prompt_tokens.map(Event::PromptTokens).into_iter().collect();
    for choice in chunk.choices {
        let index = choice.index;
        events
            .extend(pieces(choice.text, choice.logprobs).into_iter().map(|piece| Event::Piece(index, piece)));
        if let Some(reason) = choice.finish_reason {
            events.push(Event::End(index, reason == "length"));
        }
    }
    Ok(events)
}

/// The tokens of a text; all of it as one where they are not told, or don't make up the text.
fn pieces(text: String, logprobs: Option<Value>) -> Vec<Piece> {
    if text.is_empty() {
        return Vec::new();
    }
    let logprobs = logprobs.and_then(|value| serde_json::from_value(value).ok());
    let pieces: Vec<Piece> = match logprobs {
        Some(Logprobs::Columns { tokens, token_logprobs, top_logprobs }) => {
            let mut top = top_logprobs.unwrap_or_default().into_iter();
            let mut logprobs = token_logprobs.into_iter();
            let piece = |text| Piece {
                text,
                logprob: logprobs.next().flatten().filter(|logprob| logprob.is_finite()),
                top: top.next().flatten().unwrap_or_default().into_iter().collect(),
            };
            tokens.into_iter().map(piece).collect()
        }
        Some(Logprobs::Rows { content }) => {
            let likely = |likely: Likely| (likely.token, likely.logprob);
            let piece = |row: Row| Piece {
                text: row.token,
                logprob: row.logprob.filter(|logprob| logprob.is_finite()),
                top: row.top_logprobs.into_iter().map(likely).collect(),
            };
            content.into_iter().map(piece).collect()
        }
        None => Vec::new(),
    };
    let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    if whole == text { pieces } else { vec![Piece { text, ..Piece::default() }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Result<Vec<Event>, Trouble> {
        Events::default().take(text.as_bytes())
    }

    fn piece(text: &str, logprob: Option<f32>) -> Event {
        Event::Piece(0, Piece { text: text.to_owned(), logprob, top: Vec::new() })
    }

    #[test]
    fn events_come_in_any_portions() {
        let text = ": hello\r\n\r\ndata: {\"choices\":[{\"index\":0,\"text\":\" ä\",\"finish_reason\":null}]}\r\n\r\n\
                    event: x\ndata:{\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3}}\n\n\
                    data: null\n\ndata: [DONE]\n\n";
        let expected = [piece(" ä", None), Event::PromptTokens(3), Event::End(0, true), Event::Done];
        assert_eq!(events(text).unwrap(), expected);
        let mut one_by_one = Events::default();
        let found: Vec<Event> = text.bytes().flat_map(|byte| one_by_one.take(&[byte]).unwrap()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_forms_of_log_probabilities_are_read() {
        let columns = r#"data: {"choices":[{"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[-0.5,null],"top_logprobs":[{"a":-0.5,"c":-1.0},null],"text_offset":[0,1]}}]}"#;
        let rows = r#"data: {"choices":[{"text":"ab","logprobs":{"content":[{"token":"a","bytes":[97],"logprob":-0.5,"top_logprobs":[{"token":"a","logprob":-0.5},{"token":"c","logprob":-1.0}]},{"token":"b","logprob":null}]}}]}"#;
        let top = vec![("a".to_owned(), -0.5), ("c".to_owned(), -1.0)];
        let expected =
            [Event::Piece(0, Piece { text: "a".to_owned(), logprob: Some(-0.5), top }), piece("b", None)];
        assert_eq!(events(&format!("{columns}\n")).unwrap(), expected);
        assert_eq!(events(&format!("{rows}\n")).unwrap(), expected);
    }

    #[test]
    fn tokens_that_are_not_the_text_are_not_believed() {
        let odd = r#"data: {"choices":[{"text":" ä","logprobs":{"tokens":["bytes:\\xc3"],"token_logprobs":[-1]}}]}"#;
        assert_eq!(events(&format!("{odd}\n")).unwrap(), [piece(" ä", None)]);
        let odder = r#"data: {"choices":[{"text":"a","logprobs":7}]}"#;
        assert_eq!(events(&format!("{odder}\n")).unwrap(), [piece("a", None)]);
    }

    #[test]
    fn what_is_no_answer_is_told_from_one() {
        assert!(matches!(events("data: <html>\n"), Err(Trouble::Garbled(_))));
        assert!(matches!(events("data: {\"choices\":7}\n"), Err(Trouble::Garbled(_))));
        assert_eq!(events("data: {\"error\":{\"message\":\"no memory\"}}\n"), Err(Trouble::Broken));
        assert!(matches!(events(&"x".repeat(MAX_LINE + 1)), Err(Trouble::Garbled(_))));
        let mut endless = Events::default();
        let comment = format!(": {}\n", "x".repeat(1 << 16));
        assert!((0..=MAX_ANSWER / comment.len()).any(|_| endless.take(comment.as_bytes()).is_err()));
    }
}
