//! What a zsh completion function says that exists. The format is that of `_arguments` and `_describe`, in zsh's manual (zshcompsys).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::lex::{self, Token};
use crate::corpora::Spec;

struct Patterns {
    program: Regex,
    /// An option as `_arguments` takes it: those it excludes, its name, how its argument is joined, what it does, its arguments.
    option: Regex,
    described: Regex,
    /// What holds subcommands, by its name or its heading.
    commands: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        program: Regex::new(r"^[a-z][\w.+-]*$").ok()?,
        option: Regex::new(concat!(
            r"^(\([^)]*\))?\*?(-{1,2}[A-Za-z0-9?](?:[\w.]|-[\w.])*)(\+|-|=-?)?",
            r"(?:\[((?:[^\]\\]|\\.)*)\])?(:.*)?$",
        ))
        .ok()?,
        described: Regex::new(r"(?s)^([A-Za-z][\w.-]*)(?::|\[)\s*([^\]]*)\]?$").ok()?,
        commands: Regex::new(r"(?i)(?:comm?and|cmd|action|operation|verb|subc)").ok()?,
    })
});

/// Reads of a text, until no more subcommands are found by which its functions are known.
const READINGS: usize = 4;
/// Functions for more programs than that tell little of any.
const MOST_PROGRAMS: usize = 12;
/// Longer descriptions are texts. Bytes.
const LONGEST_DESCRIPTION: usize = 160;

/// The options and subcommands that a completion function knows, by their paths.
pub fn specs(text: &str) -> Vec<Spec> {
    let Some(patterns) = PATTERNS.as_ref() else { return Vec::new() };
    let programs = programs(text, patterns);
    if programs.is_empty() || programs.len() > MOST_PROGRAMS {
        return Vec::new();
    }
    let tokens = lex::tokens(text);
    let mut known = BTreeMap::new();
    for _ in 0..READINGS {
        let mut reader = Reader::new(&programs, &known, patterns);
        reader.read(&tokens);
        let (options, subcommands) = (reader.options, reader.subcommands);
        if subcommands.keys().eq(known.keys()) {
            return rows(options, subcommands);
        }
        known = subcommands;
    }
    // Names that come and go with each reading are none.
    Vec::new()
}

/// The programs that the first line says the function is for.
fn programs(text: &str, patterns: &Patterns) -> Vec<String> {
    let Some(rest) = text.lines().next().and_then(|line| line.strip_prefix("#compdef ")) else {
        return Vec::new();
    };
    let mut words = rest.split_whitespace();
    let mut programs: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            // A pattern follows.
            "-P" | "-p" | "-N" | "-K" | "-k" => drop(words.next()),
            _ => {
                let name = word.split('=').next().unwrap_or_default();
                // GNU's programs elsewhere are called as here, with a `g` before.
                let is_gnu =
                    name.strip_prefix('g').is_some_and(|rest| programs.iter().any(|known| known == rest));
                if patterns.program.is_match(name) && !is_gnu {
                    programs.push(name.to_owned());
                }
            }
        }
    }
    programs
}

/// A subcommand's path and its name.
type Subcommand = (String, String);
/// What is known of an option besides its path and description.
type Names = (Vec<String>, String);

struct Reader<'a> {
    programs: &'a [String],
    /// Subcommands of the reading before, with their descriptions.
    known: &'a BTreeMap<Subcommand, String>,
    patterns: &'a Patterns,
    /// By path and description, and the names.
    options: Vec<(String, Names, String)>,
    subcommands: BTreeMap<Subcommand, String>,
}

/// What the tokens stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// A function, with the depth of the braces around its body.
    Function { depth: usize, paths: Vec<String> },
    /// A `case`, from its subject to its `esac`.
    Case { part: Part, labels: Vec<String> },
    /// An array, and whether its words are subcommands.
    Array { of_commands: bool },
    /// Another pair of parentheses.
    Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Subject,
    Pattern,
    Body,
}

impl<'a> Reader<'a> {
    fn new(programs: &'a [String], known: &'a BTreeMap<Subcommand, String>, patterns: &'a Patterns) -> Self {
        Self { programs, known, patterns, options: Vec::new(), subcommands: BTreeMap::new() }
    }

    fn read(&mut self, tokens: &[Token]) {
        let mut scopes: Vec<Scope> = Vec::new();
        let mut depth = 0_usize;
        // The words of `_values` are subcommands where its first says so.
        let mut values: Option<bool> = None;
        for (i, token) in tokens.iter().enumerate() {
            if let Some(Scope::Case { part, labels }) = scopes.last_mut() {
                match (*part, token) {
                    (Part::Subject, Token::Word(words)) if words == &["in"] => *part = Part::Pattern,
                    (Part::Pattern, Token::Word(words)) if words == &["esac"] => drop(scopes.pop()),
                    (Part::Pattern, Token::Word(words)) => labels.extend_from_slice(words),
                    (Part::Pattern, Token::Close) => *part = Part::Body,
                    (Part::Body, Token::CaseEnd) => {
                        *part = Part::Pattern;
                        labels.clear();
                    }
                    (Part::Body, _) => self.token(tokens, i, &mut scopes, &mut depth, &mut values),
                    _ => {}
                }
            } else {
                self.token(tokens, i, &mut scopes, &mut depth, &mut values);
            }
        }
    }

    /// A token that is no part of a `case` itself.
    fn token(
        &mut self,
        tokens: &[Token],
        i: usize,
        scopes: &mut Vec<Scope>,
        depth: &mut usize,
        values: &mut Option<bool>,
    ) {
        match &tokens[i] {
            Token::Separator | Token::CaseEnd => *values = None,
            Token::Open => {
                let before = i.checked_sub(1).and_then(|before| tokens.get(before));
                let name = match before {
                    Some(Token::Word(words)) => words.first().map_or("", String::as_str),
                    _ => "",
                };
                let of_commands = self.patterns.commands.is_match(name);
                scopes.push(if name.ends_with('=') { Scope::Array { of_commands } } else { Scope::Group });
            }
            Token::Close => {
                if matches!(scopes.last(), Some(Scope::Array { .. } | Scope::Group)) {
                    scopes.pop();
                }
                let is_body = matches!(tokens.get(i + 1), Some(Token::Word(words)) if words == &["{"]);
                if let Some([Token::Word(words), Token::Open]) =
                    i.checked_sub(2).map(|first| &tokens[first..i])
                    && is_body
                {
                    let name = words.first().map_or("", String::as_str);
                    let paths = self.of_function(name).unwrap_or_default();
                    scopes.push(Scope::Function { depth: *depth, paths });
                }
            }
            Token::Word(words) => {
                let [first, ..] = words.as_slice() else { return };
                match first.as_str() {
                    "{" => *depth += 1,
                    "}" => {
                        *depth = depth.saturating_sub(1);
                        if matches!(scopes.last(), Some(Scope::Function { depth: outer, .. }) if outer == depth)
                        {
                            scopes.pop();
                        }
                    }
                    "case" => scopes.push(Scope::Case { part: Part::Subject, labels: Vec::new() }),
                    "esac" => {
                        if matches!(scopes.last(), Some(Scope::Case { .. })) {
                            scopes.pop();
                        }
                    }
                    "_values" => *values = Some(false),
                    _ => {
                        let of_commands = matches!(scopes.last(), Some(Scope::Array { of_commands: true }));
                        let paths = self.paths(scopes);
                        self.word(words, &paths, of_commands || *values == Some(true));
                        if *values == Some(false) && !first.starts_with('-') {
                            *values = self.patterns.commands.is_match(first).then_some(true);
                        }
                    }
                }
            }
        }
    }

    /// The paths that what stands in the scopes is about: none for a function that can't be placed.
    fn paths(&self, scopes: &[Scope]) -> Vec<String> {
        let mut paths = self.programs.to_vec();
        for scope in scopes {
            match scope {
                Scope::Function { paths: own, .. } => paths.clone_from(own),
                Scope::Case { labels, .. } => {
                    let named: Vec<String> =
                        labels.iter().flat_map(|label| self.below(&paths, label)).collect();
                    if !named.is_empty() {
                        paths = named;
                    }
                }
                _ => {}
            }
        }
        paths
    }

    /// The paths that a label leads to: a program's, or those of a subcommand.
    fn below(&self, paths: &[String], label: &str) -> Vec<String> {
        if paths.len() > 1 && paths.iter().any(|path| path == label) {
            return vec![label.to_owned()];
        }
        let is_known = |path: &&String| self.known.contains_key(&((*path).clone(), label.to_owned()));
        paths.iter().filter(is_known).map(|path| format!("{path} {label}")).collect()
    }

    /// The paths of a function: `_prog` and `_prog-sub_commands` are about `prog` and `prog sub`.
    fn of_function(&self, name: &str) -> Option<Vec<String>> {
        let name = name.trim_start_matches('_');
        let mut found = Vec::new();
        for program in self.programs {
            let Some(rest) = name.strip_prefix(program.as_str()) else { continue };
            let rest = rest.trim_start_matches(['_', '-', ':']);
            found.extend(self.along(program, rest));
        }
        (!found.is_empty()).then_some(found)
    }

    /// The path that goes on from another with the words of a function's name; what says only what the function is for ends it.
    fn along(&self, path: &str, rest: &str) -> Option<String> {
        const FOR: [&str; 9] =
            ["", "command", "commands", "cmd", "cmds", "subcommands", "subcommand", "options", "args"];
        if FOR.contains(&rest) {
            return Some(path.to_owned());
        }
        let from = (path.to_owned(), String::new());
        let below = self.known.range(from..).take_while(|((of, _), _)| of == path);
        below
            .filter_map(|((_, name), _)| {
                let after = rest
                    .strip_prefix(name.as_str())
                    .or_else(|| rest.strip_prefix(&name.replace('-', "_")))?;
                let ends = after.is_empty() || after.starts_with(['_', '-', ':']);
                let rest = after.trim_start_matches(['_', '-', ':']);
                ends.then(|| self.along(&format!("{path} {name}"), rest))?
            })
            .max_by_key(String::len)
    }

    /// A word where nothing else is to be made of it.
    fn word(&mut self, spellings: &[String], paths: &[String], is_command: bool) {
        let Some(first) = spellings.first() else { return };
        if is_command {
            for spelling in spellings {
                self.subcommand(spelling, paths);
            }
        } else if first.starts_with(['-', '(', '*']) {
            let options: Vec<_> = spellings.iter().filter_map(|word| self.option(word)).collect();
            let Some((_, argument, description)) = options.first().cloned() else { return };
            let names: Vec<String> = options.into_iter().map(|(name, ..)| name).collect();
            for path in paths {
                self.options.push((path.clone(), (names.clone(), argument.clone()), description.clone()));
            }
        } else if let Some(action) = self.commands_of_an_argument(first) {
            for token in lex::tokens(&action) {
                let Token::Word(words) = token else { continue };
                for word in words {
                    self.subcommand(&word, paths);
                }
            }
        }
    }

    /// The name, argument and description of an option. A word alone may be an option of what is called here.
    fn option(&self, word: &str) -> Option<(String, String, String)> {
        let parts = self.patterns.option.captures(word)?;
        let is_spec = parts.get(1).or(parts.get(4)).or(parts.get(5)).is_some();
        let is_long = parts[2].len() > 2;
        if !is_spec || (parts.get(1).is_none() && parts.get(4).is_none() && !is_long) {
            return None;
        }
        let argument = parts.get(5).map_or("", |part| part.as_str());
        let message = argument.trim_start_matches(':').split(':').next().unwrap_or_default().trim();
        let argument = match argument {
            "" => String::new(),
            _ if message.is_empty() => "<value>".to_owned(),
            _ => format!("<{}>", message.replace(char::is_whitespace, "-")),
        };
        let must_be_joined = parts.get(3).is_some_and(|joined| joined.as_str() == "=-");
        let name = format!("{}{}", &parts[2], if must_be_joined { "=" } else { "" });
        Some((name, argument, described(parts.get(4).map_or("", |part| part.as_str()))))
    }

    /// The subcommands that an argument may be, where `:message:action` says that it is one.
    fn commands_of_an_argument(&self, word: &str) -> Option<String> {
        let mut parts = word.splitn(3, ':');
        let (number, message, action) = (parts.next()?, parts.next()?, parts.next()?);
        let is_first = number.is_empty() || number == "1";
        if !is_first || !self.patterns.commands.is_match(message) {
            return None;
        }
        let inner = action.trim().strip_prefix('(')?.strip_suffix(')')?;
        let inner = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(inner);
        Some(inner.to_owned())
    }

    fn subcommand(&mut self, word: &str, paths: &[String]) {
        let (name, description) = match self.patterns.described.captures(word) {
            Some(parts) => (parts[1].to_owned(), described(&parts[2])),
            None => (word.to_owned(), String::new()),
        };
        if !self.patterns.program.is_match(&name.to_lowercase()) {
            return;
        }
        for path in paths {
            let known = self.subcommands.entry((path.clone(), name.clone())).or_default();
            if known.is_empty() {
                known.clone_from(&description);
            }
        }
    }
}

/// A description as one line; none where it is none.
fn described(text: &str) -> String {
    let text = text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > LONGEST_DESCRIPTION { String::new() } else { text }
}

fn rows(options: Vec<(String, Names, String)>, subcommands: BTreeMap<Subcommand, String>) -> Vec<Spec> {
    let mut rows: Vec<Spec> = subcommands
        .into_iter()
        .map(|((path, name), description)| Spec {
            path: format!("{path} {name}"),
            is_option: false,
            names: name,
            arguments: String::new(),
            description,
        })
        .collect();
    // What is the same option for several systems is one.
    let mut seen = BTreeSet::new();
    for (path, (names, arguments), description) in options {
        let fresh: Vec<String> =
            names.into_iter().filter(|name| seen.insert((path.clone(), name.clone()))).collect();
        if !fresh.is_empty() {
            rows.push(Spec { path, is_option: true, names: fresh.join(","), arguments, description });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as `path: names arguments (description)`, a subcommand's with `*`.
    fn told(text: &str) -> Vec<String> {
        let told = |spec: &Spec| {
            let sign = if spec.is_option { "" } else { "*" };
            let Spec { path, names, arguments, description, .. } = spec;
            format!("{sign}{path}: {names} {arguments} ({description})")
        };
        specs(text).iter().map(told).collect()
    }

    #[test]
    fn options_are_read_with_their_names_and_arguments() {
        let text = r#"#compdef kit gkit
_arguments -s -S \
  '(-v --verbose)'{-v,--verbose}'[say more]' \
  "--depth=-[don't go deeper]:number of levels" \
  '*-o+[write to]: :_files' --bare '(-q)--quiet' '1:file:_files'
"#;
        assert_eq!(
            told(text),
            [
                "kit: -v,--verbose  (say more)",
                "kit: --depth= <number-of-levels> (don't go deeper)",
                "kit: -o <value> (write to)",
                "kit: --quiet  ()",
            ]
        );
    }

    #[test]
    fn options_belong_to_the_subcommand_whose_case_or_function_they_stand_in() {
        let text = r"#compdef kit
_kit_remote_commands() {
  local -a commands=( 'add:add a remote' rm:remove\ one )
  _describe -t commands command commands
}
_kit_remote() { _arguments '--all[all of them]' }
_kit_remote_add() { _arguments '--force[even so]' }
__kit_helper() { _arguments '--lost[of nothing]' }
_kit() {
  _arguments '--help[help]' '1:command:((pull\:get\ it remote))'
  case $words[1] in
    pull|push) _arguments '--fast[in haste]' ;;
    (other) ;;
  esac
  opts=( '--last[after the case]' )
}
";
        assert_eq!(
            told(text),
            [
                "*kit pull: pull  (get it)",
                "*kit remote: remote  ()",
                "*kit remote add: add  (add a remote)",
                "*kit remote rm: rm  (remove one)",
                "kit remote: --all  (all of them)",
                "kit remote add: --force  (even so)",
                "kit: --help  (help)",
                "kit pull: --fast  (in haste)",
                "kit: --last  (after the case)",
            ]
        );
    }

    #[test]
    fn programs_that_share_a_function_are_told_apart_by_their_names() {
        let text = "#compdef one two\ncase $service in\n one) _arguments '-a[first]';;\n two) _arguments '-b[second]'\nesac\n_arguments '-c[both]'";
        assert_eq!(
            told(text),
            ["one: -a  (first)", "two: -b  (second)", "one: -c  (both)", "two: -c  (both)"]
        );
        assert!(told("#autoload\n_arguments '-a[x]'").is_empty());
    }

    #[test]
    fn values_are_subcommands_where_their_heading_says_so() {
        let text = "#compdef kit\n_values 'kit command' 'up[start it]' 'down[end it]'\n_values format 'json[as JSON]'";
        assert_eq!(told(text), ["*kit down: down  (end it)", "*kit up: up  (start it)"]);
    }
}
