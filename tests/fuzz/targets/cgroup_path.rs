//! A cgroup path, or a line of `/proc/PID/cgroup`: names chosen by whoever made the cgroup.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::domain::pod::CgroupKind;
use sextant::sources::pods::cgroup::describe;

fuzz_target!(|line: &str| {
    let place = describe(line);
    // What `domain::pod::CgroupRef` promises.
    assert_eq!(place.qos.is_some(), place.pod_uid.is_some());
    if place.kind == CgroupKind::None {
        assert!(place.pod_uid.is_none() && place.container_id.is_none());
    }
    if place.kind == CgroupKind::Pod {
        assert!(place.container_id.is_none());
    }
});
