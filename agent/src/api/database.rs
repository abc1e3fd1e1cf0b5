//! A database's figures on the wire, as the reference backend's document has them.
//!
//! A figure that there is not is `null`, with its reason in `reasons`. Timestamps are UTC, in the document's form.

pub mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::plain_seconds;
use crate::domain::database::{self, Figure, History};

/// What `GET /api/metrics/database` answers, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseMetrics {
    /// Samples of the last half hour.
    pub metrics: Vec<DatabaseSample>,
    /// Why a figure of the latest sample is null, by its name; `database`: why there is no sample at the moment.
    pub reasons: BTreeMap<String, String>,
    /// The server's kind and version.
    pub server: Option<String>,
}

/// A database at one moment; rates are of the time since the sample before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseSample {
    /// UTC, such as `2024-01-10T12:00:00`.
    pub timestamp: String,
    /// Statements a second.
    pub qps: Option<f64>,
    /// Transactions a second that were committed or rolled back.
    pub tps: Option<f64>,
    /// Sessions that do something.
    pub active_sessions: Option<f64>,
    /// Mean time of a statement, s.
    pub sql_response_time: Option<f64>,
    /// Bytes read and written a second.
    pub disk_io_bytes: Option<f64>,
    /// Reads and writes a second.
    pub disk_iops: Option<f64>,
    /// Memory, MB (2^20 bytes).
    pub memory_usage: Option<f64>,
    /// Reads of pages that needed no disk, percent.
    pub cache_hit_ratio: Option<f64>,
    /// Slow statements since the sample before.
    pub slow_queries: Option<f64>,
    /// Deadlocks since the sample before.
    pub deadlocks: Option<f64>,
    /// How far the replica that is furthest behind is, s.
    pub replication_lag: Option<f64>,
    /// Sessions.
    pub connection_count: Option<f64>,
}

/// What `GET /api/metrics/tenant` answers, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantMetrics {
    /// Samples of the last half hour.
    pub metrics: Vec<TenantSample>,
    /// Why a figure of the latest sample is null, by its name; `tenant`: why there is no sample.
    pub reasons: BTreeMap<String, String>,
}

/// A tenant at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantSample {
    /// UTC, such as `2024-01-10T12:00:00`.
    pub timestamp: String,
    /// Its name.
    pub tenant: String,
    /// Of the CPUs that it may use, percent.
    pub cpu_percent: Option<f64>,
    /// MB (2^20 bytes).
    pub memory_used: Option<f64>,
    /// Data and log, MB (2^20 bytes).
    pub disk_used: Option<f64>,
    /// Reads and writes a second.
    pub iops: Option<f64>,
    /// Sessions.
    pub session_count: Option<f64>,
    /// Sessions that do something.
    pub active_session_count: Option<f64>,
}

impl From<&database::Sample> for DatabaseSample {
    fn from(sample: &database::Sample) -> Self {
        Self {
            timestamp: plain_seconds(sample.at_ns),
            qps: wire(&sample.qps),
            tps: wire(&sample.tps),
            active_sessions: wire(&sample.active_sessions),
            sql_response_time: wire(&sample.sql_response_time),
            disk_io_bytes: wire(&sample.disk_io_bytes),
            disk_iops: wire(&sample.disk_iops),
            memory_usage: wire(&sample.memory_usage),
            cache_hit_ratio: wire(&sample.cache_hit_ratio),
            slow_queries: wire(&sample.slow_queries),
            deadlocks: wire(&sample.deadlocks),
            replication_lag: wire(&sample.replication_lag),
            connection_count: wire(&sample.connection_count),
        }
    }
}

impl From<&database::TenantSample> for TenantSample {
    fn from(sample: &database::TenantSample) -> Self {
        Self {
            timestamp: plain_seconds(sample.at_ns),
            tenant: sample.tenant.clone(),
            cpu_percent: wire(&sample.cpu_percent),
            memory_used: wire(&sample.memory_used),
            disk_used: wire(&sample.disk_used),
            iops: wire(&sample.iops),
            session_count: wire(&sample.session_count),
            active_session_count: wire(&sample.active_session_count),
        }
    }
}

impl From<&History> for DatabaseMetrics {
    fn from(history: &History) -> Self {
        let latest = history.samples.last();
        let mut reasons = latest.map(|sample| reasons(&sample.figures())).unwrap_or_default();
        if let Some(why) = &history.off_because {
            reasons.insert("database".to_owned(), why.clone());
        }
        Self {
            metrics: history.samples.iter().map(|sample| (&**sample).into()).collect(),
            reasons,
            server: history.server.clone(),
        }
    }
}

impl TenantMetrics {
    /// Of these samples.
    pub fn new<'a>(samples: impl IntoIterator<Item = &'a database::TenantSample>) -> Self {
        let samples: Vec<_> = samples.into_iter().collect();
        let reasons = samples.last().map(|sample| reasons(&sample.figures())).unwrap_or_default();
        Self { metrics: samples.into_iter().map(TenantSample::from).collect(), reasons }
    }

    /// None, and why.
    pub fn none(why: String) -> Self {
        Self { metrics: Vec::new(), reasons: [("tenant".to_owned(), why)].into() }
    }
}

/// Three digits are more than any of them is worth.
fn wire(figure: &Figure) -> Option<f64> {
    let rounded = |value: f64| if value.abs() < 1.0 { value } else { (value * 1_000.0).round() / 1_000.0 };
    figure.as_ref().ok().copied().map(rounded)
}

fn reasons(figures: &[(&'static str, &Figure)]) -> BTreeMap<String, String> {
    let lacking = figures.iter().filter_map(|(name, figure)| figure.as_ref().err().map(|why| (*name, why)));
    lacking.map(|(name, why)| (name.to_owned(), why.to_string())).collect()
}
