//! Bytes that put a ghost on the screen after the cursor, and take it away, with the cursor staying where it is.

use unicode_width::UnicodeWidthChar as _;

/// The screen, and where on it the line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height of the screen.
    pub rows: usize,
    /// Width of the screen.
    pub columns: usize,
    /// Rows of the line above the cursor; those must not scroll away, since readline goes back to them.
    pub above: usize,
    /// Column of the cursor, from 0.
    pub column: usize,
    /// Whether text goes on in the next row at the right margin, and not before a further character comes.
    pub wraps: bool,
    /// Whether the terminal is written to in UTF-8.
    pub unicode: bool,
}

/// A ghost, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// What to write.
    pub bytes: String,
    /// Rows below the cursor's that it takes.
    pub below: usize,
}

/// What stands for the part of a ghost that has no room.
const MORE: char = '…';

/// Draws a text after the cursor; nothing where it can't be drawn with certainty. `style` are the parameters of
/// SGR.
pub fn draw(text: &str, place: Place, style: &str) -> Option<Drawing> {
    // What combines with the line would change the line.
    let fits = place.column < place.columns && place.above < place.rows;
    if !fits || cells(text.chars().next()?) == 0 || (!place.unicode && !text.is_ascii()) {
        return None;
    }
    let below = if place.wraps { place.rows - place.above - 1 } else { 0 };
    let layout = Layout { columns: place.columns, column: place.column, below, wraps: place.wraps };
    let (shown, below) = match layout.rows(text) {
        Some(below) => (text.to_owned(), below),
        None => layout.clip(text, place.unicode)?,
    };
    let mut bytes = String::new();
    if below > 0 {
        // Makes room first, so that nothing scrolls between saving the cursor and restoring it.
        bytes.extend(std::iter::repeat_n('\n', below));
        bytes.push_str(&format!("\x1b[{below}A\x1b[{}G", place.column + 1));
    }
    bytes.push_str(&format!("\x1b7\x1b[0;{style}m{shown}\x1b8"));
    Some(Drawing { bytes, below })
}

/// Takes away what stands after the cursor, so many rows down.
pub fn erase(below: usize) -> &'static str {
    if below == 0 { "\x1b[K" } else { "\x1b[J" }
}

/// Columns a character takes at most; those that join with their neighbours may take less, which does no harm.
fn cells(character: char) -> usize {
    character.width().unwrap_or(0)
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    columns: usize,
    column: usize,
    below: usize,
    wraps: bool,
}

impl Layout {
    /// Rows below the first that a text takes; nothing if there are not as many.
    fn rows(self, text: &str) -> Option<usize> {
        let (mut row, mut column) = (0, self.column);
        // A terminal that does not wait at the right margin would go on in the next row.
        let right = if self.wraps { self.columns } else { self.columns - 1 };
        for character in text.chars() {
            let cells = cells(character);
            if column + cells > right {
                row += 1;
                column = 0;
            }
            column += cells;
        }
        (row <= self.below && (row > 0 || column <= right)).then_some(row)
    }

    /// The longest beginning that has room, with a mark, and the rows below the first that it takes.
    fn clip(self, text: &str, unicode: bool) -> Option<(String, usize)> {
        let more = if unicode { MORE } else { '>' };
        text.char_indices().rev().find_map(|(end, _)| {
            let shown = format!("{}{more}", &text[..end]);
            self.rows(&shown).filter(|_| end > 0).map(|below| (shown, below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { rows: 3, columns: 10, above: 0, column: 4, wraps: true, unicode: true };

    fn drawn(text: &str, place: Place) -> Option<(String, usize)> {
        draw(text, place, "90").map(|drawing| (drawing.bytes, drawing.below))
    }

    #[test]
    fn a_short_ghost_is_drawn_in_place() {
        assert_eq!(drawn("abcdef", PLACE), Some(("\x1b7\x1b[0;90mabcdef\x1b8".to_owned(), 0)));
        assert_eq!(erase(0), "\x1b[K");
    }

    #[test]
    fn a_long_one_makes_room_first() {
        let bytes = "\n\x1b[1A\x1b[5G\x1b7\x1b[0;90mabcdefg\x1b8".to_owned();
        assert_eq!(drawn("abcdefg", PLACE), Some((bytes, 1)));
        // A wide character does not stand across the margin.
        assert_eq!(drawn("abcde日", PLACE).unwrap().1, 1);
        assert_eq!(drawn("abcd日", PLACE).unwrap().1, 0);
        assert_eq!(erase(1), "\x1b[J");
    }

    #[test]
    fn what_has_no_room_is_clipped() {
        let narrow = Place { wraps: false, ..PLACE };
        assert_eq!(drawn("abcdefg", narrow).unwrap().0, "\x1b7\x1b[0;90mabcd…\x1b8");
        assert_eq!(drawn("日本語語", narrow).unwrap().0, "\x1b7\x1b[0;90m日本…\x1b8");
        let bottom = Place { above: 2, unicode: false, ..PLACE };
        assert_eq!(drawn("abcdefghi", bottom).unwrap().0, "\x1b7\x1b[0;90mabcde>\x1b8");
        assert_eq!(drawn("abc", Place { column: 9, ..bottom }), None);
        let (bytes, below) = drawn(&"x".repeat(99), PLACE).unwrap();
        assert_eq!((bytes.matches('x').count(), bytes.matches('…').count(), below), (25, 1, 2));
    }

    #[test]
    fn nothing_is_drawn_where_it_is_uncertain() {
        assert_eq!(drawn("a", Place { column: 10, ..PLACE }), None);
        assert_eq!(drawn("a", Place { above: 3, ..PLACE }), None);
        assert_eq!(drawn("ü", Place { unicode: false, ..PLACE }), None);
        assert_eq!(drawn("\u{301}a", PLACE), None);
        assert_eq!(drawn("", PLACE), None);
    }
}
