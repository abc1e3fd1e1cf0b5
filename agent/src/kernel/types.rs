//! Where the running kernel keeps the fields that our eBPF programs read, from its own BTF.
//!
//! A field is named as C would reach it from its struct: `("task_struct", "sched_info.run_delay")`. Members of unnamed
//! structs and unions count as the struct's own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::btf::{self, Btf, BtfError, Kind, Type};

/// As deep as unnamed structs and unions are followed; kernel structs nest them twice.
const NESTING: usize = 8;

/// Why a place is not known.
#[derive(Debug, Error)]
pub enum TypesError {
    /// No BTF: `CONFIG_DEBUG_INFO_BTF` is off, or the file is hidden.
    #[error("this kernel shows no types of its own at {}", path.display())]
    Unreadable {
        /// Where they were looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// BTF that cannot be understood.
    #[error("this kernel's types cannot be understood")]
    Malformed(#[from] BtfError),
    /// No such struct or field.
    #[error("this kernel has no {structure}.{field}")]
    Absent {
        /// The struct.
        structure: String,
        /// The path of members.
        field: String,
    },
    /// A bit field has no address.
    #[error("{structure}.{field} is a bit field")]
    BitField {
        /// The struct.
        structure: String,
        /// The path of members.
        field: String,
    },
}

/// The kernel's types, as bytes: parsed anew at each question, since five megabytes are not worth keeping parsed.
#[derive(Debug)]
pub struct Types {
    bytes: Vec<u8>,
}

/// A struct and a path of members.
pub type Field<'a> = (&'a str, &'a str);

impl Types {
    /// Reads `kernel/btf/vmlinux` below the root of sysfs.
    ///
    /// # Errors
    /// [`TypesError::Unreadable`].
    pub fn read(sys: &Path) -> Result<Self, TypesError> {
        let path = sys.join("kernel/btf/vmlinux");
        let read = || {
            let mut bytes = Vec::new();
            // One more than the limit, so that parsing sees that it is too large.
            File::open(&path)?.take(btf::MAX_SIZE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Self { bytes }),
            Err(source) => Err(TypesError::Unreadable { path, source }),
        }
    }

    /// Types from elsewhere.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Offsets in bytes, one per field.
    ///
    /// # Errors
    /// Malformed types, or a field that this kernel lacks.
    pub fn offsets<const N: usize>(&self, fields: [Field<'_>; N]) -> Result<[u32; N], TypesError> {
        let btf = Btf::parse(&self.bytes)?;
        let structs = structs(&btf, fields.iter().map(|(structure, _)| *structure));
        let mut offsets = [0; N];
        for (offset, (structure, field)) in offsets.iter_mut().zip(fields) {
            let absent = || TypesError::Absent { structure: structure.to_owned(), field: field.to_owned() };
            let ty = *structs.get(structure).ok_or_else(absent)?;
            let bits = path_bits(&btf, ty, field)?.ok_or_else(absent)?;
            if bits % 8 != 0 {
                let (structure, field) = (structure.to_owned(), field.to_owned());
                return Err(TypesError::BitField { structure, field });
            }
            *offset = bits / 8;
        }
        Ok(offsets)
    }

    /// The number behind a name of an enum; `None` if this kernel has no such enum or name.
    ///
    /// # Errors
    /// Malformed types.
    pub fn enumerator(&self, of: &str, name: &str) -> Result<Option<i64>, TypesError> {
        let btf = Btf::parse(&self.bytes)?;
        let Some(ty) = btf.find(Kind::Enum, of).or_else(|| btf.find(Kind::Enum64, of)) else {
            return Ok(None);
        };
        Ok(btf.enumerators(&ty).find(|(_, found)| *found == name).map(|(value, _)| value))
    }
}

/// The structs of these names, found in one pass: there are some 100,000 types.
fn structs<'a, 'n>(btf: &Btf<'a>, names: impl Iterator<Item = &'n str>) -> HashMap<&'n str, Type<'a>> {
    let mut wanted: Vec<&str> = names.collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = HashMap::with_capacity(wanted.len());
    for ty in btf.types().filter(|ty| ty.kind == Kind::Struct) {
        let Ok(name) = btf.name(&ty) else { continue };
        if let Ok(at) = wanted.binary_search(&name) {
            found.insert(wanted.remove(at), ty);
            if wanted.is_empty() {
                break;
            }
        }
    }
    found
}

fn path_bits(btf: &Btf<'_>, of: Type<'_>, path: &str) -> Result<Option<u32>, BtfError> {
    let (mut ty, mut bits) = (of, 0);
    for (depth, field) in path.split('.').enumerate() {
        if depth > 0 && !matches!(ty.kind, Kind::Struct | Kind::Union) {
            return Ok(None);
        }
        let Some((at, member)) = member_bits(btf, ty, field, 0)? else { return Ok(None) };
        bits += at;
        ty = btf.resolve(member)?;
    }
    Ok(Some(bits))
}

/// Offset of the member from the struct's start, and its type.
fn member_bits(
    btf: &Btf<'_>,
    of: Type<'_>,
    name: &str,
    depth: usize,
) -> Result<Option<(u32, u32)>, BtfError> {
    for member in of.members() {
        match btf.member_name(&member)? {
            found if found == name && !name.is_empty() => return Ok(Some((member.offset_bits, member.ty))),
            "" if depth < NESTING => {
                let inner = member_bits(btf, btf.resolve(member.ty)?, name, depth + 1)?;
                if let Some((bits, ty)) = inner {
                    return Ok(Some((member.offset_bits + bits, ty)));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
