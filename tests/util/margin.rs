//! The right margin, where a terminal is told not to wrap (`CSI ? 7 l`), which the emulator (vt100 0.16.2) does not know. What it
//! draws there is right as long as the cursor moves before the next character, but for a wide one in the last column: that has no
//! room, and is left out.

use unicode_width::UnicodeWidthStr as _;

const OFF: &[u8] = b"\x1b[?7l";
const ON: &[u8] = b"\x1b[?7h";

/// What was written last, as far as it matters.
#[derive(Debug, Default)]
pub struct Margin {
    /// Whether the terminal does not wrap.
    off: bool,
    /// As many bytes as switch that.
    last: Vec<u8>,
    /// The beginning of a character.
    character: Vec<u8>,
}

impl Margin {
    /// Draws what is written.
    pub fn draw(&mut self, parser: &mut vt100::Parser, written: &[u8]) {
        for &byte in written {
            self.character.push(byte);
            if self.off && !byte.is_ascii() && self.character.len() < 4 && !self.is_whole() {
                continue;
            }
            if !(self.off && self.has_no_room(parser.screen())) {
                parser.process(&self.character);
            }
            self.character.clear();
            if self.last.len() == OFF.len() {
                self.last.remove(0);
            }
            self.last.push(byte);
            self.off = self.last == OFF || self.off && self.last != ON;
        }
    }

    fn is_whole(&self) -> bool {
        std::str::from_utf8(&self.character).is_ok()
    }

    fn has_no_room(&self, screen: &vt100::Screen) -> bool {
        std::str::from_utf8(&self.character).is_ok_and(|character| character.width() == 2)
            && screen.cursor_position().1 + 1 >= screen.size().1
    }
}

#[test]
fn a_wide_character_in_the_last_column_is_left_out_where_nothing_wraps() {
    for (written, rows) in [
        ("\x1b[?7lab日", ["ab", ""]),
        ("\x1b[?7la日", ["a日", ""]),
        ("\x1b[?7lab\x1b[?7h日", ["ab", "日"]),
        ("ab日", ["ab", "日"]),
    ] {
        // In one piece, and byte by byte.
        for size in [written.len(), 1] {
            let (mut parser, mut margin) = (vt100::Parser::new(2, 3, 0), Margin::default());
            written.as_bytes().chunks(size).for_each(|piece| margin.draw(&mut parser, piece));
            assert_eq!(parser.screen().rows(0, 3).collect::<Vec<_>>(), rows, "{written:?}");
        }
    }
}
