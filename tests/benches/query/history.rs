//! A GPU's day of a sample a second, as a dashboard asks for it: one of eight, ten metrics each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sextant_tests::gpu_load::Load;
use sextant_tests::keep_alive::question;
use sextant_tests::process::{cpu_s, mib, rss_bytes};
use sextant_tests::remote_write::{count, count_of_peer, requests, seconds, send};
use sextant_tests::role::eventually;
use sextant_tests::victoria_metrics::VictoriaMetrics;

use super::{DAY_MS, SCALE, ask, at, receiver, today_ms, words};

const GPUS: usize = 8;
const METRICS: u64 = 10;
const BUCKET_S: i64 = 300;

/// Until a peer shows what it took.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy)]
enum Ask {
    Averages,
    Raw,
    AllAverages,
}

const ASKS: [(Ask, &str); 3] = [
    (Ask::Averages, "one metric, averages of 5 minutes"),
    (Ask::Raw, "one metric, every sample"),
    (Ask::AllAverages, "ten metrics, averages of 5 minutes"),
];

/// What a server needed for one of the questions.
struct Took {
    waits: Vec<Duration>,
    busy_s: f64,
}

/// The day, from its first second on.
struct Day {
    /// Behind the end of the bucket before.
    from_ms: i64,
    to_ms: i64,
    selector: String,
}

pub(super) fn run(dir: &Path) -> Result<()> {
    let mut load = Load::new(GPUS);
    let uuid = load.seconds(0, 1)[3 * 10].labels.get("UUID").context("a GPU")?.to_owned();
    // The first sample stands a second behind midnight, the last one at the next.
    let from_ms = today_ms() - DAY_MS + 1_000;
    let to_ms = from_ms + (SCALE.day_s - 1) * 1_000;
    let day = Day { from_ms, to_ms, selector: format!("{{UUID=\"{uuid}\"}}") };
    let samples = load.len() as u64 * u64::try_from(SCALE.day_s)?;
    let requests = requests(&mut load, from_ms, SCALE.day_s, 1);
    println!("a GPU's day of {} s among {GPUS} GPUs, {samples} samples, over HTTP:", SCALE.day_s);

    let ours = receiver(&dir.join("receiver"), "")?;
    send(ours.address(), &requests)?;
    let found = count(ours.address(), from_ms, to_ms)?;
    ensure!(found == samples, "{found} samples are queryable, {samples} were acknowledged");
    let mut took = Vec::new();
    for (what, name) in ASKS {
        let one = measure(ours.address(), ours.pid(), &day.of_ours(what), |answer| points(answer, what))?;
        println!(
            "  {name:<35} {}, {:.2} ms of CPU each   (goal: p99 20 ms)",
            words(&one.waits),
            one.each_ms()
        );
        took.push(one);
    }
    println!("  sextant has {:.0} MiB RSS after that", mib(rss_bytes(ours.pid())?));
    ensure!(ours.stop()? == Some(0), "the receiver failed");

    if let Err(error) = peer(&dir.join("peer"), &requests, &day, samples, &took) {
        println!("  VictoriaMetrics: not measured: {error:#}");
    }
    Ok(())
}

/// VictoriaMetrics, asked for the same without its cache of answers: a receiver has none.
fn peer(dir: &Path, requests: &[Vec<Vec<u8>>], day: &Day, samples: u64, ours: &[Took]) -> Result<()> {
    let peer = VictoriaMetrics::start(dir)?;
    send(peer.address(), requests)?;
    peer.flush()?;
    eventually(PATIENCE, "it shows all samples", || {
        let found = count_of_peer(peer.address(), day.from_ms, day.to_ms)?;
        ensure!(found == samples, "{found} of {samples}");
        Ok(())
    })?;
    for ((what, name), ours) in ASKS.into_iter().zip(ours) {
        let theirs =
            measure(peer.address(), peer.pid(), &day.of_peer(what), |answer| points_of_peer(answer, what))?;
        println!(
            "  VictoriaMetrics, {name:<35} {}, {:.2} ms of CPU each; sextant / it: p50 {:.2}, p99 {:.2}, CPU {:.2}",
            words(&theirs.waits),
            theirs.each_ms(),
            at(&ours.waits, 500) / at(&theirs.waits, 500),
            at(&ours.waits, 990) / at(&theirs.waits, 990),
            ours.busy_s / theirs.busy_s
        );
    }
    println!("  VictoriaMetrics has {:.0} MiB RSS after that", mib(rss_bytes(peer.pid())?));
    Ok(())
}

/// Asks, and sees that the answer has as many points as there are.
fn measure(
    address: &str,
    pid: u32,
    question: &[u8],
    points: impl Fn(&str) -> Result<(u64, u64)>,
) -> Result<Took> {
    let before_s = cpu_s(pid)?;
    let (waits, answer) = ask(address, question, SCALE.questions)?;
    let busy_s = cpu_s(pid)? - before_s;
    let (found, expected) = points(&answer)?;
    ensure!(found == expected, "{found} points in the answer, {expected} expected");
    Ok(Took { waits, busy_s })
}

impl Took {
    /// CPU of one answer, ms.
    fn each_ms(&self) -> f64 {
        self.busy_s * 1e3 / self.waits.len() as f64
    }
}

impl Day {
    fn one_metric(&self) -> String {
        format!("DCGM_FI_DEV_GPU_UTIL{}", self.selector)
    }

    fn of_ours(&self, what: Ask) -> Vec<u8> {
        let (start, end) = (seconds(self.from_ms), seconds(self.to_ms));
        let (one, step) = (self.one_metric(), BUCKET_S.to_string());
        let selector = if matches!(what, Ask::AllAverages) { &self.selector } else { &one };
        let mut parameters = vec![("match", selector.as_str()), ("start", &start), ("end", &end)];
        if !matches!(what, Ask::Raw) {
            parameters.extend([("step", step.as_str()), ("agg", "avg")]);
        }
        question("/api/v1/samples", &parameters)
    }

    fn of_peer(&self, what: Ask) -> Vec<u8> {
        let one = self.one_metric();
        if matches!(what, Ask::Raw) {
            let (start, end) = (seconds(self.from_ms), seconds(self.to_ms));
            return question("/api/v1/export", &[("match[]", &one), ("start", &start), ("end", &end)]);
        }
        let selector = if matches!(what, Ask::AllAverages) { &self.selector } else { &one };
        // Points stand at the ends of the buckets.
        let start = seconds(self.from_ms - 1_000 + BUCKET_S * 1_000);
        let (end, step) = (seconds(self.to_ms), BUCKET_S.to_string());
        let query = format!("avg_over_time({selector}[{BUCKET_S}s]) keep_metric_names");
        let parameters = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
        question("/api/v1/query_range", &[&parameters[..], &[("nocache", "1")]].concat())
    }
}

/// Points that an answer has to have.
fn expected(what: Ask) -> Result<u64> {
    let (samples, buckets) = (u64::try_from(SCALE.day_s)?, u64::try_from(SCALE.day_s / BUCKET_S)?);
    Ok(match what {
        Ask::Averages => buckets,
        Ask::Raw => samples,
        Ask::AllAverages => buckets * METRICS,
    })
}

/// Points in an answer of ours, and expected.
fn points(answer: &str, what: Ask) -> Result<(u64, u64)> {
    let answer: Value = serde_json::from_str(answer)?;
    let series = answer["series"].as_array().context("no series")?;
    let found = series.iter().filter_map(|one| one["samples"].as_array()).map(Vec::len).sum::<usize>();
    Ok((u64::try_from(found)?, expected(what)?))
}

/// The same of the peer's: an export is a JSON object on each line.
fn points_of_peer(answer: &str, what: Ask) -> Result<(u64, u64)> {
    let mut found = 0;
    if matches!(what, Ask::Raw) {
        for line in answer.lines() {
            let line: Value = serde_json::from_str(line)?;
            found += line["values"].as_array().context("no values")?.len();
        }
    } else {
        let answer: Value = serde_json::from_str(answer)?;
        let series = answer["data"]["result"].as_array().context("no result")?;
        found = series.iter().filter_map(|one| one["values"].as_array()).map(Vec::len).sum();
    }
    Ok((u64::try_from(found)?, expected(what)?))
}
