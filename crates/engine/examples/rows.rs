//! Prints what passes of several rows cost beside one of a single row: `cargo run --release --example rows -- PATH [THREADS]`.

use std::path::PathBuf;

use nemoterm_engine::{LoadOptions, Model, Source, pass_times};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: rows PATH [THREADS]")?);
    let threads = arguments.next().map(|n| n.parse()).transpose()?;
    let source = if path.is_dir() { Source::Directory(path) } else { Source::Gguf(path) };
    let model = Model::load(&source, &LoadOptions { threads, ..LoadOptions::default() })?;
    model.settle();
    let rows = [1, 2, 3, 4, 5, 6, 7, 8];
    let times = pass_times(&model, &rows)?;
    for (rows, time) in rows.iter().zip(&times) {
        let share = time.as_secs_f64() / times[0].as_secs_f64();
        println!("{rows} rows {:8.3} ms {share:5.2}", time.as_secs_f64() * 1e3);
    }
    Ok(())
}
