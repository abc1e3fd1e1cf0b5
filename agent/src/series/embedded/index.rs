//! The series of one day in memory: by labels, by number, by each label's value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::domain::series::{Labels, Operator, Selection};
use crate::series::{Error, OURSELVES, Refused};

/// Conditions of one question: nobody writes so many.
const MAX_MATCHERS: usize = 64;

/// Bytes of a compiled regular expression: a list of some hundred names fits, an expression built to be huge does not.
const MAX_REGEX_BYTES: usize = 1 << 20;

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
        for equal in &conditions.equal {
            match of_value(equal) {
                None => return Vec::new(),
                Some(some) => {
                    if fewest.is_none_or(|fewest| some.len() < fewest.len()) {
                        fewest = Some(some);
                    }
                }
            }
        }
        match fewest {
            Some(numbers) => numbers.iter().copied().filter(fits).collect(),
            None => (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).filter(fits).collect(),
        }
    }

    /// Of the series that fulfil all conditions and share the values of some labels, the one that was seen last; of several,
    /// the first by labels.
    pub(super) fn newest(&self, conditions: &Conditions, by: &[String]) -> Vec<&Entry> {
        let mut newest: HashMap<Vec<&str>, &Entry> = HashMap::new();
        for entry in self.select(conditions).into_iter().filter_map(|number| self.get(number)) {
            let values = by.iter().map(|label| entry.labels.get(label).unwrap_or_default()).collect();
            let known = newest.entry(values).or_insert(entry);
            if (entry.last_ms, &known.labels) > (known.last_ms, &entry.labels) {
                *known = entry;
            }
        }
        newest.into_values().collect()
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

/// A selection, ready to be asked many times.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// Labels that have a value: these are looked up.
    equal: Vec<(String, String)>,
    others: Vec<(String, Test)>,
}

#[derive(Clone, Debug)]
enum Test {
    Is(String),
    IsNot(String),
    Fits(Regex),
    FitsNot(Regex),
}

impl Conditions {
    /// Compiles it.
    pub(super) fn of(selection: &Selection) -> Result<Self, Error> {
        if selection.matchers.len() > MAX_MATCHERS {
            let words = format!("{} conditions, at most {MAX_MATCHERS}", selection.matchers.len());
            return Err(Error::Invalid(words));
        }
        let mut this = Self::default();
        for matcher in &selection.matchers {
            let (label, value) = (matcher.label.clone(), matcher.value.clone());
            let test = match matcher.operator {
                Operator::Equal if !value.is_empty() => {
                    this.equal.push((label, value));
                    continue;
                }
                Operator::Equal => Test::Is(value),
                Operator::NotEqual => Test::IsNot(value),
                Operator::Fits => Test::Fits(whole(&value)?),
                Operator::FitsNot => Test::FitsNot(whole(&value)?),
            };
            this.others.push((label, test));
        }
        Ok(this)
    }

    fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.others.is_empty()
    }

    fn fit(&self, labels: &Labels) -> bool {
        let value = |label: &str| labels.get(label).unwrap_or_default();
        self.equal.iter().all(|(label, wanted)| value(label) == wanted)
            && self.others.iter().all(|(label, test)| match test {
                Test::Is(wanted) => value(label) == wanted,
                Test::IsNot(unwanted) => value(label) != unwanted,
                Test::Fits(regex) => regex.is_match(value(label)),
                Test::FitsNot(regex) => !regex.is_match(value(label)),
            })
    }
}

/// The whole value, as in PromQL.
fn whole(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&format!("^(?s:{expression})$"))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|cause| Error::Invalid(format!("{expression:?} is no regular expression: {cause}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { all: 1_000, of_source: 100 };

    fn labels(a: u8, b: u8) -> Labels {
        let value = |n: u8| if n == 0 { String::new() } else { format!("v{n}") };
        Labels::new("m", [("a", value(a)), ("b", value(b))]).unwrap()
    }

    fn index(pairs: &[(u8, u8)]) -> Index {
        let mut index = Index::default();
        for (a, b) in pairs {
            index.number(labels(*a, *b), "s", LIMITS).unwrap();
        }
        index
    }

    proptest! {
        /// Against asking each series.
        #[test]
        fn the_right_series_are_selected(pairs in prop::collection::vec((0..4_u8, 0..4_u8), 0..30),
            conditions in prop::collection::vec((0..2_usize, 0..4_usize, 0..5_u8), 0..4)) {
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
            let index = index(&pairs);
            let all = 0..u32::try_from(index.len()).unwrap();
            let expected: Vec<_> = all.filter(|n| conditions.fit(&index.get(*n).unwrap().labels)).collect();
            prop_assert_eq!(&index.select(&conditions), &expected);
            let values: BTreeSet<_> = expected.iter().filter_map(|n| index.get(*n).unwrap().labels.get("a"))
                .map(str::to_owned).collect();
            prop_assert_eq!(index.label_values("a", &conditions), values);
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

    #[test]
    fn an_expression_built_to_hurt_is_refused_or_harmless() {
        let of = |expression| Conditions::of(&Selection::default().and("a", Operator::Fits, expression));
        for bomb in ["(x{1000}){1000}", "(", "(?P<a>", "\\p{Nope}"] {
            assert!(matches!(of(bomb), Err(Error::Invalid(_))), "{bomb}");
        }
        let slow = of("(a+)+b").unwrap();
        let labels = Labels::new("m", [("a", "a".repeat(1_000))]).unwrap();
        assert!(!slow.fit(&labels));
        let many = (0..=MAX_MATCHERS).fold(Selection::default(), |all, _| all.and("a", Operator::Equal, "1"));
        assert!(matches!(Conditions::of(&many), Err(Error::Invalid(_))));
    }
}
