//! The cgroup files that tell usage, each by every decoder: a path may lie on anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::sources::usage::parse;

fuzz_target!(|file: &[u8]| {
    if let Some(stat) = parse::cpu_stat(file) {
        assert!(stat.usage_usec.is_some() || stat.throttling.is_some());
    }
    let _ = (parse::memory_stat_v1(file), parse::memory_stat_v2(file), parse::memory_events(file));
    let _ =
        (parse::word(file, b"oom_kill"), parse::pressure(file), parse::number(file), parse::limit_v1(file));
    if let Some(quota) = parse::cpu_max(file).and_then(|bound| bound.at()) {
        assert!(quota.period_usec > 0 && quota.cores().is_finite());
    }
    for mut io in [parse::io_stat(file), parse::blkio_bytes(file)].into_iter().flatten() {
        assert!(io.devices.len() <= parse::MAX_DEVICES);
        let listed = io.devices.iter().fold(0_u64, |sum, one| sum.saturating_add(one.rbytes));
        assert!(listed <= io.rbytes, "the sum holds what is listed");
        let _ = parse::blkio_operations(file, &mut io);
    }
});
