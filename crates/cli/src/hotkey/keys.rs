//! Which bytes of a terminal are one key, and what the key asks for.

/// The bytes of one key, as the terminal sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

/// What a key does to a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take it.
    Accept,
    /// Take its next word.
    AcceptWord,
    /// Show the next one.
    Next,
    /// Show the one before.
    Previous,
    /// Forget it.
    Dismiss,
}

/// How a terminal marks a pasted text.
const PASTE: (&[u8], &[u8]) = (b"\x1b[200~", b"\x1b[201~");

impl Key {
    /// The first key of some bytes, which it takes away; nothing where its end is missing.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let length = length(bytes)?;
        Some(Self(bytes.drain(..length).collect()))
    }

    /// The same where no more bytes come: what there is, is the key.
    pub fn take_unfinished(bytes: &mut Vec<u8>) -> Option<Self> {
        Self::take(bytes).or_else(|| (!bytes.is_empty()).then(|| Self(std::mem::take(bytes))))
    }

    /// What it does, if it is ours.
    pub fn action(&self) -> Option<Action> {
        match self.0.as_slice() {
            // Right, End, Ctrl-F and Ctrl-E; what ends in `u` is the same in the kitty keyboard protocol, here and below.
            b"\x1b[C" | b"\x1bOC" | b"\x1b[F" | b"\x1bOF" | b"\x1b[4~" | b"\x06" | b"\x05"
            | b"\x1b[102;5u" | b"\x1b[101;5u" => Some(Action::Accept),
            // Alt-Right, as two kinds of terminals send it, and Alt-F
            b"\x1b[1;3C" | b"\x1b\x1b[C" | b"\x1bf" | b"\x1b[102;3u" => Some(Action::AcceptWord),
            // Alt-] and Ctrl-Space
            b"\x1b]" | b"\0" | b"\x1b[93;3u" | b"\x1b[32;5u" => Some(Action::Next),
            // Alt-[
            b"\x1b[" | b"\x1b[91;3u" => Some(Action::Previous),
            // Esc and Ctrl-G
            b"\x1b" | b"\x07" | b"\x1b[27u" | b"\x1b[103;5u" => Some(Action::Dismiss),
            _ => None,
        }
    }

    /// Its bytes in hexadecimal; if it is to be `named`, `=` after that and what fish 4 calls it, also in hexadecimal, where that
    /// has a name for it.
    pub fn to_hex(&self, named: bool) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let name = name(&self.0).filter(|_| named).map(|name| format!("={}", hex(name.as_bytes())));
        hex(&self.0) + &name.unwrap_or_default()
    }
}

/// What `bind` of fish 4 calls a key, for which it reads terminals' sequences: `alt-right`, `ctrl-e`, `x`.
fn name(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0x1b, b'[', b'Z'] => Some("shift-tab".to_owned()),
        [0x1b, b'[', parameters @ .., last] => {
            let mut parameters = std::str::from_utf8(parameters).ok()?.split(';');
            let number: u32 =
                parameters.next().filter(|text| !text.is_empty()).unwrap_or("1").parse().ok()?;
            let modifiers: u32 = parameters.next().unwrap_or("1").parse().ok()?;
            let name = match last {
                b'u' => of_char(char::from_u32(number)?)?,
                b'~' => of_number(number)?.to_owned(),
                _ => of_letter(*last)?.to_owned(),
            };
            // What is pressed with it is told as a sum of 4 for Ctrl, 2 for Alt and 1 for Shift, and one more.
            let pressed = |bit: u32, name: &'static str| {
                if modifiers.saturating_sub(1) & bit == 0 { "" } else { name }
            };
            Some([pressed(4, "ctrl-"), pressed(2, "alt-"), pressed(1, "shift-"), &name].concat())
        }
        [0x1b, b'O', last] => of_letter(*last).map(str::to_owned),
        [0x1b] => Some("escape".to_owned()),
        [0x1b, rest @ ..] => name(rest).map(|name| format!("alt-{name}")),
        [0] => Some("ctrl-space".to_owned()),
        [b'\t' | b'\r'] => of_char(char::from(bytes[0])),
        [byte @ 1..=26] => Some(format!("ctrl-{}", char::from(byte + b'a' - 1))),
        _ => {
            let mut chars = std::str::from_utf8(bytes).ok()?.chars();
            chars.next().filter(|_| chars.next().is_none()).and_then(of_char)
        }
    }
}

fn of_char(char: char) -> Option<String> {
    Some(match char {
        '\x1b' => "escape".to_owned(),
        '\r' => "enter".to_owned(),
        '\t' => "tab".to_owned(),
        '\x7f' => "backspace".to_owned(),
        ' ' => "space".to_owned(),
        '-' => "minus".to_owned(),
        ',' => "comma".to_owned(),
        _ if char.is_control() => return None,
        _ => char.to_string(),
    })
}

fn of_letter(last: u8) -> Option<&'static str> {
    Some(match last {
        b'A' => "up",
        b'B' => "down",
        b'C' => "right",
        b'D' => "left",
        b'F' => "end",
        b'H' => "home",
        b'P' => "f1",
        b'Q' => "f2",
        b'R' => "f3",
        b'S' => "f4",
        _ => return None,
    })
}

fn of_number(number: u32) -> Option<&'static str> {
    Some(match number {
        1 | 7 => "home",
        2 => "insert",
        3 => "delete",
        4 | 8 => "end",
        5 => "pageup",
        6 => "pagedown",
        15 => "f5",
        17 => "f6",
        18 => "f7",
        19 => "f8",
        20 => "f9",
        21 => "f10",
        23 => "f11",
        24 => "f12",
        _ => return None,
    })
}

/// How many bytes the first key has.
fn length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [] => None,
        [0x1b, b'[', ..] if bytes.starts_with(PASTE.0) => {
            let end = bytes.windows(PASTE.1.len()).position(|window| window == PASTE.1)?;
            Some(end + PASTE.1.len())
        }
        // A control sequence: parameters, and one final byte.
        [0x1b, b'[', rest @ ..] => {
            let last = rest.iter().position(|byte| (0x40..0x7f).contains(byte))?;
            Some(2 + last + 1)
        }
        [0x1b, b'O', rest @ ..] => rest.first().map(|_| 3),
        // Alt and another key.
        [0x1b, rest @ ..] => length(rest).map(|length| length + 1),
        [first, ..] => {
            let length = match first {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf7 => 4,
                _ => 1,
            };
            (bytes.len() >= length).then_some(length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_split_into_keys() {
        let mut bytes =
            "a\x1b[C\x1bOFé日\x1bf\x1b\x1b[C\x1b[1;3C\x1b[200~two\nlines\x1b[201~\r".as_bytes().to_vec();
        let keys: Vec<_> = std::iter::from_fn(|| Key::take(&mut bytes)).map(|key| key.0).collect();
        let expected: Vec<&[u8]> = vec![
            b"a",
            b"\x1b[C",
            b"\x1bOF",
            "é".as_bytes(),
            "日".as_bytes(),
            b"\x1bf",
            b"\x1b\x1b[C",
            b"\x1b[1;3C",
            b"\x1b[200~two\nlines\x1b[201~",
            b"\r",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn what_may_go_on_is_waited_for() {
        for start in ["\x1b", "\x1b[", "\x1b[1;3", "\x1bO", "\x1b[200~pas"] {
            let mut bytes = start.as_bytes().to_vec();
            assert_eq!(Key::take(&mut bytes), None, "{start:?}");
            assert_eq!(Key::take_unfinished(&mut bytes), Some(Key(start.as_bytes().to_vec())));
        }
        let mut bytes = b"\x1b".to_vec();
        assert_eq!(Key::take_unfinished(&mut bytes).and_then(|key| key.action()), Some(Action::Dismiss));
        let mut bytes = b"\x1b[".to_vec();
        assert_eq!(Key::take_unfinished(&mut bytes).and_then(|key| key.action()), Some(Action::Previous));
    }

    #[test]
    fn no_bytes_are_lost_or_loop() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut bytes = vec![first, second, b'x'];
                let mut count = 0;
                while let Some(key) = Key::take_unfinished(&mut bytes) {
                    assert!(!key.0.is_empty());
                    count += key.0.len();
                }
                assert_eq!(count, 3);
            }
        }
    }

    #[test]
    fn keys_travel_in_hexadecimal() {
        assert_eq!(Key("\x1b[200~é".as_bytes().to_vec()).to_hex(true), "1b5b3230307ec3a9");
        assert_eq!(Key(b"\x1b[A".to_vec()).to_hex(true), "1b5b41=7570");
        assert_eq!(Key(b"\x1b[A".to_vec()).to_hex(false), "1b5b41");
    }

    #[test]
    fn keys_have_the_names_of_fish_4() {
        for (bytes, named) in [
            ("x", "x"),
            ("é", "é"),
            (" ", "space"),
            ("-", "minus"),
            ("\x05", "ctrl-e"),
            ("\r", "enter"),
            ("\x7f", "backspace"),
            ("\x1b[D", "left"),
            ("\x1bOH", "home"),
            ("\x1b[3~", "delete"),
            ("\x1b[3;5~", "ctrl-delete"),
            ("\x1b[1;6C", "ctrl-shift-right"),
            ("\x1b\x1b[C", "alt-right"),
            ("\x1bf", "alt-f"),
            ("\x1b\x05", "alt-ctrl-e"),
            ("\x1b[101;5u", "ctrl-e"),
            ("\x1b[Z", "shift-tab"),
        ] {
            assert_eq!(name(bytes.as_bytes()).as_deref(), Some(named), "{bytes:?}");
        }
        for bytes in ["\x1b[200~x\x1b[201~", "\x1b[M", "\x1b[x~", "\x1c", "ab"] {
            assert_eq!(name(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
