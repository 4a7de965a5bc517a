//! A described command made into one about what somebody asks for: `Rename "old" to "tmp"`, `mv old tmp` becomes `mv a.txt b.txt`
//! for whoever wants to rename `a.txt` to `b.txt`. A small model copies what stands in a command before it far better than it
//! finds the places of names by itself.

mod nouns;

use nouns::{after_nouns, called, files_called, stands_for};

use crate::examples::Example;
use crate::names::{Kind, Name, is_plain, names, with_short_sizes};
use crate::words::is_wrapper;

/// What stands for a file or a directory in manuals, with or without a number or an ending.
const PLACEHOLDERS: [&str; 11] = [
    "file",
    "filename",
    "file_name",
    "dir",
    "directory",
    "dirname",
    "directory_name",
    "folder",
    "foldername",
    "infile",
    "path",
];
/// Programs whose first word is what they work on.
const WITHOUT_SUBCOMMANDS: [&str; 48] = [
    "bash", "cat", "chown", "cmp", "comm", "cp", "cut", "diff", "du", "file", "find", "grep", "gunzip",
    "gzip", "head", "join", "kill", "less", "ln", "ls", "mkdir", "mv", "node", "paste", "pgrep", "ping",
    "pkill", "python", "python3", "rg", "rm", "rmdir", "rsync", "scp", "sort", "source", "split", "ssh",
    "stat", "tail", "tar", "touch", "tree", "unzip", "vim", "wc", "wget", "zip",
];
/// What stands for a path in the pages of tldr.
const PATH_TO: &str = "path/to/";
/// Descriptions that differ in more words ask for something else.
const MOST_DIFFERENT: usize = 2;

/// An example that names what a description names: names that stand in its own description and in its command are replaced by
/// those of the description that are of their kind, in their order. Where it names no file, what stands for one in its command
/// is replaced, or the current directory.
pub fn about(example: Example<'_>, description: &str) -> (String, String) {
    let (description, of_example) = (with_short_sizes(description), with_short_sizes(example.description));
    let (description, example) = (&*description, Example { description: &of_example, ..example });
    if let Some(command) = aligned(example, description) {
        return (description.to_owned(), command);
    }
    let wanted = names(description);
    let own: Vec<Name<'_>> = names(example.description)
        .into_iter()
        .filter(|name| is_word_of(name.text, example.command))
        .collect();
    let called = called(example, description);
    let mut pairs: Vec<(&str, &str)> = called.clone();
    let mut left = wanted.clone();
    left.retain(|name| called.iter().all(|(_, new)| *new != name.text));
    let same: fn(Kind, Kind) -> bool = |a, b| a == b;
    for fits in [same, Kind::is_like] {
        for name in &own {
            if pairs.iter().any(|(old, _)| *old == name.text) {
                continue;
            }
            if let Some(at) = left.iter().position(|other| fits(name.kind, other.kind)) {
                pairs.push((name.text, left.remove(at).text));
            }
        }
    }
    let files = files_called(example.command, &pairs);
    pairs.extend(files.iter().map(|(old, new)| (*old, new.as_str())));
    let mut about = (example.description.to_owned(), example.command.to_owned());
    for (number, (old, _)) in pairs.iter().enumerate() {
        let mark = mark(number).to_string();
        about = (replace_word(&about.0, old, &mark), replace_word(&about.1, old, &mark));
    }
    let mut words: Vec<String> = about.1.split(' ').map(str::to_owned).collect();
    let names_a_place = wanted.iter().any(|name| matches!(name.kind, Kind::Path | Kind::Quoted | Kind::File));
    if !names_a_place && words.first().is_some_and(|program| program == "find") {
        // Where it looks only because the example was told to.
        for word in words.iter_mut().skip(1).take_while(|word| !word.starts_with('-')) {
            if own.iter().any(|name| name.kind == Kind::Path && name.text == word) {
                *word = ".".to_owned();
            }
        }
    }
    let url = left.iter().find(|name| name.kind == Kind::Url);
    let place = words.iter_mut().skip(1).find(|word| unquoted(word).contains("://"));
    if let (Some(url), Some(word)) = (url, place) {
        let (old, mark) = (unquoted(word).to_owned(), mark(pairs.len()).to_string());
        *word = word.replace(&old, &mark);
        pairs.push(("", url.text));
    }
    let mut files = left.iter().filter(|name| matches!(name.kind, Kind::Path | Kind::File));
    if own.iter().all(|name| name.kind != Kind::Path) {
        let mut placeholders: Vec<String> = Vec::new();
        for word in words.iter().skip(1).map(|word| unquoted(word)) {
            if is_placeholder(word) && !placeholders.iter().any(|other| other == word) {
                placeholders.push(word.to_owned());
            }
        }
        let mut has_replaced = false;
        for (placeholder, file) in placeholders.iter().zip(&mut files) {
            has_replaced = true;
            let mark = mark(pairs.len()).to_string();
            pairs.push(("", file.text));
            for word in words.iter_mut().skip(1).filter(|word| unquoted(word) == placeholder) {
                *word = word.replace(placeholder.as_str(), &mark);
            }
        }
        let place = left.iter().find(|name| name.kind == Kind::Path).filter(|_| !has_replaced);
        if let Some(place) = place {
            in_directory(&mut words, mark(pairs.len()));
            pairs.push(("", place.text));
        }
    }
    let mut others = left.iter().filter(|name| name.kind == Kind::Quoted && is_plain(name.text));
    if let (Some(other), None) = (others.next(), others.next()) {
        let stands = |word: &&mut String| stands_for_a_name(unquoted(word));
        if let Some(word) = words.iter_mut().skip(1).find(stands) {
            *word = mark(pairs.len()).to_string();
            pairs.push(("", other.text));
        }
    }
    for (noun, name) in after_nouns(description) {
        let is_told = pairs.iter().any(|(_, new)| *new == name);
        let place = words.iter_mut().skip(1).find(|word| stands_for(unquoted(word), noun));
        if let Some(word) = place.filter(|_| !is_told) {
            *word = mark(pairs.len()).to_string();
            pairs.push(("", name));
        }
    }
    about.1 = words.join(" ");
    for (number, (_, new)) in pairs.iter().enumerate() {
        about = (about.0.replace(mark(number), new), about.1.replace(mark(number), new));
    }
    about
}

/// The command of an example whose description is the same, word after word, but for one or two that stand in the command, too, as
/// arguments: those are names, whatever they look like.
fn aligned(example: Example<'_>, description: &str) -> Option<String> {
    let mut pairs = Vec::new();
    let (mut own, mut wanted) = (bare_words(example.description), bare_words(description));
    loop {
        match (own.next(), wanted.next()) {
            (Some(old), Some(new)) if old.eq_ignore_ascii_case(new) => {}
            (Some(old), Some(new)) => {
                if !is_argument(old, example.command) || new.is_empty() || !is_plain(new) {
                    return None;
                }
                pairs.push((old, new));
            }
            (None, None) => break,
            _ => return None,
        }
    }
    if !(1..=MOST_DIFFERENT).contains(&pairs.len()) {
        return None;
    }
    let mut files = files_called(example.command, &pairs);
    files.retain(|(old, _)| !is_word_of(old, description));
    pairs.extend(files.iter().map(|(old, new)| (*old, new.as_str())));
    let marked = |command: String, (number, (old, _)): (usize, &(&str, &str))| {
        replace_word(&command, old, &mark(number).to_string())
    };
    let named =
        |command: String, (number, (_, new)): (usize, &(&str, &str))| command.replace(mark(number), new);
    let command = pairs.iter().enumerate().fold(example.command.to_owned(), marked);
    Some(pairs.iter().enumerate().fold(command, named))
}

/// The words of a description without what stands around them.
fn bare_words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().map(|word| word.trim_matches(['.', ',', '?', '\'', '"']))
}

/// Whether a word stands in a command where neither the program nor its subcommand does.
fn is_argument(word: &str, command: &str) -> bool {
    let words: Vec<&str> = command.split(' ').skip_while(|word| is_wrapper(word)).collect();
    // With two words, the second is what the program works on.
    let has_subcommand = words.len() > 2 && !WITHOUT_SUBCOMMANDS.contains(&words[0]);
    let first = if has_subcommand { 2 } else { 1 };
    !word.is_empty()
        && words.iter().skip(first).any(|other| is_word_of(word, other))
        && !words.iter().take(first).any(|other| is_word_of(word, other))
}

/// The part of the names in a description that stand in a command; all of them where there are none.
pub fn share_named(description: &str, command: &str) -> f32 {
    let names = names(description);
    let named = names.iter().filter(|name| is_word_of(name.text, command)).count();
    if names.is_empty() { 1.0 } else { named as f32 / names.len() as f32 }
}

/// Has a command work in the directory of that mark rather than in the current one.
fn in_directory(words: &mut Vec<String>, mark: char) {
    if let Some(current) = words.iter_mut().skip(1).take(2).find(|word| *word == "." || *word == "./") {
        *current = mark.to_string();
    } else if words.first().is_some_and(|program| program == "find")
        && words.get(1).is_some_and(|option| option.starts_with(['-', '\\']))
    {
        words.insert(1, mark.to_string());
    }
}

/// What stands for the name of that number until all are found, so that no name is replaced twice: a character that Unicode leaves to
/// programs.
fn mark(number: usize) -> char {
    char::from_u32(0xF0000 + number as u32).unwrap_or('\u{F0000}')
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// Whether a word of a command stands for a file or a directory.
fn is_placeholder(word: &str) -> bool {
    let word = word.trim_start_matches(['$', '{', '<', '[']).trim_end_matches(['}', '>', ']']);
    let stem = word.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase();
    word.contains(PATH_TO) || PLACEHOLDERS.contains(&stem.as_str()) || stem.starts_with("input_")
}

/// Whether a word of a command stands for the name of something that is no file: `branch_name`, `my-branch`, `<name>`.
fn stands_for_a_name(word: &str) -> bool {
    let bare = word.trim_matches(['<', '>', '{', '}', '[', ']']).to_lowercase();
    bare == "name"
        || bare.ends_with("_name")
        || (bare.ends_with("-name") && !bare.starts_with('-'))
        || bare.starts_with("my-")
        || bare.starts_with("my_")
        || bare.starts_with("new_")
}

/// Whether `word` stands in `text` with nothing of a name before or after it.
pub fn is_word_of(word: &str, text: &str) -> bool {
    replace_word(text, word, "") != text
}

/// A text with another word in the place of one, wherever that stands with nothing of a name before or after it. A hyphen at the
/// start of a word is no part of a number.
pub fn replace_word(text: &str, word: &str, by: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '-' | '*' | '~');
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let before = &text[..text.len() - rest.len() + at];
        let previous = before.chars().next_back();
        let next = rest[at + word.len()..].chars().next();
        let after_next = rest[at + word.len()..].chars().nth(1);
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        // As a width, `800x`.
        let is_width = is_number && next == Some('x') && !after_next.is_some_and(is_name);
        let goes_on = (next.is_some_and(is_name) && !is_width)
            || (next == Some('.') && after_next.is_some_and(char::is_alphanumeric));
        let sign = before.strip_suffix('-').filter(|_| is_number);
        let is_signed = sign.is_some_and(|before| before.is_empty() || before.ends_with(' '));
        let is_alone = !goes_on && (is_signed || !previous.is_some_and(|c| is_name(c) || c == '.'));
        out.push_str(&rest[..at]);
        out.push_str(if is_alone { by } else { word });
        rest = &rest[at + word.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(example: (&'static str, &'static str), description: &str) -> String {
        about(Example { description: example.0, command: example.1 }, description).1
    }

    #[test]
    fn names_take_the_places_of_names() {
        let rename = ("Rename \"old\" to \"tmp\"", "mv old tmp");
        assert_eq!(command(rename, "Rename \"/a/tmp\" to \"/a/old\""), "mv /a/tmp /a/old");
        let group = ("Find files with user id 120 under current directory", "find . -uid 120 -print");
        assert_eq!(command(group, "Find files with group id 1003"), "find . -uid 1003 -print");
        let pattern = ("Remove all *.tmp files from the /tmp tree", "find /tmp -name \"*.tmp\" -delete");
        let (description, command) =
            about(Example { description: pattern.0, command: pattern.1 }, "remove all *.doc files in /srv/x");
        assert_eq!(command, "find /srv/x -name \"*.doc\" -delete");
        assert_eq!(description, "Remove all *.doc files from the /srv/x tree");
    }

    #[test]
    fn sizes_take_the_places_of_sizes_and_numbers_those_after_a_sign() {
        let find = ("Find files smaller than 20 megabytes", "find . -size -20M");
        assert_eq!(command(find, "find files smaller than 100MB here"), "find . -size -100M");
        let head = ("print the first 5 lines of /etc/passwd", "head -5 /etc/passwd");
        assert_eq!(command(head, "print the first 20 lines of a/b"), "head -20 a/b");
    }

    #[test]
    fn files_take_the_places_of_placeholders() {
        assert_eq!(
            command(("Create a directory", "mkdir path/to/directory"), "create a directory a/b_c"),
            "mkdir a/b_c"
        );
        let last = ("print the last line of a file", "tac \"$FILE\" | head -1");
        assert_eq!(command(last, "print the last line of notes.txt"), "tac \"notes.txt\" | head -1");
        let two = ("Compare two files", "diff file1 file2");
        assert_eq!(command(two, "compare the files a.txt and b.txt"), "diff a.txt b.txt");
        assert_eq!(command(two, "compare the file a.txt with another"), "diff a.txt file2");
    }

    #[test]
    fn a_url_takes_the_place_of_a_url() {
        let download = ("Download a page", "curl -O \"https://example.com/page\" -o page.html");
        let wanted = "download https://a.example/b.zip";
        assert_eq!(command(download, wanted), "curl -O \"https://a.example/b.zip\" -o page.html");
        let named = ("Fetch http://example.com/x", "wget http://example.com/x");
        assert_eq!(command(named, wanted), "wget https://a.example/b.zip");
        let unpack = ("Unpack path/to/file.zip", "unzip path/to/file.zip");
        assert_eq!(command(unpack, wanted), unpack.1, "no place for one");
    }

    #[test]
    fn what_is_called_something_is_called_that() {
        let branch = ("Create a new branch", "git branch my-branch");
        assert_eq!(command(branch, "create a branch called fix-typo"), "git branch fix-typo");
        assert_eq!(command(branch, "create a branch"), branch.1);
        let delete = ("Delete a local branch", "git branch -D branch-name");
        assert_eq!(command(delete, "delete a local branch called test"), "git branch -D test");
        let image = ("Stop a container", "docker stop container_name");
        assert_eq!(command(image, "stop the container named 'web'"), "docker stop web");
        let find = ("Find files named core", "find . -name core");
        assert_eq!(command(find, "find files named make"), "find . -name make");
    }

    #[test]
    fn nouns_tell_names() {
        let pack = ("compress the folder photos into photos.tar.gz", "tar -czf photos.tar.gz photos");
        assert_eq!(command(pack, "compress the folder logs into a tarball"), "tar -czf logs.tar.gz logs");
        assert_eq!(command(pack, "compress the folder logs into old.tar.gz"), "tar -czf old.tar.gz logs");
        assert_eq!(command(pack, "compress the folder and mail it"), pack.1);
        let gif = ("convert clip.mov to gif", "ffmpeg -i clip.mov clip.gif");
        assert_eq!(command(gif, "convert a/talk.mp4 to gif"), "ffmpeg -i a/talk.mp4 talk.gif");
        let resize = ("resize photo.jpg to 50 pixels", "convert photo.jpg -resize 50x photo-small.jpg");
        assert_eq!(command(resize, "resize me.png to 8 pixels"), "convert me.png -resize 8x me-small.jpg");
        let scale = ("scale the deployment web to 3 replicas", "kubectl scale deployment web --replicas=3");
        let wanted = "please scale the deployment api in production to 5 replicas";
        assert_eq!(command(scale, wanted), "kubectl scale deployment api --replicas=5");
        let copy = ("copy the table users to the database shop", "pg_dump -t users | psql shop");
        assert_eq!(command(copy, "copy the table items to the database a"), "pg_dump -t items | psql a");
        assert_eq!(command(copy, "copy the database old to the table b"), "pg_dump -t b | psql old");
        let merge = ("merge the branch old into this one", "git merge old");
        assert_eq!(command(merge, "merge the branch --abort into this one for me"), merge.1, "no option");
        assert_eq!(command(merge, "merge the branch feature/login into main"), "git merge feature/login");
        for (placeholder, expected) in [
            ("[SERVICE]", "systemctl status sshd"),
            ("<service>", "systemctl status sshd"),
            ("service_name", "systemctl status sshd"),
            ("my-service", "systemctl status sshd"),
            ("service", "systemctl status service"),
            ("<unit>", "systemctl status <unit>"),
        ] {
            let example = format!("systemctl status {placeholder}");
            let example = Example { description: "Show the status of a service", command: &example };
            assert_eq!(about(example, "show the status of the service sshd").1, expected);
        }
    }

    #[test]
    fn a_directory_takes_the_place_of_the_current_one() {
        let find = ("Find all empty files", "find . -type f -empty");
        assert_eq!(command(find, "find empty files under /srv"), "find /srv -type f -empty");
        let find = ("Find all empty files", "find -type f -empty");
        assert_eq!(command(find, "find empty files under ~/x"), "find ~/x -type f -empty");
        assert_eq!(command(find, "find empty files"), find.1);
        let find = ("Find all empty files in /tmp/x", "find /tmp/x -type f -empty");
        assert_eq!(command(find, "find empty files"), "find . -type f -empty");
    }

    #[test]
    fn where_all_else_is_the_same_any_word_is_a_name() {
        let logs = ("follow the logs of the container web", "docker logs -f web");
        assert_eq!(command(logs, "Follow the logs of the container db."), "docker logs -f db");
        assert_eq!(command(logs, "follow the events of the container web"), logs.1, "no name");
        assert_eq!(command(logs, "follow the logs of the container"), logs.1);
        let rename = ("rename branch master to main", "git branch -m master main");
        assert_eq!(command(rename, "rename branch main to 'old'"), "git branch -m main old");
        let delete = ("delete the branch feature", "git branch -d feature");
        assert_eq!(command(delete, "delete the folder feature"), delete.1, "a subcommand is no name");
        let restart = ("restart nginx", "sudo systemctl restart nginx");
        assert_eq!(command(restart, "restart apache2"), "sudo systemctl restart apache2");
        assert_eq!(command(restart, "reload nginx"), restart.1);
        assert_eq!(command(("stop firefox", "pkill firefox"), "stop vlc"), "pkill vlc");
        assert_eq!(command(restart, "restart $(reboot)"), restart.1);
        let rename = ("rename the folder photos to pictures", "mv photos pictures");
        assert_eq!(command(rename, "rename the folder docs to documents"), "mv docs documents");
    }

    #[test]
    fn what_names_all_names_all() {
        assert_eq!(share_named("copy a.txt to b.txt", "cp a.txt b.txt"), 1.0);
        assert_eq!(share_named("copy a.txt to b.txt", "cat a.txt"), 0.5);
        assert_eq!(share_named("show all", "ls -a"), 1.0);
    }

    #[test]
    fn a_word_is_replaced_only_where_it_stands_alone() {
        assert_eq!(replace_word("a.txt b/a.txt a.txt.gz a.txt.", "a.txt", "X"), "X b/a.txt a.txt.gz X.");
        assert_eq!(replace_word("5 15 5", "5", "7"), "7 15 7");
        assert_eq!(replace_word("tail -5 5-5 -n-5 a--5", "5", "7"), "tail -7 5-5 -n-5 a--5");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(example in "\\PC{0,40}", command in "\\PC{0,40}", description in "[ -~é日]{0,60}") {
            let (_, named) = about(Example { description: &example, command: &command }, &description);
            let share = share_named(&description, &named);
            proptest::prop_assert!((0.0..=1.0).contains(&share));
        }
    }
}
