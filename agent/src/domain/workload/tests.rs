use super::*;

fn workload() -> Workload {
    Workload {
        id: "oltp_read_only_20261122_103000".to_owned(),
        kind: Kind::Oltp("oltp_read_only"),
        threads: 4,
        duration_s: 60,
        rate: None,
        state: State::Running,
        phase: Phase::Running,
        progress: None,
        reason: None,
        pid: None,
        started_at_ns: 0,
        ended_at_ns: None,
        latest: None,
        series: Vec::new(),
        totals: Totals::default(),
    }
}

fn at(at_s: u32, events_per_s: f64) -> Figures {
    let queries = Queries { per_s: events_per_s * 20.0, errors_per_s: 1.0, ..Queries::default() };
    Figures { at_s, threads: 4, events_per_s, percentile: 95, latency_ms: 2.0, queries: Some(queries) }
}

#[test]
fn totals_are_the_sum_of_the_reports_and_a_gap_counts_for_its_length() {
    let mut workload = workload();
    for figures in [at(1, 10.0), at(2, 20.0), at(4, 30.0), at(4, 99.0), at(3, 99.0)] {
        workload.push(figures);
    }
    let Totals { covered_s, events, queries, errors, worst_latency_ms } = workload.totals;
    assert_eq!((covered_s, events, queries), (4, 90.0, Some(1_800.0)), "10 + 20 + 2 x 30");
    assert_eq!((errors, worst_latency_ms), (Some(4.0), Some(2.0)));
    assert_eq!(workload.totals.events_per_s(), Some(22.5));
    assert_eq!(workload.series.len(), 3, "time that stands or goes back is no report");
}

#[test]
fn a_long_series_is_thinned_out_and_keeps_its_beginning_and_its_end() {
    let mut workload = workload();
    for second in 1..=100_000 {
        workload.push(at(second, 1.0));
    }
    assert!(workload.series.len() <= MAX_POINTS);
    assert!(workload.series.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
    assert!(workload.series[0].at_s < 1_000);
    assert_eq!(workload.series.last().map(|point| point.at_s), Some(100_000));
    assert_eq!(workload.totals.covered_s, 100_000, "totals lose nothing");
}

#[test]
fn names_are_a_closed_set() {
    for name in Kind::names().split(", ") {
        assert_eq!(Kind::named(name).map(Kind::name), Some(name));
    }
    for wrong in ["", "prepare", "sysbench", "oltp_", "oltp_read_write;reboot", "../oltp_read_write"] {
        assert_eq!(Kind::named(wrong), None, "{wrong}");
    }
}
