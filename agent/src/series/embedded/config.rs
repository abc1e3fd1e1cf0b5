//! What is kept, for how long, and how much of it is in memory.

use serde::{Deserialize, Serialize};

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days that samples are kept, 1 to 3650. What comes later than its day is kept as long from then on: an old file that
    /// is replayed can be looked at.
    pub retention_days: u32,
    /// Bytes of all days' files, beyond which the oldest days go; today's is kept whatever its size. At least 16 MiB.
    pub max_size_bytes: u64,
    /// Series of one day; samples of others are refused, and counted.
    pub max_series: usize,
    /// Series of one day that one source (a node, or a key's name) may bring.
    pub max_series_per_source: usize,
    /// Samples in memory before they go into chunks; 16 bytes each.
    pub max_head_samples: usize,
    /// Memory for a file's pages, bytes.
    pub cache_bytes: usize,
    /// A day's file up to so many bytes is verified whole when it is opened, at some 300 MB a second.
    pub verify_up_to_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // What the reference stack's store was told to keep.
            retention_days: 30,
            // A month of 10,000 samples a second at a byte and a half would be 39 GB: who has that says so.
            max_size_bytes: 20 << 30,
            // 200,000 series are some 70 MB of memory.
            max_series: 200_000,
            // A node of 500 pods has some 10,000.
            max_series_per_source: 20_000,
            max_head_samples: 1_000_000,
            cache_bytes: 8 << 20,
            verify_up_to_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// Everything that cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name}: {value} is outside {min} to {max}"))
            }
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        within("retention_days", self.retention_days.into(), 1, 3_650)?;
        within("max_size_bytes", self.max_size_bytes, 16 << 20, u64::MAX)?;
        within("max_series", size(self.max_series), 1, 10_000_000)?;
        within("max_series_per_source", size(self.max_series_per_source), 1, 10_000_000)?;
        within("max_head_samples", size(self.max_head_samples), 1, 100_000_000)?;
        within("cache_bytes", size(self.cache_bytes), 0, 1 << 30)
    }
}
