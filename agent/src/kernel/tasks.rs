//! A walk over all processes in one pass, by the kernel itself: the program `tasks` of `agent-ebpf`.
//!
//! Fifty times cheaper than reading `/proc`, and complete: what it says is so at one moment per process.

use std::io::{self, Read};

use agent_ebpf::TASKS;
use agent_ebpf::task::{OFFSETS, PROGRAM, TaskOffsets, TaskRecord};
use aya::{Btf, Ebpf, EbpfLoader};
use thiserror::Error;

use super::programs::{LoadError, walk, walker};
use super::types::{Field, Types, TypesError};

/// Largest piece that one read asks for: the kernel's iterator keeps 8 pages, so more comes in several reads anyway.
const READ_BYTES: usize = 32 << 10;
/// Most that is read in one walk: 400,000 processes, twice what the pods source lists.
const MAX_BYTES: usize = TaskRecord::BYTES * 400_000;

const FIELDS: [Field<'_>; 12] = [
    ("task_struct", "pid"),
    ("task_struct", "tgid"),
    ("task_struct", "group_leader"),
    ("task_struct", "real_parent"),
    ("task_struct", "start_boottime"),
    ("task_struct", "comm"),
    ("task_struct", "signal"),
    ("signal_struct", "nr_threads"),
    ("signal_struct", "live"),
    ("task_struct", "cgroups"),
    ("cgroup", "kn"),
    ("kernfs_node", "id"),
];

/// Size of a pointer on every machine with 64-bit BPF.
const POINTER_BYTES: u32 = 8;

/// What programs need to know of this kernel to read tasks, and their cgroups in the unified hierarchy.
///
/// # Errors
/// The kernel lacks one of the fields.
pub fn offsets(types: &Types) -> Result<TaskOffsets, TypesError> {
    offsets_in(types, None)
}

/// The same with the cgroups of a legacy hierarchy: that of `controller`, by the kernel's name for it.
///
/// # Errors
/// The kernel lacks one of the fields, or has no such controller.
pub fn offsets_in(types: &Types, controller: Option<&str>) -> Result<TaskOffsets, TypesError> {
    let [
        pid,
        tgid,
        group_leader,
        real_parent,
        start_boottime,
        comm,
        signal,
        nr_threads,
        live,
        cgroups,
        kn,
        id,
    ] = types.offsets(FIELDS)?;
    let (css, css_cgroup) = match controller {
        None => (types.offsets([("css_set", "dfl_cgrp")])?[0], TaskOffsets::UNIFIED),
        Some(controller) => {
            let [subsys, cgroup] =
                types.offsets([("css_set", "subsys"), ("cgroup_subsys_state", "cgroup")])?;
            let name = format!("{controller}_cgrp_id");
            let at = types.enumerator("cgroup_subsys_id", &name)?.and_then(|at| u32::try_from(at).ok());
            let absent = TypesError::Absent { structure: "cgroup_subsys_id".to_owned(), field: name };
            (subsys + at.ok_or(absent)? * POINTER_BYTES, cgroup)
        }
    };
    Ok(TaskOffsets {
        pid,
        tgid,
        group_leader,
        real_parent,
        start_boottime,
        comm,
        signal,
        nr_threads,
        live,
        cgroups,
        css,
        css_cgroup,
        kn,
        id,
    })
}

/// Why a walk failed.
#[derive(Debug, Error)]
pub enum WalkError {
    /// The kernel does not make the iterator.
    #[error("no walk over the tasks")]
    Start(#[source] LoadError),
    /// A read of it failed.
    #[error("the walk over the tasks broke off")]
    Read(#[from] io::Error),
    /// Bytes behind the last whole record, or more records than there can be processes.
    #[error("the walk over the tasks gave {0} bytes, which are no whole records")]
    Torn(usize),
}

/// The loaded program.
#[derive(Debug)]
pub struct Walk {
    ebpf: Ebpf,
    buffer: Vec<u8>,
}

impl Walk {
    /// Loads the program for these offsets. Needs root, or `CAP_BPF` with `CAP_PERFMON`.
    ///
    /// # Errors
    /// The kernel refuses: no rights, no BTF, or offsets at which it has no such field.
    pub fn load(offsets: &TaskOffsets) -> Result<Self, LoadError> {
        Self::load_with(offsets, &Btf::from_sys_fs()?)
    }

    /// The same with the kernel's types at hand: reading them costs more than all the rest.
    ///
    /// # Errors
    /// As above.
    pub fn load_with(offsets: &TaskOffsets, kernel: &Btf) -> Result<Self, LoadError> {
        let words = offsets.words();
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader.btf(Some(kernel)).override_global(OFFSETS, &words, true).load(TASKS)?;
        walker(&mut ebpf, PROGRAM)?.load("task", kernel)?;
        Ok(Self { ebpf, buffer: Vec::new() })
    }

    /// Every process that the caller's pid namespace can see, at this moment.
    ///
    /// # Errors
    /// The kernel refuses the iterator or a read, or gives a torn record.
    pub fn records(&mut self) -> Result<impl ExactSizeIterator<Item = TaskRecord> + '_, WalkError> {
        let mut file = walk(&mut self.ebpf, PROGRAM).map_err(WalkError::Start)?;
        let mut len = 0;
        loop {
            if len >= MAX_BYTES {
                return Err(WalkError::Torn(len));
            }
            self.buffer.resize(len + READ_BYTES, 0);
            match file.read(&mut self.buffer[len..])? {
                0 => break,
                read => len += read,
            }
        }
        let (records, rest) = self.buffer[..len].as_chunks::<{ TaskRecord::BYTES }>();
        if !rest.is_empty() {
            return Err(WalkError::Torn(len));
        }
        Ok(records.iter().map(TaskRecord::from_bytes))
    }
}
