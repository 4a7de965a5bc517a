//! From tokens to text, a token at a time: characters that span tokens are held back until they are whole, and text
//! that may become a stop string until it has become something else.

/// Tokens that are looked at again with each new one. A character has four bytes at most, and a token one at least.
const WINDOW: usize = 8;

/// Makes text of tokens as they come.
#[derive(Debug)]
pub struct Detokenizer {
    /// The last tokens, and how many of them are in the text that was given.
    tokens: Vec<u32>,
    given: usize,
}

impl Detokenizer {
    /// One whose text follows that of `before`.
    pub fn new(before: &[u32]) -> Self {
        let tokens = before[before.len().saturating_sub(WINDOW)..].to_vec();
        Self { given: tokens.len(), tokens }
    }

    /// What this token adds, in whole characters. `decode` is the model's.
    pub fn push(&mut self, token: u32, decode: impl Fn(&[u32]) -> String) -> String {
        self.tokens.push(token);
        let pending = self.tokens.len() - self.given;
        let text = decode(&self.tokens);
        // A beginning of a character decodes as U+FFFD; after so many tokens it is none.
        if text.ends_with(char::REPLACEMENT_CHARACTER) && pending < 4 {
            return String::new();
        }
        // Decoding may change what stands at the front (SentencePiece drops a blank there), so both have the same
        // front.
        let before = decode(&self.tokens[..self.given]);
        let added = text.get(before.len()..).unwrap_or_default().to_owned();
        let excess = self.tokens.len().saturating_sub(WINDOW);
        self.tokens.drain(..excess);
        self.given = self.tokens.len();
        added
    }
}

/// Holds stop strings back.
#[derive(Debug)]
pub struct Stops {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl Stops {
    /// Ends before any of these, none of which is empty.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new(), stopped: false }
    }

    /// Appends text, and returns what is now certain not to belong to a stop string.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let certain = self.held.len() - self.possible_stop();
        self.held.drain(..certain).collect()
    }

    /// The text that was held back, when no more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Length of the longest end of the text that is the beginning of a stop string.
    fn possible_stop(&self) -> usize {
        let beginnings = |stop: &str| {
            stop.char_indices()
                .map(|(at, _)| at)
                .filter(|&at| at > 0 && self.held.ends_with(&stop[..at]))
                .max()
        };
        self.stops.iter().filter_map(|stop| beginnings(stop)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of single bytes that drops a blank at the front, as SentencePiece does.
    fn decode(tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
        let text = String::from_utf8_lossy(&bytes);
        text.strip_prefix(' ').unwrap_or(&text).to_owned()
    }

    #[test]
    fn characters_come_whole_and_blanks_are_kept() {
        for before in ["", "x", "the prompt so far"] {
            let before: Vec<u32> = before.bytes().map(u32::from).collect();
            let mut detokenizer = Detokenizer::new(&before);
            let text = "a é  漢 🚀b";
            let pieces: Vec<String> =
                text.bytes().map(|byte| detokenizer.push(u32::from(byte), decode)).collect();
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)));
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_the_rest_back() {
        let mut detokenizer = Detokenizer::new(&[]);
        let pieces: Vec<_> =
            [0xff, 0xff, 0xff, 0xff, 0x61].iter().map(|&byte| detokenizer.push(byte, decode)).collect();
        assert_eq!(pieces.concat(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}a");
    }

    #[test]
    fn stop_strings_are_held_back_and_cut() {
        let mut stops = Stops::new(&["END".to_owned(), "ß!".to_owned()]);
        assert_eq!(stops.push("a E"), "a ");
        assert_eq!(stops.push("N"), "");
        assert_eq!(stops.push("xß"), "ENx");
        assert_eq!(stops.push("yEN"), "ßy");
        assert_eq!(stops.push("D more"), "");
        assert!(stops.stopped());
        assert_eq!(stops.finish(), "");

        let mut stops = Stops::new(&["END".to_owned()]);
        assert_eq!(stops.push("EN"), "");
        assert_eq!(stops.finish(), "EN");
        assert!(!stops.stopped());
    }

    #[test]
    fn without_stops_nothing_is_held() {
        let mut stops = Stops::new(&[]);
        assert_eq!(stops.push("all of it"), "all of it");
    }
}
