//! What a fish is shown: which suggestion continues the line as it is now, and how it is drawn.
//!
//! A function of fish that fills a variable with what another prints costs fish a thread that wakes another, so it is done
//! here: the shell tells its line after each key, and compares what comes back.

use nemoterm_suggest::clean::is_displayable;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::pipe::SEPARATOR;

/// Characters of a suggestion that are drawn. More has no room in a line, and a shell has to read it.
const MAX_DRAWN: usize = 400;

/// Fields of a record before the pieces of the ghost.
const FIXED_FIELDS: usize = 7;

/// The line of one shell, and the suggestions for it.
#[derive(Debug, Default)]
pub struct Shown {
    /// The shell's number for its prompt.
    prompt: u64,
    /// The line as the shell has told it last.
    line: String,
    /// The line that was asked about last, its number, and whether the user wanted to know.
    about: String,
    sequence: u64,
    asked: bool,
    /// The suggestions as whole lines, the one that is shown first.
    found: Vec<String>,
    /// Whether they take the place of the line (a `# description`).
    replaces: bool,
    /// How far to go in the suggestions when more arrive.
    step: isize,
    /// Whether the user has stepped to the one that is shown.
    chosen: bool,
}

/// Whether a suggestion goes on after a line with something that is drawn after it: an accent of its own would be drawn over the
/// last letter.
fn continues(found: &str, line: &str) -> bool {
    found.strip_prefix(line).is_some_and(|rest| !rest.is_empty() && is_displayable(rest))
}

impl Shown {
    /// The line has changed. Gives the number of a request for it, unless what is shown continues it.
    pub fn typed(&mut self, prompt: u64, line: &str) -> Option<u64> {
        let goes_on = prompt == self.prompt
            && !self.replaces
            && line.len() > self.line.len()
            && line.starts_with(&self.line)
            && self.found.first().is_some_and(|found| continues(found, line));
        if goes_on {
            line.clone_into(&mut self.line);
            self.found.retain(|found| continues(found, line));
            return None;
        }
        *self = Self { prompt, line: line.to_owned(), sequence: self.sequence, ..Self::default() };
        // Blanks begin every command.
        let blank = !line.is_empty() && line.trim().is_empty();
        (!blank).then(|| self.ask(false))
    }

    /// The user wants to know. Gives the number of a request, unless that was asked already: then the next one is shown.
    pub fn asked(&mut self, prompt: u64, line: &str) -> Option<u64> {
        if self.is_about(prompt, line) && self.asked {
            return self.stepped(prompt, line, 1);
        }
        if !self.is_about(prompt, line) {
            *self = Self { prompt, line: line.to_owned(), sequence: self.sequence, ..Self::default() };
        }
        Some(self.ask(true))
    }

    /// The user wants the suggestion that is so much further on. The first time, more are asked for.
    pub fn stepped(&mut self, prompt: u64, line: &str, by: isize) -> Option<u64> {
        if !self.is_about(prompt, line) {
            return self.asked(prompt, line);
        }
        self.chosen = true;
        if self.found.len() > 1 {
            self.turn(by);
        } else if !self.asked {
            self.step = by;
        }
        (!self.asked).then(|| self.ask(true))
    }

    /// Takes in what may be added to the line of that request, or may replace it. Tells whether there is something to show.
    pub fn take(&mut self, sequence: u64, replaces: bool, texts: &[String]) -> bool {
        if sequence != self.sequence {
            return false;
        }
        let whole = |text: &String| if replaces { text.clone() } else { format!("{}{text}", self.about) };
        let mut found: Vec<String> = texts.iter().map(whole).collect();
        if !replaces {
            found.retain(|found| continues(found, &self.line));
        }
        if found.is_empty() {
            return false;
        }
        let before = std::mem::replace(&mut self.found, found);
        self.replaces = replaces;
        // What the user has stepped to stays, if it is still there.
        if self.chosen
            && let Some(place) = self.found.iter().position(|found| before.first() == Some(found))
        {
            self.found.rotate_left(place);
        }
        let step = std::mem::take(&mut self.step);
        self.turn(step);
        true
    }

    /// What the shell reads, see [`super`]. Nothing where there is no suggestion.
    pub fn record(&self) -> Option<String> {
        let found = self.found.first()?;
        let (verb, text, ghost) = if self.replaces {
            ("replace", found.as_str(), format!("  -> {found}"))
        } else {
            let rest = found.strip_prefix(&self.line)?;
            ("add", rest, rest.to_owned())
        };
        let (pieces, wipes): (Vec<String>, Vec<String>) = if self.replaces {
            // No key is the whole of it.
            (vec![ghost.clone()], vec![wiping(&ghost).concat()])
        } else {
            (ghost.chars().map(String::from).collect(), wiping(&ghost))
        };
        let last = FIXED_FIELDS + pieces.len();
        let (prompt, drawing) = (self.prompt.to_string(), drawing(&ghost));
        let (last, next) = (last.to_string(), (last + 1).to_string());
        let fixed = [&prompt, &self.line, verb, text, &drawing, &last, &next];
        let fields: Vec<&str> =
            fixed.into_iter().chain(pieces.iter().chain(&wipes).map(String::as_str)).collect();
        Some(fields.join(SEPARATOR.encode_utf8(&mut [0; 4])) + "\0")
    }

    fn is_about(&self, prompt: u64, line: &str) -> bool {
        self.prompt == prompt && self.line == line && !self.found.is_empty()
    }

    fn ask(&mut self, asked: bool) -> u64 {
        self.sequence += 1;
        self.asked = asked;
        self.line.clone_into(&mut self.about);
        self.sequence
    }

    fn turn(&mut self, by: isize) {
        if let Ok(count @ 1..) = isize::try_from(self.found.len()) {
            self.found.rotate_left(by.rem_euclid(count).unsigned_abs());
        }
    }
}

/// What draws a text at the cursor, once that is saved, and leaves it elsewhere. The characters are written from the last to the first:
/// what has no room is written to the last column, one over the other, until the one comes that belongs there. So nothing wraps
/// (where on the screen the line is, nobody tells us), and a prompt on the right stays, as far as the text does not need its place.
///
/// A wide character would wrap in the last column. With one, each character is inserted at the cursor, what has no room goes over
/// the margin, along with what stood there, and the terminal is told not to wrap meanwhile.
fn drawing(text: &str) -> String {
    let mut cells: Vec<String> = Vec::new();
    for character in text.chars().take(MAX_DRAWN) {
        match cells.last_mut() {
            Some(cell) if character.width() == Some(0) => cell.push(character),
            _ => cells.push(character.to_string()),
        }
    }
    let cells = cells.iter().enumerate().rev();
    if is_wide(text) {
        let cells = cells.map(|(_, cell)| format!("\x1b8\x1b[{}@{cell}", cell.width().max(1)));
        return format!("\x1b[?7l{}\x1b[?7h", cells.collect::<String>());
    }
    cells
        .map(|(place, cell)| match place {
            0 => format!("\x1b8{cell}"),
            place => format!("\x1b8\x1b[{place}C{cell}"),
        })
        .collect()
}

/// For each character of a text what wipes it, and goes on to the next.
fn wiping(text: &str) -> Vec<String> {
    let wide = is_wide(text);
    let wipes = text.chars().map(|character| match character.width() {
        _ if wide => "\x1b[K",
        Some(0) => "",
        _ => "\x1b[X\x1b[C",
    });
    wipes.map(str::to_owned).collect()
}

fn is_wide(text: &str) -> bool {
    // Some pairs are wide where neither is.
    text.chars().any(|character| character.width() > Some(1)) || text.contains('\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// The line and what is to be added.
    fn seen(shown: &Shown) -> Option<(String, String)> {
        let record = shown.record()?;
        let fields: Vec<&str> = record.trim_end_matches('\0').split(SEPARATOR).collect();
        Some((fields[1].to_owned(), fields[3].to_owned()))
    }

    fn shows(line: &str, text: &str) -> Option<(String, String)> {
        Some((line.to_owned(), text.to_owned()))
    }

    #[test]
    fn an_accent_is_not_drawn_over_what_was_typed() {
        let mut shown = Shown::default();
        shown.typed(1, "e");
        assert!(shown.take(1, false, &texts(&["e\u{301} z"])));
        assert_eq!(shown.typed(1, "ee"), Some(2), "nothing goes on");
        assert_eq!(seen(&shown), None);
        assert!(!shown.take(2, false, &texts(&["\u{301} z"])));
        assert_eq!(shown.typed(1, "ee\u{301}"), Some(3));
        assert!(shown.take(3, false, &texts(&[" z"])));
        assert_eq!(seen(&shown), shows("ee\u{301}", " z"));
    }

    #[test]
    fn what_is_typed_as_suggested_is_not_asked_about() {
        let mut shown = Shown::default();
        assert_eq!(shown.typed(1, "gi"), Some(1));
        assert_eq!(seen(&shown), None);
        assert!(shown.take(1, false, &texts(&["t status", "t stash", "mp"])));
        assert_eq!(shown.typed(1, "git s"), None);
        assert_eq!(seen(&shown), shows("git s", "tatus"));
        // The model's answer to the older line continues this one too.
        assert!(shown.take(1, false, &texts(&["mp", "t switch", "t status"])));
        assert_eq!(seen(&shown), shows("git s", "witch"));
        // One that does not leaves what is shown.
        assert!(!shown.take(1, false, &texts(&["mp"])));
        assert_eq!(seen(&shown), shows("git s", "witch"));
        // To its end, off its path, back, and at another prompt.
        assert_eq!(shown.typed(1, "git switch"), Some(2));
        assert_eq!(shown.typed(1, "git switchx"), Some(3));
        assert_eq!(shown.typed(1, "git switch"), Some(4));
        assert!(shown.take(4, false, &texts(&[" main"])));
        assert_eq!(shown.typed(2, "git switch "), Some(5));
        assert!(!shown.take(4, false, &texts(&[" main"])), "it is late");
        assert_eq!(seen(&shown), None);
    }

    #[test]
    fn blanks_are_no_question_and_nothing_is() {
        let mut shown = Shown::default();
        assert_eq!(shown.typed(1, "  "), None);
        assert_eq!(shown.typed(1, ""), Some(1));
    }

    #[test]
    fn more_are_asked_for_at_the_first_step() {
        let mut shown = Shown::default();
        shown.typed(1, "make b");
        shown.take(1, false, &texts(&["uild"]));
        assert_eq!(shown.stepped(1, "make b", 1), Some(2));
        assert!(shown.take(2, false, &texts(&["uild", "ench", "ook"])));
        assert_eq!(seen(&shown), shows("make b", "ench"));
        assert_eq!(shown.stepped(1, "make b", -1), None);
        assert_eq!(shown.stepped(1, "make b", -1), None);
        assert_eq!(seen(&shown), shows("make b", "ook"));
        // What was chosen stays where others come.
        assert!(shown.take(2, false, &texts(&["undle", "ook"])));
        assert_eq!(seen(&shown), shows("make b", "ook"));
        // Asked once more, the next one is shown.
        assert_eq!(shown.asked(1, "make b"), None);
        assert_eq!(seen(&shown), shows("make b", "undle"));
        // Along with what was chosen goes what begins alike.
        assert_eq!(shown.typed(1, "make bu"), None);
        assert_eq!(shown.asked(1, "make bu"), None);
        assert_eq!(seen(&shown), shows("make bu", "ndle"));
        assert_eq!(shown.asked(1, "make c"), Some(3));
    }

    #[test]
    fn a_description_is_replaced_and_never_typed_along() {
        let mut shown = Shown::default();
        shown.typed(7, "# hi");
        assert!(shown.take(1, true, &texts(&["echo hi"])));
        let (drawn, wipes) = (drawing("  -> echo hi"), "\x1b[X\x1b[C".repeat(12));
        assert_eq!(
            shown.record().unwrap(),
            format!("7\x1f# hi\x1freplace\x1fecho hi\x1f{drawn}\x1f8\x1f9\x1f  -> echo hi\x1f{wipes}\0")
        );
        assert_eq!(shown.typed(7, "# hi "), Some(2));
        assert_eq!(seen(&shown), None);
    }

    #[test]
    fn pieces_of_the_ghost_are_told_by_their_places() {
        let mut shown = Shown::default();
        shown.typed(1, "l");
        shown.take(1, false, &texts(&["s e\u{301}"]));
        let record = shown.record().unwrap();
        let fields: Vec<&str> = record.trim_end_matches('\0').split(SEPARATOR).collect();
        let (last, next): (usize, usize) = (fields[5].parse().unwrap(), fields[6].parse().unwrap());
        // Counted from one.
        assert_eq!(fields[FIXED_FIELDS..last], ["s", " ", "e", "\u{301}"]);
        assert_eq!(fields[next - 1..], ["\x1b[X\x1b[C", "\x1b[X\x1b[C", "\x1b[X\x1b[C", ""]);
    }

    #[test]
    fn characters_are_drawn_from_the_last_to_the_first() {
        assert_eq!(drawing("xe\u{301}y"), "\x1b8\x1b[2Cy\x1b8\x1b[1Ce\u{301}\x1b8x");
        assert_eq!(drawing("日e\u{301}"), "\x1b[?7l\x1b8\x1b[1@e\u{301}\x1b8\x1b[2@日\x1b[?7h");
        assert_eq!(drawing(&"x".repeat(9999)).matches('x').count(), MAX_DRAWN);
        assert_eq!(wiping("日x"), ["\x1b[K", "\x1b[K"]);
    }
}
