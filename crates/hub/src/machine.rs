//! What a machine has to run a model on.

use std::{
    hint::black_box,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

/// What an Apple machine keeps for everything else, as its processor and its accelerator share the memory.
const SHARED: u64 = 6_000_000_000;
/// An accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// As the driver calls it.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Bytes that nothing uses now.
    pub free: u64,
    /// Whether the program that asks can run a model on it.
    pub usable: bool,
}

/// What there is to run a model on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The card with the most free memory.
    pub gpu: Option<Gpu>,
    /// Bytes of main memory.
    pub memory: u64,
    /// Bytes that are read of it in a second, with all cores at it; measured.
    pub bandwidth: u64,
    /// Threads that run at once.
    pub cores: usize,
    /// Bytes free where models are kept.
    pub disk: u64,
}

/// Who asks for a machine.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// Where models are kept.
    pub cache: &'a Path,
    /// Whether the program that asks is built for accelerators.
    pub usable: bool,
    /// The process that a new model takes the place in; what that has of a card counts as free.
    pub daemon: Option<u32>,
    /// Bytes of a card that may be taken, where that is limited.
    pub gpu_memory: Option<u64>,
}

impl Gpu {
    /// Counts what would be `returned` as free, and no more than the limit.
    fn give(&mut self, returned: u64, limit: Option<u64>) {
        let free = self.free.saturating_add(returned).min(self.memory);
        self.free = limit.map_or(free, |limit| free.min(limit));
    }
}

impl Machine {
    /// Looks at this machine. Takes about a tenth of a second.
    pub fn here(asks: &Asks<'_>) -> Self {
        let Asks { cache, usable, daemon, gpu_memory } = *asks;
        let existing = cache.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let disk =
            rustix::fs::statvfs(existing).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let memory = memory();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut gpu = gpu(memory, usable);
        if let Some(gpu) = &mut gpu {
            gpu.give(daemon.map_or(0, used_by), gpu_memory);
        }
        Self { gpu, memory, bandwidth: bandwidth(memory, cores), cores, disk }
    }
}

/// Asks the driver's own program, which is there wherever the driver is. What Apple makes is known by its processor's name.
fn gpu(memory: u64, usable: bool) -> Option<Gpu> {
    if cfg!(target_os = "macos") {
        let output = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        return apple(&String::from_utf8_lossy(&output.stdout), memory, usable);
    }
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    parse_gpus(&String::from_utf8_lossy(&output.stdout), usable).into_iter().max_by_key(|gpu| gpu.free)
}

/// Bytes of the cards' memory that a process has, by the driver's own program; none where that does not tell.
fn used_by(pid: u32) -> u64 {
    let output = Command::new("nvidia-smi")
        .args(["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"])
        .output();
    output.map_or(0, |output| parse_use(&String::from_utf8_lossy(&output.stdout), pid))
}

/// Adds up the lines of `PID, MIB` of a process.
fn parse_use(text: &str, pid: u32) -> u64 {
    let used = text.lines().filter_map(|line| {
        let (of, mib) = line.split_once(',')?;
        let is_its = of.trim().parse() == Ok(pid);
        mib.trim().parse::<u64>().ok().filter(|_| is_its)
    });
    used.sum::<u64>() << 20
}

/// The accelerator of a processor by Apple, which has its part of the main memory.
pub(crate) fn apple(processor: &str, memory: u64, usable: bool) -> Option<Gpu> {
    let name = processor.trim();
    let free = memory.saturating_sub(SHARED);
    name.starts_with("Apple ").then(|| Gpu { name: name.to_owned(), memory, free, usable })
}

/// Reads lines of `NAME, MIB, MIB`.
fn parse_gpus(text: &str, usable: bool) -> Vec<Gpu> {
    let mib = |text: &str| text.trim().parse::<u64>().ok().map(|mib| mib << 20);
    text.lines()
        .filter_map(|line| {
            let mut fields = line.rsplitn(3, ',');
            let (free, memory, name) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Gpu { name: name.trim().to_owned(), memory: mib(memory)?, free: mib(free)?, usable })
        })
        .collect()
}

#[cfg(target_os = "linux")]
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// As sysctl(8) tells; 0 where it does not.
#[cfg(not(target_os = "linux"))]
fn memory() -> u64 {
    let output = Command::new("sysctl").args(["-n", "hw.memsize"]).output();
    output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok()).unwrap_or(0)
}

/// Bytes of main memory that are read in a second: the best of a few rounds, in which every core compares two halves of more
/// than its caches hold. That is done by the system's library, which is fast whatever this program is built for.
fn bandwidth(memory: u64, cores: usize) -> u64 {
    const BYTES: u64 = 256 << 20;
    const ROUNDS: usize = 3;
    let bytes = vec![1_u8; usize::try_from(BYTES.min(memory / 16)).unwrap_or(0)];
    let part = bytes.len().div_ceil(cores).max(1);
    let round = || {
        let started = Instant::now();
        thread::scope(|scope| {
            for part in bytes.chunks(part) {
                let (left, right) = part.split_at(part.len() / 2);
                scope.spawn(move || black_box(left == &right[..left.len()]));
            }
        });
        started.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::MAX);
    (bytes.len() as f64 / best.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_drivers_list_is_read() {
        let text = "NVIDIA A100, PCIe, 40960, 40000\nNVIDIA T4, 15360, [N/A]\nNVIDIA L4, 23034, 22000\n";
        let gpus = parse_gpus(text, true);
        assert_eq!(gpus.len(), 2);
        assert_eq!(
            (gpus[0].name.as_str(), gpus[0].memory >> 20, gpus[0].free >> 20),
            ("NVIDIA A100, PCIe", 40960, 40000)
        );
    }

    #[test]
    fn what_the_daemon_has_counts_as_free_and_a_limit_holds() {
        let text = "4242, 3100\n17, 900\n4242, 50\n4242, [N/A]\n";
        assert_eq!((parse_use(text, 4242) >> 20, parse_use(text, 1)), (3150, 0));
        let free = |free: u64, returned: u64, limit: Option<u64>| {
            let mut gpu = Gpu { name: "x".to_owned(), memory: 8 * GB, free: free * GB, usable: true };
            gpu.give(returned * GB, limit.map(|limit| limit * GB));
            gpu.free / GB
        };
        assert_eq!((free(4, 0, None), free(4, 3, None), free(4, 9, None)), (4, 7, 8));
        assert_eq!((free(4, 3, Some(5)), free(4, 0, Some(5)), free(4, 0, Some(0))), (5, 4, 0));
    }

    #[test]
    fn memory_is_measured() {
        // No machine that runs this is slower, and none is so fast.
        let measured = bandwidth(1 << 30, 2);
        assert!((100_000_000..100_000_000_000_000).contains(&measured), "{measured}");
        assert_eq!(bandwidth(0, 1), 0);
    }
}
