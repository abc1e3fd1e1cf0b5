//! GPU telemetry as the reference's file has it: 247 GPUs on 31 hosts, ten metrics of each, once a second. Values walk as
//! such values do: clocks stand, percents jump in whole steps, watts have three digits behind the point.

use sextant::domain::series::{Labels, Sample, SeriesSamples};

/// GPUs of the reference's file.
pub const GPUS: usize = 247;

/// GPUs of one host.
const PER_HOST: usize = 8;

const METRICS: [&str; 10] = [
    "DEC_UTIL",
    "ENC_UTIL",
    "FB_FREE",
    "FB_USED",
    "GPU_TEMP",
    "GPU_UTIL",
    "MEM_CLOCK",
    "MEM_COPY_UTIL",
    "POWER_USAGE",
    "SM_CLOCK",
];

/// A fleet, one second after another.
pub struct Load {
    series: Vec<Labels>,
    state: Vec<f64>,
    random: u64,
}

impl Load {
    /// So many GPUs.
    ///
    /// # Panics
    /// Never: the labels are right.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "labels written here")]
    pub fn new(gpus: usize) -> Self {
        let one = |gpu: usize, metric: &str| {
            let labels = [
                ("UUID", format!("GPU-{gpu:08x}-1111-2222-3333-444455556666")),
                ("gpu", (gpu % PER_HOST).to_string()),
                ("device", format!("nvidia{}", gpu % PER_HOST)),
                ("modelName", "NVIDIA H100 80GB HBM3".to_owned()),
                ("Hostname", format!("node-{:03}", gpu / PER_HOST)),
            ];
            Labels::new(&format!("DCGM_FI_DEV_{metric}"), labels).unwrap()
        };
        let series: Vec<_> =
            (0..gpus).flat_map(|gpu| METRICS.iter().map(move |metric| one(gpu, metric))).collect();
        let state = (0..series.len())
            .map(|at| [0.0, 0.0, 20_000.0, 61_000.0, 55.0, 90.0, 2_619.0, 40.0, 480.0, 1_980.0][at % 10]);
        Self { state: state.collect(), series, random: 1 }
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The samples of so many seconds, from a time on.
    pub fn seconds(&mut self, from_ms: i64, seconds: i64) -> Vec<SeriesSamples> {
        (0..self.series.len())
            .map(|at| {
                let samples = (0..seconds)
                    .map(|second| Sample { at_ms: from_ms + second * 1_000, value: self.next(at) });
                let samples = samples.collect();
                SeriesSamples { labels: self.series[at].clone(), samples }
            })
            .collect()
    }

    /// xorshift: the same walk every time.
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn next(&mut self, at: usize) -> f64 {
        let now = self.state[at];
        let step = self.below(2_000) as f64 / 1_000.0 - 1.0;
        let rare = self.below(30) == 0;
        let next = match at % 10 {
            // Decoder, encoder: idle, but for a moment now and then.
            0 | 1 => {
                if self.below(500) == 0 {
                    self.below(20) as f64
                } else {
                    0.0
                }
            }
            // Memory: moves when something is allocated.
            2 | 3 => {
                if rare {
                    (now + step * 500.0).round().clamp(0.0, 81_000.0)
                } else {
                    now
                }
            }
            4 => {
                if self.below(5) == 0 {
                    (now + step * 2.0).round().clamp(25.0, 90.0)
                } else {
                    now
                }
            }
            5 | 7 => {
                if self.below(3) == 0 {
                    (now + step * 15.0).round().clamp(0.0, 100.0)
                } else {
                    now
                }
            }
            8 => ((now + step * 8.0).clamp(70.0, 700.0) * 1_000.0).round() / 1_000.0,
            9 => {
                if rare {
                    (now / 15.0 + step * 4.0).round().clamp(23.0, 132.0) * 15.0
                } else {
                    now
                }
            }
            _ => now,
        };
        self.state[at] = next;
        next
    }
}
