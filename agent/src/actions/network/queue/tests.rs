use super::*;

const MS: u64 = 1_000_000;
const BYTES: usize = HEADER_BYTES + ETHERNET_BYTES + IPV4_BYTES + 100;

fn queue(fault: Fault) -> Queue {
    Queue::new(fault, 2, 42)
}

fn frame(number: u8) -> [u8; BYTES] {
    let mut frame = [number; BYTES];
    frame[HEADER_BYTES + 12..HEADER_BYTES + ETHERNET_BYTES].copy_from_slice(&[0x08, 0x00]);
    frame
}

/// Due times and first bytes, in the order of going on.
fn drained(queue: &mut Queue) -> Vec<(u64, u8)> {
    std::iter::from_fn(|| queue.due(u64::MAX)).map(|held| (held.due_ns, held.frame[0])).collect()
}

#[test]
fn a_delay_keeps_times_and_order() {
    let mut queue = queue(Fault { delay_ns: 5 * MS, ..Fault::default() });
    for (number, now_ns) in [(1, 0), (2, 0), (3, MS)] {
        queue.push(0, &frame(number), now_ns);
    }
    assert_eq!((queue.next_ns(), queue.len(), queue.held_bytes), (Some(5 * MS), 3, 3 * BYTES));
    assert_eq!(queue.due(5 * MS - 1), None);
    assert_eq!(drained(&mut queue), [(5 * MS, 1), (5 * MS, 2), (6 * MS, 3)]);
    assert_eq!((queue.next_ns(), queue.held_bytes), (None, 0));
}

#[test]
fn jitter_stays_in_its_bounds_and_is_even() {
    let mut queue = queue(Fault { delay_ns: 5 * MS, jitter_ns: 4 * MS, ..Fault::default() });
    for _ in 0..10_000 {
        queue.push(0, &frame(0), 0);
    }
    let due = drained(&mut queue);
    assert!(due.iter().all(|(due_ns, _)| (MS..=9 * MS).contains(due_ns)));
    for (at, wanted_ms) in [(1_000, 1.8), (5_000, 5.0), (9_000, 8.2)] {
        let due_ms = due[at].0 as f64 / MS as f64;
        assert!((due_ms - wanted_ms).abs() < 0.2, "{at}: {due_ms}");
    }
}

#[test]
fn shares_are_what_was_asked_for() {
    let fault = Fault {
        delay_ns: MS,
        loss_percent: 10.0,
        duplicate_percent: 20.0,
        reorder_percent: 30.0,
        corrupt_percent: 40.0,
        ..Fault::default()
    };
    let mut queue = queue(fault);
    for _ in 0..30_000 {
        queue.push(0, &frame(0), 0);
    }
    let Tally { dropped, duplicated, corrupted, reordered, overflowed } = queue.tally;
    let close = |count: u64, of: f64, percent: f64| {
        let share = count as f64 / of * 100.0;
        assert!((share - percent).abs() < 1.0, "{count}: {share} instead of {percent}");
    };
    close(dropped, 30_000.0, 10.0);
    close(duplicated, 27_000.0, 20.0);
    close(corrupted, 27_000.0 * 1.2, 40.0);
    close(reordered, 27_000.0 * 1.2, 30.0);
    assert_eq!((queue.len() as u64, overflowed), (30_000 - dropped + duplicated, 0));
    let damaged = std::iter::from_fn(|| queue.due(u64::MAX)).filter(|held| *held.frame != frame(0)).count();
    assert_eq!(damaged as u64, corrupted);
}

#[test]
fn shares_of_ten_thousand_are_closer_than_dice_alone() {
    for percent in [0.5, 10.0, 50.0, 90.0] {
        for seed in 0..200 {
            let mut queue = Queue::new(Fault { loss_percent: percent, ..Fault::default() }, 1, seed);
            for _ in 0..10_000 {
                queue.push(0, &frame(0)[..0], 0);
                queue.due(0);
            }
            let share = queue.tally.dropped as f64 / 100.0;
            assert!((share - percent).abs() < 0.4, "seed {seed}: {share} instead of {percent}");
        }
    }
    // Still dice: runs of five losses at 50 % are as frequent as chance has them.
    let mut dice = Dice { share: 0.5, debt: 0.0 };
    let mut random = Random(1);
    let throws: Vec<bool> = (0..100_000).map(|_| dice.hits(&mut random)).collect();
    let runs = throws.windows(5).filter(|throws| throws.iter().all(|hit| *hit)).count() as f64 / 1e5;
    assert!((runs * 32.0 - 1.0).abs() < 0.1, "{runs}");
}

#[test]
fn certainty_and_nothing_are_exact() {
    for (percent, wanted) in [(0.0, 0), (100.0, 1_000)] {
        let mut queue = queue(Fault { loss_percent: percent, ..Fault::default() });
        for _ in 0..1_000 {
            queue.push(0, &frame(0), 0);
        }
        assert_eq!(queue.tally.dropped, wanted);
    }
}

#[test]
fn damage_spares_the_headers_and_flips_one_bit() {
    let mut random = Random(7);
    for (ethertype, header) in [([0x08, 0x00], IPV4_BYTES), ([0x86, 0xdd], IPV6_BYTES)] {
        for _ in 0..1_000 {
            let mut damaged = frame(0);
            damaged[HEADER_BYTES + 12..HEADER_BYTES + ETHERNET_BYTES].copy_from_slice(&ethertype);
            let before = damaged;
            assert!(random.damage(&mut damaged));
            let bits: u32 = before.iter().zip(&damaged).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(bits, 1);
            let spared = HEADER_BYTES + ETHERNET_BYTES + header;
            assert_eq!(before[..spared], damaged[..spared]);
        }
    }
    for length in [0, HEADER_BYTES, HEADER_BYTES + 12, HEADER_BYTES + ETHERNET_BYTES + IPV4_BYTES] {
        assert!(!random.damage(&mut frame(0)[..length]), "{length} bytes carry nothing");
    }
}

#[test]
fn a_slow_line_takes_its_time_and_drops_what_would_wait_too_long() {
    // A frame of 134 bytes takes 10.72 ms.
    let mut queue = queue(Fault { rate_bits_per_s: 100_000, delay_ns: MS, ..Fault::default() });
    for number in 0..60 {
        queue.push(0, &frame(number), 0);
    }
    queue.push(1, &frame(99), 0);
    let due = drained(&mut queue);
    let through_ns = (BYTES - HEADER_BYTES) as u64 * 8 * 10_000;
    assert_eq!(due[0], (through_ns + MS, 0));
    assert_eq!(due[1], (through_ns + MS, 99), "another interface has a line of its own");
    assert_eq!(due[2], (2 * through_ns + MS, 1));
    assert_eq!(due.len(), 48, "half a second's worth, and the one on the line");
    assert_eq!(queue.tally.overflowed, 13);
    queue.push(0, &frame(1), 10_000 * MS);
    assert_eq!(queue.next_ns(), Some(10_000 * MS + through_ns + MS), "a free line is used at once");
}

#[test]
fn memory_is_bounded_in_packets_and_bytes() {
    let mut small = queue(Fault { delay_ns: MS, ..Fault::default() });
    for _ in 0..=MAX_HELD {
        small.push(0, &frame(0), 0);
    }
    assert_eq!((small.len(), small.tally.overflowed), (MAX_HELD, 1));
    let mut large = queue(Fault { delay_ns: MS, ..Fault::default() });
    let frame = vec![0; 65_536];
    for _ in 0..1_030 {
        large.push(0, &frame, 0);
    }
    assert_eq!((large.len(), large.held_bytes, large.tally.overflowed), (1_024, MAX_HELD_BYTES, 6));
    assert!(large.due(u64::MAX).is_some());
    large.push(0, &frame, 0);
    assert_eq!(large.tally.overflowed, 6, "there is room again");
}
