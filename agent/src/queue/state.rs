//! How the queue is doing, as it is shown.

/// State of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes of everything kept.
    pub size_bytes: u64,
    /// Bytes of the file; with servers the same as those kept.
    pub file_bytes: u64,
    /// Why nothing is taken at present.
    pub degraded: Option<String>,
    /// The last damage found, and where the damaged file is.
    pub damage: Option<String>,
}

/// A topic as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Partitions that it may have.
    pub width: u32,
    /// Those that are there.
    pub partitions: Vec<PartitionState>,
}

/// A partition as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its index.
    pub index: u32,
    /// Records kept.
    pub records: u64,
    /// Records that the slowest group has still to acknowledge; while there is none, all.
    pub depth: u64,
    /// Its groups.
    pub groups: Vec<GroupState>,
}

/// What a group has of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Records that it has still to acknowledge.
    pub lag: u64,
    /// Of those, delivered and not due again.
    pub in_flight: u64,
    /// When the oldest of them was produced, ns since the epoch.
    pub oldest_at_ns: Option<i64>,
}
