//! A model with states writes what it writes from nothing, whatever its caches were used for before.

use std::ops::ControlFlow;
use std::path::Path;

use crate::{
    DeviceChoice, GenerateRequest, Generator, LoadOptions, Model, Output, Quantisation, Source, Text,
};

fn source() -> Source {
    Source::Gguf(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nemotron-h-3-1/model.gguf"))
}

fn options() -> LoadOptions {
    LoadOptions { device: DeviceChoice::Cpu, threads: Some(1), ..LoadOptions::default() }
}

fn model(through_tensors: bool) -> Model {
    if through_tensors {
        Model::load_through_tensors(&source()).unwrap()
    } else {
        Model::load(&source(), &options()).unwrap()
    }
}

fn run(generator: &mut Generator, request: &GenerateRequest<'_>) -> Output {
    generator.generate(request, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_warm_cache_changes_nothing() {
    const TYPED: &str = "gitstatus0123gitpushorigin45";
    for through_tensors in [false, true] {
        let mut warm = Generator::new(model(through_tensors), 2).unwrap();
        let (mut cached, mut prompts) = (0, 0);
        // Typed, half of it deleted, typed again; another line in between.
        let lengths = (1..=TYPED.len()).chain((10..20).rev()).chain(10..TYPED.len());
        for (i, length) in lengths.enumerate() {
            let prompt = if i % 9 == 8 { "qqqqqqrstuv" } else { &TYPED[..length] };
            if i % 4 == 3 {
                warm.prefill(prompt, &mut || ControlFlow::Continue(())).unwrap();
            }
            for (beams, alternatives, heal) in [(1, 1, true), (3, 1, true), (1, 3, true), (2, 2, false)] {
                let request = GenerateRequest {
                    max_tokens: 5,
                    beams,
                    alternatives,
                    heal,
                    stop_at_newline: false,
                    ..GenerateRequest::new(prompt)
                };
                let have = run(&mut warm, &request);
                cached += have.cached_tokens;
                prompts += have.prompt_tokens;
                if i % 3 != 0 {
                    continue;
                }
                let want = run(&mut Generator::new(model(through_tensors), 1).unwrap(), &request);
                assert_eq!(want.cached_tokens, 0);
                assert_eq!(have.generations.len(), want.generations.len(), "{prompt} {request:?}");
                for (have, want) in have.generations.iter().zip(&want.generations) {
                    assert_eq!(have.text, want.text, "{prompt} {request:?}");
                    assert!((have.logprob - want.logprob).abs() < 1e-3, "{prompt} {request:?}");
                }
            }
        }
        assert!(cached * 3 > prompts, "{cached} of {prompts} tokens were in a cache");
    }
}

#[test]
fn a_prefilled_prompt_is_in_the_cache_but_for_the_last_word() {
    let mut generator = Generator::new(model(false), 2).unwrap();
    let prompt = "abcdefghijklmnopqrst";
    assert_eq!(generator.prefill(prompt, &mut || ControlFlow::Continue(())).unwrap(), 20);
    let output = run(&mut generator, &GenerateRequest::new("abcdefghijklmnopqrstu"));
    // Eight tokens are chosen anew, and the one before them is run for its logits.
    assert_eq!((output.prompt_tokens, output.cached_tokens), (21, 11));
}

#[test]
fn texts_that_are_written_together_have_the_logits_of_each_alone() {
    for through_tensors in [false, true] {
        let alone = model(through_tensors);
        let mut generator = Generator::with_texts(model(through_tensors), 1, 3).unwrap();
        let token = |i: usize| (i * i % 61) as u32;
        let mut texts: [Vec<u32>; 3] =
            [(0..30).map(token).collect(), (0..25).map(token).collect(), (3..20).map(token).collect()];
        for round in 0..14 {
            let asked: Vec<Text<'_>> =
                texts.iter().enumerate().map(|(cache, tokens)| Text { cache, tokens }).collect();
            let reached = generator.forward_texts(&asked, 11).unwrap();
            for (text, reached) in texts.iter_mut().zip(reached) {
                let Some(logits) = reached.logits else { continue };
                let want = alone.logits(text).unwrap();
                for (have, want) in logits.iter().zip(want.last().unwrap()) {
                    assert!((have - want).abs() < 1e-3, "{text:?}: {have} {want}");
                }
                text.push((round * 7 % 61) as u32);
            }
            // One of them begins anew where it has come from, and goes on otherwise.
            if round == 8 {
                texts[1].truncate(25);
                texts[1].push(60);
            }
        }
        assert!(texts.iter().all(|text| text.len() > 25), "{texts:?}");
    }
}

#[test]
fn weights_can_be_made_smaller_while_loading() {
    let tokens: Vec<u32> = (0..30).map(|i| i * i % 61).collect();
    let exact = model(false).logits(&tokens).unwrap().concat();
    for (quantisation, most) in [(Quantisation::Q8_0, 0.05), (Quantisation::Q4_0, 0.6)] {
        let options = LoadOptions { quantise: Some(quantisation), ..options() };
        let from_gguf = Model::load(&source(), &options).unwrap();
        let directory = source().path().unwrap().parent().unwrap().to_path_buf();
        let from_directory = Model::load(&Source::Directory(directory), &options).unwrap();
        let through_tensors = Model::load_through_tensors_with(&source(), &options).unwrap();
        assert!(from_gguf.info().quantisation.starts_with('Q'), "{:?}", from_gguf.info());
        let have = from_gguf.logits(&tokens).unwrap().concat();
        let apart = |other: &[f32]| {
            have.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f32>() / have.len() as f32
        };
        let others = [&from_directory, &through_tensors].map(|model| model.logits(&tokens).unwrap().concat());
        let all = [&exact, &others[0], &others[1]].map(|other| apart(other));
        println!("{quantisation:?}: {all:?} in the mean");
        assert!(all[0] < most && all[0] > 1e-3, "from the exact ones: {all:?}");
        assert!(all[1] < 1e-5, "from those of the directory: {all:?}");
        assert!(all[2] < most / 2.0, "from those through tensors: {all:?}");
        assert!(!from_gguf.drafts(), "a state can't be taken back token by token");
    }
}
