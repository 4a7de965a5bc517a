//! Drafts change how many passes a text takes, and not a bit of the text.

use std::ops::ControlFlow;
use std::path::PathBuf;

use tempfile::tempdir;

use super::fabricate::{Fabricated, Shape, TYPES};
use crate::{DeviceChoice, Finish, GenerateRequest, Generator, LoadOptions, Model, Output, Sampling, Source};

/// The same model with drafts and without.
pub(super) struct Twins {
    with: Generator,
    without: Generator,
    /// Sums over all requests.
    pub(super) drafted: usize,
    pub(super) accepted: usize,
    passes: (usize, usize),
}

impl Twins {
    fn new(source: &Source, threads: usize) -> Self {
        Self::on(source, DeviceChoice::Cpu, threads)
    }

    pub(super) fn on(source: &Source, device: DeviceChoice, threads: usize) -> Self {
        let generator = |no_drafts| {
            let options = LoadOptions { device, threads: Some(threads), no_drafts, ..LoadOptions::default() };
            Generator::new(Model::load(source, &options).unwrap(), 2).unwrap()
        };
        let (with, without) = (generator(false), generator(true));
        Self { with, without, drafted: 0, accepted: 0, passes: (0, 0) }
    }

    /// Both write the same, token by token, however soon they are told to end.
    fn check(&mut self, request: &GenerateRequest<'_>, most_steps: usize) -> Output {
        let run = |generator: &mut Generator| {
            let mut steps = Vec::new();
            let output = generator.generate(request, &mut |step| {
                // Questions between passes have no text, and come as often as there are passes.
                if step.index > 0 {
                    steps.push((step.alternative, step.index, step.text.to_owned(), step.logprob.to_bits()));
                }
                if steps.len() >= most_steps { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            // Each text in its order: with drafts one may be ahead of the others.
            steps.sort_by_key(|step: &(usize, _, _, _)| step.0);
            (output.unwrap(), steps)
        };
        let (have, have_steps) = run(&mut self.with);
        let (want, want_steps) = run(&mut self.without);
        assert_eq!(have.generations, want.generations, "{request:?}");
        assert_eq!(have_steps, want_steps, "{request:?}");
        assert_eq!((want.drafted, want.accepted), (0, 0));
        assert!(have.accepted <= have.drafted && have.passes + have.accepted >= want.passes);
        self.drafted += have.drafted;
        self.accepted += have.accepted;
        self.passes.0 += have.passes;
        self.passes.1 += want.passes;
        have
    }

    pub(super) fn check_all(&mut self, prompts: &[&str]) {
        let sampled = |temperature: f32| Sampling::TopP { temperature, top_p: 0.9, seed: 7 };
        for prompt in prompts {
            for (max_tokens, beams, alternatives, sampling) in [
                (24, 1, 1, Sampling::Greedy),
                (24, 3, 1, Sampling::Greedy),
                (5, 1, 1, Sampling::Greedy),
                (16, 1, 3, Sampling::Greedy),
                (24, 1, 1, sampled(0.3)),
                (16, 1, 2, sampled(0.8)),
            ] {
                for (stop_at_newline, heal) in [(true, true), (false, false)] {
                    let request = GenerateRequest {
                        max_tokens,
                        beams,
                        alternatives,
                        sampling,
                        stop_at_newline,
                        heal,
                        ..GenerateRequest::new(prompt)
                    };
                    self.check(&request, usize::MAX);
                }
            }
        }
    }
}

const SESSIONS: [&str; 6] = [
    "kubectl get pods -n staging-eu\nkubectl logs web-7f9c4 -n staging-eu\nkubectl get pods -n sta",
    "git add crates/engine/src/lib.rs\ngit commit -m \"wip\"\ngit add crates/eng",
    "cd /srv/qxzzy/data\nvim qxzzy-77.conf\nls\ncat ",
    "docker compose up -d\ndocker compose logs -f\ndocker compose up -d\ndocker compose logs -f\ndock",
    "# list files in /srv/x\nls -la /srv/x\n# list files in /srv/y\n",
    "echo größe 漢字\necho grö",
];

pub(super) fn embedded() -> Source {
    Source::Directory(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini"))
}

#[test]
fn the_embedded_model_writes_the_same_in_fewer_passes() {
    let mut twins = Twins::new(&embedded(), 1);
    twins.check_all(&SESSIONS);
    println!("{} of {} accepted, passes {:?}", twins.accepted, twins.drafted, twins.passes);
    assert!(twins.accepted > 0 && twins.accepted < twins.drafted, "some are wrong, and taken back");
    assert!(twins.passes.0 < twins.passes.1, "{:?}", twins.passes);
}

#[test]
fn every_family_writes_the_same() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let (mut models, mut drafted, mut accepted) = (0, 0, 0);
    for path in fixtures.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let gguf = path.join("model.gguf");
        let gguf = gguf.is_file().then_some(Source::Gguf(gguf));
        for source in [Some(Source::Directory(path)), gguf].into_iter().flatten() {
            let mut twins = Twins::new(&source, 1 + models % 2);
            twins.check_all(&["ab ab ab ab ab a", "ls ls\nls ls\nl"]);
            models += 1;
            drafted += twins.drafted;
            accepted += twins.accepted;
        }
    }
    println!("{models} models: {accepted} of {drafted} accepted");
    assert_eq!(models, 21);
    assert!(accepted > 0 && accepted < drafted, "{accepted} of {drafted}");
}

#[test]
fn every_type_of_weights_gives_the_same() {
    let (mut drafted, mut accepted) = (0, 0);
    for base in [Shape::llama(8, 2, true), Shape::nemotron(8, 2, 0.5)] {
        let shape = Shape { hidden: 256, feed_forward: 512, head_dim: 64, ..base };
        let fabricated = Fabricated::new(shape);
        for element in TYPES {
            let directory = tempdir().unwrap();
            let path = directory.path().join("model.gguf");
            std::fs::write(&path, fabricated.gguf(element)).unwrap();
            let mut twins = Twins::new(&Source::Gguf(path), 2);
            twins.check_all(&["git add ls git add ls git a"]);
            // Up to the last position of the context, which has 128.
            let request = GenerateRequest {
                max_tokens: 500,
                stop_at_newline: false,
                ..GenerateRequest::new("ls ls ls")
            };
            let output = twins.check(&request, usize::MAX);
            let generation = &output.generations[0];
            assert!(generation.finish == Finish::Stop || generation.tokens.len() > 110, "{generation:?}");
            drafted += twins.drafted;
            accepted += twins.accepted;
        }
    }
    println!("{accepted} of {drafted} accepted");
    assert!(accepted > 0 && accepted < drafted, "{accepted} of {drafted}");
}

#[test]
fn a_text_can_be_ended_at_every_token_and_by_every_stop() {
    let mut twins = Twins::new(&embedded(), 1);
    for prompt in SESSIONS {
        let request =
            GenerateRequest { max_tokens: 16, stop_at_newline: false, ..GenerateRequest::new(prompt) };
        let whole = twins.check(&request, usize::MAX).generations.remove(0);
        for steps in 1..=whole.tokens.len() {
            let ended = twins.check(&request, steps).generations.remove(0);
            assert_eq!(ended.tokens[..], whole.tokens[..steps]);
        }
        for at in (0..whole.text.len().saturating_sub(2)).filter(|&at| whole.text.is_char_boundary(at)) {
            let stop: String = whole.text[at..].chars().take(2).collect();
            let stopped = twins.check(&GenerateRequest { stop: &[stop], ..request.clone() }, usize::MAX);
            assert_eq!(stopped.generations[0].finish, Finish::Stop);
        }
    }
    assert!(twins.accepted > 0);
}

#[test]
fn where_rows_do_not_stand_alone_nothing_is_drafted() {
    let directory = tempdir().unwrap();
    Fabricated::new(Shape::nemotron(6, 2, 0.5)).write_directory(directory.path(), 1);
    let model = Model::load_through_tensors(&Source::Directory(directory.path().to_owned())).unwrap();
    let mut generator = Generator::new(model, 1).unwrap();
    let request = GenerateRequest { stop_at_newline: false, ..GenerateRequest::new("ls ls ls ls ls") };
    let output = generator.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(output.drafted == 0 && output.passes > 0, "{output:?}");
}
