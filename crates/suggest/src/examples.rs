//! Commands that are known with what they do. Those whose descriptions are nearest to the one that is typed vote on its program,
//! and one of them goes before it in the prompt, so that a small model has something to copy from and to change, and a large one
//! sees how answers look.
//!
//! Nearest is what Okapi BM25 ranks first (Robertson and Zaragoza, 2009, "The Probabilistic Relevance Framework: BM25 and
//! Beyond"), with words counted once a description.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::analogy;
use crate::correct::may_be_command;
use crate::names::{self, Kind, Name, Part};
use crate::words::{names_of_commands, tokens};

/// How soon more of the same word stops to count, and how much a long description is held against itself.
const K1: f32 = 1.2;
const B: f32 = 0.3;
/// Shown is what has at least this part of the score that the description itself would have.
const MIN_SHARE: f32 = 0.3;
/// And this part, of what has a vote on the program.
const MIN_VOTING: f32 = 0.1;
/// So many vote. Which one is shown is chosen among them.
const VOTERS: usize = 10;
/// Of how many of the nearest it is looked whether they can be run.
const LOOKED_AT: usize = 64;
/// What is left of the nearness of those that cannot.
const ABSENT: f32 = 0.85;
/// A program that the description names has this part more of the votes that another has at most, if its name is no other word.
const NAMED: f32 = 1.0;
/// One that has fewer commands than this is no program that people name.
const KNOWN: u32 = 3;
/// What a program without votes counts, next to the one with the most.
const NO_VOTES: f32 = 0.05;
/// The power of a program's votes by which an example that is shown is weighed; of one that is nearly as near as the nearest the
/// votes decide.
const AGREEMENT: f32 = 0.1;
/// By how much one that has a place for each name of the description is better than one that has none.
const FIT: f32 = 0.1;
/// The same for the words of the description in the same order: just so much that of `mov to mp4` and `mp4 to mov` the right one goes first.
const ORDER: f32 = 0.01;
/// What people begin a question with, as [`stem`] leaves it: `how do I`, `could you please`.
const BEGINNINGS: [&str; 12] =
    ["can", "could", "do", "how", "i", "like", "need", "pleas", "to", "want", "would", "you"];
/// What is longer at the end of a name is no ending.
const LONGEST_ENDING: usize = 5;
/// What stands before a program that is run as somebody else. Who wants that says so, and programs are found by their own name.
const PRIVILEGED: &str = "sudo ";
/// A longer description, in bytes, takes too much of a prompt.
pub const MAX_DESCRIPTION: usize = 120;
/// The same for a command.
pub const MAX_COMMAND: usize = 160;

/// A command and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// What it does, in a line.
    pub description: &'a str,
    /// The command, in a line.
    pub command: &'a str,
}

impl<'a> Example<'a> {
    /// The first word of the command.
    fn program(self) -> Option<&'a str> {
        self.command.split_whitespace().next()
    }

    /// Whether it is a line each, and short enough.
    pub fn is_fit(&self) -> bool {
        let is_line = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && !text.contains(['\t', '\n', '\r'])
        };
        is_line(self.description, MAX_DESCRIPTION) && is_line(self.command, MAX_COMMAND)
    }
}

/// The programs that do what is like a description, with their votes; the one with the most has 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Votes(HashMap<Box<str>, f32>);

impl Votes {
    /// By how much a program is likelier than a model thinks that has seen one example: 1 for the one with the most votes, less for
    /// the others, and for those that have none.
    pub fn odds(&self, program: &str) -> f32 {
        let share = (self.of(program) + NO_VOTES) / (1.0 + NO_VOTES);
        // The votes are of other evidence than the model's words, and better.
        share * share
    }

    fn of(&self, program: &str) -> f32 {
        self.0.get(program).copied().unwrap_or(0.0)
    }
}

/// A described command, as it is about what somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// With the names of the description in the place of its own.
    pub command: String,
    /// How near its description is and how many agree with its program, above 0.
    pub weight: f32,
    /// The part of the words of both descriptions that both have, with the same names in both; 1 where it is the same question and
    /// the command can be run here.
    pub sameness: f32,
}

/// What the described commands say to a description.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    /// On its program.
    pub votes: Votes,
    /// The description and the command that are best to show: near, with a program that others would take as well, and with a place
    /// for each name.
    pub shown: Option<(String, String)>,
    /// The nearest commands, the nearest first.
    pub near: Vec<Near>,
}

/// What is known, found by words.
#[derive(Debug)]
pub struct Examples {
    /// `DESCRIPTION\tCOMMAND`, one a line.
    text: String,
    /// Where each line begins, and where the last one ends.
    starts: Vec<u32>,
    /// How many words each description has.
    lengths: Vec<u8>,
    mean_length: f32,
    /// In which lines a word is, in ascending order.
    places: HashMap<Box<str>, Vec<u32>>,
    /// How many commands each program has.
    programs: HashMap<Box<str>, u32>,
}

/// One that was found.
struct Found {
    at: usize,
    /// The part it has of the score that the description itself would have, less where it cannot be run.
    share: f32,
    /// Whether its programs are here, as far as is known.
    can_run: bool,
}

impl Found {
    /// The nearest first; equal ones in the order of the file, so that the same description always finds the same.
    fn nearer(&self, other: &Self) -> Ordering {
        other.share.total_cmp(&self.share).then(self.at.cmp(&other.at))
    }
}

/// Leaves that many of them, the nearest, in no order.
fn nearest(found: &mut Vec<Found>, count: usize) {
    if found.len() > count {
        found.select_nth_unstable_by(count, Found::nearer);
        found.truncate(count);
    }
}

impl Examples {
    /// Takes lines of `DESCRIPTION\tCOMMAND`. Those without a tab are never found.
    pub fn new(text: String) -> Self {
        let mut places: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut programs: HashMap<Box<str>, u32> = HashMap::new();
        let (mut starts, mut lengths) = (vec![0], Vec::new());
        for (number, line) in text.lines().enumerate() {
            let found = example(line);
            if let Some(program) = found.and_then(Example::program) {
                match programs.get_mut(program) {
                    Some(count) => *count += 1,
                    None => _ = programs.insert(program.into(), 1),
                }
            }
            let mut count = 0u8;
            for word in words(found.map_or("", |found| found.description)) {
                let lines = match places.get_mut(word.as_str()) {
                    Some(lines) => lines,
                    None => places.entry(word.into()).or_default(),
                };
                if lines.last() != Some(&(number as u32)) {
                    lines.push(number as u32);
                    count = count.saturating_add(1);
                }
            }
            lengths.push(count);
            starts.push((line.as_ptr() as usize - text.as_ptr() as usize + line.len() + 1) as u32);
        }
        let sum: f32 = lengths.iter().map(|&length| f32::from(length)).sum();
        let mean_length = (sum / lengths.len().max(1) as f32).max(1.0);
        Self { text, starts, lengths, mean_length, places, programs }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// At most so many of those that are nearest to a description and that `admits` lets through, the nearest last. Of those
    /// with the same command there is one.
    pub fn nearest(
        &self,
        description: &str,
        count: usize,
        admits: impl Fn(Example<'_>) -> bool,
    ) -> Vec<Example<'_>> {
        let mut found = self.found(description, MIN_SHARE);
        found.sort_unstable_by(Found::nearer);
        let mut nearest: Vec<Example<'_>> = Vec::new();
        for Found { at, .. } in found {
            if nearest.len() == count {
                break;
            }
            let Some(example) = self.at(at) else { continue };
            if nearest.iter().all(|other| other.command != example.command) && admits(example) {
                nearest.push(example);
            }
        }
        nearest.reverse();
        nearest
    }

    /// What the nearest to a description say to it, each [`about`](analogy::about) what the description names. Those whose programs
    /// `exists` does not know, and the description does not name, count as further away.
    pub fn consult(&self, description: &str, exists: impl Fn(&str) -> bool) -> Advice {
        let named = self.programs_in(description);
        let can_run = |example: Example<'_>| {
            let may_be = |word: &str| may_be_command(word, |name| named.contains(&name) || exists(name));
            names_of_commands(&tokens(example.command)).all(|name| may_be(name.raw))
        };
        // Thousands share a word with it, and this runs at a key stroke.
        let mut found = self.found(description, MIN_VOTING);
        nearest(&mut found, LOOKED_AT);
        for found in &mut found {
            found.can_run = self.at(found.at).is_some_and(can_run);
            found.share *= if found.can_run { 1.0 } else { ABSENT };
        }
        nearest(&mut found, VOTERS);
        found.sort_unstable_by(Found::nearer);
        let mut votes = Votes::default();
        for Found { at, share, .. } in &found {
            if let Some(program) = self.at(*at).and_then(Example::program) {
                *votes.0.entry(program.into()).or_default() += share * share;
            }
        }
        let most = |votes: &Votes| votes.0.values().fold(0.0, |most: f32, &votes| most.max(votes));
        let before = most(&votes);
        for program in named {
            *votes.0.entry(program.into()).or_default() += before * NAMED * self.share_of(program);
        }
        let most = most(&votes);
        // Where nobody votes, a program that is named has none either.
        if most > 0.0 {
            votes.0.values_mut().for_each(|votes| *votes /= most);
        }
        let mut advice = Advice { votes, ..Advice::default() };
        let mut best = 0.0;
        for &Found { at, share, can_run } in found.iter().take_while(|found| found.share > MIN_SHARE) {
            let Some((example, program)) =
                self.at(at).and_then(|example| Some((example, example.program()?)))
            else {
                continue;
            };
            let about = analogy::about(example, description);
            let fit = 1.0
                + FIT * analogy::share_named(description, &about.1)
                + ORDER * share_in_order(description, example.description);
            let weight = share * advice.votes.of(program).powf(AGREEMENT) * fit;
            let sameness = sameness(description, &about.0) * if can_run { 1.0 } else { ABSENT };
            advice.near.push(Near { command: about.1.clone(), weight, sameness });
            // The first of equal ones, which is the nearest.
            if weight > best {
                best = weight;
                advice.shown = Some(about);
            }
        }
        advice
    }

    /// The words of a description that are programs, each once.
    fn programs_in<'a>(&self, description: &'a str) -> Vec<&'a str> {
        let words = names::parts(description).filter_map(|part| match part {
            Part::Word(word) => Some(word.trim_matches(|c: char| !c.is_alphanumeric())),
            Part::Name(_) => None,
        });
        let mut programs: Vec<&str> =
            words.filter(|&word| self.programs.get(word).is_some_and(|&count| count >= KNOWN)).collect();
        programs.sort_unstable();
        programs.dedup();
        programs
    }

    /// Of the commands whose description has the name of a program as a word, those of that program: most for `docker`, and few for `kill`,
    /// which is a word of English too.
    fn share_of(&self, program: &str) -> f32 {
        let lines = self.places.get(stem(program).as_str()).map_or(&[][..], Vec::as_slice);
        let own =
            lines.iter().filter(|&&line| self.at(line as usize).and_then(Example::program) == Some(program));
        own.count() as f32 / lines.len().max(1) as f32
    }

    /// What is found for a description and has more than that part of the score that the description itself would have, in no order.
    fn found(&self, description: &str, least: f32) -> Vec<Found> {
        let mut query = asking_words(description);
        query.sort_unstable();
        query.dedup();
        let mut scores = vec![0f32; self.len()];
        let mut own = 0.0;
        for word in &query {
            // A word that nobody has used, as the name of a file, says nothing.
            let Some(lines) = self.places.get(word.as_str()) else { continue };
            let rarity = self.rarity(lines.len());
            own += rarity * self.weight(query.len() as f32);
            for &line in lines {
                scores[line as usize] += rarity * self.weight(f32::from(self.lengths[line as usize]));
            }
        }
        let shares = scores.iter().enumerate().filter(|&(_, &score)| score > own * least);
        shares.map(|(at, &score)| Found { at, share: score / own, can_run: true }).collect()
    }

    fn at(&self, at: usize) -> Option<Example<'_>> {
        example(self.text[self.starts[at] as usize..].lines().next()?)
    }

    /// The inverse document frequency of a word that is in so many descriptions.
    fn rarity(&self, lines: usize) -> f32 {
        let (all, lines) = (self.len() as f32, lines as f32);
        (1.0 + (all - lines + 0.5) / (lines + 0.5)).ln()
    }

    /// What a word counts in a description of so many words.
    fn weight(&self, length: f32) -> f32 {
        (K1 + 1.0) / (1.0 + K1 * (1.0 - B + B * length / self.mean_length))
    }
}

/// The part of the words of two descriptions that both have.
fn sameness(description: &str, other: &str) -> f32 {
    let [one, other] = [description, other].map(|text| HashSet::<String>::from_iter(asking_words(text)));
    let both = one.intersection(&other).count();
    both as f32 / (one.len() + other.len() - both).max(1) as f32
}

/// The part of the pairs of words in a description, one after the other, that stand so in another one.
fn share_in_order(description: &str, other: &str) -> f32 {
    let pairs = |text: &str| -> Vec<(String, String)> {
        let words: Vec<String> = words(text).filter(|word| !word.starts_with('<')).collect();
        words.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    let (own, others) = (pairs(description), pairs(other));
    let same = own.iter().filter(|pair| others.contains(pair)).count();
    same as f32 / own.len().max(1) as f32
}

/// What a line says; nothing where it has no tab.
fn example(line: &str) -> Option<Example<'_>> {
    let (description, command) = line.split_once('\t')?;
    Some(Example { description, command: command.strip_prefix(PRIVILEGED).unwrap_or(command) })
}

/// The words of a question after what people begin one with; all of them where nothing else is there.
fn asking_words(description: &str) -> Vec<String> {
    let all: Vec<String> = words(description).collect();
    let polite = all.iter().take_while(|word| BEGINNINGS.contains(&word.as_str())).count();
    if polite < all.len() { all[polite..].to_vec() } else { all }
}

/// What a description is found by: its words in lower case, without the endings of a plural (`branches` is the same as `branch`, and
/// `directories` as `directory`); and for a name what it is of, as what it is called says nothing, but for an ending such as `gz`.
fn words(text: &str) -> impl Iterator<Item = String> {
    let quoted = |text| (None, text);
    names::parts(text).flat_map(move |part| {
        let (kind, text) = match part {
            Part::Word(text) => quoted(text),
            Part::Name(Name { text, kind: Kind::Quoted }) => quoted(text),
            Part::Name(Name { text, kind }) => {
                let ending = text.rsplit_once('.').map_or("", |(_, ending)| ending);
                (Some(kind), if ending.len() <= LONGEST_ENDING { ending } else { "" })
            }
        };
        let kind = kind.map(|kind| format!("<{kind:?}>"));
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        kind.into_iter().chain(words.map(stem))
    })
}

fn stem(word: &str) -> String {
    let mut word = word.to_lowercase();
    if word.len() > 3 {
        if word.ends_with('s') && !word.ends_with("ss") {
            word.pop();
        }
        if word.ends_with('e') {
            word.pop();
        }
        if word.ends_with('y') {
            word.pop();
            word.push('i');
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "List all files\tls -a\nPrint the number of lines of a file\twc -l file\n\
        Show the current branch\tgit branch --show-current\nno tab\nCount lines in a file\twc -l file\nList branches\tgit branch\n";

    fn commands(description: &str, count: usize) -> Vec<&'static str> {
        // Leaked so that the answers outlive it; a test's few bytes.
        let examples: &'static Examples = Box::leak(Box::new(Examples::new(TEXT.to_owned())));
        examples.nearest(description, count, |_| true).iter().map(|example| example.command).collect()
    }

    #[test]
    fn the_nearest_stands_last() {
        assert_eq!(commands("count the lines of file x.txt", 1), ["wc -l file"]);
        assert_eq!(commands("list branch names", 2), ["ls -a", "git branch"]);
    }

    #[test]
    fn how_one_begins_a_question_says_nothing() {
        for beginning in ["how do I", "How to", "please", "could you please", "I want to"] {
            let asked = format!("{beginning} list branches");
            assert_eq!(commands(&asked, 1), ["git branch"]);
            assert_eq!(sameness(&asked, "list branches"), 1.0, "{asked}");
        }
        assert!(sameness("how many files", "count files") < 0.5);
    }

    #[test]
    fn what_can_be_run_here_is_nearer() {
        let text = "List installed packages\topam list\nList all installed packages\tapt list --installed\n\
            List all installed modules\tlsmod | sort\n";
        let examples = Examples::new(text.to_owned());
        let first = |description: &str, here: &[&str]| {
            let advice = examples.consult(description, |name| here.contains(&name));
            (advice.near[0].command.clone(), advice.near[0].sameness)
        };
        assert_eq!(first("list installed packages", &["opam", "apt"]), ("opam list".to_owned(), 1.0));
        let (command, sameness) = first("list installed packages", &["apt"]);
        assert_eq!(command, "apt list --installed");
        assert!(sameness < 1.0);
        assert_eq!(first("list installed packages", &[]).0, "opam list", "all are missing");
        assert_eq!(first("list all installed modules", &["lsmod", "sort"]), ("lsmod | sort".to_owned(), 1.0));
        let (command, sameness) = first("list all installed modules", &["lsmod"]);
        assert_eq!(command, "lsmod | sort", "the next is further away than that");
        assert!(sameness < 1.0);
    }

    #[test]
    fn a_command_stands_once_and_what_is_far_off_not_at_all() {
        assert_eq!(commands("number of lines in a file", 3), ["wc -l file"]);
        assert!(commands("convert video", 3).is_empty());
        assert!(commands("", 3).is_empty() && commands("no tab", 3).is_empty());
    }

    #[test]
    fn the_nearest_vote_for_their_programs() {
        let text = "Show the log of a service\tacme log\nShow the log\tgit log\nShow a short log\tgit log --oneline\nCount\twc\n";
        let examples = Examples::new(text.to_owned());
        let Advice { votes, shown: best, .. } = examples.consult("show me the log", |_| true);
        assert_eq!(votes.odds("git"), 1.0);
        assert!((0.2..0.9).contains(&votes.odds("acme")), "{votes:?}");
        assert!(votes.odds("wc") < 0.01 && votes.odds("wc") > 0.0);
        assert_eq!(best.unwrap().1, "git log");
        // Three commands make a program that people name.
        let before = examples.consult("show me the acme log", |_| true).votes;
        let text = format!("{text}Run acme\tacme 1\nEnd acme\tacme 2\n");
        let named = Examples::new(text).consult("show me the acme log", |_| true).votes;
        assert!(named.odds("acme") > 1.5 * before.odds("acme"), "{before:?} {named:?}");
        let Advice { votes, shown: best, .. } = examples.consult("zzz", |_| true);
        assert_eq!((votes.odds("git"), best), (votes.odds("wc"), None), "nobody votes");
    }

    #[test]
    fn a_program_that_no_description_names_makes_no_votes() {
        let examples =
            Examples::new("List disks\tlsblk\nList all\tlsblk -a\nList more\tlsblk -f\n".to_owned());
        let Advice { votes, shown: best, .. } = examples.consult("lsblk", |_| true);
        assert_eq!((votes.odds("lsblk"), best), (votes.odds("wc"), None), "{votes:?}");
    }

    #[test]
    fn nobody_becomes_root_unasked() {
        let text = "Install a package\tsudo apt install name\nShow a package of apt\tapt show name\nRemove a package\tsudo apt remove name\n";
        let examples = Examples::new(text.to_owned());
        let Advice { votes, shown: best, .. } = examples.consult("install the package ripgrep", |_| true);
        assert_eq!((votes.odds("apt"), votes.odds("sudo")), (1.0, votes.odds("wc")), "{votes:?}");
        assert!(best.unwrap().1.starts_with("apt install"));
        assert_eq!(examples.programs_in("what apt shows"), ["apt"]);
    }

    #[test]
    fn of_the_same_words_those_in_the_same_order_are_shown() {
        let text = "To convert mp4 to mov\tffmpeg -i input_video.mp4 a.mov\nTo convert mov to mp4\tffmpeg -i input_video.mov a.mp4\n";
        let advice = Examples::new(text.to_owned()).consult("convert x.mov to mp4", |_| true);
        assert_eq!(advice.shown.unwrap().1, "ffmpeg -i x.mov a.mp4");
        assert_eq!(advice.near.len(), 2);
    }

    #[test]
    fn those_that_vote_are_the_nearest_of_many() {
        let far = |number: usize| format!("Show one of {number} other logs\tother {number}\n");
        let mut text: String = (0..40).map(far).collect();
        text.extend((0..VOTERS).map(|number| format!("Show the log\tgit log -{number}\n")));
        let Advice { votes, shown: best, .. } = Examples::new(text).consult("show the log", |_| true);
        assert_eq!(votes.odds("other"), votes.odds("wc"), "{votes:?}");
        assert_eq!(best.unwrap().1, "git log -0", "of equal ones the first");
    }

    #[test]
    fn what_is_not_admitted_makes_room() {
        let examples = Examples::new(TEXT.to_owned());
        let found = examples.nearest("list all branches", 1, |example| example.command != "git branch");
        assert_eq!(found[0].command, "ls -a");
    }

    #[test]
    fn an_example_is_two_short_lines() {
        let is_fit = |description, command| Example { description, command }.is_fit();
        assert!(is_fit("list", "ls"));
        assert!(!is_fit("", "ls") && !is_fit("list\tall", "ls") && !is_fit("list", "ls\npwd"));
        assert!(!is_fit("list", &"x".repeat(MAX_COMMAND + 1)));
    }
}
