//! Schedulers that began and ended between two looks: `enable_seq` grows by one for each that was enabled, so a number
//! that no life which was seen has is one that was not.

use std::ops::Range;

use super::epoch::Life;
use super::sysfs::Facts;
use crate::domain::scheduler::State;

/// Which numbers are accounted for.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The highest; none before the first look.
    accounted: Option<u64>,
}

impl Numbers {
    /// Takes in a life that ended, and corrects its number: one that was seen only once may have been seen with the number
    /// of the one before it.
    pub(super) fn ended(&mut self, mut life: Life) -> Life {
        if let Some(accounted) = &mut self.accounted {
            if *accounted == life.enable_seq && !life.is_settled() {
                life.enable_seq += 1;
            }
            *accounted = life.enable_seq.max(*accounted);
        }
        life
    }

    /// Takes in a look, after [`Self::ended`]: the numbers of lives that nobody saw since the last one.
    pub(super) fn unseen(&mut self, facts: &Facts, life: Option<&Life>) -> Range<u64> {
        let (end, now) = match (life, &facts.state, facts.enable_seq) {
            (Some(life), _, Some(_)) if life.is_settled() => (life.enable_seq, life.enable_seq),
            (None, State::Disabled, Some(seq)) => (seq.saturating_add(1), seq),
            // In between, or on a kernel that does not count: the next look will tell.
            _ => return 0..0,
        };
        let before = self.accounted.replace(now).unwrap_or(now);
        before.saturating_add(1)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::scheduler::epoch::{Change, Epochs};
    use crate::sources::scheduler::sysfs::ops_name;

    /// `enable_seq` and whether it runs, at each look; what ended with which number, and what was not seen.
    fn lives(looks: &[(u64, bool)]) -> (Vec<u64>, Vec<u64>) {
        let (mut epochs, mut numbers) = (Epochs::default(), Numbers::default());
        let (mut ended, mut unseen) = (Vec::new(), Vec::new());
        for &(seq, runs) in looks {
            let (state, ops) =
                if runs { (State::Enabled, Some(ops_name("a"))) } else { (State::Disabled, None) };
            let facts = Facts { state, enable_seq: Some(seq), ops, ..Facts::default() };
            match epochs.observe(&facts) {
                Change::Ended(life) | Change::Replaced(life) => ended.push(numbers.ended(life).enable_seq),
                Change::Doubtful => epochs.adopt(&facts),
                Change::Same | Change::Began => {}
            }
            unseen.extend(numbers.unseen(&facts, epochs.life()));
        }
        (ended, unseen)
    }

    #[test]
    fn numbers_without_a_life_are_lives_that_nobody_saw() {
        let (on, off) = (true, false);
        assert_eq!(lives(&[(3, off), (3, off)]), (vec![], vec![]), "the past is not news");
        assert_eq!(lives(&[(3, off), (5, off)]), (vec![], vec![4, 5]));
        assert_eq!(lives(&[(3, off), (4, on), (4, on), (4, off)]), (vec![4], vec![]), "control: it was seen");
        assert_eq!(lives(&[(4, on), (4, on), (7, on), (7, on), (7, off)]), (vec![4, 7], vec![5, 6]));
        assert_eq!(lives(&[(4, on), (4, on), (6, off)]), (vec![4], vec![5, 6]));
    }

    #[test]
    fn one_that_was_seen_with_the_number_before_it_is_not_two() {
        let (on, off) = (true, false);
        assert_eq!(lives(&[(3, off), (3, on), (4, off)]), (vec![4], vec![]));
        assert_eq!(lives(&[(3, off), (3, on), (4, on), (4, on), (4, off)]), (vec![4], vec![]));
        assert_eq!(lives(&[(3, off), (4, on), (4, off)]), (vec![4], vec![]));
    }
}
