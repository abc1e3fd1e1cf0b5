//! Which maps belong to the running scheduler.
//!
//! A sched_ext scheduler is one map of kind struct_ops whose value the kernel keeps as `struct
//! bpf_struct_ops_sched_ext_ops`: its `data.name` is what sysfs shows as `root/ops`, and each callback slot
//! holds the id of the program behind it. Those programs' maps are the scheduler's maps. Names of maps prove
//! nothing: every Rust scheduler's `.bss` is called `bpf_bpf.bss`, and it may outlive its scheduler.

use std::collections::BTreeSet;

use super::maps::{MAP_TYPE_STRUCT_OPS, MapInfo, MapReader, ReadError};
use crate::kernel::btf::{Btf, BtfError, Kind, Type};

/// Most callback slots: sched_ext_ops has about 40.
const MAX_SLOTS: usize = 256;

/// Where a struct_ops value keeps its name and callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The value's type in the kernel's BTF.
    value_type_id: u32,
    /// Offset and length of the name, bytes.
    name: (usize, usize),
    /// Offsets of the callbacks, bytes.
    slots: Vec<usize>,
    /// Offset of `timeout_ms`, bytes.
    timeout_ms: Option<usize>,
    /// `SCX_WATCHDOG_MAX_TIMEOUT`, ticks: the timeout of a scheduler that sets none.
    max_timeout_ticks: Option<u64>,
}

impl Shape {
    /// The shape of `struct bpf_struct_ops_<ops>` in the kernel's BTF; `None` if this kernel has none.
    ///
    /// # Errors
    /// BTF that contradicts itself.
    pub(super) fn find(btf: &Btf<'_>, ops: &str) -> Result<Option<Self>, BtfError> {
        let Some(value) = btf.find(Kind::Struct, &format!("bpf_struct_ops_{ops}")) else { return Ok(None) };
        let Some((data, at)) = member(btf, &value, "data")? else { return Ok(None) };
        let mut slots = Vec::new();
        let (mut name, mut timeout_ms) = (None, None);
        for member in data.members() {
            let offset = at + member.offset_bits as usize / 8;
            let ty = btf.resolve(member.ty)?;
            match ty.kind {
                Kind::Ptr if btf.resolve(ty.size_or_type)?.kind == Kind::FuncProto => slots.push(offset),
                Kind::Array if btf.member_name(&member)? == "name" => {
                    name = ty.array().map(|(_, len)| (offset, len as usize));
                }
                Kind::Int if btf.member_name(&member)? == "timeout_ms" => timeout_ms = Some(offset),
                _ => {}
            }
        }
        slots.truncate(MAX_SLOTS);
        let max_timeout_ticks = max_timeout_ticks(btf);
        Ok(name.map(|name| Self { value_type_id: value.id, name, slots, timeout_ms, max_timeout_ticks }))
    }

    /// How long the scheduler of a struct_ops value may leave a task waiting, ns.
    fn timeout_ns(&self, value: &[u8]) -> Option<u64> {
        let at = self.timeout_ms?;
        let bytes = value.get(at..at.checked_add(4)?)?.try_into().ok()?;
        match u32::from_le_bytes(bytes) {
            0 => self.max_timeout_ticks?.checked_mul(tick_ns()),
            timeout_ms => Some(u64::from(timeout_ms) * 1_000_000),
        }
    }

    /// The name in a struct_ops value.
    fn name<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let bytes = value.get(self.name.0..)?;
        bytes.get(..self.name.1)?.split(|&byte| byte == 0).next()
    }

    /// Ids of the programs in a struct_ops value.
    fn programs(&self, value: &[u8]) -> BTreeSet<u32> {
        let slot = |&at: &usize| value.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes);
        let ids = self.slots.iter().filter_map(slot).filter_map(|id| u32::try_from(id).ok());
        ids.filter(|&id| id != 0).collect()
    }
}

fn member<'a>(btf: &Btf<'a>, ty: &Type<'a>, name: &str) -> Result<Option<(Type<'a>, usize)>, BtfError> {
    for member in ty.members() {
        if btf.member_name(&member)? == name {
            return Ok(Some((btf.resolve(member.ty)?, member.offset_bits as usize / 8)));
        }
    }
    Ok(None)
}

fn max_timeout_ticks(btf: &Btf<'_>) -> Option<u64> {
    let consts = btf.find(Kind::Enum, "scx_consts").or_else(|| btf.find(Kind::Enum64, "scx_consts"))?;
    let mut named = btf.enumerators(&consts).filter(|(_, name)| *name == "SCX_WATCHDOG_MAX_TIMEOUT");
    u64::try_from(named.next()?.0).ok()
}

/// Length of the kernel's tick, ns, rounded as the kernel does: what its coarse clocks are good to.
pub(super) fn tick_ns() -> u64 {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    u64::try_from(tick.tv_nsec).unwrap_or(0)
}

/// The shape of `struct bpf_struct_ops_<ops>` in the running kernel.
///
/// # Errors
/// Whatever the reader says; a kernel without that struct has no such callbacks.
pub(super) fn kernel_shape(reader: &mut dyn MapReader, ops: &str) -> Result<Shape, ReadError> {
    let what = || "the kernel".to_owned();
    let blob = reader.kernel_btf()?;
    let btf = Btf::parse(&blob).map_err(|source| ReadError::Btf { what: what(), source })?;
    let shape = Shape::find(&btf, ops).map_err(|source| ReadError::Btf { what: what(), source })?;
    shape.ok_or_else(|| ReadError::NoStructOps { ops: ops.to_owned() })
}

/// A loaded scheduler's struct_ops map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StructOps {
    /// The map.
    pub(super) info: MapInfo,
    /// Ids of the programs behind its callbacks.
    pub(super) programs: BTreeSet<u32>,
    /// How long it may leave a task waiting before the kernel ejects it, ns; `None` where this kernel does not say.
    pub(super) timeout_ns: Option<u64>,
}

/// The struct_ops map of the scheduler that sysfs calls `ops`.
///
/// With several of that name (a second start that was refused, a stopped process that still holds an ejected
/// scheduler) it is the newest that is attached, or else the newest.
///
/// # Errors
/// [`ReadError::NoStructOps`] if there is none; whatever the reader says.
pub(super) fn find(reader: &mut dyn MapReader, shape: &Shape, ops: &str) -> Result<StructOps, ReadError> {
    let mut found = Vec::new();
    for id in reader.map_ids()? {
        let info = match reader.map_info(id) {
            Ok(info) => info,
            Err(ReadError::Gone { .. }) => continue,
            Err(error) => return Err(error),
        };
        if info.map_type != MAP_TYPE_STRUCT_OPS || info.btf_vmlinux_value_type_id != shape.value_type_id {
            continue;
        }
        let Ok(map) = reader.open(id) else { continue };
        let mut value = vec![0; map.info().value_size as usize];
        map.lookup(&mut value)?;
        if shape.name(&value) == Some(ops.as_bytes()) {
            let (programs, timeout_ns) = (shape.programs(&value), shape.timeout_ns(&value));
            found.push(StructOps { info, programs, timeout_ns });
        }
    }
    if found.len() > 1 {
        // Without this right the newest will do.
        let attached = reader.linked_struct_ops().unwrap_or_default();
        found.sort_by_key(|map| (attached.contains(&map.info.id), map.info.id));
    }
    found.pop().ok_or_else(|| ReadError::NoStructOps { ops: ops.to_owned() })
}

/// Ids of the maps this scheduler's programs use, and of those loaded from the same object file.
///
/// A section that no callback touches is found by the second rule: maps and programs of one load share one
/// BTF object, and each load makes its own.
///
/// # Errors
/// Whatever the reader says, except for what vanished meanwhile.
pub(super) fn maps(reader: &mut dyn MapReader, ops: &StructOps) -> Result<BTreeSet<u32>, ReadError> {
    let mut maps = BTreeSet::new();
    for &program in &ops.programs {
        match reader.program_map_ids(program) {
            Ok(ids) => maps.extend(ids),
            Err(ReadError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if ops.info.btf_id != 0 {
        for id in reader.map_ids()? {
            if reader.map_info(id).is_ok_and(|info| info.btf_id == ops.info.btf_id) {
                maps.insert(id);
            }
        }
    }
    Ok(maps)
}

#[cfg(test)]
mod tests;
