//! Rows of numbers, in memory that is used again.
//!
//! A pass makes about two hundred of them, which live for a moment each. Where the allocator was asked for every one it took more
//! time than norms and activations together.

use std::cell::RefCell;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// So many vectors are kept by each thread, and between passes no more numbers in all of them: 4 MB. What a pass over more rows needs
/// is used again within it, and given back when it is over. Given back in the middle, it went to the system, which cleared new memory
/// page by page: a third of the time of a prompt of 256.
const SPARES: usize = 16;
const MOST: usize = 1 << 20;

/// So many numbers, to be overwritten: what they are is left over from others. Memory of as many numbers is taken rather than more, and
/// more rather than less, since what is added to a vector is written first.
pub(super) fn room(numbers: usize) -> Vec<f32> {
    let fit = |values: &Vec<f32>| match values.len() {
        length if length >= numbers => (0, length),
        length => (1, usize::MAX - length),
    };
    let mut values = SPARE.with_borrow_mut(|spare| {
        let best = spare.iter().enumerate().min_by_key(|(_, values)| fit(values)).map(|(best, _)| best);
        best.map(|best| spare.swap_remove(best)).unwrap_or_default()
    });
    if values.capacity() < numbers {
        // What is in the old one need not be copied.
        values = Vec::with_capacity(numbers);
    }
    values.resize(numbers, 0.0);
    values
}

/// Gives memory back that [`room`] may hand out again.
pub(super) fn give_back(values: Vec<f32>) {
    if values.capacity() > 0 {
        // Where the thread ends, so does what it keeps.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(values);
            }
        });
    }
}

/// Frees what a pass over many rows needed, at its end.
pub(super) fn forget_large() {
    SPARE.with_borrow_mut(|spare| {
        let mut left = MOST;
        spare.retain(|values| {
            let fits = values.capacity() <= left;
            left -= if fits { values.capacity() } else { 0 };
            fits
        });
    });
}

/// Rows of equal width.
pub(crate) struct Rows {
    pub(super) values: Vec<f32>,
    pub(super) count: usize,
}

impl Rows {
    pub(super) fn width(&self) -> usize {
        self.values.len() / self.count
    }

    /// Takes the numbers out.
    pub(super) fn into_values(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_much_of_it_within_a_pass_only() {
        let taken = std::iter::from_fn(|| SPARE.with_borrow_mut(Vec::pop));
        assert_eq!(taken.count(), 0, "a test has a thread of its own");
        drop(Rows { values: vec![1.0; 100], count: 4 });
        drop(Rows { values: vec![1.0; MOST], count: 1 });
        drop(Rows { values: Vec::new(), count: 0 });
        assert_eq!(SPARE.with_borrow(Vec::len), 2);
        let large = room(MOST);
        assert_eq!(SPARE.with_borrow(Vec::len), 1, "within a pass all is used again");
        give_back(large);
        forget_large();
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
        let rows = Rows { values: room(120), count: 2 };
        assert_eq!((rows.values.len(), rows.width(), SPARE.with_borrow(Vec::len)), (120, 60, 0));
        assert_eq!(rows.into_values().len(), 120);
        for _ in 0..2 * SPARES {
            give_back(vec![0.0; 10]);
        }
        assert_eq!(SPARE.with_borrow(Vec::len), SPARES);
        assert_eq!(room(5).len(), 5);
        while SPARE.with_borrow_mut(Vec::pop).is_some() {}
        for length in [7, 300, 40, 41] {
            give_back(vec![1.0; length]);
        }
        assert_eq!(room(40), [1.0; 40], "the nearest");
        assert_eq!(room(40), [1.0; 40], "of those that are left");
        assert_eq!(room(9)[..9], [1.0; 9], "rather more than less");
        assert_eq!(room(301).len(), 301);
    }
}
