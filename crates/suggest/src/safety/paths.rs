//! Paths that a command must leave alone.

/// Directories whose loss or whose open rights cost the system or the user everything.
const CRITICAL: [&str; 31] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/usr",
    "/var",
    "/System",
    "/Library",
    "/Users",
    "/Applications",
    "/usr/local",
    "/lib/modules",
    "/usr/bin",
    "/usr/lib",
    "/usr/sbin",
    "/usr/share",
    "/var/lib",
    "/var/log",
    "/etc/ssh",
    "/etc/ssl",
];

/// Directories of the home directory that hold what exists nowhere else.
const CRITICAL_AT_HOME: [&str; 4] = [".ssh", ".gnupg", "Documents", ".password-store"];

/// Files that the system does not start or let anyone in without.
const CRITICAL_FILES: [&str; 7] = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/fstab",
    "/etc/sudoers",
    "/etc/group",
    "/boot/grub/grub.cfg",
    "/etc/crontab",
];

/// Beginnings of the names of disks in `/dev`.
const DISKS: [&str; 14] =
    ["sd", "hd", "nvme", "vd", "xvd", "mmcblk", "disk", "rdisk", "md", "dm-", "mapper/", "mem", "kmem", "sg"];

/// A disk's device file, or the machine's memory.
pub(super) fn is_disk(path: &str) -> bool {
    path.strip_prefix("/dev/").is_some_and(|name| DISKS.iter().any(|disk| name.starts_with(disk)))
}

/// A file that the system needs.
pub(super) fn is_critical_file(path: &str) -> bool {
    CRITICAL_FILES.contains(&normalize(path).as_str())
}

/// The root directory, or all in it.
pub(super) fn is_root(path: &str) -> bool {
    normalize(path) == "/"
}

/// The home directory, or all in it.
pub(super) fn is_home(path: &str) -> bool {
    matches!(normalize(path).as_str(), "~" | "$HOME" | "${HOME}")
}

/// A system directory, the home directory, or all that is in one of them.
pub(super) fn is_critical(path: &str) -> bool {
    let normal = normalize(path);
    CRITICAL.contains(&normal.as_str())
        || is_home(path)
        || is_glob_at_root(&normal)
        || normal
            .split_once('/')
            .is_some_and(|(home, rest)| is_home(home) && CRITICAL_AT_HOME.contains(&rest))
        || matches!(normal.as_str(), "~root" | "$PWD" | "$(pwd)" | "`pwd`")
        || is_root_if_unset(path)
}

/// A pattern for directories right under the root: `/???`, `/{bin,etc}`.
fn is_glob_at_root(normal: &str) -> bool {
    normal.strip_prefix('/').is_some_and(|name| !name.contains('/') && name.contains(['?', '*', '[', '{']))
}

/// All that is here or above.
pub(super) fn is_everything(path: &str) -> bool {
    matches!(normalize(path).as_str(), "." | ".." | "*" | ".*" | "**" | "../..")
}

/// `$NAME/` or `$NAME/*`, which is the root directory if the variable is empty.
fn is_root_if_unset(path: &str) -> bool {
    let Some((variable, rest)) = path.split_once('/') else { return false };
    let is_variable = variable.starts_with('$') && !matches!(variable, "$HOME" | "${HOME}" | "$PWD");
    is_variable && matches!(rest.trim_start_matches('/'), "" | "*" | ".*")
}

/// A path without repeated or final slashes, without `.` and `..` where they can be resolved, and without a
/// final component that stands for everything in a directory.
fn normalize(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if is_absolute => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if let [rest @ .., "*" | ".*"] = parts.as_slice()
        && (is_absolute || !rest.is_empty())
    {
        parts.pop();
    }
    match (is_absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) if path.starts_with('.') => ".".to_owned(),
        (false, _) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_however_they_are_written() {
        for path in [
            "/",
            "//",
            "/./",
            "/usr/../",
            "/*",
            "/.*",
            "~",
            "~/",
            "$HOME/*",
            "/etc/",
            "/usr//bin",
            "/?sr",
            "$X/*",
            "~/.ssh",
        ] {
            assert!(is_critical(path), "{path}");
        }
        for path in
            ["", "etc", "./etc", "/tmp/x", "/home/me/x", "~/src", "$X/y", "$HOME/src/", "/usr/local/src"]
        {
            assert!(!is_critical(path), "{path}");
        }
        assert!(is_everything("./*") && is_everything("../") && !is_everything("a/*"));
        assert!(is_disk("/dev/sda1") && !is_disk("/dev/null") && !is_disk("sda"));
    }
}
