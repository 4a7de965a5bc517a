//! Shells that this Debian does not have, from the packages of newer ones: ble.sh, and fish 4 with the libraries it needs. They lie
//! in a directory of their own, and nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::{find, root, run};

/// A directory of what is fetched, the suite of Debian it is from, its packages, and the file that tells that it is there.
struct Wanted {
    dir: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    file: &'static str,
}

const WANTED: [Wanted; 2] = [
    Wanted { dir: "blesh", suite: "sid", packages: &["ble.sh"], file: "usr/share/blesh/ble.sh" },
    Wanted {
        dir: "fish4",
        suite: "trixie",
        packages: &["fish", "fish-common", "libc6", "libgcc-s1", "libpcre2-32-0", "libpcre2-8-0"],
        file: "usr/bin/fish",
    },
];

/// The keys Debian signs with, where they are not among those that are trusted anyway.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where they lie.
fn dir() -> PathBuf {
    root().join("target/shells")
}

/// The fish 4 that was fetched, if it was.
pub fn fish4() -> Option<PathBuf> {
    Some(dir().join("fish4/usr/bin/fish")).filter(|file| file.is_file())
}

/// Fetches what is missing.
///
/// # Errors
/// Where there is no apt-get, or it does not have the packages.
pub fn fetch() -> anyhow::Result<()> {
    let missing: Vec<&Wanted> =
        WANTED.iter().filter(|wanted| !dir().join(wanted.dir).join(wanted.file).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let options = lists()?;
    for wanted in missing {
        // It gets its name when it is whole.
        let whole = dir().join(wanted.dir);
        let unfinished = dir().join(format!("{}.unfinished", wanted.dir));
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)?;
        let packages = wanted.packages.iter().map(|package| format!("{package}/{}", wanted.suite));
        run(Command::new("env")
            .args(["-C"])
            .arg(&unfinished)
            .arg("apt-get")
            .args(&options)
            .args(["-qq", "download"])
            .args(packages))?;
        for entry in fs::read_dir(&unfinished)?.filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").args([&path, &unfinished]))?;
                fs::remove_file(path)?;
            }
        }
        if wanted.dir == "fish4" {
            // Without etc/fish beside share/fish it would read the functions of the fish that is installed.
            fs::create_dir_all(unfinished.join("usr/etc"))?;
            std::os::unix::fs::symlink("../../etc/fish", unfinished.join("usr/etc/fish"))?;
            link(&unfinished.join(wanted.file), &whole)?;
        }
        let _ = fs::remove_dir_all(&whole);
        fs::rename(unfinished, whole)?;
    }
    Ok(())
}

/// Options with which apt-get knows the suites, from where this machine has its own packages.
fn lists() -> anyhow::Result<Vec<String>> {
    if find("apt-get").is_none() {
        bail!("there is no apt-get");
    }
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN) $(SITE)", "Created-By: Packages"])
        .output()?;
    let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
    let site = targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian ").filter(|site| !site.contains("security")))
        .context("this machine has no packages of Debian, or no list of them yet")?;
    let signed = if Path::new(KEYS).is_file() { format!("[signed-by={KEYS}] ") } else { String::new() };
    let apt = dir().join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part))?;
    }
    let suites = WANTED.iter().map(|wanted| format!("deb {signed}{site} {} main\n", wanted.suite));
    fs::write(apt.join("sources.list"), suites.collect::<String>())?;
    let options: Vec<String> = [
        format!("Dir::Etc::sourcelist={}", apt.join("sources.list").display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        // Root's files, in a directory the user that apt-get would become may not enter.
        "APT::Sandbox::User=root".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    run(Command::new("apt-get").args(&options).args(["-qq", "update"]))?;
    Ok(options)
}

/// Makes a program of a newer Debian run with the libraries that were fetched with it, once it lies in `place`.
fn link(program: &Path, place: &Path) -> anyhow::Result<()> {
    let triplet = Command::new("dpkg-architecture").args(["-qDEB_HOST_MULTIARCH"]).output();
    let triplet = triplet.ok().filter(|output| output.status.success());
    let triplet = triplet.map_or_else(
        || format!("{}-linux-gnu", std::env::consts::ARCH),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let libraries = place.join("usr/lib").join(triplet);
    let loader = if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" };
    run(Command::new("patchelf")
        .arg("--set-interpreter")
        .arg(libraries.join(loader))
        .arg("--set-rpath")
        .arg(&libraries)
        .arg(program))
}
