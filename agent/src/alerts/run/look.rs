//! What a rule sees in the store.

use std::collections::BTreeSet;

use super::super::measure::{group, values};
use super::super::rule::Rule;
use super::super::state::Findings;
use crate::domain::series::Range;
use crate::series::{self, Query, Series};

/// Series and samples of one rule's question: a thousand containers' buckets for five minutes.
const MAX_SERIES: usize = 50_000;
const MAX_SAMPLES: usize = 2_000_000;

const DAY_MS: i64 = 86_400_000;

pub(super) fn window_ms(rule: &Rule) -> i64 {
    i64::try_from(rule.window_s.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// Its findings at a time.
pub(super) async fn find(series: &Series, rule: &Rule, now_ms: i64) -> Result<Findings, series::Error> {
    let range = Range { from_ms: now_ms.saturating_sub(window_ms(rule)) + 1, to_ms: now_ms };
    if rule.absent {
        let day = Range { from_ms: now_ms.saturating_sub(DAY_MS), to_ms: now_ms };
        let found = series.find(&rule.selection(&rule.metric), day, MAX_SERIES).await?;
        let seen = found.iter().filter(|found| found.last_ms >= day.from_ms);
        let there: BTreeSet<_> = seen
            .clone()
            .filter(|found| found.last_ms >= range.from_ms)
            .map(|found| group(rule, &found.labels))
            .collect();
        let absent: BTreeSet<_> =
            seen.map(|found| group(rule, &found.labels)).filter(|group| !there.contains(group)).collect();
        return Ok(Findings { absent: absent.into_iter().collect(), there, ..Findings::default() });
    }
    let query = |metric| Query {
        selection: rule.selection(metric),
        range,
        buckets: None,
        max_series: MAX_SERIES,
        max_samples: MAX_SAMPLES,
    };
    let found = series.read(&query(&rule.metric)).await?;
    let over = match &rule.over {
        Some(metric) => series.read(&query(metric)).await?,
        None => Vec::new(),
    };
    let (rule, found) = (rule.clone(), found);
    // A million samples take tens of milliseconds.
    let measuring = tokio::task::spawn_blocking(move || values(&rule, &found, &over));
    let values = measuring.await.map_err(|cause| series::Error::Disk(cause.to_string()))?;
    Ok(Findings { values, ..Findings::default() })
}
