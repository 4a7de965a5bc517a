//! The path of a completion: prompt, generate, clean, rank, reply.
//!
//! [`answer`] is that path for the daemon's clients. [`Plan::new`] and [`Plan::conclude`] are its pure ends, which
//! `once` and `eval` put around a model of their own.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::{EngineError, Finish, GenerateRequest, Generator, Odds, Output, Sampling, Step};
use nemoterm_protocol::{
    Alternative, Complete, Completion, Context, MAX_ALTERNATIVES, Reply, Source, State, Timing,
};
use nemoterm_suggest::{
    buffer::{Buffer, Kind},
    clean, context,
    examples::Votes,
    prompt::{Prompt, PromptFormat},
    rank::{self, Candidate},
    redact, safety, specs,
};
use tokio::sync::oneshot;

use crate::{
    backend::{Text, Written, remote::Ask},
    confidence,
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
    /// Which programs do what is like the description.
    Programs(Votes),
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
) -> Result<Output, EngineError> {
    let mut request = generate.request();
    if generator.model().info().parameters < WORDS_UP_TO {
        request.beams = BEAMS;
        if matches!(generate.known, Known::Line(_)) {
            request.alternatives = request.alternatives.max(TEXTS);
        }
    }
    let place = match &generate.known {
        Known::Line(typed) => models::specs().and_then(|specs| specs.place(typed)),
        Known::Nothing | Known::Programs(_) => None,
    };
    let odds = |rest: &str| match (&place, &generate.known) {
        (Some(place), _) => place.odds(rest),
        (None, Known::Programs(votes)) => votes.odds(rest),
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
        let mut context = core_context(&request.context);
        let mut known = Known::Nothing;
        if is_specified(&buffer) {
            known = Known::Line(buffer.before().to_owned());
        }
        if let Kind::Description(description) = buffer.kind()
            && let Some(described) = models::examples(!request.unasked)
        {
            // One is shown: the embedded model does worse with two or three, and they take longer to read.
            let (votes, best) = described.consult(description);
            context.examples = best.into_iter().collect();
            known = Known::Programs(votes);
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
            context.examples = described.and_then(|known| known.consult(description).1).into_iter().collect();
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

    /// Makes the alternatives a person may see from what the model wrote.
    pub fn conclude(&self, written: &Written) -> Vec<Alternative> {
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
        self.ranked(written).into_iter().map(alternative).collect()
    }

    /// The same, with the estimates by which they are ranked.
    pub fn ranked(&self, written: &Written) -> Vec<Ranked> {
        let mut candidates = self.local.clone();
        let mut logprobs = Vec::new();
        for text in &written.texts {
            // Half a command is no answer to a description.
            let is_command = matches!(self.buffer.kind(), Kind::Command);
            if self.unasked && self.buffer.line().is_empty() {
                candidates.extend(self.next_line(text));
                continue;
            }
            let part =
                if self.unasked && is_command { confidence::likely(text) } else { confidence::whole(text) };
            let Some(mut suffix) = clean::clean(part.text, &self.buffer) else { continue };
            let is_broken_off = text.finish != Finish::Stop && part.text == confidence::whole(text).text;
            if is_broken_off && is_command && self.buffer.after().is_empty() {
                suffix.push_str(self.rest_of_a_known_line(&suffix));
            }
            if is_command {
                suffix.truncate(safety::before_deletion(self.buffer.before(), &suffix).len());
                if suffix.trim().is_empty() {
                    continue;
                }
            }
            logprobs.push((suffix.clone(), confidence::logprob(text, suffix.len())));
            let mut candidate =
                Candidate::model(&self.buffer, suffix, part.logprob).following(self.last.as_deref());
            if let Known::Programs(votes) = &self.generate.known {
                // As the engine chose the first of them.
                candidate.score *= votes.odds(candidate.line.split(' ').next().unwrap_or_default());
            }
            candidates.push(candidate);
        }
        if is_specified(&self.buffer) {
            specs::weigh(models::specs(), &self.buffer, &mut candidates);
        }
        candidates.retain(|candidate| {
            clean::is_displayable(&candidate.line)
                && safety::check(&candidate.line) == safety::Verdict::Plain
                && (candidate.is_worth_showing(&self.buffer) || !self.unasked)
        });
        let ranked = |candidate: Candidate| {
            let logprob = logprobs
                .iter()
                .find(|(suffix, _)| *suffix == candidate.suffix)
                .and_then(|(_, logprob)| *logprob);
            Ranked { candidate, logprob }
        };
        rank::rank(candidates, self.wanted).into_iter().map(ranked).collect()
    }

    /// How the newest line of the context goes on that begins with the typed one and this suffix. A text that was broken off because
    /// it had become long is mostly a copy of one.
    fn rest_of_a_known_line(&self, suffix: &str) -> &str {
        let lines = self.context.history.iter().rev().map(|entry| entry.line.trim_end());
        let mut rests =
            lines.filter_map(|line| line.strip_prefix(self.buffer.before())?.strip_prefix(suffix));
        // What was redacted is nothing that anybody wants to type.
        rests.find(|rest| !rest.is_empty() && !rest.contains(redact::MARKER)).unwrap_or_default()
    }

    /// The line that a model expects where nothing is typed and nobody has asked: a whole one, which is likely as a
    /// whole, and not the last one again.
    fn next_line(&self, text: &Text) -> Option<Candidate> {
        let part = confidence::whole(text);
        let line = clean::clean(part.text, &self.buffer)?;
        let is_whole = text.finish == Finish::Stop && self.last.as_deref() != Some(line.as_str());
        let logprob = confidence::logprob(text, text.text.len())?;
        is_whole.then(|| Candidate::model(&self.buffer, line, Some(logprob)))
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
    use crate::backend::Token;
    use nemoterm_engine::Finish;

    fn text(parts: &[(&str, f32)]) -> Text {
        let token =
            |(text, logprob): &(&str, f32)| Token { text: (*text).to_owned(), logprob: Some(*logprob) };
        Text {
            text: parts.iter().map(|(text, _)| *text).collect(),
            tokens: parts.iter().map(token).collect(),
            finish: Finish::Stop,
        }
    }

    fn request(line: &str) -> Complete {
        Complete { id: 1, line: line.to_owned(), cursor: line.len(), alternatives: 3, ..Complete::default() }
    }

    fn lines(request: &Complete, texts: Vec<Text>) -> Vec<String> {
        let plan = Plan::new(request).unwrap();
        let written = Written { texts, ..Written::default() };
        plan.conclude(&written).into_iter().map(|alternative| alternative.line).collect()
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
    fn programs_that_others_vote_for_come_first() {
        let texts = vec![text(&[("zip", -0.5), (" -r x", -0.1)]), text(&[("tar", -0.9), (" czf x", -0.1)])];
        let request = request("# compress a directory into a tar archive");
        assert_eq!(lines(&request, texts), ["tar czf x", "zip -r x"]);
    }

    #[test]
    fn what_may_not_be_shown_is_not() {
        let hostile = text(&[(" a\u{1b}[31m", -0.1)]);
        let destructive = text(&[(" -rf /", -0.1)]);
        let fine = text(&[(" -i x", -0.1)]);
        assert_eq!(lines(&request("rm"), vec![hostile, destructive, fine]), ["rm -i x"]);
    }

    #[test]
    fn the_unlikely_appears_only_when_asked_for() {
        let unlikely = || vec![text(&[("chown", -6.0)])];
        assert_eq!(lines(&request("git "), unlikely()), ["git chown"]);
        assert!(lines(&Complete { unasked: true, ..request("git ") }, unlikely()).is_empty());
    }

    #[test]
    fn before_anything_is_typed_a_line_has_to_be_likely_and_harmless_as_a_whole() {
        let unasked = |written| {
            let mut request = Complete { unasked: true, ..request("") };
            let last = nemoterm_protocol::HistoryLine { line: "git add .".to_owned(), status: Some(0) };
            request.context.history = vec![last];
            lines(&request, vec![written])
        };
        assert_eq!(unasked(text(&[("git", -0.1), (" commit", -0.05)])), ["git commit"]);
        assert!(unasked(text(&[("git", -0.1), (" commit", -0.3)])).is_empty(), "unlikely");
        assert!(unasked(text(&[("git add", -0.1), (" .", -0.1)])).is_empty(), "the same again");
        assert!(unasked(text(&[("rm x", -0.1)])).is_empty(), "it deletes");
        let cut = Text { finish: Finish::Length, ..text(&[("git commit", -0.1)]) };
        assert!(unasked(cut).is_empty(), "half a line");
    }

    #[test]
    fn a_copy_that_became_too_long_goes_on_as_the_line_it_is_of() {
        let line = |line: &str| nemoterm_protocol::HistoryLine { line: line.to_owned(), status: Some(0) };
        let mut request = request("tar c");
        request.context.history =
            vec![line("tar czf a.tgz src docs"), line("tar czf b.tgz src docs "), line("ls")];
        let written = |finish| Text { finish, ..text(&[("zf", -0.1), (" b.tgz", -0.1), (" sr", -0.1)]) };
        assert_eq!(lines(&request, vec![written(Finish::Length)]), ["tar czf b.tgz src docs"]);
        assert_eq!(lines(&request, vec![written(Finish::Stop)]), ["tar czf b.tgz sr"]);
        request.cursor = 3;
        assert_eq!(lines(&request, vec![written(Finish::Length)]), ["tarzf c"], "something follows");
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
        assert_eq!(lines(&request, vec![text(&[("push", -3.0)])]), ["git status", "git push"]);
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

    #[test]
    fn a_text_of_unknown_probability_is_shown() {
        let mut unknown = text(&[(" -m", 0.0)]);
        unknown.tokens[0].logprob = None;
        let request = Complete { unasked: true, ..request("git commit") };
        assert_eq!(lines(&request, vec![unknown]), ["git commit -m"]);
    }
}
