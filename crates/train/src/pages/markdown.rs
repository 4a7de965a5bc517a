//! Reads what a Markdown page says about commands.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::{Before, Block, Piece};

/// The pieces of a page, in their order.
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut reader = Reader::default();
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    for event in Parser::new_ext(text, options) {
        reader.read(event);
    }
    reader.end_text();
    reader.pieces
}

#[derive(Debug)]
enum Part {
    Text(String),
    Code(String),
}

#[derive(Debug, Default)]
struct Reader {
    pieces: Vec<Piece>,
    /// The text that is being read: a paragraph, an item, a cell.
    parts: Vec<Part>,
    /// The row that is being read.
    cells: Vec<Vec<Part>>,
    block: Option<Block>,
    before: Before,
    in_metadata: bool,
}

impl Reader {
    fn read(&mut self, event: Event<'_>) {
        match event {
            Event::Start(Tag::MetadataBlock(_)) => self.in_metadata = true,
            Event::End(TagEnd::MetadataBlock(_)) => self.in_metadata = false,
            _ if self.in_metadata => {}
            Event::Start(Tag::CodeBlock(kind)) => {
                self.end_text();
                let language = match &kind {
                    CodeBlockKind::Fenced(information) => language(information),
                    CodeBlockKind::Indented => String::new(),
                };
                let before = std::mem::take(&mut self.before);
                self.block = Some(Block { language, lines: Vec::new(), before });
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some(block) = self.block.take() {
                    self.pieces.push(Piece::Block(block));
                }
            }
            Event::Text(text) => match &mut self.block {
                Some(block) => {
                    block
                        .lines
                        .extend(text.strip_suffix('\n').unwrap_or(&text).split('\n').map(str::to_owned));
                }
                None => self.parts.push(Part::Text(text.into_string())),
            },
            Event::Code(code) => self.parts.push(Part::Code(code.into_string())),
            Event::SoftBreak | Event::HardBreak => self.parts.push(Part::Text(" ".to_owned())),
            Event::Start(
                Tag::Paragraph
                | Tag::Item
                | Tag::List(_)
                | Tag::Heading { .. }
                | Tag::Table(_)
                | Tag::BlockQuote(_),
            )
            | Event::End(TagEnd::Paragraph | TagEnd::Item | TagEnd::List(_))
            | Event::Rule => self.end_text(),
            Event::End(TagEnd::Heading(_)) => {
                let text = text(&std::mem::take(&mut self.parts));
                self.before = Before::Heading(text);
            }
            Event::End(TagEnd::TableCell) => self.cells.push(std::mem::take(&mut self.parts)),
            Event::End(TagEnd::TableHead) => self.cells.clear(),
            Event::End(TagEnd::TableRow) => self.end_row(),
            _ => {}
        }
    }

    /// Tells the commands of the text that ends here. It may itself tell what the next block is for.
    fn end_text(&mut self) {
        let parts = std::mem::take(&mut self.parts);
        let is_blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
        if parts.iter().all(is_blank) {
            return;
        }
        match with_description(&parts) {
            Some(piece) => self.pieces.push(piece),
            None => self.pieces.extend(codes(&parts)),
        }
        self.before = Before::Text(text(&parts));
    }

    /// A row with a command in one cell and a text in the next, or the one before, describes it.
    fn end_row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        let mut commands = cells.iter().enumerate().filter(|(_, cell)| is_code(cell));
        if let (Some((at, cell)), None) = (commands.next(), commands.next()) {
            let is_text = |cell: &&Vec<Part>| !text(cell).trim().is_empty() && codes(cell).next().is_none();
            let beside =
                cells.get(at + 1).filter(is_text).or_else(|| at.checked_sub(1).and_then(|i| cells.get(i)));
            if let Some(beside) = beside.filter(is_text) {
                self.pieces.push(Piece::Described {
                    command: text(cell).trim().to_owned(),
                    description: text(beside).trim().to_owned(),
                });
                return;
            }
        }
        self.pieces.extend(cells.iter().flat_map(|cell| codes(cell)));
    }
}

/// The first word of what stands behind a fence: `bash`, `{.bash}`, `sh title=...`, `console,ignore`.
fn language(information: &str) -> String {
    let is_other = |c: char| !(c.is_alphanumeric() || matches!(c, '+' | '-'));
    information.trim_start_matches(is_other).split(is_other).next().unwrap_or_default().to_lowercase()
}

fn text(parts: &[Part]) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) | Part::Code(text) => text.as_str(),
        })
        .collect()
}

fn codes(parts: &[Part]) -> impl Iterator<Item = Piece> {
    parts.iter().filter_map(|part| match part {
        Part::Code(code) => Some(Piece::Inline(code.clone())),
        Part::Text(_) => None,
    })
}

fn is_code(parts: &[Part]) -> bool {
    codes(parts).count() == 1
        && parts
            .iter()
            .all(|part| matches!(part, Part::Code(_)) || text(std::slice::from_ref(part)).trim().is_empty())
}

/// A text of the form "What it does: `command`" or "`command` - what it does".
fn with_description(parts: &[Part]) -> Option<Piece> {
    let mut at = parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Code(_))).map(|(i, _)| i);
    let (Some(at), None) = (at.next(), at.next()) else { return None };
    let (before, after) = (text(&parts[..at]), text(&parts[at + 1..]));
    let (before, after) = (before.trim(), after.trim());
    let command = text(&parts[at..=at]);
    let dashes = [':', '-', '–', '—', '#'];
    if !before.is_empty() && after.trim_matches(['.', ':', ' ']).is_empty() {
        // As a sentence that leads to a command.
        let description = format!("{}:", before.trim_end_matches([':', '-', '–', '—', ' ']));
        return Some(Piece::Described { command, description });
    }
    if before.is_empty() && after.starts_with(dashes) {
        let description = after.trim_start_matches(dashes).trim().to_owned();
        return Some(Piece::Described { command, description });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::told;
    use super::*;

    #[test]
    fn blocks_have_a_language_and_what_stands_before_them() {
        assert_eq!(
            told(&pieces(
                "Look around:\n\n```bash title=x\nls -l\n\npwd\n```\n\n# Go\n\n~~~{.sh}\ncd /\n~~~\n\n    ls\n"
            )),
            ["bash [Look around:] ls -l||pwd", "sh [# Go] cd /", " [] ls"]
        );
    }

    #[test]
    fn a_block_in_a_list_belongs_to_its_item() {
        assert_eq!(
            told(&pieces(
                "1. Enter the folder.\n   ```sh\n   cd src\n   ```\n2. Build.\n\n   ```sh\n   make\n   ```\n"
            )),
            ["sh [Enter the folder.] cd src", "sh [Build.] make"]
        );
    }

    #[test]
    fn commands_stand_in_sentences() {
        assert_eq!(
            told(&pieces("Call `git status`, then\n`git add .` again.")),
            ["`git status`", "`git add .`"]
        );
    }

    #[test]
    fn items_and_rows_describe_a_command() {
        assert_eq!(
            told(&pieces(
                "* List all: `ls -a`\n* `ls -l` - Show details\n\n| do | what |\n| - | - |\n| `pwd` | Say where |\n"
            )),
            ["`ls -a` is List all:", "`ls -l` is Show details", "`pwd` is Say where"]
        );
    }

    #[test]
    fn the_head_of_a_page_is_no_text() {
        assert_eq!(told(&pieces("---\ntitle: x\n---\n\n```\nls\n```\n")), [" [] ls"]);
    }
}
