//! The BSS API's envelope: `success` first, then a message or an error.
//!
//! Format: the reference document's examples; timestamps are RFC 3339 UTC with whole seconds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339_seconds;

/// `{"success":false,"error":"..."}`: every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Always false.
    pub success: bool,
    /// What went wrong, naming the field or the part.
    pub error: String,
}

impl Failure {
    /// With this text.
    pub const fn new(error: String) -> Self {
        Self { success: false, error }
    }
}

/// `{"success":...,"message":"...","timestamp":"..."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The request was understood and answered.
    pub success: bool,
    /// A sentence.
    pub message: String,
    /// Wall time of the answer.
    pub timestamp: String,
}

impl Message {
    /// With this text at this wall time (ns since the epoch).
    pub fn new(success: bool, message: &str, at_ns: i64) -> Self {
        Self { success, message: message.to_owned(), timestamp: rfc3339_seconds(at_ns) }
    }
}

/// An envelope around more keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enveloped<T> {
    /// The common keys.
    #[serde(flatten)]
    pub head: Message,
    /// The keys of this answer.
    #[serde(flatten)]
    pub body: T,
}
