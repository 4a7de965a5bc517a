//! Which model suits a machine.

use std::{path::Path, process::Command};

use serde::Serialize;

use crate::presets::{Preset, preset};

/// Memory a model needs beside its weights: caches, activations, the driver's own.
const BESIDE_WEIGHTS: u64 = 1_200_000_000;
/// Room that is left on the disk.
const DISK_MARGIN: u64 = 2_000_000_000;

/// A graphics card that the CUDA build can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// As the driver calls it.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Bytes that nothing uses now.
    pub free: u64,
}

/// What there is to run a model on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The card with the most free memory.
    pub gpu: Option<Gpu>,
    /// Bytes of main memory.
    pub memory: u64,
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
}

impl Machine {
    /// Looks at this machine; `cache` is where models are kept.
    pub fn here(cache: &Path) -> Self {
        let existing = cache.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let disk =
            rustix::fs::statvfs(existing).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Self {
            gpu: gpu(),
            memory: memory(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            disk,
        }
    }
}

/// Memory bandwidth in GB/s by the vendor's data sheets.
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
];

/// Says which preset to take on `machine`.
pub fn recommend(machine: &Machine) -> Advice {
    let Some(gpu) = &machine.gpu else {
        return Advice {
            preset: None,
            why: format!(
                "there is no NVIDIA GPU, and the embedded model answers in time on {} cores; general models of a size that \
                 would, too, know less of shells",
                machine.cores
            ),
            tokens_per_second: None,
        };
    };
    let fits = |preset: &&Preset| {
        preset.bytes + BESIDE_WEIGHTS <= gpu.free && preset.bytes + DISK_MARGIN <= machine.disk
    };
    // Eight bits cost half of the speed and are worth it only where there is plenty of it.
    let bandwidth =
        BANDWIDTH.iter().find(|(name, _)| gpu.name.contains(name)).map(|(_, bandwidth)| *bandwidth);
    let order = if bandwidth.is_some_and(|bandwidth| bandwidth >= 1500) {
        ["nemotron-mini-4b-q8", "nemotron-mini-4b"]
    } else {
        ["nemotron-mini-4b", "nemotron-mini-4b-q8"]
    };
    let Some(best) = order.iter().filter_map(|name| preset(name)).find(fits) else {
        let what =
            if order.iter().filter_map(|name| preset(name)).all(|p| p.bytes + BESIDE_WEIGHTS > gpu.free) {
                format!("{} has {} free, which no 4B model fits", gpu.name, gigabytes(gpu.free))
            } else {
                format!("the disk has {} free, which no 4B model fits", gigabytes(machine.disk))
            };
        return Advice { preset: None, why: what, tokens_per_second: None };
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
        tokens_per_second: bandwidth.map(|bandwidth| bandwidth * 1_000_000_000 / best.bytes),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Asks the driver's own program, which is there wherever the driver is.
fn gpu() -> Option<Gpu> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    parse_gpus(&String::from_utf8_lossy(&output.stdout)).into_iter().max_by_key(|gpu| gpu.free)
}

/// Reads lines of `NAME, MIB, MIB`.
fn parse_gpus(text: &str) -> Vec<Gpu> {
    let mib = |text: &str| text.trim().parse::<u64>().ok().map(|mib| mib << 20);
    text.lines()
        .filter_map(|line| {
            let mut fields = line.rsplitn(3, ',');
            let (free, memory, name) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Gpu { name: name.trim().to_owned(), memory: mib(memory)?, free: mib(free)? })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(gpu: Option<(&str, u64)>, disk: u64) -> Machine {
        let gpu = gpu.map(|(name, gb)| Gpu {
            name: name.to_owned(),
            memory: gb * 1_000_000_000,
            free: gb * 1_000_000_000,
        });
        Machine { gpu, memory: 16_000_000_000, cores: 8, disk: disk * 1_000_000_000 }
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
    }

    #[test]
    fn the_drivers_list_is_read() {
        let gpus =
            parse_gpus("NVIDIA A100, PCIe, 40960, 40000\nNVIDIA T4, 15360, [N/A]\nNVIDIA L4, 23034, 22000\n");
        assert_eq!(gpus.len(), 2);
        assert_eq!(
            (gpus[0].name.as_str(), gpus[0].memory >> 20, gpus[0].free >> 20),
            ("NVIDIA A100, PCIe", 40960, 40000)
        );
    }
}
