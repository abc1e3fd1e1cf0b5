//! Any sequence of calls leaves what a plain list would hold, over restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GROUPS: [&str; 2] = ["g", "h"];
const SIZE: u64 = 12;
const DELIVERIES: u32 = 3;
const VISIBILITY_MS: u64 = 30_000;
const WINDOW_MS: u64 = 120_000;

#[derive(Clone, Debug)]
enum Op {
    Produce {
        partition: u32,
        count: usize,
        id: Option<u8>,
    },
    Pull {
        group: usize,
        partition: u32,
        max: usize,
        taken: usize,
    },
    /// Of what the group has in flight, this one.
    Settle {
        group: usize,
        partition: u32,
        index: usize,
        verdict: Say,
    },
    Pass {
        ms: u64,
    },
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Say {
    Ack,
    Nak(u64),
    Extend(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let ms = prop_oneof![Just(0_u64), 1..40_000_u64];
    let say = prop_oneof![3 => Just(Say::Ack), 1 => ms.clone().prop_map(Say::Nak), 1 => ms.clone().prop_map(Say::Extend)];
    let (group, partition) = (0..2_usize, 0..2_u32);
    let op = prop_oneof![
        4 => (partition.clone(), 1..5_usize, prop::option::weighted(0.4, 0..4_u8))
            .prop_map(|(partition, count, id)| Op::Produce { partition, count, id }),
        5 => (group.clone(), partition.clone(), 1..6_usize, 0..6_usize)
            .prop_map(|(group, partition, max, taken)| Op::Pull { group, partition, max, taken }),
        6 => (group, partition, 0..6_usize, say)
            .prop_map(|(group, partition, index, verdict)| Op::Settle { group, partition, index, verdict }),
        3 => ms.prop_map(|ms| Op::Pass { ms }),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..60)
}

/// A record that was delivered and not acknowledged.
#[derive(Clone, Debug)]
struct Pending {
    deliveries: u32,
    /// None: may be delivered now.
    due_ms: Option<u64>,
}

#[derive(Default)]
struct ModelFlight {
    next: usize,
    pending: BTreeMap<usize, Pending>,
}

#[derive(Default)]
struct ModelPartition {
    records: Vec<String>,
    flights: [ModelFlight; 2],
    dead: Vec<String>,
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    partitions: [ModelPartition; 2],
    /// When the batch came last that was kept under this id, and what it was called.
    ids: BTreeMap<u8, (u64, Vec<MessageId>)>,
    produced: usize,
}

impl Model {
    fn depth(&self, partition: u32) -> u64 {
        let partition = &self.partitions[partition as usize];
        let lag = |flight: &ModelFlight| partition.records.len() - flight.next + flight.pending.len();
        partition.flights.iter().map(lag).max().unwrap_or(0) as u64
    }

    /// What a pull is to get: offset, payload, deliveries.
    fn pull(&mut self, group: usize, partition: u32, max: usize) -> Vec<(usize, String, u32)> {
        let ModelPartition { records, flights, .. } = &mut self.partitions[partition as usize];
        let flight = &mut flights[group];
        let ready: Vec<usize> =
            flight.pending.iter().filter(|(_, p)| p.due_ms.is_none()).map(|(offset, _)| *offset).collect();
        let fresh = flight.next..records.len();
        let due_ms = Some(self.now_ms + VISIBILITY_MS);
        let mut got = Vec::new();
        for offset in ready.into_iter().chain(fresh).take(max) {
            let pending = flight.pending.entry(offset).or_insert(Pending { deliveries: 0, due_ms });
            pending.deliveries += 1;
            pending.due_ms = due_ms;
            flight.next = flight.next.max(offset + 1);
            got.push((offset, records[offset].clone(), pending.deliveries));
        }
        got
    }

    /// Not taken: as if it had not been delivered.
    fn give_back(&mut self, group: usize, partition: u32, offset: usize) {
        let pending = self.partitions[partition as usize].flights[group].pending.get_mut(&offset).unwrap();
        pending.deliveries -= 1;
        pending.due_ms = None;
    }

    fn settle(&mut self, group: usize, partition: u32, offset: usize, say: Say) -> bool {
        let now_ms = self.now_ms;
        let ModelPartition { records, flights, dead } = &mut self.partitions[partition as usize];
        let flight = &mut flights[group];
        let Some(pending) = flight.pending.get_mut(&offset) else { return false };
        match say {
            Say::Ack => _ = flight.pending.remove(&offset),
            Say::Nak(_) if pending.deliveries >= DELIVERIES => {
                flight.pending.remove(&offset);
                dead.push(records[offset].clone());
            }
            Say::Nak(delay_ms) => pending.due_ms = (delay_ms > 0).then_some(now_ms + delay_ms),
            Say::Extend(_) if pending.due_ms.is_none() => return false,
            Say::Extend(ms) => pending.due_ms = Some(now_ms + ms),
        }
        true
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for ModelPartition { records, flights, dead } in &mut self.partitions {
            for flight in flights {
                flight.pending.retain(|offset, pending| {
                    if pending.due_ms.is_some_and(|due_ms| due_ms <= self.now_ms) {
                        pending.due_ms = None;
                        if pending.deliveries >= DELIVERIES {
                            dead.push(records[*offset].clone());
                            return false;
                        }
                    }
                    true
                });
            }
        }
    }
}

fn config() -> Config {
    Config {
        queue_size: SIZE,
        max_deliveries: DELIVERIES,
        retention_age_ms: 0,
        retention_records: 3,
        dedup_window_ms: WINDOW_MS,
        ..Config::default()
    }
}

fn named(group: usize, partition: u32, max_messages: usize) -> Pull {
    Pull { partition: Some(partition), ..pull(GROUPS[group], max_messages) }
}

async fn play(ops: Vec<Op>) {
    tokio::time::pause();
    let disk = Disk::default();
    let mut queue = open(&disk, &config());
    let mut model = Model::default();
    for (group, partition) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert!(queue.pull(named(group, partition, 1)).await.unwrap().is_empty());
    }
    let mut epoch = None;
    for op in ops {
        match op {
            Op::Produce { partition, count, id } => produce(&queue, &mut model, partition, count, id).await,
            Op::Pull { group, partition, max, taken } => {
                let expected = model.pull(group, partition, max);
                let mut parcel = queue.pull(named(group, partition, max)).await.unwrap();
                for (place, (offset, payload, deliveries)) in expected.iter().enumerate() {
                    if place >= taken {
                        model.give_back(group, partition, *offset);
                        continue;
                    }
                    let got = parcel.take().unwrap();
                    epoch = Some(got.id.epoch);
                    assert_eq!((got.id.offset, got.deliveries), (*offset as u64, *deliveries));
                    assert_eq!(got.payload, payload.as_bytes());
                }
                assert_eq!(parcel.is_empty(), expected.len() <= taken);
                drop(parcel);
                // What was not taken is on its way back.
                queue.topics(false).await.unwrap();
            }
            Op::Settle { group, partition, index, verdict } => {
                let Some(epoch) = epoch else { continue };
                let id = MessageId { epoch, partition, offset: index as u64 };
                let expected = model.settle(group, partition, index, verdict);
                let verdict = match verdict {
                    Say::Ack => Verdict::Ack,
                    Say::Nak(ms) => Verdict::Nak(Duration::from_millis(ms)),
                    Say::Extend(ms) => Verdict::Extend(Some(Duration::from_millis(ms))),
                };
                let done = queue.settle(settle(GROUPS[group], verdict, vec![id])).await.unwrap();
                assert_eq!(done, [expected]);
            }
            Op::Pass { ms } => {
                model.pass(ms);
                pass(&queue, Duration::from_millis(ms)).await;
            }
            Op::Restart => {
                queue.close().await;
                queue = open(&disk, &config());
                // What ended at this very moment is served by the first look.
                model.pass(0);
                queue.tick().await.unwrap();
            }
        }
        compare(&queue, &model).await;
    }
    for (partition, expected) in (0..).zip(&model.partitions) {
        let ask = Pull { topic: "t.dead".to_owned(), ..named(0, partition, 1_000) };
        let dead = queue.pull(ask).await.unwrap().take_all();
        let mut dead: Vec<_> = texts(&dead).into_iter().map(str::to_owned).collect();
        let mut expected = expected.dead.clone();
        dead.sort();
        expected.sort();
        assert_eq!(dead, expected);
    }
}

async fn produce(queue: &Queue, model: &mut Model, partition: u32, count: usize, id: Option<u8>) {
    let payloads: Vec<String> = (0..count).map(|n| format!("{}.{n}", model.produced)).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let batch = Produce { id: id.map(|id| format!("id-{id}")), ..batch(partition, &payloads) };
    let result = queue.produce(batch).await;
    if let Some((at_ms, ids)) = id.and_then(|id| model.ids.get(&id)) {
        let age_ms = model.now_ms - at_ms;
        let duplicate = result.as_ref().is_ok_and(|produced| produced.duplicate);
        assert!(duplicate || age_ms >= WINDOW_MS, "forgotten after {age_ms} ms");
        if duplicate {
            assert_eq!(&result.unwrap().ids, ids);
            return;
        }
    }
    if model.depth(partition) + count as u64 > SIZE {
        assert!(matches!(result, Err(Error::Full(_))), "{result:?}");
        return;
    }
    let produced = result.unwrap();
    let records = &mut model.partitions[partition as usize].records;
    let offsets: Vec<u64> = produced.ids.iter().map(|id| id.offset).collect();
    assert_eq!(offsets, (records.len() as u64..).take(count).collect::<Vec<_>>());
    records.extend(payloads.iter().map(|payload| (*payload).to_owned()));
    model.produced += 1;
    if let Some(id) = id {
        model.ids.insert(id, (model.now_ms, produced.ids));
    }
}

async fn compare(queue: &Queue, model: &Model) {
    let topics = queue.topics(true).await.unwrap();
    let topic = topics.iter().find(|topic| topic.name == "t").unwrap();
    for partition in &topic.partitions {
        let expected = &model.partitions[partition.index as usize];
        assert_eq!(partition.depth, model.depth(partition.index));
        for (group, flight) in partition.groups.iter().zip(&expected.flights) {
            let in_flight = flight.pending.values().filter(|pending| pending.due_ms.is_some()).count();
            let lag = expected.records.len() - flight.next + flight.pending.len();
            assert_eq!((group.lag, group.in_flight), (lag as u64, in_flight as u64));
            assert_eq!(group.oldest_at_ns.is_some(), lag > 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_queue_is_a_list_with_cursors(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(ops));
    }
}
