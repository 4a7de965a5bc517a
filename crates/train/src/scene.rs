//! The names of one session: files, directories, branches, hosts. Within a scene the same things are named again and
//! again, as in life; that is what copying from the context is learnt from.

use std::collections::HashMap;
use std::sync::LazyLock;

use rand::Rng;
use rand::seq::IndexedRandom as _;
use regex::{Captures, Regex};

const WORDS: &str = "report data main index app config notes test server client utils readme setup build deploy run \
    train model results summary draft paper thesis budget invoice photo backup archive sample input output users \
    orders events logs metrics api auth login parser lexer router handler worker queue cache index search query schema \
    migrate seed admin home profile settings theme style layout header footer menu widget chart table form email \
    template base common core lib helpers types errors constants demo example tutorial lesson week month january march \
    sales sensor weather genome protein planets animals recipes books movies songs playlist letter slides poster \
    homework project website blog shop store game engine physics audio video image render shader camera network socket \
    proxy gateway billing payments monitor alerts cluster node volume secret cert token key license changelog todo \
    ideas plan agenda minutes contacts inventory catalog prices stock analysis baseline experiment fold split tune";
const EXTENSIONS: &str = "txt txt txt py py py js ts rs go c h cpp java sh sh md md json json yaml yml toml csv csv log \
    log html css sql xml conf tar.gz zip png jpg pdf ipynb rb php tex dat bak";
const DIRECTORIES: &str = "src tests docs build data scripts lib bin assets images public static config logs tmp results \
    notebooks examples tools vendor packages apps services include templates migrations backup output dist Downloads \
    Documents Desktop Projects Pictures";
const USERS: &str =
    "alice bob carol dave erin frank root admin deploy ubuntu ec2-user git www-data postgres jenkins";
const MESSAGES: &str = "fix typo|update readme|initial commit|add tests|bump version|refactor parser|fix login bug|add \
    dark mode|remove unused code|handle empty input|wip|improve error messages|update dependencies|add ci|fix build|clean \
    up|first draft|add license|rename module|speed up queries|fix crash on start|document the api|support windows|merge \
    config|revert last change";
const IMAGES: &str = "nginx alpine ubuntu debian postgres redis python:3.12 node:20 mysql:8 busybox golang rust httpd \
    rabbitmq grafana/grafana mongo";
const PACKAGES: &str = "requests numpy pandas flask django pytest black express react lodash typescript vite serde tokio \
    clap anyhow htop curl git vim tmux jq ripgrep fzf nginx docker.io build-essential";
const PORTS: &str = "80 443 22 8080 8000 3000 5000 5432 6379 9000 9090 4000 8888";

/// Names that were used, by the kind of thing.
#[derive(Debug, Default)]
pub struct Scene {
    used: HashMap<String, Vec<String>>,
    /// What the placeholders of a document stand for.
    placeholders: HashMap<String, String>,
}

/// How likely a thing is one that was named before.
const AGAIN: f64 = 0.7;

fn word_of<'a>(list: &'a str, rng: &mut impl Rng) -> &'a str {
    static LISTS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
        [WORDS, EXTENSIONS, DIRECTORIES, USERS, IMAGES, PACKAGES, PORTS]
            .into_iter()
            .map(|list| (list, list.split_whitespace().collect()))
            .collect()
    });
    LISTS.get(list).and_then(|words| words.choose(rng)).copied().unwrap_or("x")
}

/// A name that stands in no dictionary.
fn invented(rng: &mut impl Rng) -> String {
    const CONSONANTS: &[u8] = b"bcdfghjklmnprstvwz";
    const VOWELS: &[u8] = b"aeiou";
    let mut name = String::new();
    for _ in 0..rng.random_range(2..4) {
        for letters in [CONSONANTS, VOWELS] {
            name.push(char::from(letters[rng.random_range(0..letters.len())]));
        }
    }
    if rng.random_bool(0.4) {
        name.push(char::from(CONSONANTS[rng.random_range(0..CONSONANTS.len())]));
    }
    name
}

fn stem(rng: &mut impl Rng) -> String {
    let one = |rng: &mut _| {
        if Rng::random_bool(rng, 0.75) { word_of(WORDS, rng).to_owned() } else { invented(rng) }
    };
    let first = one(rng);
    match rng.random_range(0..10) {
        0..5 => first,
        5 => format!("{first}_{}", one(rng)),
        6 => format!("{first}-{}", one(rng)),
        7 => format!("{first}{}", rng.random_range(1..10)),
        8 => format!("{first}_{}", rng.random_range(1..2030)),
        _ => {
            let mut capital = first;
            capital[..1].make_ascii_uppercase();
            capital
        }
    }
}

fn directory(rng: &mut impl Rng) -> String {
    if rng.random_bool(0.5) { word_of(DIRECTORIES, rng).to_owned() } else { stem(rng) }
}

fn digits(count: usize, radix: u32, rng: &mut impl Rng) -> String {
    (0..count).filter_map(|_| char::from_digit(rng.random_range(0..radix), radix)).collect()
}

/// A new name for a thing of a kind.
fn invent(kind: &str, rng: &mut impl Rng) -> String {
    let chosen = |list: &str, rng: &mut _| word_of_split(list, rng);
    match kind {
        "file" => format!("{}.{}", stem(rng), word_of(EXTENSIONS, rng)),
        "stem" | "name" | "pod" | "container" | "repo" => stem(rng),
        "dir" => directory(rng),
        "path" => {
            let depth = rng.random_range(1..3);
            let mut parts: Vec<String> = (0..depth).map(|_| directory(rng)).collect();
            parts.push(invent("file", rng));
            let root =
                *["", "", "./", "~/", "/home/alice/", "../", "/tmp/", "/var/"].choose(rng).unwrap_or(&"");
            format!("{root}{}", parts.join("/"))
        }
        "absolute" => {
            let root = *[
                "/etc",
                "/var/log",
                "/home/bob",
                "/tmp",
                "/opt",
                "/srv",
                "/usr/local",
                "/data",
                "/workspace",
            ]
            .choose(rng)
            .unwrap_or(&"/");
            let depth = rng.random_range(0..3);
            (0..depth).fold(root.to_owned(), |path, _| format!("{path}/{}", directory(rng)))
        }
        "branch" => match rng.random_range(0..4) {
            0 => format!("feature/{}-{}", word_of(WORDS, rng), word_of(WORDS, rng)),
            1 => format!("fix-{}", stem(rng)),
            2 => format!("{}-{}", word_of(WORDS, rng), invented(rng)),
            _ => stem(rng),
        },
        "user" => word_of(USERS, rng).to_owned(),
        "host" => match rng.random_range(0..4) {
            0 => format!("{}.example.com", word_of(WORDS, rng)),
            1 => format!("192.168.{}.{}", rng.random_range(0..3), rng.random_range(2..255)),
            2 => format!("10.0.{}.{}", rng.random_range(0..10), rng.random_range(2..255)),
            _ => format!("{}{}", word_of(WORDS, rng), rng.random_range(1..9)),
        },
        "url" => format!("https://{}.example.com/{}", word_of(WORDS, rng), invent("file", rng)),
        "giturl" => match rng.random_range(0..2) {
            0 => format!("https://github.com/{}/{}.git", invented(rng), stem(rng)),
            _ => format!("git@github.com:{}/{}.git", invented(rng), stem(rng)),
        },
        "image" => word_of(IMAGES, rng).to_owned(),
        "tag" => match rng.random_range(0..2) {
            0 => format!("{}:latest", word_of(WORDS, rng)),
            _ => format!("{}:{}.{}", stem(rng), rng.random_range(0..4), rng.random_range(0..12)),
        },
        "package" => word_of(PACKAGES, rng).to_owned(),
        "port" => word_of(PORTS, rng).to_owned(),
        "number" => rng.random_range(1..100).to_string(),
        "pid" => rng.random_range(300..60000).to_string(),
        "hash" => digits(7, 16, rng),
        "id" => digits(12, 16, rng),
        "version" => {
            format!("v{}.{}.{}", rng.random_range(0..4), rng.random_range(0..20), rng.random_range(0..9))
        }
        "message" => chosen(MESSAGES, rng),
        "word" => {
            if rng.random_bool(0.6) {
                word_of(WORDS, rng).to_owned()
            } else {
                invented(rng)
            }
        }
        // `py` and the like: a file with that ending.
        ending => format!("{}.{ending}", stem(rng)),
    }
}

fn word_of_split(list: &str, rng: &mut impl Rng) -> String {
    let all: Vec<&str> = list.split('|').collect();
    all.choose(rng).map_or_else(String::new, |text| blanks(text))
}

fn blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Scene {
    /// A name for a thing of a kind, most often one that was used before.
    pub fn name(&mut self, kind: &str, rng: &mut impl Rng) -> String {
        let used = self.used.entry(kind.to_owned()).or_default();
        if rng.random_bool(AGAIN)
            && let Some(name) = used.choose(rng)
        {
            return name.clone();
        }
        let name = invent(kind, rng);
        used.push(name.clone());
        name
    }

    /// Lets placeholders and numbered names stand for other things from here on.
    pub fn forget_placeholders(&mut self) {
        self.placeholders.clear();
    }

    /// The template with every `{kind}` replaced. `{kind1}` and `{kind2}` are different things that keep their names.
    pub fn fill(&mut self, template: &str, rng: &mut impl Rng) -> String {
        static SLOT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{([a-z]+)([0-9]?)\}").ok());
        let Some(slot) = SLOT.as_ref() else { return template.to_owned() };
        slot.replace_all(template, |captures: &Captures<'_>| {
            let (kind, number) = (&captures[1], &captures[2]);
            if number.is_empty() {
                return self.name(kind, rng);
            }
            let key = format!("{kind}{number}");
            if let Some(name) = self.placeholders.get(&key) {
                return name.clone();
            }
            let name = invent(kind, rng);
            self.used.entry(kind.to_owned()).or_default().push(name.clone());
            self.placeholders.insert(key, name.clone());
            name
        })
        .into_owned()
    }

    /// A command of a manual with names instead of `path/to/file`; the same placeholder gets the same name.
    pub fn without_placeholders(&mut self, command: &str, rng: &mut impl Rng) -> String {
        static PATH: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"/?path/to/([\w-]+)((?:\.\w+)*)").ok());
        let Some(path) = PATH.as_ref() else { return command.to_owned() };
        path.replace_all(command, |captures: &Captures<'_>| {
            let whole = captures[0].to_owned();
            if let Some(name) = self.placeholders.get(&whole) {
                return name.clone();
            }
            let (base, endings) = (&captures[1], &captures[2]);
            let is_directory = ["dir", "folder", "project", "repo", "mount", "source", "destination"]
                .iter()
                .any(|part| base.contains(part));
            let mut name = match (is_directory && endings.is_empty(), endings.is_empty()) {
                (true, _) => self.name("dir", rng),
                (false, true) => self.name("file", rng),
                (false, false) => format!("{}{endings}", stem(rng)),
            };
            if rng.random_bool(0.3) {
                name = format!("{}/{name}", self.name("dir", rng));
            }
            self.placeholders.insert(whole, name.clone());
            name
        })
        .into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn the_same_placeholder_is_the_same_thing() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut scene = Scene::default();
        let filled = scene.fill("mkdir {dir1}|cd {dir1}|rm {py2}", &mut rng);
        let parts: Vec<&str> = filled.split('|').collect();
        assert_eq!(parts[0].trim_start_matches("mkdir "), parts[1].trim_start_matches("cd "));
        assert!(parts[2].ends_with(".py"), "{filled}");
        let command = "cp path/to/file.txt path/to/directory && cat path/to/file.txt";
        let real = scene.without_placeholders(command, &mut rng);
        assert!(!real.contains("path/to"), "{real}");
        let words: Vec<&str> = real.split(' ').collect();
        assert_eq!(words[1], words[5]);
        assert!(words[1].ends_with(".txt"));
    }

    #[test]
    fn every_kind_is_one_word_but_a_message() {
        let mut rng = StdRng::seed_from_u64(2);
        for kind in
            ["file", "dir", "path", "absolute", "branch", "host", "url", "giturl", "tag", "hash", "csv"]
        {
            for _ in 0..50 {
                let name = invent(kind, &mut rng);
                assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{kind}: {name}");
            }
        }
        assert!(!invent("message", &mut rng).contains('|'));
    }
}
