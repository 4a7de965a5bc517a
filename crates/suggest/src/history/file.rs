//! Where shells keep their histories, and the part of such a file that is read.

use std::{
    ffi::OsString,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::context::Shell;

/// The end of a history file that is read, in bytes.
pub const MAX_BYTES: u64 = 8 << 20;

/// The file a shell keeps its history in where nobody says otherwise: `$HISTFILE` where that is exported, else by the
/// shell's own rule. fish goes by `$XDG_DATA_HOME` on every system.
pub fn usual(shell: Shell, home: &Path, var: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let set = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = |name| set("HISTFILE").unwrap_or_else(|| home.join(name));
    match shell {
        Shell::Zsh => own(".zsh_history"),
        Shell::Bash | Shell::Other => own(".bash_history"),
        Shell::Fish => set("XDG_DATA_HOME")
            .filter(|dir| dir.is_absolute())
            .unwrap_or_else(|| home.join(".local/share"))
            .join("fish/fish_history"),
    }
}

/// The last bytes of a history, at most so many, from the beginning of a line on.
///
/// # Errors
/// Those of reading.
pub fn end(mut file: impl Read + Seek, most: u64) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    if length > most {
        // The first line is most likely cut.
        let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..end);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn each_shell_has_its_own_file() {
        let home = Path::new("/h");
        let none = |_: &str| None;
        assert_eq!(usual(Shell::Zsh, home, none), Path::new("/h/.zsh_history"));
        assert_eq!(usual(Shell::Bash, home, none), Path::new("/h/.bash_history"));
        assert_eq!(usual(Shell::Fish, home, none), Path::new("/h/.local/share/fish/fish_history"));
        let exported = |name: &str| (name == "HISTFILE").then(|| "/x/hist".into());
        assert_eq!(usual(Shell::Zsh, home, exported), Path::new("/x/hist"));
        assert_eq!(usual(Shell::Bash, home, exported), Path::new("/x/hist"));
        assert_eq!(usual(Shell::Fish, home, exported), Path::new("/h/.local/share/fish/fish_history"));
        let data = |dir: &'static str| move |name: &str| (name == "XDG_DATA_HOME").then(|| dir.into());
        assert_eq!(usual(Shell::Fish, home, data("/d")), Path::new("/d/fish/fish_history"));
        assert_eq!(usual(Shell::Fish, home, data("d")), Path::new("/h/.local/share/fish/fish_history"));
    }

    #[test]
    fn of_a_long_file_whole_lines_at_its_end_are_read() {
        let of =
            |most| String::from_utf8(end(Cursor::new(b"first\nsecond\nthird\n"), most).unwrap()).unwrap();
        assert_eq!(of(100), "first\nsecond\nthird\n");
        assert_eq!(of(19), "first\nsecond\nthird\n");
        assert_eq!(of(18), "second\nthird\n");
        assert_eq!(of(8), "third\n");
        assert_eq!(of(3), "");
    }
}
