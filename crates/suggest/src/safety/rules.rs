//! What a simple command must not do, each rule a function of its own.

use super::paths::{is_critical, is_critical_file, is_disk, is_everything, is_home, is_root};
use super::script::{Command, Input, Script};

/// Modes that let everyone write, or no one read.
const OPEN_MODES: [&str; 8] = ["", "777", "666", "a+rwx", "ugo+rwx", "a+w", "o+w", "+w"];

/// Branches that others build on.
const SHARED_BRANCHES: [&str; 6] = ["main", "master", "develop", "trunk", "production", "release"];

/// Programs that run what they read.
const READERS: [&str; 12] =
    ["sh", "bash", "zsh", "dash", "ksh", "fish", "python", "python3", "perl", "ruby", "node", "php"];

/// Programs whose output nobody has looked at.
const FETCHERS: [&str; 9] = ["curl", "wget", "fetch", "http", "aria2c", "nc", "base64", "openssl", "xxd"];

/// The reason not to suggest a command.
pub(super) fn check(command: &Command) -> Option<&'static str> {
    let rules =
        [removal, files, disk, rights, moves, git, database, processes, infrastructure, code, hidden_name];
    rules.iter().find_map(|rule| rule(command)).or_else(|| overwrites(&command.writes))
}

/// `rm` and its like on directories that matter, or on everything here.
fn removal(command: &Command) -> Option<&'static str> {
    let mut targets = operands(command);
    match command.name.as_str() {
        "rm" => {
            let recursive =
                has_flag(command, 'r') || has_flag(command, 'R') || has_option(command, "--recursive");
            if has_option(command, "--no-preserve-root") {
                return Some("removes the root directory");
            }
            (recursive && targets.any(|target| is_critical(target) || is_everything(target)))
                .then_some("removes a whole system, home or working directory")
        }
        "find" => {
            let removes = command.arguments.iter().any(|word| word == "-delete")
                || command.arguments.windows(2).any(|pair| {
                    (pair[0].starts_with("-exec") || pair[0].starts_with("-ok"))
                        && matches!(pair[1].rsplit('/').next(), Some("rm" | "shred" | "unlink"))
                });
            (removes && finds_all(command)).then_some("removes all files of a system or home directory")
        }
        "rsync" => {
            let deletes = command.arguments.iter().any(|word| word.starts_with("--delete"));
            (deletes && targets.last().is_some_and(is_critical))
                .then_some("empties a system or home directory")
        }
        _ => None,
    }
}

/// Whether `find` goes through a directory that matters with no test that narrows what it finds.
fn finds_all(command: &Command) -> bool {
    const TESTS: [&str; 13] = [
        "-name",
        "-iname",
        "-path",
        "-regex",
        "-mtime",
        "-mmin",
        "-atime",
        "-ctime",
        "-size",
        "-empty",
        "-newer",
        "-user",
        "-samefile",
    ];
    let is_test = |pair: &[String]| TESTS.contains(&pair[0].as_str()) && pair[1] != "*";
    let narrows =
        command.arguments.windows(2).any(is_test) || command.arguments.iter().any(|word| word == "-inum");
    let mut roots = command.arguments.iter().take_while(|word| !word.starts_with('-'));
    !narrows && roots.any(|root| is_critical(root))
}

/// `find / | xargs rm` and its like.
pub(super) fn piped_removal(script: &Script) -> Option<&'static str> {
    let removes = script.commands.windows(2).any(|pair| {
        let [lister, remover] = pair else { return false };
        let lists_all = match lister.name.as_str() {
            "find" => finds_all(lister),
            "ls" | "echo" | "printf" | "locate" => operands(lister).any(is_critical),
            _ => false,
        };
        remover.input == Input::Pipe
            && matches!(remover.name.as_str(), "rm" | "shred" | "unlink")
            && lists_all
    });
    removes.then_some("removes all files of a system or home directory")
}

/// A name that only the shell could tell, with a recursive flag and a directory that matters.
fn hidden_name(command: &Command) -> Option<&'static str> {
    let is_hidden =
        command.name.contains(['?', '*', '[', '$', '`']) && !matches!(command.name.as_str(), "[" | "[[");
    let is_recursive = has_flag(command, 'r') || has_flag(command, 'R');
    (is_hidden && is_recursive && operands(command).any(is_critical)).then_some("hides what it runs")
}

/// Removes or replaces a file that the system needs.
fn files(command: &Command) -> Option<&'static str> {
    let is_bad = match command.name.as_str() {
        "rm" | "unlink" | "shred" | "truncate" | "mv" => {
            operands(command).any(|file| is_critical_file(file) || file.starts_with("/boot/"))
        }
        "cp" | "ln" | "install" => operands(command).last().is_some_and(is_critical_file),
        _ => false,
    };
    is_bad.then_some("removes or replaces a file that the system needs")
}

/// Formats, wipes or overwrites a disk.
fn disk(command: &Command) -> Option<&'static str> {
    const REASON: &str = "overwrites a disk";
    let any_disk = || operands(command).any(is_disk);
    let has = |word: &str| command.arguments.iter().any(|argument| argument == word);
    let is_bad = match command.name.as_str() {
        "dd" => command.arguments.iter().filter_map(|word| word.strip_prefix("of=")).any(is_disk),
        "mkfs" | "mke2fs" | "mkdosfs" | "mkntfs" | "newfs" | "pvremove" | "vgremove" | "lvremove" => true,
        name if name.starts_with("mkfs.") => true,
        "mdadm" => has("--zero-superblock"),
        "tar" | "gzip" => any_disk(),
        "wipefs" => has_flag(command, 'a') || has("--all"),
        "shred" | "blkdiscard" | "mkswap" | "truncate" | "badblocks" | "tee" => any_disk(),
        "cp" => operands(command).last().is_some_and(is_disk),
        "hdparm" => command.arguments.iter().any(|word| word.starts_with("--security-erase")),
        "nvme" => has("format") || has("sanitize"),
        "sgdisk" => has("-Z") || has("--zap-all"),
        "sfdisk" => has("--delete"),
        "parted" => has("mklabel") || has("mktable"),
        "cryptsetup" => has("luksFormat") || has("erase") || has("luksErase"),
        "diskutil" => command.arguments.first().is_some_and(|verb| verb.to_lowercase().contains("erase")),
        "zpool" => has("destroy"),
        "format" | "format.com" => command.arguments.iter().any(|word| word.to_lowercase().starts_with("c:")),
        _ => false,
    };
    if is_bad {
        return Some(REASON);
    }
    (command.name == "tee" && !has_flag(command, 'a'))
        .then(|| overwrites(&operands(command).map(str::to_owned).collect::<Vec<_>>()))
        .flatten()
}

/// Opens or hands over a system directory.
fn rights(command: &Command) -> Option<&'static str> {
    let recursive = has_flag(command, 'R') || has_option(command, "--recursive");
    let is_bad = match command.name.as_str() {
        "chmod" => {
            let opens = operands(command).any(|word| OPEN_MODES.contains(&word.trim_start_matches('0')));
            operands(command).any(|word| is_root(word) || (recursive && is_critical(word) && !is_home(word)))
                && (opens || recursive)
        }
        "chown" | "chgrp" => recursive && operands(command).any(|word| is_critical(word) && !is_home(word)),
        "setfacl" => recursive && operands(command).any(is_root),
        _ => false,
    };
    is_bad.then_some("changes the rights of a system directory")
}

/// Moves a directory that matters away, or anything over `/dev/null`.
fn moves(command: &Command) -> Option<&'static str> {
    let targets: Vec<&str> = operands(command).collect();
    let [sources @ .., _] = targets.as_slice() else { return None };
    let to_nowhere = targets.last() == Some(&"/dev/null");
    (command.name == "mv" && (to_nowhere || sources.iter().any(|source| is_critical(source))))
        .then_some("moves away what is needed, or to nowhere")
}

/// Rewrites or deletes a branch that others build on.
fn git(command: &Command) -> Option<&'static str> {
    if command.name != "git" {
        return None;
    }
    let mut words = command.arguments.iter().skip_while(|word| !matches!(word.as_str(), "push" | "branch"));
    let is_bad = match words.next().map(String::as_str) {
        Some("push") => pushes_over_shared(command, words),
        Some("branch") => has_flag(command, 'D') && words.any(|name| is_shared_branch(name)),
        _ => false,
    };
    is_bad.then_some("rewrites or deletes a shared branch")
}

/// Whether `git push` forces or deletes a shared branch, or whatever branch is checked out.
fn pushes_over_shared<'a>(command: &Command, words: impl Iterator<Item = &'a String>) -> bool {
    let forces = has_flag(command, 'f') || has_option(command, "--force");
    let deletes = has_flag(command, 'd') || has_option(command, "--delete");
    // The first word names the remote repository.
    let refs: Vec<&String> = words.filter(|word| !word.starts_with('-')).skip(1).collect();
    let is_lost =
        |name: &String| is_shared_branch(name) && (forces || deletes || name.starts_with(['+', ':']));
    (forces && refs.is_empty()) || refs.into_iter().any(is_lost) || has_option(command, "--mirror")
}

/// Whether a ref such as `main`, `+HEAD:main` or `refs/heads/main` is a branch that others build on.
fn is_shared_branch(name: &str) -> bool {
    let target = name.rsplit(':').next().unwrap_or(name).trim_start_matches('+');
    SHARED_BRANCHES.contains(&target.trim_start_matches("refs/heads/"))
}

/// Drops a database or empties a table.
fn database(command: &Command) -> Option<&'static str> {
    const CLIENTS: [&str; 8] =
        ["mysql", "mariadb", "psql", "sqlite3", "sqlcmd", "mycli", "pgcli", "clickhouse-client"];
    let texts = || command.arguments.iter().chain(std::iter::once(&command.reads));
    let any = |is: &dyn Fn(&str) -> bool| texts().any(|word| is(&word.to_lowercase()));
    let is_bad = match command.name.as_str() {
        "dropdb" => true,
        "mysqladmin" => any(&|word| word == "drop"),
        "redis-cli" => any(&|word| matches!(word, "flushall" | "flushdb")),
        "mongo" | "mongosh" => any(&|word| word.contains("dropdatabase(")),
        name if CLIENTS.contains(&name) => any(&|word| {
            let words: Vec<&str> = word.split_whitespace().collect();
            let has = |a: &str, b: &str| {
                words.windows(2).any(|pair| pair[0] == a && pair[1].trim_end_matches(';') == b)
            };
            has("drop", "database")
                || has("drop", "table")
                || has("drop", "schema")
                || words.first() == Some(&"truncate")
                || (has("delete", "from") && !words.contains(&"where"))
        }),
        _ => false,
    };
    is_bad.then_some("drops data of a database")
}

/// Kills every process, or removes all scheduled jobs.
fn processes(command: &Command) -> Option<&'static str> {
    let has = |word: &str| command.arguments.iter().any(|argument| argument == word);
    match command.name.as_str() {
        "kill" if command.arguments.iter().skip(1).any(|word| word == "-1") => Some("kills every process"),
        "killall5" => Some("kills every process"),
        "crontab" if has("-r") => Some("removes all scheduled jobs"),
        _ => None,
    }
}

/// Takes down what runs elsewhere, without asking.
fn infrastructure(command: &Command) -> Option<&'static str> {
    let has = |word: &str| command.arguments.iter().any(|argument| argument == word);
    let is_bad = match command.name.as_str() {
        "terraform" | "tofu" | "terragrunt" => {
            has("destroy") && (has("-auto-approve") || has("--auto-approve"))
        }
        "kubectl" | "oc" => {
            let system = has("kube-system") && (has("ns") || has("namespace") || has("namespaces"));
            has("delete") && (has("--all") || system)
        }
        "aws" => {
            let is_bucket = |word: &&str| {
                word.strip_prefix("s3://").is_some_and(|path| !path.trim_end_matches('/').contains('/'))
            };
            let empties = has("rm") && has("--recursive") && operands(command).any(|word| is_bucket(&word));
            has("s3") && ((has("rb") && has("--force")) || empties)
        }
        "gcloud" => has("projects") && has("delete"),
        _ => false,
    };
    is_bad.then_some("takes down running infrastructure")
}

/// Code in another language that removes a directory tree that matters.
fn code(command: &Command) -> Option<&'static str> {
    let removes = |word: &String| {
        ["rmtree('", "rmtree(\"", "rm_rf('", "rm_rf(\"", "rmSync('", "rmSync(\""].iter().any(|call| {
            let path = word.split(call).nth(1).and_then(|rest| rest.split(['\'', '"']).next());
            path.is_some_and(is_critical)
        })
    };
    (READERS.contains(&command.name.as_str()) && command.arguments.iter().any(removes))
        .then_some("removes a system or home directory")
}

/// Output that goes over a disk or a file the system needs.
fn overwrites(files: &[String]) -> Option<&'static str> {
    let is_bad = |file: &String| is_disk(file) || is_critical_file(file);
    files.iter().any(is_bad).then_some("overwrites a disk or a system file")
}

/// Something unread from the network, or encoded, that is run at once.
pub(super) fn pipe_into_shell(script: &Script) -> Option<&'static str> {
    const REASON: &str = "runs something unread";
    let reads_pipe = |command: &Command| command.input == Input::Pipe;
    let fetches = |command: &Command| FETCHERS.contains(&command.name.as_str());
    let mut unread = false;
    for command in &script.commands {
        unread = if reads_pipe(command) { unread || fetches(command) } else { fetches(command) };
        let name = command.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let reads_code =
            READERS.contains(&name) && !command.arguments.iter().any(|word| word == "-c" || word == "-m");
        if reads_pipe(command) && unread && reads_code {
            return Some(REASON);
        }
    }
    // `bash <(curl u)` is cut into `bash` and `curl u`; `sh -c "$(curl u)"` nests it.
    let runs = |command: &Command| {
        READERS.contains(&command.name.as_str()) || matches!(command.name.as_str(), "source" | "." | "eval")
    };
    let process = script.commands.windows(2).any(|pair| {
        let [reader, source] = pair else { return false };
        let reads_only_it = reader.arguments.iter().all(|word| word.starts_with('-'));
        runs(reader) && reads_only_it && source.input == Input::Substitution && fetches(source)
    });
    let text = script.commands.iter().filter(|command| runs(command)).any(|command| {
        command.arguments.iter().any(|word| {
            FETCHERS
                .iter()
                .any(|name| word.contains(&format!("$({name} ")) || word.contains(&format!("`{name} ")))
        })
    });
    (process || text).then_some(REASON)
}

/// Whether a command deletes, overwrites, forces or ends something, be it rightly.
pub(super) fn is_drastic(command: &Command) -> bool {
    const DRASTIC: [&str; 33] = [
        "blkdiscard",
        "dd",
        "deluser",
        "dropdb",
        "fdisk",
        "groupdel",
        "halt",
        "hdparm",
        "init",
        "kill",
        "killall",
        "lvremove",
        "mkswap",
        "parted",
        "passwd",
        "pkill",
        "poweroff",
        "pvremove",
        "reboot",
        "rm",
        "rmdir",
        "sfdisk",
        "sgdisk",
        "shred",
        "shutdown",
        "srm",
        "telinit",
        "truncate",
        "unlink",
        "userdel",
        "vgremove",
        "wipefs",
        "xkill",
    ];
    /// Words that say so, whichever program they are given to.
    const WORDS: [&str; 18] = [
        "--delete",
        "--force",
        "--hard",
        "--purge",
        "-delete",
        "autoremove",
        "delete",
        "destroy",
        "drop",
        "erase",
        "kill",
        "poweroff",
        "prune",
        "purge",
        "reboot",
        "remove",
        "uninstall",
        "wipe",
    ];
    let name = command.name.as_str();
    let has = |word: &str| command.arguments.iter().any(|argument| argument == word);
    let forces = || {
        has_flag(command, 'f')
            || command.arguments.iter().any(|word| word.starts_with("--force") || word.starts_with('+'))
    };
    let deletes =
        || command.arguments.iter().any(|word| matches!(word.as_str(), "rm" | "rmi" | "shred" | "unlink"));
    let queries = || {
        command.arguments.iter().any(|word| {
            let word = word.to_lowercase();
            ["drop ", "truncate ", "delete from "].iter().any(|verb| word.contains(verb))
        })
    };
    DRASTIC.contains(&name)
        || name.starts_with("mkfs")
        || WORDS.iter().any(|word| has(word))
        || match name {
            "git" if has("push") => forces() || has_flag(command, 'd'),
            "git" => has("clean") || deletes() || has_flag(command, 'D') || has("--") || has("filter-branch"),
            "echo" | "printf" => false,
            "crontab" => has("-r"),
            "systemctl" | "service" => has("stop") || has("mask") || has("disable"),
            "docker" | "podman" | "find" | "aws" | "kubectl" | "xargs" => deletes() || has("down"),
            "psql" | "mysql" | "mariadb" | "sqlite3" => queries(),
            _ => false,
        }
}

/// A function that starts itself twice, under any name: `f(){ f|f& };f`.
pub(super) fn is_fork_bomb(line: &str) -> bool {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    let bombs = line.match_indices('{').any(|(at, _)| {
        let head = line[..at].trim_end_matches("()");
        let start = head.rfind([';', '&', '|', '(', ')', '{', '}', '\'', '"']).map_or(0, |i| i + 1);
        let name = head[start..].strip_prefix("function").unwrap_or(&head[start..]);
        let is_function = name.len() < at - start;
        let body = line[at + 1..].split('}').next().unwrap_or("");
        let calls = body.split(['|', '&', ';']).filter(|call| *call == name).count();
        is_function && !name.is_empty() && calls >= 2 && body.contains('&')
    });
    bombs || ["$0&$0&", "$0|$0&", "forkwhilefork"].iter().any(|bomb| line.contains(bomb))
}

/// The arguments that are no options.
fn operands(command: &Command) -> impl DoubleEndedIterator<Item = &str> {
    command.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-'))
}

fn has_flag(command: &Command, letter: char) -> bool {
    let is_set = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    command.arguments.iter().any(is_set)
}

/// Whether a long option is given, also cut short as GNU programs allow (`--recurs`).
fn has_option(command: &Command, option: &str) -> bool {
    command
        .arguments
        .iter()
        .any(|word| word == option || (word.len() > 5 && option.starts_with(word.as_str())))
}
