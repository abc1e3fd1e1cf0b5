//! What the program must be told of this kernel and this machine: offsets, the hierarchy of cgroups, the CPUs' places.

use std::path::Path;

use agent_ebpf::runqlat::{CPUS, CpuPlace, Settings};

use super::hierarchy::Hierarchy;
use crate::kernel::types::{Field, Types, TypesError};

const FIELDS: [Field<'_>; 12] = [
    ("task_struct", "pid"),
    ("task_struct", "cgroups"),
    ("task_struct", "sched_info.pcount"),
    ("task_struct", "sched_info.run_delay"),
    ("task_struct", "sched_info.last_arrival"),
    ("task_struct", "sched_info.last_queued"),
    ("task_struct", "se.sum_exec_runtime"),
    ("task_struct", "se.cfs_rq"),
    ("cfs_rq", "rq"),
    ("rq", "clock"),
    ("cgroup", "kn"),
    ("kernfs_node", "id"),
];

/// Size of a pointer on every machine with 64-bit BPF.
const POINTER_BYTES: u32 = 8;

/// The settings on a kernel with these types.
///
/// # Errors
/// The kernel keeps no such statistics, or has no such hierarchy.
pub(super) fn of_kernel(
    types: &Types,
    hierarchy: &Hierarchy,
    blame_from_ns: u32,
) -> Result<Settings, TypesError> {
    let [
        pid,
        cgroups,
        pcount,
        run_delay,
        last_arrival,
        last_queued,
        sum_exec_runtime,
        cfs_rq,
        rq,
        clock,
        kn,
        id,
    ] = types.offsets(FIELDS)?;
    // Renamed in 5.14.
    let [state] = match types.offsets([("task_struct", "__state")]) {
        Err(TypesError::Absent { .. }) => types.offsets([("task_struct", "state")])?,
        found => found?,
    };
    let (css, css_cgroup) = match hierarchy.controller() {
        None => (types.offsets([("css_set", "dfl_cgrp")])?[0], Settings::UNIFIED),
        Some(controller) => {
            let [subsys, cgroup] =
                types.offsets([("css_set", "subsys"), ("cgroup_subsys_state", "cgroup")])?;
            let name = format!("{controller}_cgrp_id");
            let at = types.enumerator("cgroup_subsys_id", &name)?.and_then(|at| u32::try_from(at).ok());
            let absent = TypesError::Absent { structure: "cgroup_subsys_id".to_owned(), field: name };
            (subsys + at.ok_or(absent)? * POINTER_BYTES, cgroup)
        }
    };
    Ok(Settings {
        pid,
        cgroups,
        pcount,
        run_delay,
        last_arrival,
        last_queued,
        sum_exec_runtime,
        cfs_rq,
        rq,
        clock,
        css,
        css_cgroup,
        kn,
        id,
        blame_from_ns,
        state,
    })
}

/// The places of this machine's CPUs as the words of [`CpuPlace`]; zeros, which is one core, where sysfs does not say.
pub(super) fn cpu_places(sys: &Path) -> Box<[u64; CPUS]> {
    let mut words = Box::new([0; CPUS]);
    for (cpu, word) in words.iter_mut().enumerate() {
        let dir = sys.join(format!("devices/system/cpu/cpu{cpu}"));
        // Numbers may have holes.
        if dir.exists() {
            *word = word_of(place_of(&dir));
        }
    }
    words
}

/// Things are numbered after the first CPU that they have.
fn place_of(cpu: &Path) -> CpuPlace {
    let list = |file: &str| first_of_list(&cpu.join(file));
    let core = list("topology/core_cpus_list").or_else(|| list("topology/thread_siblings_list"));
    // The highest cache is the last; no machine has more than four.
    let llc = (0..8).rev().find_map(|index| list(&format!("cache/index{index}/shared_cpu_list")));
    let llc = llc.or_else(|| list("topology/package_cpus_list"));
    CpuPlace { core: core.unwrap_or(0), llc: llc.unwrap_or(0), node: node_of(cpu), reserved: 0 }
}

fn word_of(place: CpuPlace) -> u64 {
    let [a, b] = place.core.to_ne_bytes();
    let [c, d] = place.llc.to_ne_bytes();
    let [e, f] = place.node.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// `0-3,8` is 0.
fn first_of_list(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The directory of a CPU has a link `nodeN`.
fn node_of(cpu: &Path) -> u16 {
    let entries = std::fs::read_dir(cpu).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("node")?.parse().ok();
    entries.filter_map(|entry| number(entry.file_name().to_str()?)).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_placed_by_what_they_share() {
        let sys = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = sys.path().join("devices/system/cpu").join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        };
        for (cpu, core, llc, node) in [(0, "0,2", "0-2", 0), (2, "0,2", "0-2", 0), (5, "5", "5-9", 1)] {
            write(&format!("cpu{cpu}/topology/core_cpus_list"), core);
            write(&format!("cpu{cpu}/cache/index0/shared_cpu_list"), &cpu.to_string());
            write(&format!("cpu{cpu}/cache/index3/shared_cpu_list"), llc);
            write(&format!("cpu{cpu}/node{node}/x"), "");
        }
        let words = cpu_places(sys.path());
        let place = |core, llc, node| word_of(CpuPlace { core, llc, node, reserved: 0 });
        assert_eq!((words[0], words[2], words[5]), (place(0, 0, 0), place(0, 0, 0), place(5, 5, 1)));
        assert_eq!(words[1], 0, "there is none");
    }
}
