//! Rows of activations as stripes are multiplied with them.

use std::cell::RefCell;

use super::GROUP;
use crate::kernels::math;
use crate::team::Team;

/// Groups whose memory is kept: those of a few rows.
const MOST_KEPT: usize = 1 << 9;

thread_local! {
    /// Memory of activations that were multiplied.
    static PACKED: RefCell<Vec<Group>> = const { RefCell::new(Vec::new()) };
}

/// 32 activations in signed 8 bits: element = `scale * value`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Group {
    /// Fours of them, the first one in the lowest bits.
    pub(in crate::kernels) quads: [i32; GROUP / 4],
    pub(in crate::kernels) scale: f32,
    /// Sum of the elements, for formats with an offset.
    pub(in crate::kernels) sum: f32,
    /// What 128 added to each weight adds too much to the sum of products of values, less than nothing.
    pub(in crate::kernels) bias: i32,
    /// The same of the first half of the group alone.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "signed weights need none"))]
    pub(in crate::kernels) first_bias: i32,
}

const NONE: Group = Group { quads: [0; GROUP / 4], scale: 0.0, sum: 0.0, bias: 0, first_bias: 0 };

/// Rows of groups, one after the other.
pub(crate) struct Activations {
    groups: Vec<Group>,
    /// Groups in a row.
    width: usize,
}

impl Activations {
    /// Quantises rows of `width` numbers, a multiple of [`GROUP`].
    pub(crate) fn new(rows: &[f32], width: usize, team: &Team) -> Self {
        let numbers = rows.as_chunks().0;
        let mut groups = PACKED.take();
        groups.resize(numbers.len(), NONE);
        let groups_of_row = width / GROUP;
        team.rows(&mut groups, (groups_of_row, width), |first, groups| {
            math::quantise_groups(&numbers[first * groups_of_row..][..groups.len()], groups);
        });
        Self { groups, width: groups_of_row }
    }

    /// How many groups a row has.
    pub(in crate::kernels) fn groups(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub(in crate::kernels) fn count(&self) -> usize {
        self.groups.len() / self.width
    }

    /// `X` rows from number `first` on, which there have to be.
    pub(in crate::kernels) fn rows<const X: usize>(&self, first: usize) -> [&[Group]; X] {
        let rows = &self.groups[first * self.width..(first + X) * self.width];
        std::array::from_fn(|x| &rows[x * self.width..(x + 1) * self.width])
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        if self.groups.len() <= MOST_KEPT {
            // Where the thread ends, so does what it keeps.
            let _ = PACKED.try_with(|packed| packed.replace(std::mem::take(&mut self.groups)));
        }
    }
}
