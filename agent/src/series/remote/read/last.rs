//! When the last sample of each series is.
//!
//! VictoriaMetrics tells it of all series at once. Prometheus tells the time of what it would show at a moment, which is
//! up to five minutes old, and drops the metric's name with it: each metric is asked for on its own, at the range's end
//! and, for those that ended before, every five minutes before it. Those that lived less than that, and whose end was
//! marked, are seen in neither; their samples are read.
//!
//! Every five minutes is a step for Prometheus, however little it stores there. So the range is asked in windows from its
//! end back, only while a series is missing that has samples in it at all, and only where that has some: whether it has
//! costs what is stored and no steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::back::Back;
use super::selector::selector;
use super::{Reader, answer, told, width_ms};
use crate::domain::series::{Labels, NAME, Operator, Range, Selection};
use crate::series::limit::at_most;
use crate::series::{Error, Found, Query};

/// What Prometheus looks back by default; those told to look less far find less.
const LOOK_BACK_MS: i64 = 300_000;

/// Metrics of a question to Prometheus: two requests each, and some for each window.
const MAX_METRICS: usize = 500;

/// Samples of one of them: five minutes of milliseconds.
const MAX_SAMPLES: usize = 300_000;

/// Series of a metric whose samples are read for this: so many that live for minutes are no question's.
const MAX_SHORT: usize = 200;

/// The first window in which the ends of series are looked for: 72 steps, and most that are missing ended lately.
const FIRST_MS: i64 = 6 * 3_600_000;

/// The widest: a month, 9,000 steps.
const WIDEST_MS: i64 = 31 * 86_400_000;

/// Steps of a window, times series: a fifth of the samples that Prometheus has in memory for one question at most.
const MAX_STEPS: i64 = 10_000_000;

/// Windows of a metric: ten years.
const MAX_WINDOWS: usize = 128;

/// Requests at once.
const AT_ONCE: usize = 8;

/// Those of these series that have a sample in the range, and when their last one is.
pub(super) async fn of(
    reader: &Reader,
    selection: &Selection,
    range: Range,
    series: BTreeSet<Labels>,
    victoria: bool,
) -> Result<Vec<Found>, Error> {
    if series.is_empty() {
        return Ok(Vec::new());
    }
    let mut lasts = BTreeMap::new();
    if victoria {
        let query =
            format!("tlast_over_time({}[{}ms]) keep_metric_names", selector(selection)?, width_ms(range));
        for (labels, last_ms) in times(reader, query, range, None).await? {
            lasts.insert(labels, last_ms);
        }
    } else {
        let metrics: BTreeSet<&str> = series.iter().map(Labels::metric).collect();
        at_most("metrics in a question to Prometheus", metrics.len(), MAX_METRICS)?;
        let asked = metrics.into_iter().map(|metric| {
            let these = series.iter().filter(|labels| labels.metric() == metric).collect();
            of_metric(reader, selection, range, metric, these)
        });
        // Collected first: a closure that borrows is no stream's.
        let asked: Vec<_> = asked.collect();
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
        lasts.extend(answers.into_iter().flatten());
    }
    let found = |labels: Labels| {
        lasts.get(&labels).map(|last_ms| Found { last_ms: *last_ms, labels: Arc::new(labels) })
    };
    Ok(series.into_iter().filter_map(found).collect())
}

/// Of one metric, which has these series.
async fn of_metric(
    reader: &Reader,
    selection: &Selection,
    range: Range,
    metric: &str,
    series: Vec<&Labels>,
) -> Result<BTreeMap<Labels, i64>, Error> {
    let selector = selector(&selection.clone().and(NAME, Operator::Equal, metric))?;
    let now = times(reader, format!("timestamp({selector})"), range, Some(metric)).await?;
    let mut lasts: BTreeMap<_, _> = now.into_iter().collect();
    let missing = |lasts: &BTreeMap<Labels, i64>| series.iter().any(|labels| !lasts.contains_key(*labels));
    if !missing(&lasts) {
        return Ok(lasts);
    }
    let mut sought = BTreeSet::new();
    for (number, window) in windows(range, series.len()).enumerate() {
        at_most("windows of time in a question to Prometheus", number + 1, MAX_WINDOWS)?;
        if number == 0 {
            before(reader, &selector, range, window, metric, &mut lasts).await?;
            if !missing(&lasts) {
                break;
            }
            sought = there(reader, &selector, range).await?;
        }
        sought.retain(|labels| !lasts.contains_key(labels));
        if sought.is_empty() {
            break;
        }
        if window == range {
            short(reader, window, sought.iter(), &mut lasts).await?;
            break;
        }
        let these = there(reader, &selector, window).await?;
        if sought.is_disjoint(&these) {
            continue;
        }
        if number > 0 {
            before(reader, &selector, range, window, metric, &mut lasts).await?;
        }
        short(reader, window, sought.intersection(&these), &mut lasts).await?;
    }
    Ok(lasts)
}

/// Where so many series that ended are looked for.
fn windows(range: Range, series: usize) -> Back {
    let series = i64::try_from(series).unwrap_or(i64::MAX).max(1);
    let widest_ms = (MAX_STEPS / series).max(1).saturating_mul(LOOK_BACK_MS).min(WIDEST_MS);
    Back::new(range, FIRST_MS, widest_ms)
}

/// Adds when series were last seen at the steps of a window.
async fn before(
    reader: &Reader,
    selector: &str,
    range: Range,
    window: Range,
    metric: &str,
    lasts: &mut BTreeMap<Labels, i64>,
) -> Result<(), Error> {
    let width_ms = width_ms(window);
    let query = format!("max_over_time(timestamp({selector})[{width_ms}ms:{LOOK_BACK_MS}ms])");
    // The first step shows what is up to five minutes older than the window.
    let seen = Range { to_ms: window.to_ms, ..range };
    for (labels, last_ms) in times(reader, query, seen, Some(metric)).await? {
        let known = lasts.entry(labels).or_insert(last_ms);
        *known = last_ms.max(*known);
    }
    Ok(())
}

/// Those that have samples in a range.
async fn there(reader: &Reader, selector: &str, range: Range) -> Result<BTreeSet<Labels>, Error> {
    let query = format!("last_over_time({selector}[{}ms])", width_ms(range));
    let answer = reader.instant(query, range.to_ms).await.map_err(told)?;
    Ok(answer::times(&answer)?.into_iter().filter_map(|(pairs, _)| pairs.into_labels()).collect())
}

/// Adds the last samples of those of these series that are not known yet.
async fn short(
    reader: &Reader,
    window: Range,
    series: impl Iterator<Item = &Labels>,
    lasts: &mut BTreeMap<Labels, i64>,
) -> Result<(), Error> {
    let short: Vec<_> = series.filter(|labels| !lasts.contains_key(*labels)).collect();
    at_most("series of a metric that lived for minutes", short.len(), MAX_SHORT)?;
    for labels in short {
        if let Some(last_ms) = last_sample(reader, labels, window).await? {
            lasts.insert(labels.clone(), last_ms);
        }
    }
    Ok(())
}

async fn last_sample(reader: &Reader, labels: &Labels, range: Range) -> Result<Option<i64>, Error> {
    let start = Selection::default();
    let selection = labels.iter().fold(start, |all, (name, value)| all.and(name, Operator::Equal, value));
    // Others may have more labels.
    let query = Query { selection, range, buckets: None, max_series: MAX_SHORT, max_samples: MAX_SAMPLES };
    let read = reader.read(&query).await?;
    let this = read.into_iter().find(|one| one.labels == *labels);
    Ok(this.and_then(|one| Some(one.samples.last()?.at_ms)))
}

/// The times in the range that a question gives.
async fn times(
    reader: &Reader,
    query: String,
    range: Range,
    metric: Option<&str>,
) -> Result<Vec<(Labels, i64)>, Error> {
    let answer = reader.instant(query, range.to_ms).await.map_err(told)?;
    let times = answer::times(&answer)?.into_iter().filter(|(_, last_ms)| range.contains(*last_ms));
    let named = |(pairs, last_ms): (answer::Pairs, i64)| {
        let pairs = match metric {
            Some(metric) => pairs.named(metric),
            None => pairs,
        };
        Some((pairs.into_labels()?, last_ms))
    };
    Ok(times.filter_map(named).collect())
}
