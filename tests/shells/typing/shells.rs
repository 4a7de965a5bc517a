//! What is each shell's own: how it is started, with us and without, and keys that only it has.

use std::path::Path;

use super::ARGUMENT;
use crate::util::{find, home::Home, nemoterm, terminal::Terminal};

/// A shell with ghost text as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Zsh,
    Bash,
    Fish,
}

/// Writes the line to `~/line`.
pub const DUMP: &str = "\x18d";

/// The end of the line, on keys that accept nothing.
pub const END: &str = "\x18e";

/// What ends a record in a file of the shell's.
pub const RECORD: char = '\x1e';

/// What was run before.
pub const HISTORY: [&str; 7] = [
    "echo hello world 日本語 and some more text that wraps around",
    "echo héllo zoo",
    "hello there",
    "zoo",
    "oh no it is long long long long long long long",
    "é accent",
    "日本 wide 日本 wide 日本 wide",
];

const ZSH: &str = r#"
PS1='> ' PS2='+ ' PATH=~/bin
unsetopt promptsp
setopt combiningchars
# Or a list of all commands shows what ours loads.
zmodload zsh/system zsh/datetime zsh/parameter zsh/zleparameter
zmodload -F zsh/files b:zf_rm
HISTFILE=~/.zsh_history SAVEHIST=99 HISTSIZE=99
bindkey '^[[H' beginning-of-line '^[[F' end-of-line '^[[3~' delete-char '^[[1;3C' forward-word '^Xe' end-of-line
typing-line() { print -rn -- "$BUFFER"$'\x1e' >| ~/line }
zle -N typing-line
bindkey '^Xd' typing-line
precmd() { print -n P >> ~/prompts }
preexec() { print -rn -- "$1"$'\x1e' >> ~/ran }
command_not_found_handler() { print -r -- "no $1"; return 127 }
trap '' USR1
TRAPUSR2() { : }
"#;

const BASH: &str = r#"
PATH=~/bin PS1='\[\e[32m\]> \[\e[0m\]' PS2='+ '
HISTFILE=~/.bash_history
bind '"\C-xe": end-of-line' '"\e[1;3C": forward-word'
bind -x '"\C-xd": printf "%s\x1e" "$READLINE_LINE" >~/line'
typing_prompt() {
    local entry=$(HISTTIMEFORMAT= history 1)
    printf '%s\x1e' "${entry#*[0-9][ \*] }" >>~/ran
    printf P >>~/prompts
}
PROMPT_COMMAND=typing_prompt
# Or a list of all commands shows ours.
shopt -s no_empty_cmd_completion
command_not_found_handle() { echo "no $1"; return 127; }
trap '' USR1
trap : USR2
"#;

const FISH: &str = r"
set -gx PATH ~/bin
function typing_end; commandline --function end-of-line; end
bind \cxe typing_end
function typing_line; commandline --current-buffer | string collect | read --null line; printf '%s\x1e' $line >~/line; end
bind \cxd typing_line
# fish 4 would only empty the line.
bind \cc cancel-commandline
# And on an empty line list directories, which are not those of the twin.
bind \ed kill-word
function typing_prompt --on-event fish_prompt --on-event fish_cancel; printf P >>~/prompts; end
function typing_ran --on-event fish_preexec; printf '%s\x1e' $argv[1] >>~/ran; end
function fish_command_not_found; echo no $argv[1]; end
trap '' USR1
function typing_told --on-signal USR2; end
";

/// A program that repeats what it is told, and says when it listens.
const TALK: &str = r#"
trap 'echo again' CONT
echo talking
while true; do
    read -r -t 0.1 line
    case $? in
        0)
            [[ $begun$line == end ]] && exit
            echo "$begun$line"
            begun=
            ;;
        *) begun+=$line ;;
    esac
done
"#;

impl Shell {
    /// The shell at its first prompt, with our integration or without. `None` where it is not installed.
    pub fn start(self, home: &Home, with_us: bool, rows: u16, columns: u16) -> Option<Terminal> {
        for program in ["cat", "clear", "mkdir"] {
            let program = find(program)?;
            let link = home.path().join("bin").join(program.file_name().unwrap());
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(program, link).unwrap();
        }
        let talk = home.write("bin/talk", &format!("#!{}\n{TALK}", find("bash")?.display()));
        std::fs::set_permissions(talk, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        home.write("work/file-to-complete", "");
        let lines = |entry: &dyn Fn(&str) -> String| HISTORY.map(entry).concat();
        let plain = |line: &str| format!("{line}\n");
        let integration = if with_us { self.integration(nemoterm()) } else { String::new() };
        let (program, arguments): (_, &[&str]) = match self {
            Self::Zsh => {
                home.write(".zsh_history", &lines(&plain));
                home.write(".zshrc", &format!("{ZSH}{integration}print ready\n"));
                ("zsh", &["-d", "-i"])
            }
            Self::Bash => {
                if with_us {
                    super::super::bash_ghost::look_for_builtin();
                }
                home.write(".bash_history", &lines(&plain));
                home.write(".bashrc", &format!("{BASH}{integration}echo ready\n"));
                ("bash", &["-i"])
            }
            Self::Fish => {
                let history = lines(&|line| format!("- cmd: {line}\n  when: 1\n"));
                home.write(".local/share/fish/fish_history", &history);
                home.write(".local/share/fish/generated_completions/none", "");
                home.write(
                    ".config/fish/config.fish",
                    &format!("{}{FISH}{integration}echo ready\n", super::super::fish::PLAIN),
                );
                ("fish", &["-i"])
            }
        };
        let mut command = home.command(find(program)?);
        command.args(arguments);
        let terminal = Terminal::spawn_sized(command, rows, columns);
        terminal.wait("the first prompt", |screen| {
            screen.rows.iter().any(|row| row == "ready") && screen.last_row() == ">" && screen.cursor.1 == 2
        });
        Some(terminal)
    }

    fn integration(self, program: &Path) -> String {
        let program = program.display();
        match self {
            Self::Zsh => format!("eval \"$({program} init zsh)\"\n"),
            Self::Bash => format!("eval \"$({program} init bash)\"\n"),
            Self::Fish => format!("{program} init fish | source\n"),
        }
    }

    /// A row as it is compared.
    pub fn row(self, row: &str) -> String {
        match self {
            // Where keys part an accent from its letter, fish and readline draw it or do not as they happen to draw the rest. It may
            // be on the last blank.
            Self::Fish | Self::Bash => row.replace('\u{301}', "").trim_end().to_owned(),
            Self::Zsh => row.to_owned(),
        }
    }

    /// Keys that search the history, repeat, quote and change words, and not in every shell.
    pub fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Zsh => &["\x12ech\x07", ARGUMENT, "\x1bu", "\x16\x05"],
            // No search: where its prompt wraps, a bash without us leaves some of it behind.
            Self::Bash => &[ARGUMENT, "\x1b[Z", "\x1bOS", "\x1bu", "\x16\x05"],
            Self::Fish => &["\x1bu"],
        }
    }
}
