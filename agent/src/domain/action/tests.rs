//! Whatever numbers arrive, what passes is within the limits, and what does not names its field.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_percent_of_node: 95.0, max_duration_s: 3_600.0 };

fn asked(percent: f64, duration_s: f64, ramp_s: f64, workers: Option<u32>) -> Asked {
    Asked { kind: Kind::Cpu, target: Target::Node, percent, of: Of::Core, workers, duration_s, ramp_s }
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
fn a_share_of_the_target_is_of_its_cpus_fractions_included() {
    let half = Fault::check(Asked { of: Of::Target, ..asked(50.0, 10.0, 0.0, None) }, &LIMITS).unwrap();
    assert_eq!(half.shares(&LIMITS, 0.5, 4, 0.0).unwrap(), [25.0]);
    assert_eq!(half.shares(&LIMITS, 2.0, 4, 0.0).unwrap(), [50.0, 50.0]);
    let crowded = Asked { of: Of::Target, ..asked(90.0, 10.0, 0.0, Some(1)) };
    let crowded = Fault::check(crowded, &LIMITS).unwrap();
    assert_eq!(crowded.shares(&LIMITS, 2.0, 4, 0.0).unwrap_err().field, "strength.workers");
}

#[test]
fn faults_share_the_nodes_limit() {
    let fault = Fault::check(asked(90.0, 10.0, 0.0, Some(2)), &LIMITS).unwrap();
    assert_eq!(fault.shares(&LIMITS, 2.0, 2, 0.0).unwrap(), [90.0, 90.0]);
    let error = fault.shares(&LIMITS, 2.0, 2, 20.0).unwrap_err();
    assert!(error.to_string().contains("170 % left"), "{error}");
    assert!(fault.shares(&LIMITS, 1.0, 1, 0.0).is_err());
}

proptest! {
    #[test]
    fn what_passes_is_within_every_limit(
        percent in any::<f64>(), duration_s in any::<f64>(), ramp_s in any::<f64>(), workers in any::<Option<u32>>(),
        small in (0.0..200.0, 0.0..5_000.0, 0.0..5_000.0, proptest::option::of(0_u32..2_000)),
        of_target in any::<bool>(), cpus in 0.01..256.0, taken in 0.0..500.0,
    ) {
        let of = if of_target { Of::Target } else { Of::Core };
        for asked in [asked(percent, duration_s, ramp_s, workers), asked(small.0, small.1, small.2, small.3)] {
            let Ok(fault) = Fault::check(Asked { of, ..asked }, &LIMITS) else { continue };
            prop_assert!(fault.duration_ns() >= 1_000_000_000 && fault.duration_ns() <= 3_600_000_000_000);
            prop_assert!(fault.ramp_ns() <= fault.duration_ns());
            let Ok(shares) = fault.shares(&LIMITS, cpus, 256, taken) else { continue };
            prop_assert!(shares.iter().all(|share| *share > 0.0 && *share <= 100.0));
            prop_assert!(shares.iter().sum::<f64>() <= 256.0 * 95.0 + 1e-6);
        }
    }
}
