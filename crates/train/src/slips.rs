//! Lines with a slip of the fingers in them, as they fail, and are typed again.

use rand::Rng;
use rand::seq::IndexedRandom as _;

/// The rows of letters on a keyboard, on which a finger comes down beside the one that is meant.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];
/// Shorter words are rarely mistyped, and then unrecognisable.
const SHORTEST: usize = 4;

/// The line with a slip in one of its words; nothing where none is long enough. The first word stays: a command that was not
/// found stands in no prompt.
pub fn with_slip(line: &str, rng: &mut impl Rng) -> Option<String> {
    let mut start = 0;
    let mut words = Vec::new();
    for word in line.split(' ') {
        let letters = word.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_./".contains(*c)).count();
        let is_plain = letters == word.len();
        let is_long = word.bytes().filter(u8::is_ascii_lowercase).count() >= SHORTEST;
        if start > 0 && is_plain && is_long {
            words.push(start..start + word.len());
        }
        start += word.len() + 1;
    }
    let place = words.choose(rng)?.clone();
    let word = slipped(&line[place.clone()], rng)?;
    Some(format!("{}{word}{}", &line[..place.start], &line[place.end..]))
}

/// A word of ASCII with two letters that have changed places, one that is missing, one twice, or one that is its neighbour's.
fn slipped(word: &str, rng: &mut impl Rng) -> Option<String> {
    let mut letters = word.as_bytes().to_vec();
    let places: Vec<usize> = (0..letters.len()).filter(|&i| letters[i].is_ascii_lowercase()).collect();
    let &at = places.choose(rng)?;
    match rng.random_range(0..4) {
        0 if letters.get(at + 1).is_some_and(u8::is_ascii_lowercase) => letters.swap(at, at + 1),
        1 => letters.insert(at, letters[at]),
        2 => {
            let row = ROWS.iter().find(|row| row.as_bytes().contains(&letters[at]))?.as_bytes();
            let i = row.iter().position(|letter| *letter == letters[at])?;
            letters[at] = if i > 0 && rng.random_bool(0.5) { row[i - 1] } else { *row.get(i + 1)? };
        }
        _ => {
            letters.remove(at);
        }
    }
    let slipped = String::from_utf8(letters).ok()?;
    (slipped != word).then_some(slipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn one_word_after_the_first_is_nearly_right() {
        let mut rng = StdRng::seed_from_u64(1);
        let line = "git commit --amend -m 'fix it'";
        let slips: Vec<String> = (0..60).filter_map(|_| with_slip(line, &mut rng)).collect();
        assert!(slips.len() > 30, "{slips:?}");
        for slip in &slips {
            let (said, meant): (Vec<&str>, Vec<&str>) =
                (slip.split(' ').collect(), line.split(' ').collect());
            let wrong: Vec<usize> = (0..meant.len()).filter(|&i| said[i] != meant[i]).collect();
            assert!(wrong == [1] || wrong == [2], "{slip}");
            assert!(said[wrong[0]].len().abs_diff(meant[wrong[0]].len()) <= 1, "{slip}");
        }
        assert!(slips.iter().any(|slip| slip.ends_with("git commit --amned -m 'fix it'")), "{slips:?}");
    }

    #[test]
    fn what_is_short_or_quoted_stays() {
        let mut rng = StdRng::seed_from_u64(1);
        for line in ["ls -la", "status", "echo 'what is this'", "cat ünter.txt", "cd .."] {
            assert_eq!((0..30).find_map(|_| with_slip(line, &mut rng)), None, "{line}");
        }
    }
}
