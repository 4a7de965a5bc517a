//! Which of several commands for a description is the answer: the one that has most in common with all of them.
//!
//! That is minimum Bayes risk decoding (Kumar and Byrne, 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation"),
//! with the F1 of the words for the gain and what is known of the nearest described commands for the probabilities. What a small
//! model writes is often nearly right; a command that somebody has written is whole.

use crate::analogy::share_named;
use crate::examples::Near;
use crate::score::f1;

/// The part of all evidence that the written command is. The rest is that of the nearest, by the squares of their weights.
const WRITTEN: f32 = 0.15;
/// How much of its gain a command keeps that has none of the names of the description.
const UNNAMED: f32 = 0.7;

/// Of the command that a model wrote for a description and those of the nearest that call the same program, the one to answer with.
pub fn agreed<'a>(description: &str, written: &'a str, near: &'a [Near]) -> &'a str {
    let all: f32 = near.iter().map(|near| near.weight * near.weight).sum();
    if all <= 0.0 {
        return written;
    }
    let weighed = near.iter().map(|near| {
        let weight = (1.0 - WRITTEN) * near.weight * near.weight / all;
        (near.command.as_str(), weight)
    });
    let evidence: Vec<(&str, f32)> = std::iter::once((written, WRITTEN)).chain(weighed).collect();
    let gain = |command: &str| -> f32 {
        let common: f32 = evidence.iter().map(|(other, weight)| weight * f1(command, other) as f32).sum();
        common * (UNNAMED + (1.0 - UNNAMED) * share_named(description, command))
    };
    let called = written.split_whitespace().next();
    let fits = evidence.iter().filter(|(command, _)| command.split_whitespace().next() == called);
    let gains = fits.map(|(command, _)| (gain(command), *command));
    // Of equal ones the first: what was written, then the nearest.
    gains
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .map_or(written, |(_, command)| command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near<const N: usize>(commands: [(&str, f32); N]) -> Vec<Near> {
        let near = |(command, weight): (&str, f32)| Near { command: command.to_owned(), weight };
        commands.map(near).to_vec()
    }

    #[test]
    fn what_most_agree_with_is_the_answer() {
        let known = near([("ln -s a b", 0.9), ("ln -sf a b", 0.8), ("ln -s a c", 0.7)]);
        assert_eq!(agreed("link a to b", "ln -s a/a/a", &known), "ln -s a b");
        assert_eq!(agreed("link a to b", "ln -s a b", &known), "ln -s a b");
    }

    #[test]
    fn the_model_chooses_the_program() {
        let known = near([("tree -L 2", 0.9), ("tree -L 2", 0.9), ("ls -R", 0.8)]);
        assert_eq!(agreed("list all", "ls", &known), "ls -R");
        assert_eq!(agreed("list all", "find .", &known), "find .", "nobody knows another");
        assert_eq!(agreed("list all", "find .", &[]), "find .");
    }

    #[test]
    fn what_is_named_is_to_be_in_it() {
        let known =
            near([("find /srv -name '*.txt' -delete", 0.8), ("find /home -name '*.txt' -delete", 0.8)]);
        let description = "delete '*.txt' under /home";
        assert_eq!(agreed(description, "find . -name x", &known), "find /home -name '*.txt' -delete");
    }
}
