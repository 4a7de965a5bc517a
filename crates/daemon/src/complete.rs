//! The path of a completion: prompt, generate, clean, rank, reply.
//!
//! [`answer`] is that path for the daemon's clients. [`Plan::new`] and [`Plan::conclude`] are its pure ends, which
//! `once` and `eval` put around a model of their own.

mod conclude;

use std::{
    collections::HashSet,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::{EngineError, GenerateRequest, Generator, Odds, Sampling, Step};
use nemoterm_protocol::{Complete, Completion, Context, MAX_ALTERNATIVES, Reply, Source, State, Timing};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    context,
    examples::{Near, Votes},
    prompt::{Prompt, PromptFormat},
    rank::{self, Candidate},
    redact,
};
use tokio::sync::oneshot;

use crate::{
    backend::{Written, remote::Ask},
    failure::Failure,
    models,
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
/// Texts they write for a line at least: what is known besides may put the second first, or leave nothing of the first.
const TEXTS: usize = 2;

/// A request, checked and made ready for a model.
#[derive(Debug)]
pub struct Plan {
    id: u64,
    context: context::Context,
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
    /// What is known of the next word.
    pub known: Known,
}

/// What is known of a word before a model is asked for it.
#[derive(Debug, Clone, Default)]
pub enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// That it follows this line, up to the cursor.
    Line(String),
    /// Which programs do what is like the description, and how.
    Described { votes: Votes, near: Vec<Near> },
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

/// Whether the table of what exists is asked about a line: only at the end of one that is a command.
fn is_specified(buffer: &Buffer) -> bool {
    matches!(buffer.kind(), Kind::Command) && buffer.after().is_empty()
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
) -> Result<Written, EngineError> {
    let mut request = generate.request();
    let is_small = generator.model().info().parameters < WORDS_UP_TO;
    if is_small {
        request.beams = BEAMS;
        if matches!(generate.known, Known::Line(_)) {
            request.alternatives = request.alternatives.max(TEXTS);
        }
    }
    let place = match &generate.known {
        Known::Line(typed) => models::specs().and_then(|specs| specs.place(typed)),
        Known::Nothing | Known::Described { .. } => None,
    };
    let odds = |rest: &str| match (&place, &generate.known) {
        (Some(place), _) => place.odds(rest),
        (None, Known::Described { votes, .. }) => votes.odds(rest),
        (None, _) => 1.0,
    };
    request.odds = Some(Odds(&odds));
    let room = generator.model().info().context.saturating_sub(request.max_tokens);
    // A token is at least a byte, but for the one that begins the text.
    while request.prompt.len() >= room && generator.model().encode_plain(request.prompt)?.len() > room {
        match newer_half(request.prompt) {
            "" => break,
            half => request.prompt = half,
        }
    }
    let output = generator.generate(&request, on_token)?;
    Ok(Written { is_small, ..output.into() })
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
    /// The model's log-probability of all of it, where the model wrote it; of what was looked up for it, that of the estimate.
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
        let mut context = core_context(&request.context);
        let mut known = Known::Nothing;
        if is_specified(&buffer) {
            known = Known::Line(buffer.before().to_owned());
        }
        if let Kind::Description(description) = buffer.kind()
            && let Some(described) = models::examples(!request.unasked)
        {
            // One is shown: the embedded model does worse with two or three, and they take longer to read.
            let commands: HashSet<&str> = context.commands.iter().map(String::as_str).collect();
            let advice =
                described.consult(description, |name| commands.is_empty() || commands.contains(name));
            context.examples = advice.shown.into_iter().collect();
            known = Known::Described { votes: advice.votes, near: advice.near };
        }
        let prompt = Prompt::new(&context, &buffer, &PromptFormat::default());
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
            known,
        };
        let local = request.candidates.iter().filter_map(|candidate| local(&buffer, candidate)).collect();
        let last = request.context.history.last().map(|entry| entry.line.clone());
        Ok(Self { id: request.id, context, buffer, local, wanted, unasked: request.unasked, last, generate })
    }

    /// What the model has to do.
    pub fn generate(&self) -> &Generate {
        &self.generate
    }

    /// What a server elsewhere has to do, with every secret replaced; nothing where one is being typed.
    pub fn ask(&self) -> Option<Ask> {
        let buffer = redact::redact_buffer(&self.buffer)?;
        let mut context = self.context.clone();
        if let Kind::Description(description) = buffer.kind()
            && !context.examples.is_empty()
        {
            // The one that is shown names what the description names, which may have been a secret.
            let described = models::examples(false);
            context.examples =
                described.and_then(|known| known.consult(description, |_| true).shown).into_iter().collect();
        }
        let prompt = Prompt::new(&context, &buffer, &PromptFormat::LARGE);
        let cut = prompt.cut();
        let after = match buffer.kind() {
            Kind::Command => buffer.after().to_owned(),
            Kind::Description(_) => String::new(),
        };
        Some(Ask {
            cut: (cut.before.to_owned(), cut.typed),
            after,
            max_tokens: self.generate.max_tokens,
            texts: self.wanted,
            sampling: self.generate.sampling,
            prompt: prompt.text,
        })
    }

    /// The reply with these alternatives.
    pub fn reply(&self, written: &Written, model: String, queue: Duration, arrived: Instant) -> Completion {
        let alternatives = self.conclude(written);
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Completion {
            id: self.id,
            alternatives,
            model,
            timing: Timing {
                queue: ms(queue),
                prefill: ms(written.prefill),
                decode: ms(written.decode),
                total: ms(arrived.elapsed()),
                prompt_tokens: written.prompt_tokens,
                cached_tokens: written.cached_tokens,
                generated_tokens: written.texts.iter().map(|text| text.tokens.len()).sum(),
            },
            instead: None,
        }
    }
}

/// Answers a request of a client: by the server that is set, or by the model where none is or it does not answer.
/// Dropping the future gives the request up: the connection to the server goes with it, or the receiver, and the worker
/// looks for that between tokens.
pub async fn answer(request: Complete, client: ClientId, daemon: &Daemon) -> Reply {
    let arrived = Instant::now();
    let failed = |failure: Failure| Reply::Error(failure.reply(Some(request.id)));
    let plan = match Plan::new(&request) {
        Ok(plan) => plan,
        Err(failure) => return failed(failure),
    };
    let budget = Duration::from_millis(request.budget_ms);
    let end = |start: Instant| (!budget.is_zero()).then(|| start + budget);
    let Some(remote) = daemon.remote.remote() else {
        return match by_model(&plan, &request, arrived, client, daemon, end).await {
            Ok(completion) => Reply::Completion(completion),
            Err(NoModel::Loading) => Reply::Loading { id: request.id },
            Err(NoModel::Failed(failure)) => failed(failure),
        };
    };
    let written = match &remote {
        Ok(remote) => remote.write(plan.ask(), end(arrived)).await.map(|written| (written, remote.model())),
        Err(failure) => Err(failure.clone()),
    };
    let instead = match written {
        Ok((written, model)) => {
            daemon.count_completion();
            return Reply::Completion(plan.reply(&written, model.to_owned(), Duration::ZERO, arrived));
        }
        Err(failure) => failure,
    };
    // The same budget, of which the server has left a part.
    match by_model(&plan, &request, arrived, client, daemon, |_| end(arrived)).await {
        Ok(mut completion) => {
            completion.instead = Some(Box::new(instead.reply(None)));
            Reply::Completion(completion)
        }
        // The server is what was to answer, so its failure is the one to be told.
        Err(_) => failed(instead),
    }
}

/// Why there is no answer of the model.
enum NoModel {
    Loading,
    Failed(Failure),
}

/// The answer of the model, until the `end` of a time that begins when the model is there.
async fn by_model(
    plan: &Plan,
    request: &Complete,
    arrived: Instant,
    client: ClientId,
    daemon: &Daemon,
    end: impl Fn(Instant) -> Option<Instant>,
) -> Result<Completion, NoModel> {
    daemon.keeper.wake();
    match daemon.keeper.wait(Duration::from_millis(request.wait_ms)).await {
        State::Ready => {}
        State::Loading => return Err(NoModel::Loading),
        State::Failed { error, hint } => return Err(NoModel::Failed(Failure::new(error, hint))),
    }
    let (reply, receiver) = oneshot::channel();
    // The budget is for generating: waiting for a model that loads has its own.
    let queued = Instant::now();
    let job = Job { generate: plan.generate().clone(), arrived: queued, deadline: end(queued), reply };
    daemon.scheduler.submit(client, job);
    match receiver.await {
        Ok(Ok(generated)) => {
            daemon.count_completion();
            let mut completion = plan.reply(&generated.written, generated.model, generated.queue, arrived);
            completion.instead = daemon.keeper.instead().map(|why| Box::new(why.reply(None)));
            Ok(completion)
        }
        Ok(Err(failure)) => Err(NoModel::Failed(failure)),
        Err(_) => Err(NoModel::Failed(Failure::new("the daemon is ending", "try again"))),
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
        examples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Complete {
        Complete { id: 1, line: line.to_owned(), cursor: line.len(), alternatives: 3, ..Complete::default() }
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
    fn a_description_stands_after_some_that_are_like_it() {
        let prompt =
            Plan::new(&request("# compress a directory into a tar archive")).unwrap().generate.prompt;
        let lines: Vec<&str> = prompt.lines().collect();
        assert_eq!(lines.len(), 3, "{prompt}");
        assert!(
            lines[0].starts_with("# ")
                && lines[0].split(|c: char| !c.is_alphanumeric()).any(|word| word == "tar"),
            "{prompt}"
        );
        assert_eq!(Plan::new(&request("ls")).unwrap().generate.prompt, "ls");
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
    fn a_server_is_asked_without_secrets() {
        let mut request = request("git com");
        let secret = |line: &str| nemoterm_protocol::HistoryLine { line: line.to_owned(), status: None };
        request.context.history = vec![secret("export API_TOKEN=abc123def456"), secret("ls")];
        let ask = Plan::new(&request).unwrap().ask().unwrap();
        assert_eq!(ask.prompt, "export API_TOKEN=REDACTED\nls\ngit com");
        assert_eq!(ask.cut, ("export API_TOKEN=REDACTED\nls\ngit".to_owned(), " com".to_owned()));
        let described = |line: &str| Plan::new(&self::request(line)).unwrap().ask().unwrap().prompt;
        let prompt = described("# show the last 10 lines of https://me:hunter2@a.example/x.zip");
        assert!(prompt.lines().count() > 2 && !prompt.contains("hunter2"), "{prompt}");
        request.line = "curl -u me:hunter2 ".to_owned();
        request.cursor = request.line.len();
        assert!(Plan::new(&request).unwrap().ask().unwrap().prompt.ends_with("\ncurl -u me:REDACTED "));
        request.cursor = request.line.len() - 1;
        assert_eq!(Plan::new(&request).unwrap().ask(), None, "it is being typed");
    }
}
