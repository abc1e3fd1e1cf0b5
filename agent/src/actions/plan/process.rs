//! Processes: whole targets, and never the node, its own processes or, unless that is what is wanted, the user-space
//! part of its scheduler: the kernel ejects a scheduler whose part in user space stands still, and ends it with that
//! process.

use super::{Error, Facts, Plan, Step, at_once};
use crate::actions::order::{Order, Who, Work};
use crate::actions::worker::{pids, threads};
use crate::domain::action::{Fault, Invalid, Process, Signal, Target, Unit};

/// A killed process is gone: its supervisor starts another one, or nobody does.
const NOTHING: &str = "nothing: what was ended stays so until its supervisor starts it again";
const RESUME: &str =
    "end the worker: the kernel lets go of what a tracer stopped when the tracer ends, however it ends";

pub(super) fn plan(fault: &Fault, process: Process, facts: &Facts<'_>) -> Result<Plan, Error> {
    at_once(fault, "processes are stopped or ended")?;
    let target = &fault.asked().target;
    let who = match target {
        Target::Node => {
            let why =
                "the node itself cannot be paused or killed: name a pod, container, cgroup or pid".to_owned();
            return Err(Invalid { field: "target", why }.into());
        }
        Target::Pid(pid) => who(facts, Some(*pid), Vec::new()),
        _ => who(facts, None, facts.place.own.clone()),
    };
    let there = pids(&who);
    if there.is_empty() {
        return Err(
            Invalid { field: "target", why: format!("{target} has no process that may be touched") }.into()
        );
    }
    if let Some(pid) = facts.scheduler.user_pid.filter(|pid| there.contains(pid))
        && !fault.asked().force
    {
        return Err(Error::Conflict(format!(
            "process {pid} of {target} is the user-space part of the node's scheduler, which the kernel would eject: \
             \"force\": true if that is wanted"
        )));
    }
    let (mut count, proc) = (there.len(), facts.roots.proc.clone());
    let (does, undo, work) = match process {
        Process::Pause => {
            count = there.iter().map(|pid| threads(&proc, *pid).len()).sum();
            ("let stand still", RESUME, Work::Pause(who))
        }
        Process::Kill(signal) => {
            let term = signal == Signal::Term;
            (if term { "ask to end" } else { "kill" }, NOTHING, Work::Kill { who, term })
        }
    };
    // Beside its target, not in it: a group that it stops or ends would be its own.
    let order = Order { groups: Vec::new(), ..facts.order(fault, work) };
    let steps = vec![Step { does: format!("{does} the processes of {target}"), undo, order }];
    #[expect(clippy::cast_precision_loss, reason = "threads of one node")]
    Ok(Plan { steps, unit: Unit::Tasks, amount: count as f64 })
}

fn who(facts: &Facts<'_>, pid: Option<u32>, groups: Vec<std::path::PathBuf>) -> Who {
    Who { proc: facts.roots.proc.clone(), pid, groups, spare: facts.spare.clone() }
}
