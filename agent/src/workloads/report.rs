//! What sysbench and our own generators print, one line at a time.
//!
//! # Forms (sysbench 1.0)
//! ```text
//! [ 3s ] thds: 4 tps: 284.13 qps: 5691.55 (r/w/o: 3981.78/1140.51/569.25) lat (ms,99%): 21.50 err/s: 0.00 reconn/s: 0.00
//! [ 3s ] thds: 2 eps: 1042.53 lat (ms,95%): 1.12
//! Creating table 'sbtest1'...
//! Inserting 100000 records into 'sbtest1'
//! Creating a secondary index on 'sbtest1'...
//! FATAL: error 1049: Unknown database 'sbtest'
//! sextant: /usr/bin/sysbench: Permission denied (os error 13)
//! PANIC: unprotected error in call to Lua API (runtime code generation failed, restricted kernel?)
//! ```
//! Everything else (its greeting, its queue, its last block) is [`Line::Other`]. The last block is not needed: it is missing
//! after a signal, and the reports add up to it.

use crate::domain::workload::{Figures, Queries};

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// A report.
    Report(Figures),
    /// A step of making tables has begun.
    Step(String),
    /// It cannot go on; what follows one of [`LAST_WORDS`].
    Fatal(String),
    /// Nothing of interest.
    Other,
}

/// Of sysbench, of its interpreter, and of a worker that could not become it.
const LAST_WORDS: [&str; 3] = ["FATAL: ", "PANIC: ", "sextant: "];

/// Reads a line without its end; any bytes.
pub(super) fn parse(line: &str) -> Line {
    let line = line.trim();
    if let Some(why) = LAST_WORDS.iter().find_map(|prefix| line.strip_prefix(prefix)) {
        return Line::Fatal(why.to_owned());
    }
    let steps = ["Creating table ", "Inserting ", "Creating a secondary index "];
    if steps.iter().any(|step| line.starts_with(step)) {
        return Line::Step(line.trim_end_matches('.').to_owned());
    }
    report(line).map_or(Line::Other, Line::Report)
}

fn report(line: &str) -> Option<Figures> {
    let (at_s, rest) = line.strip_prefix("[ ")?.split_once("s ] thds: ")?;
    let (threads, rest) = rest.split_once(' ')?;
    let (events, queries, rest) = match rest.strip_prefix("tps: ") {
        None => {
            let (events, rest) = rest.strip_prefix("eps: ")?.split_once(" lat (ms,")?;
            (events, None, rest)
        }
        Some(rest) => {
            let (events, rest) = rest.split_once(" qps: ")?;
            let (queries, rest) = rest.split_once(" lat (ms,")?;
            (events, Some(queries), rest)
        }
    };
    let (percentile, rest) = rest.split_once("%): ")?;
    let (latency, errors) =
        rest.split_once(' ').map_or((rest, None), |(latency, rest)| (latency, Some(rest)));
    let queries = match (queries, errors) {
        (None, None) => None,
        (Some(queries), Some(errors)) => Some(self::queries(queries, errors)?),
        _ => return None,
    };
    Some(Figures {
        at_s: at_s.parse().ok()?,
        threads: threads.parse().ok()?,
        events_per_s: number(events)?,
        percentile: percentile.parse().ok().filter(|percent| *percent <= 100)?,
        latency_ms: number(latency)?,
        queries,
    })
}

/// `5691.55 (r/w/o: 3981.78/1140.51/569.25)` and `err/s: 0.00 reconn/s: 0.00`.
fn queries(rates: &str, errors: &str) -> Option<Queries> {
    let (all, rest) = rates.split_once(" (r/w/o: ")?;
    let mut parts = rest.strip_suffix(')')?.split('/').map(number);
    let (reads, writes, others) = (parts.next()??, parts.next()??, parts.next()??);
    let (errors, reconnects) = errors.strip_prefix("err/s: ")?.split_once(" reconn/s: ")?;
    let whole = parts.next().is_none();
    whole.then_some(Queries {
        per_s: number(all)?,
        reads_per_s: reads,
        writes_per_s: writes,
        others_per_s: others,
        errors_per_s: number(errors)?,
        reconnects_per_s: number(reconnects)?,
    })
}

/// A figure: finite and not negative, as every one of these is.
fn number(text: &str) -> Option<f64> {
    // `inf` and `NaN` parse, and are no figures.
    text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
}

/// A report in the form of loads without a database: what our own generators print.
pub(super) fn print(figures: &Figures) -> String {
    let Figures { at_s, threads, events_per_s, percentile, latency_ms, .. } = figures;
    format!("[ {at_s}s ] thds: {threads} eps: {events_per_s:.2} lat (ms,{percentile}%): {latency_ms:.3}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLTP: &str = "[ 3s ] thds: 4 tps: 284.13 qps: 5691.55 (r/w/o: 3981.78/1140.51/569.25) lat (ms,99%): 21.50 \
                        err/s: 0.25 reconn/s: 1.00";

    #[test]
    fn every_form_is_read() {
        let queries = Queries {
            per_s: 5_691.55,
            reads_per_s: 3_981.78,
            writes_per_s: 1_140.51,
            others_per_s: 569.25,
            errors_per_s: 0.25,
            reconnects_per_s: 1.0,
        };
        let oltp = Figures {
            at_s: 3,
            threads: 4,
            events_per_s: 284.13,
            percentile: 99,
            latency_ms: 21.5,
            queries: Some(queries),
        };
        assert_eq!(parse(OLTP), Line::Report(oltp));
        let plain = Figures {
            at_s: 86_400,
            threads: 64,
            events_per_s: 0.0,
            percentile: 95,
            latency_ms: 1.12,
            queries: None,
        };
        assert_eq!(parse("[ 86400s ] thds: 64 eps: 0.00 lat (ms,95%): 1.12"), Line::Report(plain));
        for step in [
            "Creating table 'sbtest1'",
            "Inserting 10 records into 'sbtest1'",
            "Creating a secondary index on 'sbtest1'",
        ] {
            assert_eq!(parse(&format!("{step}...")), Line::Step(step.to_owned()));
        }
        assert_eq!(parse("FATAL: error 1049: x\r"), Line::Fatal("error 1049: x".to_owned()));
        assert_eq!(parse("PANIC: x"), Line::Fatal("x".to_owned()));
        assert_eq!(parse("sextant: no order"), Line::Fatal("no order".to_owned()));
    }

    #[test]
    fn what_it_says_beside_is_nothing_of_interest() {
        for other in [
            "",
            "sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)",
            "[ 1s ] queue length: 0, concurrency: 0",
            "    transactions:                        1285   (427.12 per sec.)",
            "Threads started!",
        ] {
            assert_eq!(parse(other), Line::Other, "{other}");
        }
    }

    #[test]
    fn a_form_that_is_not_whole_is_no_report() {
        for cut in 0..OLTP.len() {
            // A number that is cut short in its digits is the one cut that cannot be told.
            let whole = OLTP[cut..].chars().all(|c| c.is_ascii_digit()) || OLTP[cut..].starts_with(".00");
            assert!(whole || parse(&OLTP[..cut]) == Line::Other, "{}", &OLTP[..cut]);
        }
        for (from, to) in [
            ("284.13", "NaN"),
            ("284.13", "inf"),
            ("21.50", "-1"),
            ("99%", "101%"),
            ("3s", "-3s"),
            ("569.25", "569.25/1"),
            ("thds: 4", "thds: 4294967296"),
            ("err/s", "mistakes"),
        ] {
            assert_eq!(parse(&OLTP.replace(from, to)), Line::Other, "{from} -> {to}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            parse(&text);
        }

        #[test]
        fn any_text_after_a_true_beginning_is_too(at in 0..OLTP.len(), text in ".*") {
            parse(&format!("{}{text}", &OLTP[..at]));
        }

        #[test]
        fn what_a_generator_prints_is_what_is_read(at_s: u32, threads: u32, events in 0.0..1e12, latency in 0.0..1e9) {
            let figures = Figures { at_s, threads, events_per_s: events, percentile: 95, latency_ms: latency, queries: None };
            let Line::Report(read) = parse(&print(&figures)) else { panic!("no report: {}", print(&figures)) };
            prop_assert!((read.events_per_s - events).abs() <= 0.005 + events * 1e-9);
            prop_assert!((read.latency_ms - latency).abs() <= 0.000_5 + latency * 1e-9);
            prop_assert_eq!((read.at_s, read.threads, read.queries), (at_s, threads, None));
        }
    }
}
