//! Which model suits a machine.

use crate::{
    machine::Machine,
    presets::{Preset, preset},
};

/// Memory a model needs beside its weights: caches, activations, the driver's own.
const BESIDE_WEIGHTS: u64 = 1_200_000_000;
/// Room that is left on the disk.
const DISK_MARGIN: u64 = 2_000_000_000;
/// Tokens/s below which a suggestion comes too late: a few tokens in 100 ms.
const LEAST_SPEED: u64 = 60;
/// Cores from which on the memory is what limits a general model, rather than they.
const LEAST_CORES: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Gpu, apple};

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
}
