//! Prometheus and vmagent as senders to a receiver of ours: what they scraped is in its files.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use sextant::domain::series::{Operator, Selection, SeriesSamples};
use sextant_tests::prometheus::{Prometheus, Version};
use sextant_tests::role::{Role, eventually};
use sextant_tests::victoria_metrics::VmAgent;

use crate::place::{Client, config, embedded, now_ms, question};
use sextant::series::remote::Protocol;

/// As many scrapes, one each second, and a busy machine.
const SETTLE: Duration = Duration::from_secs(60);

/// It scrapes itself and sends that.
fn scraping_itself(receiver: &Role, port: u16, second_version: bool) -> String {
    let message = if second_version { ", protobuf_message: io.prometheus.write.v2.Request" } else { "" };
    format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
         remote_write: [{{url: '{}/api/v1/write'{message}, queue_config: {{batch_send_deadline: 500ms}}}}]\n",
        receiver.url
    )
}

/// What the receiver stored, after it stopped.
async fn stored(dir: &Path, selection: Selection, from_ms: i64) -> Vec<SeriesSamples> {
    let series = embedded(&dir.join("data")).await;
    let stored = series.read(&question(selection, from_ms, now_ms())).await.unwrap();
    series.close().await;
    stored
}

fn accepted(receiver: &Role) -> anyhow::Result<f64> {
    let metrics =
        std::process::Command::new("curl").args(["-s", &format!("{}/metrics", receiver.url)]).output()?;
    let text = String::from_utf8(metrics.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("sextant_series_stored_samples_total "));
    Ok(line.unwrap_or("0").parse()?)
}

#[tokio::test]
async fn what_prometheus_sends_is_stored_as_it_has_it() {
    for (version, second) in [(Version::Two, false), (Version::Three, false), (Version::Three, true)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
        let from_ms = now_ms();
        // Its port is known once it was started: it is told then what to scrape.
        let prometheus = Prometheus::start_with(version, &dir.path().join("prometheus"), "{}", &[]).unwrap();
        let port = prometheus.url().rsplit(':').next().unwrap().parse().unwrap();
        prometheus.reload_with(&scraping_itself(&receiver, port, second)).unwrap();
        eventually(SETTLE, "samples of five scrapes", || {
            let accepted = accepted(&receiver)?;
            ensure!(accepted > 2_000.0, "{accepted} samples");
            Ok(())
        })
        .unwrap();
        let failed = Selection::metric("prometheus_remote_storage_samples_failed_total");
        let up = Selection::metric("up").and("job", Operator::Equal, "self");
        let theirs = Client::new(&config(Protocol::RemoteWrite, &prometheus.url(), &prometheus.url()));
        let to_ms = now_ms() - 3_000;
        let build = Selection::metric("prometheus_tsdb_head_series");
        let theirs_up = theirs.remote.read(&question(up.clone(), from_ms, to_ms)).await.unwrap();
        let theirs_build = theirs.remote.read(&question(build.clone(), from_ms, to_ms)).await.unwrap();
        let theirs_failed = theirs.remote.read(&question(failed, from_ms, to_ms)).await.unwrap();
        assert!(
            theirs_failed.iter().all(|one| one.samples.iter().all(|sample| sample.value == 0.0)),
            "{theirs_failed:?}"
        );
        assert!(!theirs_up.is_empty() && !theirs_build.is_empty());
        // It sends behind what it scrapes.
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(prometheus);
        assert_eq!(receiver.stop().unwrap(), Some(0));
        for (selection, theirs) in [(up, theirs_up), (build, theirs_build)] {
            let mut ours = stored(dir.path(), selection, from_ms).await;
            ours.iter_mut().for_each(|one| one.samples.retain(|sample| sample.at_ms <= to_ms));
            assert_eq!(ours, theirs, "{version:?} {second}");
        }
    }
}

/// It asks for zstd first, and takes the hint.
#[tokio::test]
async fn what_vmagent_sends_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
    let from_ms = now_ms();
    let agent =
        VmAgent::start(&dir.path().join("vmagent"), &format!("{}/api/v1/write", receiver.url)).unwrap();
    eventually(SETTLE, "samples of some scrapes", || {
        let accepted = accepted(&receiver)?;
        ensure!(accepted > 1_000.0, "{accepted} samples");
        Ok(())
    })
    .unwrap();
    drop(agent);
    assert_eq!(receiver.stop().unwrap(), Some(0));
    let up = stored(dir.path(), Selection::metric("up"), from_ms).await;
    assert_eq!(up[0].labels.get("job"), Some("vmagent"));
    assert!(up[0].samples.iter().any(|sample| sample.value == 1.0), "{up:?}");
}
