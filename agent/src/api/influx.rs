//! InfluxDB's errors, as its clients read them; its successes have no body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Of the second version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failed {
    /// InfluxDB's own word for the kind of the error, such as `invalid`.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// Of the first version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedV1 {
    /// What is wrong.
    pub error: String,
}

impl Failed {
    /// With the word that InfluxDB has for this status.
    #[must_use]
    pub fn new(status: u16, message: String) -> Self {
        let code = match status {
            400 => "invalid",
            401 => "unauthorized",
            403 => "forbidden",
            408 | 503 => "unavailable",
            413 => "request too large",
            415 => "unsupported media type",
            429 => "too many requests",
            _ => "internal error",
        };
        Self { code: code.to_owned(), message }
    }
}
