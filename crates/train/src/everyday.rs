//! What people type and ask for every day, of our own making: `data/described` has questions with the command that does what they
//! ask for, `data/typed` the lines of sessions. Documentation explains what is seldom done; this is what is done often.

use crate::corpora::{Example, Session};
use crate::pages::judged::Judged;

/// The name of the corpus.
pub const NAME: &str = "everyday";

/// Questions, by what they are about.
const DESCRIBED: [&str; 5] = [
    include_str!("../data/described/basics.txt"),
    include_str!("../data/described/development.txt"),
    include_str!("../data/described/administration.txt"),
    include_str!("../data/described/clusters.txt"),
    include_str!("../data/described/text.txt"),
];

/// Sessions, by what they are about.
const TYPED: [&str; 4] = [
    include_str!("../data/typed/development.txt"),
    include_str!("../data/typed/administration.txt"),
    include_str!("../data/typed/clusters.txt"),
    include_str!("../data/typed/text.txt"),
];

/// The described commands, without those that are judged with or nearly are.
pub fn examples(judged: &Judged) -> Vec<Example> {
    let is_kept =
        |(description, command): &(&str, &str)| !judged.has(command) && !judged.has_description(description);
    let example = |(description, command): (&str, &str)| Example {
        command: command.to_owned(),
        doc: String::new(),
        description: description.to_owned(),
        source: NAME.to_owned(),
    };
    DESCRIBED.into_iter().flat_map(pairs).filter(is_kept).map(example).collect()
}

/// The sessions, without lines that are judged with or nearly are.
pub fn sessions(judged: &Judged) -> Vec<Session> {
    let session = |lines: Vec<&str>| Session {
        source: NAME.to_owned(),
        commands: lines.into_iter().filter(|line| !judged.has(line)).map(str::to_owned).collect(),
    };
    TYPED.into_iter().flat_map(paragraphs).map(session).collect()
}

/// The lines between blank ones, without comments.
fn paragraphs(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# ")).collect();
    lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty()).map(<[&str]>::to_vec).collect()
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
        let is_wanted = |line: &&str| !line.is_empty() && !line.starts_with("# ");
        let lines = DESCRIBED.iter().flat_map(|text| text.lines()).filter(is_wanted).count();
        let pairs: Vec<_> = DESCRIBED.into_iter().flat_map(pairs).collect();
        assert_eq!(pairs.len(), lines);
        let mut descriptions: Vec<&str> = pairs.iter().map(|(description, _)| *description).collect();
        descriptions.sort_unstable();
        let twice: Vec<_> = descriptions.windows(2).filter(|two| two[0] == two[1]).collect();
        assert!(twice.is_empty(), "descriptions that stand twice: {twice:?}");
        assert!(pairs.iter().all(|(description, command)| !description.is_empty() && !command.is_empty()));
    }

    #[test]
    fn a_session_ends_with_a_blank_line() {
        let text = "# What this is\n\nls\ncd src\n\n# more\nmake\n\n\nmake test\n";
        assert_eq!(paragraphs(text), [vec!["ls", "cd src"], vec!["make"], vec!["make test"]]);
    }

    #[test]
    fn what_is_judged_with_stays_out() {
        let judged = Judged::read(Excluded::default(), None).unwrap();
        let all = examples(&judged);
        assert_eq!(all.len(), DESCRIBED.into_iter().flat_map(pairs).count());
        let described = "find . -type f -printf '%s %p\\n' | sort -nr | head -n 10".to_owned();
        let typed = sessions(&judged).into_iter().flat_map(|session| session.commands);
        let typed = typed.max_by_key(String::len).unwrap();
        let judged = Judged::new(Excluded::default(), [described.clone(), typed.clone()]);
        assert!(examples(&judged).iter().all(|example| example.command != described));
        assert!(sessions(&judged).iter().all(|session| !session.commands.contains(&typed)));
    }
}
