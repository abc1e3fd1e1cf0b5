//! A range in slices whose answers are small enough.

use crate::domain::series::Range;

/// The first slice: an hour of a thousand series at one sample a second is as much as is read at once.
const FIRST_MS: i64 = 3_600_000;

/// The widest: a range of decades without samples costs some tens of questions.
const WIDEST_MS: i64 = 366 * 86_400_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Slices {
    from_ms: i64,
    to_ms: i64,
    width_ms: i64,
}

impl Slices {
    pub(super) const fn of(range: Range) -> Self {
        Self { from_ms: range.from_ms, to_ms: range.to_ms, width_ms: FIRST_MS }
    }

    /// The slice to read now; none behind the last.
    pub(super) fn slice(&self) -> Option<Range> {
        if self.from_ms > self.to_ms {
            return None;
        }
        let to_ms = self.from_ms.saturating_add(self.width_ms - 1).min(self.to_ms);
        Some(Range { from_ms: self.from_ms, to_ms })
    }

    /// It could be shorter.
    pub(super) const fn can_shrink(&self) -> bool {
        self.width_ms > 1 && self.from_ms < self.to_ms
    }

    /// Its answer is too long.
    pub(super) fn shrink(&mut self) {
        let width_ms = self.width_ms.min(self.to_ms.saturating_sub(self.from_ms).saturating_add(1));
        self.width_ms = (width_ms / 2).max(1);
    }

    /// Its answer was of this size, of so much at most.
    pub(super) fn was_read(&mut self, size_bytes: usize, limit_bytes: usize) {
        self.from_ms = self.from_ms.saturating_add(self.width_ms);
        // Twice as wide it should be half of the limit at most, so that denser times fit too.
        if size_bytes < limit_bytes / 4 {
            self.width_ms = self.width_ms.saturating_mul(2).min(WIDEST_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the answers are, slices meet and cover the range.
        #[test]
        fn slices_cover_the_range(from_ms in 0..1_000_i64, length_ms in 0..100_000_000_i64, answers in prop::collection::vec(0..3_u8, 0..60)) {
            let range = Range { from_ms, to_ms: from_ms + length_ms };
            let mut slices = Slices::of(range);
            let (mut next_ms, mut answers) = (from_ms, answers.into_iter());
            while let Some(slice) = slices.slice() {
                prop_assert!(slice.from_ms == next_ms && slice.from_ms <= slice.to_ms && slice.to_ms <= range.to_ms);
                match answers.next() {
                    Some(0) if slices.can_shrink() => {
                        slices.shrink();
                        prop_assert!(slices.slice().unwrap().to_ms < slice.to_ms);
                        continue;
                    }
                    Some(1) => slices.was_read(100, 100),
                    _ => slices.was_read(0, 100),
                }
                next_ms = slice.to_ms + 1;
            }
            prop_assert_eq!(next_ms, range.to_ms + 1);
        }
    }

    #[test]
    fn an_empty_range_has_none_and_decades_few() {
        assert_eq!(Slices::of(Range { from_ms: 5, to_ms: 4 }).slice(), None);
        let mut slices = Slices::of(Range { from_ms: 0, to_ms: 1_800_000_000_000 });
        let questions = std::iter::from_fn(|| slices.slice().inspect(|_| slices.was_read(0, 100))).count();
        assert!(questions < 100, "{questions}");
    }
}
