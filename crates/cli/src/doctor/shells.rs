//! The shells that are installed: whether they load the integration, and what else they load that gets in its way.

use std::{env, fs, path::PathBuf};

use super::{
    Finding,
    problems::{self, Problem},
};
use crate::context;

/// Those there is an integration for.
pub(super) const SHELLS: [&str; 3] = ["zsh", "bash", "fish"];

/// A program that draws or reads keys in a shell, too.
struct Neighbour {
    /// The only shell it is for, if it is for one.
    shell: &'static str,
    /// What a line of the shell's files has in it where it is loaded.
    signs: &'static [&'static str],
    is: Is,
}

enum Is {
    /// Both get along.
    Fine(&'static str),
    /// Both get along where nemoterm is loaded last.
    FineBefore(&'static str, &'static Problem),
    InTheWay(&'static Problem),
}

const NEIGHBOURS: [Neighbour; 8] = [
    Neighbour {
        shell: "zsh",
        signs: &["zsh-autosuggestions", "autosuggestions.zsh"],
        is: Is::Fine("zsh-autosuggestions draws the ghost text, and asks nemoterm first"),
    },
    Neighbour { shell: "zsh", signs: &["zsh-autocomplete"], is: Is::InTheWay(&problems::ZSH_AUTOCOMPLETE) },
    Neighbour { shell: "zsh", signs: &["zsh-vi-mode"], is: Is::InTheWay(&problems::ZSH_VI_MODE) },
    Neighbour {
        shell: "bash",
        signs: &["ble.sh", "blesh"],
        is: Is::FineBefore("ble.sh draws the suggestions, and asks nemoterm first", &problems::BLE_SH),
    },
    Neighbour { shell: "", signs: &["inshellisense"], is: Is::InTheWay(&problems::INSHELLISENSE) },
    Neighbour {
        shell: "",
        signs: &["amazon-q", "kiro-cli", ".fig/shell", "/fig/"],
        is: Is::InTheWay(&problems::AMAZON_Q),
    },
    Neighbour {
        shell: "fish",
        signs: &["NEMOTERM_MODE hotkey"],
        is: Is::Fine("suggests only at the key; fish's own suggestions stay"),
    },
    Neighbour {
        shell: "",
        signs: &["NEMOTERM_OFF=1", "NEMOTERM_OFF 1"],
        is: Is::InTheWay(&problems::OFF_IN_SHELL),
    },
];

/// What a shell's files load that draws or reads keys as well.
pub(super) fn neighbours(shell: &'static str) -> Vec<Finding> {
    let lines: Vec<String> = files(shell).iter().flat_map(lines).collect();
    // Who does not load us has no conflict.
    let loads_us = |line: &String| line.contains("nemoterm") && line.contains("init");
    let Some(ours) = lines.iter().rposition(loads_us) else { return Vec::new() };
    let is_here = |neighbour: &&Neighbour| neighbour.shell.is_empty() || neighbour.shell == shell;
    let place = |neighbour: &Neighbour| {
        lines.iter().position(|line| neighbour.signs.iter().any(|sign| line.contains(sign)))
    };
    let found = NEIGHBOURS.iter().filter(is_here);
    let found = found.filter_map(|neighbour| Some((neighbour, place(neighbour)?)));
    found
        .map(|(neighbour, place)| match neighbour.is {
            Is::Fine(found) => Finding::good(shell, found),
            Is::FineBefore(found, _) if place < ours => Finding::good(shell, found),
            Is::FineBefore(_, problem) | Is::InTheWay(problem) => {
                Finding::bad(problem, problem.what).check(shell)
            }
        })
        .collect()
}

/// The file a user's settings are in, and what loads the integration there.
fn settings(shell: &str) -> Option<(PathBuf, &'static str)> {
    let dirs = directories::BaseDirs::new()?;
    let home = dirs.home_dir();
    Some(match shell {
        "zsh" => {
            let dir = env::var_os("ZDOTDIR").map_or_else(|| home.to_path_buf(), Into::into);
            (dir.join(".zshrc"), "eval \"$(nemoterm init zsh)\"")
        }
        "bash" => (home.join(".bashrc"), "eval \"$(nemoterm init bash)\""),
        _ => {
            // fish keeps to this directory on every system.
            let dir = env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), Into::into);
            (dir.join("fish/config.fish"), "nemoterm init fish | source")
        }
    })
}

/// All files of a user's settings.
fn files(shell: &str) -> Vec<PathBuf> {
    let Some((file, _)) = settings(shell) else { return Vec::new() };
    let mut files = vec![file.clone()];
    if shell == "fish" {
        let own = fs::read_dir(file.with_file_name("conf.d")).into_iter().flatten().flatten();
        files.extend(
            own.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "fish")),
        );
    }
    files
}

/// The lines of a file but for comments.
fn lines(file: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect()
}

/// Whether a shell that is installed loads the integration.
pub(super) fn integration(name: &'static str) -> Option<Finding> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).find(|dir| dir.join(name).is_file())?;
    let (file, line) = settings(name)?;
    // install.sh writes the hook with the program's whole path in quotes, and for fish into a file of its own.
    let hook = format!(" init {name}");
    let loads =
        |file: &PathBuf| lines(file).iter().any(|line| line.contains("nemoterm") && line.contains(&hook));
    let hooked = files(name).into_iter().find(loads);
    let login = context::login_shell() == name;
    Some(if let Some(hooked) = hooked {
        let loaded = format!("loaded by {}", hooked.display());
        if name == "bash" && bash_builtin().is_none() && !loads_blesh() {
            Finding::bad(
                &problems::NO_BUILTIN,
                format!("{loaded}, without the builtin: it suggests only at a key"),
            )
        } else {
            Finding::good(name, loaded)
        }
    } else if login {
        Finding::bad(&problems::NOT_HOOKED, format!("not loaded by {}", file.display()))
            .check(name)
            .hint(format!("add to it: {line}"))
    } else {
        Finding::good(name, "not set up, and not your login shell")
    })
}

/// Whether bash loads ble.sh, in which no builtin is needed.
fn loads_blesh() -> bool {
    files("bash").iter().flat_map(lines).any(|line| line.contains("ble.sh") || line.contains("blesh"))
}

/// The library that lets bash suggest while one types, where nemoterm.bash looks for it.
fn bash_builtin() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NEMOTERM_BASH_BUILTIN") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let program = env::current_exe().ok()?;
    let beside = program.parent()?;
    let dirs = [beside.to_path_buf(), beside.join("../lib/nemoterm")];
    let names = ["libnemoterm_bash.so", "libnemoterm_bash.dylib"];
    dirs.iter().flat_map(|dir| names.map(|name| dir.join(name))).find(|path| path.is_file())
}
