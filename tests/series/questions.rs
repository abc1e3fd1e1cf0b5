//! The same questions to every store, and to the embedded engine: the same answers.

use sextant::domain::series::{Aggregation, Operator, Range, Sample, Selection, SeriesSamples};
use sextant::series::Appended;
use sextant::series::remote::Protocol;

use crate::place::{Kind, ODD, Place, embedded, now_ms, question, series, sorted};

/// Ten minutes of eight GPUs, a series of each odd label, and one that ended; `said` leaves out what lines cannot say.
fn fleet(to_ms: i64, lines: bool) -> Vec<SeriesSamples> {
    let from_ms = to_ms - 600_000;
    let mut batch = Vec::new();
    for gpu in 0..8_u8 {
        let samples: Vec<_> = (0..600_i64)
            .map(|second| {
                (
                    from_ms + 1_000 * second + i64::from(gpu),
                    f64::from(gpu) * 10.0 + (second % 7) as f64 * 0.25,
                )
            })
            .collect();
        batch.push(series(
            "DCGM_FI_DEV_GPU_UTIL",
            &[("gpu", &gpu.to_string()), ("Hostname", "h1")],
            &samples,
        ));
    }
    for value in ODD.into_iter().filter(|value| !lines || !value.contains('\n')) {
        batch.push(series("odd_labels", &[("value", value)], &[(to_ms - 5_000, 1.0), (to_ms, 2.0)]));
    }
    let mut ended = series("ended_then", &[], &[(from_ms, 1.0), (from_ms + 1_000, 2.0)]);
    if !lines {
        ended.samples.push(Sample::stale(from_ms + 2_000));
    }
    batch.push(ended);
    batch.push(series("just_now", &[], &[(to_ms, -17.5)]));
    sorted(batch)
}

fn all() -> Selection {
    Selection::default().and("__name__", Operator::NotEqual, "")
}

fn without_ends(batch: &[SeriesSamples]) -> Vec<SeriesSamples> {
    let mut batch = batch.to_vec();
    batch.iter_mut().for_each(|one| one.samples.retain(|sample| !sample.is_stale()));
    batch
}

#[tokio::test]
async fn every_store_answers_as_the_embedded_engine_does() {
    for kind in Kind::ALL {
        let mut protocols = vec![Protocol::RemoteWrite];
        if kind == Kind::VictoriaMetrics {
            protocols.push(Protocol::Influx);
        }
        for protocol in protocols {
            compare(kind, protocol).await;
        }
    }
}

async fn compare(kind: Kind, protocol: Protocol) {
    let place = Place::start(kind);
    let client = place.client(protocol);
    let to_ms = now_ms() - 1_000;
    let batch = fleet(to_ms, protocol == Protocol::Influx);
    let samples: usize = batch.iter().map(|one| one.samples.len()).sum();
    let appended = client.remote.append(batch.clone()).await.unwrap();
    assert_eq!(appended, Appended { stored: samples as u64, ..Appended::default() }, "{kind:?} {protocol:?}");
    place.flush();
    let ours = embedded(&place.dir.path().join("ours")).await;
    ours.append("n", batch.clone()).await.unwrap();

    let (from_ms, whole) = (to_ms - 600_000, without_ends(&batch));
    client.shows(&question(all(), from_ms, to_ms), &whole).await;
    let gpus = Selection::metric("DCGM_FI_DEV_GPU_UTIL");
    let selections = [
        all(),
        gpus.clone(),
        gpus.clone().and("gpu", Operator::Equal, "3"),
        gpus.clone().and("gpu", Operator::NotEqual, "3"),
        gpus.clone().and("gpu", Operator::Fits, "[1-3]|7"),
        gpus.clone().and("gpu", Operator::FitsNot, "[1-3]|7"),
        gpus.clone().and("nosuch", Operator::Equal, ""),
        gpus.clone().and("nosuch", Operator::NotEqual, ""),
        Selection::default().and("gpu", Operator::Fits, ".+"),
        Selection::default().and("value", Operator::Equal, "").and("gpu", Operator::Equal, ""),
    ];
    let odd = ODD.map(|value| Selection::default().and("value", Operator::Equal, value));
    let ranges = [
        (from_ms, to_ms),
        (from_ms + 1_000, from_ms + 2_000),
        // One moment, one beside it, and none.
        (to_ms, to_ms),
        (to_ms + 1, to_ms + 5_000),
        (from_ms - 86_400_000, from_ms),
        (to_ms, from_ms),
    ];
    for selection in selections.iter().chain(&odd) {
        for (from_ms, to_ms) in ranges {
            for buckets in [
                None,
                Some((60_000, Aggregation::Avg)),
                Some((7_000, Aggregation::Max)),
                Some((1, Aggregation::Last)),
            ] {
                let query = sextant::series::Query { buckets, ..question(selection.clone(), from_ms, to_ms) };
                let mut expected = ours.read(&query).await.unwrap();
                expected.iter_mut().for_each(|one| one.samples.retain(|sample| !sample.is_stale()));
                expected.retain(|one| !one.samples.is_empty());
                let got = client.remote.read(&query).await.unwrap();
                assert_eq!(got, expected, "{kind:?} {protocol:?} {query:?}");
            }
        }
        let range = Range { from_ms, to_ms };
        let found = client.remote.find(selection, range, 100).await.unwrap();
        let mut expected = ours.find(selection, range, 100).await.unwrap();
        // Where a series ends is no sample of another store's.
        for one in expected.iter_mut().filter(|one| one.labels.metric() == "ended_then") {
            one.last_ms = from_ms + 1_000;
        }
        assert_eq!(found, expected, "{kind:?} {protocol:?} {selection:?}");
        let values = client.remote.label_values("gpu", selection, range).await.unwrap();
        assert_eq!(
            values,
            ours.label_values("gpu", selection, range).await.unwrap(),
            "{kind:?} {selection:?}"
        );
    }
    for (selection, value) in odd.iter().zip(ODD) {
        let found = client.remote.read(&question(selection.clone(), from_ms, to_ms)).await.unwrap();
        let said = protocol != Protocol::Influx || !value.contains('\n');
        assert_eq!(found.len(), usize::from(said), "one series and no other: {value:?}");
    }
    let range = Range { from_ms, to_ms };
    assert_eq!(client.remote.label_names(range).await.unwrap(), ours.label_names(range).await.unwrap());
    ours.close().await;
}

#[tokio::test]
async fn floats_are_what_prometheus_was_given() {
    for kind in [Kind::Prometheus2, Kind::Prometheus3] {
        let place = Place::start(kind);
        let client = place.client(Protocol::RemoteWrite);
        let now_ms = now_ms();
        let values = [
            0.1,
            1.0 / 3.0,
            f64::MAX,
            5e-324,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            2f64.powi(64),
            123_456_789.123_456_79,
        ];
        let samples: Vec<_> = (0..).zip(values).map(|(n, value)| (now_ms - 10_000 + n, value)).collect();
        let batch = vec![series("floats", &[], &samples)];
        client.remote.append(batch.clone()).await.unwrap();
        client.shows(&question(Selection::metric("floats"), now_ms - 20_000, now_ms), &batch).await;
        // A NaN is one, with other bits perhaps.
        client.remote.append(vec![series("nan", &[], &[(now_ms, f64::NAN)])]).await.unwrap();
        let got = client.remote.read(&question(Selection::metric("nan"), now_ms, now_ms)).await.unwrap();
        assert!(got[0].samples[0].value.is_nan(), "{kind:?} {got:?}");
    }
}
