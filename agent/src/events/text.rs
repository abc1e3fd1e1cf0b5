//! Events as text, to stand in an exposition beside a role's own families: OpenMetrics 1.0 or Prometheus text 0.0.4.
//!
//! A family is one metric: all its samples together, those of a series together, oldest first. Names and labels were
//! checked and written when the events came, so that nothing here can break the text.
//!
//! # Timestamps of OpenMetrics
//!
//! are seconds, and Prometheus multiplies them by 1000 as binary fractions and *cuts*: 1.001 becomes 1000.9999 and is
//! 1000 ms, another event's time. In these years rounding hides that, in 2038 it does not. A fifth of a millisecond more
//! than is meant comes out right whether a reader cuts or rounds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::window::{Event, Totals};
use crate::domain::series::Escaped;

/// What one request gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In the order in which they were accepted.
    pub events: Vec<Event>,
    /// Each with its own.
    pub with_timestamps: bool,
    /// What the answer is found by later, at its end.
    pub number: Option<Number>,
}

/// Of an answer to a scraper that is asked what it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its name.
    pub scraper: String,
    /// The journal it is from.
    pub server: u64,
    /// It decides about an earlier answer, and hides it from nobody.
    pub is_probe: bool,
    /// No other answer's; below 2^53.
    pub number: u64,
}

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, without its end.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Classic,
}

impl Batch {
    /// Adds the families of the events and of their counters.
    pub fn write(mut self, totals: &Totals, name: &str, format: Format, out: &mut String) {
        // Stable: a series' events stay in their order.
        self.events.sort_by(|one, other| {
            let same = Arc::ptr_eq(&one.series, &other.series);
            let order = || (one.name(), &*one.series).cmp(&(other.name(), &*other.series));
            if same { std::cmp::Ordering::Equal } else { order() }
        });
        let mut family = None;
        for event in &self.events {
            if family != Some(event.name()) {
                family = Some(event.name());
                head(out, event.name(), "gauge", "Events, each once");
            }
            out.push_str(&event.series);
            out.push(' ');
            value(out, event.value);
            if self.with_timestamps {
                timestamp(out, event.ts_ms, format);
            }
            out.push('\n');
        }
        counters(totals, name, format, out);
        if let Some(number) = &self.number {
            number.write(out);
        }
    }
}

impl Number {
    fn write(&self, out: &mut String) {
        let Self { scraper, server, is_probe, number } = self;
        let (scraper, kind) = (Escaped(scraper), if *is_probe { "probe" } else { "answer" });
        let name = "sextant_events_answer";
        head(out, name, "gauge", "Number of this answer, by which it is read back");
        let _infallible = writeln!(
            out,
            "{name}{{kind=\"{kind}\",scraper=\"{scraper}\",server=\"{server:016x}\"}} {number}"
        );
    }
}

/// `NAME_seen_total` of each series, and the reference's count of all.
fn counters(totals: &Totals, default_name: &str, format: Format, out: &mut String) {
    let mut by_name: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for (series, count) in &totals.series {
        let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
        by_name.entry(name).or_default().push((labels, *count));
    }
    for (name, series) in by_name {
        let family = match format {
            Format::OpenMetrics => format!("{name}_seen"),
            Format::Classic => format!("{name}_seen_total"),
        };
        head(out, &family, "counter", "Events so far, restarts included");
        for (labels, count) in series {
            let _infallible = writeln!(out, "{name}_seen_total{labels} {count}");
        }
    }
    // The reference's name, which as a counter's would not be OpenMetrics.
    let kind = if format == Format::OpenMetrics { "unknown" } else { "untyped" };
    let count = format!("{default_name}_event_count");
    head(out, &count, kind, "Events of all series so far, restarts included");
    let _infallible = writeln!(out, "{count} {}", totals.accepted);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = write!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
}

/// The shortest digits that read back as the same number.
fn value(out: &mut String, value: f64) {
    let magnitude = value.abs();
    let _infallible = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if magnitude != 0.0 && !(1e-5..1e17).contains(&magnitude) {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    };
}

fn timestamp(out: &mut String, ts_ms: i64, format: Format) {
    let _infallible = match format {
        Format::Classic => write!(out, " {ts_ms}"),
        Format::OpenMetrics => write!(out, " {}.{:03}2", ts_ms.div_euclid(1_000), ts_ms.rem_euclid(1_000)),
    };
}
