//! What the queue knows in memory: topics, partitions and groups, each with its figures. The same is on disk
//! ([`super::table`]); after a failure of the disk it is read from there again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use super::flight::{Due, Flight};
use super::{Config, Error, MAX_FLIGHTS, MAX_GROUPS, MAX_TOPICS, Pull, chunk};

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Its number in the file.
    pub(super) number: u32,
    /// The first record kept.
    pub(super) tail: u64,
    /// The offset that the next record takes.
    pub(super) head: u64,
    /// Since when the last record of the first chunk is kept, ns since the epoch; none if it is empty.
    pub(super) tail_at_ns: Option<i64>,
    /// What each group has of it.
    pub(super) flights: BTreeMap<String, Flight>,
}

impl Partition {
    /// Everything below is acknowledged by every group; while there is none, nothing is.
    pub(super) fn floor(&self) -> u64 {
        self.flights.values().map(Flight::floor).min().unwrap_or(self.tail)
    }

    /// Records that the slowest group has still to acknowledge; while there is none, all.
    pub(super) fn depth(&self) -> u64 {
        let slowest = self.flights.values().map(|flight| flight.lag(self.head)).max();
        slowest.unwrap_or_else(|| self.head.saturating_sub(self.tail))
    }

    /// The records of the first chunk are older than is kept.
    pub(super) fn is_too_old(&self, wall_ns: i64, config: &Config) -> bool {
        let age_ms = self.tail_at_ns.map(|at_ns| wall_ns.saturating_sub(at_ns) / 1_000_000);
        let max_age_ms = i64::try_from(config.retention_age_ms).unwrap_or(i64::MAX);
        max_age_ms > 0 && age_ms.is_some_and(|age_ms| age_ms > max_age_ms)
    }

    /// More acknowledged records are there than are kept, at this size of the whole queue.
    pub(super) fn keeps_too_many(&self, size_bytes: u64, config: &Config) -> bool {
        let acknowledged = self.floor().saturating_sub(self.tail);
        // Room for what is not acknowledged comes first.
        let max_bytes = config.retention_bytes.min(config.max_size_bytes / 2);
        acknowledged > config.retention_records || acknowledged > 0 && size_bytes > max_bytes
    }
}

/// One topic.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Partitions that it may have.
    pub(super) width: u32,
    /// Which partition the next batch goes to that names none.
    pub(super) turn: u32,
    /// Its groups.
    pub(super) groups: BTreeSet<String>,
    /// Those partitions that are there, by index.
    pub(super) partitions: BTreeMap<u32, Partition>,
}

/// Where a flight is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlightPlace {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) group: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Drawn when the file was made.
    pub(super) epoch: u32,
    /// Bytes of all chunks, and of remembered ids.
    pub(super) size_bytes: u64,
    pub(super) next_partition: u32,
    pub(super) next_flight: u32,
    /// Which of the two tables of ids is written, since when, and the bytes of both.
    pub(super) ids: RememberedIds,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) places: HashMap<u32, FlightPlace>,
    pub(super) due: Due,
    /// Partitions with deliveries that are not on disk.
    pub(super) unwritten: BTreeSet<(String, u32)>,
}

/// Ids of batches are remembered in two tables by turns; the older one is dropped whole when both are a window old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RememberedIds {
    pub(super) current: usize,
    pub(super) since_ns: i64,
    pub(super) bytes: [u64; 2],
}

impl Ledger {
    pub(super) fn partition(&self, topic: &str, index: u32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(&index)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, index: u32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(&index)
    }

    /// A flight, and the deadlines of all.
    pub(super) fn flight_mut(
        &mut self,
        topic: &str,
        index: u32,
        group: &str,
    ) -> Option<(&mut Flight, &mut Due)> {
        let partition = self.topics.get_mut(topic)?.partitions.get_mut(&index)?;
        Some((partition.flights.get_mut(group)?, &mut self.due))
    }

    /// What is not there yet of a topic, one of its partitions and a group is within the limits.
    pub(super) fn check_room(
        &self,
        topic: &str,
        partitions: &BTreeSet<u32>,
        group: Option<&str>,
        width: u32,
    ) -> Result<(), Error> {
        let known = self.topics.get(topic);
        if known.is_none() && self.topics.len() >= MAX_TOPICS {
            return Err(Error::TooMany(format!(
                "there are {MAX_TOPICS} topics, and {topic} is none of them"
            )));
        }
        let width = known.map_or(width, |topic| topic.width);
        if let Some(wrong) = partitions.iter().find(|index| **index >= width) {
            let words = format!("partition {wrong}: {topic} has {width}, 0 to {}", width.saturating_sub(1));
            return Err(Error::Invalid(words));
        }
        let new_group = group.is_some_and(|group| known.is_none_or(|topic| !topic.groups.contains(group)));
        let groups = known.map_or(0, |topic| topic.groups.len()) + usize::from(new_group);
        if groups > MAX_GROUPS {
            return Err(Error::TooMany(format!("{topic} has {MAX_GROUPS} groups, and no more")));
        }
        let there = known.map_or(0, |topic| topic.partitions.len());
        let new = partitions.iter().filter(|index| known.is_none_or(|t| !t.partitions.contains_key(index)));
        let flights = self.places.len() + new.count() * groups + if new_group { there } else { 0 };
        if flights > MAX_FLIGHTS {
            let words = format!("there are {MAX_FLIGHTS} pairs of partition and group, and no more");
            return Err(Error::TooMany(words));
        }
        Ok(())
    }

    /// The topic, its partitions and the group that are not there yet; returns whether anything was made. A group
    /// begins at the oldest record kept.
    pub(super) fn make(
        &mut self,
        topic: &str,
        partitions: &BTreeSet<u32>,
        group: Option<&str>,
        width: u32,
    ) -> bool {
        let mut made = !self.topics.contains_key(topic);
        let known =
            self.topics.entry(topic.to_owned()).or_insert_with(|| Topic { width, ..Topic::default() });
        made |= group.is_some_and(|group| known.groups.insert(group.to_owned()));
        for &index in partitions {
            if let Entry::Vacant(place) = known.partitions.entry(index) {
                place.insert(Partition { number: self.next_partition, ..Partition::default() });
                self.next_partition += 1;
                made = true;
            }
        }
        if !made {
            return false;
        }
        for (&index, partition) in &mut known.partitions {
            for group in &known.groups {
                if partition.flights.contains_key(group) {
                    continue;
                }
                let number = self.next_flight;
                self.next_flight += 1;
                partition.flights.insert(group.clone(), Flight::new(number, partition.tail));
                let place = FlightPlace { topic: topic.to_owned(), partition: index, group: group.clone() };
                self.places.insert(number, place);
            }
        }
        true
    }

    /// Deliveries from this partition are not on disk.
    pub(super) fn note_unwritten(&mut self, topic: &str, index: u32) {
        let place = (topic.to_owned(), index);
        if !self.unwritten.contains(&place) {
            self.unwritten.insert(place);
        }
    }

    /// Some partition has records that are to be dropped: a chunk of them at least.
    pub(super) fn has_to_drop(&self, wall_ns: i64, config: &Config) -> bool {
        let mut all = self.topics.values().flat_map(|topic| topic.partitions.values());
        all.any(|partition| {
            let slack = partition.floor().saturating_sub(partition.tail) > u64::from(chunk::FULL_RECORDS);
            partition.is_too_old(wall_ns, config)
                || slack && partition.keeps_too_many(self.size_bytes, config)
        })
    }

    /// Every partition there is.
    pub(super) fn all_partitions(&self) -> Vec<(String, u32)> {
        let of = |(name, topic): (&String, &Topic)| {
            topic.partitions.keys().map(|index| (name.clone(), *index)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    /// What is due at `at`: topic, partition, group and offset. It stays due until it is dealt with.
    pub(super) fn due_at(&self, at: Instant) -> Vec<(FlightPlace, u64)> {
        let due = self.due.range(..=(at, u32::MAX, u64::MAX));
        due.filter_map(|(_, number, offset)| Some((self.places.get(number)?.clone(), *offset))).collect()
    }

    /// A partition's records below `tail` are gone. Returns how many some group had not acknowledged.
    pub(super) fn raise(&mut self, topic: &str, index: u32, tail: u64, tail_at_ns: Option<i64>) -> u64 {
        let Self { topics, due, .. } = self;
        let partition = topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(&index));
        let Some(partition) = partition else { return 0 };
        let kept = tail.saturating_sub(partition.tail);
        (partition.tail, partition.tail_at_ns) = (tail, tail_at_ns);
        let lost = partition.flights.values_mut().map(|flight| flight.raise(due, tail)).max();
        lost.unwrap_or(kept)
    }

    /// The partitions that a pull takes from, in turn.
    pub(super) fn wanted(&self, pull: &Pull) -> Vec<u32> {
        let Some(topic) = self.topics.get(&pull.topic) else { return Vec::new() };
        match pull.partition {
            Some(index) => vec![index],
            None => topic.partitions.keys().copied().collect(),
        }
    }
}
