//! Prints the figures of a model: `cargo run --release --example bench -- PATH [THREADS] [q8_0]`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use nemoterm_engine::{Figure, GenerateRequest, Generator, LoadOptions, Model, Quantisation, Source, bench};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: bench PATH [THREADS] [q8_0]")?);
    let threads = arguments.next().map(|n| n.parse()).transpose()?;
    let source = if path.is_dir() { Source::Directory(path) } else { Source::Gguf(path) };
    let quantise = arguments.next().filter(|name| name == "q8_0").map(|_| Quantisation::Q8_0);
    let started = Instant::now();
    let model = Model::load(&source, &LoadOptions { threads, quantise, ..LoadOptions::default() })?;
    let load = started.elapsed();
    println!("{:?}", model.info());
    println!("load {load:?}");
    model.settle();
    let figures: Vec<Figure> = Figure::all().collect();
    for (figure, value) in figures.iter().zip(bench(&model, &figures, 7)?) {
        println!("{:<22} {value:>10.2}", figure.name());
    }

    let mut generator = Generator::new(model, 4)?;
    for prompt in ["git status\ngit add .\ngit comm", "git status\ngit add .\ngit commit"] {
        let request =
            GenerateRequest { max_tokens: 16, stop_at_newline: false, ..GenerateRequest::new(prompt) };
        let output = generator.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        let generation = &output.generations[0];
        println!(
            "{prompt:?} {:?}: {} tokens, {} of {} cached, prefill {:?}, decode {:?}",
            generation.text,
            generation.tokens.len(),
            output.cached_tokens,
            output.prompt_tokens,
            output.prefill,
            output.decode,
        );
    }
    Ok(())
}
