//! A limit on what the fleet's view keeps of one sort, over all nodes.

use std::sync::Arc;

/// So much is kept, of so much.
#[derive(Debug)]
pub(super) struct Budget {
    used_bytes: usize,
    limit_bytes: usize,
}

impl Budget {
    pub(super) const fn new(limit_bytes: usize) -> Self {
        Self { used_bytes: 0, limit_bytes }
    }

    /// Room for `size_bytes`, if there is; to be given back with [`Budget::release`].
    #[must_use]
    pub(super) const fn take(&mut self, size_bytes: usize) -> bool {
        let fits = size_bytes <= self.limit_bytes - self.used_bytes;
        if fits {
            self.used_bytes += size_bytes;
        }
        fits
    }

    pub(super) const fn release(&mut self, size_bytes: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(size_bytes);
    }
}

/// The latest value of a sort of one node, if it found room.
#[derive(Debug)]
pub(super) struct Latest<T> {
    value: Option<Arc<T>>,
    size_bytes: usize,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { value: None, size_bytes: 0 }
    }
}

impl<T> Latest<T> {
    /// A newer one of so many bytes; false, and nothing is kept, if the budget has no room.
    pub(super) fn replace(&mut self, value: T, size_bytes: usize, budget: &mut Budget) -> bool {
        budget.release(self.size_bytes);
        let fits = budget.take(size_bytes);
        self.size_bytes = if fits { size_bytes } else { 0 };
        self.value = fits.then(|| Arc::new(value));
        fits
    }

    pub(super) const fn get(&self) -> Option<&Arc<T>> {
        self.value.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let mut budget = Budget::new(10);
        assert!(budget.take(10) && !budget.take(1) && budget.take(0));
        budget.release(4);
        assert!(!budget.take(5) && budget.take(4));
        budget.release(usize::MAX);
        assert!(budget.take(10) && !budget.take(usize::MAX));
    }

    #[test]
    fn a_value_that_finds_no_room_leaves_the_place_empty_and_gives_its_room_back() {
        let mut budget = Budget::new(10);
        let (mut a, mut b) = (Latest::default(), Latest::default());
        assert!(a.replace('a', 6, &mut budget) && !b.replace('b', 5, &mut budget));
        assert_eq!((a.get().map(|a| **a), b.get()), (Some('a'), None));
        assert!(!a.replace('c', 11, &mut budget) && b.replace('d', 10, &mut budget));
        assert_eq!((a.get(), b.get().map(|b| **b)), (None, Some('d')));
    }
}
