//! The history files of zsh, bash and fish.

use crate::context::Shell;

/// The commands in a history file, oldest first. A command of several lines is one entry with line breaks in
/// it; an entry that is not UTF-8 is left out.
pub fn parse(shell: Shell, bytes: &[u8]) -> Vec<String> {
    let entries = match shell {
        Shell::Zsh => zsh(bytes),
        Shell::Fish => fish(bytes),
        Shell::Bash | Shell::Other => bash(bytes),
    };
    entries
        .into_iter()
        .filter_map(|entry| String::from_utf8(entry).ok())
        .filter(|entry| !entry.is_empty())
        .collect()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// One command a line, in the extended format after `: START:SECONDS;`. A line break inside a command is
/// written as a backslash and a newline, a final backslash is followed by a blank that is not part of the
/// command, and special bytes are metafied: 0x83, then the byte with bit 5 flipped.
fn zsh(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    let mut entry: Vec<u8> = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        if let [text @ .., b'\\'] = line {
            entry.extend_from_slice(text);
            entry.push(b'\n');
            continue;
        }
        entry.extend_from_slice(line);
        let mut text = unmetafy(zsh_command(&entry));
        if text.ends_with(b" ") && text.trim_ascii_end().ends_with(b"\\") {
            text.pop();
        }
        entries.push(text);
        entry.clear();
    }
    entries
}

/// The command of a zsh entry, without the `: START:SECONDS;` of the extended format.
fn zsh_command(entry: &[u8]) -> &[u8] {
    let Some(rest) = entry.strip_prefix(b": ") else { return entry };
    let Some(semicolon) = rest.iter().position(|&byte| byte == b';') else { return entry };
    let stamp = rest[..semicolon].trim_ascii_start();
    let is_stamp = stamp.contains(&b':') && stamp.iter().all(|byte| byte.is_ascii_digit() || *byte == b':');
    if is_stamp { &rest[semicolon + 1..] } else { entry }
}

fn unmetafy(bytes: &[u8]) -> Vec<u8> {
    const META: u8 = 0x83;
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        if byte == META { out.extend(bytes.next().map(|next| next ^ 32)) } else { out.push(byte) }
    }
    out
}

/// One command a line. With HISTTIMEFORMAT set, bash writes `#SECONDS` before each command; as bash itself
/// does, a file that begins with such a line is read as if each command ran to the next one.
fn bash(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let timed = lines(bytes).next().is_some_and(is_bash_stamp);
    let mut begins = true;
    for line in lines(bytes) {
        if is_bash_stamp(line) {
            begins = true;
        } else if let (true, false, Some(entry)) = (timed, begins, entries.last_mut()) {
            if !line.is_empty() {
                entry.push(b'\n');
                entry.extend_from_slice(line);
            }
        } else {
            entries.push(line.to_vec());
            begins = false;
        }
    }
    entries
}

fn is_bash_stamp(line: &[u8]) -> bool {
    matches!(line, [b'#', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// `- cmd: TEXT`, then lines of other keys. In TEXT, `\n` is a line break and `\\` a backslash.
fn fish(bytes: &[u8]) -> Vec<Vec<u8>> {
    lines(bytes).filter_map(|line| line.strip_prefix(b"- cmd: ")).map(fish_unescape).collect()
}

fn fish_unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b'\\')) => out.push(b'\\'),
            _ => {
                out.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(shell: Shell, bytes: &[u8], expected: &[&str]) {
        assert_eq!(parse(shell, bytes), expected);
    }

    #[test]
    fn zsh_plain_and_extended() {
        check(
            Shell::Zsh,
            b"ls\n: 1700000000:0;git status\n: not a stamp;x\n",
            &["ls", "git status", ": not a stamp;x"],
        );
        check(
            Shell::Zsh,
            b": 1:0;for i in a\\\ndo echo $i\\\ndone\nls\n",
            &["for i in a\ndo echo $i\ndone", "ls"],
        );
        check(Shell::Zsh, b"echo \\\\ \nls\n", &["echo \\\\", "ls"]);
    }

    #[test]
    fn zsh_metafied_bytes() {
        // U+65E5 is E6 97 A5 in UTF-8, and zsh metafies 0x97 to 0x83 0xB7.
        check(Shell::Zsh, b"echo \xe6\x83\xb7\xa5\n", &["echo 日"]);
        check(Shell::Zsh, b"echo \xff\nls\x83", &["ls"]);
    }

    #[test]
    fn bash_with_and_without_times() {
        check(Shell::Bash, b"ls\n#1700000000\ncd /\n# a note\n", &["ls", "cd /", "# a note"]);
        check(Shell::Bash, b"#1\nfor i in a\ndo x\ndone\n#2\nls\n", &["for i in a\ndo x\ndone", "ls"]);
        check(Shell::Bash, b"", &[]);
    }

    #[test]
    fn fish_with_escapes() {
        let file = b"- cmd: echo a\\nb\\\\n \\t\n  when: 1\n  paths:\n    - x\n- cmd: ls\n  when: 2\n";
        check(Shell::Fish, file, &["echo a\nb\\n \\t", "ls"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for shell in [Shell::Zsh, Shell::Bash, Shell::Fish, Shell::Other] {
                prop_assert!(parse(shell, &bytes).iter().all(|entry| !entry.is_empty()));
            }
        }
    }
}
