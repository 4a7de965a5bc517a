//! Which model suits a machine.

use std::{
    hint::black_box,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::presets::{Preset, preset};

/// Memory a model needs beside its weights: caches, activations, the driver's own.
const BESIDE_WEIGHTS: u64 = 1_200_000_000;
/// Room that is left on the disk.
const DISK_MARGIN: u64 = 2_000_000_000;
/// What an Apple machine keeps for everything else, as its processor and its accelerator share the memory.
const SHARED: u64 = 6_000_000_000;
/// Tokens/s below which a suggestion comes too late: a few tokens in 100 ms.
const LEAST_SPEED: u64 = 60;
/// Cores from which on the memory is what limits a general model, rather than they.
const LEAST_CORES: usize = 4;

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

/// What to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// A preset; `None` is the embedded model, which needs no pull.
    pub preset: Option<&'static Preset>,
    /// Why this one, in a sentence.
    pub why: String,
    /// Tokens/s that memory lets through at most, where the card is known. What a machine does, `nemoterm bench` tells.
    pub tokens_per_second: Option<u64>,
    /// Where the embedded model is advised, a general one that would be as soon here and may suit its user better.
    pub other: Option<Other>,
}

/// A model to hold against the one that is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Which.
    pub preset: &'static Preset,
    /// What its weights are to be quantised to.
    pub quantize: &'static str,
    /// Tokens/s that memory lets through at most.
    pub tokens_per_second: u64,
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

/// Memory bandwidth in GB/s by the vendors' data sheets. A name that is the beginning of another one stands behind it.
const BANDWIDTH: &[(&str, u64)] = &[
    ("RTX 5090", 1792),
    ("RTX 4090", 1008),
    ("RTX 4080", 717),
    ("RTX 4070", 504),
    ("RTX 4060 Ti", 288),
    ("RTX 4060", 272),
    ("RTX 3090", 936),
    ("RTX 3080", 760),
    ("RTX 3060", 360),
    ("H200", 4800),
    ("H100 PCIe", 2000),
    ("H100", 3350),
    ("A100", 1555),
    ("L40S", 864),
    ("L4", 300),
    ("T4", 320),
    ("Apple M1 Ultra", 800),
    ("Apple M1 Max", 400),
    ("Apple M1 Pro", 200),
    ("Apple M1", 68),
    ("Apple M2 Ultra", 800),
    ("Apple M2 Max", 400),
    ("Apple M2 Pro", 200),
    ("Apple M2", 100),
    ("Apple M3 Ultra", 819),
    ("Apple M3 Max", 300),
    ("Apple M3 Pro", 150),
    ("Apple M3", 100),
    ("Apple M4 Max", 410),
    ("Apple M4 Pro", 273),
    ("Apple M4", 120),
];

/// Says which preset to take on `machine`.
pub fn recommend(machine: &Machine) -> Advice {
    let embedded = |why| Advice { preset: None, why, tokens_per_second: None, other: other(machine) };
    let Some(gpu) = &machine.gpu else {
        let why = format!(
            "there is no GPU for a 4B model, and the embedded one, trained on shell commands, answers in time on {}",
            cores(machine.cores)
        );
        return embedded(why);
    };
    if !gpu.usable {
        return embedded(format!(
            "there is {}, and no program here that can run a model on it (nemoterm doctor says why)",
            gpu.name
        ));
    }
    let bandwidth =
        BANDWIDTH.iter().find(|(name, _)| gpu.name.contains(name)).map(|(_, bandwidth)| *bandwidth);
    let speed = |preset: &Preset| bandwidth.map(|bandwidth| bandwidth * 1_000_000_000 / preset.bytes);
    // Eight bits cost half of the speed and are worth it only where there is plenty of it.
    let order = if bandwidth.is_some_and(|bandwidth| bandwidth >= 1500) {
        ["nemotron-mini-4b-q8", "nemotron-mini-4b"]
    } else {
        ["nemotron-mini-4b", "nemotron-mini-4b-q8"]
    };
    let presets: Vec<_> = order.iter().filter_map(|name| preset(name)).collect();
    let on_card = |preset: &&Preset| preset.bytes + BESIDE_WEIGHTS <= gpu.free;
    let on_disk = |preset: &&Preset| preset.bytes + DISK_MARGIN <= machine.disk;
    let in_time = |preset: &&Preset| speed(preset).is_none_or(|speed| speed >= LEAST_SPEED);
    let presets = presets.into_iter();
    if !presets.clone().any(|preset| on_card(&preset)) {
        return embedded(format!("{} has {} free, which no 4B model fits", gpu.name, gigabytes(gpu.free)));
    }
    if !presets.clone().any(|preset| on_disk(&preset)) {
        return embedded(format!("the disk has {} free, which no 4B model fits", gigabytes(machine.disk)));
    }
    let Some(best) = presets.clone().find(|preset| on_card(preset) && on_disk(preset) && in_time(preset))
    else {
        let speed = presets.filter_map(speed).max().unwrap_or_default();
        return embedded(format!(
            "the memory of {} lets a 4B model write {speed} tokens/s at most, which is too slow while one types",
            gpu.name
        ));
    };
    Advice {
        preset: Some(best),
        why: format!(
            "{} has {} free; {} takes {} with its caches",
            gpu.name,
            gigabytes(gpu.free),
            best.name,
            gigabytes(best.bytes + BESIDE_WEIGHTS)
        ),
        tokens_per_second: speed(best),
        other: None,
    }
}

/// The best general model that this machine's processor would write with in time.
fn other(machine: &Machine) -> Option<Other> {
    // Bits a weight, of the 16 that are fetched.
    const WAYS: [(&str, &str, u64); 3] = [
        ("qwen2.5-coder-1.5b", "q4_k", 45),
        ("qwen2.5-coder-0.5b", "q8_0", 85),
        ("qwen2.5-coder-0.5b", "q4_k", 45),
    ];
    if machine.cores < LEAST_CORES {
        return None;
    }
    let tried = |(name, quantize, bits): (&str, &'static str, u64)| {
        let preset = preset(name)?;
        let bytes = preset.bytes * bits / 160;
        let tokens_per_second = machine.bandwidth / bytes;
        let fits = bytes + BESIDE_WEIGHTS <= machine.memory / 4
            && preset.bytes + bytes + DISK_MARGIN <= machine.disk
            && tokens_per_second >= LEAST_SPEED;
        fits.then_some(Other { preset, quantize, tokens_per_second })
    };
    WAYS.into_iter().find_map(tried)
}

fn cores(count: usize) -> String {
    if count == 1 { "1 core".to_owned() } else { format!("{count} cores") }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
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
fn apple(processor: &str, memory: u64, usable: bool) -> Option<Gpu> {
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

    fn machine(gpu: Option<(&str, u64)>, disk: u64) -> Machine {
        let gpu =
            gpu.map(|(name, gb)| Gpu { name: name.to_owned(), memory: gb * GB, free: gb * GB, usable: true });
        Machine { gpu, memory: 16 * GB, bandwidth: 20 * GB, cores: 8, disk: disk * GB }
    }

    fn advised(machine: &Machine) -> Option<&'static str> {
        recommend(machine).preset.map(|preset| preset.name)
    }

    #[test]
    fn a_card_gets_the_largest_model_that_is_still_fast() {
        assert_eq!(advised(&machine(None, 100)), None);
        assert_eq!(advised(&machine(Some(("NVIDIA GeForce RTX 3060", 12)), 100)), Some("nemotron-mini-4b"));
        assert_eq!(advised(&machine(Some(("NVIDIA H100 80GB HBM3", 80)), 100)), Some("nemotron-mini-4b-q8"));
        assert_eq!(advised(&machine(Some(("NVIDIA H100 80GB HBM3", 5)), 100)), Some("nemotron-mini-4b"));
        assert_eq!(advised(&machine(Some(("NVIDIA H100 80GB HBM3", 80)), 5)), Some("nemotron-mini-4b"));
        assert_eq!(advised(&machine(Some(("NVIDIA T400", 2)), 100)), None);
        assert_eq!(advised(&machine(Some(("NVIDIA H100 80GB HBM3", 80)), 3)), None);
    }

    #[test]
    fn the_advice_says_why_and_how_fast() {
        let advice = recommend(&machine(Some(("NVIDIA GeForce RTX 4090", 24)), 100));
        assert_eq!(advice.tokens_per_second, Some(373));
        assert!(advice.why.contains("RTX 4090 has 24.0 GB free"), "{}", advice.why);
        assert!(recommend(&machine(Some(("NVIDIA T400", 2)), 100)).why.contains("T400 has 2.0 GB"));
        assert!(recommend(&machine(Some(("NVIDIA H100", 80)), 3)).why.contains("disk has 3.0 GB"));
        assert!(recommend(&machine(None, 100)).why.contains("on 8 cores"));
        let mut single = machine(None, 100);
        single.cores = 1;
        assert!(recommend(&single).why.ends_with("on 1 core"));
    }

    #[test]
    fn a_card_that_no_program_here_can_use_gets_no_model() {
        let mut machine = machine(Some(("NVIDIA GeForce RTX 4090", 24)), 100);
        machine.gpu.as_mut().unwrap().usable = false;
        let advice = recommend(&machine);
        assert_eq!(advice.preset, None);
        assert!(advice.why.contains("RTX 4090, and no program here"), "{}", advice.why);
    }

    #[test]
    fn an_apple_machine_shares_its_memory_and_may_be_too_slow() {
        let of = |name: &str, gb: u64| {
            let gpu = apple(name, gb * GB, true);
            recommend(&Machine { gpu, memory: gb * GB, ..machine(None, 100) })
        };
        assert_eq!(of("Apple M2 Max\n", 32).preset.map(|preset| preset.name), Some("nemotron-mini-4b"));
        assert_eq!(of("Apple M1 Pro", 16).tokens_per_second, Some(74));
        assert!(of("Apple M1 Pro", 8).why.contains("has 2.0 GB free"));
        let slow = of("Apple M1", 16);
        assert_eq!(slow.preset, None);
        assert!(slow.why.contains("Apple M1 lets a 4B model write 25 tokens/s at most"), "{}", slow.why);
        assert_eq!(apple("Intel(R) Core(TM) i7", 16 * GB, true), None);
    }

    #[test]
    fn a_processor_that_is_fast_enough_is_told_of_a_model_to_try() {
        let other = |memory: u64, bandwidth: u64, cores: usize, disk: u64| {
            let machine =
                Machine { memory: memory * GB, bandwidth: bandwidth * GB, cores, ..machine(None, disk) };
            recommend(&machine).other.map(|other| (other.preset.name, other.quantize))
        };
        assert_eq!(other(64, 80, 16, 100), Some(("qwen2.5-coder-1.5b", "q4_k")));
        assert_eq!(other(16, 40, 8, 100), Some(("qwen2.5-coder-0.5b", "q8_0")));
        assert_eq!(other(16, 20, 8, 100), Some(("qwen2.5-coder-0.5b", "q4_k")));
        assert_eq!(other(16, 10, 8, 100), None, "too slow");
        assert_eq!(other(4, 80, 8, 100), None, "it would take too much memory");
        assert_eq!(other(64, 80, 2, 100), None, "two cores");
        assert_eq!(other(64, 80, 16, 3), None, "no room");
    }

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
