//! A limit on what the fleet's view keeps of one sort, over all nodes.

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
}
