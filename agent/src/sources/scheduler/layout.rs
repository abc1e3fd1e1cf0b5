//! From a section's BTF to the variables that can be read as one machine word.
//!
//! Integers of 1, 2, 4 and 8 bytes, bools and enumerations are read, alone or as members of structs, whose
//! names are joined with dots; members without a name are looked through. Everything else is listed with the
//! reason. Places are checked against the section's size, so what is listed as readable lies inside it.

use std::collections::HashMap;
use std::sync::Arc;

use super::ctype;
use super::maps::Word;
use crate::domain::scheduler::{Layout, ScalarKind, Section, Unread, Variable};
use crate::kernel::btf::{Btf, BtfError, Kind, Type};

/// Most variables of one scheduler: lavd, the largest known, has some 300.
const MAX_VARIABLES: usize = 4096;
/// Most variables that are only listed.
const MAX_UNREAD: usize = 4096;
/// Deepest nesting of structs: the deepest known scheduler has 4.
const MAX_DEPTH: u32 = 16;
/// Most types looked at per section: structs of empty structs cost time and yield nothing.
const MAX_STEPS: u32 = 65_536;
/// Longest dotted name, bytes: three kernel symbols' length is a lie, not a name.
const MAX_NAME_BYTES: usize = 512;
/// Most named values of the enumerations of one section: the kernel's largest enumerations have some 400.
const MAX_ENUMERATORS: usize = 16_384;

const BIT_FIELD: &str = "bit fields are not read";

/// Appends the variables of the section type `datasec` to `layout`, in offset order.
///
/// # Errors
/// BTF that contradicts itself. `layout` is unchanged then.
pub fn append(
    layout: &mut Layout,
    btf: &Btf<'_>,
    datasec: &Type<'_>,
    section: &Section,
) -> Result<(), BtfError> {
    let mut walk = Walk {
        btf,
        section,
        variables: Vec::new(),
        unread: Vec::new(),
        room: (
            MAX_VARIABLES.saturating_sub(layout.variables.len()),
            MAX_UNREAD.saturating_sub(layout.unread.len()),
        ),
        steps: MAX_STEPS,
        enumerators: MAX_ENUMERATORS,
        enums: HashMap::new(),
    };
    for entry in datasec.entries() {
        let var = btf.ty(entry.var)?;
        if var.kind == Kind::Var && !walk.full() {
            walk.visit(btf.name(&var)?, var.size_or_type, u64::from(entry.offset), 0)?;
        }
    }
    if walk.full() {
        let why = "the section holds more variables than are read";
        walk.unread.truncate(walk.room.1.saturating_sub(1));
        walk.unread.push(Unread {
            name: "...".to_owned(),
            ty: String::new(),
            size: 0,
            why,
            section: section.name.clone(),
        });
    }
    let Walk { mut variables, unread, .. } = walk;
    variables.sort_by_key(|variable| variable.offset);
    layout.sections.push(section.clone());
    layout.variables.extend(variables);
    layout.unread.extend(unread);
    Ok(())
}

/// The layout of the section called `section` in a BTF blob: what fuzzing and `inspect` call.
///
/// # Errors
/// BTF that contradicts itself or has no such section.
pub fn of_section(btf: &[u8], section: &str) -> Result<Layout, BtfError> {
    let btf = Btf::parse(btf)?;
    let datasec = btf.find(Kind::Datasec, section);
    let datasec = datasec.ok_or_else(|| BtfError::NoSuchSection { section: section.to_owned() })?;
    let mut layout = Layout::default();
    let size = datasec.size_or_type;
    let section = Section { name: section.into(), map_id: 0, size, mapped: false, frozen: false };
    append(&mut layout, &btf, &datasec, &section)?;
    Ok(layout)
}

/// Where a layout's variables lie, in their order.
pub fn words(variables: &[Variable]) -> Vec<Word> {
    variables.iter().map(|variable| Word { offset: variable.offset, size: variable.size }).collect()
}

struct Walk<'a> {
    btf: &'a Btf<'a>,
    section: &'a Section,
    variables: Vec<Variable>,
    unread: Vec<Unread>,
    /// How many of each may still come.
    room: (usize, usize),
    steps: u32,
    enumerators: usize,
    enums: HashMap<u32, Arc<[(i64, String)]>>,
}

impl Walk<'_> {
    const fn full(&self) -> bool {
        self.steps == 0 || self.variables.len() >= self.room.0 || self.unread.len() >= self.room.1
    }

    fn visit(&mut self, name: &str, id: u32, offset: u64, depth: u32) -> Result<(), BtfError> {
        self.steps = self.steps.saturating_sub(1);
        if self.full() {
            return Ok(());
        }
        if name.len() > MAX_NAME_BYTES {
            let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
            return self.unread(name, id, "the name is longer than 512 bytes");
        }
        let ty = self.btf.resolve(id)?;
        match ty.kind {
            Kind::Int | Kind::Enum | Kind::Enum64 => match self.scalar(&ty) {
                Ok((kind, size)) => self.word(name, id, offset, size, kind),
                Err(why) => self.unread(name, id, why),
            },
            Kind::Struct if depth >= MAX_DEPTH => self.unread(name, id, "nested deeper than 16 structs"),
            Kind::Struct => self.members(name, &ty, offset, depth),
            kind => self.unread(name, id, why_unread(kind)),
        }
    }

    fn members(&mut self, name: &str, ty: &Type<'_>, offset: u64, depth: u32) -> Result<(), BtfError> {
        for member in ty.members() {
            if self.full() {
                break;
            }
            let name = match self.btf.member_name(&member)? {
                "" => name.to_owned(),
                member => format!("{name}.{member}"),
            };
            if member.bit_field != 0 || member.offset_bits % 8 != 0 {
                self.steps = self.steps.saturating_sub(1);
                self.unread(&name, member.ty, BIT_FIELD)?;
            } else {
                self.visit(&name, member.ty, offset + u64::from(member.offset_bits / 8), depth + 1)?;
            }
        }
        Ok(())
    }

    fn scalar(&mut self, ty: &Type<'_>) -> Result<(ScalarKind, u8), &'static str> {
        let size = match ty.size_or_type {
            size @ (1 | 2 | 4 | 8) => u8::try_from(size).unwrap_or(8),
            _ => return Err("only integers of 1, 2, 4 and 8 bytes are read"),
        };
        let Some(int) = ty.integer() else { return Ok((ScalarKind::Enum(self.named_values(ty)), size)) };
        if int.offset_bits != 0 || int.bits != u32::from(size) * 8 {
            // clang gives _Bool 8 bits, old compilers 1: the byte is 0 or 1 either way.
            let bool_byte = int.boolean && int.offset_bits == 0 && size == 1;
            return if bool_byte { Ok((ScalarKind::Bool, 1)) } else { Err(BIT_FIELD) };
        }
        Ok(match (int.boolean, int.signed) {
            (true, _) => (ScalarKind::Bool, size),
            (_, true) => (ScalarKind::Signed, size),
            _ => (ScalarKind::Unsigned, size),
        })
    }

    fn named_values(&mut self, ty: &Type<'_>) -> Arc<[(i64, String)]> {
        if let Some(known) = self.enums.get(&ty.id) {
            return known.clone();
        }
        let values = self.btf.enumerators(ty).take(self.enumerators);
        let values: Arc<[_]> = values.map(|(value, name)| (value, name.to_owned())).collect();
        self.enumerators -= values.len();
        self.enums.insert(ty.id, values.clone());
        values
    }

    fn word(&mut self, name: &str, id: u32, at: u64, size: u8, kind: ScalarKind) -> Result<(), BtfError> {
        let inside = at + u64::from(size) <= u64::from(self.section.size);
        match u32::try_from(at) {
            Ok(offset) if inside => {
                let (name, ty, section) =
                    (name.to_owned(), ctype::render(self.btf, id)?, self.section.name.clone());
                self.variables.push(Variable { name, section, ty, kind, offset, size });
                Ok(())
            }
            _ => self.unread(name, id, "lies outside its section"),
        }
    }

    fn unread(&mut self, name: &str, id: u32, why: &'static str) -> Result<(), BtfError> {
        let (ty, size) = (ctype::render(self.btf, id)?, ctype::size_bytes(self.btf, id)?);
        self.unread.push(Unread { name: name.to_owned(), section: self.section.name.clone(), ty, size, why });
        Ok(())
    }
}

const fn why_unread(kind: Kind) -> &'static str {
    match kind {
        Kind::Array => "arrays are not read",
        Kind::Union => "a union does not say which of its members holds",
        Kind::Ptr => "a pointer's value says nothing outside the kernel",
        Kind::Float => "floating point is not read",
        _ => "not data of a known size",
    }
}

#[cfg(test)]
mod tests;
