//! One life of one scheduler, opened: its sections, their layout, and where it will say why it ended.

use std::sync::Arc;

use super::exit_record::{ExitInfo, ExitRecord};
use super::layout;
use super::maps::{MAP_TYPE_ARRAY, MapReader, OpenMap, ReadError};
use super::sampler::{self, Sampler};
use super::struct_ops::{self, StructOps};
use crate::domain::scheduler::{Layout, Section};
use crate::kernel::btf::{Btf, Kind};

/// Most sections of one scheduler: libbpf makes one per `SEC(".data.x")`; the known ones have 4 to 7.
const MAX_SECTIONS: usize = 64;

/// A scheduler's maps, kept open: they can be read even after it has ended.
pub struct Image {
    /// Id of its struct_ops map.
    pub struct_ops_map_id: u32,
    /// What the sections hold.
    pub layout: Arc<Layout>,
    /// Reads all variables.
    pub sampler: Sampler,
    exit: Option<(usize, ExitRecord)>,
}

impl Image {
    /// Opens every section of the scheduler behind `ops`.
    ///
    /// # Errors
    /// Whatever the reader says; a scheduler that vanishes meanwhile is [`ReadError::Gone`] or has no sections.
    pub(super) fn open(
        reader: &mut dyn MapReader,
        ops: &StructOps,
        large_ns: u64,
    ) -> Result<Self, ReadError> {
        let mut maps: Vec<Box<dyn OpenMap>> = Vec::new();
        for id in struct_ops::maps(reader, ops)? {
            let info = reader.map_info(id)?;
            let may_be_section = info.map_type == MAP_TYPE_ARRAY && info.max_entries == 1 && info.btf_id != 0;
            if may_be_section && maps.len() < MAX_SECTIONS {
                maps.push(reader.open(id)?);
            }
        }
        Self::of_maps(reader, ops.info.id, maps, large_ns)
    }

    /// Decodes opened maps; those whose value is not a section are left out.
    ///
    /// # Errors
    /// Whatever the reader says, and BTF that contradicts itself.
    pub fn of_maps(
        reader: &mut dyn MapReader,
        struct_ops_map_id: u32,
        maps: Vec<Box<dyn OpenMap>>,
        large_ns: u64,
    ) -> Result<Self, ReadError> {
        let mut blobs: Vec<(u32, Vec<u8>)> = Vec::new();
        for map in &maps {
            let id = map.info().btf_id;
            if !blobs.iter().any(|(known, _)| *known == id) {
                blobs.push((id, reader.btf(id)?));
            }
        }
        let mut parsed = Vec::new();
        for (id, blob) in &blobs {
            parsed.push((*id, Btf::parse(blob).map_err(|source| bad_btf(*id, source))?));
        }
        let mut sections = Vec::new();
        for map in maps {
            let info = map.info();
            let Some((_, btf)) = parsed.iter().find(|(id, _)| *id == info.btf_id) else { continue };
            let datasec = btf.ty(info.btf_value_type_id).map_err(|source| bad_btf(info.btf_id, source))?;
            if datasec.kind == Kind::Datasec {
                let name = btf.name(&datasec).map_err(|source| bad_btf(info.btf_id, source))?;
                sections.push((rank(name), name, btf, datasec, map));
            }
        }
        sections.sort_by_key(|(rank, name, ..)| (*rank, *name));

        let mut layout = Layout::default();
        let mut plans = Vec::new();
        let mut exit = None;
        for (at, (_, name, btf, datasec, map)) in sections.into_iter().enumerate() {
            let info = map.info();
            let (map_id, size, btf_id) = (info.id, info.value_size, info.btf_id);
            let (mapped, frozen) = (map.mapped().is_some(), info.frozen);
            let section = Section { name: name.into(), map_id, size, mapped, frozen };
            let first = layout.variables.len();
            layout::append(&mut layout, btf, &datasec, &section).map_err(|source| bad_btf(btf_id, source))?;
            let found = ExitRecord::find(btf, &datasec, size).map_err(|source| bad_btf(btf_id, source))?;
            if let Some(found) = found
                && (exit.is_none() || found.name == "uei")
            {
                exit = Some((at, found));
            }
            plans.push(sampler::Section::new(map, layout::words(&layout.variables[first..]))?);
        }
        let sampler = Sampler::new(plans, large_ns);
        Ok(Self { struct_ops_map_id, layout: Arc::new(layout), sampler, exit })
    }

    /// Why the scheduler ended: `Ok(None)` while its exit callback has written nothing.
    ///
    /// # Errors
    /// A sentence for a person: there is no such record, or it cannot be read.
    pub(super) fn exit_info(&self) -> Result<Option<ExitInfo>, String> {
        let Some((section, record)) = &self.exit else {
            return Err("no variable with kind, exit_code, reason and msg in any section".to_owned());
        };
        let (offset, len) = record.range();
        let bytes = self.sampler.copy(*section, offset, len);
        bytes.map(|bytes| record.decode(&bytes)).map_err(|error| error.to_string())
    }

    /// The exit record's name and section, for a person.
    pub(super) fn exit_place(&self) -> String {
        let place =
            self.exit.as_ref().and_then(|(at, record)| Some((record, self.layout.sections.get(*at)?)));
        place.map_or_else(String::new, |(record, section)| format!("{} in {}", record.name, section.name))
    }
}

/// Sections in the order people look for them.
fn rank(name: &str) -> u8 {
    match name {
        ".bss" => 0,
        ".data" => 1,
        ".rodata" => 2,
        _ => 3,
    }
}

fn bad_btf(id: u32, source: crate::kernel::btf::BtfError) -> ReadError {
    ReadError::Btf { what: format!("BTF {id}"), source }
}
