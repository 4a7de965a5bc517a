//! The messages, as they stand in a frame.

use serde::{Deserialize, Serialize};

use crate::stats::Stats;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first message of every conversation.
    Hello(Hello),
    /// Complete a line. Answered by [`Reply::Completion`], [`Reply::Loading`] or [`Reply::Error`].
    Complete(Box<Complete>),
    /// Forget the running completion of this connection, if any. Not answered.
    Cancel,
    /// How the daemon is. Answered by [`Reply::Status`].
    Status,
    /// End the daemon. Answered by [`Reply::Stopping`], then the connection closes.
    Stop,
    /// Load another model and answer with the present one until it is there. Answered by
    /// [`Reply::Status`] once it is, or by [`Reply::Error`], and then the present one stays.
    UseModel {
        /// A preset name, a directory or a GGUF file, as `nemoterm model use` takes it.
        model: String,
    },
    /// Let go of the model until somebody asks for a completion. Answered by [`Reply::Status`].
    Unload,
    /// What a shell has counted since it told so last. Not answered; only sent where [`Welcome::stats`] says that it is
    /// wanted.
    Count(Box<Stats>),
    /// What was counted on this machine. Answered by [`Reply::Stats`].
    Stats {
        /// Forget it.
        reset: bool,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// A finished completion.
    Completion(Completion),
    /// There is no model yet, and the request would not wait for it any longer.
    Loading {
        /// The request.
        id: u64,
    },
    /// How the daemon is.
    Status(Box<Status>),
    /// What was counted.
    Stats(Box<Stats>),
    /// The daemon ends now.
    Stopping,
    /// Something went wrong.
    Error(ErrorReply),
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::VERSION`] of the client.
    pub protocol: u32,
    /// Release of the client, such as `0.1.0`.
    pub version: String,
}

impl Hello {
    /// The greeting of this build.
    pub fn new() -> Self {
        Self { protocol: crate::VERSION, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

impl Default for Hello {
    fn default() -> Self {
        Self::new()
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`crate::VERSION`] of the daemon.
    pub protocol: u32,
    /// Release of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Whether it counts what was suggested and taken; nothing where it does not know how to.
    #[serde(default)]
    pub stats: Option<bool>,
}

/// A line to complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Complete {
    /// Names this request in its reply. Ids of one connection grow.
    pub id: u64,
    /// The whole line as it stands in the shell. One that begins with `#` is a description.
    pub line: String,
    /// Where the cursor is, in bytes from the start of the line.
    pub cursor: usize,
    /// What the client knows of the surroundings.
    #[serde(default)]
    pub context: Context,
    /// What the client would suggest without a model, from the history and the context, best first.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// Nobody asked for it, it would only appear: leave out what is hardly likely to be right.
    #[serde(default)]
    pub unasked: bool,
    /// How many different completions are wanted, 1 to [`MAX_ALTERNATIVES`].
    #[serde(default = "one")]
    pub alternatives: usize,
    /// At most so many tokens in each completion; 0 leaves it to the daemon.
    #[serde(default)]
    pub max_tokens: usize,
    /// Time for generating, in milliseconds: what is there by then is the answer. 0 is no limit.
    #[serde(default)]
    pub budget_ms: u64,
    /// How long the request waits for a model that is still loading, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// Sampling temperature; 0 takes the likeliest token each time.
    #[serde(default)]
    pub temperature: f32,
    /// Seed of the sampling.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> usize {
    1
}

/// Most completions one request may ask for.
pub const MAX_ALTERNATIVES: usize = 8;

/// What a client knows of the surroundings of a line. Never values of environment variables, never contents of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `zsh`, `bash`, `fish`, or another name.
    #[serde(default)]
    pub shell: String,
    /// Working directory of the shell.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Names in that directory, a selection.
    #[serde(default)]
    pub names: Vec<String>,
    /// Branch of the git work tree around that directory.
    #[serde(default)]
    pub branch: Option<String>,
    /// The last command lines, oldest first.
    #[serde(default)]
    pub history: Vec<HistoryLine>,
    /// Commands on the PATH that begin with the first word, when that is what is being typed; for a description all of them, or none
    /// where they are not known.
    #[serde(default)]
    pub commands: Vec<String>,
}

/// A command line that was run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// The line.
    pub line: String,
    /// Its exit status, where the client knows it.
    #[serde(default)]
    pub status: Option<i32>,
}

/// A suggestion of the client's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it adds at the cursor.
    pub suffix: String,
    /// Where it comes from.
    pub source: Source,
    /// The estimated probability that its first word is right, between 0 and 1.
    pub score: f32,
}

/// The answer to a [`Complete`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The request.
    pub id: u64,
    /// Completions, best first. Empty when there is nothing worth showing.
    pub alternatives: Vec<Alternative>,
    /// Name of the model that answered.
    pub model: String,
    /// Where the time went.
    pub timing: Timing,
    /// Why [`Completion::model`] is not what was set: the remote server did not answer, or the accelerator can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Box<ErrorReply>>,
}

/// One completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// The whole line with the completion in it. For a description it is the command.
    pub line: String,
    /// What is added at the cursor. For a description it is the command.
    pub suffix: String,
    /// Natural logarithm of the probability the model gives the suffix, or of the estimate for what was looked up for it; none for a
    /// line that the model did not see.
    pub logprob: Option<f32>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a completion comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The language model.
    Model,
    /// A line of the history.
    History,
    /// Words of the context: names, the branch, earlier arguments.
    Context,
}

/// Where the time of a completion went. All in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From the frame's arrival until the model was free.
    pub queue: f64,
    /// Running the prompt through the model.
    pub prefill: f64,
    /// Generating.
    pub decode: f64,
    /// From the frame's arrival until the reply was ready.
    pub total: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of these were still in the cache.
    pub cached_tokens: usize,
    /// Tokens generated, over all alternatives.
    pub generated_tokens: usize,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Release of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// What the model is doing.
    pub state: State,
    /// Name of the model, where there is one.
    pub model: Option<ModelStatus>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Open connections, this one included.
    pub connections: usize,
    /// Completions answered.
    pub completions: u64,
    /// Completions given up: replaced by a newer one, or their client hung up.
    pub cancelled: u64,
    /// Resident memory in MiB, where the system tells.
    pub rss_mib: Option<f64>,
    /// Where the daemon writes its log.
    pub log: Option<String>,
    /// Address and port where the daemon serves HTTP, where it does.
    #[serde(default)]
    pub http: Option<String>,
    /// Why it does not, where it was asked to.
    #[serde(default)]
    pub http_error: Option<Box<ErrorReply>>,
    /// The remote server, where one is set to complete. The model of the daemon answers where it does not.
    #[serde(default)]
    pub remote: Option<Box<RemoteStatus>>,
    /// The model that is being loaded. Where there is one in [`Status::model`] as well, that one answers meanwhile.
    #[serde(default)]
    pub loading: Option<Box<Loading>>,
    /// The model was let go of, as nobody asked for long; the next request brings it back.
    #[serde(default)]
    pub resting: bool,
    /// Why another model answers than the one that was set, or the same one on the processor.
    #[serde(default)]
    pub instead: Option<Box<ErrorReply>>,
}

/// A model that is being loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loading {
    /// Its name, as it was asked for.
    pub model: String,
    /// The part of its weights that are where they are used, from 0 to 1.
    pub share: f32,
    /// Seconds since its loading began.
    pub seconds: u64,
}

/// A server elsewhere that completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Its base URL, such as `http://gpu.example:8000/v1`.
    pub url: String,
    /// Name of its model, as it was set.
    pub model: String,
    /// How it is.
    pub state: RemoteState,
    /// Completions it has written.
    pub answered: u64,
    /// Requests it has failed on, or was too late for.
    pub failed: u64,
}

/// How a remote server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum RemoteState {
    /// Nothing was asked of it yet.
    Untried,
    /// It answered when it was last asked.
    Answering,
    /// It did not, and is asked again.
    Failing {
        /// Why, in one line.
        error: String,
        /// What to do about it.
        hint: String,
    },
    /// It did not, and is not asked for a while.
    Paused {
        /// Why, in one line.
        error: String,
        /// What to do about it.
        hint: String,
        /// Seconds until it is asked again; nothing where it is only asked again once the configuration changes.
        again_s: Option<u64>,
    },
}

/// What the model is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum State {
    /// The model is being loaded.
    Loading,
    /// Completions are answered.
    Ready,
    /// The model could not be loaded.
    Failed {
        /// Why, in one line.
        error: String,
        /// What to do about it.
        hint: String,
    },
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name, as `nemoterm model use` takes it.
    pub name: String,
    /// Its architecture, such as `nemotron`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// How its weights are held, such as `f32` or `q8_0`.
    pub quantisation: String,
    /// Where it runs, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Longest context in tokens.
    pub context: usize,
    /// Why its weights, which were quantised, could not be kept for the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The request, where the error concerns one.
    #[serde(default)]
    pub id: Option<u64>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    #[serde(default)]
    pub hint: Option<String>,
}
