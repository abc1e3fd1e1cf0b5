//! The series of one day in memory: by labels, by number, by each label's value.
//!
//! A hundred thousand series share most of their labels' names and values. Each text is here once, and a series is pairs of
//! numbers of texts: a quarter of what its labels are elsewhere.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;

use super::conditions::Conditions;
use super::symbols::{Symbol, Symbols};
use crate::domain::series::{Labels, NAME};
use crate::series::{OURSELVES, Refused};

/// A series.
#[derive(Debug)]
struct Entry {
    /// Its labels in their order.
    labels: Box<[(Symbol, Symbol)]>,
    hash: u64,
    source: u32,
    last_ms: i64,
}

/// Who brought series first.
#[derive(Debug)]
struct Source {
    name: Arc<str>,
    series: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// By labels.
    numbers: HashTable<u32>,
    hasher: RandomState,
    symbols: Symbols,
    values: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
    sources: Vec<Source>,
    of_source: HashMap<Arc<str>, u32>,
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

    fn get(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    /// Which series this is.
    pub(super) fn labels(&self, number: u32) -> Option<Labels> {
        let labels = &self.get(number)?.labels;
        // Collected through an option, they would be moved several times: it has no length.
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            pairs.push((self.symbols.shared(*name)?, self.symbols.shared(*value)?));
        }
        Some(Labels::from_ordered(pairs.into()))
    }

    /// Who brought it first.
    pub(super) fn source(&self, number: u32) -> Option<&str> {
        let source = usize::try_from(self.get(number)?.source).ok()?;
        self.sources.get(source).map(|source| &*source.name)
    }

    /// When its last sample is, ms since the epoch.
    pub(super) fn last_ms(&self, number: u32) -> Option<i64> {
        self.get(number).map(|entry| entry.last_ms)
    }

    /// The number of a series; a new one has the next.
    pub(super) fn number(&mut self, labels: &Labels, source: &str, limits: Limits) -> Result<u32, Refused> {
        let hash = self.hasher.hash_one(labels);
        let known = self.numbers.find(hash, |number| self.is(*number, labels));
        if let Some(number) = known {
            return Ok(*number);
        }
        let number = u32::try_from(self.entries.len()).map_err(|_| Refused::SeriesLimit)?;
        if self.entries.len() >= limits.all {
            return Err(Refused::SeriesLimit);
        }
        let source = self.source_number(source);
        let of_source = self.sources.get(source).map_or(0, |source| source.series);
        if self.sources.get(source).is_some_and(|source| &*source.name != OURSELVES)
            && of_source >= limits.of_source
        {
            return Err(Refused::SourceSeriesLimit);
        }
        self.add(number, hash, labels, source);
        Ok(number)
    }

    /// The series that was stored under the next number.
    pub(super) fn restore(&mut self, labels: &Labels, source: &str, last_ms: i64) {
        if let Ok(number) = u32::try_from(self.entries.len()) {
            let (hash, source) = (self.hasher.hash_one(labels), self.source_number(source));
            self.add(number, hash, labels, source);
            self.seen(number, last_ms);
        }
    }

    /// There is a sample of this time.
    pub(super) fn seen(&mut self, number: u32, at_ms: i64) {
        if let Some(entry) = usize::try_from(number).ok().and_then(|number| self.entries.get_mut(number)) {
            entry.last_ms = entry.last_ms.max(at_ms);
        }
    }

    fn is(&self, number: u32, labels: &Labels) -> bool {
        self.get(number).is_some_and(|entry| self.texts(entry).eq(labels.iter()))
    }

    /// A series' labels, in their order.
    fn texts<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (&'a str, &'a str)> {
        entry.labels.iter().map(|(name, value)| (self.symbols.text(*name), self.symbols.text(*value)))
    }

    fn source_number(&mut self, name: &str) -> usize {
        if let Some(number) = self.of_source.get(name) {
            return usize::try_from(*number).unwrap_or(usize::MAX);
        }
        let (name, number) = (Arc::<str>::from(name), self.sources.len());
        self.of_source.insert(Arc::clone(&name), u32::try_from(number).unwrap_or(u32::MAX));
        self.sources.push(Source { name, series: 0 });
        number
    }

    fn add(&mut self, number: u32, hash: u64, labels: &Labels, source: usize) {
        if let Some(source) = self.sources.get_mut(source) {
            source.series += 1;
        }
        let mut pairs = Vec::with_capacity(labels.iter().len());
        for (name, value) in labels.iter() {
            let (name, value) = (self.symbols.of(name), self.symbols.of(value));
            let (Some(label), Some(text)) = (self.symbols.shared(name), self.symbols.shared(value)) else {
                continue;
            };
            self.values.entry(label).or_default().entry(text).or_default().push(number);
            pairs.push((name, value));
        }
        let entries = &self.entries;
        let hash_of = |number: &u32| {
            usize::try_from(*number).ok().and_then(|number| entries.get(number)).map_or(0, |entry| entry.hash)
        };
        self.numbers.insert_unique(hash, number, hash_of);
        let source = u32::try_from(source).unwrap_or(u32::MAX);
        make_room(&mut self.entries);
        self.entries.push(Entry { labels: pairs.into(), hash, source, last_ms: i64::MIN });
    }

    /// Numbers of the series that fulfil all conditions, ascending.
    pub(super) fn select(&self, conditions: &Conditions) -> Vec<u32> {
        let mut fewest: Option<&[u32]> = None;
        let mut equal = Vec::new();
        for (label, value) in conditions.equal() {
            let known = self.values.get(label.as_str()).and_then(|values| values.get(value.as_str()));
            // A text that no series has fits none.
            let (Some(some), Some(label), Some(value)) =
                (known, self.symbols.find(label), self.symbols.find(value))
            else {
                return Vec::new();
            };
            equal.push((label, value));
            if fewest.is_none_or(|fewest| some.len() < fewest.len()) {
                fewest = Some(some);
            }
        }
        if let Some(numbers) = fewest {
            let others: Vec<_> =
                conditions.others().iter().map(|(label, test)| (self.symbols.find(label), test)).collect();
            let fits = |number: &u32| {
                self.get(*number).is_some_and(|entry| {
                    equal.iter().all(|wanted| entry.labels.contains(wanted))
                        && others.iter().all(|(label, test)| test.fits(self.value(entry, *label)))
                })
            };
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

    /// A series' value of a label; empty where it has none.
    fn value(&self, entry: &Entry, label: Option<Symbol>) -> &str {
        let of_label = entry.labels.iter().find(|(name, _)| Some(*name) == label);
        of_label.map_or("", |(_, value)| self.symbols.text(*value))
    }

    /// Of each series, what it has for a label.
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
    pub(super) fn newest(&self, conditions: &Conditions, by: &[String]) -> Vec<u32> {
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
                one > other || one == other && self.texts(entry).lt(self.texts(known))
            });
            if is_newer {
                *newest = Some((number, entry));
            }
        }
        newest.into_iter().flatten().map(|(number, _)| number).collect()
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
        let label = self.symbols.find(name);
        let series = self.select(conditions).into_iter().filter_map(|number| self.get(number));
        let values = series.map(|entry| self.value(entry, label));
        values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }
}

/// For one more, an eighth of what is there at a time: twice as much, as a vector takes by itself, is megabytes for nothing
/// where there is one for each of a hundred thousand series.
pub(super) fn make_room<T>(all: &mut Vec<T>) {
    if all.len() == all.capacity() {
        all.reserve_exact(all.len() / 8 + 64);
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
            index.number(&labels(*a, *b), "s", LIMITS).unwrap();
        }
        index
    }

    fn fit(conditions: &Conditions, labels: &Labels) -> bool {
        let value = |label: &str| labels.get(label).unwrap_or_default();
        conditions.equal().iter().all(|(label, wanted)| value(label) == wanted)
            && conditions.others().iter().all(|(label, test)| test.fits(value(label)))
    }

    fn found(index: &Index, number: u32) -> Found {
        Found { labels: Arc::new(index.labels(number).unwrap()), last_ms: index.last_ms(number).unwrap() }
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
            let expected: Vec<_> = all.filter(|n| fit(&conditions, &index.labels(*n).unwrap())).collect();
            prop_assert_eq!(&index.select(&conditions), &expected);
            let values: BTreeSet<_> = expected.iter()
                .filter_map(|n| index.labels(*n).unwrap().get("a").map(str::to_owned)).collect();
            prop_assert_eq!(index.label_values("a", &conditions), values);
            for (n, last_ms) in (0..).zip(times) {
                index.seen(n, last_ms);
            }
            for by in [vec![], vec!["a"], vec!["a", "b"], vec!["missing", "b"]] {
                let by: Vec<_> = by.into_iter().map(str::to_owned).collect();
                let mut newest: Vec<_> = index.newest(&conditions, &by).into_iter().map(|n| found(&index, n)).collect();
                let fitting: Vec<_> = expected.iter().map(|n| found(&index, *n)).collect();
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
        assert_eq!(index.number(&labels(1, 1), "one", limits), Ok(0));
        assert_eq!(index.number(&labels(1, 2), "one", limits), Ok(1));
        assert_eq!(index.number(&labels(1, 3), "one", limits), Err(Refused::SourceSeriesLimit));
        assert_eq!(index.number(&labels(1, 2), "one", limits), Ok(1));
        assert_eq!(index.number(&labels(1, 3), "two", limits), Ok(2));
        assert_eq!(index.number(&labels(2, 3), "two", limits), Err(Refused::SeriesLimit));
        let mut index = Index::default();
        for n in 0..3 {
            assert_eq!(index.number(&labels(1, n), OURSELVES, limits), Ok(n.into()));
        }
        assert_eq!(index.number(&labels(1, 4), OURSELVES, limits), Err(Refused::SeriesLimit));
    }
}
