//! What is on a screen and above it, with the ghost told from the rest.

use crate::util::terminal::is_ghost;

/// The rows of a terminal from one of them on, including those that have left the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows without blanks at their ends, without the ghost, and without empty rows at the end.
    pub rows: Vec<String>,
    /// Where the cursor stands, as an index of `rows` and a column.
    pub cursor: (usize, usize),
    /// The ghost after the cursor. Anything that looks like one elsewhere is part of `rows`.
    pub ghost: String,
}

struct Cell {
    text: String,
    is_ghost: bool,
}

/// How many rows have left the screen.
pub fn above(screen: &mut vt100::Screen) -> usize {
    screen.set_scrollback(usize::MAX);
    let above = screen.scrollback();
    screen.set_scrollback(0);
    above
}

impl Page {
    /// Reads from a row on, which is counted from the first that was ever written.
    pub fn read(screen: &mut vt100::Screen, from: usize) -> Self {
        let above = above(screen);
        let (height, width) = screen.size();
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        for row in from..above {
            screen.set_scrollback(above - row);
            rows.push(cells(screen, 0, width));
        }
        screen.set_scrollback(0);
        let scrolled = from.saturating_sub(above);
        rows.extend((scrolled as u16..height).map(|row| cells(screen, row, width)));
        let (row, column) = screen.cursor_position();
        let mut cursor = ((above + usize::from(row)).saturating_sub(from), usize::from(column));
        if column >= width {
            // The terminal has not wrapped yet, and will.
            cursor = (cursor.0 + 1, 0);
        }
        let ghost = take_ghost(&mut rows, cursor);
        let text = |row: &Vec<Cell>| row.iter().map(|cell| cell.text.as_str()).collect::<String>();
        let mut rows: Vec<String> = rows.iter().map(|row| text(row).trim_end().to_owned()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        Self { rows, cursor, ghost }
    }

    /// The row of the prompt after which the cursor stands.
    pub fn prompt(&self) -> usize {
        let rows = self.rows.iter().take(self.cursor.0 + 1);
        rows.enumerate().rfind(|(_, row)| row.starts_with('>')).map_or(0, |(row, _)| row)
    }

    /// What stands after the prompt, without blanks, which may be the terminal's own.
    pub fn line(&self) -> String {
        let text = self.rows.get(self.prompt()..).unwrap_or_default().concat();
        without_blanks(text.trim_start_matches('>'))
    }

    /// Whether the cursor stands after a prompt, and nothing else does.
    pub fn is_at_prompt(&self) -> bool {
        self.cursor.1 == 2 && self.cursor.0 + 1 == self.rows.len() && self.rows[self.cursor.0] == ">"
    }
}

/// A text without its blanks.
pub fn without_blanks(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace()).collect()
}

fn cells(screen: &vt100::Screen, row: u16, width: u16) -> Vec<Cell> {
    let cells = (0..width).map_while(|column| screen.cell(row, column));
    cells
        .map(|cell| Cell {
            text: match () {
                () if cell.has_contents() => cell.contents().to_owned(),
                () if cell.is_wide_continuation() => String::new(),
                () => " ".to_owned(),
            },
            is_ghost: is_ghost(cell),
        })
        .collect()
}

/// Blanks the ghost that begins at the cursor, over as many rows as it has, and returns it.
fn take_ghost(rows: &mut [Vec<Cell>], (row, column): (usize, usize)) -> String {
    let mut ghost = String::new();
    for (index, cells) in rows.iter_mut().enumerate().skip(row) {
        let first = if index == row { column } else { 0 };
        let width = cells.len();
        for (place, cell) in cells.iter_mut().enumerate().skip(first) {
            if cell.is_ghost {
                ghost.push_str(&cell.text);
                cell.text = " ".repeat(cell.text.chars().count().min(1));
            } else if !cell.text.is_empty() && (place + 1 < width || cell.text != " " || ghost.is_empty()) {
                // What is wide and finds one column wraps, and leaves that column empty.
                return ghost.trim_end().to_owned();
            }
        }
    }
    ghost.trim_end().to_owned()
}
