//! What a configuration cannot be, section by section, each with an example of what it can.

use super::{Config, INTERVAL_MS, USAGE_RECORD_INTERVAL_MIN_MS};
use crate::delivery::transport::ring::MAX_RECEIVERS;
use crate::sources::database::prometheus::Prometheus;

/// Adds what cannot be.
pub(super) fn validate(config: &Config, errors: &mut Vec<String>) {
    for (section, listen) in [("node", &config.node.listen), ("receiver", &config.receiver.listen)] {
        if listen.is_empty() {
            errors
                .push(format!("[{section}] listen: at least one address is needed, such as 127.0.0.1:8090"));
        }
        for address in listen {
            if address.parse::<std::net::SocketAddr>().is_err() {
                errors
                    .push(format!("[{section}] listen: `{address}` is no ADDR:PORT, such as 127.0.0.1:8090"));
            }
        }
    }
    let receivers = &config.forward.receivers;
    if receivers.len() > MAX_RECEIVERS {
        errors.push(format!("[forward] receivers: {} are more than {MAX_RECEIVERS}", receivers.len()));
    }
    for (at, url) in receivers.iter().enumerate() {
        if !is_http_url(url) {
            errors.push(format!("[forward] receivers: `{url}` is no URL, such as http://10.0.0.5:8080"));
        } else if receivers[..at].contains(url) {
            errors.push(format!("[forward] receivers: `{url}` is there twice"));
        } else if config.forward.tls.is_set() && !url.starts_with("https:") {
            errors.push(format!("[forward.tls]: `{url}` would go without TLS; https:// in its place?"));
        }
    }
    let jetstream = &config.forward.jetstream;
    if !jetstream.servers.is_empty() {
        if let Err(error) = jetstream.check() {
            errors.push(format!("[forward.jetstream] {error}"));
        }
        if !receivers.is_empty() {
            errors.push("[forward]: receivers or jetstream, not both".to_owned());
        }
    }
    if let Err(error) = config.http.tls.wanted() {
        errors.push(format!("[http.tls] {error}"));
    }
    if let Err(error) = config.queue.check() {
        errors.push(format!("[queue] {error}"));
    }
    if let Err(error) = config.alerts.check() {
        errors.push(format!("[alerts] {error}"));
    }
    if let Err(error) = config.series.check() {
        errors.push(format!("[series] {error}"));
    }
    if let Err(error) = config.events.check() {
        errors.push(format!("[events] {error}"));
    }
    if let Err(error) = config.keys.check() {
        errors.push(format!("[keys] {error}"));
    }
    let prometheus = &config.database_source.prometheus_url;
    if !prometheus.is_empty()
        && let Err(error) = Prometheus::new(prometheus)
    {
        errors.push(format!("[database_source] prometheus_url: {error}"));
    }
    if let Err(error) = config.gpu.check() {
        errors.push(format!("[gpu] {error}"));
    }
    if let Err(error) = config.workloads.check() {
        errors.push(format!("[workloads] {error}"));
    }
    for (key, percent, such_as) in [
        ("max_percent_of_node", config.actions.max_percent_of_node, 95),
        ("min_percent_of_memory", config.actions.min_percent_of_memory, 10),
        ("max_percent_of_disk", config.actions.max_percent_of_disk, 95),
    ] {
        if !(1..=100).contains(&percent) {
            errors.push(format!("[actions] {key}: {percent} is outside 1 to 100, such as {such_as}"));
        }
    }
    let node = &config.node;
    for (key, value_ms) in [
        ("node] interval_ms", node.interval_ms),
        ("node] scheduler_record_interval_ms", node.scheduler_record_interval_ms),
        ("node] pods_record_interval_ms", node.pods_record_interval_ms),
        ("database_source] interval_ms", config.database_source.interval_ms),
        ("pods] interval_ms", config.pods.interval_ms),
        ("runqlat] interval_ms", config.runqlat.interval_ms),
        ("scheduler.watchdog] interval_ms", config.scheduler.watchdog.interval_ms),
        ("scheduler] event_interval_ms", config.scheduler.event_interval_ms),
        ("usage] interval_ms", config.usage.interval_ms),
        ("gpu] interval_ms", config.gpu.interval_ms),
    ] {
        let (min, max) = (INTERVAL_MS.start(), INTERVAL_MS.end());
        if !INTERVAL_MS.contains(&value_ms) {
            errors.push(format!("[{key}: {value_ms} is outside {min} to {max}, such as 1000"));
        }
    }
    let percent = config.scheduler.watchdog.warn_percent;
    if !(1..=99).contains(&percent) {
        errors.push(format!("[scheduler.watchdog] warn_percent: {percent} is outside 1 to 99, such as 33"));
    }
    let (value_ms, min) = (node.usage_record_interval_ms, USAGE_RECORD_INTERVAL_MIN_MS);
    if !(min..=*INTERVAL_MS.end()).contains(&value_ms) {
        let max = INTERVAL_MS.end();
        errors.push(format!(
            "[node] usage_record_interval_ms: {value_ms} is outside {min} to {max}, such as 30000"
        ));
    }
}

/// It can be a receiver's.
pub(super) fn is_http_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
