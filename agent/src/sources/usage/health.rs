//! What the usage source says of itself, with what would help.

use super::Tally;
use super::files::PARTS;
use super::group::WHYS;
use super::hierarchy::HierarchyError;
use crate::domain::source::{Condition, SourceHealth};

/// After a collection.
pub(super) fn succeeded(health: &mut SourceHealth, at_ns: i64, tally: &Tally) {
    health.collections += 1;
    health.last_success_at_ns = Some(at_ns);
    health.last_error = None;
    health.lacks.clear();
    for (part, counts) in PARTS.into_iter().zip(tally.lacks.0) {
        for (why, count) in WHYS.into_iter().zip(counts).filter(|&(_, count)| count > 0) {
            health.lacks.push(format!("{part} of {count} of {} cgroups: {}", tally.groups, help(part, why)));
        }
    }
    if tally.left_out > 0 {
        let left_out = tally.left_out;
        health.lacks.push(format!("{left_out} cgroups beyond the limit: raise [usage] max_groups"));
    }
    health.condition = if health.lacks.is_empty() { Condition::Up } else { Condition::Degraded };
}

/// After a collection that could not begin.
pub(super) fn failed(health: &mut SourceHealth, error: &HierarchyError) {
    health.failures += 1;
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    health.last_error = Some(format!("{error}{source}"));
    health.lacks = vec!["no cgroup tree, so no usage: mount the host's at the cgroup root".to_owned()];
    health.condition = Condition::Off;
}

fn help(part: &str, why: &str) -> &'static str {
    match (part, why) {
        ("pressure", "cgroup_v1") => "cgroup v1 has none, boot with cgroup v2",
        (_, "cgroup_v1") => "cgroup v1 counts only max and oom_kill, boot with cgroup v2",
        (_, "unpopulated") => "the processes are in cgroup v1 only, boot with cgroup v2",
        ("pressure", "no_file") => "the kernel has it switched off, boot with psi=1",
        ("swap", "no_file") => "the kernel does not account it",
        (_, "no_file") => "the controller is not enabled for them",
        (_, "permission") => "run it as root",
        (_, "open_files") => "raise its limit of open files",
        (_, "malformed") => "a file is not what this kernel should write",
        _ => "the kernel answered with an error",
    }
}
