//! What the receiver knows of its nodes, at each scrape. Label `node`: bounded by the store's limit on nodes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use crate::http::exposition::{Number, Writer};
use crate::receiver::ingest::Ingest;

/// Reads the fleet at each scrape.
#[derive(Debug)]
pub struct FleetCollector {
    /// The receiver's door.
    pub ingest: Arc<Ingest>,
    /// Wall time, ns since the epoch.
    pub clock: fn() -> i64,
}

impl Collector for FleetCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(encoder);
        let nodes = self.ingest.fleet().nodes((self.clock)()).nodes;
        let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        writer.gauge("nodes", "Nodes that sent records", None, Some(Number::Unsigned(count)))?;
        let lags = nodes.iter().map(|node| ([("node", node.node.clone())], Number::Float(node.lag_seconds)));
        let help = "Age of the newest record of the node";
        writer.gauges(("node_lag", help), Some(&Unit::Seconds), lags)?;
        let counted = |of: fn(&crate::api::nodes::Node) -> u64| {
            nodes.iter().map(move |node| ([("node", node.node.clone())], of(node)))
        };
        let help = "Records of the node that are stored, each once, since its spool was made";
        writer.counters(("node_stored_records", help), counted(|node| node.stored))?;
        writer.counters(
            ("node_duplicate_records", "Records that came more than once"),
            counted(|n| n.duplicates),
        )?;
        let waiting = counted(|node| node.spooled).map(|(label, value)| (label, Number::Unsigned(value)));
        let help = "Records that waited at the node when its last batch came";
        writer.gauges(("node_spooled_records", help), None, waiting)?;
        let dropped = nodes.iter().flat_map(|node| {
            node.dropped
                .iter()
                .map(|(reason, count)| ([("node", node.node.clone()), ("reason", reason.clone())], *count))
        });
        writer.counters(("node_dropped_records", "Records that the node lost"), dropped)
    }
}
