//! Threads that share the work of a pass.
//!
//! A pass over the weights is some hundred pieces of work, one after the other, which take microseconds each; to wake a thread that sleeps
//! takes as long or longer. So between two of them a thread looks for the next one for a moment, letting others run that want to, and only
//! then sleeps: beside a busy compiler it is no burden, and while nothing is asked for there are no threads that run.
//!
//! Nobody has to take part. Work is cut into parts that are handed out one by one, and whoever gives the work does parts as well: it is
//! done when all parts are, even if the others sleep or their processors do something else. It waits only for parts that somebody
//! has begun.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread looks for more work before it sleeps: longer than the longest piece of work between two that are shared, and than it
/// takes to choose a token.
const PATIENCE: Duration = Duration::from_micros(200);
/// Looks between two at the clock, after each of which others may run.
const LOOKS: u32 = 50;
/// Who gives work and waits this long for parts that others have begun, and several times as long as it takes for one itself, takes their
/// processors to be busy with something else.
const STALL: Duration = Duration::from_millis(1);
const PARTS_OF_A_STALL: u32 = 4;
/// For so long it works alone then. To wait for others again and again would take longer.
const ALONE: Duration = Duration::from_millis(20);
/// Fewer numbers than this are sooner worked on than shared.
const LEAST: usize = 1 << 14;

/// The threads; none but the caller's own where there is nothing to share.
pub(crate) struct Team {
    crew: Option<Crew>,
}

struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held by who gives work. Another who comes meanwhile does its work alone. It says until when everybody does.
    giving: Mutex<Option<Instant>>,
}

/// What all threads see.
struct Shared {
    /// [`OPEN`], the number of this work (upper half), and how many threads are in it besides the one who gave it (lower half, but for its
    /// highest bit). Who is in may use `work`.
    gate: AtomicU64,
    work: UnsafeCell<Work>,
    /// The part that is handed out next.
    next: AtomicUsize,
    /// Threads that sleep, or are about to.
    asleep: AtomicUsize,
    ends: AtomicBool,
    /// What a part has panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Work {
    part: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

/// Set in [`Shared::gate`] while threads may enter.
const OPEN: u64 = 1 << 31;
/// A work's number counts up by this.
const NUMBER: u64 = 1 << 32;
/// How many threads are in.
const INSIDE: u64 = OPEN - 1;

#[allow(unsafe_code)]
// SAFETY: `work` is written only by who holds `giving`, while the gate is closed and nobody is inside, and read only by who is inside.
unsafe impl Sync for Shared {}
#[allow(unsafe_code)]
// SAFETY: likewise; what `work` points to may be used by any thread.
unsafe impl Send for Shared {}

impl Team {
    /// The caller's thread alone.
    pub(crate) fn alone() -> Self {
        Self { crew: None }
    }

    /// The caller's thread, whichever that is, and as many more as make `threads`.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        if threads < 2 {
            return Ok(Self::alone());
        }
        let nothing: &(dyn Fn(usize) + Sync) = &|_| ();
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            work: UnsafeCell::new(Work { part: nothing, parts: 0 }),
            next: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut crew = Crew { shared, threads: Vec::new(), giving: Mutex::new(None) };
        for number in 1..threads {
            let shared = Arc::clone(&crew.shared);
            // Those that were made end with the crew if this one can't be made.
            crew.threads.push(
                thread::Builder::new().name(format!("engine-{number}")).spawn(move || shared.work_on())?,
            );
        }
        Ok(Self { crew: Some(crew) })
    }

    /// How many threads share work.
    pub(crate) fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, |crew| crew.threads.len() + 1)
    }

    /// Calls `part` with each number below `parts` once, on any of the threads. Where one panics this does, when the others are done.
    pub(crate) fn share(&self, parts: usize, part: impl Fn(usize) + Sync) {
        let crew = self.crew.as_ref().filter(|_| parts > 1);
        let Some(crew) = crew else { return (0..parts).for_each(part) };
        let mut giving = match crew.giving.try_lock() {
            Ok(giving) => giving,
            // A part that panicked leaves nothing behind.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..parts).for_each(part),
        };
        if giving.is_some_and(|alone| Instant::now() < alone) {
            drop(giving);
            return (0..parts).for_each(part);
        }
        *giving = crew.share(parts, &part).then(|| Instant::now() + ALONE);
    }

    /// Calls `work` with each `length` items, the last ones may be fewer, and their number among these.
    pub(crate) fn chunks<T: Send>(
        &self,
        items: &mut [T],
        length: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = Chunks::new(items, length);
        self.share(chunks.count(), |i| {
            // SAFETY: each number comes once.
            #[allow(unsafe_code)]
            work(i, unsafe { chunks.get(i) });
        });
    }

    /// The same with as many of `others`, in chunks of `other_length`.
    pub(crate) fn pairs<T: Send, U: Send>(
        &self,
        (items, length): (&mut [T], usize),
        (others, other_length): (&mut [U], usize),
        work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let (chunks, others) = (Chunks::new(items, length), Chunks::new(others, other_length));
        self.share(chunks.count().min(others.count()), |i| {
            // SAFETY: each number comes once.
            #[allow(unsafe_code)]
            let (chunk, other) = unsafe { (chunks.get(i), others.get(i)) };
            work(i, chunk, other);
        });
    }

    /// How many of so many rows of `width` numbers each thread works on, between two products; `None` where one does so alone.
    pub(crate) fn rows_of_each(&self, rows: usize, width: usize) -> Option<usize> {
        let threads = self.threads();
        (threads > 1 && rows > 1 && rows * width >= LEAST).then(|| rows.div_ceil(threads))
    }

    /// Calls `work` with some rows of `width` items, and the number of the first one, until all had their turn. Rows that are made of few
    /// numbers, `numbers` each, are worked on at once.
    pub(crate) fn rows<T: Send>(
        &self,
        rows: &mut [T],
        (width, numbers): (usize, usize),
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match self.rows_of_each(rows.len() / width.max(1), numbers) {
            Some(part) => self.chunks(rows, part * width, |i, rows| work(i * part, rows)),
            None => work(0, rows),
        }
    }
}

/// Parts of a slice that do not overlap.
struct Chunks<T> {
    start: *mut T,
    items: usize,
    length: usize,
}

#[allow(unsafe_code)]
// SAFETY: it stands for a slice that was borrowed to be changed, whose items may go to other threads.
unsafe impl<T: Send> Sync for Chunks<T> {}

impl<T> Chunks<T> {
    fn new(items: &mut [T], length: usize) -> Self {
        Self { start: items.as_mut_ptr(), items: items.len(), length: length.max(1) }
    }

    fn count(&self) -> usize {
        self.items.div_ceil(self.length)
    }

    /// # Safety
    /// The slice is still borrowed, and nobody else has chunk number `i`, which there is.
    #[allow(unsafe_code, clippy::mut_from_ref, reason = "each caller has another chunk")]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let first = (i * self.length).min(self.items);
        let length = self.length.min(self.items - first);
        // SAFETY: it is a part of the slice, and that of no other number.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

impl Crew {
    /// Has all parts done. True where others were waited for too long.
    fn share(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) -> bool {
        let shared = &*self.shared;
        type Part<'a> = *const (dyn Fn(usize) + Sync + 'a);
        #[allow(unsafe_code)]
        // SAFETY: only the lifetime is another one. Nobody uses it after this function, which waits for all who are inside.
        let part = unsafe { std::mem::transmute::<Part<'_>, Part<'static>>(part) };
        let work = Work { part, parts };
        #[allow(unsafe_code)]
        // SAFETY: the gate is closed and nobody inside, as the last one who gave work has left it.
        unsafe {
            *shared.work.get() = work;
        }
        shared.next.store(0, Ordering::Relaxed);
        let number = shared.gate.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        shared.gate.store(number.wrapping_add(NUMBER) | OPEN, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            for helper in self.threads.iter().take(parts - 1) {
                helper.thread().unpark();
            }
        }
        let begun = Instant::now();
        let done = shared.do_parts(work);
        shared.gate.fetch_and(!OPEN, Ordering::SeqCst);
        let waits = Instant::now();
        let mut looks = 0;
        while shared.gate.load(Ordering::Acquire) & INSIDE > 0 {
            look_again(&mut looks);
        }
        let panicked = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panicked) = panicked {
            panic::resume_unwind(panicked);
        }
        let one = (waits - begun) / done.max(1);
        looks >= LOOKS && waits.elapsed() > STALL.max(PARTS_OF_A_STALL * one)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for helper in self.threads.drain(..) {
            helper.thread().unpark();
            // What it has panicked with was told to who gave the work.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// What a thread of the crew does until that ends.
    fn work_on(&self) {
        let mut last = 0;
        while !self.ends.load(Ordering::SeqCst) {
            match self.enter(last) {
                Some((number, work)) => {
                    last = number;
                    self.do_parts(work);
                    self.gate.fetch_sub(1, Ordering::Release);
                }
                None => self.wait(last),
            }
        }
    }

    /// Enters the work that is open, if it is another than number `last`.
    fn enter(&self, last: u64) -> Option<(u64, Work)> {
        let is_new = |gate: u64| gate & OPEN > 0 && gate & !(OPEN | INSIDE) != last;
        let entered = self
            .gate
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |gate| is_new(gate).then_some(gate + 1));
        entered.ok().map(|gate| {
            #[allow(unsafe_code)]
            // SAFETY: this thread is inside, so nobody writes.
            let work = unsafe { *self.work.get() };
            (gate & !(OPEN | INSIDE), work)
        })
    }

    /// Waits for other work than number `last`, patiently first and then asleep.
    fn wait(&self, last: u64) {
        let is_there = || {
            let gate = self.gate.load(Ordering::SeqCst);
            (gate & OPEN > 0 && gate & !(OPEN | INSIDE) != last) || self.ends.load(Ordering::SeqCst)
        };
        let started = Instant::now();
        let mut looks = 0;
        while !is_there() {
            look_again(&mut looks);
            if looks.is_multiple_of(LOOKS) && started.elapsed() >= PATIENCE {
                // Who gives work after this sees that somebody sleeps; work that was given before is seen here.
                self.asleep.fetch_add(1, Ordering::SeqCst);
                while !is_there() {
                    thread::park();
                }
                self.asleep.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Does parts until none is left, and tells how many.
    fn do_parts(&self, work: Work) -> u32 {
        #[allow(unsafe_code)]
        // SAFETY: who gave the work waits until this is done.
        let part = unsafe { &*work.part };
        let mut done = 0;
        let all = || {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= work.parts {
                    break;
                }
                part(i);
                done += 1;
            }
        };
        if let Err(panicked) = panic::catch_unwind(AssertUnwindSafe(all)) {
            self.next.fetch_max(work.parts, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panicked);
        }
        done
    }
}

/// Lets a moment pass; now and then others may run.
fn look_again(looks: &mut u32) {
    *looks += 1;
    if looks.is_multiple_of(LOOKS) {
        thread::yield_now();
    } else {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.threads(), threads);
            for round in 0..2000 {
                let parts = round % 7;
                let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                team.share(parts, |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{threads}, {round}");
            }
        }
    }

    fn until(is: impl Fn() -> bool) {
        let started = Instant::now();
        while !is() {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
    }

    /// Has two threads do a part each: one ends when the other has begun. On a busy machine the giver may have been kept waiting before.
    fn two_take_part(team: &Team) {
        let alone = *team.crew.as_ref().unwrap().giving.lock().unwrap_or_else(PoisonError::into_inner);
        until(|| alone.is_none_or(|alone| Instant::now() >= alone));
        let begun = AtomicUsize::new(0);
        team.share(2, |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            until(|| begun.load(Ordering::SeqCst) == 2);
        });
    }

    #[test]
    fn threads_that_sleep_are_woken() {
        let team = Team::new(2).unwrap();
        let shared = &team.crew.as_ref().unwrap().shared;
        for _ in 0..20 {
            until(|| shared.asleep.load(Ordering::SeqCst) == 1);
            two_take_part(&team);
        }
    }

    #[test]
    fn who_is_kept_waiting_works_alone_for_a_while() {
        let team = Team::new(2).unwrap();
        let caller = thread::current().id();
        // Whoever gives work may be interrupted as well, which is no reason to leave the others alone; so it is tried again.
        let alone = (0..1000).find_map(|_| {
            let (begun, started) = (AtomicUsize::new(0), Instant::now());
            // The other one's part takes long, as where its processor does something else.
            team.share(2, |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                until(|| begun.load(Ordering::SeqCst) == 2);
                if thread::current().id() != caller {
                    thread::sleep(2 * STALL + 2 * PARTS_OF_A_STALL * started.elapsed());
                }
            });
            *team.crew.as_ref().unwrap().giving.lock().unwrap()
        });
        assert!(alone.is_some(), "it was kept waiting");
        team.share(64, |_| assert!(Instant::now() >= alone.unwrap() || thread::current().id() == caller));
        two_take_part(&team);
    }

    #[test]
    fn slices_are_cut_into_chunks_and_rows() {
        let team = Team::new(3).unwrap();
        for count in [0, 1, 9, 10, 11, 4001] {
            let mut items = vec![0; count];
            team.chunks(&mut items, 10, |i, chunk| chunk.iter_mut().for_each(|item| *item += i + 1));
            assert!(items.iter().enumerate().all(|(i, item)| *item == i / 10 + 1), "{count}");
            let mut sums = vec![0; count.div_ceil(10)];
            team.pairs((&mut items, 10), (&mut sums, 1), |i, chunk, sum| {
                sum[0] = chunk.iter().sum::<usize>() + i;
            });
            assert!(sums.iter().enumerate().all(|(i, sum)| *sum == (i + 1) * items.iter().filter(|item| **item == i + 1).count() + i));
            let mut rows = vec![0; count * 7];
            team.rows(&mut rows, (7, 7), |first, rows| {
                for (i, row) in rows.chunks_exact_mut(7).enumerate() {
                    row.fill(first + i + 1);
                }
            });
            assert!((0..count * 7).all(|i| rows[i] == i / 7 + 1), "{count} rows");
        }
        assert_eq!(team.rows_of_each(1, 1 << 20), None, "a row is not cut");
        assert_eq!(team.rows_of_each(9, 1 << 12), Some(3));
        assert_eq!(Team::alone().rows_of_each(9, 1 << 12), None);
    }

    #[test]
    fn who_comes_while_others_work_works_alone() {
        let team = Team::new(2).unwrap();
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        team.share(3, |_| {
                            team.share(2, |_| {
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), 4 * 500 * 3 * 2);
    }

    #[test]
    fn a_panic_is_the_givers_and_the_team_goes_on() {
        let team = Team::new(2).unwrap();
        for round in 0..200 {
            let done = AtomicUsize::new(0);
            let shared = panic::catch_unwind(AssertUnwindSafe(|| {
                team.share(4, |i| {
                    assert!(i != round % 5, "part {i}");
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert_eq!(shared.is_err(), round % 5 < 4, "{round}");
            assert!(done.load(Ordering::Relaxed) <= 4);
            two_take_part(&team);
        }
    }
}
