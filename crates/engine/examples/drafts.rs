//! Prints what drafts save: `cargo run --release --example drafts -- PATH PROMPTS [BEAMS]`, where a file holds prompts with a NUL byte
//! after each. Each is continued in turns with drafts and without, from a cache that holds it, as while one types.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nemoterm_engine::{GenerateRequest, Generator, LoadOptions, Model, Source};

/// Of how many runs the fastest counts.
const TURNS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: drafts PATH PROMPTS [BEAMS]";
    let path = PathBuf::from(arguments.next().ok_or(usage)?);
    let prompts = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let beams = arguments.next().map_or(Ok(3), |n| n.parse())?;
    let source = if path.is_dir() { Source::Directory(path) } else { Source::Gguf(path) };
    let generator = |no_drafts| -> Result<Generator, Box<dyn std::error::Error>> {
        let options = LoadOptions { threads: Some(1), no_drafts, ..LoadOptions::default() };
        Ok(Generator::new(Model::load(&source, &options)?, 1)?)
    };
    let mut both = [generator(false)?, generator(true)?];
    let mut times = [Vec::new(), Vec::new()];
    let (mut passes, mut tokens) = ([0, 0], 0);
    for prompt in prompts.split_terminator('\0') {
        let request = GenerateRequest { beams, ..GenerateRequest::new(prompt) };
        let mut best = [Duration::MAX; 2];
        let mut written = [None, None];
        for turn in 0..=TURNS {
            for (i, generator) in both.iter_mut().enumerate() {
                let started = Instant::now();
                let output = generator.generate(&request, &mut |_| ControlFlow::Continue(()))?;
                if turn > 0 {
                    best[i] = best[i].min(started.elapsed());
                } else {
                    passes[i] += output.passes;
                }
                written[i] = Some(output.generations);
            }
            assert_eq!(written[0], written[1], "{prompt:?}");
        }
        tokens += written[0].iter().flatten().map(|text| text.tokens.len()).sum::<usize>();
        for (times, best) in times.iter_mut().zip(best) {
            times.push(best);
        }
    }
    for (name, (times, passes)) in ["with", "without"].into_iter().zip(times.iter_mut().zip(passes)) {
        times.sort_unstable();
        let sum: Duration = times.iter().sum();
        println!(
            "{name:8} {:.3} passes a token, median {:.2} ms, mean {:.2} ms",
            passes as f64 / tokens as f64,
            times[times.len() / 2].as_secs_f64() * 1e3,
            sum.as_secs_f64() * 1e3 / times.len() as f64,
        );
    }
    Ok(())
}
