//! Names that only somebody else can know: the hash of a commit, the number of an account, an address, a variable of a script; and
//! programs that are not here.
//!
//! A model has read them in lines of others, and nobody else has any use for them. What such a name stands for is for the user to say, so
//! a suggestion ends before it, unless the name stands in what the user typed, ran or sees.

use crate::correct::may_be_command;
use crate::words::{Token, names_of_commands, tokens};

/// Shorter runs of hexadecimal digits are words (`decade`) or versions as well; Git writes at least seven.
const SHORTEST_HASH: usize = 7;
/// A hash has this many digits at least: some words have none, and `feedbac2` one.
const DIGITS_OF_HASH: usize = 2;
/// A number this long counts nothing that is typed by hand.
const SHORTEST_NUMBER: usize = 9;

/// Variables that shells, desktops and toolchains set.
const VARIABLES: &str = "BASHPID BASH_SOURCE BASH_VERSION CARGO_HOME COLUMNS DISPLAY EDITOR EUID GOBIN GOPATH GOROOT HISTFILE \
    HOME HOSTNAME IFS JAVA_HOME LANG LINENO LINES LOGNAME OLDPWD OSTYPE PAGER PATH PIPESTATUS PPID PWD \
    PYTHONPATH RANDOM SECONDS SHELL SHLVL TERM TMPDIR UID USER VIRTUAL_ENV VISUAL status";
/// The beginnings of others.
const FAMILIES: [&str; 2] = ["LC_", "XDG_"];

/// Addresses that are the same everywhere: of the machine itself, of none or all, and of public name servers.
const ADDRESSES: [&str; 6] = ["127.", "0.0.0.0", "255.", "8.8.8.8", "8.8.4.4", "1.1.1.1"];

/// What is left of a suggestion for a line before the first word with such a name, without the operators that led there.
/// `is_known` tells whether a name stands where the user has seen it.
pub fn before_foreign<'a>(typed: &str, suffix: &'a str, is_known: impl Fn(&str) -> bool) -> &'a str {
    let line = format!("{typed}{suffix}");
    let mut end = typed.len();
    for token in tokens(&line) {
        if token.operator || token.end() <= typed.len() {
            continue;
        }
        let is_foreign =
            |name: &str| !typed.contains(name) && !line[..token.start].contains(name) && !is_known(name);
        if names(token.raw).any(is_foreign) {
            return &suffix[..end.saturating_sub(typed.len())];
        }
        end = token.end();
    }
    suffix
}

/// What is left of a suggestion for a line before the first command whose program `exists` does not know, without the operators that
/// led there. What the user has typed to its end is the user's affair.
pub fn before_missing<'a>(typed: &str, suffix: &'a str, exists: impl Fn(&str) -> bool) -> &'a str {
    let line = format!("{typed}{suffix}");
    let all = tokens(&line);
    let is_added = |name: &Token<'_>| name.end() > typed.len() && !may_be_command(name.raw, &exists);
    let Some(missing) = names_of_commands(&all).find(is_added) else { return suffix };
    let before = all.iter().take_while(|token| token.start < missing.start);
    let commands: Vec<&[Token<'_>]> = all[..before.count()].split(Token::starts_command).collect();
    // The last of these is the beginning of the missing one's command: `sudo`, perhaps.
    let whole = commands.split_last().map_or(&[][..], |(_, whole)| whole);
    let end = whole.iter().rev().find_map(|command| command.last()).map_or(0, Token::end);
    &suffix[..end.saturating_sub(typed.len())]
}

/// The names of a word that may be somebody else's.
fn names(word: &str) -> impl Iterator<Item = &str> {
    hashes(word).chain(addresses(word)).chain(variables(word))
}

/// Runs of hexadecimal digits in lower case that are no words, and long numbers.
fn hashes(word: &str) -> impl Iterator<Item = &str> {
    let runs = word.split(|c: char| !c.is_ascii_alphanumeric());
    runs.filter(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        let is_hexadecimal = run.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        let is_number = digits == run.len();
        let is_hash = run.len() >= SHORTEST_HASH && digits >= DIGITS_OF_HASH && !is_number;
        is_hexadecimal && (is_hash || (is_number && digits >= SHORTEST_NUMBER))
    })
}

/// Addresses of the fourth version of the Internet Protocol that are not the same everywhere.
fn addresses(word: &str) -> impl Iterator<Item = &str> {
    let runs = word.split(|c: char| !c.is_ascii_digit() && c != '.');
    runs.filter(|run| {
        let is_part = |part: &str| {
            (1..=3).contains(&part.len()) && part.parse::<u16>().is_ok_and(|number| number < 256)
        };
        let is_public = ADDRESSES.iter().any(|address| run.starts_with(address));
        run.split('.').count() == 4 && run.split('.').all(is_part) && !is_public
    })
}

/// Variables that are read, as `$NAME` or `${NAME}`, and the arguments of a script; not those of another language, between single quotes.
fn variables(word: &str) -> impl Iterator<Item = &str> {
    let is_of_shell = !word.contains('\'');
    let reads = word.split('$').skip(1).filter(move |_| is_of_shell).filter_map(|after| {
        let name = after.strip_prefix('{').unwrap_or(after);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = name.find(|c| !is_of_name(c)).unwrap_or(name.len());
        let argument = name.chars().next().filter(|c| c.is_ascii_digit() || matches!(c, '@' | '*' | '#'));
        argument.map_or_else(|| name.get(..end), |argument| name.get(..argument.len_utf8()))
    });
    reads.filter(|name| {
        let is_everywhere = VARIABLES.split(' ').any(|known| known == *name)
            || FAMILIES.iter().any(|family| name.starts_with(family));
        !name.is_empty() && !is_everywhere
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left<'a>(typed: &str, suffix: &'a str) -> &'a str {
        before_foreign(typed, suffix, |name| name == "fd27b00ac" || name == "BUCKET")
    }

    #[test]
    fn a_suggestion_ends_before_what_others_call_their_own() {
        for (typed, suffix, expected) in [
            ("git rebase -i ", "-p fd27b00ad^", "-p"),
            ("docker ", "logs -n 5 0246aa4d1448", "logs -n 5"),
            ("kubectl logs -f ", "web-557ddc7bb4-crjns", ""),
            ("aws iam get-", "user --arn arn:aws:iam::123456789012:user/me", "user --arn"),
            ("ssh -i ", "$KEY_NAME root@172.16.0.2", ""),
            ("ssh ", "root@172.16.0.2 ls", ""),
            ("curl ", "-s -H \"Bearer ${TOKEN}\" http://a.example", "-s -H"),
            ("cat x", " | tee $LOG_FILE", " | tee"),
            ("cat x", " > $LOG_FILE", ""),
            ("echo \"my ", "$TOKEN\" b", ""),
            ("cp -r ", "$1 ${2}", ""),
            ("mv ", "\"$file\" /tmp", ""),
            ("for i in ", "\"$@\"; do", ""),
            // Known, or the same everywhere.
            ("git show ", "fd27b00ac^", "fd27b00ac^"),
            ("aws s3 ls ", "s3://$BUCKET", "s3://$BUCKET"),
            ("A_B=1 sh -c ", "'echo $A_B'", "'echo $A_B'"),
            ("read ", "LINE; echo \"$LINE\"", "LINE; echo \"$LINE\""),
            ("ping ", "-c 4 8.8.8.8", "-c 4 8.8.8.8"),
            ("nc ", "127.0.0.1 8080", "127.0.0.1 8080"),
            ("cd ", "$HOME/src && echo $XDG_CONFIG_HOME $PATH", "$HOME/src && echo $XDG_CONFIG_HOME $PATH"),
            ("for F in *; do ", "echo $F $$ $? $(ls); done", "echo $F $$ $? $(ls); done"),
            ("while ", "read line; do echo $line; done", "read line; do echo $line; done"),
            ("awk ", "'{ print $1, $name }' x", "'{ print $1, $name }' x"),
            ("split ", "-l 2000000 20240131.log", "-l 2000000 20240131.log"),
            ("pip install ", "decades==1.2.3.4000 feedbac2", "decades==1.2.3.4000 feedbac2"),
            ("sha256sum ", "x86_64.iso", "x86_64.iso"),
        ] {
            assert_eq!(left(typed, suffix), expected, "{typed}{suffix}");
        }
    }

    #[test]
    fn a_suggestion_ends_before_a_program_that_is_not_here() {
        let exists = |name: &str| ["cat", "ls", "sudo", "git", "wc"].contains(&name);
        for (typed, suffix, expected) in [
            ("ls", " -la | findstr.exe foo", " -la"),
            ("ls | ", "findstr.exe foo", ""),
            ("cat x | wc ", "-l && sudo apt install x", "-l"),
            ("", "sudo apt install x", ""),
            ("gi", "mp x", ""),
            // All of them are here, or no names, or typed.
            (
                "gi",
                "t status | wc -l; for f in *; do cat $f; done",
                "t status | wc -l; for f in *; do cat $f; done",
            ),
            ("apt ", "install wc", "install wc"),
            ("sud", "o -u somebody git log", "o -u somebody git log"),
            ("", "A=1 ./configure && cd src", "A=1 ./configure && cd src"),
            ("ls > ", "findstr.txt", "findstr.txt"),
        ] {
            assert_eq!(before_missing(typed, suffix, exists), expected, "{typed}{suffix}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_a_beginning(typed in "[ a-f0-9$A-C{\"'|日.]{0,20}", suffix in "[ a-f0-9$A-C{\"'|日.]{0,30}") {
            prop_assert!(suffix.starts_with(before_foreign(&typed, &suffix, |_| false)));
            prop_assert!(suffix.starts_with(before_missing(&typed, &suffix, |_| false)));
            prop_assert_eq!(before_foreign(&typed, &suffix, |_| true), suffix.as_str());
        }
    }
}
