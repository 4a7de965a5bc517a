//! Writing text with the embedded model: healing, alternatives, caches, stops.

#![allow(clippy::unwrap_used)] // Helpers of tests fail the test as the tests themselves do.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use nemoterm_engine::{
    DeviceChoice, EngineError, Finish, GenerateRequest, Generator, LoadOptions, Model, Odds, Output,
    Sampling, Source, Text,
};

fn mini() -> Model {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini");
    let options = LoadOptions { device: DeviceChoice::Cpu, threads: Some(1), ..LoadOptions::default() };
    Model::load(&Source::Directory(directory), &options).unwrap()
}

fn generator() -> Generator {
    Generator::new(mini(), 4).unwrap()
}

fn run(generator: &mut Generator, request: &GenerateRequest<'_>) -> Output {
    generator.generate(request, &mut |_| ControlFlow::Continue(())).unwrap()
}

const TEXTS: [&str; 4] = [
    "git status\ngit add .\ngit commit -m \"fix the build\"",
    "find . -name \"*.rs\" -type f",
    "# list all running containers\ndocker ps --all",
    "echo 'größe 漢字 🚀' | tee  /srv/ü.txt",
];

/// All beginnings of a text that end between characters.
fn beginnings(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().skip(1).map(|(at, _)| &text[..at]).chain([text])
}

#[test]
fn a_warm_cache_changes_nothing() {
    let mut warm = generator();
    for (i, prompt) in TEXTS.iter().flat_map(|text| beginnings(text)).enumerate() {
        let beams = 1 + 3 * (i % 2);
        let request = GenerateRequest { max_tokens: 8, beams, ..GenerateRequest::new(prompt) };
        let have = run(&mut warm, &request).generations.remove(0);
        let want = run(&mut generator(), &request).generations.remove(0);
        assert_eq!(have.text, want.text, "{prompt:?}");
        assert!((have.logprob - want.logprob).abs() < 1e-3, "{prompt:?}");
    }
}

#[test]
fn text_is_what_follows_the_prompt_at_every_cut() {
    let mut generator = generator();
    for prompt in TEXTS.iter().flat_map(|text| beginnings(text)) {
        for (heal, seed, beams) in
            [(true, 0, 1), (true, 0, 4), (false, 0, 2), (true, 1, 1), (true, 2, 4), (false, 3, 1)]
        {
            let sampling = match seed {
                0 => Sampling::Greedy,
                seed => Sampling::TopP { temperature: 1.5, top_p: 1.0, seed },
            };
            let request =
                GenerateRequest { heal, max_tokens: 6, sampling, beams, ..GenerateRequest::new(prompt) };
            let mut streamed = String::new();
            let output = generator
                .generate(&request, &mut |step| {
                    streamed.push_str(step.text);
                    ControlFlow::Continue(())
                })
                .unwrap();
            let generation = &output.generations[0];
            let joined: String = generation.tokens.iter().map(|token| token.text.as_str()).collect();
            assert_eq!(joined, generation.text, "{prompt:?}");
            assert_eq!(streamed, generation.text, "{prompt:?}");
            assert!(!generation.text.contains('\n'), "{prompt:?}");
            assert!(generation.tokens.len() <= 6);
            assert!(generation.tokens.iter().all(|token| token.logprob <= 1e-5), "{generation:?}");

            // The last token that is whole in prompt and text is spelled by both or completes the typed word.
            if let Some(first) = generation.tokens.first() {
                let spelled = generator.model().decode(&[first.id]);
                let whole = format!("{prompt}{}", first.text);
                assert!(
                    whole.ends_with(&spelled)
                        || first.text.is_empty()
                        || generation.text.contains('\u{FFFD}'),
                    "{prompt:?}: {spelled:?} does not end {whole:?}",
                );
            }
        }
    }
}

#[test]
fn healing_finishes_the_word() {
    let mut generator = generator();
    for (prompt, rest) in [("git add .\ngit comm", "it"), ("docker contai", "ner"), ("find . -nam", "e")] {
        let output = run(&mut generator, &GenerateRequest::new(prompt));
        assert!(output.generations[0].text.starts_with(rest), "{prompt:?} {:?}", output.generations[0].text);
    }
}

/// The log-probability of a first word, in any tokens that begin like `path`, being whole: by the network alone, from nothing.
fn word_logprob(model: &Model, prompt: &str, word: &[u32]) -> f32 {
    let mut tokens = model.encode_plain(prompt).unwrap();
    let first = tokens.len();
    tokens.extend(word);
    let rows = model.logits(&tokens).unwrap();
    let of = |at: usize, wanted: &dyn Fn(u32) -> bool| {
        let row = &rows[at];
        let all = nemoterm_engine::log_sum_exp(row);
        (0..row.len()).filter(|&id| wanted(id as u32)).map(|id| (row[id] - all).exp()).sum::<f32>().ln()
    };
    let path: f32 = (first..tokens.len()).map(|at| of(at - 1, &|id| id == tokens[at])).sum();
    let is_after = |id: u32| {
        let text = model.decode(&[id]);
        text.is_empty() || text.starts_with(char::is_whitespace)
    };
    path + of(tokens.len() - 1, &is_after)
}

#[test]
fn beams_find_likelier_words() {
    let options = LoadOptions { network_only: true, threads: Some(1), ..LoadOptions::default() };
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nemoterm-mini");
    let model = Model::load(&Source::Directory(directory), &options).unwrap();
    let mut generator = Generator::new(model, 2).unwrap();
    let mut likelier = 0;
    let prompts =
        ["git", "docker", "sudo apt", "tar -xf", "kubectl get pods", "ssh", "find . -type f", "npm", "cp"];
    for prompt in prompts {
        let mut word = |beams: usize| -> Vec<u32> {
            let request = GenerateRequest { heal: false, beams, ..GenerateRequest::new(prompt) };
            let generation = run(&mut generator, &request).generations.remove(0);
            let mut text = String::new();
            let is_word = |token: &&nemoterm_engine::GeneratedToken| {
                let ends = !text.trim().is_empty() && token.text.starts_with(char::is_whitespace);
                text.push_str(&token.text);
                !ends
            };
            generation.tokens.iter().take_while(is_word).map(|token| token.id).collect()
        };
        let (greedy, best) = (word(1), word(4));
        let model = generator.model();
        let (greedy, best) = (word_logprob(model, prompt, &greedy), word_logprob(model, prompt, &best));
        // What is not among the likeliest tokens after a word is not counted by the search.
        assert!(best > greedy - 0.05, "{prompt}: {best} and {greedy}");
        likelier += usize::from(best > greedy + 0.05);
    }
    assert!(likelier > 0, "the search never found another word than the greedy choice");
}

#[test]
fn what_is_known_of_words_decides_between_them() {
    let mut generator = generator();
    let prompt = "git comm";
    let first = |generator: &mut Generator, odds: Option<Odds<'_>>| -> (String, f32) {
        let request = GenerateRequest { beams: 3, odds, ..GenerateRequest::new(prompt) };
        let generation = run(generator, &request).generations.remove(0);
        let logprob = generation.tokens[0].logprob;
        (generation.text.split(' ').next().unwrap_or_default().to_owned(), logprob)
    };
    let (likeliest, logprob) = first(&mut generator, None);
    let refuse = |word: &str| if word == likeliest { 1e-6 } else { 1.0 };
    let (other, _) = first(&mut generator, Some(Odds(&refuse)));
    assert_ne!(other, likeliest);
    // What is known decides between words; it is not part of what the model thinks of them.
    let same = first(&mut generator, Some(Odds(&|_| 0.5)));
    assert_eq!(same, (likeliest, logprob));
}

#[test]
fn alternatives_are_different_and_sorted() {
    let mut generator = generator();
    for (i, prompt) in
        ["git ", "git comm", "docker run", "find . -name ", "# show disk usage\n"].iter().enumerate()
    {
        let beams = [1, 4][i % 2];
        let request =
            GenerateRequest { alternatives: 4, max_tokens: 12, beams, ..GenerateRequest::new(prompt) };
        let output = run(&mut generator, &request);
        let texts: HashSet<&str> = output.generations.iter().map(|g| g.text.as_str()).collect();
        assert!(output.generations.len() > 1, "{prompt:?}");
        assert_eq!(texts.len(), output.generations.len(), "{prompt:?}");
        assert!(output.generations.is_sorted_by(|a, b| a.logprob >= b.logprob), "{prompt:?}");

        // The greedy text is among them, unchanged by the others.
        let alone = run(&mut generator, &GenerateRequest { alternatives: 1, ..request });
        assert!(texts.contains(alone.generations[0].text.as_str()), "{prompt:?}");
    }
}

#[test]
fn the_callback_can_cancel() {
    let mut generator = generator();
    let long = "ls -la /usr/share/doc\n".repeat(25);
    let mut calls = 0;
    let output = generator
        .generate(&GenerateRequest::new(&long), &mut |_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!((calls, output.generations.len()), (1, 0));

    let request = GenerateRequest { alternatives: 3, ..GenerateRequest::new("git commit ") };
    let mut tokens = 0;
    let output = generator
        .generate(&request, &mut |step| {
            tokens = tokens.max(step.index);
            if tokens == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert!(!output.generations.is_empty());
    for generation in &output.generations {
        assert_eq!(generation.finish, Finish::Cancelled);
        assert!((1..=2).contains(&generation.tokens.len()));
    }
    // And what was left behind in the cache does no harm.
    let request = GenerateRequest::new("git commit ");
    assert_eq!(run(&mut generator, &request).generations, run(&mut self::generator(), &request).generations);
}

#[test]
fn texts_end_where_they_should() {
    let mut generator = generator();
    let prompt = "git add .\ngit comm";
    let request = GenerateRequest { max_tokens: 2, ..GenerateRequest::new(prompt) };
    let short = run(&mut generator, &request).generations.remove(0);
    assert_eq!((short.finish, short.tokens.len()), (Finish::Length, 2));

    let full =
        run(&mut generator, &GenerateRequest { max_tokens: 40, ..request.clone() }).generations.remove(0);
    assert_eq!(full.finish, Finish::Stop);
    assert!(full.text.starts_with(&short.text));

    let stop = [full.text[3..6].to_owned()];
    let stopped = run(&mut generator, &GenerateRequest { max_tokens: 40, stop: &stop, ..request })
        .generations
        .remove(0);
    assert_eq!(stopped.finish, Finish::Stop);
    assert_eq!(stopped.text, full.text[..full.text.find(&stop[0]).unwrap()]);
}

#[test]
fn sampling_follows_its_seed() {
    let mut generator = generator();
    let mut sample = |temperature, seed| {
        let sampling = Sampling::TopP { temperature, top_p: 0.95, seed };
        let request = GenerateRequest { sampling, ..GenerateRequest::new("docker ") };
        run(&mut generator, &request).generations.remove(0).text
    };
    assert_eq!(sample(1.0, 7), sample(1.0, 7));
    assert_eq!(sample(0.0, 7), sample(0.0, 8));
    let texts: HashSet<String> = (0..10).map(|seed| sample(1.0, seed)).collect();
    assert!(texts.len() > 3, "{texts:?}");
}

#[test]
fn shells_that_alternate_keep_their_caches() {
    let mut generator = generator();
    let shells = ["ls -la\ncd src\nvim main.rs\ngit ", "docker ps\ndocker images\ndocker system df\ndocker "];
    for round in 0..3 {
        for shell in shells {
            let output = run(&mut generator, &GenerateRequest::new(&format!("{shell}{}", "p".repeat(round))));
            let wanted = if round == 0 { 0 } else { output.prompt_tokens - 4 };
            assert!(output.cached_tokens >= wanted, "{round} {shell:?} {output:?}");
        }
    }
}

#[test]
fn the_name_of_a_control_token_is_text_in_a_prompt() {
    let generator = generator();
    let text = "echo '</s>' ls <s> </s></s>";
    let ids = generator.model().encode_plain(text).unwrap();
    assert_eq!((ids[0], &ids[1..].iter().filter(|&&id| id < 4).count()), (1, &0), "{ids:?}");
    assert_eq!(generator.model().decode(&ids), text);
    assert!(generator.model().encode(text).unwrap().contains(&2), "unless it is a program's");
    for plain in TEXTS {
        assert_eq!(generator.model().encode_plain(plain).unwrap(), generator.model().encode(plain).unwrap());
    }
}

#[test]
fn a_prefilled_prompt_is_in_the_cache() {
    let mut generator = generator();
    let prompt = "ls -la\ncd src\nvim main.rs\n";
    let run_now = generator.prefill(prompt, &mut || ControlFlow::Continue(())).unwrap();
    assert_eq!(run_now, generator.model().encode(prompt).unwrap().len());
    assert_eq!(generator.prefill(prompt, &mut || ControlFlow::Continue(())).unwrap(), 0);
    let output = run(&mut generator, &GenerateRequest::new(&format!("{prompt}git st")));
    assert!(output.cached_tokens + 1 >= run_now, "{output:?}");
}

#[test]
fn prompts_that_cannot_be_run_are_refused() {
    let mut generator = generator();
    let long = "ls -la ".repeat(600);
    let error =
        generator.generate(&GenerateRequest::new(&long), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, EngineError::PromptTooLong { context: 512, .. }), "{error}");
    let error = generator.model().logits(&[1, 4096]).unwrap_err();
    assert!(matches!(error, EngineError::TokenOutOfRange { token: 4096, .. }), "{error}");
    let none = generator.generate_tokens(&[], &GenerateRequest::new(""), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(none, Err(EngineError::EmptyPrompt)));
}

#[test]
fn a_full_context_ends_the_text() {
    let mut generator = generator();
    let tokens = vec![30; 509];
    let request =
        GenerateRequest { heal: false, max_tokens: 20, stop_at_newline: false, ..GenerateRequest::new("") };
    let output = generator.generate_tokens(&tokens, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(output.generations[0].tokens.len() <= 4);
}

#[test]
fn texts_that_are_written_together_are_those_that_are_written_alone() {
    let mut generator = Generator::with_texts(mini(), 1, 3).unwrap();
    let prompts = ["git commit -m", "find . -name '*.rs' | xargs", "docker run --rm -it"];
    let mut texts: Vec<Vec<u32>> =
        prompts.iter().map(|prompt| generator.model().encode(prompt).unwrap()).collect();
    let alone: Vec<Vec<u32>> = texts
        .iter()
        .map(|tokens| {
            let mut tokens = tokens.clone();
            for _ in 0..8 {
                let rows = generator.model().logits(&tokens).unwrap();
                tokens.push(best(rows.last().unwrap()));
            }
            tokens
        })
        .collect();
    // Five tokens of the prompts at a time, so that some are still read while others are written.
    let lengths: Vec<usize> = texts.iter().map(|text| text.len() + 8).collect();
    for _ in 0..40 {
        let unfinished: Vec<usize> = (0..3).filter(|&i| texts[i].len() < lengths[i]).collect();
        let pass: Vec<Text<'_>> = unfinished.iter().map(|&i| Text { cache: i, tokens: &texts[i] }).collect();
        let reached = generator.forward_texts(&pass, 5).unwrap();
        for (i, reached) in unfinished.into_iter().zip(reached) {
            if let Some(logits) = reached.logits {
                texts[i].push(best(&logits));
            }
        }
    }
    assert_eq!(texts, alone);
}

#[test]
fn a_text_takes_over_what_a_cache_knows() {
    let mut generator = Generator::with_texts(mini(), 1, 2).unwrap();
    let prompt = "git add src/main.rs\ngit commit -m 'fix the parser'\ngit push origin";
    run(&mut generator, &GenerateRequest::new(prompt));
    let tokens = generator.model().encode(prompt).unwrap();
    let reached = generator.forward_texts(&[Text { cache: 1, tokens: &tokens }], 100).unwrap();
    assert!(reached[0].cached + 8 > tokens.len(), "{} of {}", reached[0].cached, tokens.len());
    let expected = generator.model().logits(&tokens).unwrap();
    let logits = reached[0].logits.as_ref().unwrap();
    assert!(logits.iter().zip(expected.last().unwrap()).all(|(a, b)| (a - b).abs() < 1e-3));
}

fn best(logits: &[f32]) -> u32 {
    let at = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    at as u32
}
