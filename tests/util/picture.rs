//! Pictures of a terminal's screen, for the README.

use std::fmt::Write as _;

/// Width and height of a character in the picture.
const CELL: (f32, f32) = (8.4, 18.0);

/// Around the characters.
const MARGIN: f32 = 12.0;

/// The first so many rows of a screen as SVG, with a block where the cursor is. The same screen is always the same text.
pub fn svg(screen: &vt100::Screen, rows: u16) -> String {
    let (_, columns) = screen.size();
    let width = f32::from(columns).mul_add(CELL.0, 2.0 * MARGIN);
    let height = f32::from(rows).mul_add(CELL.1, 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#16181d\"/>\n"
    );
    let (row, column) = screen.cursor_position();
    // Writing to a String can't fail.
    let _ = writeln!(
        svg,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#4c566a\"/>",
        f32::from(column).mul_add(CELL.0, MARGIN),
        f32::from(row).mul_add(CELL.1, MARGIN),
        CELL.0,
        CELL.1
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let (text, look, next) = run(screen, row, column);
            // Blanks have no colour, and stretch nothing.
            let length = text.trim_end().chars().count();
            if length > 0 {
                let x = f32::from(column).mul_add(CELL.0, MARGIN);
                let y = f32::from(row).mul_add(CELL.1, MARGIN + 0.75 * CELL.1);
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{look}\" xml:space=\"preserve\" textLength=\"{:.1}\">{}</text>",
                    length as f32 * CELL.0,
                    escaped(text.trim_end())
                );
            }
            column = next;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The characters from a column on that look the same, their colour, and the column after them.
fn run(screen: &vt100::Screen, row: u16, column: u16) -> (String, &'static str, u16) {
    let (_, columns) = screen.size();
    let look = |column| screen.cell(row, column).map_or("#d8dee9", colour);
    let (mut text, mut next) = (String::new(), column);
    while next < columns && look(next) == look(column) {
        match screen.cell(row, next) {
            Some(cell) if cell.is_wide_continuation() => {}
            Some(cell) if cell.has_contents() => text.push_str(cell.contents()),
            _ => text.push(' '),
        }
        next += 1;
    }
    (text, look(column), next)
}

fn colour(cell: &vt100::Cell) -> &'static str {
    match cell.fgcolor() {
        _ if cell.dim() => "#6b7280",
        vt100::Color::Idx(8) => "#6b7280",
        vt100::Color::Idx(1 | 9) => "#e06c75",
        vt100::Color::Idx(2 | 10) => "#98c379",
        vt100::Color::Idx(3 | 11) => "#e5c07b",
        vt100::Color::Idx(4 | 12) => "#61afef",
        _ => "#d8dee9",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
