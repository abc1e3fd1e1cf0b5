//! Recorded files, documented ones, and what no kernel writes.

use proptest::prelude::*;

use super::*;

macro_rules! recorded {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cgroup/", $path)).as_slice()
    };
}

#[test]
fn cpu_of_both_versions() {
    let throttling =
        |nr_periods, nr_throttled, throttled_usec| Throttling { nr_periods, nr_throttled, throttled_usec };
    let v2 = CpuStat {
        usage_usec: Some(5_979_315),
        user_usec: Some(4_352_526),
        system_usec: Some(1_626_789),
        throttling: Some(throttling(300, 297, 24_262_294)),
    };
    assert_eq!(cpu_stat(recorded!("v2/cpu.stat")), Some(v2));
    let v1 = CpuStat { throttling: Some(throttling(33, 27, 781_446)), ..CpuStat::default() };
    assert_eq!(cpu_stat(recorded!("hybrid/cpu/cpu.stat")), Some(v1), "nanoseconds there");
    let bare = cpu_stat(recorded!("hybrid/unified/cpu.stat")).unwrap();
    assert_eq!((bare.usage_usec, bare.throttling), (Some(652_470), None), "no controller, no throttling");
    assert_eq!(cpu_stat(b"nr_periods 1\nnr_throttled 1\n"), None, "the third is missing");
    assert_eq!(cpu_stat(b""), None);
}

#[test]
fn memory_of_both_versions() {
    let stat = memory_stat_v2(recorded!("v2/memory.stat")).unwrap();
    assert_eq!((stat.anon, stat.file, stat.inactive_file), (155_648, 22_269_952, 237_568));
    let stat = memory_stat_v1(recorded!("hybrid/memory/memory.stat")).unwrap();
    let expected = MemoryStat { anon: 180_224, file: 135_168, inactive_file: 32_768, swap: Some(0) };
    assert_eq!(stat, expected, "the totals, not the group's own");
    assert_eq!(
        memory_stat_v2(recorded!("hybrid/memory/memory.stat")),
        None,
        "the control: another version's file"
    );
    assert_eq!(memory_stat_v1(recorded!("v2/memory.stat")), None);
    let events = memory_events(recorded!("v2/memory.events")).unwrap();
    assert!(events.iter().all(|(_, count)| count == Some(0)));
    assert_eq!(word(recorded!("hybrid/memory/memory.oom_control"), b"oom_kill"), Some(0));
    assert_eq!(memory_events(b"other 3\n"), None);
}

#[test]
fn io_of_both_versions() {
    let io = io_stat(recorded!("v2/io.stat")).unwrap();
    assert_eq!((io.rbytes, io.wbytes, io.rios, io.wios), (8_388_608 + 9_580_544, 0, Some(34), Some(0)));
    let devices: Vec<_> = io.devices.iter().map(|one| (one.major, one.minor, one.rbytes)).collect();
    assert_eq!(devices, [(254, 16, 8_388_608), (254, 0, 9_580_544)]);
    assert_eq!(
        io_stat(b""),
        Some(Io { rios: Some(0), wios: Some(0), ..Io::default() }),
        "no IO yet is none, and known"
    );
    assert_eq!(io_stat(b"8:0\n8:16 rbytes=5 cost.usage=7\n").unwrap().rbytes, 5);
    for broken in ["x:0 rbytes=1", "8 rbytes=1", "8:0 rbytes=-1", "8:0 rbytes=99999999999999999999"] {
        assert_eq!(io_stat(broken.as_bytes()), None, "{broken}");
    }

    // The document's own shape: blkio-controller.rst.
    let mut io =
        blkio_bytes(b"8:16 Read 10\n8:16 Write 20\n8:16 Sync 25\n8:16 Total 30\n8:0 Read 1\nTotal 31\n")
            .unwrap();
    assert_eq!((io.rbytes, io.wbytes, io.rios), (11, 20, None));
    blkio_operations(b"8:16 Read 2\n8:16 Write 3\n8:0 Read 1\nTotal 6\n", &mut io).unwrap();
    assert_eq!((io.rios, io.wios, io.devices[0].wios), (Some(3), Some(3), Some(3)));
    let none = blkio_bytes(recorded!("hybrid/blkio/blkio.throttle.io_service_bytes_recursive")).unwrap();
    assert_eq!((none.rbytes, none.devices.len()), (0, 0));
    assert_eq!(blkio_bytes(b"8:16 Read 10\n"), None, "cut off: no total");
}

#[test]
fn a_thousand_devices_are_summed_and_a_few_listed() {
    let line = |minor| format!("8:{minor} rbytes=1 wbytes=2 rios=1 wios=1\n");
    let io = io_stat((0..1_000).map(line).collect::<String>().as_bytes()).unwrap();
    assert_eq!((io.rbytes, io.wbytes, io.devices.len()), (1_000, 2_000, MAX_DEVICES));
    let most = io_stat(b"8:0 rbytes=18446744073709551615\n8:1 rbytes=18446744073709551615\n").unwrap();
    assert_eq!(most.rbytes, u64::MAX, "never wraps");
}

#[test]
fn pressure_in_hundredths_of_a_percent() {
    let cpu = pressure(recorded!("v2/cpu.pressure")).unwrap();
    let some = Stall { avg10_bp: 5_555, avg60_bp: 2_645, avg300_bp: 671, total_usec: 21_104_719 };
    assert_eq!((cpu.some, cpu.full.unwrap().total_usec), (some, 21_082_080));
    let old = pressure(b"some avg10=0.00 avg60=0.07 avg300=100.00 total=1\n").unwrap();
    assert_eq!((old.some.avg60_bp, old.some.avg300_bp, old.full), (7, 10_000, None));
    for broken in ["", "some avg10=1 avg60=0.00 avg300=0.00 total=1", "full avg10=0.00", "some avg10=0.0 x"] {
        assert_eq!(pressure(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn limits_and_the_lack_of_one() {
    let quota = CpuQuota { quota_usec: 20_000, period_usec: 100_000 };
    assert_eq!(cpu_max(recorded!("v2/cpu.max")), Some(Bound::At(quota)));
    assert!((quota.cores() - 0.2).abs() < 1e-9);
    assert_eq!(cpu_max(b"max 100000\n"), Some(Bound::Unlimited));
    assert_eq!(cpu_max(b"5 0\n"), None, "a period of nothing would divide by it");
    assert_eq!(cfs_quota(recorded!("hybrid/cpu/cpu.cfs_quota_us"), 100_000), Some(Bound::At(quota)));
    assert_eq!(cfs_quota(b"-1\n", 100_000), Some(Bound::Unlimited));
    assert_eq!((cfs_quota(b"5\n", 0), cfs_quota(b"\n", 1)), (None, None));
    assert_eq!(limit(recorded!("v2/memory.max")), Some(Bound::At(128 << 20)));
    assert_eq!(limit(b"max\n"), Some(Bound::Unlimited));
    assert_eq!(limit_v1(recorded!("hybrid/memory/memory.limit_in_bytes")), Some(Bound::At(128 << 20)));
    assert_eq!(limit_v1(b"9223372036854771712\n"), Some(Bound::Unlimited));
    for broken in ["", "\n", "-1\n", "1 2\n", "1\n2\n", "0x10\n", "18446744073709551616\n", "1\u{0}\n"] {
        assert_eq!((number(broken.as_bytes()), limit(broken.as_bytes())), (None, None), "{broken:?}");
    }
}

/// Every parser; none may panic.
fn all(file: &[u8]) {
    let _ = (
        cpu_stat(file),
        memory_stat_v1(file),
        memory_stat_v2(file),
        memory_events(file),
        word(file, b"oom_kill"),
    );
    let _ = (pressure(file), cpu_max(file), cfs_quota(file, 1), number(file), limit(file), limit_v1(file));
    for io in [io_stat(file), blkio_bytes(file)].into_iter().flatten() {
        assert!(io.devices.len() <= MAX_DEVICES);
        let listed: u64 = io.devices.iter().fold(0, |sum, one| sum.saturating_add(one.rbytes));
        assert!(listed <= io.rbytes);
        let _ = blkio_operations(file, &mut io.clone());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(file in prop::collection::vec(any::<u8>(), 0..512)) {
        all(&file);
    }

    #[test]
    fn cut_and_changed_files_are_read_or_refused(
        which in 0usize..6, cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let files = [
            recorded!("v2/cpu.stat"), recorded!("v2/memory.stat"), recorded!("v2/io.stat"),
            recorded!("v2/cpu.pressure"), recorded!("hybrid/memory/memory.stat"), recorded!("v2/cpu.max"),
        ];
        let mut file = files[which].to_vec();
        let at = at.index(file.len());
        file[at] = byte;
        file.truncate(cut.index(file.len() + 1));
        all(&file);
    }
}
