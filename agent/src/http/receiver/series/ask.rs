//! Times, steps and limits as requests write them.

use std::str::FromStr;

use jiff::Timestamp;

use crate::domain::series::{Aggregation, Range};
use crate::http::ApiError;

/// RFC 3339, or seconds since the epoch with or without a fraction; ms.
pub(crate) fn time(name: &'static str, text: &str) -> Result<i64, ApiError> {
    let seconds = || {
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e12)?;
        #[expect(clippy::cast_possible_truncation, reason = "less than 1e15")]
        Some((seconds * 1e3).round() as i64)
    };
    let timestamp = Timestamp::from_str(text).ok().map(Timestamp::as_millisecond);
    let why =
        || format!("{:?} is neither RFC 3339 (2026-11-22T10:30:00Z) nor seconds since the epoch", cut(text));
    timestamp.or_else(seconds).ok_or_else(|| ApiError::Query { name, why: why() })
}

/// From start to end; without a start, so long before the end; without an end, until now.
pub(crate) fn range(
    start: Option<&str>,
    end: Option<&str>,
    now_ns: i64,
    default_ms: i64,
) -> Result<Range, ApiError> {
    let given = |name, text: Option<&str>| {
        text.filter(|text| !text.is_empty()).map(|text| time(name, text)).transpose()
    };
    let to_ms = given("end", end)?.unwrap_or(now_ns.div_euclid(1_000_000));
    let from_ms = given("start", start)?.unwrap_or(to_ms.saturating_sub(default_ms));
    if from_ms > to_ms {
        return Err(ApiError::Query { name: "start", why: "it is after the end".to_owned() });
    }
    Ok(Range { from_ms, to_ms })
}

/// `15s`, `5m`, `1h`, `1d`, or seconds; ms.
fn step(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let count: i64 = digits.parse().ok().filter(|count| *count > 0)?;
    count.checked_mul(unit_ms).filter(|step_ms| *step_ms <= 366 * 86_400_000)
}

/// Buckets, if a step is given; an aggregation without one makes no sense.
pub(crate) fn buckets(
    width: Option<&str>,
    agg: Option<&str>,
) -> Result<Option<(i64, Aggregation)>, ApiError> {
    let (width, agg) = (width.filter(|text| !text.is_empty()), agg.filter(|text| !text.is_empty()));
    let known = |text: &str| Aggregation::ALL.into_iter().find(|how| how.name() == text);
    let how = match agg {
        None => Aggregation::Last,
        Some(text) => known(text).ok_or_else(|| ApiError::Query {
            name: "agg",
            why: "last, min, max, avg, sum or count".to_owned(),
        })?,
    };
    match width {
        Some(text) => {
            let why = || format!("{:?} is no width: 15s, 5m, 1h, 1d or seconds, at most a year", cut(text));
            let step_ms = step(text).ok_or_else(|| ApiError::Query { name: "step", why: why() })?;
            Ok(Some((step_ms, how)))
        }
        None if agg.is_some() => {
            Err(ApiError::Query { name: "step", why: "agg needs a step, such as 1m".to_owned() })
        }
        None => Ok(None),
    }
}

/// A number from 1 to a limit.
pub(crate) fn limit(text: Option<&str>, default: usize, most: usize) -> Result<usize, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit.ok_or_else(|| ApiError::Query { name: "limit", why: format!("a number from 1 to {most}") })
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let of = |text| time("start", text).ok();
        assert_eq!(of("2025-09-25T00:00:00Z"), Some(1_758_758_400_000));
        assert_eq!(of("2025-09-25T02:00:00+02:00"), Some(1_758_758_400_000));
        assert_eq!(
            (of("1758758400"), of("1758758400.5")),
            (Some(1_758_758_400_000), Some(1_758_758_400_500))
        );
        for wrong in ["", "yesterday", "NaN", "inf", "1e300", "2025-09-25"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_range_has_defaults_and_an_order() {
        let now_ns = 5_000_000_000_000;
        let range = |start, end| range(start, end, now_ns, 60_000);
        assert_eq!(range(None, Some("")).unwrap(), Range { from_ms: 4_940_000, to_ms: 5_000_000 });
        assert_eq!(range(None, Some("100")).unwrap(), Range { from_ms: 40_000, to_ms: 100_000 });
        assert!(range(Some("101"), Some("100")).is_err());
    }

    #[test]
    fn steps_have_units_and_limits() {
        let of = |text| buckets(Some(text), None).ok().flatten().map(|(step_ms, _)| step_ms);
        assert_eq!(
            (of("15s"), of("5m"), of("60"), of("1d")),
            (Some(15_000), Some(300_000), Some(60_000), Some(86_400_000))
        );
        for wrong in ["0", "-1s", "5y", "s", "9999999999999999999", "400d", "1.5m"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert!(buckets(None, Some("avg")).is_err() && buckets(Some("1m"), Some("median")).is_err());
        assert_eq!(buckets(None, None).unwrap(), None);
        assert_eq!(limit(Some("5"), 1, 10).unwrap(), 5);
        assert!(limit(Some("11"), 1, 10).is_err() && limit(Some("-1"), 1, 10).is_err());
    }
}
