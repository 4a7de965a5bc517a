//! Which model answers: the one that was set, none while nobody asks, or another where the accelerator can't be used.
//!
//! A model is loaded in a thread of its own while the present one answers, and handed to the worker. What was asked for
//! stays the aim: where the accelerator is full or lost, a model on the processor answers in its place, and the one that was
//! set is tried again now and then, when somebody types.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nemoterm_engine::{DeviceChoice, Generator, Model, Progress};
use nemoterm_protocol::{Loading, ModelStatus, State, Status};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    config::{Config, Unload},
    failure::Failure,
    http::writer::MAX_WRITING,
    models::{self, EMBEDDED, Unloaded},
    power::Machine,
    scheduler::Scheduler,
};

/// Shells that may alternate without losing what the cache holds of their prompts.
const CACHE_SLOTS: usize = 4;

/// After so many panics the model is not loaded again.
const MAX_LOSSES: u32 = 3;

/// How long an accelerator that failed is left alone, at first and at most.
const RETRY: Duration = Duration::from_secs(60);
const MAX_RETRY: Duration = Duration::from_secs(960);

/// How often it is looked whether a model that nobody asks is to be let go of.
const LOOK: Duration = Duration::from_secs(60);

/// A model of fewer parameters on the processor takes so little that it is not worth being let go of unasked.
const LARGE: u64 = 100_000_000;

/// Loads models.
pub trait Loader: Send + Sync + 'static {
    /// The model of a name, and what answers call it.
    ///
    /// # Errors
    /// Where it can't be loaded, and whether that is the accelerator's fault.
    fn load(&self, name: &str, config: &Config, wanted: &Wanted) -> Result<(String, Model), Unloaded>;
}

/// How a model is to be loaded.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// On the processor, whatever else there is.
    pub on_cpu: bool,
    /// Caches that will be made for it.
    pub caches: usize,
    pub progress: Arc<Progress>,
}

/// The models of this machine.
pub struct FromFiles;

impl Loader for FromFiles {
    fn load(&self, name: &str, config: &Config, wanted: &Wanted) -> Result<(String, Model), Unloaded> {
        let device = if wanted.on_cpu { DeviceChoice::Cpu } else { DeviceChoice::Accelerator };
        let loaded = models::load_on(name, config, device, wanted.caches, &wanted.progress)?;
        // Who waits for the model need not wait for that.
        loaded.1.settle_behind();
        Ok(loaded)
    }
}

/// What keeps the model.
pub struct Keeper {
    scheduler: Arc<Scheduler>,
    loader: Arc<dyn Loader>,
    /// Held while a model is loaded. Two at once would take the memory of three.
    one: tokio::sync::Mutex<()>,
    state: watch::Sender<State>,
    known: Mutex<Known>,
    /// Told when the model is to be loaded again.
    pub reload: Notify,
}

struct Known {
    /// The name of the model that was last installed or asked for, as it was given.
    name: String,
    model: Option<ModelStatus>,
    /// Whether it has caches for programs' texts.
    texts: bool,
    loading: Option<Making>,
    /// Whether it was let go of because nobody asked.
    resting: bool,
    /// How the accelerator failed under the model, which is gone with it.
    failed: Option<Failure>,
    /// Why another model than that of the name answers, or the same one elsewhere.
    instead: Option<Failure>,
    /// When the accelerator is tried again, and how long it is left alone after that.
    retry: Option<Instant>,
    pause: Duration,
    losses: u32,
    /// When somebody last asked for something.
    used: Instant,
}

/// A model in the making.
struct Making {
    name: String,
    progress: Arc<Progress>,
    since: Instant,
}

impl Keeper {
    /// Keeps the model of that name, once [`Keeper::reload`] was heard.
    pub fn new(scheduler: Arc<Scheduler>, loader: impl Loader, name: String) -> Self {
        Self {
            scheduler,
            loader: Arc::new(loader),
            one: tokio::sync::Mutex::default(),
            state: watch::Sender::new(State::Loading),
            known: Mutex::new(Known {
                name,
                model: None,
                texts: false,
                loading: None,
                resting: false,
                failed: None,
                instead: None,
                retry: None,
                pause: RETRY,
                losses: 0,
                used: Instant::now(),
            }),
            reload: Notify::new(),
        }
    }

    /// Somebody wants the model: one that was let go of comes back, and an accelerator that failed is tried again when it is
    /// time for that.
    pub fn wake(&self) {
        let mut known = self.known();
        known.used = Instant::now();
        if known.resting {
            known.resting = false;
            self.state.send_replace(State::Loading);
            self.reload.notify_one();
        } else if known.loading.is_none() && known.retry.is_some_and(|at| at <= known.used) {
            known.retry = None;
            self.reload.notify_one();
        }
    }

    /// The state of the model, after at most `patience` if it is being loaded.
    pub async fn wait(&self, patience: Duration) -> State {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| *state != State::Loading);
        if !patience.is_zero() {
            // Whether it settled or the time ran out is read off the state itself.
            let _ = tokio::time::timeout(patience, settled).await;
        }
        self.state.borrow().clone()
    }

    /// The name of the model that was last installed or asked for, as it was given.
    pub fn name(&self) -> String {
        self.known().name.clone()
    }

    /// The model that answers, where one does.
    pub fn model(&self) -> Option<ModelStatus> {
        self.known().model.clone()
    }

    /// Why it is not the one that was set, where it is not.
    pub fn instead(&self) -> Option<Failure> {
        self.known().instead.clone()
    }

    /// Puts what is known of the model into a status.
    pub fn describe(&self, status: &mut Status) {
        let known = self.known();
        status.state = self.state.borrow().clone();
        status.model.clone_from(&known.model);
        status.resting = known.resting;
        status.instead = known.instead.clone().map(|failure| Box::new(failure.reply(None)));
        status.loading = known.loading.as_ref().map(|making| {
            Box::new(Loading {
                model: making.name.clone(),
                share: making.progress.share(),
                seconds: making.since.elapsed().as_secs(),
            })
        });
    }

    /// Loads a model and answers with it from then on. Until it is there, the present one answers.
    ///
    /// # Errors
    /// Where it can't be loaded; then the present one stays.
    pub async fn use_model(&self, name: &str, texts: bool) -> Result<(), Failure> {
        let _one = self.one.lock().await;
        // How it is to be loaded may have been written since we started.
        let config = Config::load()?;
        let made_room = self.make_room(&config).await;
        let loaded = self.take(name, &config, texts).await;
        if loaded.is_err() && made_room {
            // The one that has made room comes back.
            self.reload.notify_one();
        }
        loaded
    }

    /// Loads the model that was last asked for, with nobody waiting for the answer.
    pub async fn load_again(&self, texts: bool) {
        let name = self.name();
        if let Err(failure) = self.use_model(&name, texts).await {
            tracing::error!("{failure}");
            self.state.send_replace(State::Failed { error: failure.message, hint: failure.hint });
        }
    }

    /// Whether the model can write the texts of programs.
    pub fn writes_texts(&self) -> bool {
        let known = self.known();
        known.texts || known.model.is_none()
    }

    /// Waits until nobody has asked for anything for long enough, while there is a model and `machine` needs what it takes.
    pub async fn until_idle(&self, unload: Unload, machine: &Machine) {
        let (time, where_scarce) = match unload {
            Unload::Never => return std::future::pending().await,
            Unload::After(time) => (time, false),
            Unload::WhereScarce(time) => (time, true),
        };
        loop {
            let (used, model) = {
                let known = self.known();
                (known.used, known.model.clone().filter(|_| known.loading.is_none()))
            };
            if let Some(left) = time.checked_sub(used.elapsed()).filter(|left| !left.is_zero()) {
                tokio::time::sleep(left).await;
                continue;
            }
            match model {
                Some(_) if !where_scarce => return,
                Some(model) if is_large(&model) => {
                    if let Some(scarce) = machine.scarce() {
                        tracing::info!("nobody asks, and it is needed: {scarce}");
                        return;
                    }
                }
                _ => {}
            }
            tokio::time::sleep(time.min(LOOK)).await;
        }
    }

    /// Lets go of the model until somebody asks again.
    pub async fn rest(&self) {
        let _one = self.one.lock().await;
        if self.known().model.is_some() {
            // The worker may be ending.
            let _ = self.scheduler.release().await;
        }
    }

    /// Where no more of the accelerator's memory may be taken than was said, two models must not lie there: the present one
    /// goes first.
    async fn make_room(&self, config: &Config) -> bool {
        let on_accelerator = self.known().model.as_ref().is_some_and(|model| model.device != "cpu");
        let must = config.gpu_memory.is_some() && on_accelerator;
        if must {
            self.state.send_replace(State::Loading);
            // The worker may be ending.
            let _ = self.scheduler.release().await;
            self.known().resting = false;
        }
        must
    }

    async fn take(&self, name: &str, config: &Config, texts: bool) -> Result<(), Failure> {
        let failed = self.known().failed.take();
        let attempt = match failed {
            Some(failure) => Err(Unloaded::of_device(failure)),
            None => self.load(name, config, texts, false).await,
        };
        let (loaded, instead) = match attempt {
            Ok(loaded) => (loaded, None),
            Err(Unloaded { failure, device: Some(fault) }) => {
                tracing::warn!(hint = failure.hint, "the accelerator can't be used: {failure}");
                let stands_in = {
                    let mut known = self.known();
                    known.retry = fault.passes.then(|| Instant::now() + known.pause);
                    known.pause = (2 * known.pause).min(MAX_RETRY);
                    known.name == name && known.instead.is_some() && known.model.is_some()
                };
                if stands_in {
                    self.known().instead = Some(failure);
                    return Ok(());
                }
                let other = if models::is_small(name) { name } else { EMBEDDED };
                let loaded = self.load(other, config, texts, true).await.map_err(|other| other.failure)?;
                (loaded, Some(failure))
            }
            Err(Unloaded { failure, device: None }) => return Err(failure),
        };
        let (short, generator, has_texts) = loaded;
        self.scheduler.install(short, generator).await.map_err(|_| lost())?;
        let mut known = self.known();
        name.clone_into(&mut known.name);
        known.texts = has_texts;
        known.resting = false;
        if instead.is_none() {
            (known.retry, known.pause) = (None, RETRY);
        }
        known.instead = instead;
        Ok(())
    }

    /// Loads a model in a thread of its own, and makes its caches.
    async fn load(
        &self,
        name: &str,
        config: &Config,
        texts: bool,
        on_cpu: bool,
    ) -> Result<(String, Box<Generator>, bool), Unloaded> {
        let wanted = Wanted {
            on_cpu,
            caches: CACHE_SLOTS + if texts { MAX_WRITING } else { 0 },
            progress: Arc::default(),
        };
        self.known().loading = Some(Making {
            name: name.to_owned(),
            progress: Arc::clone(&wanted.progress),
            since: Instant::now(),
        });
        let loaded = self.run(name, config, wanted).await;
        let made = loaded.and_then(|(short, model)| {
            // On the processor an empty cache takes nothing.
            let texts = texts || model.info().device == "cpu";
            let generator = Generator::with_texts(model, CACHE_SLOTS, if texts { MAX_WRITING } else { 0 });
            let unusable = |error: nemoterm_engine::EngineError| {
                let failure = Failure::new(error.to_string(), "nemoterm model use takes another model");
                if on_cpu { Unloaded::other(failure) } else { Unloaded::of_device(failure) }
            };
            Ok((short, Box::new(generator.map_err(unusable)?), texts))
        });
        self.known().loading = None;
        made
    }

    async fn run(&self, name: &str, config: &Config, wanted: Wanted) -> Result<(String, Model), Unloaded> {
        let (sender, receiver) = oneshot::channel();
        let (given, config, loader) = (name.to_owned(), config.clone(), Arc::clone(&self.loader));
        let work = move || {
            let started = Instant::now();
            let model = loader.load(&given, &config, &wanted);
            let (ok, seconds) = (model.is_ok(), started.elapsed().as_secs_f64());
            tracing::info!(given, ok, seconds, "loaded a model");
            let _ = sender.send(model);
        };
        let spawned = thread::Builder::new().name("loader".to_owned()).spawn(work);
        spawned.map_err(|_| Unloaded::other(lost()))?;
        receiver.await.map_err(|_| Unloaded::other(lost()))?
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether much comes free with a model. One on an accelerator keeps that awake.
fn is_large(model: &ModelStatus) -> bool {
    model.device != "cpu" || model.parameters >= LARGE
}

fn lost() -> Failure {
    Failure::new("loading the model failed", "nemoterm daemon logs tells more")
}

/// What the worker reports of the model.
impl Keeper {
    pub fn installed(&self, name: &str, generator: &Generator) {
        self.known().model = Some(models::status(name, generator.model()));
        self.state.send_replace(State::Ready);
    }

    pub fn released(&self) {
        let mut known = self.known();
        known.model = None;
        known.resting = true;
        tracing::info!("let go of the model");
    }

    pub fn lost(&self) {
        let mut known = self.known();
        known.losses += 1;
        tracing::error!(losses = known.losses, "the model panicked");
        known.model = None;
        if known.losses < MAX_LOSSES {
            self.state.send_replace(State::Loading);
            self.reload.notify_one();
        } else {
            self.state.send_replace(State::Failed {
                error: "the model failed again and again".to_owned(),
                hint: "nemoterm daemon logs tells more; nemoterm model use takes another model".to_owned(),
            });
        }
    }

    pub fn device_failed(&self, failure: Failure) {
        let mut known = self.known();
        known.model = None;
        known.failed = Some(failure);
        self.state.send_replace(State::Loading);
        self.reload.notify_one();
    }
}

#[cfg(test)]
mod tests;
