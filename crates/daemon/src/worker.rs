//! The one thread that owns the model.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use nemoterm_engine::{EngineError, Generator};

use crate::{
    complete,
    failure::Failure,
    http::{error::ApiError, writer::Writer},
    scheduler::{Generated, Job, Scheduler, Task},
};

/// What the worker tells the rest of the daemon.
pub trait Observer: Send + 'static {
    /// A model is in use from now on.
    fn installed(&self, name: &str, generator: &Generator);
    /// The model panicked and is gone.
    fn lost(&self);
    /// The accelerator failed under the model, which is gone with it.
    fn device_failed(&self, failure: Failure);
    /// The model was let go of.
    fn released(&self);
    /// A job was given up because nobody waits for it.
    fn cancelled(&self);
}

/// Works until the scheduler says to quit.
pub fn run(scheduler: &Arc<Scheduler>, observer: &impl Observer) {
    let mut model: Option<(String, Box<Generator>)> = None;
    let mut writer = Writer::default();
    loop {
        match scheduler.next(writer.len()) {
            Task::Quit => return,
            Task::Install { name, generator, installed } => {
                writer.fail(&ApiError::unavailable("another model took over"));
                observer.installed(&name, &generator);
                model = Some((name, generator));
                // Whoever asked may be gone; the model is installed all the same.
                let _ = installed.send(());
                trim();
            }
            Task::Generate(job) => {
                let Some((name, generator)) = &mut model else {
                    let _ = job.reply.send(Err(gone()));
                    continue;
                };
                match catch_unwind(AssertUnwindSafe(|| generate(generator, name, &job))) {
                    Ok(Err(Failed { failure, of_device: true })) => {
                        model = None;
                        writer.fail(&failure.clone().into());
                        observer.device_failed(failure.clone());
                        let _ = job.reply.send(Err(failure));
                    }
                    Ok(_) if job.reply.is_closed() => observer.cancelled(),
                    // The receiver may have gone away just now.
                    Ok(answer) => drop(job.reply.send(answer.map_err(|failed| failed.failure))),
                    Err(_) => {
                        // What the panic left in the cache is unknown, so the generator goes with it.
                        model = None;
                        writer.fail(&gone().into());
                        observer.lost();
                        let _ = job.reply.send(Err(gone()));
                    }
                }
            }
            Task::Release { released } => {
                model = None;
                observer.released();
                trim();
                // Whoever asked may be gone.
                let _ = released.send(());
            }
            Task::Begin(text) => writer.begin(text),
            Task::Write => {
                let Some((_, generator)) = &mut model else {
                    writer.fail(&gone().into());
                    continue;
                };
                let step = || writer.step(generator).map_err(|error| Failed::new(&error, generator));
                match catch_unwind(AssertUnwindSafe(step)) {
                    Ok(Err(Failed { failure, of_device: true })) => {
                        model = None;
                        observer.device_failed(failure);
                    }
                    // The programs were told of others.
                    Ok(_) => {}
                    Err(_) => {
                        model = None;
                        writer.fail(&gone().into());
                        observer.lost();
                    }
                }
            }
        }
    }
}

/// Gives the system the memory that a model has left. By itself glibc's allocator keeps what lies between pieces that are in use,
/// and a daemon whose models are switched grows by it.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "it is no part of the standard library")]
    // SAFETY: it takes no pointer, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn gone() -> Failure {
    Failure::new("the model failed on this line", "nemoterm daemon logs tells more")
}

/// Why there is no text.
struct Failed {
    failure: Failure,
    /// Whether it is the accelerator that failed.
    of_device: bool,
}

impl Failed {
    fn new(error: &EngineError, generator: &Generator) -> Self {
        let on_device = generator.model().info().device != "cpu";
        Self {
            failure: Failure::new(error.to_string(), "nemoterm daemon logs tells more"),
            of_device: on_device && matches!(error, EngineError::Tensor(_)),
        }
    }
}

fn generate(generator: &mut Generator, name: &str, job: &Job) -> Result<Generated, Failed> {
    let queue = job.arrived.elapsed();
    let mut on_token = |_: &nemoterm_engine::Step<'_>| {
        let late = job.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || job.reply.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match complete::generate(generator, &job.generate, &mut on_token) {
        Ok(written) => Ok(Generated { written, model: name.to_owned(), queue }),
        Err(error) => {
            tracing::warn!(%error, "generation failed");
            Err(Failed::new(&error, generator))
        }
    }
}
