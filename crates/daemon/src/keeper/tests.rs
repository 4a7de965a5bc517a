//! A loader that fails to order, and what the keeper makes of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{power::tests::Told, worker};

/// A loader whose accelerator fails as long as it is told to; what it loads is the embedded model on the processor.
#[derive(Default)]
struct Failing {
    fails: AtomicUsize,
    passes: bool,
    loads: Mutex<Vec<(String, bool)>>,
}

impl Loader for Arc<Failing> {
    fn load(&self, name: &str, config: &Config, wanted: &Wanted) -> Result<(String, Model), Unloaded> {
        self.loads.lock().unwrap().push((name.to_owned(), wanted.on_cpu));
        let count_down = |left: usize| left.checked_sub(1);
        let fails = |loader: &Failing| {
            loader.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down).is_ok()
        };
        if !wanted.on_cpu && fails(self) {
            let failure = Failure::new("device accelerator: out of memory", "nvidia-smi tells");
            return Err(Unloaded { failure, device: Some(models::Fault { passes: self.passes }) });
        }
        if name == "nosuch" {
            return Err(Failure::new("no model is called nosuch", "name another").into());
        }
        let (_, model) = FromFiles.load(
            EMBEDDED,
            config,
            &Wanted { on_cpu: true, progress: Arc::clone(&wanted.progress), ..Wanted::default() },
        )?;
        Ok((name.to_owned(), model))
    }
}

struct Watcher(Arc<Keeper>);

impl worker::Observer for Watcher {
    fn installed(&self, name: &str, generator: &Generator) {
        self.0.installed(name, generator);
    }
    fn lost(&self) {
        self.0.lost();
    }
    fn device_failed(&self, failure: Failure) {
        self.0.device_failed(failure);
    }
    fn released(&self) {
        self.0.released();
    }
    fn cancelled(&self) {}
}

struct Place {
    keeper: Arc<Keeper>,
    loader: Arc<Failing>,
    worker: Option<thread::JoinHandle<()>>,
    tokio: tokio::runtime::Runtime,
}

impl Place {
    fn new(fails: usize) -> Self {
        Self::of(Failing { fails: fails.into(), passes: true, ..Failing::default() })
    }

    fn of(loader: Failing) -> Self {
        let loader = Arc::new(loader);
        let scheduler = Arc::new(Scheduler::default());
        let keeper = Arc::new(Keeper::new(scheduler, Arc::clone(&loader), "o/large".to_owned()));
        let watcher = Watcher(Arc::clone(&keeper));
        let worker = thread::spawn(move || worker::run(&Arc::clone(&watcher.0.scheduler), &watcher));
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { keeper, loader, worker: Some(worker), tokio }
    }

    fn load(&self) {
        self.tokio.block_on(self.keeper.load_again(false));
    }

    fn model(&self) -> Option<String> {
        self.keeper.model().map(|model| model.name)
    }

    fn state(&self) -> State {
        self.keeper.state.borrow().clone()
    }

    /// Makes it time to try the accelerator again.
    fn let_time_pass(&self) {
        let mut known = self.keeper.known();
        assert!(known.retry.is_some_and(|at| at > Instant::now()), "it is left alone for a while");
        known.retry = Some(Instant::now());
    }

    /// Whether the model is to be loaded again.
    fn is_to_reload(&self) -> bool {
        let heard = self.keeper.reload.notified();
        self.tokio.block_on(async { tokio::time::timeout(Duration::ZERO, heard).await.is_ok() })
    }

    /// Whether the model would be let go of now.
    fn is_idle(&self, unload: Unload, told: &Told) -> bool {
        let idle = self.keeper.until_idle(unload, &told.machine);
        self.tokio.block_on(async { tokio::time::timeout(Duration::ZERO, idle).await.is_ok() })
    }

    fn loads(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.loader.loads.lock().unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.scheduler.quit();
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap();
        }
    }
}

#[test]
fn where_the_accelerator_is_full_another_model_answers_until_it_is_not() {
    let place = Place::new(2);
    place.load();
    assert_eq!((place.state(), place.model().as_deref()), (State::Ready, Some(EMBEDDED)));
    assert!(place.keeper.instead().unwrap().message.contains("out of memory"));
    assert_eq!(place.loads(), [("o/large".to_owned(), false), (EMBEDDED.to_owned(), true)]);
    place.keeper.wake();
    assert!(!place.is_to_reload(), "it is left alone at first");

    place.let_time_pass();
    place.keeper.wake();
    assert!(place.is_to_reload());
    place.load();
    assert_eq!(place.model().as_deref(), Some(EMBEDDED));
    assert_eq!(place.loads(), [("o/large".to_owned(), false)], "the one that stands in is there already");

    place.let_time_pass();
    place.keeper.wake();
    assert!(place.is_to_reload());
    place.load();
    assert_eq!((place.model().as_deref(), place.keeper.instead()), (Some("o/large"), None));
    place.keeper.wake();
    assert!(!place.is_to_reload());
}

#[test]
fn an_accelerator_that_is_lost_under_the_model_is_left_alone_at_once() {
    let place = Place::new(0);
    place.load();
    assert_eq!(place.model().as_deref(), Some("o/large"));
    place.keeper.device_failed(Failure::new("tensor library: lost", "x"));
    assert_eq!((place.state(), place.is_to_reload()), (State::Loading, true));
    place.loads();
    place.load();
    assert_eq!((place.state(), place.model().as_deref()), (State::Ready, Some(EMBEDDED)));
    assert_eq!(place.loads(), [(EMBEDDED.to_owned(), true)]);
    assert!(place.keeper.instead().unwrap().message.contains("lost"));
    place.let_time_pass();
    place.keeper.wake();
    place.load();
    assert_eq!(place.model().as_deref(), Some("o/large"));
}

#[test]
fn what_was_set_to_little_memory_is_not_tried_again_by_itself() {
    let place = Place::of(Failing { fails: 1.into(), ..Failing::default() });
    place.load();
    assert_eq!(place.model().as_deref(), Some(EMBEDDED));
    assert_eq!(place.keeper.known().retry, None);
}

#[test]
fn what_is_let_go_of_comes_back_when_somebody_asks() {
    let place = Place::new(0);
    place.load();
    place.tokio.block_on(place.keeper.rest());
    assert_eq!((place.state(), place.model(), place.keeper.known().resting), (State::Ready, None, true));
    assert!(!place.is_to_reload());
    place.keeper.wake();
    assert_eq!((place.state(), place.is_to_reload()), (State::Loading, true));
    place.load();
    assert_eq!((place.state(), place.model().as_deref()), (State::Ready, Some("o/large")));
    assert!(!place.keeper.known().resting);
    // Nothing is let go of while somebody asks, or for ever.
    let minute = Unload::After(Duration::from_secs(60));
    let told = Told::new();
    let idle = |unload| place.is_idle(unload, &told);
    assert!(!idle(Unload::Never) && !idle(minute));
    place.keeper.known().used -= Duration::from_secs(61);
    assert!(!idle(Unload::Never) && idle(minute));
    place.keeper.wake();
    assert!(!idle(minute));
}

#[test]
fn a_large_model_that_nobody_asks_goes_where_power_or_memory_is_scarce() {
    let place = Place::new(0);
    place.load();
    let told = Told::new();
    let unless_set = Config::default().unload();
    let idle = || place.is_idle(unless_set, &told);
    place.keeper.known().used -= Duration::from_secs(3600);
    told.memory(16_000_000, 1_000_000);
    assert!(!idle(), "a small one on the processor stays");
    place.keeper.known().model.as_mut().unwrap().parameters = 4_190_000_000;
    assert!(idle());
    told.memory(16_000_000, 8_000_000);
    told.supply("AC", &[("type", "Mains"), ("online", "1")]);
    told.supply("BAT0", &[("type", "Battery"), ("status", "Charging")]);
    assert!(!idle(), "there is enough of everything");
    told.supply("AC", &[("online", "0")]);
    told.supply("BAT0", &[("status", "Discharging")]);
    assert!(idle());
    assert!(!place.is_idle(Unload::Never, &told), "who has set it decides");
    place.keeper.wake();
    assert!(!idle(), "somebody types");
}

#[test]
fn a_model_that_can_not_be_loaded_leaves_the_present_one() {
    let place = Place::new(0);
    place.load();
    let failed = place.tokio.block_on(place.keeper.use_model("nosuch", false)).unwrap_err();
    assert!(failed.message.contains("nosuch"), "{failed}");
    assert_eq!((place.state(), place.keeper.name().as_str()), (State::Ready, "o/large"));
    assert_eq!(place.model().as_deref(), Some("o/large"));
    assert!(place.keeper.known().loading.is_none(), "nothing is being loaded any more");
}
