//! What a source says of itself: up, degraded or off, and what would help.

/// How well a source works right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Not tried yet.
    #[default]
    Starting,
    /// Everything it can give, it gives.
    Up,
    /// It answers, but lacks something: `lacks` says what and how to get it.
    Degraded,
    /// It gives nothing here (no kernel support, no privilege, switched off).
    Off,
}

impl Condition {
    /// A closed set of words for labels and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Off => "off",
        }
    }
}

/// A source's state, for `/status`, `/readyz?verbose` and `sextant_source_up`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceHealth {
    /// `scheduler`, `pods`, `pod_names/cri` ...
    pub name: &'static str,
    /// How well it works.
    pub condition: Condition,
    /// What is missing and how to get it; one sentence each.
    pub lacks: Vec<String>,
    /// The last error, if the last collection failed.
    pub last_error: Option<String>,
    /// Collections that succeeded.
    pub collections: u64,
    /// Collections that failed.
    pub failures: u64,
    /// Wall time of the last success, ns since the epoch.
    pub last_success_at_ns: Option<i64>,
    /// How long the last collection took, ns.
    pub last_duration_ns: u64,
}
