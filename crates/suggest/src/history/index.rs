//! Which lines begin with what is typed, and what usually follows a command.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::clean::is_displayable;

/// A use weighs half as much after this many further commands, so a line used twice as often outranks one
/// that is up to this many commands newer.
const HALF_LIFE: f32 = 50.0;

/// How many followers are remembered for each line; the weakest gives way.
const FOLLOWERS: usize = 8;

/// Longer lines are pasted data, not something to suggest.
const MAX_LINE_BYTES: usize = 1024;

/// A line of the history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match<'a> {
    /// The whole line.
    pub line: &'a str,
    /// How new and how often used it is: the base-2 logarithm of the sum of its uses, each weighed by its
    /// age. Only differences between scores of one index mean something: 1 is twice the weight.
    pub score: f32,
    /// How often the line was used.
    pub uses: u32,
}

/// The history, ready to be asked at every key stroke.
///
/// The distinct lines are kept sorted, so those with one prefix lie side by side, and over them stands a
/// tournament tree of their scores: the best n of a range of any width cost O(n log N). Scores are
/// logarithms on a scale that moves with time (`now / HALF_LIFE`), so that ageing never changes the order
/// of two lines and nothing has to be updated but the line just used.
#[derive(Debug, Clone, Default)]
pub struct Index {
    lines: Vec<Line>,
    /// Indices into `lines`, sorted by text.
    sorted: Vec<u32>,
    /// `tree[1]` is the root; the leaf of `sorted[i]` is `tree[leaves + i]`.
    tree: Vec<f32>,
    /// What was run after a line, by index into `lines`.
    followers: HashMap<u32, Vec<Follower>>,
    /// The line that was pushed last, if it may be suggested.
    last: Option<u32>,
    /// How many lines were pushed.
    now: u32,
}

#[derive(Debug, Clone)]
struct Line {
    text: Box<str>,
    score: f32,
    uses: u32,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    id: u32,
    score: f32,
    uses: u32,
}

impl Index {
    /// An index of the given lines, oldest first.
    pub fn from_lines<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let mut index = Self::default();
        let mut ids: HashMap<Box<str>, u32> = HashMap::new();
        for line in lines {
            let Some(text) = index.admit(line.as_ref()) else { continue };
            let id = *ids.entry(text.into()).or_insert_with(|| index.add(text));
            index.record(id);
        }
        let texts = &index.lines;
        index.sorted = (0..texts.len() as u32).collect();
        index.sorted.sort_unstable_by(|&a, &b| texts[a as usize].text.cmp(&texts[b as usize].text));
        index.rebuild_tree();
        index
    }

    /// Adds the line that was just run. Lines that begin with a blank, span several lines or hold characters
    /// that must not be shown are never indexed.
    pub fn push(&mut self, line: &str) {
        let Some(text) = self.admit(line) else { return };
        match self.position(text) {
            Ok(position) => {
                let id = self.sorted[position];
                self.record(id);
                self.update_leaf(position);
            }
            Err(position) => {
                let id = self.add(text);
                self.record(id);
                self.sorted.insert(position, id);
                self.rebuild_tree();
            }
        }
    }

    /// The number of distinct lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing is indexed.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The best `n` lines that begin with `prefix` and go on after it, best first.
    pub fn matches(&self, prefix: &str, n: usize) -> Vec<Match<'_>> {
        let begins = |&id: &u32| self.text(id).as_bytes().get(..prefix.len()) == Some(prefix.as_bytes());
        let start = self.sorted.partition_point(|&id| self.text(id) <= prefix);
        let end = start + self.sorted[start..].partition_point(begins);
        self.best_of(start, end, n).into_iter().map(|position| self.as_match(self.sorted[position])).collect()
    }

    /// The best `n` lines that were run right after `line`, most often and newest first.
    pub fn next(&self, line: &str, n: usize) -> Vec<Match<'_>> {
        let Ok(position) = self.position(line.trim_end()) else { return Vec::new() };
        let Some(followers) = self.followers.get(&self.sorted[position]) else { return Vec::new() };
        let mut best = followers.clone();
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        best.truncate(n);
        best.iter().map(|f| Match { line: self.text(f.id), score: f.score, uses: f.uses }).collect()
    }

    /// How often a line was used.
    pub fn uses(&self, line: &str) -> u32 {
        self.position(line.trim_end()).map_or(0, |position| self.as_match(self.sorted[position]).uses)
    }

    /// All lines, in no order.
    pub fn lines(&self) -> impl Iterator<Item = Match<'_>> {
        (0..self.lines.len() as u32).map(|id| self.as_match(id))
    }

    /// The line as it may be indexed. Time passes, and what follows is forgotten, even if it may not be.
    fn admit<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        self.now += 1;
        let text = line.trim_end();
        let wanted = !text.is_empty()
            && !text.starts_with([' ', '\t'])
            && text.len() <= MAX_LINE_BYTES
            && is_displayable(text);
        if !wanted {
            self.last = None;
        }
        wanted.then_some(text)
    }

    fn add(&mut self, text: &str) -> u32 {
        self.lines.push(Line { text: text.into(), score: f32::NEG_INFINITY, uses: 0 });
        (self.lines.len() - 1) as u32
    }

    /// Counts one use of a line now, as itself and as the follower of the line before.
    fn record(&mut self, id: u32) {
        let clock = self.clock();
        let line = &mut self.lines[id as usize];
        line.score = add_use(line.score, clock);
        line.uses += 1;
        if let Some(last) = self.last.filter(|&last| last != id) {
            let followers = self.followers.entry(last).or_default();
            match followers.iter_mut().find(|follower| follower.id == id) {
                Some(follower) => {
                    follower.score = add_use(follower.score, clock);
                    follower.uses += 1;
                }
                None => {
                    if followers.len() == FOLLOWERS {
                        followers.sort_by(|a, b| b.score.total_cmp(&a.score));
                        followers.pop();
                    }
                    followers.push(Follower { id, score: clock, uses: 1 });
                }
            }
        }
        self.last = Some(id);
    }

    fn clock(&self) -> f32 {
        self.now as f32 / HALF_LIFE
    }

    fn text(&self, id: u32) -> &str {
        &self.lines[id as usize].text
    }

    fn as_match(&self, id: u32) -> Match<'_> {
        let line = &self.lines[id as usize];
        Match { line: &line.text, score: line.score, uses: line.uses }
    }

    fn position(&self, text: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|&id| self.text(id).cmp(text))
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    fn rebuild_tree(&mut self) {
        let leaves = self.sorted.len().next_power_of_two();
        self.tree.clear();
        self.tree.resize(2 * leaves, f32::NEG_INFINITY);
        for (leaf, &id) in self.tree[leaves..].iter_mut().zip(&self.sorted) {
            *leaf = self.lines[id as usize].score;
        }
        for node in (1..leaves).rev() {
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
    }

    fn update_leaf(&mut self, position: usize) {
        let mut node = self.leaves() + position;
        self.tree[node] = self.lines[self.sorted[position] as usize].score;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
    }

    /// The positions of the best `n` scores in `start..end`, best first: the range is covered by O(log N)
    /// subtrees, and the most promising one is opened until a leaf comes up.
    fn best_of(&self, start: usize, end: usize, n: usize) -> Vec<usize> {
        let leaves = self.leaves();
        let mut heap = BinaryHeap::new();
        let (mut left, mut right) = (start + leaves, end + leaves);
        while left < right {
            if left % 2 == 1 {
                heap.push(self.subtree(left));
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                heap.push(self.subtree(right));
            }
            left /= 2;
            right /= 2;
        }
        let mut best = Vec::new();
        while best.len() < n {
            let Some(Subtree { node, .. }) = heap.pop() else { break };
            if node >= leaves {
                best.push(node - leaves);
            } else {
                heap.push(self.subtree(2 * node));
                heap.push(self.subtree(2 * node + 1));
            }
        }
        best
    }

    fn subtree(&self, node: usize) -> Subtree {
        Subtree { score: self.tree[node], node }
    }
}

/// The logarithm of the sum of an older weight and one use now.
fn add_use(score: f32, clock: f32) -> f32 {
    clock + (1.0 + (score - clock).exp2()).log2()
}

/// A node of the tree, ordered by its score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Subtree {
    score: f32,
    node: usize,
}

impl Eq for Subtree {}

impl Ord for Subtree {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Subtree {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines<'a>(matches: &[Match<'a>]) -> Vec<&'a str> {
        matches.iter().map(|found| found.line).collect()
    }

    #[test]
    fn newest_first_and_often_used_before_once_used() {
        let mut index = Index::from_lines(["git status", "git diff", "git status", "git log"]);
        assert_eq!(lines(&index.matches("git ", 9)), ["git status", "git log", "git diff"]);
        index.push("git push");
        index.push("git push");
        assert_eq!(lines(&index.matches("git ", 2)), ["git push", "git status"]);
    }

    #[test]
    fn an_old_habit_gives_way_in_time() {
        let mut index = Index::from_lines(["make a", "make a"]);
        for _ in 0..60 {
            index.push("ls");
        }
        index.push("make b");
        assert_eq!(lines(&index.matches("make", 1)), ["make b"]);
    }

    #[test]
    fn a_match_goes_on_after_the_prefix() {
        let index = Index::from_lines(["ls", "ls -l", "lsof"]);
        assert_eq!(lines(&index.matches("ls", 9)), ["lsof", "ls -l"]);
        assert!(index.matches("lsx", 9).is_empty());
        assert!(Index::default().matches("", 9).is_empty());
    }

    #[test]
    fn private_and_unshowable_lines_are_left_out() {
        let index = Index::from_lines([" secret", "for i\ndo", "a\u{202e}b", "ok  ", ""]);
        assert_eq!(lines(&index.matches("", 9)), ["ok"]);
    }

    #[test]
    fn what_follows_a_command() {
        let index =
            Index::from_lines(["git add .", "git commit", "git add .", "git commit", "git add .", "ls"]);
        assert_eq!(lines(&index.next("git add .", 2)), ["git commit", "ls"]);
        assert!(index.next("ls", 2).is_empty());
        let private = Index::from_lines(["a", " b", "c"]);
        assert!(private.next("a", 2).is_empty(), "c did not follow a");
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(
            history in prop::collection::vec("[ab]{1,4}", 0..60),
            built in 0usize..60,
            prefix in "[ab]{0,2}",
        ) {
            let built = built.min(history.len());
            let mut index = Index::from_lines(&history[..built]);
            for line in &history[built..] {
                index.push(line);
            }
            let mut expected: Vec<f32> = index.lines.iter()
                .filter(|line| line.text.starts_with(&prefix) && line.text.len() > prefix.len())
                .map(|line| line.score)
                .collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            expected.truncate(5);
            let found = index.matches(&prefix, 5);
            prop_assert!(found.iter().all(|found| found.line.starts_with(&prefix)));
            prop_assert_eq!(found.iter().map(|found| found.score).collect::<Vec<_>>(), expected);
        }
    }
}
