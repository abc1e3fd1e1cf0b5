//! Whatever numbers arrive, what passes is within the limits, and what does not names its field.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    max_percent_of_node: 95.0,
    max_duration_s: 3_600.0,
    min_percent_of_memory: 10.0,
    max_percent_of_disk: 95.0,
};

fn cpu(percent: f64, of: Of, workers: Option<u32>) -> Cpu {
    Cpu { percent, of, workers, class: Class::Normal, nice: None, cpus: Vec::new() }
}

fn provoked(strength: Strength) -> Asked {
    Asked { target: Target::Node, strength, duration_s: 10.0, ramp_s: 0.0, schedule: None, force: false }
}

fn asked(percent: f64, duration_s: f64, ramp_s: f64, workers: Option<u32>) -> Asked {
    Asked { duration_s, ramp_s, ..provoked(Strength::Cpu(cpu(percent, Of::Core, workers))) }
}

fn field(asked: Asked) -> Option<&'static str> {
    Fault::check(asked, &LIMITS).err().map(|invalid| invalid.field)
}

#[test]
fn a_number_that_cannot_be_is_named() {
    for percent in [f64::NAN, f64::INFINITY, -1.0, 0.0, -0.0, 100.1, 1e300] {
        assert_eq!(field(asked(percent, 10.0, 0.0, None)), Some("strength.percent"), "{percent}");
    }
    for duration_s in [f64::NAN, f64::NEG_INFINITY, -5.0, 0.0, 0.9, 3_600.5, 1e18] {
        assert_eq!(field(asked(30.0, duration_s, 0.0, None)), Some("duration"), "{duration_s}");
    }
    for ramp_s in [f64::NAN, -1.0, 10.5] {
        assert_eq!(field(asked(30.0, 10.0, ramp_s, None)), Some("ramp"), "{ramp_s}");
    }
    for workers in [0, 1_025, u32::MAX] {
        assert_eq!(field(asked(30.0, 10.0, 0.0, Some(workers))), Some("strength.workers"));
    }
    assert_eq!(field(asked(30.0, 10.0, 10.0, Some(2))), None);
}

#[test]
fn every_kind_names_what_cannot_be() {
    let of_cpu = |cpu: Cpu| field(provoked(Strength::Cpu(cpu)));
    let plain = || cpu(10.0, Of::Core, None);
    assert_eq!(of_cpu(Cpu { nice: Some(20), ..plain() }), Some("strength.nice"));
    assert_eq!(of_cpu(Cpu { class: Class::Fifo(0), ..plain() }), Some("strength.priority"));
    assert_eq!(of_cpu(Cpu { class: Class::RoundRobin(100), ..plain() }), Some("strength.priority"));
    assert_eq!(of_cpu(Cpu { cpus: vec![8_192], ..plain() }), Some("strength.cpus"));
    let of_memory = |amount, workers, touch_bytes_per_s| {
        field(provoked(Strength::Memory(Memory { amount, workers, touch_bytes_per_s })))
    };
    assert_eq!(of_memory(Amount::Bytes(4_095), None, 0), Some("strength.bytes"));
    assert_eq!(of_memory(Amount::Percent(f64::NAN), None, 0), Some("strength.percent"));
    assert_eq!(of_memory(Amount::Percent(100.0), Some(0), 0), Some("strength.workers"));
    assert_eq!(of_memory(Amount::Bytes(1 << 30), None, u64::MAX), Some("strength.touch_bytes_per_s"));
    assert_eq!(of_memory(Amount::Bytes(1 << 30), None, 0), None);
    let of_disk = |disk: Disk| field(provoked(Strength::Disk(disk)));
    let load = |path: &str, bytes_per_s, operations_per_s, block_bytes, write_percent| {
        let path = path.to_owned();
        of_disk(Disk::Load(DiskLoad {
            path,
            bytes_per_s,
            operations_per_s,
            block_bytes,
            write_percent,
            workers: None,
        }))
    };
    assert_eq!(load("tmp", Some(1 << 20), None, 4_096, 1.0), Some("strength.path"));
    assert_eq!(load("/t\0", Some(1 << 20), None, 4_096, 1.0), Some("strength.path"));
    assert_eq!(load("/t", Some(1 << 20), Some(1), 4_096, 1.0), Some("strength"));
    assert_eq!(load("/t", None, None, 4_096, 1.0), Some("strength"));
    assert_eq!(load("/t", Some(100), None, 4_096, 1.0), Some("strength.bytes_per_s"));
    assert_eq!(load("/t", Some(1 << 20), None, 4_097, 1.0), Some("strength.block_bytes"));
    assert_eq!(load("/t", None, Some(5), 4_096, f64::NAN), Some("strength.write_percent"));
    assert_eq!(load("/t", None, Some(5), 4_096, 50.0), None);
    let fill = |amount| of_disk(Disk::Fill(DiskFill { path: "/t".to_owned(), amount }));
    assert_eq!(fill(Amount::Percent(95.5)), Some("strength.percent"));
    assert_eq!(fill(Amount::Percent(95.0)), None);
    let slow = |read_bytes_per_s, write_operations_per_s| {
        of_disk(Disk::Slow(DiskSlow {
            path: "/t".to_owned(),
            read_bytes_per_s,
            write_bytes_per_s: None,
            read_operations_per_s: None,
            write_operations_per_s,
        }))
    };
    assert_eq!(slow(None, None), Some("strength"));
    assert_eq!(slow(Some(0), None), Some("strength.read_bytes_per_s"));
    assert_eq!(slow(Some(1), Some(1)), None);
}

#[test]
fn a_schedule_has_room_for_its_runs() {
    let when = |delay_s: f64, every_s: f64, runs: u32| {
        field(Asked { schedule: Some(Schedule { delay_s, every_s, runs }), ..asked(10.0, 10.0, 0.0, None) })
    };
    assert_eq!(when(f64::NAN, 0.0, 1), Some("schedule.delay"));
    assert_eq!(when(86_401.0, 0.0, 1), Some("schedule.delay"));
    assert_eq!(when(0.0, 0.0, 0), Some("schedule.runs"));
    assert_eq!(when(0.0, 9.0, 2), Some("schedule.every"));
    assert_eq!(when(0.0, -1.0, 1), None, "of one run there is no interval");
    assert_eq!(when(5.0, 10.0, 3), None);
}

#[test]
fn a_target_is_its_words() {
    for target in [
        Target::Node,
        Target::Pod("shop/cart 1".to_owned()),
        Target::Container(String::new()),
        Target::Cgroup("/a b".to_owned()),
        Target::Pid(7),
    ] {
        assert_eq!(Target::of_words(&target.to_string()), Some(target));
    }
    for words in ["", "pid", "pid x", "node 1", "moon"] {
        assert_eq!(Target::of_words(words), None, "{words}");
    }
}

#[test]
fn a_share_of_the_target_is_of_its_cpus_fractions_included() {
    let half = cpu(50.0, Of::Target, None);
    assert_eq!(half.shares(&LIMITS, 0.5, 4, 0.0).unwrap(), [25.0]);
    assert_eq!(half.shares(&LIMITS, 2.0, 4, 0.0).unwrap(), [50.0, 50.0]);
    let crowded = cpu(90.0, Of::Target, Some(1));
    assert_eq!(crowded.shares(&LIMITS, 2.0, 4, 0.0).unwrap_err().field, "strength.workers");
}

#[test]
fn faults_share_the_nodes_limit() {
    let two = cpu(90.0, Of::Core, Some(2));
    assert_eq!(two.shares(&LIMITS, 2.0, 2, 0.0).unwrap(), [90.0, 90.0]);
    let error = two.shares(&LIMITS, 2.0, 2, 20.0).unwrap_err();
    assert!(error.to_string().contains("170 % left"), "{error}");
    assert!(two.shares(&LIMITS, 1.0, 1, 0.0).is_err());
}

proptest! {
    #[test]
    fn what_passes_is_within_every_limit(
        percent in any::<f64>(), duration_s in any::<f64>(), ramp_s in any::<f64>(), workers in any::<Option<u32>>(),
        small in (0.0..200.0, 0.0..5_000.0, 0.0..5_000.0, proptest::option::of(0_u32..2_000)),
        of_target in any::<bool>(), cpus in 0.01..256.0, taken in 0.0..500.0,
    ) {
        let of = if of_target { Of::Target } else { Of::Core };
        for (percent, duration_s, ramp_s, workers) in [(percent, duration_s, ramp_s, workers), small] {
            let cpu = cpu(percent, of, workers);
            let asked = Asked { duration_s, ramp_s, ..provoked(Strength::Cpu(cpu.clone())) };
            let Ok(fault) = Fault::check(asked, &LIMITS) else { continue };
            prop_assert!(fault.duration_ns() >= 1_000_000_000 && fault.duration_ns() <= 3_600_000_000_000);
            prop_assert!(fault.ramp_ns() <= fault.duration_ns());
            let Ok(shares) = cpu.shares(&LIMITS, cpus, 256, taken) else { continue };
            prop_assert!(shares.iter().all(|share| *share > 0.0 && *share <= 100.0));
            prop_assert!(shares.iter().sum::<f64>() <= 256.0 * 95.0 + 1e-6);
        }
    }
}
