//! Bytes of tokens on their way to text: characters that span tokens are held back until they are whole, and text
//! that may become a stop string until it has become something else.

/// The text of one generation.
pub(super) struct TextBuffer<'a> {
    bytes: Vec<u8>,
    /// How much has been handed out.
    given: usize,
    stops: &'a [String],
    stop_at_newline: bool,
    stopped: bool,
}

impl<'a> TextBuffer<'a> {
    pub(super) fn new(stops: &'a [String], stop_at_newline: bool) -> Self {
        Self { bytes: Vec::new(), given: 0, stops, stop_at_newline, stopped: false }
    }

    /// Appends the bytes of a token and returns the text that is now certain.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        if let Some(at) = self.find_stop() {
            self.bytes.truncate(at);
            self.stopped = true;
        }
        let held = if self.stopped { 0 } else { self.possible_stop() };
        self.give(self.bytes.len() - held)
    }

    /// The text that was held back for a stop string, when no more tokens come. An unfinished character is dropped.
    pub(super) fn finish(&mut self) -> String {
        self.give(self.bytes.len())
    }

    /// True once a stop string was found; the text ends before it.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Hands out all whole characters before `end`.
    fn give(&mut self, end: usize) -> String {
        let mut text = String::new();
        for chunk in self.bytes[self.given..end].utf8_chunks() {
            text.push_str(chunk.valid());
            self.given += chunk.valid().len();
            let invalid = chunk.invalid();
            let unfinished = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if invalid.is_empty() || (unfinished && self.given + invalid.len() == end) {
                break;
            }
            // Bytes that no further byte can make a character.
            text.push(char::REPLACEMENT_CHARACTER);
            self.given += invalid.len();
        }
        text
    }

    fn stops(&self) -> impl Iterator<Item = &[u8]> {
        let newline = self.stop_at_newline.then_some(b"\n".as_slice());
        newline.into_iter().chain(self.stops.iter().map(String::as_bytes)).filter(|stop| !stop.is_empty())
    }

    /// Where the first stop string begins. What was given out holds none.
    fn find_stop(&self) -> Option<usize> {
        let rest = &self.bytes[self.given..];
        self.stops()
            .filter_map(|stop| rest.windows(stop.len()).position(|w| w == stop))
            .min()
            .map(|at| at + self.given)
    }

    /// Length of the longest end of the text that is the beginning of a stop string.
    fn possible_stop(&self) -> usize {
        let rest = &self.bytes[self.given..];
        self.stops()
            .flat_map(|stop| (1..stop.len()).filter(move |&n| rest.ends_with(&stop[..n])))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::TextBuffer;

    #[test]
    fn characters_are_never_split() {
        let mut text = TextBuffer::new(&[], false);
        let bytes = "aé漢🚀".as_bytes();
        let given: Vec<String> = bytes.iter().map(|&b| text.push(&[b])).collect();
        assert_eq!(given, ["a", "", "é", "", "", "漢", "", "", "", "🚀"]);
        assert_eq!(text.push(&bytes[1..2]) + &text.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut text = TextBuffer::new(&[], false);
        assert_eq!(text.push(b"\x80a\xff\xc3"), "\u{FFFD}a\u{FFFD}");
        assert_eq!(text.push(b"\xa9"), "é");
    }

    #[test]
    fn stop_strings_are_held_back_and_cut() {
        let stops = ["END".to_owned()];
        let mut text = TextBuffer::new(&stops, true);
        assert_eq!(text.push(b"a E"), "a ");
        assert_eq!(text.push(b"N"), "");
        assert_eq!(text.push(b"x"), "ENx");
        assert_eq!(text.push(b"yEND more"), "y");
        assert!(text.stopped());

        let mut text = TextBuffer::new(&stops, true);
        assert_eq!(text.push(b"ls\nEND"), "ls");
        assert!(text.stopped());

        let mut text = TextBuffer::new(&stops, true);
        assert_eq!(text.push(b"EN"), "");
        assert_eq!(text.finish(), "EN");
    }
}
