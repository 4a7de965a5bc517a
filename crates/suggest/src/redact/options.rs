//! Secrets that are known by the command and its option.

use std::ops::Range;

use super::{inside_quotes, is_placeholder};
use crate::words::{Token, tokens};

/// Where a command takes a secret.
enum Takes {
    /// In the word after the option.
    Next(&'static str),
    /// In the option's own word, after its letter.
    Attached(&'static str),
    /// After the colon (or another sign) of the word that follows the option, or of the option's own word:
    /// `-u USER:PASSWORD`, `-uUSER:PASSWORD`.
    AfterSign(&'static str, char),
    /// In the word after the option, behind a fixed beginning: `-passin pass:PASSWORD`.
    Behind(&'static str, &'static str),
}

use Takes::{AfterSign, Attached, Behind, Next};

/// Commands (by the first word, with the subcommand where the option means something else elsewhere) and
/// where they take secrets, from their manuals.
const COMMANDS: &[(&str, &str, &[Takes])] = &[
    ("mysql", "", &[Attached("-p")]),
    ("mysqldump", "", &[Attached("-p")]),
    ("mysqladmin", "", &[Attached("-p")]),
    ("mysqlimport", "", &[Attached("-p")]),
    ("mysqlshow", "", &[Attached("-p")]),
    ("mysqlcheck", "", &[Attached("-p")]),
    ("mariadb", "", &[Attached("-p")]),
    ("mariadb-dump", "", &[Attached("-p")]),
    ("mycli", "", &[Attached("-p")]),
    ("sshpass", "", &[Next("-p"), Attached("-p")]),
    (
        "curl",
        "",
        &[
            AfterSign("-u", ':'),
            AfterSign("--user", ':'),
            AfterSign("-U", ':'),
            AfterSign("--proxy-user", ':'),
            AfterSign("-b", '='),
            AfterSign("--cookie", '='),
        ],
    ),
    ("http", "", &[AfterSign("-a", ':'), AfterSign("--auth", ':')]),
    ("https", "", &[AfterSign("-a", ':'), AfterSign("--auth", ':')]),
    ("docker", "login", &[Next("-p")]),
    ("podman", "login", &[Next("-p")]),
    ("nerdctl", "login", &[Next("-p")]),
    ("buildah", "login", &[Next("-p")]),
    ("helm", "login", &[Next("-p")]),
    ("oc", "login", &[Next("-p")]),
    ("az", "login", &[Next("-p")]),
    ("cf", "login", &[Next("-p")]),
    ("redis-cli", "", &[Next("-a")]),
    ("mongo", "", &[Next("-p")]),
    ("mongosh", "", &[Next("-p")]),
    ("mongodump", "", &[Next("-p")]),
    ("mongorestore", "", &[Next("-p")]),
    ("mysqladmin", "password", &[Next("password")]),
    ("twine", "upload", &[Next("-p")]),
    ("gh", "secret", &[Next("--body"), Next("-b")]),
    ("doctl", "auth", &[Next("-t")]),
    ("useradd", "", &[Next("-p")]),
    ("usermod", "", &[Next("-p")]),
    ("ssh-keygen", "", &[Next("-N"), Next("-P")]),
    ("sqlcmd", "", &[Next("-P"), Attached("-P")]),
    ("bcp", "", &[Next("-P")]),
    ("ldapsearch", "", &[Next("-w")]),
    ("ldapadd", "", &[Next("-w")]),
    ("ldapmodify", "", &[Next("-w")]),
    ("ldapdelete", "", &[Next("-w")]),
    ("ldapwhoami", "", &[Next("-w")]),
    ("ldappasswd", "", &[Next("-w"), Next("-s"), Next("-a")]),
    ("zip", "", &[Next("-P")]),
    ("unzip", "", &[Next("-P")]),
    ("7z", "", &[Attached("-p")]),
    ("7za", "", &[Attached("-p")]),
    ("7zz", "", &[Attached("-p")]),
    ("rar", "", &[Attached("-p"), Attached("-hp")]),
    ("unrar", "", &[Attached("-p")]),
    ("smbclient", "", &[AfterSign("-U", '%'), AfterSign("--user", '%')]),
    ("rpcclient", "", &[AfterSign("-U", '%')]),
    ("rdesktop", "", &[Next("-p")]),
    ("xfreerdp", "", &[Attached("/p:")]),
    ("ipmitool", "", &[Next("-P")]),
    (
        "openssl",
        "",
        &[Behind("-passin", "pass:"), Behind("-passout", "pass:"), Behind("-pass", "pass:"), Next("-k")],
    ),
    ("lftp", "", &[AfterSign("-u", ',')]),
    ("ncftp", "", &[Next("-p")]),
    ("snmpwalk", "", &[Next("-A"), Next("-X")]),
    ("snmpget", "", &[Next("-A"), Next("-X")]),
    ("keytool", "", &[Next("-storepass"), Next("-keypass")]),
    ("jarsigner", "", &[Next("-storepass"), Next("-keypass")]),
    ("nmcli", "", &[Next("password")]),
    ("cmdkey", "", &[Attached("/pass:")]),
];

/// Words that say that a command reads a secret from its standard input.
const READ_SECRETS: [&str; 7] =
    ["--password-stdin", "--passphrase-fd", "--stdin", "--with-token", "chpasswd", "smbpasswd", "cryptsetup"];

pub(super) fn find(line: &str) -> Vec<Range<usize>> {
    let words = tokens(line);
    let mut found = Vec::new();
    for command in words.split(Token::starts_command) {
        let start = command.iter().position(|word| !is_before_command(word.raw)).unwrap_or(command.len());
        let [name, arguments @ ..] = &command[start..] else { continue };
        let name = name.raw.rsplit('/').next().unwrap_or(name.raw);
        for (of, subcommand, takes) in COMMANDS {
            if *of == name && (subcommand.is_empty() || arguments.iter().any(|word| word.raw == *subcommand))
            {
                found.extend(takes.iter().flat_map(|takes| taken(takes, arguments)));
            }
        }
        found.extend(last_argument(name, arguments));
    }
    found.extend(piped(&words));
    let inside = found.into_iter().map(|range| inside_quotes(line, range));
    inside.filter(|range| line.get(range.clone()).is_some_and(|value| !is_placeholder(value))).collect()
}

/// Words that may stand before the name of a command: `sudo`, `NAME=value` and the like.
fn is_before_command(word: &str) -> bool {
    matches!(word, "sudo" | "doas" | "env" | "time" | "nohup" | "command" | "exec" | "-E" | "-H")
        || word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// The places of the secrets that one option takes.
fn taken(takes: &Takes, arguments: &[Token<'_>]) -> Vec<Range<usize>> {
    let next = |option: &'static str| {
        arguments
            .windows(2)
            .filter(move |pair| pair[0].raw == option && !pair[1].operator)
            .map(|pair| pair[1])
    };
    match *takes {
        Next(option) => {
            next(option).filter(|word| !word.raw.starts_with('-')).map(|w| w.start..w.end()).collect()
        }
        Attached(option) => arguments
            .iter()
            .filter(|word| word.raw.len() > option.len() && word.raw.starts_with(option))
            .filter(|word| !word.raw.starts_with("--"))
            .map(|word| word.start + option.len()..word.end())
            .collect(),
        AfterSign(option, sign) => {
            let own = arguments.iter().filter(|word| {
                word.raw.len() > option.len() && word.raw.starts_with(option) && !word.raw.starts_with("--")
            });
            next(option).chain(own.copied()).filter_map(|word| after_sign(word, sign)).collect()
        }
        Behind(option, beginning) => next(option)
            .filter(|word| word.raw.starts_with(beginning))
            .map(|word| word.start + beginning.len()..word.end())
            .collect(),
    }
}

/// What follows the first `sign` of a word, up to the quote that closes it.
fn after_sign(word: Token<'_>, sign: char) -> Option<Range<usize>> {
    let at = word.raw.find(sign)?;
    let quote = usize::from(word.raw.starts_with(['"', '\'']) && word.raw.len() > at + 1);
    Some(word.start + at + 1..word.end() - quote)
}

/// Commands whose last argument is the secret.
fn last_argument(name: &str, arguments: &[Token<'_>]) -> Option<Range<usize>> {
    let options = |letter: char| {
        let is_set = |word: &Token<'_>| {
            word.raw.starts_with('-') && !word.raw.starts_with("--") && word.raw.contains(letter)
        };
        arguments.iter().any(is_set)
    };
    let takes = match name {
        "htpasswd" => options('b'),
        "wpa_passphrase" => arguments.len() == 2,
        "cargo" | "vault" => arguments.len() == 2 && arguments[0].raw == "login",
        "net" => arguments.iter().any(|word| word.raw.to_ascii_lowercase().starts_with("/user:")),
        "rabbitmqctl" => arguments.len() == 3 && matches!(arguments[0].raw, "add_user" | "change_password"),
        _ => false,
    };
    let last = arguments.last().filter(|word| takes && !word.operator && !word.raw.starts_with('-'))?;
    Some(last.start..last.end())
}

/// `echo SECRET | sudo -S ...` and its like, where a secret is written for another command to read.
fn piped(words: &[Token<'_>]) -> Option<Range<usize>> {
    let reads = |reader: &[Token<'_>]| {
        let has = |raw: &str| reader.iter().any(|word| word.raw == raw);
        READ_SECRETS.iter().any(|word| has(word)) || (has("sudo") && (has("-S") || has("-kS")))
    };
    if let Some(here) = words.iter().position(|word| word.raw == "<<<") {
        let text = words.get(here + 1).filter(|_| reads(&words[..here]))?;
        return Some(text.start..text.end());
    }
    let pipe = words.iter().position(|word| word.raw == "|")?;
    let (writer, reader) = (&words[..pipe], &words[pipe + 1..]);
    let last = writer.iter().skip(1).rev().find(|word| !word.operator && !word.raw.starts_with('-'))?;
    (matches!(writer[0].raw, "echo" | "printf") && reads(reader)).then(|| last.start..last.end())
}
