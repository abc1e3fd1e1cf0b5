//! Where a scheduler keeps the reason of its end, found by shape.
//!
//! sched_ext's `user_exit_info` is a struct variable with members `kind`, `exit_code`, `reason` and `msg`,
//! filled by the scheduler's own `exit` callback; schedulers differ in its name, section and member offsets.
//! `kind` is written last: while it is 0 the rest is not complete.

use super::maps::Word;
use crate::domain::exit::ExitKind;
use crate::kernel::btf::{Btf, BtfError, Kind, Type};

/// Longest text that is read: upstream's `msg` has 1,024 bytes.
const MAX_TEXT_BYTES: u32 = 4096;

/// The record's place in its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExitRecord {
    /// The variable's name, mostly `uei`.
    pub(super) name: String,
    kind: Word,
    exit_code: Word,
    reason: (u32, u32),
    msg: (u32, u32),
}

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExitInfo {
    /// Never [`ExitKind::None`].
    pub(super) kind: ExitKind,
    /// The kernel's exit code.
    pub(super) exit_code: i64,
    /// The kernel's words for the kind.
    pub(super) reason: String,
    /// What exactly happened.
    pub(super) msg: String,
}

impl ExitRecord {
    /// Finds the record in a section of `size` bytes; with several, the one called `uei`, else the first.
    ///
    /// # Errors
    /// BTF that contradicts itself.
    pub(super) fn find(btf: &Btf<'_>, datasec: &Type<'_>, size: u32) -> Result<Option<Self>, BtfError> {
        let mut found = None;
        for entry in datasec.entries() {
            let var = btf.ty(entry.var)?;
            if var.kind != Kind::Var {
                continue;
            }
            let ty = btf.resolve(var.size_or_type)?;
            let name = btf.name(&var)?;
            let Some(record) = Self::shape(btf, &ty, name, entry.offset)? else { continue };
            if record.end() <= u64::from(size) && (found.is_none() || name == "uei") {
                found = Some(record);
            }
        }
        Ok(found)
    }

    fn shape(btf: &Btf<'_>, ty: &Type<'_>, name: &str, at: u32) -> Result<Option<Self>, BtfError> {
        if ty.kind != Kind::Struct {
            return Ok(None);
        }
        let (mut kind, mut exit_code, mut reason, mut msg) = (None, None, None, None);
        for member in ty.members() {
            let Some(offset) = at.checked_add(member.offset_bits / 8) else { return Ok(None) };
            let word = |size: u8| -> Result<Option<Word>, BtfError> {
                let ty = btf.resolve(member.ty)?;
                let fits = matches!(ty.kind, Kind::Int | Kind::Enum) && ty.size_or_type == u32::from(size);
                Ok(fits.then_some(Word { offset, size }))
            };
            let text = || -> Result<Option<(u32, u32)>, BtfError> {
                let Some((element, len)) = btf.resolve(member.ty)?.array() else { return Ok(None) };
                let element = btf.resolve(element)?;
                let chars = element.kind == Kind::Int && element.size_or_type == 1;
                Ok((chars && (1..=MAX_TEXT_BYTES).contains(&len)).then_some((offset, len)))
            };
            match btf.member_name(&member)? {
                "kind" => kind = word(4)?,
                "exit_code" => exit_code = word(8)?,
                "reason" => reason = text()?,
                "msg" => msg = text()?,
                _ => {}
            }
        }
        let (Some(kind), Some(exit_code), Some(reason), Some(msg)) = (kind, exit_code, reason, msg) else {
            return Ok(None);
        };
        Ok(Some(Self { name: name.to_owned(), kind, exit_code, reason, msg }))
    }

    /// First byte after the record.
    fn end(&self) -> u64 {
        let word = |word: Word| u64::from(word.offset) + u64::from(word.size);
        let text = |(offset, len): (u32, u32)| u64::from(offset) + u64::from(len);
        [word(self.kind), word(self.exit_code), text(self.reason), text(self.msg)]
            .into_iter()
            .max()
            .unwrap_or(0)
    }

    /// Bytes of the section that hold the record.
    pub(super) fn range(&self) -> (u32, usize) {
        let start = [self.kind.offset, self.exit_code.offset, self.reason.0, self.msg.0].into_iter().min();
        let start = start.unwrap_or(0);
        (start, usize::try_from(self.end() - u64::from(start)).unwrap_or(0))
    }

    /// Reads the record from the bytes at [`Self::range`]; `None` while nothing is written there.
    pub(super) fn decode(&self, bytes: &[u8]) -> Option<ExitInfo> {
        let (start, _) = self.range();
        let word = |word: Word| Word { offset: word.offset - start, ..word }.read(bytes);
        let text = |(offset, len): (u32, u32)| {
            let bytes = bytes.get((offset - start) as usize..)?.get(..len as usize)?;
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
        };
        let kind = ExitKind::from_raw(word(self.kind)?);
        let (exit_code, reason, msg) = (word(self.exit_code)?, text(self.reason)?, text(self.msg)?);
        (kind != ExitKind::None).then(|| ExitInfo { kind, exit_code: exit_code.cast_signed(), reason, msg })
    }
}

#[cfg(test)]
mod tests;
