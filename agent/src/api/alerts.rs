//! `GET /api/v1/alerts`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Alerts that are pending or fire, and those that were resolved within an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// How many.
    pub count: usize,
    /// When all rules were evaluated last, RFC 3339; null before the first time.
    pub evaluated_at: Option<String>,
    /// Rules that could not be evaluated then, and why.
    pub failing: BTreeMap<String, String>,
    /// By rule, then labels.
    pub alerts: Vec<Alert>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its rule.
    pub name: String,
    /// `pending`, `firing` or `resolved`.
    pub state: String,
    /// Such as `critical`.
    pub severity: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// For a person.
    pub summary: String,
    /// The value at the last evaluation; null where something is absent.
    pub value: Option<f64>,
    /// Since when its condition holds, RFC 3339.
    pub active_at: String,
    /// When it fired.
    pub fired_at: Option<String>,
    /// When it was resolved.
    pub resolved_at: Option<String>,
}
