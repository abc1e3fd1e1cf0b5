//! A range in windows from its end back, each wider than the one after it: what was there lately is found in the first.

use crate::domain::series::Range;

/// See the module.
#[derive(Debug)]
pub(super) struct Back {
    left: Range,
    width_ms: i64,
    widest_ms: i64,
}

impl Back {
    /// The first window has this width, each next one twice the one before, up to the widest.
    pub(super) const fn new(range: Range, first_ms: i64, widest_ms: i64) -> Self {
        Self { left: range, width_ms: if first_ms < widest_ms { first_ms } else { widest_ms }, widest_ms }
    }
}

impl Iterator for Back {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let Range { from_ms, to_ms } = self.left;
        if from_ms > to_ms {
            return None;
        }
        let window = Range { from_ms: to_ms.saturating_sub(self.width_ms - 1).max(from_ms), to_ms };
        self.left.to_ms = window.from_ms.saturating_sub(1);
        self.width_ms = self.width_ms.saturating_mul(2).min(self.widest_ms);
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_range_from_its_end() {
        let range = |from_ms, to_ms| Range { from_ms, to_ms };
        let windows: Vec<_> = Back::new(range(5, 30), 2, 8).collect();
        assert_eq!(windows, [range(29, 30), range(25, 28), range(17, 24), range(9, 16), range(5, 8)]);
        assert_eq!(Back::new(range(5, 5), 100, 8).collect::<Vec<_>>(), [range(5, 5)]);
        assert_eq!(Back::new(range(5, 4), 1, 8).next(), None);
    }
}
