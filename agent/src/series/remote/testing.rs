//! A server on loopback in the place of a store.

use axum::Router;
use tokio::net::TcpListener;

use super::Config;
use crate::domain::series::{Labels, Sample, SeriesSamples};

/// Serves until the test ends; its address.
pub(super) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A store there, with little patience.
pub(super) fn config(url: &str) -> Config {
    Config {
        write_url: format!("{url}/api/v1/write"),
        read_url: url.to_owned(),
        timeout_ms: 300,
        retry_ms: 20_000,
        ..Config::default()
    }
}

pub(super) fn series(metric: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
    SeriesSamples { labels: Labels::new(metric, labels.iter().copied()).unwrap(), samples }
}
