//! What a load takes: `cargo run --release --example load -- PATH q8_0|q4_0|q4_k|q6_k DIRECTORY`, in which the weights are kept.

use std::path::PathBuf;
use std::time::Instant;

use nemoterm_engine::{DeviceChoice, LoadOptions, Model, Quantisation, Shelf, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: load PATH q8_0|q4_0|q4_k|q6_k DIRECTORY";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or(usage);
    let path = PathBuf::from(next()?);
    let quantise = match next()?.as_str() {
        "q8_0" => Quantisation::Q8_0,
        "q4_0" => Quantisation::Q4_0,
        "q4_k" => Quantisation::Q4K,
        "q6_k" => Quantisation::Q6K,
        _ => return Err(usage.into()),
    };
    let keep = Some(Shelf::at(next()?));
    let source = if path.is_dir() { Source::Directory(path) } else { Source::Gguf(path) };
    let started = Instant::now();
    let options =
        LoadOptions { device: DeviceChoice::Cpu, quantise: Some(quantise), keep, ..LoadOptions::default() };
    let model = Model::load(&source, &options)?;
    println!("load {:?}, {:.1} MB of weights", started.elapsed(), model.info().weight_bytes as f64 / 1e6);
    println!("{:?}", model.info().kept);
    // Linux alone tells.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in
        status.lines().filter(|line| ["VmHWM", "RssAnon", "RssFile"].iter().any(|key| line.starts_with(key)))
    {
        println!("{line}");
    }
    Ok(())
}
