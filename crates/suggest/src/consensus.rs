//! Which of several commands for a description is the answer: the one that has most in common with all of them.
//!
//! That is minimum Bayes risk decoding (Kumar and Byrne, 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation"),
//! with the F1 of the words for the gain and what is known of the nearest described commands for the probabilities. What a small
//! model writes is often nearly right; a command that somebody has written is whole.

use crate::analogy::share_named;
use crate::examples::Near;
use crate::safety::is_harmless;
use crate::score::f1;

/// The part of all evidence that the written command is. The rest is that of the nearest, by the squares of their weights.
const WRITTEN: f32 = 0.15;
/// How much of its gain a command keeps that has none of the names of the description.
const UNNAMED: f32 = 0.7;
/// One that is about files of an ending that the description does not name.
const OTHERS: f32 = 0.6;
/// And one that deletes, overwrites, forces or ends something for a description that does not speak of that.
const UNCALLED: f32 = 0.5;
/// From so many common words on it is the same question.
const SAME: f32 = 1.0;
/// What words begin with that speak of it.
const CALLS: [&str; 28] = [
    "abort",
    "clean",
    "clear",
    "delet",
    "destroy",
    "discard",
    "drop",
    "empt",
    "end",
    "eras",
    "forc",
    "format",
    "hard",
    "kill",
    "overwrit",
    "purg",
    "quit",
    "reboot",
    "remov",
    "reset",
    "restart",
    "shut",
    "stop",
    "terminat",
    "throw",
    "truncat",
    "uninstall",
    "wip",
];

/// Of the command that a model wrote for a description and those of the nearest that call the same program, the one to answer with;
/// where somebody has asked the same before, the answer to that. Where what is written calls none (`is_program`), any of the nearest will do.
pub fn agreed<'a>(description: &str, written: &'a str, is_program: bool, near: &'a [Near]) -> &'a str {
    let all: f32 = near.iter().map(|near| near.weight * near.weight).sum();
    if all <= 0.0 {
        return written;
    }
    let weighed = near.iter().map(|near| {
        let weight = (1.0 - WRITTEN) * near.weight * near.weight / all;
        (near.command.as_str(), weight)
    });
    let described = description.to_lowercase();
    let words = || described.split(|c: char| !c.is_alphanumeric());
    let calls_for_it = words().any(|word| CALLS.iter().any(|call| word.starts_with(call)));
    // Files in Python end in `py`.
    let is_said = |ending: &str| words().any(|word| word.starts_with(ending));
    let evidence: Vec<(&str, f32)> = std::iter::once((written, WRITTEN)).chain(weighed).collect();
    let gain = |command: &str| -> f32 {
        let common: f32 = evidence.iter().map(|(other, weight)| weight * f1(command, other) as f32).sum();
        let named = UNNAMED + (1.0 - UNNAMED) * share_named(description, command);
        let called = if calls_for_it || is_harmless(command) { 1.0 } else { UNCALLED };
        let of_others = if endings(command).all(&is_said) { 1.0 } else { OTHERS };
        common * named * called * of_others
    };
    let called = written.split_whitespace().next();
    // Short names are no words.
    let is_same = |near: &&Near| near.sameness >= SAME && share_named(description, &near.command) >= 1.0;
    let same = || near.iter().filter(is_same).map(|near| near.command.as_str());
    let is_known = same().next().is_some();
    let fits = evidence.iter().map(|(command, _)| *command).filter(|command| {
        if is_known {
            same().any(|known| known == *command)
        } else {
            let is_written = *command == written;
            if is_program { command.split_whitespace().next() == called } else { !is_written }
        }
    });
    let gains = fits.map(|command| (gain(command), command));
    // Of equal ones the first: what was written, then the nearest.
    gains
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .map_or(written, |(_, command)| command)
}

/// The endings of the patterns for files, such as `txt` of `'*.txt'`.
fn endings(command: &str) -> impl Iterator<Item = &str> {
    let after = command.split("*.").skip(1);
    after
        .map(|text| &text[..text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len())])
        .filter(|ending| !ending.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near<const N: usize>(commands: [(&str, f32); N]) -> Vec<Near> {
        let near =
            |(command, weight): (&str, f32)| Near { command: command.to_owned(), weight, sameness: 0.0 };
        commands.map(near).to_vec()
    }

    #[test]
    fn what_most_agree_with_is_the_answer() {
        let known = near([("ln -s a b", 0.9), ("ln -sf a b", 0.8), ("ln -s a c", 0.7)]);
        assert_eq!(agreed("link a to b", "ln -s a/a/a", true, &known), "ln -s a b");
        assert_eq!(agreed("link a to b", "ln -s a b", true, &known), "ln -s a b");
    }

    #[test]
    fn the_model_chooses_the_program() {
        let known = near([("tree -L 2", 0.9), ("tree -L 2", 0.9), ("ls -R", 0.8)]);
        assert_eq!(agreed("list all", "ls", true, &known), "ls -R");
        assert_eq!(agreed("list all", "find .", true, &known), "find .", "nobody knows another");
        assert_eq!(agreed("list all", "find .", true, &[]), "find .");
        assert_eq!(
            agreed("list all", "files", false, &known),
            "tree -L 2",
            "what is no program chooses none"
        );
        assert_eq!(agreed("list all", "files", false, &[]), "files");
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let mut known = near([("ls -R", 0.8), ("tree -L 2", 0.9), ("tree -a", 0.9), ("tree -L 2", 0.5)]);
        assert_eq!(agreed("list all", "ls -R", true, &known), "ls -R");
        known[1].sameness = 1.0;
        assert_eq!(agreed("list all", "ls -R", true, &known), "tree -L 2");
        known[2].sameness = 1.0;
        assert_eq!(agreed("list all", "ls -R", true, &known), "tree -L 2", "most agree with it");
    }

    #[test]
    fn what_discards_is_only_for_those_who_say_so() {
        let known = near([
            ("git reset --hard HEAD~1", 0.9),
            ("git reset HEAD~", 0.6),
            ("git reset --soft HEAD~1", 0.6),
        ]);
        let answer = |description| agreed(description, "git reset --hard HEAD~1", true, &known);
        assert_eq!(answer("undo the last commit but keep changes"), "git reset --soft HEAD~1");
        assert_eq!(answer("undo the last commit and discard changes"), "git reset --hard HEAD~1");
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let known = near([
            ("find . -name '*.java' -exec grep TODO {} +", 0.9),
            ("find . -name '*.c' -exec grep TODO {} +", 0.9),
        ]);
        let written = "find . -name '*.rs' -exec grep TODO {} \\;";
        assert_eq!(agreed("search for TODO in all .rs files", written, true, &known), written);
        assert_eq!(endings("ls *.txt '*.' a.b \"*.tar.gz\"").collect::<Vec<_>>(), ["txt", "tar"]);
    }

    #[test]
    fn what_is_named_is_to_be_in_it() {
        let known =
            near([("find /srv -name '*.txt' -delete", 0.8), ("find /home -name '*.txt' -delete", 0.8)]);
        let description = "delete '*.txt' under /home";
        assert_eq!(agreed(description, "find . -name x", true, &known), "find /home -name '*.txt' -delete");
    }
}
