//! A BTF type as C would write it, without qualifiers, and its size.

use crate::kernel::btf::{Btf, BtfError, Kind, MAX_CHAIN};

/// `u64`, `enum scx_kind`, `struct task_struct *`, `char[128]`. Typedefs stay as they are called.
///
/// # Errors
/// BTF that contradicts itself.
pub(super) fn render(btf: &Btf<'_>, id: u32) -> Result<String, BtfError> {
    let mut suffix = String::new();
    let mut id = id;
    for _ in 0..MAX_CHAIN {
        let ty = btf.ty(id)?;
        let name = btf.name(&ty)?;
        let tagged =
            |tag: &str| if name.is_empty() { format!("{tag} {{...}}") } else { format!("{tag} {name}") };
        let base = match ty.kind {
            Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {
                id = ty.size_or_type;
                continue;
            }
            Kind::Ptr if btf.resolve(ty.size_or_type)?.kind == Kind::FuncProto => {
                return Ok(format!("function pointer{suffix}"));
            }
            Kind::Ptr => {
                suffix.insert(0, '*');
                id = ty.size_or_type;
                continue;
            }
            Kind::Array => {
                let (element, count) = ty.array().ok_or(BtfError::NoSuchType { id })?;
                let dimensions = if suffix.starts_with('*') { format!("({suffix})") } else { suffix };
                suffix = format!("{dimensions}[{count}]");
                id = element;
                continue;
            }
            Kind::Void => "void".to_owned(),
            Kind::Struct => tagged("struct"),
            Kind::Union => tagged("union"),
            Kind::Enum | Kind::Enum64 => tagged("enum"),
            Kind::Fwd => tagged(if ty.flag { "union" } else { "struct" }),
            _ => name.to_owned(),
        };
        let space = if suffix.starts_with(['*', '(']) { " " } else { "" };
        return Ok(format!("{base}{space}{suffix}"));
    }
    Err(BtfError::EndlessChain { id })
}

/// The type's size in bytes; 0 where it has none or it does not fit 32 bits.
///
/// # Errors
/// BTF that contradicts itself.
pub(super) fn size_bytes(btf: &Btf<'_>, id: u32) -> Result<u32, BtfError> {
    let mut elements = 1_u32;
    let mut ty = btf.resolve(id)?;
    for _ in 0..MAX_CHAIN {
        let size = match ty.kind {
            Kind::Array => {
                let (element, count) = ty.array().ok_or(BtfError::NoSuchType { id })?;
                elements = elements.checked_mul(count).unwrap_or(0);
                ty = btf.resolve(element)?;
                continue;
            }
            Kind::Ptr => 8,
            Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Struct | Kind::Union | Kind::Float => {
                ty.size_or_type
            }
            _ => 0,
        };
        return Ok(elements.checked_mul(size).unwrap_or(0));
    }
    Err(BtfError::EndlessChain { id })
}
