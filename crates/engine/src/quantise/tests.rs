//! Weights that are kept are the weights that were made, and nothing else is taken for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::{TempDir, tempdir};

use super::{Kept, Plan, Quantisation, Shelf};
use crate::tests::fabricate::{Fabricated, Shape};
use crate::weights::gguf::read_gguf;
use crate::weights::{Bytes, ElementType, RawTensor};
use crate::{DeviceChoice, LoadOptions, Model, Progress, Source};

const ALL: [Quantisation; 4] = [Quantisation::Q8_0, Quantisation::Q4_0, Quantisation::Q4K, Quantisation::Q6K];
const TOKENS: [u32; 12] = [5, 70, 33, 108, 115, 257, 99, 100, 101, 256, 12, 200];

/// A model whose rows are whole blocks of every format.
fn wide() -> Shape {
    Shape { hidden: 256, feed_forward: 512, head_dim: 64, ..Shape::llama(8, 2, true) }
}

struct Place {
    temp: TempDir,
    shelf: Shelf,
    source: Source,
}

impl Place {
    fn new(shape: Shape) -> Self {
        let temp = tempdir().unwrap();
        let model = temp.path().join("model");
        Fabricated::new(shape).write_directory(&model, 1);
        let shelf = Shelf::at(temp.path().join("cache/quantised"));
        Self { source: Source::Directory(model), shelf, temp }
    }

    fn model(&self) -> PathBuf {
        self.temp.path().join("model")
    }

    fn load(&self, quantisation: Quantisation) -> Model {
        load(&self.source, quantisation, Some(self.shelf.clone()))
    }

    /// The one file there is.
    fn file(&self) -> PathBuf {
        let files = self.shelf.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].path.clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.shelf.directory()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn load(source: &Source, quantisation: Quantisation, keep: Option<Shelf>) -> Model {
    let options = LoadOptions {
        device: DeviceChoice::Cpu,
        threads: Some(2),
        quantise: Some(quantisation),
        keep,
        ..LoadOptions::default()
    };
    Model::load(source, &options).unwrap()
}

fn logits(model: &Model) -> Vec<u32> {
    model.logits(&TOKENS).unwrap().concat().into_iter().map(f32::to_bits).collect()
}

fn made(model: &Model) -> Option<String> {
    match &model.info().kept {
        Kept::Made { instead, .. } => instead.clone(),
        other => panic!("{other:?}"),
    }
}

fn is_found(model: &Model) -> bool {
    matches!(model.info().kept, Kept::Found(_))
}

#[test]
fn the_second_start_has_the_same_logits_bit_for_bit() {
    for quantisation in ALL {
        for shape in [wide(), Shape { nemotron: true, tied: false, partial: 0.5, ..wide() }] {
            let place = Place::new(shape);
            let in_memory = load(&place.source, quantisation, None);
            assert_eq!(in_memory.info().kept, Kept::No);
            assert_eq!(in_memory.info().quantisation, quantisation.element().name());
            let want = logits(&in_memory);

            let first = place.load(quantisation);
            assert_eq!(made(&first), None);
            assert_eq!(logits(&first), want, "{quantisation:?}, made");
            let second = place.load(quantisation);
            assert!(is_found(&second), "{:?}", second.info().kept);
            assert_eq!(logits(&second), want, "{quantisation:?}, mapped");
            assert_eq!(second.info().weight_bytes, in_memory.info().weight_bytes);
            let length = place.file().metadata().unwrap().len();
            assert!(length < in_memory.info().weight_bytes as u64 + (8 << 10), "{length}");
        }
    }
}

/// Models of every family, whose rows are too narrow for the blocks: written as they are, and opened like any other file.
#[test]
fn what_is_written_is_a_gguf_file_of_its_own() {
    #[derive(serde::Deserialize)]
    struct Reference {
        tokens: Vec<u32>,
        logits: Vec<Vec<f32>>,
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut opened = 0;
    for entry in fixtures.read_dir().unwrap().map(Result::unwrap) {
        let path = entry.path();
        // The others say what GGUF has no key for.
        if !path.join("model.gguf").is_file() {
            continue;
        }
        let parts = crate::model::read(&Source::Directory(path.clone())).unwrap();
        let plan = Plan::of(&parts.config, &parts.checkpoint, Quantisation::Q4K, Vec::new());
        let bytes = plan.in_memory(2, &Progress::default()).unwrap();
        assert_eq!(bytes.len() as u64, plan.bytes(), "{path:?}");
        let temp = tempdir().unwrap();
        let file = temp.path().join("model.gguf");
        fs::write(&file, &*bytes).unwrap();
        fs::copy(path.join("tokenizer.json"), temp.path().join("tokenizer.json")).unwrap();
        let options = LoadOptions { device: DeviceChoice::Cpu, threads: Some(1), ..LoadOptions::default() };
        let model = Model::load(&Source::Gguf(file), &options).unwrap();
        let reference: Reference =
            serde_json::from_slice(&fs::read(path.join("logits.json")).unwrap()).unwrap();
        let have = model.logits(&reference.tokens).unwrap().concat();
        for (have, want) in have.iter().zip(reference.logits.concat()) {
            assert!((have - want).abs() < 1e-3, "{path:?}: {have} {want}");
        }
        opened += 1;
    }
    assert_eq!(opened, 9);
}

#[test]
fn the_metadata_say_what_it_is() {
    let place = Place::new(wide());
    place.load(Quantisation::Q4K);
    let gguf = read_gguf(&Bytes::map(&place.file()).unwrap(), "kept").unwrap();
    let metadata = &gguf.metadata;
    assert_eq!(metadata.text("general.architecture").unwrap(), "llama");
    for (key, value) in [
        ("general.file_type", 14),
        ("general.quantization_version", 2),
        ("llama.block_count", Shape::LAYERS),
        ("llama.attention.head_count_kv", 2),
        ("llama.rope.dimension_count", 64),
    ] {
        assert_eq!(metadata.integer(key).unwrap(), value, "{key}");
    }
    let tensor = |name: &str| gguf.checkpoint.tensors[name].element;
    assert_eq!(tensor("blk.1.ffn_down.weight"), ElementType::Q4K);
    assert_eq!(tensor("blk.0.attn_norm.weight"), ElementType::F32);
    assert!(!gguf.checkpoint.tensors.contains_key("output.weight"), "tied");
}

#[test]
fn a_gguf_file_is_quantised_and_kept_too_unless_it_is_quantised() {
    use candle_core::quantized::GgmlDType;
    let temp = tempdir().unwrap();
    let shelf = Shelf::at(temp.path().join("kept"));
    let path = temp.path().join("model.gguf");
    fs::write(&path, Fabricated::new(wide()).gguf(GgmlDType::F16)).unwrap();
    let source = Source::Gguf(path.clone());
    let first = load(&source, Quantisation::Q6K, Some(shelf.clone()));
    assert_eq!(made(&first), None);
    let second = load(&source, Quantisation::Q6K, Some(shelf.clone()));
    assert!(is_found(&second));
    assert_eq!(logits(&first), logits(&second));
    fs::write(&path, Fabricated::new(wide()).gguf(GgmlDType::Q8_0)).unwrap();
    let quantised = load(&source, Quantisation::Q6K, Some(shelf));
    assert_eq!((&quantised.info().kept, quantised.info().quantisation), (&Kept::No, "Q8_0"));
}

#[test]
fn a_source_that_changed_is_quantised_anew() {
    let place = Place::new(wide());
    let before = logits(&place.load(Quantisation::Q8_0));
    let old = place.file();
    // Another model of the same shape, in the same place: the header differs by size and time alone.
    let changed = Shape { heads: 8, kv_heads: 4, ..wide() };
    Fabricated::new(changed).write_directory(&place.model(), 1);
    let again = place.load(Quantisation::Q8_0);
    assert!(made(&again).unwrap().contains("its source has changed"));
    assert_ne!(logits(&again), before);
    assert_eq!(place.file(), old, "the new one is in the place of the old one");
    assert!(is_found(&place.load(Quantisation::Q8_0)));

    // The same bytes, written again.
    let weights = place.model().join("model.safetensors");
    let file = fs::File::options().write(true).open(&weights).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(made(&place.load(Quantisation::Q8_0)).unwrap().contains("its source has changed"));

    // The weights stay, what they are read with does not.
    let config = place.model().join("config.json");
    let text = fs::read_to_string(&config).unwrap().replace("1000.0", "2000.0");
    fs::write(&config, text).unwrap();
    assert!(made(&place.load(Quantisation::Q8_0)).unwrap().contains("it was made in another way"));
}

#[test]
fn damaged_files_are_made_anew_and_named() {
    let place = Place::new(wide());
    let want = logits(&place.load(Quantisation::Q4K));
    let path = place.file();
    let whole = fs::read(&path).unwrap();
    let short = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    flipped[9] ^= 0x40;
    let mut longer = whole.clone();
    longer.extend([0; 32]);
    for (what, bytes) in [
        ("half", short),
        ("empty", Vec::new()),
        ("flipped", flipped),
        ("longer", longer),
        ("another format", b"not a GGUF file at all".to_vec()),
    ] {
        fs::write(&path, bytes).unwrap();
        let model = place.load(Quantisation::Q4K);
        let instead = made(&model).unwrap_or_else(|| panic!("{what}"));
        assert!(what == "empty" || instead.contains(path.to_str().unwrap()), "{what}: {instead}");
        assert_eq!(logits(&model), want, "{what}");
        assert_eq!(fs::read(&path).unwrap(), whole, "{what}");
    }
}

#[test]
fn what_was_left_half_written_is_removed_and_what_is_being_written_is_not() {
    let place = Place::new(wide());
    place.load(Quantisation::Q8_0);
    let whole = place.file();
    let left = whole.with_file_name("x-q8_0.gguf1.incomplete");
    let busy = whole.with_file_name("x-q8_0.gguf2.incomplete");
    fs::write(&left, "GGUF").unwrap();
    let held = fs::File::create(&busy).unwrap();
    held.lock().unwrap();
    fs::remove_file(&whole).unwrap();
    assert_eq!(made(&place.load(Quantisation::Q8_0)), None);
    let mut names = place.names();
    names.sort();
    let mut wanted = [&whole, &busy].map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    wanted.sort();
    assert_eq!(names, wanted);
}

#[test]
fn there_are_two_files_at_most_and_none_without_a_source() {
    let place = Place::new(wide());
    for quantisation in ALL {
        place.load(quantisation);
    }
    let formats = || place.shelf.files().into_iter().map(|file| file.quantisation).collect::<Vec<_>>();
    assert_eq!(formats(), ["q6_k", "q4_k"], "the last used first");
    // What is used stays.
    assert!(is_found(&place.load(Quantisation::Q4K)));
    place.load(Quantisation::Q8_0);
    assert_eq!(formats(), ["q8_0", "q4_k"]);

    let other = place.temp.path().join("other");
    fs::rename(place.model(), &other).unwrap();
    let source = Source::Directory(other.clone());
    load(&source, Quantisation::Q8_0, Some(place.shelf.clone()));
    let files = place.shelf.files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].source, Some(other.canonicalize().unwrap()));

    assert_eq!(place.shelf.remove(&place.model()).unwrap(), 0);
    assert_eq!(place.shelf.remove(&other).unwrap(), files[0].bytes);
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn where_nothing_can_be_kept_the_model_works_and_says_so() {
    let place = Place::new(wide());
    let want = logits(&load(&place.source, Quantisation::Q8_0, None));
    let refused = |directory: &Path| {
        let model = load(&place.source, Quantisation::Q8_0, Some(Shelf::at(directory)));
        assert_eq!(logits(&model), want);
        match &model.info().kept {
            Kept::Failed(reason) => reason.clone(),
            other => panic!("{other:?}"),
        }
    };
    let file = place.temp.path().join("file");
    fs::write(&file, "").unwrap();
    let below_a_file = file.join("shelf");
    assert!(refused(&below_a_file).contains(below_a_file.to_str().unwrap()));
    #[cfg(target_os = "linux")]
    refused(Path::new("/proc/nemoterm"));

    use std::os::unix::fs::PermissionsExt as _;
    let closed = place.temp.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("x"), "").is_ok() {
        println!("skipped: a directory that is closed to all is open to this user");
    } else {
        assert!(refused(&closed).contains("denied"));
    }
}

#[test]
fn a_closed_directory_with_the_file_in_it_is_enough() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new(wide());
    place.load(Quantisation::Q8_0);
    let mode = |mode| fs::set_permissions(place.shelf.directory(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o444)).unwrap();
    let model = place.load(Quantisation::Q8_0);
    mode(0o755);
    assert!(is_found(&model));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_is_an_error_that_is_told() {
    let place = Place::new(wide());
    let parts = crate::model::read(&place.source).unwrap();
    let plan = Plan::of(&parts.config, &parts.checkpoint, Quantisation::Q8_0, Vec::new());
    let mut full = fs::File::options().write(true).open("/dev/full").unwrap();
    let error = plan.write(&mut full, 1, &Progress::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn two_at_once_are_fine() {
    let place = Place::new(wide());
    let models: Vec<Model> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| place.load(Quantisation::Q8_0))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let want = logits(&models[0]);
    for model in models {
        assert!(model.info().kept.path().is_some(), "{:?}", model.info().kept);
        assert_eq!(logits(&model), want);
    }
    assert!(is_found(&place.load(Quantisation::Q8_0)));
    place.file();
}

/// The rows of a vector are single numbers, and blocks have no such rows.
#[test]
fn a_vector_in_blocks_becomes_numbers() {
    let numbers: Vec<f32> = (0..64).map(|i| (i % 32 * 4 - 62) as f32).collect();
    let bytes = Bytes::from_vec(crate::kernels::quantise_q8_0(&numbers));
    let vector = RawTensor::new(ElementType::Q8_0, vec![64], bytes).unwrap();
    let planned = super::plan("norm".to_owned(), vector.clone(), ElementType::Q4_0, None, 1.0);
    let mut written = Vec::new();
    planned.write(&mut written, None).unwrap();
    assert_eq!((planned.entry.element, planned.entry.length), (ElementType::F32, written.len()));
    let expected = vector.to_f32().into_iter().flat_map(|x| (x + 1.0).to_le_bytes());
    assert_eq!(written, expected.collect::<Vec<u8>>());
}

#[test]
fn progress_is_told_however_the_weights_come() {
    let place = Place::new(wide());
    let file = place.temp.path().join("file");
    fs::write(&file, "").unwrap();
    for keep in [Some(place.shelf.clone()), Some(place.shelf.clone()), Some(Shelf::at(file.join("x"))), None]
    {
        let progress = Arc::<Progress>::default();
        let options = LoadOptions {
            quantise: Some(Quantisation::Q8_0),
            keep,
            progress: Arc::clone(&progress),
            ..LoadOptions::default()
        };
        Model::load(&place.source, &options).unwrap();
        assert!((progress.share() - 1.0).abs() < f32::EPSILON);
    }
}
