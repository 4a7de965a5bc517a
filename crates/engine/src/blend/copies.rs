//! What followed where the end of a text stood before: file names, branches, commands that come again.

use std::ops::Range;

/// Longer matches count as this long.
pub(super) const LONGEST: usize = 8;

/// Finds the longest ending of `tokens`, of at most [`LONGEST`] tokens, that also stands within one of `sources`, and what
/// followed it there. Where a source says so, only what goes on with a word is taken from it: `begins_word` tells what does
/// not. `followers` becomes those tokens with equal shares; returned is the ending's length, 0 where there is none.
pub(super) fn find(
    tokens: &[u32],
    sources: &[Source],
    begins_word: impl Fn(u32) -> bool,
    followers: &mut Vec<(u32, f32)>,
) -> usize {
    followers.clear();
    let Some((&last, before)) = tokens.split_last() else { return 0 };
    let mut longest = 0;
    for source in sources {
        for at in source.range.start..source.range.end.saturating_sub(1) {
            let follower = tokens[at + 1];
            if tokens[at] != last || (source.within_words && begins_word(follower)) {
                continue;
            }
            let same = tokens[..at].iter().rev().zip(before.iter().rev());
            let length = 1 + same.take(LONGEST - 1).take_while(|(a, b)| a == b).count();
            if length > longest {
                longest = length;
                followers.clear();
            }
            if length == longest {
                followers.push((follower, 1.0));
            }
        }
    }
    let share = 1.0 / followers.len().max(1) as f32;
    for follower in followers {
        follower.1 = share;
    }
    longest
}

/// A part of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) range: Range<usize>,
    /// Words are copied from here, but not one after the other: the words of a sentence follow one another in no command.
    pub(super) within_words: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[u32], sources: &[Source], length: usize, expected: &[(u32, f32)]) {
        let mut found = vec![(99, 9.9)];
        assert_eq!(find(tokens, sources, |token| token >= 50, &mut found), length, "{tokens:?}");
        assert_eq!(found, expected, "{tokens:?}");
    }

    #[test]
    fn the_longest_ending_decides() {
        let everywhere = |tokens: &[u32], length, expected: &[(u32, f32)]| {
            let all = Source { range: 0..tokens.len(), within_words: false };
            check(tokens, &[all], length, expected);
        };
        everywhere(&[], 0, &[]);
        everywhere(&[1], 0, &[]);
        everywhere(&[1, 2, 3], 0, &[]);
        everywhere(&[5, 7, 5], 1, &[(7, 1.0)]);
        everywhere(&[5, 7, 5, 8, 5], 1, &[(7, 0.5), (8, 0.5)]);
        everywhere(&[4, 5, 7, 9, 5, 8, 4, 5], 2, &[(7, 1.0)]);
        let long: Vec<u32> = (0..20).chain(0..15).collect();
        everywhere(&long, LONGEST, &[(15, 1.0)]);
    }

    #[test]
    fn only_sources_are_copied_from() {
        let tokens = [4, 5, 7, 5, 8, 5];
        check(&tokens, &[Source { range: 0..3, within_words: false }], 1, &[(7, 1.0)]);
        check(&tokens, &[Source { range: 0..2, within_words: false }], 0, &[]);
    }

    #[test]
    fn words_of_a_sentence_are_copied_singly() {
        let tokens = [4, 5, 60, 5, 7, 5];
        check(&tokens, &[Source { range: 0..5, within_words: true }], 1, &[(7, 1.0)]);
        check(&tokens[..4], &[Source { range: 0..4, within_words: true }], 0, &[]);
    }
}
