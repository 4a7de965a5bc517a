//! The path of a completion: prompt, generate, clean, rank, reply.
//!
//! [`answer`] is that path for the daemon's clients. [`Plan::new`] and [`Plan::conclude`] are its pure ends, which
//! `once` and `eval` put around a model of their own.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::{EngineError, Finish, GenerateRequest, Generation, Generator, Output, Sampling, Step};
use nemoterm_protocol::{
    Alternative, Complete, Completion, Context, MAX_ALTERNATIVES, Reply, Source, State, Timing,
};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    clean, context,
    prompt::{Prompt, PromptFormat},
    rank::{self, Candidate},
    safety,
};
use tokio::sync::oneshot;

use crate::{
    confidence,
    failure::Failure,
    scheduler::{ClientId, Job},
    serve::Daemon,
};

/// Longest line that is completed, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Tokens generated where the client leaves it to us: about as much of a line as anyone reads at a glance.
const LINE_TOKENS: usize = 32;

/// A command made from a description is wanted whole.
const DESCRIPTION_TOKENS: usize = 64;

/// Models of fewer parameters than this look for the likeliest word, [`BEAMS`] beginnings at once: they are the ones that go
/// wrong with a greedy choice, and the ones for which it costs a millisecond.
const WORDS_UP_TO: usize = 500_000_000;
const BEAMS: usize = 4;

/// A request, checked and made ready for a model.
#[derive(Debug)]
pub struct Plan {
    id: u64,
    buffer: Buffer,
    local: Vec<Candidate>,
    wanted: usize,
    unasked: bool,
    /// The line that was run last.
    last: Option<String>,
    generate: Generate,
}

/// What a model is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Generate {
    pub prompt: String,
    pub heal: bool,
    pub max_tokens: usize,
    pub alternatives: usize,
    pub sampling: Sampling,
}

impl Generate {
    /// As the engine takes it.
    fn request(&self) -> GenerateRequest<'_> {
        GenerateRequest {
            heal: self.heal,
            max_tokens: self.max_tokens,
            alternatives: self.alternatives,
            sampling: self.sampling,
            ..GenerateRequest::new(&self.prompt)
        }
    }
}

/// Runs a model on a request. A prompt that leaves the context no room for an answer loses its oldest half, again and
/// again: what is left begins at the same line for many key strokes, so the cache keeps helping.
///
/// # Errors
/// Those of the engine.
pub fn generate(
    generator: &mut Generator,
    generate: &Generate,
    on_token: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
) -> Result<Output, EngineError> {
    let mut request = generate.request();
    if generator.model().info().parameters < WORDS_UP_TO {
        request.beams = BEAMS;
    }
    let room = generator.model().info().context.saturating_sub(request.max_tokens);
    // A token is at least a byte, but for the one that begins the text.
    while request.prompt.len() >= room && generator.model().encode_plain(request.prompt)?.len() > room {
        match newer_half(request.prompt) {
            "" => break,
            half => request.prompt = half,
        }
    }
    generator.generate(&request, on_token)
}

/// The newer half of a prompt's lines, or of its characters if it has but one. A description is one line with its
/// line break.
fn newer_half(prompt: &str) -> &str {
    let lines = prompt.trim_end_matches('\n');
    let middle = lines.len() / 2;
    let line = lines.match_indices('\n').map(|(at, _)| at + 1).find(|&start| start >= middle);
    let line = line.or_else(|| lines.rfind('\n').map(|at| at + 1));
    let character = || prompt.char_indices().map(|(at, _)| at).find(|&at| at > 0 && at >= middle);
    let start = line.or_else(character).unwrap_or(prompt.len());
    &prompt[start..]
}

/// A suggestion in its place.
#[derive(Debug)]
pub struct Ranked {
    pub candidate: Candidate,
    /// The model's log-probability of all of it, where the model wrote it.
    pub logprob: Option<f32>,
}

impl Plan {
    /// Checks a request and writes the prompt.
    ///
    /// # Errors
    /// Where the line is too long, or the cursor is not in it.
    pub fn new(request: &Complete) -> Result<Self, Failure> {
        let length = request.line.len();
        if length > MAX_LINE {
            return Err(Failure::new(
                format!("the line is {length} bytes long, over the limit of {MAX_LINE}"),
                "complete a shorter line",
            ));
        }
        if !request.line.is_char_boundary(request.cursor) {
            return Err(Failure::new(
                format!(
                    "the cursor is at byte {}, which is not between two characters of the line",
                    request.cursor
                ),
                "count the cursor in bytes from the start of the line",
            ));
        }
        let buffer = Buffer::new(request.line.clone(), request.cursor);
        let is_description = matches!(buffer.kind(), Kind::Description(_));
        let prompt = Prompt::new(&core_context(&request.context), &buffer, &PromptFormat::default());
        let wanted = request.alternatives.clamp(1, MAX_ALTERNATIVES);
        let default_tokens = if is_description { DESCRIPTION_TOKENS } else { LINE_TOKENS };
        let sampling = if request.temperature > 0.0 {
            Sampling::TopP { temperature: request.temperature, top_p: 0.95, seed: request.seed }
        } else {
            Sampling::Greedy
        };
        let generate = Generate {
            prompt: prompt.text,
            heal: !is_description,
            max_tokens: if request.max_tokens == 0 { default_tokens } else { request.max_tokens.min(256) },
            alternatives: wanted,
            sampling,
        };
        let local = request.candidates.iter().filter_map(|candidate| local(&buffer, candidate)).collect();
        let last = request.context.history.last().map(|entry| entry.line.clone());
        Ok(Self { id: request.id, buffer, local, wanted, unasked: request.unasked, last, generate })
    }

    /// What the model has to do.
    pub fn generate(&self) -> &Generate {
        &self.generate
    }

    /// Makes the alternatives a person may see from what the model wrote.
    pub fn conclude(&self, output: &Output) -> Vec<Alternative> {
        let alternative = |Ranked { candidate, logprob }| Alternative {
            line: candidate.line,
            suffix: candidate.suffix,
            logprob,
            source: match candidate.source {
                rank::Source::Model => Source::Model,
                rank::Source::History => Source::History,
                rank::Source::Context => Source::Context,
            },
        };
        self.ranked(output).into_iter().map(alternative).collect()
    }

    /// The same, with the estimates by which they are ranked.
    pub fn ranked(&self, output: &Output) -> Vec<Ranked> {
        let mut candidates = self.local.clone();
        let mut logprobs = Vec::new();
        for generation in &output.generations {
            // Half a command is no answer to a description.
            let is_command = matches!(self.buffer.kind(), Kind::Command);
            if self.unasked && self.buffer.line().is_empty() {
                candidates.extend(self.next_line(generation));
                continue;
            }
            let part = if self.unasked && is_command {
                confidence::likely(generation)
            } else {
                confidence::whole(generation)
            };
            let Some(mut suffix) = clean::clean(part.text, &self.buffer) else { continue };
            if is_command {
                suffix.truncate(safety::before_deletion(self.buffer.before(), &suffix).len());
                if suffix.trim().is_empty() {
                    continue;
                }
            }
            logprobs.push((suffix.clone(), confidence::logprob(generation, suffix.len())));
            candidates.push(Candidate::model(&self.buffer, suffix, Some(part.logprob)));
        }
        candidates.retain(|candidate| {
            clean::is_displayable(&candidate.line)
                && safety::check(&candidate.line) == safety::Verdict::Plain
                && (candidate.is_worth_showing(&self.buffer) || !self.unasked)
        });
        let ranked = |candidate: Candidate| {
            let logprob =
                logprobs.iter().find(|(suffix, _)| *suffix == candidate.suffix).map(|(_, logprob)| *logprob);
            Ranked { candidate, logprob }
        };
        rank::rank(candidates, self.wanted).into_iter().map(ranked).collect()
    }

    /// The line that a model expects where nothing is typed and nobody has asked: a whole one, which is likely as a
    /// whole, and not the last one again.
    fn next_line(&self, generation: &Generation) -> Option<Candidate> {
        let part = confidence::whole(generation);
        let line = clean::clean(part.text, &self.buffer)?;
        let is_whole = generation.finish == Finish::Stop && self.last.as_deref() != Some(line.as_str());
        is_whole.then(|| Candidate::model(&self.buffer, line, Some(generation.logprob)))
    }

    /// The reply with these alternatives.
    pub fn reply(&self, output: &Output, model: String, queue: Duration, arrived: Instant) -> Completion {
        let alternatives = self.conclude(output);
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Completion {
            id: self.id,
            alternatives,
            model,
            timing: Timing {
                queue: ms(queue),
                prefill: ms(output.prefill),
                decode: ms(output.decode),
                total: ms(arrived.elapsed()),
                prompt_tokens: output.prompt_tokens,
                cached_tokens: output.cached_tokens,
                generated_tokens: output.generations.iter().map(|generation| generation.tokens.len()).sum(),
            },
        }
    }
}

/// Answers a request of a client. Dropping the future gives the request up: the receiver goes with it, and the
/// worker looks for that between tokens.
pub async fn answer(request: Complete, client: ClientId, daemon: &Daemon) -> Reply {
    let arrived = Instant::now();
    let failed = |failure: Failure| Reply::Error(failure.reply(Some(request.id)));
    let plan = match Plan::new(&request) {
        Ok(plan) => plan,
        Err(failure) => return failed(failure),
    };
    match daemon.wait_for_model(Duration::from_millis(request.wait_ms)).await {
        State::Ready => {}
        State::Loading => return Reply::Loading { id: request.id },
        State::Failed { error, hint } => return failed(Failure::new(error, hint)),
    }
    let (reply, receiver) = oneshot::channel();
    // The budget is for generating: waiting for a model that loads has its own.
    let deadline = (request.budget_ms > 0).then(|| Instant::now() + Duration::from_millis(request.budget_ms));
    daemon
        .scheduler
        .submit(client, Job { generate: plan.generate().clone(), arrived: Instant::now(), deadline, reply });
    match receiver.await {
        Ok(Ok(generated)) => {
            daemon.count_completion();
            Reply::Completion(plan.reply(&generated.output, generated.model, generated.queue, arrived))
        }
        Ok(Err(failure)) => failed(failure),
        Err(_) => failed(Failure::new("the daemon is ending", "try again")),
    }
}

/// A suggestion of the client's own, unless it does not fit the line.
fn local(buffer: &Buffer, wire: &nemoterm_protocol::Candidate) -> Option<Candidate> {
    let source = match wire.source {
        Source::History => rank::Source::History,
        Source::Context => rank::Source::Context,
        // A client has no model.
        Source::Model => return None,
    };
    let fits = !wire.suffix.is_empty() && wire.score.is_finite();
    fits.then(|| Candidate::new(buffer, wire.suffix.clone(), source, wire.score.clamp(0.0, 1.0)))
}

/// The context as the text logic takes it.
fn core_context(wire: &Context) -> context::Context {
    context::Context {
        shell: context::Shell::from_name(&wire.shell),
        cwd: wire.cwd.clone(),
        names: wire.names.clone(),
        branch: wire.branch.clone(),
        history: wire
            .history
            .iter()
            .map(|entry| context::HistoryLine { line: entry.line.clone(), status: entry.status })
            .collect(),
        commands: wire.commands.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemoterm_engine::GeneratedToken;

    fn generation(parts: &[(&str, f32)]) -> Generation {
        Generation {
            text: parts.iter().map(|(text, _)| *text).collect(),
            tokens: parts
                .iter()
                .map(|(text, logprob)| GeneratedToken { id: 0, text: (*text).to_owned(), logprob: *logprob })
                .collect(),
            logprob: parts.iter().map(|(_, logprob)| logprob).sum(),
            finish: Finish::Stop,
        }
    }

    fn output(generations: Vec<Generation>) -> Output {
        Output {
            generations,
            prompt_tokens: 1,
            cached_tokens: 0,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        }
    }

    fn request(line: &str) -> Complete {
        Complete { id: 1, line: line.to_owned(), cursor: line.len(), alternatives: 3, ..Complete::default() }
    }

    fn lines(request: &Complete, generations: Vec<Generation>) -> Vec<String> {
        let plan = Plan::new(request).unwrap();
        plan.conclude(&output(generations)).into_iter().map(|alternative| alternative.line).collect()
    }

    #[test]
    fn a_prompt_is_halved_at_a_line() {
        assert_eq!(newer_half("ls -l\ncd src\ngit st"), "git st");
        assert_eq!(newer_half("a\nb\nc\nd\nls"), "d\nls");
        assert_eq!(newer_half("a\na very long last line"), "a very long last line");
        assert_eq!(newer_half("ls\n# list files\n"), "# list files\n");
        assert_eq!(newer_half("äöüß"), "üß");
        assert_eq!(newer_half("x"), "");
    }

    #[test]
    fn what_may_not_be_shown_is_not() {
        let hostile = generation(&[(" a\u{1b}[31m", -0.1)]);
        let destructive = generation(&[(" -rf /", -0.1)]);
        let fine = generation(&[(" -i x", -0.1)]);
        assert_eq!(lines(&request("rm"), vec![hostile, destructive, fine]), ["rm -i x"]);
    }

    #[test]
    fn the_unlikely_appears_only_when_asked_for() {
        let unlikely = || vec![generation(&[("chown", -6.0)])];
        assert_eq!(lines(&request("git "), unlikely()), ["git chown"]);
        assert!(lines(&Complete { unasked: true, ..request("git ") }, unlikely()).is_empty());
    }

    #[test]
    fn before_anything_is_typed_a_line_has_to_be_likely_and_harmless_as_a_whole() {
        let unasked = |generation| {
            let mut request = Complete { unasked: true, ..request("") };
            let last = nemoterm_protocol::HistoryLine { line: "git add .".to_owned(), status: Some(0) };
            request.context.history = vec![last];
            lines(&request, vec![generation])
        };
        assert_eq!(unasked(generation(&[("git", -0.1), (" commit", -0.05)])), ["git commit"]);
        assert!(unasked(generation(&[("git", -0.1), (" commit", -0.3)])).is_empty(), "unlikely");
        assert!(unasked(generation(&[("git add", -0.1), (" .", -0.1)])).is_empty(), "the same again");
        assert!(unasked(generation(&[("rm x", -0.1)])).is_empty(), "it deletes");
        let cut = Generation { finish: Finish::Length, ..generation(&[("git commit", -0.1)]) };
        assert!(unasked(cut).is_empty(), "half a line");
    }

    #[test]
    fn bad_requests_are_named() {
        assert!(Plan::new(&request(&"x".repeat(100 * 1024))).unwrap_err().message.contains("102400 bytes"));
        let inside = Complete { cursor: 1, ..request("ä") };
        assert!(Plan::new(&inside).unwrap_err().message.contains("cursor"));
        let beyond = Complete { cursor: 9, ..request("ls") };
        assert!(Plan::new(&beyond).is_err());
    }

    #[test]
    fn the_clients_own_suggestions_compete() {
        let mut request = request("git ");
        request.candidates = vec![nemoterm_protocol::Candidate {
            suffix: "status".to_owned(),
            source: Source::History,
            score: 0.9,
        }];
        assert_eq!(lines(&request, vec![generation(&[("push", -3.0)])]), ["git status", "git push"]);
    }
}
