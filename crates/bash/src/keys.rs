//! The keys that act on a ghost, and what they did before they were ours.

use std::ffi::CStr;

use crate::{
    hooks,
    readline::{
        Binding, Command,
        Map::{self, Emacs, ViInsert},
        Readline,
    },
};

/// What a key can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take the suggestion.
    Accept,
    /// Take its next word.
    Word,
    /// Show the next one.
    Next,
    /// Show the one before.
    Previous,
    /// Ask now.
    Ask,
    /// Take the ghost away.
    Dismiss,
}

/// Where a key is bound unless the user chooses. Letters after Esc are left alone in vi mode, where Esc and a
/// command often follow in no time.
///
/// In emacs mode Esc dismisses and Alt-[ shows the suggestion before, which are no bindings, since both begin the
/// sequences of other keys: see [`hooks::getc`]. In vi mode Esc leaves insert mode, which hides the ghost as well.
const USUAL: [(Action, &[Map], &[&str]); 7] = [
    (Action::Accept, &[Emacs, ViInsert], &[r"\e[C", r"\eOC", r"\e[F", r"\eOF", r"\e[4~"]),
    (Action::Accept, &[Emacs], &[r"\C-f", r"\C-e"]),
    (Action::Word, &[Emacs, ViInsert], &[r"\e[1;3C"]),
    (Action::Word, &[Emacs], &[r"\ef"]),
    (Action::Next, &[Emacs], &[r"\e]"]),
    (Action::Ask, &[Emacs, ViInsert], &[r"\C-@"]),
    (Action::Dismiss, &[ViInsert], &[r"\C-g"]),
];

const ALL: [Action; 6] =
    [Action::Accept, Action::Word, Action::Next, Action::Previous, Action::Ask, Action::Dismiss];

impl Action {
    /// The action a script calls like this.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|action| action.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Word => "word",
            Self::Next => "next",
            Self::Previous => "previous",
            Self::Ask => "ask",
            Self::Dismiss => "dismiss",
        }
    }

    /// The name of its command in readline.
    fn command_name(self) -> &'static CStr {
        match self {
            Self::Accept => c"nemoterm-accept",
            Self::Word => c"nemoterm-accept-word",
            Self::Next => c"nemoterm-next",
            Self::Previous => c"nemoterm-previous",
            Self::Ask => c"nemoterm-ask",
            Self::Dismiss => c"nemoterm-dismiss",
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Accept => hooks::accept,
            Self::Word => hooks::word,
            Self::Next => hooks::next,
            Self::Previous => hooks::previous,
            Self::Ask => hooks::ask,
            Self::Dismiss => hooks::dismiss,
        }
    }
}

/// Key bindings, which are made at the first prompt, when readline has read the user's.
pub struct Keys {
    named: bool,
    bound: bool,
    /// What the user has chosen.
    chosen: Vec<(Action, Vec<String>)>,
    /// Map, key sequence and what it did before.
    before: Vec<(Map, Vec<u8>, Option<Command>)>,
}

impl Keys {
    /// The usual ones.
    pub const fn new() -> Self {
        Self { named: false, bound: false, chosen: Vec::new(), before: Vec::new() }
    }

    /// Binds these keys to an action, instead of the usual ones.
    pub fn choose(&mut self, action: Action, sequences: &[&str]) {
        self.chosen.retain(|(other, _)| *other != action);
        self.chosen.push((action, sequences.iter().map(|&sequence| sequence.to_owned()).collect()));
    }

    /// Whether an action has its usual keys.
    pub fn are_usual(&self, action: Action) -> bool {
        !self.chosen.iter().any(|(chosen, _)| *chosen == action)
    }

    /// Names the actions, for the user's own bindings.
    pub fn name(&mut self, readline: &'static Readline) {
        if !std::mem::replace(&mut self.named, true) {
            for action in ALL {
                readline.name(action.command_name(), action.command());
            }
        }
    }

    /// Binds everything, once.
    pub fn bind(&mut self, readline: &'static Readline) {
        if std::mem::replace(&mut self.bound, true) {
            return;
        }
        for action in ALL {
            let chosen =
                self.chosen.iter().find(|(of, _)| *of == action).map(|(_, sequences)| sequences.clone());
            if let Some(sequences) = chosen {
                for sequence in &sequences {
                    self.bind_one(readline, action, &[Emacs, ViInsert], sequence);
                }
                continue;
            }
            for (_, maps, sequences) in USUAL.iter().filter(|(usual, ..)| *usual == action) {
                for sequence in *sequences {
                    self.bind_one(readline, action, maps, sequence);
                }
            }
        }
    }

    fn bind_one(&mut self, readline: &Readline, action: Action, maps: &[Map], sequence: &str) {
        let Some(bytes) = readline.translate(sequence) else { return };
        for &map in maps {
            let before = match readline.binding(map, &bytes) {
                Binding::Nothing => None,
                Binding::Command(command) if is_ours(command) => continue,
                Binding::Command(command) => Some(command),
                // It can't be called, so the user's key stays the user's.
                Binding::Other => continue,
            };
            readline.bind(map, sequence, action.command());
            self.before.push((map, bytes.clone(), before));
        }
    }

    /// What the key that is being executed did before.
    pub fn before(&self, readline: &Readline) -> Option<Command> {
        let (map, bytes) = readline.executing();
        self.before.iter().find(|(in_map, of, _)| Some(*in_map) == map && *of == bytes)?.2
    }
}

fn is_ours(command: Command) -> bool {
    ALL.iter().any(|action| std::ptr::fn_addr_eq(action.command(), command))
}
