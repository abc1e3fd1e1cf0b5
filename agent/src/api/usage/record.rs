//! The usage part of the records that a node forwards: counters and sizes as rows of numbers, because a node says them
//! again and again.
//!
//! A row's numbers are in the order of `fields`, which the record itself carries: a reader finds a field by name, and
//! those of newer nodes do no harm. Null is "not known". Rates are left to whoever has two records of one epoch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::pod::PodMap;
use crate::domain::usage::{Bound, CpuQuota, Pressure, Usage, UsageMap};

/// Rows in one record: more than a node of 500 pods has; at most 600 bytes each, they fit the limit of a record twice.
pub const MAX_ROWS: usize = 4_000;

/// A field, and how it is found in a usage.
type Field = (&'static str, fn(&Usage) -> Option<u64>);

/// The kernel's words where it has one.
const FIELDS: [Field; 30] = [
    ("usage_usec", |usage| Some(usage.cpu?.usage_usec)),
    ("user_usec", |usage| usage.cpu?.user_usec),
    ("system_usec", |usage| usage.cpu?.system_usec),
    ("nr_periods", |usage| Some(usage.cpu?.throttling?.nr_periods)),
    ("nr_throttled", |usage| Some(usage.cpu?.throttling?.nr_throttled)),
    ("throttled_usec", |usage| Some(usage.cpu?.throttling?.throttled_usec)),
    ("memory_current_bytes", |usage| Some(usage.memory?.current_bytes)),
    ("memory_working_set_bytes", |usage| usage.memory?.working_set_bytes),
    ("memory_rss_bytes", |usage| usage.memory?.rss_bytes),
    ("memory_swap_bytes", |usage| usage.memory?.swap_bytes),
    ("memory_low", |usage| usage.memory?.events.low),
    ("memory_high", |usage| usage.memory?.events.high),
    ("memory_max", |usage| usage.memory?.events.max),
    ("memory_oom", |usage| usage.memory?.events.oom),
    ("memory_oom_kill", |usage| usage.memory?.events.oom_kill),
    ("rbytes", |usage| Some(usage.io.as_ref()?.rbytes)),
    ("wbytes", |usage| Some(usage.io.as_ref()?.wbytes)),
    ("rios", |usage| usage.io.as_ref()?.rios),
    ("wios", |usage| usage.io.as_ref()?.wios),
    ("pids", |usage| usage.pids),
    ("cpu_some_usec", |usage| some(usage.pressure.cpu)),
    ("cpu_full_usec", |usage| full(usage.pressure.cpu)),
    ("memory_some_usec", |usage| some(usage.pressure.memory)),
    ("memory_full_usec", |usage| full(usage.pressure.memory)),
    ("io_some_usec", |usage| some(usage.pressure.io)),
    ("io_full_usec", |usage| full(usage.pressure.io)),
    ("cpu_quota_usec", |usage| Some(quota(usage)?.quota_usec)),
    ("cpu_period_usec", |usage| Some(quota(usage)?.period_usec)),
    ("memory_max_bytes", |usage| usage.limits.memory_max?.at()),
    ("pids_max", |usage| usage.limits.pids_max?.at()),
];

/// The usage of all pods and containers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeUsage {
    /// Wall time of the collection, ns since the epoch.
    pub at_ns: i64,
    /// What the numbers of a row are.
    pub fields: Vec<String>,
    /// Pods, ascending by namespace, name, uid.
    pub pods: Vec<PodUsage>,
    /// Pods beyond [`MAX_ROWS`].
    pub left_out: usize,
}

/// A pod's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodUsage {
    /// Uid of the pod's cgroup.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// The pod's own cgroup's, else the sum of its containers'.
    pub row: Option<Row>,
    /// Its containers'.
    pub containers: Vec<ContainerUsage>,
}

/// A container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerUsage {
    /// Id.
    pub id: Option<String>,
    /// Name from the pod's spec.
    pub name: Option<String>,
    /// Its own.
    pub row: Row,
}

/// The numbers of one cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Row {
    /// Counters of another epoch began anew.
    pub epoch: u64,
    /// One for each of the record's fields.
    pub values: Vec<Option<u64>>,
}

impl NodeUsage {
    /// Of the pods in the map; whole pods up to [`MAX_ROWS`].
    pub fn new(pods: &PodMap, map: &UsageMap) -> Self {
        let fields = FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut this = Self { at_ns: map.at_ns, fields, ..Self::default() };
        let mut rows = 0_usize;
        for pod in &pods.pods {
            let containers = pod.containers.iter().filter_map(|container| {
                Some(ContainerUsage {
                    id: container.id.as_ref().map(|id| id.0.clone()),
                    name: container.name.clone(),
                    row: row(map.container(container)?),
                })
            });
            let containers: Vec<_> = containers.collect();
            let own = map.pod(pod).as_ref().map(row);
            if own.is_none() && containers.is_empty() {
                continue;
            }
            if rows + 1 + containers.len() > MAX_ROWS {
                this.left_out += 1;
                continue;
            }
            rows += 1 + containers.len();
            this.pods.push(PodUsage {
                uid: pod.uid.0.clone(),
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                row: own,
                containers,
            });
        }
        this
    }

    /// A field of a row; `None` where it is not known, or nobody has such a field.
    pub fn value(&self, row: &Row, field: &str) -> Option<u64> {
        let at = self.fields.iter().position(|name| name == field)?;
        row.values.get(at).copied()?
    }

    /// The sum of a field over all pods; `None` where some pod does not know it, or nobody has such a field.
    pub fn sum(&self, field: &str) -> Option<u64> {
        let at = self.fields.iter().position(|name| name == field)?;
        self.pods.iter().try_fold(0_u64, |sum, pod| {
            let value = pod.row.as_ref()?.values.get(at).copied()??;
            Some(sum.saturating_add(value))
        })
    }
}

fn row(usage: &Usage) -> Row {
    Row { epoch: usage.epoch, values: FIELDS.iter().map(|(_, value)| value(usage)).collect() }
}

fn some(pressure: Option<Pressure>) -> Option<u64> {
    Some(pressure?.some.total_usec)
}

fn full(pressure: Option<Pressure>) -> Option<u64> {
    Some(pressure?.full?.total_usec)
}

fn quota(usage: &Usage) -> Option<CpuQuota> {
    usage.limits.cpu.and_then(Bound::at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::batch::MAX_RECORD_BYTES;
    use crate::domain::pod::{CgroupKind, Container, ContainerId, Pod, PodUid, QosClass};
    use crate::domain::usage::{Cpu, Io, Memory, Pressures, Stall};

    /// A container whose numbers have as many digits as they can get.
    fn widest(cgroup_id: u64) -> (Container, Usage) {
        let container = Container {
            id: Some(ContainerId("f".repeat(64))),
            name: Some("x".repeat(63)),
            runtime: None,
            kind: CgroupKind::Container,
            cgroup: String::new(),
            cgroup_id,
            tasks: Vec::new(),
            churn: None,
        };
        let stall = Stall { total_usec: u64::MAX >> 14, ..Stall::default() };
        let pressure = Some(Pressure { some: stall, full: Some(stall) });
        let usage = Usage {
            epoch: u64::MAX >> 22,
            cpu: Some(Cpu { usage_usec: u64::MAX >> 14, ..Cpu::default() }),
            memory: Some(Memory { current_bytes: u64::MAX >> 20, ..Memory::default() }),
            io: Some(Io { rbytes: u64::MAX >> 14, ..Io::default() }),
            pressure: Pressures { cpu: pressure, memory: pressure, io: pressure },
            ..Usage::default()
        };
        (container, usage)
    }

    fn node(pods: u64, containers: u64) -> (PodMap, UsageMap) {
        let (mut all, mut map) = (PodMap::default(), UsageMap::default());
        for pod in 0..pods {
            let (containers, usages): (Vec<_>, Vec<_>) =
                (0..containers).map(|n| widest(pod * containers + n)).unzip();
            map.groups.extend(containers.iter().map(|container| container.cgroup_id).zip(usages));
            all.pods.push(Pod {
                uid: PodUid(pod.to_string()),
                name: Some("p".repeat(63)),
                namespace: Some("n".repeat(63)),
                labels: std::collections::BTreeMap::new(),
                qos: QosClass::Unknown,
                named_by: None,
                group: None,
                containers,
            });
        }
        (all, map)
    }

    #[test]
    fn the_largest_record_fits_and_says_what_it_leaves_out() {
        let (pods, map) = node(2_000, 2);
        let record = NodeUsage::new(&pods, &map);
        assert_eq!((record.pods.len(), record.left_out), (MAX_ROWS / 3, 2_000 - MAX_ROWS / 3));
        let bytes = serde_json::to_vec(&record).unwrap();
        assert!(bytes.len() < MAX_RECORD_BYTES, "{} bytes", bytes.len());
        assert_eq!(serde_json::from_slice::<NodeUsage>(&bytes).unwrap(), record);
    }

    #[test]
    fn a_sum_is_found_by_name_and_lacks_what_one_pod_lacks() {
        let (pods, mut map) = node(2, 1);
        let sum = |map: &UsageMap, field| NodeUsage::new(&pods, map).sum(field);
        assert_eq!(sum(&map, "usage_usec"), Some((u64::MAX >> 14) * 2));
        assert_eq!((sum(&map, "memory_rss_bytes"), sum(&map, "no_such")), (None, None));
        map.groups.get_mut(&1).unwrap().cpu = None;
        assert_eq!(sum(&map, "usage_usec"), None);
    }
}
