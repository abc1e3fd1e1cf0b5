//! Whatever is taken can be written: any events, beside any other families, by the rules of an independent reader.

use proptest::prelude::*;
use sextant::events::event::{NewEvent, RESERVED_PREFIXES, read_series};
use sextant::events::text::{Format as Text, Number};
use sextant::events::{Batch, Event};
use sextant_tests::exposition::{Format, check};

const NAME: &str = "events_to_metrics";

fn any_event() -> impl Strategy<Value = (NewEvent, i64)> {
    let label = ("[a-zA-Z_ ][a-zA-Z0-9_ ]{0,8}", ".{0,12}|[\"\\\\\n\r{},=# ]{0,8}");
    let value = prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(1.0)];
    let name = proptest::option::of("[a-c:][a-z_0-9]{0,4}");
    let parts = (name, proptest::collection::vec(label, 0..4), value, 0..1_000_i64);
    parts.prop_map(|(name, labels, value, ts_ms)| (NewEvent { name, labels, value, id: None }, ts_ms))
}

proptest! {
    #[test]
    fn whatever_is_taken_can_be_written(
        events in proptest::collection::vec(any_event(), 0..40),
        scraper in ".{1,12}|[\"\\\\\n\r{},=# ]{1,8}",
        number in 0..1_u64 << 53,
    ) {
        let number = Some(Number { scraper, server: number, is_probe: number.is_multiple_of(2), number });
        let mut batch = Batch { with_timestamps: true, number, ..Batch::default() };
        let mut totals = sextant::events::Totals::default();
        for (at, (event, ts_ms)) in events.into_iter().enumerate() {
            let wanted = event.clone();
            let Ok(checked) = event.check(NAME) else { continue };
            let (name, labels) = read_series(checked.series());
            prop_assert_eq!(name, wanted.name.as_deref().unwrap_or(NAME));
            for (label, value) in wanted.labels {
                prop_assert_eq!(&labels[&label.replace(' ', "_")], &value, "read back as it came");
            }
            *totals.series.entry(checked.series().into()).or_default() += 1;
            totals.accepted += 1;
            // As the journal has it: no timestamp of a series twice.
            let ts_ms = 1_750_000_000_000 + ts_ms * 100 + i64::try_from(at).unwrap();
            batch.events.push(Event { ts_ms, value: wanted.value, series: checked.series().into(), id: None });
        }
        for (text, format, end) in
            [(Text::OpenMetrics, Format::OpenMetrics, "# EOF\n"), (Text::Classic, Format::Classic, "")]
        {
            let mut out = "# HELP sextant_x X.\n# TYPE sextant_x gauge\nsextant_x 1\n".to_owned();
            batch.clone().write(&totals, NAME, text, &mut out);
            out.push_str(end);
            let found = check(&out, format);
            prop_assert!(found.is_ok(), "{:?}\n{}", found, out);
            let samples = out.lines().filter(|line| !line.starts_with('#')).count();
            prop_assert_eq!(samples, batch.events.len() + totals.series.len() + 3);
        }
    }

    /// Prometheus multiplies the seconds of OpenMetrics by 1000 as binary fractions, and cuts.
    #[test]
    fn seconds_come_out_as_the_milliseconds_that_were_meant(ts_ms in 0..4_000_000_000_000_i64) {
        let event = Event { ts_ms, value: 1.0, series: "x".into(), id: None };
        let mut out = String::new();
        let batch = Batch { events: vec![event], with_timestamps: true, ..Batch::default() };
        batch.write(&sextant::events::Totals::default(), NAME, Text::OpenMetrics, &mut out);
        let line = out.lines().find(|line| line.starts_with("x ")).unwrap();
        let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "as Prometheus does it")]
        let (cut, rounded) = ((seconds * 1_000.0) as i64, (seconds * 1_000.0).round() as i64);
        prop_assert_eq!((cut, rounded), (ts_ms, ts_ms));
    }
}

/// The control: without the digit behind the milliseconds, some are another event's.
#[test]
fn plain_milliseconds_would_be_cut_to_others() {
    #[expect(clippy::cast_possible_truncation, reason = "as Prometheus does it")]
    let cut = |ts_ms: i64| {
        let text = format!("{}.{:03}", ts_ms / 1_000, ts_ms % 1_000);
        (text.parse::<f64>().unwrap() * 1_000.0) as i64
    };
    // The year 2038; in 2026 rounding hides it.
    let wrong = (2_150_000_000_000..2_150_000_010_000).filter(|ts_ms| cut(*ts_ms) != *ts_ms).count();
    assert!(wrong > 0, "cutting never hurts");
}

/// No family of ours is one that an event may name.
#[test]
fn reserved_names_cover_what_both_roles_expose() {
    for golden in ["metrics-node.txt", "metrics-node-classic.txt"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(golden);
        let text = std::fs::read_to_string(path).unwrap();
        for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let family = family.split(' ').next().unwrap();
            let ours =
                family.starts_with(NAME) || RESERVED_PREFIXES.iter().any(|prefix| family.starts_with(prefix));
            assert!(ours, "{family}");
        }
    }
}
