//! Reads what a page of reStructuredText says about commands: as much of the format as that takes.

use std::sync::LazyLock;

use regex::Regex;

use super::{Before, Block, Piece};

struct Patterns {
    /// A directive whose content is code: where it stands, and its language.
    code: Regex,
    option: Regex,
    highlight: Regex,
    literal: Regex,
    item: Regex,
    /// Interpreted text and links: what is shown of them.
    role: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        code: Regex::new(
            r"^\s*\.\. (?:(?:code-block|code|sourcecode|parsed-literal)::\s*([\w+-]*)|(prompt)::)",
        )
        .ok()?,
        option: Regex::new(r"^\s*:\w[\w-]*:").ok()?,
        highlight: Regex::new(r"^\s*\.\. highlight::\s*([\w+-]*)").ok()?,
        literal: Regex::new(r"``([^`]+)``").ok()?,
        item: Regex::new(r"^\s*(?:[-*+]|\d+\.|#\.)\s+").ok()?,
        role: Regex::new(r"(?::[\w:-]+:)?`([^`<]+?)(?:\s*<[^`>]*>)?`_{0,2}").ok()?,
    })
});

/// The pieces of a page, in their order.
pub fn pieces(text: &str) -> Vec<Piece> {
    let Some(patterns) = PATTERNS.as_ref() else { return Vec::new() };
    let lines: Vec<&str> = text.lines().collect();
    let mut pieces = Vec::new();
    let mut paragraph = String::new();
    let mut before = Before::default();
    let mut language = String::new();
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        i += 1;
        if let Some(code) = patterns.code.captures(line) {
            if !paragraph.is_empty() {
                before = Before::Text(std::mem::take(&mut paragraph));
            }
            let name =
                if code.get(2).is_some() { "sh" } else { code.get(1).map_or("", |name| name.as_str()) };
            let content = indented(&lines, &mut i, indentation(line));
            let content: Vec<&str> =
                content.into_iter().skip_while(|line| patterns.option.is_match(line)).collect();
            pieces.push(block(name.to_lowercase(), &content, std::mem::take(&mut before)));
        } else if let Some(named) = patterns.highlight.captures(line) {
            language = named[1].to_lowercase();
        } else if line.trim().is_empty() {
            if !paragraph.is_empty() {
                before = Before::Text(std::mem::take(&mut paragraph));
            }
        } else if is_underline(line) {
            // A line below a title, or above it.
            if !paragraph.is_empty() {
                before = Before::Heading(std::mem::take(&mut paragraph));
            }
        } else if line.trim_start().starts_with("..") {
            paragraph.clear();
            before = Before::default();
        } else {
            pieces.extend(patterns.literal.captures_iter(line).map(|code| Piece::Inline(code[1].to_owned())));
            if patterns.item.is_match(line) {
                paragraph.clear();
            }
            let shown = patterns.item.replace(line, "");
            let shown = patterns.literal.replace_all(&shown, "$1");
            let shown = patterns.role.replace_all(&shown, "$1");
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(shown.trim());
            let next_is_blank = lines.get(i).is_some_and(|line| line.trim().is_empty());
            if let Some(said) = paragraph.strip_suffix("::").filter(|_| next_is_blank) {
                let before = Before::Text(format!("{said}:"));
                paragraph.clear();
                let content = indented(&lines, &mut i, indentation(line));
                if !content.is_empty() {
                    pieces.push(block(language.clone(), &content, before));
                }
            }
        }
    }
    pieces
}

fn block(language: String, lines: &[&str], before: Before) -> Piece {
    let margin = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| indentation(line)).min();
    let mut lines: Vec<String> =
        lines.iter().map(|line| line.get(margin.unwrap_or(0)..).unwrap_or_default().to_owned()).collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    let first = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(0);
    Piece::Block(Block { language, lines: lines.split_off(first), before })
}

/// The lines from `i` on that are farther in than `margin`, and `i` behind them.
fn indented<'a>(lines: &[&'a str], i: &mut usize, margin: usize) -> Vec<&'a str> {
    let first = *i;
    while lines.get(*i).is_some_and(|line| line.trim().is_empty() || indentation(line) > margin) {
        *i += 1;
    }
    lines[first..*i].to_vec()
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_underline(line: &str) -> bool {
    let line = line.trim_end();
    let mut characters = line.chars();
    line.len() >= 3
        && characters
            .next()
            .is_some_and(|first| first.is_ascii_punctuation() && characters.all(|c| c == first))
}

#[cfg(test)]
mod tests {
    use super::super::told;
    use super::*;

    #[test]
    fn directives_hold_code() {
        let page = "Enter it:\n\n.. code-block:: console\n   :linenos:\n\n   $ cd src\n     x\n\nThen.\n\n.. prompt:: bash $\n\n   make\n";
        assert_eq!(told(&pieces(page)), ["console [Enter it:] $ cd src|  x", "sh [Then.] make"]);
    }

    #[test]
    fn two_colons_announce_code() {
        let page =
            ".. highlight:: bash\n\nBuild\n=====\n\n* Say `make <x_>`_\n  all::\n\n    make all\n\n* more";
        assert_eq!(told(&pieces(page)), ["bash [Say make all:] make all"]);
    }

    #[test]
    fn a_title_stands_before_code() {
        assert_eq!(told(&pieces("Show it\n-------\n\n.. code:: sh\n\n  cat x\n")), ["sh [# Show it] cat x"]);
    }

    #[test]
    fn two_backticks_make_code_and_one_does_not() {
        assert_eq!(told(&pieces("Use ``git log`` as :doc:`git show <show>` does.")), ["`git log`"]);
    }
}
