use std::collections::BTreeSet;

use super::fields::{FB_USED, FIELDS, GPU_TEMP, GPU_UTIL};
use super::*;

fn device(uuid: &str, name: &str) -> Device {
    Device { uuid: uuid.to_owned(), device: name.to_owned(), ..Device::default() }
}

fn worker(pod: &str) -> Worker {
    Worker { namespace: "ml".to_owned(), pod: pod.to_owned(), container: "main".to_owned() }
}

fn reading(device: Device, values: &[(&'static str, f64)]) -> DeviceReading {
    let values = values.iter().map(|(name, value)| (Metric::from(*name), *value)).collect();
    DeviceReading { device, values, workers: Vec::new() }
}

#[test]
fn numbers_that_say_that_there_is_none_are_no_values() {
    for text in [
        "9223372036854775792",
        "9223372036854775793",
        "9223372036854775794",
        "9223372036854775795",
        "18446744073709551615",
        "18446744073709551614",
        "-9223372036854775808",
        "140737488355328",
        "140737488355330.0",
        "1e300",
    ] {
        assert_eq!(usable(text.parse().unwrap()), Err(Blank::Sentinel), "{text}");
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(usable(value), Err(Blank::NotFinite));
    }
    // The control: what lies beside them is a value.
    for value in [0.0, -1.5, 140_737_488_355_327.0, 140_737_488_355_332.0, 140_737_488_355_329.5, 9.2e18] {
        assert_eq!(usable(value), Ok(value));
    }
}

#[test]
fn names_are_known_once() {
    let names: BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names.len(), FIELDS.len());
    assert!(names.iter().all(|name| crate::domain::series::is_name(name, true)));
    assert_eq!(fields::of(GPU_TEMP).map(|field| field.unit), Some(fields::Unit::Celsius));
    assert_eq!(fields::of("DCGM_FI_DEV_NO_SUCH"), None);
}

#[test]
fn a_metric_of_a_device_is_there_once_and_the_first_input_says_its_value() {
    let mut known = device("GPU-a", "");
    known.model_name = "H100".to_owned();
    let map = GpuMap::new(
        7,
        [
            reading(device("GPU-a", "nvidia0"), &[(GPU_UTIL, 10.0), (FB_USED, f64::NAN)]),
            reading(known, &[(GPU_UTIL, 90.0), (FB_USED, 5.0)]),
        ],
        &Allocations::default(),
    );
    let [one] = &*map.devices else { panic!("{map:?}") };
    assert_eq!((one.value(GPU_UTIL), one.value(FB_USED), one.value(GPU_TEMP)), (Some(10.0), Some(5.0), None));
    assert_eq!((&*one.device.device, &*one.device.model_name), ("nvidia0", "H100"), "each input knew a part");
    assert_eq!(map.left_out, LeftOut { blank: 1, twice: 1, ..LeftOut::default() });
}

#[test]
fn a_device_that_pods_share_is_one_series_and_no_pods() {
    let mut allocations = Allocations::default();
    for (id, pod) in [("GPU-a::0", "one"), ("GPU-a::1", "two"), ("GPU-b", "alone"), ("GPU-b", "alone")] {
        allocations.add(DeviceId::parse(id).unwrap(), worker(pod));
    }
    let readings = ["GPU-a", "GPU-b", "GPU-c"].map(|id| reading(device(id, ""), &[(GPU_UTIL, 1.0)]));
    let map = GpuMap::new(0, readings, &allocations);
    let pods: Vec<_> =
        map.devices.iter().map(|one| (one.workers.len(), one.worker().map(|worker| &*worker.pod))).collect();
    assert_eq!(pods, [(2, None), (1, Some("alone")), (0, None)]);
    // An exporter that says the same once for each pod: still one value, and what it says of pods is believed.
    let of = |pod| DeviceReading {
        workers: vec![worker(pod)],
        ..reading(device("GPU-b", ""), &[(GPU_UTIL, 1.0)])
    };
    let map = GpuMap::new(0, [of("x"), of("y"), of("x")], &allocations);
    assert_eq!((map.devices.len(), map.devices[0].workers.len(), map.left_out.twice), (1, 2, 2));
}

#[test]
fn every_form_of_an_id_finds_its_device() {
    let mut mig = device("GPU-a", "nvidia0");
    mig.instance_id = "2".to_owned();
    let (whole, amd) = (device("GPU-a", "nvidia0"), device("0xdeadbeef", "card0"));
    for (id, wanted, others) in [
        ("GPU-a", [true, true, false], "by id"),
        ("GPU-a::3", [true, true, false], "a share"),
        ("nvidia0", [true, false, false], "by name"),
        ("nvidia0/vgpu1", [true, false, false], "a share by name"),
        ("nvidia0/gi2", [false, true, false], "an instance by name"),
        ("nvidia0/gi2/vgpu0", [false, true, false], "a share of an instance"),
        ("gpu-0", [true, false, false], "in a pool"),
        ("0xdeadbeef", [false, false, true], "another vendor's"),
        ("MIG-x", [false, false, false], "an unknown one"),
        ("nvidia0/gi", [true, false, false], "no number"),
        ("nvidia1", [false, false, false], "another"),
    ] {
        let mut allocations = Allocations::default();
        allocations.add(DeviceId::parse(id).unwrap(), worker("p"));
        let found = [&whole, &mig, &amd].map(|device| !allocations.workers(device).is_empty());
        assert_eq!(found, wanted, "{id}: {others}");
    }
    for none in ["", "  ", "/gi1", "::", &"x".repeat(257)] {
        assert_eq!(DeviceId::parse(none), None, "{none}");
    }
}

#[test]
fn devices_and_metrics_have_limits_that_are_told() {
    let many = (0..MAX_DEVICES + 3).map(|n| reading(device(&format!("GPU-{n}"), ""), &[]));
    let map = GpuMap::new(0, many, &Allocations::default());
    assert_eq!((map.devices.len(), map.left_out.devices), (MAX_DEVICES, 3));
    let values = (0..MAX_METRICS + 2).map(|n| (Metric::from(format!("m{n:04}")), 1.0)).collect();
    let one = DeviceReading { values, ..reading(device("GPU-a", ""), &[]) };
    let map = GpuMap::new(0, [one], &Allocations::default());
    assert_eq!((map.devices[0].values.len(), map.left_out.metrics), (MAX_METRICS, 2));
}
