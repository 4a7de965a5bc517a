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
    /// The text it reads, where the line itself holds it: from `echo TEXT |` or `<<< TEXT`.
    pub reads: String,
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
            } else if let Some(target) = tokens.next_if(|next| !next.operator) {
                let target = expand(&unquote(target.raw), variables);
                match token.raw {
                    "<<<" => command.reads = target,
                    redirection if redirection.contains('>') => command.writes.push(target),
                    _ => {}
                }
            }
        }
        if let (Input::Pipe, Some(writer)) = (input, self.commands.last()) {
            command.reads = writer.echoes();
        }
        set_loop_variable(&words, variables);
        let mut words = strip_wrappers(words, variables);
        if words.is_empty() {
            if !command.writes.is_empty() {
                self.commands.push(command);
            }
            return;
        }
        let name = without_variables(&words.remove(0));
        command.name = name.rsplit('/').next().unwrap_or(&name).to_owned();
        command.arguments = words;
        if is_declaration(&command.name) {
            let assigned = command.arguments.iter().filter_map(|word| assignment(word));
            variables.extend(assigned.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        self.nested.extend(inner_lines(&command));
        self.commands.push(command);
    }
}

impl Command {
    /// What `echo` or `printf` writes, escapes included.
    fn echoes(&self) -> String {
        match self.name.as_str() {
            "echo" | "printf" => {
                let words = self.arguments.iter().skip_while(|word| word.starts_with('-'));
                let text = words.map(String::as_str).collect::<Vec<_>>().join(" ");
                unquote(&format!("$'{}'", text.replace('\'', "\\'")))
            }
            // What passes through is the same.
            "tee" | "cat" => self.reads.clone(),
            _ => String::new(),
        }
    }
}

/// Commands that set the variables among their arguments.
fn is_declaration(name: &str) -> bool {
    matches!(name, "export" | "declare" | "local" | "readonly" | "typeset")
}

/// Takes the first word of `for NAME in WORD ...` for the variable's value.
fn set_loop_variable(words: &[String], variables: &mut HashMap<String, String>) {
    if let [keyword, name, preposition, value, ..] = words
        && keyword == "for"
        && preposition == "in"
    {
        variables.insert(name.clone(), value.clone());
    }
}

/// A command's name without variables in it that the line does not set: they are most likely empty. A name
/// that is all variable stays.
fn without_variables(name: &str) -> String {
    let mut parts = name.split('$');
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let len = match part.chars().next() {
            Some('{') => part.find('}').map_or(part.len(), |end| end + 1),
            Some('(') => part.find(')').map_or(part.len(), |end| end + 1),
            _ => part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len()),
        };
        out.push_str(&part[len..]);
    }
    if out.is_empty() { name.to_owned() } else { out }
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

/// Replaces what the line itself tells: `$name` and `${name}` of variables that it has set, the default in
/// `${name:-default}`, and `$(echo text)`. All else stays as it is.
fn expand(word: &str, variables: &HashMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(['$', '`']) {
        out.push_str(&rest[..at]);
        let (text, len) = expansion(&rest[at..], variables);
        match text {
            Some(text) => out.push_str(&text),
            None => out.push_str(&rest[at..at + len]),
        }
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

/// What the expansion at the start of `text` stands for, if the line tells, and its length in bytes.
fn expansion(text: &str, variables: &HashMap<String, String>) -> (Option<String>, usize) {
    let echoed = |inner: &str| {
        let words = inner.trim().strip_prefix("echo ").or_else(|| inner.trim().strip_prefix("printf "))?;
        Some(unquote(words.trim()))
    };
    let between = |open: &str, close: char| text.strip_prefix(open).and_then(|inner| inner.split_once(close));
    if let Some((inner, _)) = between("`", '`') {
        return (echoed(inner), inner.len() + 2);
    }
    if let Some((inner, _)) = between("$(", ')') {
        return (echoed(inner), inner.len() + 3);
    }
    if let Some((inner, _)) = between("${", '}') {
        let (name, default) = match inner.find([':', '-', '=']) {
            Some(at) => (&inner[..at], Some(inner[at..].trim_start_matches([':', '-', '=']))),
            None => (inner, None),
        };
        let value = variables.get(name).map(String::as_str).or(default);
        return (value.map(str::to_owned), inner.len() + 3);
    }
    let name = text[1..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
    (variables.get(name).cloned(), 1 + name.len())
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
        "awk" | "gawk" | "mawk" => arguments.iter().flat_map(|code| quoted(code)).collect(),
        name if INTERPRETERS.contains(&name) => {
            let code = arguments.windows(2).find(|pair| {
                let option = pair[0].strip_prefix('-').unwrap_or("");
                !option.starts_with('-') && option.ends_with(['c', 'e', 'r'])
            });
            match code {
                Some(pair) => std::iter::once(pair[1].clone()).chain(quoted(&pair[1])).collect(),
                None => vec![command.reads.clone()],
            }
        }
        _ => Vec::new(),
    }
}

/// The texts in quotes in a piece of code. Other languages are not read, but the commands that their
/// programs run stand in quotes.
fn quoted(code: &str) -> impl Iterator<Item = String> {
    code.split(['"', '\'', '`']).skip(1).step_by(2).map(str::to_owned)
}
