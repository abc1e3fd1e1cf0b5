//! The engine against a plain map, over days, restarts and packing.

mod faults;
mod kill;
mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::day::Day;
use super::*;
use crate::disk::medium::Medium;
use crate::domain::series::{Aggregation, Labels, Operator, bucketed};

/// 2026-11-22 00:30 UTC, ms.
const NOW_MS: i64 = 20_779 * DAY_MS + 1_800_000;

fn clock() -> i64 {
    NOW_MS * 1_000_000
}

impl Embedded {
    /// What one source brings.
    async fn append_of(&self, source: &str, series: Vec<SeriesSamples>) -> Result<Appended, Error> {
        self.append(vec![Brought { source: source.into(), series }]).await
    }
}

fn labels(series: u8) -> Labels {
    let metric = if series.is_multiple_of(2) { "even" } else { "odd" };
    Labels::new(metric, [("n", series.to_string()), ("third", (series % 3).to_string())]).unwrap()
}

fn one(series: u8, at_ms: i64, value: f64) -> SeriesSamples {
    SeriesSamples { labels: labels(series), samples: vec![Sample { at_ms, value }] }
}

/// A head so small that most of it is in chunks soon.
fn small() -> Config {
    Config { max_head_samples: 40, ..Config::default() }
}

async fn open(directory: &Path) -> Embedded {
    Embedded::open(directory, &small(), Metrics::default(), clock).await.unwrap()
}

fn question(selection: Selection, range: Range) -> Query {
    Query { selection, range, buckets: None, max_series: 1_000, max_samples: 1_000_000 }
}

const ALWAYS: Range = Range { from_ms: i64::MIN, to_ms: i64::MAX };

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, i64, u64)>),
    Read { from: i64, width: i64, which: u8, bucket: Option<(i64, usize)> },
    Reopen,
    Pack,
}

fn step() -> impl Strategy<Value = Step> {
    // Two hours around midnight, a sample a minute at most: times come again.
    let at = -60..30_i64;
    let value = prop_oneof![any::<u64>(), (0..5_u64).prop_map(|n| (n as f64).to_bits())];
    let rows = prop::collection::vec((0..6_u8, at.clone(), value), 1..60);
    let bucket = prop::option::of((1..200_i64, 0..Aggregation::ALL.len()));
    prop_oneof![
        6 => rows.prop_map(Step::Append),
        3 => (at, 0..100_i64, 0..5_u8, bucket)
            .prop_map(|(from, width, which, bucket)| Step::Read { from, width, which, bucket }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Pack),
    ]
}

fn selection(which: u8) -> Selection {
    let all = Selection::default();
    match which {
        0 => all,
        1 => Selection::metric("odd"),
        2 => all.and("third", Operator::Fits, "1|2"),
        3 => all.and("n", Operator::NotEqual, "3"),
        _ => Selection::metric("odd").and("third", Operator::FitsNot, "0"),
    }
}

fn is_selected(which: u8, series: u8) -> bool {
    match which {
        0 => true,
        1 => series % 2 == 1,
        2 => !series.is_multiple_of(3),
        3 => series != 3,
        _ => series % 2 == 1 && !series.is_multiple_of(3),
    }
}

type Model = BTreeMap<u8, BTreeMap<i64, f64>>;

fn expected(
    model: &Model,
    which: u8,
    range: Range,
    bucket: Option<(i64, Aggregation)>,
) -> Vec<SeriesSamples> {
    let mut all: Vec<_> = model
        .iter()
        .filter(|(series, _)| is_selected(which, **series))
        .map(|(series, samples)| {
            let within = samples.iter().filter(|(at_ms, _)| range.contains(**at_ms));
            let samples: Vec<_> =
                within.map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
            let samples = match bucket {
                Some((step_ms, how)) => bucketed(&samples, step_ms, how),
                None => samples,
            };
            SeriesSamples { labels: labels(*series), samples }
        })
        .filter(|series| !series.samples.is_empty())
        .collect();
    all.sort_by(|one, other| one.labels.cmp(&other.labels));
    all
}

/// What a day's file accounts for, everything in chunks.
async fn totals(engine: &Embedded) -> (u64, u64) {
    let (mut accepted, mut in_chunks) = (0, 0);
    for day in engine.days_within(ALWAYS).unwrap() {
        engine.ask(day, |reply| Command::Finish { reply }).await.unwrap().unwrap();
        let (totals, head) = engine.ask(day, |reply| Command::Totals { reply }).await.unwrap().unwrap();
        assert_eq!(head, 0);
        accepted += totals.accepted;
        in_chunks += totals.in_chunks;
    }
    (accepted, in_chunks)
}

async fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path()).await;
    let (mut model, mut appended) = (Model::new(), 0);
    for step in steps {
        match step {
            Step::Append(rows) => {
                let mut batch: BTreeMap<u8, Vec<Sample>> = BTreeMap::new();
                for (series, minute, bits) in rows {
                    let sample = Sample { at_ms: NOW_MS + minute * 60_000, value: f64::from_bits(bits) };
                    batch.entry(series).or_default().push(sample);
                    model.entry(series).or_default().insert(sample.at_ms, sample.value);
                    appended += 1;
                }
                let count = batch.values().map(|samples| samples.len() as u64).sum();
                let batch =
                    batch.into_iter().map(|(n, samples)| SeriesSamples { labels: labels(n), samples });
                let answer = engine.append_of("s", batch.collect()).await.unwrap();
                assert_eq!(answer, Appended { stored: count, ..Appended::default() });
            }
            Step::Read { from, width, which, bucket } => {
                let from_ms = NOW_MS + from * 60_000;
                let range = Range { from_ms, to_ms: from_ms + width * 60_000 };
                let buckets = bucket.map(|(minutes, how)| (minutes * 60_000, Aggregation::ALL[how]));
                let query = Query { buckets, ..question(selection(which), range) };
                let (got, wanted) =
                    (engine.read(&query).await.unwrap(), expected(&model, which, range, buckets));
                assert_eq!(got, wanted);
            }
            Step::Reopen => {
                engine.close().await;
                engine = open(directory.path()).await;
            }
            Step::Pack => drop(totals(&engine).await),
        }
    }
    let found = engine.find(&Selection::default(), ALWAYS, 100).await.unwrap();
    let last = |series: &u8| model.get(series).and_then(|samples| samples.keys().last().copied());
    let known: BTreeMap<_, _> = model.keys().map(|n| (Arc::new(labels(*n)), last(n).unwrap())).collect();
    assert_eq!(
        found.into_iter().map(|found| (found.labels, found.last_ms)).collect::<BTreeMap<_, _>>(),
        known
    );
    let distinct: usize = model.values().map(BTreeMap::len).sum();
    assert_eq!(totals(&engine).await, (appended, distinct as u64), "accepted, and each time once");
    assert_eq!(
        engine.read(&question(Selection::default(), ALWAYS)).await.unwrap(),
        expected(&model, 0, ALWAYS, None)
    );
    engine.close().await;
    assert!(matches!(engine.append_of("s", vec![one(1, NOW_MS, 1.0)]).await, Ok(_) | Err(Error::Closed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_answers_as_a_map_does(steps in prop::collection::vec(step(), 1..25)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}

/// Chunks of many pages, of series that interleave, and samples that come late into the midst of them.
#[tokio::test]
async fn long_series_are_cut_and_put_together() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).await;
    let mut model = Model::new();
    let noise = |n: i64| {
        f64::from_bits(0x4059_0000_0000_0000 ^ n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20)
    };
    let start_ms = NOW_MS - 1_200_000;
    for block in (0..12).chain([3, 7]) {
        for series in 0..3 {
            // The second time half a second later, between those that are there.
            let late = if model.get(&series).is_some_and(|known| known.len() > 11_999) { 500 } else { 0 };
            let samples: Vec<_> = (block * 1_000..(block + 1) * 1_000)
                .map(|n| Sample { at_ms: start_ms + n * 100 + late, value: noise(n) })
                .collect();
            let known = model.entry(series).or_default();
            known.extend(samples.iter().map(|sample| (sample.at_ms, sample.value)));
            engine.append_of("s", vec![SeriesSamples { labels: labels(series), samples }]).await.unwrap();
        }
    }
    let (accepted, in_chunks) = totals(&engine).await;
    let distinct: usize = model.values().map(BTreeMap::len).sum();
    assert_eq!((accepted, in_chunks), (42_000, distinct as u64));
    assert_eq!(
        engine.read(&question(Selection::default(), ALWAYS)).await.unwrap(),
        expected(&model, 0, ALWAYS, None)
    );
}
