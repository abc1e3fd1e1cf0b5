//! Any sequence of calls leaves what a plain list would hold, over restarts.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<usize>),
    /// Confirm this share of what a page holds.
    Acknowledge(usize),
    Refuse(usize),
    Read {
        max_records: usize,
        max_bytes: usize,
    },
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![0..200usize, 100_000..262_144usize];
    let op = prop_oneof![
        4 => prop::collection::vec(size, 0..6).prop_map(Op::Append),
        2 => (0..6usize).prop_map(Op::Acknowledge),
        1 => (0..6usize).prop_map(Op::Refuse),
        2 => (1..5usize, 0..400_000usize).prop_map(|(max_records, max_bytes)| Op::Read { max_records, max_bytes }),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..40)
}

/// What the spool should hold.
#[derive(Default)]
struct Model {
    records: Vec<(Seq, Vec<u8>)>,
    next_seq: Seq,
    acknowledged: u64,
    full: u64,
    refused: u64,
    in_flight: Seq,
}

impl Model {
    fn append(&mut self, records: &[Vec<u8>]) {
        for record in records {
            self.records.push((self.next_seq, record.clone()));
            self.next_seq += 1;
        }
        let size = |records: &[(Seq, Vec<u8>)]| {
            records.iter().map(|(_, bytes)| bytes.len() as u64 + 32).sum::<u64>()
        };
        while size(&self.records) > MIN_SIZE_BYTES {
            let Some(oldest) = self.records.iter().position(|(seq, _)| *seq > self.in_flight) else { break };
            self.records.remove(oldest);
            self.full += 1;
        }
    }

    fn page(&mut self, max_records: usize, max_bytes: usize) -> Vec<(Seq, Vec<u8>)> {
        let mut page: Vec<(Seq, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for (seq, record) in &self.records {
            bytes += record.len();
            let follows = page.last().is_none_or(|(last, _)| last + 1 == *seq);
            if !page.is_empty() && (!follows || page.len() == max_records || bytes > max_bytes) {
                break;
            }
            page.push((*seq, record.clone()));
        }
        self.in_flight = page.last().map_or(0, |(seq, _)| *seq);
        page
    }
}

async fn play(ops: Vec<Op>) {
    let disk = Disk::default();
    let mut spool = open(&disk, MIN_SIZE_BYTES);
    let mut model = Model { next_seq: 1, ..Model::default() };
    let id = spool.read_page(0, ALL).await.unwrap().spool_id;
    for (step, op) in ops.into_iter().enumerate() {
        match op {
            Op::Append(sizes) => {
                let fill = u8::try_from(step).unwrap();
                let records: Vec<_> = sizes.into_iter().map(|size| vec![fill; size]).collect();
                let first = model.next_seq;
                let seqs = spool.append_many(records.clone()).await.unwrap();
                assert_eq!(seqs, first..first + records.len() as u64);
                model.append(&records);
            }
            Op::Acknowledge(index) => {
                let Some(&(up_to, _)) = model.records.get(index) else { continue };
                spool.acknowledge(&id, up_to, "r").await.unwrap();
                model.acknowledged += model.records.iter().filter(|(seq, _)| *seq <= up_to).count() as u64;
                model.records.retain(|(seq, _)| *seq > up_to);
            }
            Op::Refuse(index) => {
                let Some(&(refused, _)) = model.records.get(index) else { continue };
                spool.refuse(&id, refused).await.unwrap();
                model.records.remove(index);
                model.refused += 1;
            }
            Op::Read { max_records, max_bytes } => {
                let limits = PageLimits { until: None, max_records, max_bytes };
                let page = spool.read_page(0, limits).await.unwrap();
                let read: Vec<_> = (page.first_seq..).zip(page.records).collect();
                assert_eq!(read, model.page(max_records, max_bytes));
            }
            Op::Restart => {
                spool.close().await;
                spool = open(&disk, MIN_SIZE_BYTES);
                model.in_flight = 0;
            }
        }
        let accounts = spool.accounts();
        assert_adds_up(&accounts);
        assert_eq!(accounts.produced, model.next_seq - 1);
        assert_eq!(accounts.acknowledged, model.acknowledged);
        assert_eq!(accounts.spooled, model.records.len() as u64);
        assert_eq!(accounts.dropped.get("spool_full").copied().unwrap_or(0), model.full);
        assert_eq!(accounts.dropped.get("refused").copied().unwrap_or(0), model.refused);
    }
    assert_eq!(all(&spool).await, model.records);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_spool_is_a_list(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(ops));
    }
}
