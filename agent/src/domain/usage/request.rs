//! The CPU that a container asked for, from the weight that the kubelet gave its cgroup.
//!
//! The kubelet writes `cpu.shares` = 1024 per CPU, at least 2 (its `MilliCPUToShares`); container runtimes turn shares into
//! v2's `cpu.weight`. They did so linearly at first (Kubernetes enhancement proposal 2254: weight = 1 + (shares - 2) * 9999
//! / 262142), and by powers of ten since runc 1.3.2 and crun 1.23 (weight = 10^((l² + 125 l) / 612 - 7/34) with l =
//! log2(shares), rounded up). One weight has two meanings then: 39 is a CPU to the first and a quarter of one to the
//! second. The kubelet's own group of all pods tells which: it asks for the node's allocatable CPUs, which are most of
//! them and never more than there are.

use super::CpuShare;

/// How this node's runtime turns shares into a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// In proportion.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// What the kubelet asks for when a container asks for nothing.
const MIN_SHARES: f64 = 2.0;

/// Shares of one CPU.
const SHARES_PER_CPU: f64 = 1024.0;

/// The least part of a node's CPUs that is left to pods; reservations are a few percent on real nodes.
const LEAST_ALLOCATABLE: f64 = 0.75;

/// A weight is rounded; so many CPUs more than there are is still a rounding.
const ROUNDING: f64 = 1.03;

impl Conversion {
    /// From the weight of the group of all pods and the node's CPUs; `None` where both conversions could be meant, or
    /// neither.
    pub fn of_node(pods_weight: u64, cpus: u32) -> Option<Self> {
        let fits = |conversion: Self| {
            let allocatable = conversion.shares(pods_weight) / SHARES_PER_CPU / f64::from(cpus);
            (LEAST_ALLOCATABLE..=ROUNDING).contains(&allocatable)
        };
        match (fits(Self::Linear), fits(Self::Logarithmic)) {
            (true, false) => Some(Self::Linear),
            (false, true) => Some(Self::Logarithmic),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a weight has five digits")]
    fn shares(self, weight: u64) -> f64 {
        let weight = weight.max(1) as f64;
        match self {
            Self::Linear => 2.0 + (weight - 1.0) * 262_142.0 / 9_999.0,
            // The positive root of l² + 125 l - 612 (log10(weight) + 7/34) = 0.
            Self::Logarithmic => {
                let right = 612.0 * (weight.log10() + 7.0 / 34.0);
                let l = ((125.0_f64.mul_add(125.0, 4.0 * right)).sqrt() - 125.0) / 2.0;
                l.exp2()
            }
        }
    }
}

/// CPUs that were asked for, to the rounding of a weight; 0 where nothing was; `None` where a weight's meaning is not
/// known.
pub fn cores(share: CpuShare, conversion: Option<Conversion>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "shares have six digits")]
    let shares = match share {
        CpuShare::Shares(shares) => shares as f64,
        // Both conversions agree about the least one.
        CpuShare::Weight(0 | 1) => MIN_SHARES,
        CpuShare::Weight(weight) => conversion?.shares(weight),
    };
    Some(if shares <= MIN_SHARES { 0.0 } else { shares / SHARES_PER_CPU })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forward, as the runtimes compute it.
    fn linear(shares: u64) -> u64 {
        1 + (shares - 2) * 9_999 / 262_142
    }

    fn logarithmic(shares: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shares have six digits, weights five"
        )]
        let weight = {
            let l = (shares as f64).log2();
            10.0_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        };
        weight
    }

    #[test]
    fn requests_come_back_through_either_conversion() {
        for milli in [10_u64, 100, 250, 1_000, 4_000, 64_000] {
            let shares = milli * 1_024 / 1_000;
            let asked = f64::from(u32::try_from(milli).unwrap()) / 1_000.0;
            let near = |cores: Option<f64>, slack: f64| (cores.unwrap() - asked).abs() <= slack;
            assert!(near(cores(CpuShare::Shares(shares), None), 0.001), "{milli}");
            let weight = CpuShare::Weight(linear(shares));
            assert!(near(cores(weight, Some(Conversion::Linear)), 0.027), "{milli}: a step is 26 milli");
            let weight = CpuShare::Weight(logarithmic(shares));
            assert!(
                near(cores(weight, Some(Conversion::Logarithmic)), asked * 0.1 + 0.003),
                "{milli}: {weight:?}"
            );
        }
        assert_eq!((linear(1_024), logarithmic(1_024)), (39, 100), "the documents' own example");
        assert_eq!(cores(CpuShare::Weight(1), None), Some(0.0), "best effort");
        assert_eq!(cores(CpuShare::Shares(2), None), Some(0.0));
        assert_eq!(cores(CpuShare::Weight(39), None), None, "never guessed");
    }

    #[test]
    fn the_group_of_all_pods_tells_the_conversion() {
        for cpus in [1_u32, 2, 4, 8, 16, 64] {
            for percent in [92_u64, 96, 100] {
                let shares = u64::from(cpus) * 1_024 * percent / 100;
                let told = Conversion::of_node(linear(shares), cpus);
                assert!(told.is_none_or(|told| told == Conversion::Linear), "{cpus} CPUs, {percent} %");
                let told = Conversion::of_node(logarithmic(shares), cpus);
                assert!(told.is_none_or(|told| told == Conversion::Logarithmic), "{cpus} CPUs, {percent} %");
            }
        }
        assert_eq!(Conversion::of_node(linear(2_000), 2), Some(Conversion::Linear));
        assert_eq!(Conversion::of_node(logarithmic(2_000), 2), Some(Conversion::Logarithmic));
        assert_eq!(Conversion::of_node(100, 128), None, "no kubelet wrote that");
        assert_eq!(Conversion::of_node(0, 0), None);
    }
}
