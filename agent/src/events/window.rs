//! What is held in memory: the events of the window, each once, in the order in which they were accepted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::text::Batch;

/// Position of an event; the first is 1.
pub type Seq = u64;

/// What an event costs beside its text: itself, its place in the maps.
const OVERHEAD_BYTES: usize = 160;

/// An event that is on disk. Clones share its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// ms since the epoch; none of the same series has the same.
    pub ts_ms: i64,
    /// Its value.
    pub value: f64,
    /// `name{a="b"}`, as expositions have it.
    pub series: Arc<str>,
    /// Who posted it named it so.
    pub id: Option<Arc<str>>,
}

impl Event {
    /// Name of its metric.
    #[must_use]
    pub fn name(&self) -> &str {
        self.series.split('{').next().unwrap_or_default()
    }

    pub(super) fn cost(&self) -> usize {
        OVERHEAD_BYTES + self.series.len() + self.id.as_ref().map_or(0, |id| id.len())
    }
}

/// What was ever said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events.
    pub accepted: u64,
    /// Of each series that is counted, by its text.
    pub series: BTreeMap<Arc<str>, u64>,
    /// Of all others.
    pub uncounted: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Series {
    last_ts_ms: i64,
    held: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    first: Seq,
    events: VecDeque<Event>,
    series: HashMap<Arc<str>, Series>,
    ids: HashMap<Arc<str>, Seq>,
    size_bytes: usize,
    totals: Totals,
    max_counted_series: usize,
    /// Everything before was forwarded.
    pub(super) forwarded: Seq,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(1, Totals::default(), 0)
    }
}

impl Window {
    /// Empty, behind what an earlier process had.
    pub(super) fn new(first: Seq, totals: Totals, max_counted_series: usize) -> Self {
        Self {
            first,
            events: VecDeque::new(),
            series: HashMap::new(),
            ids: HashMap::new(),
            size_bytes: 0,
            totals,
            max_counted_series,
            forwarded: first,
        }
    }

    /// Position of the oldest.
    pub(super) const fn first(&self) -> Seq {
        self.first
    }

    /// Position behind the newest.
    pub(super) fn end(&self) -> Seq {
        self.first + self.events.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.clone()
    }

    pub(super) fn totals_if(&self, wanted: bool) -> Option<Totals> {
        wanted.then(|| self.totals())
    }

    pub(super) const fn uncounted(&self) -> u64 {
        self.totals.uncounted
    }

    pub(super) fn is_counted(&self, series: &str) -> bool {
        self.totals.series.contains_key(series)
    }

    /// Timestamp of the series' last event.
    pub(super) fn last_ts_ms(&self, series: &str) -> Option<i64> {
        self.series.get(series).map(|series| series.last_ts_ms)
    }

    /// The event of this id.
    pub(super) fn of_id(&self, id: &str) -> Option<&Event> {
        self.get(*self.ids.get(id)?)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Event> {
        self.events.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Those from `start` to before `end`, as far as they are held.
    pub(super) fn range(&self, start: Seq, end: Seq) -> impl DoubleEndedIterator<Item = (Seq, &Event)> {
        let start = start.clamp(self.first, self.end());
        let end = end.clamp(start, self.end());
        // Both are within what is held in memory.
        let index = |seq: Seq| usize::try_from(seq - self.first).unwrap_or(usize::MAX);
        let events = self.events.range(index(start)..index(end)).enumerate();
        events.map(move |(at, event)| (start + at as u64, event))
    }

    /// At most `max` from `start` on, and the position behind them.
    pub(super) fn from(&self, start: Seq, max: usize) -> (Vec<Event>, Seq) {
        let start = start.max(self.first);
        let found: Vec<_> = self.range(start, Seq::MAX).take(max).map(|(_, event)| event.clone()).collect();
        let end = start + found.len() as u64;
        (found, end)
    }

    /// The newest, for a person; without timestamps one of a series.
    pub(super) fn peek(&self, max: usize, with_timestamps: bool) -> Batch {
        let start = self.end().saturating_sub(max as u64);
        let mut events: Vec<_> = self.range(start, Seq::MAX).map(|(_, event)| event.clone()).collect();
        if !with_timestamps {
            let latest: HashMap<_, _> =
                events.into_iter().map(|event| (Arc::clone(&event.series), event)).collect();
            events = latest.into_values().collect();
        }
        Batch { events, with_timestamps, number: None }
    }

    /// Adds an event at the end. Its text is the one that others of its series have.
    pub(super) fn push(&mut self, mut event: Event) {
        if let Some((known, _)) = self.series.get_key_value(&event.series) {
            event.series = Arc::clone(known);
        }
        let series = self.series.entry(Arc::clone(&event.series)).or_default();
        series.last_ts_ms = series.last_ts_ms.max(event.ts_ms);
        series.held += 1;
        self.totals.accepted += 1;
        if let Some(count) = self.totals.series.get_mut(&event.series) {
            *count += 1;
        } else if self.totals.series.len() < self.max_counted_series {
            self.totals.series.insert(Arc::clone(&event.series), 1);
        } else {
            self.totals.uncounted += 1;
        }
        if let Some(id) = &event.id {
            self.ids.insert(Arc::clone(id), self.end());
        }
        self.size_bytes += event.cost();
        self.events.push_back(event);
    }

    /// The position behind those that are older than this; those behind a younger one wait for it.
    pub(super) fn end_of_older(&self, than_ms: i64) -> Seq {
        let older = self.events.iter().take_while(|event| event.ts_ms < than_ms).count();
        self.first + older as u64
    }

    /// Forgets everything before `seq`.
    pub(super) fn expire(&mut self, seq: Seq) {
        while self.first < seq {
            let Some(event) = self.events.pop_front() else { break };
            self.size_bytes = self.size_bytes.saturating_sub(event.cost());
            if let Some(id) = &event.id {
                self.ids.remove(id);
            }
            if let Some(series) = self.series.get_mut(&event.series) {
                series.held -= 1;
                if series.held == 0 {
                    self.series.remove(&event.series);
                }
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(series: &str, ts_ms: i64, id: Option<&str>) -> Event {
        Event { ts_ms, value: 1.0, series: series.into(), id: id.map(Into::into) }
    }

    #[test]
    fn what_expires_is_gone_from_every_map_and_stays_counted() {
        let mut window = Window::new(7, Totals::default(), 1);
        for (series, ts_ms, id) in [("a", 1, Some("x")), ("b", 5, None), ("a", 3, None)] {
            window.push(event(series, ts_ms, id));
        }
        assert_eq!((window.first(), window.end(), window.len()), (7, 10, 3));
        assert_eq!(window.of_id("x").unwrap().ts_ms, 1);
        assert!(Arc::ptr_eq(&window.get(7).unwrap().series, &window.get(9).unwrap().series), "one text");
        assert_eq!(window.end_of_older(4), 8, "what is behind a younger one waits");
        window.expire(8);
        assert!(window.of_id("x").is_none());
        assert_eq!(window.last_ts_ms("a"), Some(3));
        window.expire(100);
        assert_eq!((window.first(), window.len(), window.size_bytes()), (10, 0, 0));
        assert_eq!(window.last_ts_ms("a"), None);
        let totals = window.totals();
        assert_eq!((totals.accepted, totals.series["a"], totals.uncounted), (3, 2, 1));
        assert_eq!(window.range(0, Seq::MAX).count(), 0);
    }
}
