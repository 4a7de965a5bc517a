//! What the targets share: a model is loaded as the daemon loads it, and run where that works.

use std::path::Path;

use nemoterm_engine::{DeviceChoice, LoadOptions, Model, Quantisation, Source};

/// Loads a model that lies in `directory`. A refusal has to name a file there, in one line.
pub fn load(source: &Source, directory: &Path) {
    for quantise in [None, Some(Quantisation::Q8_0)] {
        let options = LoadOptions {
            device: DeviceChoice::Cpu,
            threads: Some(1),
            max_context: Some(32),
            quantise,
            ..LoadOptions::default()
        };
        match Model::load(source, &options) {
            // Numbers may be anything; a refusal is as good as a row of them.
            Ok(model) => drop(model.logits(&[1, 2, 3])),
            Err(error) => {
                let error = error.to_string();
                let named = directory.to_str().is_some_and(|directory| error.contains(directory));
                assert!(named && !error.contains('\n'), "{error}");
            }
        }
    }
}
