//! The integrations in the real shells, in a terminal.

mod zsh;
