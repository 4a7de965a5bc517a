//! What of a page is a command line.

use std::sync::LazyLock;

use regex::Regex;

use super::{Block, Vocabulary, describe};

/// A line that could be typed as it stands, but for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub line: String,
    /// What it does; may be empty.
    pub description: String,
}

/// Lines beyond this are programs, not what is typed. Bytes.
const LONGEST: usize = 220;
/// How far a quote is looked for that ends what began on an earlier line. Lines.
const QUOTE_LINES: usize = 40;
/// Words that a command begins with only inside of a statement that has other lines, too.
const INSIDE: [&str; 17] = [
    "if", "then", "else", "elif", "fi", "do", "done", "esac", "{", "}", "function", "case", "select",
    "until", "in", "EOF", "END",
];
/// Words of sentences.
const PROSE: [&str; 12] =
    ["the", "that", "is", "are", "your", "you", "and", "of", "will", "this", "can", "be"];

struct Patterns {
    prompt: Regex,
    /// Where a here-document begins, and the word that ends it.
    here_document: Regex,
    /// The beginning of a statement of several lines.
    opening: Regex,
    closing: Regex,
    closed: Regex,
    assignment: Regex,
    program: Regex,
    placeholder: Regex,
    angles: Regex,
    key: Regex,
    template: Regex,
    sentence: Regex,
    alternatives: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        prompt: Regex::new(concat!(
            r"^\s*(?:\[[^\]\n]{1,40}\]\s*[$#%]|(?:\([\w.-]+\)\s*)?[\w.-]+@[\w.-]+[: ][^\s$#%]*\s*[$#%]",
            r"|\([\w.-]+\)\s*\$|(?:ba)?sh-[\d.]+[$#]|[~/][\w/.-]{0,20} [$#]|[\w~/.-]{0,30}\$|%|❯|➜|>\$)\s+",
        ))
        .ok()?,
        here_document: Regex::new(r#"(?:^|[^<])<<-?\s*['"\\]?([A-Za-z_]\w*)"#).ok()?,
        opening: Regex::new(r"^(?:if|for|while|until|case|select|function)\b|^[\w-]+\s*\(\)|(?:^|\s)[{(]$")
            .ok()?,
        closing: Regex::new(r"^(?:fi|done|esac|\}|\))").ok()?,
        closed: Regex::new(r"\b(?:fi|done|esac)\b|\}\s*;?$").ok()?,
        assignment: Regex::new(r"^[A-Za-z_]\w*=").ok()?,
        program: Regex::new(r"^(?:\.{0,2}/|~/)?[a-z][\w./+-]*$").ok()?,
        placeholder: Regex::new(r"<([A-Za-z][\w.-]*(?: [\w.-]+)*)>|\{([A-Za-z][\w-]*)\}").ok()?,
        angles: Regex::new(r"<[^<>=&(\s](?:[^<>]*[^<>\s])?>").ok()?,
        key: Regex::new(r"(?i)<(?:tab|enter|return|cr|esc|space|ctrl|alt)\b").ok()?,
        template: Regex::new(r"\{\{-?\s*(?:\.|json |range |if |println |printf |index |len |join |end\b)")
            .ok()?,
        sentence: Regex::new(r"[a-z]{3}[.,!?]$|(?: [a-z]{2,}){4}.*:$").ok()?,
        alternatives: Regex::new(r"\w\|(\w[\w-]*)").ok()?,
    })
});

/// The commands of a block, in their order.
pub fn of_block(block: &Block, vocabulary: &Vocabulary) -> Vec<Command> {
    let Some(language) = Language::of(&block.language) else { return Vec::new() };
    // What is written in a file is not what is typed.
    if block.lines.first().is_some_and(|line| line.trim_start().starts_with("#!")) {
        return Vec::new();
    }
    let prompts = Prompts::of(block, language, vocabulary);
    let statements = statements(block, prompts, vocabulary);
    let lines: Vec<Option<Line>> = statements
        .iter()
        .map(|statement| match statement {
            Statement::Command(text) => line(text, prompts != Prompts::None, vocabulary),
            _ => None,
        })
        .collect();
    // Without a language and without prompts, whatever is no command makes the whole something else.
    let is_other = |(statement, line): (&Statement, &Option<Line>)| match statement {
        Statement::Command(_) => line.as_ref().is_none_or(|line| !line.text.contains(' ')),
        _ => false,
    };
    if language == Language::Unknown
        && prompts == Prompts::None
        && statements.iter().zip(&lines).any(is_other)
    {
        return Vec::new();
    }
    let mut commands: Vec<Command> = Vec::new();
    let mut comment = String::new();
    for (i, (statement, line)) in statements.iter().zip(lines).enumerate() {
        match statement {
            Statement::Comment(text) => {
                let goes_on = i > 0
                    && matches!(statements[i - 1], Statement::Comment(_))
                    && text.starts_with(|c: char| c.is_lowercase());
                comment = if goes_on { format!("{comment} {text}") } else { text.clone() };
            }
            Statement::Command(_) => {
                let above = std::mem::take(&mut comment);
                let Some(line) = line else { continue };
                // A comment above several lines is about all of them.
                let next = statements[i + 1..].iter().find(|next| !matches!(next, Statement::Output));
                let is_alone = !matches!(next, Some(Statement::Command(_) | Statement::Long));
                let above = if is_alone { above } else { String::new() };
                let description = [line.comment, above]
                    .iter()
                    .find_map(|comment| describe::of_comment(comment, vocabulary))
                    .unwrap_or_default();
                commands.push(Command { line: line.text, description });
            }
            _ => comment.clear(),
        }
    }
    let is_statement = |statement: &&Statement| matches!(statement, Statement::Command(_) | Statement::Long);
    if let [command] = commands.as_mut_slice()
        && command.description.is_empty()
        && statements.iter().filter(is_statement).count() == 1
    {
        command.description = describe::of_text_before(&block.before, vocabulary).unwrap_or_default();
    }
    commands
}

/// The command that a few words of code in a sentence are: with an argument, or they only name a program.
pub fn of_words(text: &str, vocabulary: &Vocabulary) -> Option<String> {
    let pattern = PATTERNS.as_ref()?;
    let (text, _) = without_prompt(text, pattern);
    // Most code in sentences is no command: the rest is looked at only where it may be one.
    program(text).filter(|name| vocabulary.knows(name))?;
    if pattern.here_document.is_match(text) || text.contains('\n') {
        return None;
    }
    let line = line(text, false, vocabulary)?;
    line.text.contains(' ').then_some(line.text)
}

/// The programs that are called at the prompts of a block: commands, whatever is known of them elsewhere.
pub fn programs_at_prompts(block: &Block) -> Vec<String> {
    let Some(pattern) = PATTERNS.as_ref().filter(|_| Language::of(&block.language).is_some()) else {
        return Vec::new();
    };
    let called = |line: &String| match without_prompt(line, pattern) {
        (text, true) => program(text).filter(|name| pattern.program.is_match(name)).map(str::to_owned),
        _ => None,
    };
    block.lines.iter().filter_map(called).collect()
}

/// What the language of a block says of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    /// Commands.
    Shell,
    /// Commands and what they print.
    Console,
    Unknown,
}

impl Language {
    /// Nothing for languages that are not typed at a prompt.
    fn of(name: &str) -> Option<Self> {
        match name {
            "bash" | "sh" | "shell" | "zsh" | "shellscript" | "fish" | "cmdline" => Some(Self::Shell),
            "console" | "terminal" | "shell-session" | "shellsession" | "sh-session" | "bash-session" => {
                Some(Self::Console)
            }
            "" | "text" | "txt" | "none" | "plain" | "plaintext" | "command" => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// What the lines of a block begin with that are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompts {
    None,
    Usual,
    /// `# `, which is a comment elsewhere.
    Root,
}

impl Prompts {
    fn of(block: &Block, language: Language, vocabulary: &Vocabulary) -> Self {
        let Some(pattern) = PATTERNS.as_ref() else { return Self::None };
        if block.lines.iter().any(|line| without_prompt(line, pattern).1) {
            return Self::Usual;
        }
        let first = block.lines.first().and_then(|line| line.trim_start().strip_prefix("# "));
        let is_command =
            |text: &str| line(text, false, vocabulary).is_some_and(|line| line.text.contains(' '));
        if language != Language::Shell && first.is_some_and(is_command) { Self::Root } else { Self::None }
    }
}

fn without_prompt<'a>(line: &'a str, pattern: &Patterns) -> (&'a str, bool) {
    match pattern.prompt.find(line) {
        Some(found) if found.end() < line.len() => (&line[found.end()..], true),
        _ => (line, false),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Statement {
    Blank,
    Comment(String),
    Output,
    /// A command on one line, or on several that were joined.
    Command(String),
    /// A command that needs several lines.
    Long,
}

fn statements(block: &Block, prompts: Prompts, vocabulary: &Vocabulary) -> Vec<Statement> {
    let Some(pattern) = PATTERNS.as_ref() else { return Vec::new() };
    let lines = &block.lines;
    let mut statements = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        let line = &lines[i];
        i += 1;
        let (text, at_prompt) = match prompts {
            Prompts::None => (line.as_str(), false),
            Prompts::Usual => without_prompt(line, pattern),
            Prompts::Root => {
                line.trim_start().strip_prefix("# ").map_or((line.as_str(), false), |text| (text, true))
            }
        };
        if !at_prompt {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                statements.push(Statement::Blank);
                continue;
            } else if trimmed.starts_with('#') {
                statements.push(Statement::Comment(trimmed.trim_start_matches('#').trim().to_owned()));
                continue;
            } else if prompts != Prompts::None {
                statements.push(Statement::Output);
                continue;
            }
        }
        let indentation = text.len() - text.trim_start().len();
        let mut text = text.trim().to_owned();
        if let Some(found) = pattern.here_document.captures(&text) {
            let end = lines[i..].iter().position(|line| line.trim().trim_start_matches("> ") == &found[1]);
            i += end.map_or(0, |end| end + 1);
            statements.push(Statement::Long);
            continue;
        }
        while let Some(next) = lines.get(i) {
            let is_cut = text.ends_with('\\') && !text.ends_with("\\\\");
            let is_open = text.ends_with("&&") || text.ends_with('|');
            if !(is_cut || is_open) || without_prompt(next, pattern).1 || next.trim().is_empty() {
                break;
            }
            let next = next.trim();
            let next = next.strip_prefix("> ").unwrap_or(next);
            text = format!("{} {next}", text.trim_end_matches('\\').trim_end());
            i += 1;
        }
        if pattern.opening.is_match(&text) && !pattern.closed.is_match(&text) {
            let ends = |line: &String| {
                let inner = line.trim_start();
                line.len() - inner.len() <= indentation && pattern.closing.is_match(inner)
            };
            i = lines[i..].iter().position(ends).map_or(lines.len(), |end| i + end + 1);
            statements.push(Statement::Long);
            continue;
        }
        // Only of a command it is known that its quotes are quotes.
        if shlex::split(&text).is_none()
            && program(&text).is_some_and(|name| at_prompt || vocabulary.knows(name))
        {
            let mut whole = text.clone();
            let end = lines[i..].iter().take(QUOTE_LINES).position(|line| {
                whole.push('\n');
                whole.push_str(line);
                shlex::split(&whole).is_some()
            });
            i += end.map_or(0, |end| end + 1);
            statements.push(Statement::Long);
            continue;
        }
        statements.push(Statement::Command(text));
    }
    statements
}

/// A command, and the comment behind it.
#[derive(Debug)]
struct Line {
    text: String,
    comment: String,
}

/// The command that `text` is, as it would be typed.
fn line(text: &str, at_prompt: bool, vocabulary: &Vocabulary) -> Option<Line> {
    let pattern = PATTERNS.as_ref()?;
    // No quote may be open.
    shlex::split(text)?;
    let (text, comment) = without_comment(text);
    let text = text.trim().trim_end_matches(';').trim_end();
    let text = text.replace(['\t', '\u{a0}'], " ");
    if !text.is_ascii() || text.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    let text = with_single_blanks(&text);
    let text = with_names(&text, pattern)?;
    let is_fine = (2..=LONGEST).contains(&text.len())
        && !is_cut_short(&text)
        && !has_other_template(&text, pattern)
        && !is_synopsis(&text, pattern, vocabulary)
        && is_call(&text, at_prompt, pattern, vocabulary)
        && (at_prompt || !is_prose(&text, pattern));
    is_fine.then(|| Line { text, comment: comment.to_owned() })
}

/// The first word that is neither an assignment nor a program that calls another.
fn program(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "sudo" => {
                while let Some(option) = words.next_if(|word| word.starts_with('-')) {
                    if matches!(option, "-u" | "-g" | "-h" | "-p") {
                        words.next();
                    }
                }
            }
            "time" | "env" | "nohup" | "exec" => {}
            _ if is_assignment(word) => {}
            _ => return Some(word),
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    PATTERNS.as_ref().is_some_and(|pattern| pattern.assignment.is_match(word))
}

fn is_call(text: &str, at_prompt: bool, pattern: &Patterns, vocabulary: &Vocabulary) -> bool {
    let Some(name) = program(text) else { return at_prompt && is_assignment(text) };
    match name {
        "for" | "while" => text.ends_with("done"),
        "[" | "[[" => true,
        _ if INSIDE.contains(&name) => false,
        _ => vocabulary.knows(name) || (at_prompt && pattern.program.is_match(name)),
    }
}

fn is_cut_short(text: &str) -> bool {
    ["{", ",", ";;", "(", "&&", "|", "\\"].iter().any(|end| text.ends_with(end))
}

/// Templates of a site's own, not those that are written for Docker and Kubernetes.
fn has_other_template(text: &str, pattern: &Patterns) -> bool {
    let opened = text.matches("{{").count();
    text.contains("%%")
        || text.contains("{%")
        || text.contains("${{")
        || (opened > 0 && pattern.template.find_iter(text).count() != opened)
}

/// How a command may be written, instead of how it is.
fn is_synopsis(text: &str, pattern: &Patterns, vocabulary: &Vocabulary) -> bool {
    let plain = plain(text);
    let is_optional = |word: &str| {
        word.strip_prefix('[')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || "-<[".contains(c)))
            && word != "[["
    };
    let is_repeated = |word: &str| word.ends_with("...") && !word.contains('/');
    plain.split(' ').any(|word| is_optional(word) || is_repeated(word))
        || pattern.alternatives.captures_iter(&plain).any(|found| !vocabulary.knows(&found[1]))
}

/// A sentence that begins like a command: "find the file".
fn is_prose(text: &str, pattern: &Patterns) -> bool {
    let plain = plain(text);
    let mut words = plain.split(' ');
    let first = words.next().unwrap_or_default();
    let is_set = !matches!(first, "[" | "[[" | "test" | "expr")
        && words.clone().any(|word| matches!(word, "=" | ":=" | "==" | "+=" | ">="));
    let is_told = first != "echo" && !plain.contains(" -") && words.clone().any(|word| PROSE.contains(&word));
    is_told || pattern.sentence.is_match(&plain) || is_set
}

/// Which bytes stand in quotes, the quotes among them, or behind a backslash.
fn quoted(text: &str) -> Vec<bool> {
    let mut quote = None;
    let mut is_escaped = false;
    let mark = |byte: u8| {
        if is_escaped {
            is_escaped = false;
            return true;
        }
        match (quote, byte) {
            (Some(open), _) if open == byte => {
                quote = None;
                true
            }
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                true
            }
            (None | Some(b'"'), b'\\') => {
                is_escaped = true;
                true
            }
            _ => quote.is_some(),
        }
    };
    text.bytes().map(mark).collect()
}

/// The text with nothing where it is quoted.
fn plain(text: &str) -> String {
    text.chars().zip(quoted(text)).filter(|(_, is_quoted)| !is_quoted).map(|(c, _)| c).collect()
}

fn without_comment(text: &str) -> (&str, &str) {
    let is_quoted = quoted(text);
    let is_start = |at: &usize| {
        let before = &text[..*at];
        !is_quoted[*at]
            && before.ends_with(char::is_whitespace)
            && text[at + 1..].starts_with(char::is_whitespace)
    };
    match text.match_indices('#').map(|(at, _)| at).find(is_start) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    }
}

fn with_single_blanks(text: &str) -> String {
    let is_quoted = quoted(text);
    let mut out = String::with_capacity(text.len());
    for (c, is_quoted) in text.chars().zip(is_quoted) {
        if is_quoted || c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    out
}

/// The text with `name` for `<name>` and `{name}`, and nothing where other things stand in angle brackets.
fn with_names(text: &str, pattern: &Patterns) -> Option<String> {
    // What stands for a program could be any.
    if pattern.key.is_match(text) || program(text).is_some_and(|name| name.starts_with(['<', '{'])) {
        return None;
    }
    let is_quoted = quoted(text);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for found in pattern.placeholder.captures_iter(text) {
        let (Some(whole), Some(name)) = (found.get(0), found.get(1).or(found.get(2))) else { continue };
        let before = text[..whole.start()].chars().next_back();
        if is_quoted[whole.start()] || before.is_some_and(|c| "$@%<{^".contains(c)) {
            continue;
        }
        out.push_str(&text[copied..whole.start()]);
        out.push_str(&name.as_str().replace(' ', "_"));
        copied = whole.end();
    }
    out.push_str(&text[copied..]);
    (!pattern.angles.is_match(&plain(&out))).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::super::Before;
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(
            ["cat", "cd", "cp", "curl", "docker", "echo", "find", "git", "ls", "make", "tar", "wc"],
            ["list", "count", "copy", "show"],
        )
    }

    /// The commands of a block, each with its description behind `<-`.
    fn told(language: &str, text: &str) -> Vec<String> {
        let block = Block {
            language: language.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            before: Before::default(),
        };
        of_block(&block, &vocabulary())
            .into_iter()
            .map(|Command { line, description }| match description.as_str() {
                "" => line,
                _ => format!("{line} <- {description}"),
            })
            .collect()
    }

    #[test]
    fn what_stands_at_a_prompt_is_typed() {
        assert_eq!(told("console", "$ ls\nnotes.txt\n$ newtool --all"), ["ls", "newtool --all"]);
        assert_eq!(told("", "me@host:~/src$ git log\ncommit 1\n[root@host ~]# ls"), ["git log", "ls"]);
        assert_eq!(told("console", "# cat /etc/hosts\n127.0.0.1"), ["cat /etc/hosts"], "root's prompt");
        assert_eq!(told("bash", "# cat is for files\nls"), ["ls"], "a comment");
    }

    #[test]
    fn without_a_prompt_the_program_has_to_be_known() {
        assert_eq!(told("bash", "ls -l\nNAME  READY"), ["ls -l"]);
        assert_eq!(told("", "git add .\ngit status"), ["git add .", "git status"]);
        assert!(told("", "git add .\nis how it is done").is_empty(), "no language, and not all are commands");
        assert!(told("python", "ls -l").is_empty());
        assert!(told("sh", "#!/bin/sh\nls -l").is_empty(), "a file");
        assert_eq!(told("sh", "DEBUG=1 sudo -u www ls\nA=1 unheard of"), ["DEBUG=1 sudo -u www ls"]);
    }

    #[test]
    fn lines_that_go_on_are_one() {
        assert_eq!(
            told("sh", "docker run \\\n    --rm \\\n  x\ncat a |\n  wc -l"),
            ["docker run --rm x", "cat a | wc -l"]
        );
        assert_eq!(told("console", "$ docker run \\\n> --rm x"), ["docker run --rm x"]);
    }

    #[test]
    fn what_needs_several_lines_is_left_out() {
        assert_eq!(told("sh", "cat > x <<EOF\nls\nEOF\nls -a"), ["ls -a"]);
        assert_eq!(told("sh", "for i in a b; do\n  ls $i\ndone\nls -a"), ["ls -a"]);
        assert_eq!(told("sh", "git commit -m 'one\nls\n'\nls -a"), ["ls -a"]);
        assert_eq!(told("sh", "f() {\n  ls\n}\nls -a"), ["ls -a"]);
        assert_eq!(told("sh", "for i in a b; do ls $i; done"), ["for i in a b; do ls $i; done"]);
        assert!(told("sh", "echo 'never closed").is_empty());
    }

    #[test]
    fn comments_describe_the_command_below_or_before_them() {
        assert_eq!(
            told("sh", "# List all files\nls -a\n\n# Count lines\nwc -l x"),
            ["ls -a <- List all files", "wc -l x <- Count lines"]
        );
        assert_eq!(told("sh", "ls -a   # list all files"), ["ls -a <- List all files"]);
        assert_eq!(
            told("sh", "# List files\n# that are hidden\nls -a"),
            ["ls -a <- List files that are hidden"]
        );
        assert_eq!(told("sh", "# Copy everything\ncp a b\ncp c d"), ["cp a b", "cp c d"], "about both");
    }

    #[test]
    fn placeholders_become_names() {
        assert_eq!(told("sh", "docker rm <container name>"), ["docker rm container_name"]);
        assert_eq!(told("sh", "git switch {branch} @{upstream}"), ["git switch branch @{upstream}"]);
        assert!(told("console", "$ {program} run").is_empty());
        assert!(told("sh", "docker rm <this/that>\ngit ch<TAB>").is_empty());
        assert_eq!(told("sh", "cat <in >out"), ["cat <in >out"]);
        assert_eq!(told("sh", "docker ps --format '{{.ID}}'"), ["docker ps --format '{{.ID}}'"]);
        assert!(told("sh", "docker pull x:{{ version }}").is_empty());
    }

    #[test]
    fn a_synopsis_is_no_command() {
        assert!(told("sh", "docker rm [OPTIONS] x\nls FILE...\ngit stash pop|apply").is_empty());
        assert_eq!(told("sh", "ls 'a [b]'\ncat x|wc -l"), ["ls 'a [b]'", "cat x|wc -l"]);
    }

    #[test]
    fn words_in_a_sentence_have_an_argument() {
        let of_words = |text| of_words(text, &vocabulary());
        assert_eq!(of_words("git  status").as_deref(), Some("git status"));
        assert_eq!(of_words("$ ls -l").as_deref(), Some("ls -l"));
        assert_eq!(of_words("git"), None);
        assert_eq!(of_words("find the file"), None);
        assert_eq!(of_words("make x = 5"), None);
    }
}
