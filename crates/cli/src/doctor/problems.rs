//! Everything that `doctor` may find wrong. What it prints and the page docs/troubleshooting.md are made of this list, so they
//! say the same.

/// Something that may be wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is called, in JSON and as a place on the page.
    pub name: &'static str,
    /// Where it is listed.
    pub check: &'static str,
    /// What is wrong, for those who look it up.
    pub what: &'static str,
    /// What to do, in a line.
    pub fix: &'static str,
    /// What there is to know besides; nothing where that is all.
    pub more: &'static str,
}

/// Makes the problems, and the list of all of them.
macro_rules! problems {
    ($($id:ident: $check:literal, $what:literal, $fix:literal, $more:literal;)*) => {
        $(pub const $id: Problem =
            Problem { name: stringify!($id), check: $check, what: $what, fix: $fix, more: $more };)*
        /// All of them, in the order they are looked for.
        #[cfg(test)]
        const ALL: &[&Problem] = &[$(&$id),*];
    };
}

problems! {
    NO_PROGRAM: "program",
        "The daemon's program, nemotermd, is neither beside nemoterm nor on the PATH",
        "run install.sh again",
        "NEMOTERM_DAEMON names another program; where it is set, it has to name a file.";
    NO_CUDA_PROGRAM: "gpu",
        "There is an NVIDIA card, and no nemotermd-cuda to use it",
        "run install.sh again: with nvcc on the PATH it builds one",
        "The model runs on the processor meanwhile. The compiler comes with the package nvidia-cuda-toolkit or with NVIDIA's own.";
    CUDA_PROGRAM_FAILS: "gpu",
        "There is an NVIDIA card, and nemotermd-cuda does not start",
        "install the libraries of CUDA that it names: cudart, cublas and curand, of the release that it was built with",
        "The model runs on the processor meanwhile. A driver comes without these libraries; NVIDIA's package cuda-libraries-12-6 (and so on) holds them, and what install.sh builds uses those of the toolkit it is built with.";
    NO_DRIVER: "gpu",
        "There is an NVIDIA card, and its driver can't be loaded",
        "install the driver's library libcuda.so.1, which belongs to the kernel's module; nvidia-smi tests both",
        "After an update of the driver the machine has to be started anew. In a container the driver has to be passed in.";
    UNSAFE_SOCKET: "socket",
        "The place of the socket can't be trusted: it belongs to somebody else, or others may enter it",
        "set NEMOTERM_RUNTIME_DIR to a directory of your own with mode 0700",
        "Usually it is $XDG_RUNTIME_DIR/nemoterm. After `su` that variable names the other user's directory.";
    NO_SOCKET: "service",
        "The service is installed, and it does not listen",
        "systemctl --user restart nemoterm.socket",
        "Somebody removed the socket, or systemd does not run the unit, as after a daemon that could not be started again and again: `systemctl --user status nemoterm.socket nemoterm.service` tells. Until then the first shell starts a daemon of its own, which is in no sandbox.";
    BAD_CONFIG: "config",
        "Something in config.toml or in a variable is not allowed",
        "nemoterm config edit opens the file",
        "The message names the key, the line and what is allowed. `nemoterm config show --origin` tells where each value comes from.";
    OFF: "switch",
        "Suggestions are turned off in every shell",
        "nemoterm on brings them back",
        "";
    NO_DAEMON: "daemon",
        "The daemon can't be started or does not answer",
        "nemoterm daemon logs may tell why",
        "`nemoterm daemon restart` ends one that hangs. `NEMOTERM_LOG=debug` in its environment makes it tell more.";
    OTHER_RELEASE: "daemon",
        "The running daemon is of another release than nemoterm",
        "nemoterm daemon restart",
        "An older one is replaced by itself when the next shell or command starts it anew.";
    REPLACED: "daemon",
        "The daemon's program was replaced since it was started",
        "nemoterm daemon restart",
        "";
    REMOTE_FAILS: "remote",
        "The server that is set to complete does not",
        "nemoterm daemon status tells what is wrong and when it is asked again",
        "The model on this machine answers meanwhile. `nemoterm config unset backend` makes that the rule.";
    MODEL_FAILED: "model",
        "The model can't be loaded",
        "nemoterm model use takes another model",
        "The message names the file and what is wrong with it. `nemoterm model use nemoterm-mini` takes the one that is part of the program.";
    MODEL_LOADING: "model",
        "The model is still being loaded",
        "nemoterm daemon status tells how far it is",
        "Until it is there the history answers, and the model before it, where there was one.";
    STANDS_IN: "model",
        "Another model answers in place of the one that is set, because the graphics card can't be used",
        "nvidia-smi tells what else runs there; nemoterm config set gpu_memory MIB sets what the model may take",
        "The card is tried again after a minute, then after two, up to sixteen, when somebody types. A driver that has failed may need a daemon that is started anew: `nemoterm daemon restart`.";
    DAEMON_WENT: "model",
        "The daemon ended while it was looked at",
        "nemoterm daemon logs may tell why",
        "";
    NO_COMPLETION: "speed",
        "A completion has failed",
        "nemoterm daemon restart",
        "";
    SLOW: "speed",
        "A warm completion takes longer than 50 ms",
        "a smaller model answers sooner: nemoterm model list",
        "`nemoterm bench` measures what the model does here, and `--quantize q4_k` makes it smaller while it is loaded. Another program may keep the processor busy.";
    SLOW_SERVER: "speed",
        "The server answers later than a shell waits",
        "export NEMOTERM_TIMEOUT_MS=500 lets a shell wait for it (150 without)",
        "Three fifths of that time are the server's.";
    SLOW_KEY: "key",
        "A suggestion comes later than 50 ms after its key",
        "a smaller model answers sooner: nemoterm model list",
        "";
    NO_SUGGESTIONS: "key",
        "Keys get no suggestion in time",
        "nemoterm daemon logs may tell why",
        "A directory on the PATH or a work tree on a slow network drive may be what is waited for.";
    NO_KEY: "key",
        "The client of a shell can't be run",
        "run install.sh again",
        "";
    NO_CLIENT: "this shell",
        "The shell that doctor was called in has no client: it was started before nemoterm was set up, or is no interactive one, or suggests only at a key",
        "start a new shell",
        "";
    NOT_HOOKED: "shell",
        "Your login shell does not load nemoterm",
        "run install.sh again, or add the line that doctor names",
        "zsh: `eval \"$(nemoterm init zsh)\"` in ~/.zshrc, bash: `eval \"$(nemoterm init bash)\"` in ~/.bashrc, fish: `nemoterm init fish | source` in ~/.config/fish/config.fish.";
    NO_BUILTIN: "bash",
        "bash loads nemoterm without its builtin, and so it suggests only at a key",
        "run install.sh again, or set NEMOTERM_BASH_BUILTIN to libnemoterm_bash.so",
        "";
    ZSH_AUTOCOMPLETE: "zsh",
        "zsh-autocomplete is loaded, which lists completions below the line at every key",
        "load one of the two, or set NEMOTERM_MODE=hotkey",
        "";
    ZSH_VI_MODE: "zsh",
        "zsh-vi-mode is loaded, which binds keys anew at the first prompt",
        "put the line that loads nemoterm into its zvm_after_init function",
        "";
    BLE_SH: "bash",
        "ble.sh is loaded after nemoterm, which can't suggest in it then",
        "put the line that loads nemoterm after the one that loads ble.sh",
        "";
    INSHELLISENSE: "shell",
        "inshellisense is loaded, which draws suggestions of its own",
        "load one of the two, or set NEMOTERM_MODE=hotkey",
        "";
    AMAZON_Q: "shell",
        "Amazon Q (Kiro, Fig) is loaded, which draws inline suggestions of its own",
        "turn these off: q inline disable",
        "";
    OFF_IN_SHELL: "shell",
        "NEMOTERM_OFF is set: nothing is suggested",
        "take that line out",
        "";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

    use super::*;

    /// The page on which all of them stand.
    fn page() -> String {
        let mut page = String::from(
            "# When something does not work\n\n\
             `nemoterm doctor` looks for everything on this page, and says what to do; `--json` tells it to programs, with the names that\n\
             stand here. This page is made of the list that doctor uses (`NEMOTERM_BLESS=1 cargo test the_page` writes it anew).\n",
        );
        for problem in ALL {
            // Writing to a String can't fail.
            let _ = write!(
                page,
                "\n## {}\n\n{}. Listed under `{}`.\n",
                problem.name, problem.what, problem.check
            );
            let _ = write!(page, "\n**Do this:** {}.\n", problem.fix);
            if !problem.more.is_empty() {
                let _ = write!(page, "\n{}\n", problem.more);
            }
        }
        page
    }

    #[test]
    fn the_page_is_made_of_the_list() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
        if std::env::var_os("NEMOTERM_BLESS").is_some_and(|value| value == "1") {
            fs::write(&file, page()).unwrap();
        }
        let hint = "NEMOTERM_BLESS=1 cargo test the_page writes it";
        assert_eq!(fs::read_to_string(file).unwrap_or_default(), page(), "{hint}");
    }

    #[test]
    fn every_problem_has_a_name_of_its_own_and_something_to_do() {
        let names: BTreeSet<_> = ALL.iter().map(|problem| problem.name).collect();
        assert_eq!(names.len(), ALL.len());
        for problem in ALL {
            assert!(!problem.fix.is_empty() && !problem.fix.contains('\n'), "{problem:?}");
            assert!(!problem.what.ends_with('.') && !problem.fix.ends_with('.'), "{problem:?}");
        }
    }
}
