//! The hidden verb that an anomaly's worker is started with.

use crate::actions::{Order, worker};
use crate::cli::WorkerArgs;

/// Runs a worker to its end; false when it could not begin.
pub fn run(args: &WorkerArgs) -> bool {
    // Who calls it by hand sees its exit status.
    serde_json::from_str::<Order>(&args.order).is_ok_and(worker::run)
}
