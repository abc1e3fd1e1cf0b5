//! The database's part of the records that a node forwards: its figures and its tenants' as rows of numbers, because a node
//! says them again and again.
//!
//! A row's numbers are in the order of the fields, which the record itself carries: a reader finds a figure by the name that
//! `/api/metrics/database` and `/api/metrics/tenant` have for it, in their units. Null is a figure that there is not.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::database::{Figure, History, TenantSample};

/// Tenants in one record: as many as a node tells of, and a hundred times what most clusters have.
pub const MAX_TENANTS: usize = 100;
/// `OceanBase` gives no longer names.
const MAX_NAME_BYTES: usize = 128;

/// A database and its tenants at one moment; rates are of the time since the look before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeDatabase {
    /// Wall time of the look, ns since the epoch.
    pub at_ns: i64,
    /// What the database's numbers are.
    pub fields: Vec<String>,
    /// One for each of them.
    pub values: Vec<Option<f64>>,
    /// What a tenant's numbers are; none without a tenant.
    pub tenant_fields: Vec<String>,
    /// Tenants, ascending by name.
    pub tenants: Vec<TenantRow>,
    /// Tenants beyond [`MAX_TENANTS`].
    pub left_out: usize,
}

/// A tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantRow {
    /// Its name.
    pub tenant: String,
    /// One for each of the record's `tenant_fields`.
    pub values: Vec<Option<f64>>,
}

impl NodeDatabase {
    /// Of the latest look; none before the first, and while the database does not answer.
    pub fn new(history: &History) -> Option<Self> {
        let sample = history.samples.last().filter(|_| history.off_because.is_none())?;
        let (fields, values) = row(&sample.figures());
        let latest = history.tenants.values().filter_map(|samples| samples.last());
        // One that this look did not find would pass for the present.
        let found: Vec<&TenantSample> =
            latest.map(|tenant| &**tenant).filter(|tenant| tenant.at_ns == sample.at_ns).collect();
        let mut this = Self { at_ns: sample.at_ns, fields, values, ..Self::default() };
        for tenant in found.iter().filter(|one| one.tenant.len() <= MAX_NAME_BYTES).take(MAX_TENANTS) {
            let (fields, values) = row(&tenant.figures());
            this.tenant_fields = fields;
            this.tenants.push(TenantRow { tenant: tenant.tenant.clone(), values });
        }
        this.left_out = found.len() - this.tenants.len();
        Some(this)
    }
}

/// As exact as in `/metrics`.
fn row(figures: &[(&'static str, &Figure)]) -> (Vec<String>, Vec<Option<f64>>) {
    figures.iter().map(|(name, figure)| ((*name).to_owned(), figure.as_ref().ok().copied())).unzip()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::batch::MAX_RECORD_BYTES;
    use crate::domain::database::{FIRST, Sample};

    fn tenant(at_ns: i64, name: &str, value: f64) -> (String, Vec<Arc<TenantSample>>) {
        let sample = TenantSample {
            at_ns,
            tenant: name.to_owned(),
            cpu_percent: Ok(value),
            memory_used: Ok(value),
            disk_used: Err("not told".into()),
            iops: Err(FIRST),
            session_count: Ok(value),
            active_session_count: Ok(0.0),
        };
        (name.to_owned(), vec![Arc::new(sample)])
    }

    fn history(tenants: impl IntoIterator<Item = (String, Vec<Arc<TenantSample>>)>) -> History {
        let sample = Sample {
            at_ns: 7,
            qps: Ok(1.25),
            tps: Err(FIRST),
            active_sessions: Ok(0.0),
            sql_response_time: Ok(f64::NAN),
            disk_io_bytes: Ok(4_096.0),
            disk_iops: Ok(1.0),
            memory_usage: Ok(32.0),
            cache_hit_ratio: Ok(95.5),
            slow_queries: Ok(0.0),
            deadlocks: Ok(0.0),
            replication_lag: Err("no replica".into()),
            connection_count: Ok(3.0),
        };
        History {
            samples: vec![Arc::new(sample)],
            tenants: tenants.into_iter().collect(),
            ..History::default()
        }
    }

    #[test]
    fn what_there_is_not_is_null_and_nothing_is_a_zero_that_was_not_read() {
        let record = NodeDatabase::new(&history([tenant(7, "sys", 2.0), tenant(6, "gone", 9.0)])).unwrap();
        let json = serde_json::to_value(&record).unwrap();
        let wanted = serde_json::json!({
            "at_ns": 7,
            "fields": ["qps", "tps", "active_sessions", "sql_response_time", "disk_io_bytes", "disk_iops",
                "memory_usage", "cache_hit_ratio", "slow_queries", "deadlocks", "replication_lag", "connection_count"],
            "values": [1.25, null, 0.0, null, 4096.0, 1.0, 32.0, 95.5, 0.0, 0.0, null, 3.0],
            "tenant_fields": ["cpu_percent", "memory_used", "disk_used", "iops", "session_count", "active_session_count"],
            "tenants": [{"tenant": "sys", "values": [2.0, 2.0, null, null, 2.0, 0.0]}],
            "left_out": 0,
        });
        assert_eq!(json, wanted);
        let back: NodeDatabase = serde_json::from_value(json).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), wanted, "and back");
        // Whoever writes an absent figure as 0 tells something else.
        let mut zero = back.clone();
        zero.values[1] = Some(0.0);
        assert_ne!(zero, back);
    }

    #[test]
    fn a_database_that_does_not_answer_or_has_not_yet_says_nothing() {
        assert_eq!(NodeDatabase::new(&History::default()), None);
        let off = History { off_because: Some("no connection".to_owned()), ..history([]) };
        assert_eq!(NodeDatabase::new(&off), None);
        let record = NodeDatabase::new(&history([])).unwrap();
        assert_eq!((record.tenant_fields.len(), record.tenants.len()), (0, 0));
    }

    #[test]
    fn the_largest_record_fits_and_says_what_it_leaves_out() {
        let name = |n: usize| format!("{n:0MAX_NAME_BYTES$}");
        let many = (0..MAX_TENANTS + 20).map(|n| tenant(7, &name(n), 123_456_789.123_456_78));
        let long = tenant(7, &"x".repeat(MAX_NAME_BYTES + 1), 1.0);
        let record = NodeDatabase::new(&history(many.chain([long]))).unwrap();
        assert_eq!((record.tenants.len(), record.left_out), (MAX_TENANTS, 21));
        let size = serde_json::to_vec(&record).unwrap().len();
        assert!(size < MAX_RECORD_BYTES / 10, "{size} bytes");
    }
}
