//! What the one who loads a model is told meanwhile, and what of a device it may take.

use std::sync::Arc;

use tempfile::tempdir;

use super::fabricate::{Fabricated, Shape};
use crate::{LoadError, LoadOptions, Model, Progress, Quantisation, Source};

fn directory() -> (tempfile::TempDir, Source) {
    let temp = tempdir().unwrap();
    let path = temp.path().join("model");
    Fabricated::new(Shape::llama(3, 3, false)).write_directory(&path, 1);
    (temp, Source::Directory(path))
}

#[test]
fn progress_ends_at_all_of_it() {
    let (_temp, source) = directory();
    for quantise in [None, Some(Quantisation::Q8_0)] {
        let progress = Arc::<Progress>::default();
        assert!(progress.share().abs() < f32::EPSILON);
        let options = LoadOptions { quantise, progress: Arc::clone(&progress), ..LoadOptions::default() };
        Model::load(&source, &options).unwrap();
        assert!((progress.share() - 1.0).abs() < f32::EPSILON, "{}", progress.share());
    }
}

#[test]
fn progress_grows_with_what_is_taken() {
    let progress = Progress::default();
    progress.expect(200);
    progress.advance(50);
    assert!((progress.share() - 0.25).abs() < f32::EPSILON);
    progress.advance(500);
    assert!((progress.share() - 1.0).abs() < f32::EPSILON, "what is used twice is no more than all");
}

#[test]
fn a_device_gives_no_more_than_it_may() {
    let (_temp, source) = directory();
    let limited = |device_memory: u64, caches: usize| {
        let options = LoadOptions { device_memory: Some(device_memory), caches, ..LoadOptions::default() };
        Model::load_through_tensors_with(&source, &options)
    };
    let needed = |caches: usize| match limited(0, caches).map(|_| ()) {
        Err(error @ LoadError::DeviceMemory { needed, allowed: 0, .. }) => {
            assert!(error.is_of_device());
            needed
        }
        other => panic!("{other:?}"),
    };
    let one = needed(1);
    assert!(needed(0) == one && needed(2) > one, "caches count");
    assert!(limited(one, 1).is_ok());
    assert!(limited(one - 1, 1).is_err());
}
