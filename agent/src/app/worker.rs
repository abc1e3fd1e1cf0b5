//! The hidden verb that an anomaly's worker is started with.

use crate::actions::network;
use crate::actions::worker::{self, Order};
use crate::cli::{NetworkWorkerArgs, WorkerArgs};

/// Runs a worker to its end; false when it could not begin.
pub fn run(args: WorkerArgs) -> bool {
    worker::run(&Order {
        percent: args.percent,
        ramp_ns: args.ramp_ns,
        deadline_ns: args.deadline_ns,
        groups: args.groups,
        #[cfg(debug_assertions)]
        unguarded: args.unguarded,
    })
}

/// The same of a network anomaly.
pub fn run_network(args: &NetworkWorkerArgs) -> bool {
    network::worker::run(&args.order, args.deadline_ns)
}
