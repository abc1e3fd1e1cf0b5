//! The series of one day in memory: by labels, by number, by each label's value.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::conditions::Conditions;
use crate::domain::series::{Labels, NAME};
use crate::series::{OURSELVES, Refused};

/// A series.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) labels: Arc<Labels>,
    /// Who brought it first.
    pub(super) source: Arc<str>,
    /// Its last sample's time, ms since the epoch.
    pub(super) last_ms: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    numbers: HashMap<Arc<Labels>, u32>,
    values: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
    of_source: HashMap<Arc<str>, usize>,
}

/// How many series there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) of_source: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    /// The number of a series; a new one has the next.
    pub(super) fn number(&mut self, labels: Labels, source: &str, limits: Limits) -> Result<u32, Refused> {
        if let Some(number) = self.numbers.get(&labels) {
            return Ok(*number);
        }
        let number = u32::try_from(self.entries.len()).map_err(|_| Refused::SeriesLimit)?;
        if self.entries.len() >= limits.all {
            return Err(Refused::SeriesLimit);
        }
        let of_source = self.of_source.get(source).copied().unwrap_or(0);
        if source != OURSELVES && of_source >= limits.of_source {
            return Err(Refused::SourceSeriesLimit);
        }
        self.add(number, labels, source);
        Ok(number)
    }

    /// The series that was stored under the next number.
    pub(super) fn restore(&mut self, labels: Labels, source: &str, last_ms: i64) {
        if let Ok(number) = u32::try_from(self.entries.len()) {
            self.add(number, labels, source);
            self.seen(number, last_ms);
        }
    }

    /// There is a sample of this time.
    pub(super) fn seen(&mut self, number: u32, at_ms: i64) {
        if let Some(entry) = usize::try_from(number).ok().and_then(|number| self.entries.get_mut(number)) {
            entry.last_ms = entry.last_ms.max(at_ms);
        }
    }

    fn add(&mut self, number: u32, labels: Labels, source: &str) {
        let (source, count) = match self.of_source.get_key_value(source) {
            Some((known, count)) => (Arc::clone(known), count + 1),
            None => (Arc::from(source), 1),
        };
        self.of_source.insert(Arc::clone(&source), count);
        let labels = Arc::new(labels);
        for (name, value) in labels.iter() {
            if !self.values.contains_key(name) {
                self.values.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.values.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(numbers) => numbers.push(number),
                None => drop(values.insert(value.into(), vec![number])),
            }
        }
        self.numbers.insert(Arc::clone(&labels), number);
        self.entries.push(Entry { labels, source, last_ms: i64::MIN });
    }

    /// Numbers of the series that fulfil all conditions, ascending.
    pub(super) fn select(&self, conditions: &Conditions) -> Vec<u32> {
        let of_value = |(label, value): &(String, String)| {
            self.values.get(label.as_str()).and_then(|values| values.get(value.as_str()))
        };
        let fits = |number: &u32| self.get(*number).is_some_and(|entry| conditions.fit(&entry.labels));
        let mut fewest: Option<&[u32]> = None;
        for equal in conditions.equal() {
            match of_value(equal) {
                None => return Vec::new(),
                Some(some) => {
                    if fewest.is_none_or(|fewest| some.len() < fewest.len()) {
                        fewest = Some(some);
                    }
                }
            }
        }
        if let Some(numbers) = fewest {
            return numbers.iter().copied().filter(fits).collect();
        }
        // Among all series a condition is asked once for each value, not for each series.
        let mut fit = vec![true; self.entries.len()];
        for (label, test) in conditions.others() {
            let column = self.column(label);
            let fits: Vec<_> = column.values.iter().map(|value| test.fits(value)).collect();
            for (fit, value) in fit.iter_mut().zip(&column.of_series) {
                *fit &= fits.get(*value).is_some_and(|fits| *fits);
            }
        }
        (0_u32..).zip(fit).filter_map(|(number, fit)| fit.then_some(number)).collect()
    }

    /// Of each series, what it has for a label; read from the values' lists, since labels of a hundred thousand series are all
    /// over the memory.
    fn column(&self, label: &str) -> Column<'_> {
        let mut column = Column { values: vec![""], of_series: vec![0; self.entries.len()] };
        for (value, numbers) in self.values.get(label).into_iter().flatten() {
            for number in numbers {
                let place = usize::try_from(*number).ok().and_then(|number| column.of_series.get_mut(number));
                if let Some(place) = place {
                    *place = column.values.len();
                }
            }
            column.values.push(value);
        }
        column
    }

    /// Of the series that fulfil all conditions and share the values of some labels, the one that was seen last; of several,
    /// the first by metric and labels. In any order.
    pub(super) fn newest(&self, conditions: &Conditions, by: &[String]) -> Vec<&Entry> {
        let numbers = self.select(conditions);
        let mut groups = vec![0; numbers.len()];
        let mut count = 1;
        for label in by {
            let column = self.column(label);
            let mut known = HashMap::new();
            for (group, number) in groups.iter_mut().zip(&numbers) {
                let next = known.len();
                *group = *known.entry((*group, column.of(*number))).or_insert(next);
            }
            count = known.len();
        }
        let metrics = self.column(NAME);
        let mut newest: Vec<Option<(u32, &Entry)>> = vec![None; count];
        for (group, number) in groups.into_iter().zip(numbers) {
            let (Some(entry), Some(newest)) = (self.get(number), newest.get_mut(group)) else { continue };
            let key = |number, entry: &Entry| (entry.last_ms, Reverse(metrics.of(number)));
            let is_newer = newest.is_none_or(|(old, known)| {
                let (one, other) = (key(number, entry), key(old, known));
                // Most differ before their labels do.
                one > other || one == other && entry.labels < known.labels
            });
            if is_newer {
                *newest = Some((number, entry));
            }
        }
        newest.into_iter().flatten().map(|(_, entry)| entry).collect()
    }

    /// Names of labels.
    pub(super) fn label_names(&self) -> BTreeSet<String> {
        self.values.keys().map(ToString::to_string).collect()
    }

    /// The values of a label among these series, or among all.
    pub(super) fn label_values(&self, name: &str, conditions: &Conditions) -> BTreeSet<String> {
        if conditions.is_empty() {
            let values = self.values.get(name).into_iter().flatten();
            return values.map(|(value, _)| value.to_string()).collect();
        }
        let series = self.select(conditions).into_iter().filter_map(|number| self.get(number));
        series.filter_map(|entry| entry.labels.get(name)).map(str::to_owned).collect()
    }
}

/// One label of all series.
struct Column<'a> {
    /// The label's values, ascending; the first stands for those that have none.
    values: Vec<&'a str>,
    /// By series, which of the values it has.
    of_series: Vec<usize>,
}

impl Column<'_> {
    /// The place of a series' value among the values: of two series, the less has the less value.
    fn of(&self, number: u32) -> usize {
        usize::try_from(number).ok().and_then(|number| self.of_series.get(number)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::series::{Operator, Selection};
    use crate::series::{Found, newest_of};

    const LIMITS: Limits = Limits { all: 1_000, of_source: 100 };

    fn labels(a: u8, b: u8) -> Labels {
        let value = |n: u8| if n == 0 { String::new() } else { format!("v{n}") };
        // Not in the order of the labels.
        let metric = if a == b { "m" } else { "n" };
        Labels::new(metric, [("a", value(a)), ("b", value(b))]).unwrap()
    }

    fn index(pairs: &[(u8, u8)]) -> Index {
        let mut index = Index::default();
        for (a, b) in pairs {
            index.number(labels(*a, *b), "s", LIMITS).unwrap();
        }
        index
    }

    fn found(entry: &Entry) -> Found {
        Found { labels: Arc::clone(&entry.labels), last_ms: entry.last_ms }
    }

    proptest! {
        /// Against asking each series.
        #[test]
        fn the_right_series_are_selected(pairs in prop::collection::vec((0..4_u8, 0..4_u8), 0..30),
            conditions in prop::collection::vec((0..2_usize, 0..4_usize, 0..5_u8), 0..4),
            times in prop::collection::vec(0..3_i64, 30)) {
            let mut selection = Selection::default();
            for (label, operator, value) in conditions {
                let operator = [Operator::Equal, Operator::NotEqual, Operator::Fits, Operator::FitsNot][operator];
                let value = match (operator, value) {
                    (_, 0) => String::new(),
                    (Operator::Fits | Operator::FitsNot, n) => format!("v[1{n}]|"),
                    (_, n) => format!("v{n}"),
                };
                selection = selection.and(["a", "b"][label], operator, &value);
            }
            let conditions = Conditions::of(&selection).unwrap();
            let mut index = index(&pairs);
            let all = 0..u32::try_from(index.len()).unwrap();
            let expected: Vec<_> = all.filter(|n| conditions.fit(&index.get(*n).unwrap().labels)).collect();
            prop_assert_eq!(&index.select(&conditions), &expected);
            let values: BTreeSet<_> = expected.iter().filter_map(|n| index.get(*n).unwrap().labels.get("a"))
                .map(str::to_owned).collect();
            prop_assert_eq!(index.label_values("a", &conditions), values);
            for (n, last_ms) in (0..).zip(times) {
                index.seen(n, last_ms);
            }
            for by in [vec![], vec!["a"], vec!["a", "b"], vec!["missing", "b"]] {
                let by: Vec<_> = by.into_iter().map(str::to_owned).collect();
                let mut newest: Vec<_> = index.newest(&conditions, &by).into_iter().map(found).collect();
                let fitting: Vec<_> = expected.iter().map(|n| found(index.get(*n).unwrap())).collect();
                let mut naive = newest_of(
                    &fitting,
                    &by.iter().map(String::as_str).collect::<Vec<_>>(),
                );
                newest.sort_by(|one, other| one.labels.cmp(&other.labels));
                naive.sort_by(|one, other| one.labels.cmp(&other.labels));
                prop_assert_eq!(newest, naive);
            }
            let distinct: BTreeSet<_> = pairs.iter().collect();
            prop_assert_eq!(index.len(), distinct.len());
        }
    }

    #[test]
    fn limits_hold_and_a_known_series_passes_them() {
        let limits = Limits { all: 3, of_source: 2 };
        let mut index = Index::default();
        assert_eq!(index.number(labels(1, 1), "one", limits), Ok(0));
        assert_eq!(index.number(labels(1, 2), "one", limits), Ok(1));
        assert_eq!(index.number(labels(1, 3), "one", limits), Err(Refused::SourceSeriesLimit));
        assert_eq!(index.number(labels(1, 2), "one", limits), Ok(1));
        assert_eq!(index.number(labels(1, 3), "two", limits), Ok(2));
        assert_eq!(index.number(labels(2, 3), "two", limits), Err(Refused::SeriesLimit));
        let mut index = Index::default();
        for n in 0..3 {
            assert_eq!(index.number(labels(1, n), OURSELVES, limits), Ok(n.into()));
        }
        assert_eq!(index.number(labels(1, 4), OURSELVES, limits), Err(Refused::SeriesLimit));
    }
}
