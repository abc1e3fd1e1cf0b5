//! `GET /health`, in the reference's shape, and `GET /`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What clients of the reference compare the `service` and `message` keys with.
pub const SERVICE: &str = "BSS Metrics API Server";

/// The version of the BSS API that this answers as; Sextant's own version is another key.
pub const API_VERSION: &str = "1.0.0";

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `healthy`: the process answers. What it can do is `/readyz`.
    pub status: String,
    /// Wall time of the answer.
    pub timestamp: String,
    /// [`SERVICE`].
    pub service: String,
}

/// `GET /`: the reference's three keys first, then ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// [`SERVICE`].
    pub message: String,
    /// [`API_VERSION`].
    pub version: String,
    /// Every endpoint in one line of text, as the reference has it.
    pub endpoints: String,
    /// `sextant`.
    pub service: String,
    /// Version of this binary.
    pub sextant_version: String,
    /// `node` or `receiver`.
    pub role: String,
    /// The node's (or the receiver's host's) name.
    pub node: String,
    /// Every endpoint.
    pub routes: Vec<Route>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// What it is for.
    pub summary: String,
}
