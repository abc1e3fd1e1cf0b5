//! Questions about what was said.

use std::collections::BTreeMap;

use crate::events::event::read_series;
use crate::events::window::Event;

/// Which events; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Name of the metric.
    pub name: Option<String>,
    /// Labels that it has.
    pub labels: Vec<(String, String)>,
    /// Not before, ms since the epoch.
    pub from_ms: Option<i64>,
    /// Not after, ms since the epoch.
    pub to_ms: Option<i64>,
    /// The newest so many.
    pub limit: usize,
}

/// An event as it is told of later.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// ms since the epoch.
    pub ts_ms: i64,
    /// Name of its metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
    /// Its id.
    pub id: Option<String>,
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        let (name, labels) = read_series(&event.series);
        let id = event.id.as_deref().map(str::to_owned);
        Self { ts_ms: event.ts_ms, name: name.to_owned(), labels, value: event.value, id }
    }
}

impl Query {
    /// The event, if it is asked for.
    pub(super) fn matches(&self, event: &Event) -> Option<Told> {
        let in_time = self.from_ms.is_none_or(|from| event.ts_ms >= from)
            && self.to_ms.is_none_or(|to| event.ts_ms <= to);
        in_time.then(|| Told::from(event)).filter(|told| self.is_about(told))
    }

    /// Whether the question asks for it, but for the limit.
    #[must_use]
    pub fn is_about(&self, told: &Told) -> bool {
        self.from_ms.is_none_or(|from| told.ts_ms >= from)
            && self.to_ms.is_none_or(|to| told.ts_ms <= to)
            && self.name.as_ref().is_none_or(|name| told.name == *name)
            && self.labels.iter().all(|(label, value)| told.labels.get(label) == Some(value))
    }
}
