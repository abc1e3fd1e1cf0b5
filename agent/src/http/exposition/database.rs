//! The database's latest sample, and each tenant's; a figure that there is not is left out.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use super::{Number, Writer};
use crate::domain::database::{Figure, History, Sample, TenantSample};

const MEGABYTE: f64 = 1_048_576.0;

/// Reads the latest samples at each scrape.
#[derive(Debug)]
pub struct DatabaseCollector {
    /// What the source has kept.
    pub history: watch::Receiver<Arc<History>>,
}

impl Collector for DatabaseCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let history = Arc::clone(&self.history.borrow());
        // What a database said that does not answer any more is not how it is.
        if history.off_because.is_some() {
            return Ok(());
        }
        let mut writer = Writer::new(encoder);
        if let Some(sample) = history.samples.last() {
            database(&mut writer, sample)?;
        }
        let tenants: Vec<&TenantSample> =
            history.tenants.values().filter_map(|samples| samples.last()).map(|sample| &**sample).collect();
        self::tenants(&mut writer, &tenants)
    }
}

fn database(writer: &mut Writer<'_>, sample: &Sample) -> fmt::Result {
    let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
    for (name, help, unit, figure, factor) in [
        ("query_rate", "Statements a second", None, &sample.qps, 1.0),
        ("transaction_rate", "Transactions a second", None, &sample.tps, 1.0),
        ("active_sessions", "Sessions that do something", None, &sample.active_sessions, 1.0),
        ("sessions", "Sessions", None, &sample.connection_count, 1.0),
        ("response_time", "Mean time of a statement", seconds, &sample.sql_response_time, 1.0),
        ("disk_byte_rate", "Bytes read and written a second", None, &sample.disk_io_bytes, 1.0),
        ("disk_operation_rate", "Reads and writes a second", None, &sample.disk_iops, 1.0),
        ("memory", "Memory", bytes, &sample.memory_usage, MEGABYTE),
        ("cache_hit_ratio", "Share of page reads that needed no disk", None, &sample.cache_hit_ratio, 0.01),
        ("recent_slow_queries", "Slow statements since the look before", None, &sample.slow_queries, 1.0),
        ("recent_deadlocks", "Deadlocks since the look before", None, &sample.deadlocks, 1.0),
        ("replication_lag", "Lag of the replica furthest behind", seconds, &sample.replication_lag, 1.0),
    ] {
        writer.gauge(&format!("database_{name}"), help, unit, number(figure, factor))?;
    }
    Ok(())
}

type Pick = fn(&TenantSample) -> &Figure;

fn tenants(writer: &mut Writer<'_>, tenants: &[&TenantSample]) -> fmt::Result {
    let bytes = Some(&Unit::Bytes);
    let families: [(&str, &str, Option<&Unit>, Pick, f64); 6] = [
        ("cpu_ratio", "Share of the CPUs that it may use", None, |t| &t.cpu_percent, 0.01),
        ("memory", "Memory", bytes, |t| &t.memory_used, MEGABYTE),
        ("disk", "Data and log", bytes, |t| &t.disk_used, MEGABYTE),
        ("disk_operation_rate", "Reads and writes a second", None, |t| &t.iops, 1.0),
        ("sessions", "Sessions", None, |t| &t.session_count, 1.0),
        ("active_sessions", "Sessions that do something", None, |t| &t.active_session_count, 1.0),
    ];
    for (name, help, unit, pick, factor) in families {
        let samples = tenants
            .iter()
            .filter_map(|tenant| Some(([("tenant", tenant.tenant.clone())], number(pick(tenant), factor)?)));
        writer.gauges((&format!("database_tenant_{name}"), help), unit, samples)?;
    }
    Ok(())
}

fn number(figure: &Figure, factor: f64) -> Option<Number> {
    figure.as_ref().ok().map(|value| Number::Float(value * factor))
}
