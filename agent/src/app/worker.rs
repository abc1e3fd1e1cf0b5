//! The hidden verbs that workers of anomalies and workloads are started with.

use crate::actions::worker;
use crate::cli::{WorkerArgs, WorkloadWorkerArgs};
use crate::workloads;

/// Runs a worker to its end; false when it could not begin.
pub fn run(args: &WorkerArgs) -> bool {
    worker::run(&args.order)
}

/// Runs a workload's worker to its end.
///
/// # Errors
/// Why it could not begin.
pub fn run_workload(args: &WorkloadWorkerArgs) -> Result<(), String> {
    #[cfg(debug_assertions)]
    let guarded = !args.unguarded;
    #[cfg(not(debug_assertions))]
    let guarded = true;
    if args.leaf { Ok(()) } else { workloads::worker::run(args.parent, guarded) }
}
