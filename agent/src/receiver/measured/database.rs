//! What a database says of itself, and its tenants.

use super::Out;
use crate::api::database::record::NodeDatabase;

/// A figure of the record, its series' name, what one of its units is.
type Told = (&'static str, &'static str, f64);

const MEGABYTE: f64 = 1_048_576.0;
const PERCENT: f64 = 0.01;

const DATABASE: [Told; 12] = [
    ("qps", "sextant_database_query_rate", 1.0),
    ("tps", "sextant_database_transaction_rate", 1.0),
    ("active_sessions", "sextant_database_active_sessions", 1.0),
    ("connection_count", "sextant_database_sessions", 1.0),
    ("sql_response_time", "sextant_database_response_time_seconds", 1.0),
    ("disk_io_bytes", "sextant_database_disk_byte_rate", 1.0),
    ("disk_iops", "sextant_database_disk_operation_rate", 1.0),
    ("memory_usage", "sextant_database_memory_bytes", MEGABYTE),
    ("cache_hit_ratio", "sextant_database_cache_hit_ratio", PERCENT),
    ("slow_queries", "sextant_database_recent_slow_queries", 1.0),
    ("deadlocks", "sextant_database_recent_deadlocks", 1.0),
    ("replication_lag", "sextant_database_replication_lag_seconds", 1.0),
];

const TENANT: [Told; 6] = [
    ("cpu_percent", "sextant_database_tenant_cpu_ratio", PERCENT),
    ("memory_used", "sextant_database_tenant_memory_bytes", MEGABYTE),
    ("disk_used", "sextant_database_tenant_disk_bytes", MEGABYTE),
    ("iops", "sextant_database_tenant_disk_operation_rate", 1.0),
    ("session_count", "sextant_database_tenant_sessions", 1.0),
    ("active_session_count", "sextant_database_tenant_active_sessions", 1.0),
];

pub(super) fn of(out: &mut Out<'_>, database: &NodeDatabase) {
    row(out, &DATABASE, &database.fields, &database.values, &[]);
    for tenant in &database.tenants {
        let labels = [("tenant", tenant.tenant.as_str())];
        row(out, &TENANT, &database.tenant_fields, &tenant.values, &labels);
    }
}

fn row(out: &mut Out<'_>, told: &[Told], fields: &[String], values: &[Option<f64>], labels: &[(&str, &str)]) {
    for (field, metric, unit) in told {
        let at = fields.iter().position(|known| known == field);
        let value = at.and_then(|at| values.get(at).copied().flatten());
        out.number(metric, labels, value.map(|value| value * unit));
    }
}
