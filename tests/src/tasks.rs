//! The walk over all processes, twice: by the kernel-side program of the checked-in object, and by /proc.
//!
//! Both give [`TaskRecord`]s, so a test compares them and a benchmark times them.

mod proc;

use std::io::Read;

use agent_ebpf::task::{OFFSETS, PROGRAM, TaskOffsets, TaskRecord};
use anyhow::{Context, Result};
use aya::programs::Iter;
use aya::{Btf, Ebpf, EbpfLoader};
use sextant::kernel::btf;

pub use proc::{Proc, TICK_NS};

/// Largest piece that one read asks for: the kernel's iterator keeps 8 pages, so more comes in several reads anyway.
const READ_BYTES: usize = 32 << 10;

/// The offsets on the running kernel.
///
/// # Errors
/// The kernel has no BTF, or lacks one of the fields.
pub fn offsets() -> Result<TaskOffsets> {
    let fields = Fields::of_this_kernel()?;
    fields.offsets()
}

/// The kernel's own types.
pub struct Fields {
    bytes: Vec<u8>,
}

impl Fields {
    /// Reads `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The kernel has no BTF.
    pub fn of_this_kernel() -> Result<Self> {
        let path = "/sys/kernel/btf/vmlinux";
        Ok(Self { bytes: std::fs::read(path).with_context(|| format!("cannot read {path}"))? })
    }

    /// What the walk needs to know.
    ///
    /// # Errors
    /// The kernel lacks one of the fields.
    pub fn offsets(&self) -> Result<TaskOffsets> {
        let [pid, tgid, real_parent, start_boottime, comm, signal, cgroups, nr_threads, dfl_cgrp, kn, id] =
            self.find([
                ("task_struct", "pid"),
                ("task_struct", "tgid"),
                ("task_struct", "real_parent"),
                ("task_struct", "start_boottime"),
                ("task_struct", "comm"),
                ("task_struct", "signal"),
                ("task_struct", "cgroups"),
                ("signal_struct", "nr_threads"),
                ("css_set", "dfl_cgrp"),
                ("cgroup", "kn"),
                ("kernfs_node", "id"),
            ])?;
        Ok(TaskOffsets {
            pid,
            tgid,
            real_parent,
            start_boottime,
            comm,
            signal,
            nr_threads,
            cgroups,
            dfl_cgrp,
            kn,
            id,
        })
    }

    /// Offsets in bytes of fields that are no bit fields, each `(struct, field)`; the fields of unnamed members count
    /// as the struct's own.
    ///
    /// # Errors
    /// There is no such struct or field.
    pub fn find<const N: usize>(&self, fields: [(&str, &str); N]) -> Result<[u32; N]> {
        // Once for all: slow where the machine is emulated.
        let btf = btf::Btf::parse(&self.bytes)?;
        let mut offsets = [0; N];
        for (offset, (name, field)) in offsets.iter_mut().zip(fields) {
            let structure = btf.find(btf::Kind::Struct, name).with_context(|| format!("no struct {name}"))?;
            let bits = offset_bits(&btf, structure, field, 0)?;
            let bits = bits.with_context(|| format!("struct {name} has no field {field}"))?;
            anyhow::ensure!(bits % 8 == 0, "{name}.{field} is a bit field");
            *offset = bits / 8;
        }
        Ok(offsets)
    }
}

/// As deep as unnamed structs and unions are followed; kernel structs nest them twice.
const NESTING: usize = 8;

fn offset_bits(btf: &btf::Btf<'_>, of: btf::Type<'_>, field: &str, depth: usize) -> Result<Option<u32>> {
    for member in of.members() {
        match btf.member_name(&member)? {
            name if name == field => return Ok(Some(member.offset_bits)),
            "" if depth < NESTING => {
                let inner = offset_bits(btf, btf.resolve(member.ty)?, field, depth + 1)?;
                if let Some(bits) = inner {
                    return Ok(Some(member.offset_bits + bits));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The loaded program.
pub struct Walk {
    ebpf: Ebpf,
    buffer: Vec<u8>,
}

impl Walk {
    /// Loads the checked-in object for these offsets. Needs root, or `CAP_BPF` with `CAP_PERFMON`.
    ///
    /// # Errors
    /// The kernel refuses: no rights, no BTF, or offsets at which it has no such field.
    pub fn load(offsets: &TaskOffsets) -> Result<Self> {
        let kernel = Btf::from_sys_fs()?;
        let words = offsets.words();
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&kernel))
            .override_global(OFFSETS, &words, true)
            .load(agent_ebpf::OBJECT)?;
        program(&mut ebpf)?.load("task", &kernel)?;
        Ok(Self { ebpf, buffer: Vec::new() })
    }

    /// Every process that the caller's pid namespace can see, at this moment.
    ///
    /// # Errors
    /// The kernel refuses the iterator or a read, or gives a torn record.
    pub fn records(&mut self) -> Result<impl ExactSizeIterator<Item = TaskRecord> + '_> {
        let program = program(&mut self.ebpf)?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        let mut len = 0;
        loop {
            self.buffer.resize(len + READ_BYTES, 0);
            match file.read(&mut self.buffer[len..])? {
                0 => break,
                read => len += read,
            }
        }
        let (records, rest) = self.buffer[..len].as_chunks::<{ TaskRecord::BYTES }>();
        anyhow::ensure!(rest.is_empty(), "{} bytes after the last whole record", rest.len());
        Ok(records.iter().map(TaskRecord::from_bytes))
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Iter> {
    Ok(ebpf.program_mut(PROGRAM).context("the object lacks the program")?.try_into()?)
}
