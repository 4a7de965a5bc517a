//! A line that failed, put right where it is a slip of the fingers.
//!
//! Nothing is tried and nothing is looked up: the exit status, the line, the commands on the PATH and the words of the
//! history have to make it certain, or there is no correction. What may be wrong is the name of a command, where the
//! shell did not find it, and a subcommand or a long option after it, where the command has failed. Rights are never added.

mod names;

use std::collections::HashMap;
use std::ops::Range;

use crate::clean::is_displayable;
use crate::history::Index;
use crate::redact::holds_secret;
use crate::safety;
use crate::specs::{Specs, Unlisted};
use crate::words::{Token, is_wrapper, names_of_commands, tokens};

use names::{ANSWERING, BUILTINS, subcommands};

/// Shorter words have too many neighbours, but for two letters that changed places.
const MIN_LETTERS: usize = 3;

/// From this length on, two slips in a word are believed.
const LONG: usize = 8;

/// How much more a correction has to weigh than the next one.
const CLEARLY: f32 = 3.0;

/// The weight of a word nobody has used yet, next to one for each use.
const UNUSED: f32 = 0.1;

/// The exit status of a command the shell did not find.
const NOT_FOUND: i32 = 127;

/// The exit status of Git for a wrong usage (`usage` in its `usage.c`).
const UNKNOWN_OPTION_OF_GIT: i32 = 129;

/// The line as it was most likely meant; nothing where that is not certain. `commands` are those on the PATH, sorted; `specs`
/// is what is known of their options and subcommands.
pub fn correct(
    line: &str,
    status: i32,
    commands: &[String],
    index: &Index,
    specs: Option<&Specs>,
) -> Option<String> {
    // From 128 on a signal has ended it, but for what Git says of an option that it does not have; who is hung up on sees no prompt.
    let failed = (1..128).contains(&status) || status == UNKNOWN_OPTION_OF_GIT;
    if !failed || commands.is_empty() || !is_displayable(line) || holds_secret(line) {
        return None;
    }
    let words = tokens(line);
    let known = Known { commands, index, line };
    let (place, right) = known
        .name(&words, status)
        .or_else(|| known.subcommand(&words))
        .map(|(word, right)| (word.start..word.end(), right))
        .or_else(|| known.listed(&words, specs?))?;
    let corrected = format!("{}{right}{}", &line[..place.start], &line[place.end..]);
    safety::is_harmless(&corrected).then_some(corrected)
}

/// What is known of the words a line can have.
struct Known<'a> {
    commands: &'a [String],
    index: &'a Index,
    /// The line that failed, which teaches nothing.
    line: &'a str,
}

/// A word that a wrong one may stand for.
struct Choice<'a> {
    word: &'a str,
    uses: u32,
}

impl<'a> Known<'a> {
    /// The command that does not exist, where there is exactly one, and what it has to be.
    fn name<'w>(&self, words: &[Token<'w>], status: i32) -> Option<(Token<'w>, String)> {
        let mut unknown = names_of_commands(words).filter(|word| !self.is_command(word.raw));
        let word = unknown.next()?;
        // `sudo` and its like don't say that it was the command they did not find, and need not be asked.
        let is_wrapped =
            words.first().is_some_and(|first| first.start != word.start && is_wrapper(first.raw));
        if unknown.next().is_some() || (status != NOT_FOUND && !is_wrapped) {
            return None;
        }
        if let Some(parent) = parent_without_blank(word.raw) {
            return Some((word, format!("cd {parent}")));
        }
        if !is_name(word.raw) {
            return None;
        }
        let mut uses: HashMap<&str, u32> = HashMap::new();
        for found in self.index.lines().filter(|found| found.line != self.line) {
            for name in names_of_commands(&tokens(found.line)) {
                *uses.entry(name.raw).or_default() += found.uses;
            }
        }
        let wrong = uses.get(word.raw).copied().unwrap_or(0);
        let names = self.commands.iter().map(String::as_str).chain(BUILTINS.iter().copied());
        let choices = names.map(|name| Choice { word: name, uses: uses.get(name).copied().unwrap_or(0) });
        let right = choose(word.raw, choices)?;
        // A name that was used again and again may be a function, in which something else was not found.
        (wrong < 2 || wrong <= uses.get(right).copied().unwrap_or(0) / 5).then(|| (word, right.to_owned()))
    }

    /// The subcommand that is wrong, and what it has to be.
    fn subcommand<'w>(&self, words: &[Token<'w>]) -> Option<(Token<'w>, String)> {
        // Of several commands nobody knows which one has failed.
        if words.iter().any(Token::starts_command) {
            return None;
        }
        let skipped = words.iter().take_while(|word| is_wrapper(word.raw)).count();
        let [command, word, ..] = words[skipped..] else { return None };
        let is_wrong_place = command.operator || word.operator || !is_name(word.raw);
        if is_wrong_place || ANSWERING.contains(&command.raw) || !self.is_command(command.raw) {
            return None;
        }
        let mut uses: HashMap<&str, u32> = HashMap::new();
        for found in self.index.lines().filter(|found| found.line != self.line) {
            // Cutting every line of a long history would take its time.
            if !found.line.contains(command.raw) {
                continue;
            }
            let words = tokens(found.line);
            let skipped = words.iter().take_while(|word| is_wrapper(word.raw)).count();
            if let [first, second, ..] = words[skipped..]
                && first.raw == command.raw
                && !second.operator
            {
                *uses.entry(second.raw).or_default() += found.uses;
            }
        }
        let listed = subcommands(command.raw);
        if uses.contains_key(word.raw) || listed.contains(&word.raw) {
            return None;
        }
        // A word that is on no list has to be a habit: most second words are files and hosts.
        let habits = uses.iter().filter(|(name, uses)| **uses > 1 && !listed.contains(name) && is_name(name));
        let choices = habits.map(|(name, uses)| Choice { word: name, uses: *uses });
        let listed =
            listed.iter().map(|name| Choice { word: name, uses: uses.get(name).copied().unwrap_or(0) });
        choose(word.raw, choices.chain(listed)).map(|right| (word, right.to_owned()))
    }

    /// The option or subcommand that its program's list does not have, and what it has to be. Nothing where there are several,
    /// for the list is then more likely to be another version's.
    fn listed(&self, words: &[Token<'_>], specs: &Specs) -> Option<(Range<usize>, String)> {
        let program = names_of_commands(words).last()?;
        let is_one = !words.iter().any(Token::starts_command);
        if !is_one || ANSWERING.contains(&program.raw) || !self.is_command(program.raw) {
            return None;
        }
        let unlisted = specs.unlisted(self.line);
        let [wrong] = unlisted.as_slice() else { return None };
        if self.is_habit(wrong) {
            return None;
        }
        let others = wrong.others();
        // The dashes are not among the letters that a slip is judged by.
        let letters = wrong.name.trim_start_matches('-');
        let choices = others.iter().map(|(name, seen)| Choice {
            word: name.trim_start_matches('-'),
            uses: u32::try_from(*seen).unwrap_or(u32::MAX),
        });
        let right = choose(letters, choices)?;
        let start = wrong.start + wrong.name.len() - letters.len();
        Some((start..wrong.start + wrong.name.len(), right.to_owned()))
    }

    /// Whether other lines of the history have the word, too, which may be newer than a list.
    fn is_habit(&self, word: &Unlisted<'_>) -> bool {
        let others = self.index.lines().filter(|found| found.line != self.line);
        let mut lines = others.filter(|found| found.line.contains(word.name));
        lines.any(|found| tokens(found.line).iter().any(|other| other.raw.starts_with(word.name)))
    }

    /// Whether a word may name a command. What is no plain name is believed.
    fn is_command(&self, word: &str) -> bool {
        let exists = |word: &str| self.commands.binary_search_by(|name| name.as_str().cmp(word)).is_ok();
        parent_without_blank(word).is_none() && may_be_command(word, exists)
    }
}

/// Whether a word may name a command, where `exists` knows those on the PATH. What is no plain name is believed, as an option of `sudo` is.
pub(crate) fn may_be_command(word: &str, exists: impl Fn(&str) -> bool) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let is_plain = !word.starts_with('-') && word.chars().all(is_of_name);
    !is_plain || exists(word) || BUILTINS.contains(&word)
}

/// The directory of `cd..` and `cd../..`.
fn parent_without_blank(word: &str) -> Option<&str> {
    word.strip_prefix("cd").filter(|rest| rest.starts_with(".."))
}

/// Whether it is a word as commands and subcommands are called. One with a digit in it names a host or a version as
/// well, where the neighbour is another one.
fn is_name(word: &str) -> bool {
    word.len() > 1
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '-' | '_'))
}

/// The word that is meant by a wrong one, where one choice clearly outweighs the others.
fn choose<'a>(wrong: &str, choices: impl Iterator<Item = Choice<'a>>) -> Option<&'a str> {
    let mut best: Vec<(usize, f32, &str)> = choices
        .filter(|choice| choice.word != wrong && !choice.word.contains(|c: char| c.is_ascii_digit()))
        .filter_map(|choice| {
            let slip = Slip::between(wrong, choice.word)?;
            let is_certain = choice.uses > 0 || slip.is_certain(wrong);
            is_certain.then(|| (slip.distance(), (choice.uses as f32 + UNUSED) * slip.weight(), choice.word))
        })
        .collect();
    best.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    best.dedup_by(|a, b| a.2 == b.2);
    match best.as_slice() {
        [(_, _, word)] => Some(word),
        [(distance, weight, word), (other, next, _), ..] if distance < other || *weight >= next * CLEARLY => {
            Some(word)
        }
        _ => None,
    }
}

/// How one word becomes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    /// Two letters beside each other have changed places.
    Swapped,
    /// A letter is missing or too many.
    Length,
    /// A letter is another one.
    Other,
    /// Two of these.
    Twice,
}

impl Slip {
    fn between(wrong: &str, right: &str) -> Option<Self> {
        let (long, short) = (wrong.len().max(right.len()), wrong.len().min(right.len()));
        if long - short > 2 {
            return None;
        }
        let same_length = wrong.len() == right.len();
        let slip = match strsim::osa_distance(wrong, right) {
            1 if same_length && strsim::levenshtein(wrong, right) == 2 => Self::Swapped,
            1 if same_length => Self::Other,
            1 => Self::Length,
            2 if short >= LONG => Self::Twice,
            _ => return None,
        };
        // The first letter is seldom wrong, but where it has changed places.
        let same_beginning = wrong.as_bytes().first() == right.as_bytes().first();
        let is_long_enough = short >= MIN_LETTERS || slip == Self::Swapped;
        (is_long_enough && (same_beginning || slip == Self::Swapped)).then_some(slip)
    }

    fn distance(self) -> usize {
        if self == Self::Twice { 2 } else { 1 }
    }

    /// How often it happens, next to the others.
    fn weight(self) -> f32 {
        match self {
            Self::Swapped => 4.0,
            Self::Length => 2.0,
            Self::Other | Self::Twice => 1.0,
        }
    }

    /// Whether it is believed for a word nobody has used before.
    fn is_certain(self, wrong: &str) -> bool {
        match self {
            Self::Swapped => wrong.len() > 2,
            Self::Length => wrong.len() > 3,
            Self::Other => wrong.len() > 4,
            Self::Twice => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specs::key;
    use proptest::prelude::*;

    const COMMANDS: &[&str] = &[
        "apt",
        "cargo",
        "cat",
        "cut",
        "dd",
        "docker",
        "docker-compose",
        "find",
        "gist",
        "git",
        "go",
        "grep",
        "ls",
        "make",
        "mv",
        "npm",
        "pip",
        "python",
        "python3",
        "rm",
        "sl-ice",
        "ssh",
        "sudo",
        "systemctl",
        "vim",
        "wc",
    ];

    fn corrected(line: &str, status: i32, history: &[&str]) -> Option<String> {
        let commands: Vec<String> = COMMANDS.iter().map(|&name| name.to_owned()).collect();
        let mut index = Index::from_lines(history);
        // It may have been run before.
        index.push(line);
        correct(line, status, &commands, &index, Some(&specs()))
    }

    /// Of `git commit` and `docker` a part, with how often it was seen.
    fn specs() -> Specs {
        let mut entries = vec![
            (key("cargo", "build"), 9),
            (key("git", "commit"), 90),
            (key("docker compose", "config"), 0),
            (key("docker compose", "down"), 20),
            (key("docker compose", "logs"), 9),
            (key("docker compose", "up"), 50),
            (key("docker", "compose"), 90),
            (key("cargo build", "--release"), 9),
            (key("cargo build", "--target"), 2),
            (key("cargo build", "--target-dir"), 1),
            (key("git commit", "--all"), 7),
            (key("git commit", "--allow-empty"), 5),
            (key("git commit", "--amend"), 20),
            (key("git commit", "--message"), 3),
            (key("git commit", "--no-edit"), 9),
            (key("git commit", "--date"), 0),
            (key("git commit", "--dare"), 0),
        ];
        entries.sort();
        let entries = entries.iter().map(|(key, seen)| (key.as_bytes(), *seen));
        Specs::new(fst::Map::from_iter(entries).unwrap().into_fst().into_inner()).unwrap()
    }

    #[test]
    fn slips_of_the_fingers_are_put_right() {
        for (line, status, history, right) in [
            // The name of the command, which the shell did not find.
            ("gti status", 127, &[] as &[&str], "git status"),
            ("gitt status", 127, &[], "git status"),
            ("pyhton -m venv .env", 127, &[], "python -m venv .env"),
            ("systmectl status ssh", 127, &[], "systemctl status ssh"),
            ("sytsemclt status ssh", 127, &[], "systemctl status ssh"),
            ("dokcer ps", 127, &[], "docker ps"),
            ("grpe -r todo src", 127, &[], "grep -r todo src"),
            ("sl", 127, &["ls"], "ls"),
            ("cd..", 127, &[], "cd .."),
            ("cd../.. && ls", 127, &[], "cd ../.. && ls"),
            ("exprot A=1", 127, &[], "export A=1"),
            ("cat notes | gerp x", 127, &[], "cat notes | grep x"),
            ("LANG=C gti log", 127, &[], "LANG=C git log"),
            ("sudo atp update", 1, &[], "sudo apt update"),
            ("sduo apt update", 127, &[], "sudo apt update"),
            // One that is always mistyped.
            (
                "gti diff",
                127,
                &[
                    "gti status",
                    "gti log",
                    "git a",
                    "git b",
                    "git c",
                    "git d",
                    "git e",
                    "git f",
                    "git g",
                    "git h",
                    "git i",
                    "git j",
                ],
                "git diff",
            ),
            // A subcommand.
            ("git psuh", 1, &[], "git push"),
            ("git psuh origin 'a b'", 1, &[], "git push origin 'a b'"),
            ("git comit -m 'fix'", 1, &[], "git commit -m 'fix'"),
            ("git chekcout main", 1, &[], "git checkout main"),
            ("cargo biuld --release", 101, &[], "cargo build --release"),
            ("docker psuh me/web", 1, &[], "docker push me/web"),
            ("sudo systemctl retsart nginx", 1, &[], "sudo systemctl restart nginx"),
            ("npm isntall", 1, &[], "npm install"),
            // Words of the lists of options and subcommands.
            ("git commit --ammend", 129, &[], "git commit --amend"),
            ("git commit --amned --no-edit", 129, &[], "git commit --amend --no-edit"),
            ("git commit --mesage='fix it'", 129, &[], "git commit --message='fix it'"),
            ("sudo docker compose lgos web", 1, &[], "sudo docker compose logs web"),
            ("cargo build --relaese 2>log", 1, &[], "cargo build --release 2>log"),
            // Words of the history.
            ("make delpoy", 2, &["make deploy", "make deploy"], "make deploy"),
            ("make tets", 2, &["make test", "make all", "make test"], "make test"),
        ] {
            assert_eq!(corrected(line, status, history).as_deref(), Some(right), "{line}");
        }
    }

    #[test]
    fn what_is_not_certain_is_left_alone() {
        for (line, status, history) in [
            // It worked, or was ended by a signal.
            ("gti status", 0, &[] as &[&str]),
            ("gti status", 130, &[]),
            // It exists, and failed for another reason.
            ("git push", 1, &[]),
            ("apt update", 100, &[]),
            ("ls nowhere", 2, &[]),
            ("mv a b", 1, &[]),
            // Nothing is near, or too much.
            ("frobnicate", 127, &[]),
            ("cst x", 127, &[]),
            ("xx", 127, &[]),
            ("ct x", 127, &[]),
            // Rights are never added.
            ("systemctl restart nginx", 1, &["sudo systemctl restart nginx", "sudo systemctl restart nginx"]),
            // The neighbour of a host, a file or a version is another one.
            ("ssh web2", 255, &["ssh web1", "ssh web1"]),
            ("ssh db2", 1, &["ssh db1", "ssh db1"]),
            ("cat a.txt", 1, &["cat b.txt", "cat b.txt"]),
            ("make tets", 2, &["make test"]),
            // Two options are as near, or two are wrong, or it was used before; or it is a value.
            ("git commit --dae x", 129, &[]),
            ("git commit --amned --no-eidt", 129, &[]),
            ("git commit --ammend", 129, &["git commit --ammend -a"]),
            ("git commit -m '--amned'", 1, &[]),
            ("docker compose xyz", 1, &[]),
            ("cargo build --relaese && ls", 1, &[]),
            // It answers no.
            ("grep tset notes", 1, &["grep test notes", "grep test notes"]),
            // A name of the user's own, which was there before.
            ("git psh", 1, &["git psh"]),
            ("dply x", 127, &["dply a", "dply b", "dply c"]),
            // Dangerous if it were right.
            ("mr -rf build", 127, &["rm x", "rm y", "rm z"]),
            ("sduo rm -rf /", 127, &[]),
            ("git psuh --force", 1, &[]),
            ("git rest --hard", 1, &[]),
            // Paths, two unknown names, several lines, secrets.
            ("./gti x", 127, &[]),
            ("gti | gerp", 127, &[]),
            ("gti status\nls", 127, &[]),
            ("gti clone https://me:hunter2secret@a.example/x", 127, &[]),
            ("cd x && git psuh", 1, &[]),
        ] {
            assert_eq!(corrected(line, status, history), None, "{line}");
        }
        // Where the commands are not known, every name looks wrong.
        assert_eq!(correct("gti status", 127, &[], &Index::default(), Some(&specs())), None);
    }

    proptest! {
        #[test]
        fn any_line_is_looked_at(line in "[ gitpush|;&'\"=a-z日-]{0,30}", status in 0i32..260) {
            if let Some(right) = corrected(&line, status, &["git push", "git push"]) {
                prop_assert!(right != line && safety::is_harmless(&right));
            }
        }
    }
}
