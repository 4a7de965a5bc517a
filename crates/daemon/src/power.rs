//! Whether this machine can afford to keep a large model that nobody asks: not on a battery, nor where memory is short.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Of so many bytes at least one has to be available, or memory is short.
const SHORT: u64 = 8;

/// Why a model is let go of that nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// The machine runs on a battery.
    Power,
    /// Less than an eighth of its memory can be had.
    Memory,
}

impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Power => "on battery",
            Self::Memory => "memory is short",
        })
    }
}

/// Where the system tells.
#[derive(Debug, Clone)]
pub struct Machine {
    /// A directory for each supply (Linux, Documentation/ABI/testing/sysfs-class-power).
    supplies: PathBuf,
    /// proc(5)
    meminfo: PathBuf,
}

impl Machine {
    /// The one we run on.
    pub fn here() -> Self {
        Self { supplies: "/sys/class/power_supply".into(), meminfo: "/proc/meminfo".into() }
    }

    /// What there is too little of now. What the system does not tell counts as plenty.
    pub fn scarce(&self) -> Option<Scarce> {
        if on_battery(&self.supplies).unwrap_or_else(|_| elsewhere()) {
            return Some(Scarce::Power);
        }
        let text = fs::read_to_string(&self.meminfo).unwrap_or_default();
        memory_is_short(&text).then_some(Scarce::Memory)
    }
}

/// Whether a battery of the machine itself is being emptied and nothing feeds it. A charger that is too weak counts as one
/// that feeds, a mouse's battery as none.
///
/// # Errors
/// Where the system tells nothing of its supplies.
fn on_battery(supplies: &Path) -> io::Result<bool> {
    let mut empties = false;
    for supply in fs::read_dir(supplies)? {
        let dir = supply?.path();
        let says = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned();
        if says("scope") == "Device" {
            continue;
        }
        match says("type").as_str() {
            "Battery" | "UPS" => empties |= says("status") == "Discharging",
            // Mains, USB, Wireless
            _ if says("online") == "1" => return Ok(false),
            _ => {}
        }
    }
    Ok(empties)
}

/// By `MemTotal` and `MemAvailable` of proc(5).
fn memory_is_short(meminfo: &str) -> bool {
    let number = |name: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    match (number("MemTotal"), number("MemAvailable")) {
        (Some(total), Some(available)) => available < total / SHORT,
        _ => false,
    }
}

/// As pmset(1) tells.
#[cfg(target_os = "macos")]
fn elsewhere() -> bool {
    let output = std::process::Command::new("pmset").args(["-g", "batt"]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("'Battery Power'"))
}

#[cfg(not(target_os = "macos"))]
fn elsewhere() -> bool {
    false
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A machine that says what a test writes.
    pub struct Told {
        dir: tempfile::TempDir,
        pub machine: Machine,
    }

    impl Told {
        pub fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let machine =
                Machine { supplies: dir.path().join("power_supply"), meminfo: dir.path().join("meminfo") };
            fs::create_dir(&machine.supplies).unwrap();
            let told = Self { dir, machine };
            told.memory(16_000_000, 9_000_000);
            told
        }

        /// Has a supply say these things, as files and what is in them.
        pub fn supply(&self, name: &str, says: &[(&str, &str)]) {
            let dir = self.machine.supplies.join(name);
            fs::create_dir_all(&dir).unwrap();
            for (file, text) in says {
                fs::write(dir.join(file), format!("{text}\n")).unwrap();
            }
        }

        /// Has the system say how many kB there are, and how many can be had.
        pub fn memory(&self, total: u64, available: u64) {
            let text = format!(
                "MemTotal:       {total} kB\nMemFree:          1234 kB\nMemAvailable:   {available} kB\n"
            );
            fs::write(self.dir.path().join("meminfo"), text).unwrap();
        }
    }

    #[test]
    fn a_battery_counts_where_nothing_feeds_it() {
        let told = Told::new();
        assert_eq!(told.machine.scarce(), None, "a desktop");
        told.supply("AC", &[("type", "Mains"), ("online", "1")]);
        told.supply("BAT0", &[("type", "Battery"), ("status", "Charging")]);
        assert_eq!(told.machine.scarce(), None);
        told.supply("BAT0", &[("status", "Full")]);
        assert_eq!(told.machine.scarce(), None);
        // Unplugged.
        told.supply("AC", &[("online", "0")]);
        told.supply("BAT0", &[("status", "Discharging")]);
        assert_eq!(told.machine.scarce(), Some(Scarce::Power));
        // Two batteries are emptied one after the other.
        told.supply("BAT1", &[("type", "Battery"), ("status", "Not charging")]);
        assert_eq!(told.machine.scarce(), Some(Scarce::Power));
        // A charger with the other plug, too weak to fill it.
        told.supply("ucsi-source-psy-USBC000:001", &[("type", "USB"), ("online", "1")]);
        assert_eq!(told.machine.scarce(), None);
    }

    #[test]
    fn what_is_no_supply_of_the_machine_does_not_count() {
        let told = Told::new();
        let mouse = [("type", "Battery"), ("scope", "Device"), ("status", "Discharging")];
        told.supply("hidpp_battery_0", &mouse);
        assert_eq!(told.machine.scarce(), None);
        told.supply("mouse-charger", &[("type", "USB"), ("scope", "Device"), ("online", "1")]);
        told.supply("BAT0", &[("type", "Battery"), ("scope", "System"), ("status", "Discharging")]);
        assert_eq!(told.machine.scarce(), Some(Scarce::Power), "the mouse's charger feeds the mouse");
        told.supply("BAT0", &[("status", "Unknown")]);
        assert_eq!(told.machine.scarce(), None);
    }

    #[test]
    fn memory_is_short_below_an_eighth() {
        let told = Told::new();
        told.memory(16_000_000, 2_000_000);
        assert_eq!(told.machine.scarce(), None);
        told.memory(16_000_000, 1_999_999);
        assert_eq!(told.machine.scarce(), Some(Scarce::Memory));
        told.supply("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        assert_eq!(told.machine.scarce(), Some(Scarce::Power));
    }

    #[test]
    fn a_system_that_tells_nothing_has_plenty() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { supplies: dir.path().join("none"), meminfo: dir.path().join("none") };
        if cfg!(not(target_os = "macos")) {
            assert_eq!(machine.scarce(), None);
        }
        assert!(!memory_is_short("MemTotal: 16 kB\n") && !memory_is_short("MemAvailable: x kB\n"));
    }
}
