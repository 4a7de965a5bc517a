//! A line cut into the simple commands that a shell would run.

use std::collections::HashMap;

use crate::words::{Token, tokens, unquote};

/// The commands of a line, and the lines inside it that other commands would run.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// In the order they stand.
    pub commands: Vec<Command>,
    /// What is given to `sh -c`, `eval`, `ssh HOST` and the like, and the insides of substitutions.
    pub nested: Vec<String>,
}

/// One simple command.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// Its name, without a path: `rm` for `/bin/rm`. Empty if there are only redirections.
    pub name: String,
    /// Its arguments, without quotes, with variables that the line sets replaced by their values.
    pub arguments: Vec<String>,
    /// The files its output goes to.
    pub writes: Vec<String>,
    /// What stands before it.
    pub input: Input,
}

/// How a command is joined to the one before it in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Input {
    /// It is not.
    #[default]
    None,
    /// It reads what that one writes.
    Pipe,
    /// It stands in `<(...)`, and that one reads what it writes.
    Substitution,
}

/// Words that run the rest of the command, with options that take a value.
const WRAPPERS: [(&str, &str); 20] = [
    ("sudo", "ughpCDRTr"),
    ("doas", "uC"),
    ("env", "uCS"),
    ("nice", "n"),
    ("ionice", "cnp"),
    ("time", "fo"),
    ("timeout", "ks"),
    ("stdbuf", "ioe"),
    ("xargs", "aEIILnPsd"),
    ("parallel", "jI"),
    ("nohup", ""),
    ("setsid", ""),
    ("command", ""),
    ("builtin", ""),
    ("exec", "a"),
    ("busybox", ""),
    ("chroot", ""),
    ("strace", "eopsu"),
    ("watch", "n"),
    ("unbuffer", ""),
];

/// Words of the shell's grammar that a command may follow.
const KEYWORDS: [&str; 11] = ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "and", "or"];

/// Programs that run the text after `-c` or `-e` as commands or code.
const INTERPRETERS: [&str; 14] = [
    "sh", "bash", "zsh", "dash", "ksh", "fish", "su", "python", "python3", "perl", "ruby", "node", "php",
    "runuser",
];

impl Script {
    /// Reads a line.
    pub fn read(line: &str) -> Self {
        let line = line.replace("${IFS}", " ").replace("$IFS", " ");
        let mut script = Self::default();
        let mut variables = HashMap::new();
        let words = tokens(&line);
        let mut start = 0;
        let mut input = Input::None;
        for end in 0..=words.len() {
            let operator = words.get(end).filter(|word| word.starts_command() || word.raw == ")");
            if end < words.len() && operator.is_none() {
                continue;
            }
            script.add(&words[start..end], input, &mut variables);
            input = match operator.map(|word| word.raw) {
                Some("|" | "|&") => Input::Pipe,
                Some("<(") => Input::Substitution,
                _ => Input::None,
            };
            start = end + 1;
        }
        script
    }

    /// Adds one simple command, given its words and redirections.
    fn add(&mut self, tokens: &[Token<'_>], input: Input, variables: &mut HashMap<String, String>) {
        let mut command = Command { input, ..Command::default() };
        let mut words = Vec::new();
        let mut tokens = tokens.iter().peekable();
        while let Some(token) = tokens.next() {
            if !token.operator {
                self.nested.extend(substitutions(token.raw));
                words.extend(braces(&expand(&unquote(token.raw), variables)));
            } else if let Some(target) = tokens.next_if(|next| !next.operator)
                && token.raw.contains('>')
            {
                command.writes.push(expand(&unquote(target.raw), variables));
            }
        }
        let mut words = strip_wrappers(words, variables);
        if words.is_empty() {
            if !command.writes.is_empty() {
                self.commands.push(command);
            }
            return;
        }
        let name = words.remove(0);
        command.name = name.rsplit('/').next().unwrap_or(&name).to_owned();
        command.arguments = words;
        self.nested.extend(inner_lines(&command));
        self.commands.push(command);
    }
}

/// The words from the command's own name on: without assignments (which are remembered), words of the
/// grammar, and wrappers such as `sudo` with their options.
fn strip_wrappers(mut words: Vec<String>, variables: &mut HashMap<String, String>) -> Vec<String> {
    while let Some(word) = words.first() {
        if let Some((name, value)) = assignment(word) {
            variables.insert(name.to_owned(), value.to_owned());
            words.remove(0);
        } else if KEYWORDS.contains(&word.as_str()) {
            words.remove(0);
        } else if let Some((_, valued)) =
            WRAPPERS.iter().find(|(name, _)| word.rsplit('/').next() == Some(*name))
        {
            let is_timeout = word.ends_with("timeout");
            words.remove(0);
            strip_options(&mut words, valued);
            if is_timeout && !words.is_empty() {
                words.remove(0);
            }
        } else {
            break;
        }
    }
    words
}

/// Removes the options at the start, and the values of those whose letter is in `valued`.
fn strip_options(words: &mut Vec<String>, valued: &str) {
    while let Some(option) = words.first().filter(|word| word.starts_with('-') && word.len() > 1) {
        let takes_next =
            option.len() == 2 && option.chars().nth(1).is_some_and(|letter| valued.contains(letter));
        let is_end = option == "--";
        words.remove(0);
        if takes_next && !words.is_empty() {
            words.remove(0);
        }
        if is_end {
            break;
        }
    }
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut chars = name.chars();
    let is_name = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, value))
}

/// Replaces `$name` and `${name}` where the line itself has set the variable; others stay as they are.
fn expand(word: &str, variables: &HashMap<String, String>) -> String {
    if variables.is_empty() || !word.contains('$') {
        return word.to_owned();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, len) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let len = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..len], len)
            }
        };
        match variables.get(name) {
            Some(value) => out.push_str(value),
            None => out.push_str(&rest[at..=at + len]),
        }
        rest = &after[len..];
    }
    out.push_str(rest);
    out
}

/// The words that `{a,b}` alone stands for; other braces are left as they are.
fn braces(word: &str) -> Vec<String> {
    match word.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) if inner.contains(',') && !inner.contains(['{', '}']) => {
            inner.split(',').map(str::to_owned).collect()
        }
        _ => vec![word.to_owned()],
    }
}

/// The insides of `$(...)` and of backquotes in a word. What stands in single quotes is not run.
fn substitutions(raw: &str) -> Vec<String> {
    if raw.starts_with('\'') {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some(start) = raw.find("$(") {
        let end = raw.rfind(')').filter(|&end| end > start).unwrap_or(raw.len());
        found.extend(raw.get(start + 2..end).map(str::to_owned));
    }
    let mut parts = raw.split('`');
    parts.next();
    found.extend(parts.next().map(str::to_owned));
    found
}

/// The lines that a command runs or sends elsewhere to be run.
fn inner_lines(command: &Command) -> Vec<String> {
    let arguments = &command.arguments;
    match command.name.as_str() {
        "eval" | "trap" | "source" | "." => vec![arguments.join(" ")],
        "ssh" => {
            // The host is the first word that is no option; what follows runs there.
            let host = arguments
                .iter()
                .position(|word| !word.starts_with('-') && !word.chars().all(|c| c.is_ascii_digit()));
            host.map(|at| arguments[at + 1..].join(" ")).into_iter().collect()
        }
        name if INTERPRETERS.contains(&name) => {
            let code = arguments.windows(2).find(|pair| {
                let option = pair[0].strip_prefix('-').unwrap_or("");
                !option.starts_with('-') && option.ends_with(['c', 'e', 'r'])
            });
            let Some(code) = code.map(|pair| pair[1].as_str()) else { return Vec::new() };
            // Code of other languages is not read, but the commands it runs stand in quotes.
            let quoted = code.split(['"', '\'', '`']).skip(1).step_by(2).map(str::to_owned);
            std::iter::once(code.to_owned()).chain(quoted).collect()
        }
        _ => Vec::new(),
    }
}
