//! How far a model is, for people who wait for it.

use std::{sync::mpsc, thread, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Steps of the bar.
const STEPS: f32 = 1000.0;

/// Does some work, and shows meanwhile how large a part of it is done, from 0 to 1; nothing where standard error is no
/// terminal.
pub fn watch<T>(what: &str, share: impl Fn() -> Option<f32> + Send, work: impl FnOnce() -> T) -> T {
    let bar = ProgressBar::new(STEPS as u64);
    if bar.is_hidden() {
        return work();
    }
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} %") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let bar = bar.clone();
        scope.spawn(move || {
            // The other end hangs up when the work is done.
            while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Some(share) = share() {
                    bar.set_position((share * STEPS) as u64);
                }
            }
            bar.finish_and_clear();
        });
        let worked = work();
        drop(done);
        worked
    })
}
