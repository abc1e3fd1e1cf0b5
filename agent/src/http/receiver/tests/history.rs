//! One GPU's records over HTTP: whoever the GPU worked for, wherever it is, and however long it is gone.

use super::*;
use crate::domain::series::{Labels, Sample, SeriesSamples};

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = NOW_NS / 1_000_000;

fn series(labels: &[(&str, &str)], at_ms: i64, value: f64) -> SeriesSamples {
    let labels = Labels::new("DCGM_FI_DEV_GPU_UTIL", labels.iter().copied()).unwrap();
    SeriesSamples { labels, samples: vec![Sample { at_ms, value }] }
}

async fn values(receiver: &Receiver, path: &str) -> Vec<f64> {
    let answer = get(&receiver.router, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    let records = answer.json();
    let records = records["data"].as_array().unwrap();
    records.iter().map(|record| record["value"].as_f64().unwrap()).collect()
}

/// Each pod that it worked for made series of its own.
#[tokio::test]
async fn all_pods_that_a_gpu_ever_had_are_no_question_too_large() {
    let receiver = receiver().await;
    let of_pod = |n: i64, back_ms: i64| {
        let pod = format!("pod-{n}");
        series(&[("UUID", "GPU-a"), ("device", "nvidia0"), ("pod", &pod)], NOW_MS - back_ms, n as f64)
    };
    let before = (0..2_500).map(|n| of_pod(n, 3 * DAY_MS + n));
    let batch = before.chain([of_pod(9_000, 1_000), of_pod(9_001, 500)]).collect();
    receiver.series.append("s", batch).await.unwrap();
    for id in ["GPU-a", "nvidia0"] {
        let path = format!("/api/v1/gpus/{id}/telemetry");
        assert_eq!(values(&receiver, &format!("{path}?limit=3")).await, [0.0, 9_000.0, 9_001.0], "{id}");
        assert_eq!(values(&receiver, &format!("{path}?limit=10000")).await.len(), 2_502, "{id}");
    }
}

#[tokio::test]
async fn a_name_that_every_host_has_is_found_on_all_of_them() {
    let receiver = receiver().await;
    let of_host = |n: i64| {
        let (uuid, host) = (format!("GPU-{n}"), format!("host-{n}"));
        series(&[("UUID", &uuid), ("device", "nvidia0"), ("Hostname", &host)], NOW_MS - n, n as f64)
    };
    // One whose records have no UUID goes by its name.
    let unnamed = series(&[("UUID", "nvidia0"), ("device", "nvidia0"), ("Hostname", "h")], NOW_MS, -1.0);
    receiver.series.append("s", (1..=2_500).map(of_host).chain([unnamed]).collect()).await.unwrap();
    let newest = values(&receiver, "/api/v1/gpus/nvidia0/telemetry?limit=3").await;
    assert_eq!(newest, [2.0, 1.0, -1.0]);
}

#[tokio::test]
async fn one_that_is_gone_is_found_where_it_was() {
    let receiver = receiver().await;
    let gone = series(&[("UUID", "GPU-a"), ("device", "card0")], NOW_MS - 20 * DAY_MS, 5.0);
    let other = series(&[("UUID", "GPU-b"), ("device", "card1")], NOW_MS, 6.0);
    receiver.series.append("s", vec![gone, other]).await.unwrap();
    for id in ["GPU-a", "card0"] {
        let path = format!("/api/v1/gpus/{id}/telemetry");
        assert_eq!(values(&receiver, &path).await, [5.0]);
        assert_eq!(values(&receiver, &format!("{path}?metric=other")).await, [0.0; 0]);
        // It is known, and said nothing then.
        let since = (NOW_MS - DAY_MS) / 1_000;
        assert_eq!(values(&receiver, &format!("{path}?start={since}")).await, [0.0; 0]);
    }
    for path in ["/api/v1/gpus/GPU-c/telemetry", "/api/v1/gpus/GPU-c/telemetry?start=0"] {
        assert_eq!(get(&receiver.router, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// However few buckets are asked for, each is of all its samples.
#[tokio::test]
async fn a_bucket_is_whole() {
    let receiver = receiver().await;
    // The clock stands at half past ten: a sample for each ten minutes of two days.
    let at = |n: i64| Sample { at_ms: NOW_MS - n * 600_000, value: n as f64 };
    let labels = Labels::new("m", [("UUID", "u")]).unwrap();
    let samples = (0..288).map(at).collect();
    receiver.series.append("s", vec![SeriesSamples { labels, samples }]).await.unwrap();
    let path = "/api/v1/gpus/u/telemetry?step=1d&agg=count";
    // A bucket has its end and not its beginning: midnight belongs to the day before.
    let (today, before) = (63.0, 144.0);
    assert_eq!(values(&receiver, &format!("{path}&limit=1")).await, [today]);
    assert_eq!(values(&receiver, &format!("{path}&limit=2")).await, [before, today]);
    assert_eq!(values(&receiver, path).await, [288.0 - today - before, before, today]);
    // A start within a bucket is where it begins.
    let start = NOW_MS / 1_000 - 3_600;
    assert_eq!(values(&receiver, &format!("{path}&limit=1&start={start}")).await, [7.0]);
    let hourly = values(&receiver, "/api/v1/gpus/u/telemetry?step=1h&agg=count&limit=3").await;
    assert_eq!(hourly, [6.0, 6.0, 3.0]);
}
