//! `data/described.txt`: what people ask for every day, with the command that does it. Of our own making.

use crate::corpora::Example;
use crate::pages::judged::Judged;

/// The name of the corpus.
pub const NAME: &str = "everyday";

/// The described commands, without those that are judged with or nearly are.
pub fn examples(judged: &Judged) -> Vec<Example> {
    let pairs = pairs(include_str!("../data/described.txt"));
    let is_kept =
        |(description, command): &(&str, &str)| !judged.has(command) && !judged.has_description(description);
    let example = |(description, command): (&str, &str)| Example {
        command: command.to_owned(),
        doc: String::new(),
        description: description.to_owned(),
        source: NAME.to_owned(),
    };
    pairs.into_iter().filter(is_kept).map(example).collect()
}

/// Descriptions and commands of lines `COMMAND :: DESCRIPTION` and, for the command above, `| DESCRIPTION`.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    let mut command = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        match (line.strip_prefix("| "), line.split_once(" :: ")) {
            (Some(description), _) => pairs.push((description, command)),
            (None, Some((its, description))) => {
                command = its;
                pairs.push((description, command));
            }
            (None, None) => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpora::Excluded;

    #[test]
    fn a_command_may_be_asked_for_in_several_ways() {
        let text = "# What | this :: is\n\nls | wc -l :: count the files\n| how many files are there\npwd :: where am I\n";
        let (count, place) = ("ls | wc -l", "pwd");
        let expected =
            [("count the files", count), ("how many files are there", count), ("where am I", place)];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn every_line_of_ours_is_read_once() {
        let text = include_str!("../data/described.txt");
        let pairs = pairs(text);
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).count();
        assert_eq!(pairs.len(), lines);
        let mut descriptions: Vec<&str> = pairs.iter().map(|(description, _)| *description).collect();
        descriptions.sort_unstable();
        descriptions.dedup();
        assert_eq!(descriptions.len(), lines, "a description stands twice");
        assert!(pairs.iter().all(|(description, command)| !description.is_empty() && !command.is_empty()));
    }

    #[test]
    fn what_is_judged_with_stays_out() {
        let judged = Judged::read(Excluded::default(), None).unwrap();
        let all = examples(&judged);
        assert_eq!(all.len(), pairs(include_str!("../data/described.txt")).len());
        let case = "find . -type f -printf '%s %p\\n' | sort -nr | head -n 10".to_owned();
        let judged = Judged::new(Excluded::default(), [case.clone()]);
        assert!(examples(&judged).iter().all(|example| example.command != case));
    }
}
