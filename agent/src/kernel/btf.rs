//! BTF, the kernel's type format, read from bytes nobody vouches for.
//!
//! A blob is a header, a list of type records and a block of NUL-terminated names. Types are numbered from 1
//! in the order of the list; 0 is `void`. Layout as in the kernel's `include/uapi/linux/btf.h`, little-endian.
//!
//! Invariants: nothing here panics, allocates more than four bytes per type, or follows a chain of types
//! longer than [`MAX_CHAIN`], whatever the bytes say.

use thiserror::Error;

/// Largest blob that is read: the kernel's own limit for one (`BTF_MAX_SIZE`), doubled for room to grow.
pub const MAX_SIZE_BYTES: usize = 32 << 20;
/// Most types in a blob: the kernel's `BTF_MAX_TYPE`. A full distribution kernel has some 130,000.
pub const MAX_TYPES: usize = 0xf_ffff;
/// Longest name: the kernel's `KSYM_NAME_LEN`, the longest symbol it can print.
pub const MAX_NAME_BYTES: usize = 512;
/// Longest chain of typedefs and qualifiers: the kernel refuses more than 32 (`MAX_RESOLVE_DEPTH`).
pub const MAX_CHAIN: usize = 32;

const MAGIC: u32 = 0xeb9f;
const RECORD_BYTES: usize = 12;

/// Why a blob could not be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The header is not that of little-endian BTF.
    #[error("not BTF: the magic number is missing")]
    NotBtf,
    /// More bytes or types than any kernel makes.
    #[error("larger than any kernel makes: {what}")]
    TooLarge {
        /// Which limit.
        what: &'static str,
    },
    /// The blob ends before something it announces.
    #[error("cut short: {what}")]
    Truncated {
        /// What was announced.
        what: &'static str,
    },
    /// A kind this version cannot skip over.
    #[error("type {id} is of unknown kind {kind}")]
    UnknownKind {
        /// The type's number.
        id: usize,
        /// Its kind.
        kind: u32,
    },
    /// A reference to a type that does not exist.
    #[error("type {id} does not exist")]
    NoSuchType {
        /// The number referred to.
        id: u32,
    },
    /// A name that is out of bounds, too long or not UTF-8.
    #[error("no valid name at offset {offset}")]
    BadName {
        /// Offset into the block of names.
        offset: u32,
    },
    /// Typedefs or qualifiers that refer to one another without end.
    #[error("type {id} hides behind more than {MAX_CHAIN} others")]
    EndlessChain {
        /// Where the chain began.
        id: u32,
    },
    /// No section of that name.
    #[error("no section `{section}`")]
    NoSuchSection {
        /// The name looked for.
        section: String,
    },
}

/// What a type is (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own words")]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    /// The kind, and how many bytes follow its record: `(kind, fixed, per element)`.
    const fn from_raw(raw: u32) -> Option<(Self, usize, usize)> {
        Some(match raw {
            1 => (Self::Int, 4, 0),
            2 => (Self::Ptr, 0, 0),
            3 => (Self::Array, 12, 0),
            4 => (Self::Struct, 0, 12),
            5 => (Self::Union, 0, 12),
            6 => (Self::Enum, 0, 8),
            7 => (Self::Fwd, 0, 0),
            8 => (Self::Typedef, 0, 0),
            9 => (Self::Volatile, 0, 0),
            10 => (Self::Const, 0, 0),
            11 => (Self::Restrict, 0, 0),
            12 => (Self::Func, 0, 0),
            13 => (Self::FuncProto, 0, 8),
            14 => (Self::Var, 4, 0),
            15 => (Self::Datasec, 0, 12),
            16 => (Self::Float, 0, 0),
            17 => (Self::DeclTag, 4, 0),
            18 => (Self::TypeTag, 0, 0),
            19 => (Self::Enum64, 0, 12),
            _ => return None,
        })
    }
}

/// A parsed blob.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    /// Offset of each type's record; type `id` is at `id - 1`.
    records: Vec<u32>,
    names: &'a [u8],
}

/// One type record.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// Its number.
    pub id: u32,
    /// What it is.
    pub kind: Kind,
    /// The kind's flag: bit fields, signed enumerators, union instead of struct.
    pub flag: bool,
    /// Size in bytes, or the type referred to, by kind.
    pub size_or_type: u32,
    name_offset: u32,
    extra: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    name_offset: u32,
    /// Its type.
    pub ty: u32,
    /// Offset in bits.
    pub offset_bits: u32,
    /// Width in bits of a bit field, else 0.
    pub bit_field: u32,
}

/// A variable's place in a section.
#[derive(Clone, Copy, Debug)]
pub struct SectionEntry {
    /// The variable (a `Var` type).
    pub var: u32,
    /// Offset in the section, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
}

impl<'a> Btf<'a> {
    /// Finds the types and names of a blob.
    ///
    /// # Errors
    /// A header that is not BTF's, parts outside the blob, an unknown kind, too many types.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.len() > MAX_SIZE_BYTES {
            return Err(BtfError::TooLarge { what: "the blob" });
        }
        let header = |at| word(bytes, at).ok_or(BtfError::Truncated { what: "the header" });
        if header(0)? & 0xffff != MAGIC {
            return Err(BtfError::NotBtf);
        }
        let part = |offset: u32, len: u32| {
            let start = (header(4)? as usize).checked_add(offset as usize);
            let end = start.and_then(|start| start.checked_add(len as usize));
            start.zip(end).ok_or(BtfError::Truncated { what: "a part's place" })
        };
        let (types_start, types_end) = part(header(8)?, header(12)?)?;
        let (names_start, names_end) = part(header(16)?, header(20)?)?;
        let names = bytes.get(names_start..names_end).ok_or(BtfError::Truncated { what: "the names" })?;
        if bytes.get(types_start..types_end).is_none() {
            return Err(BtfError::Truncated { what: "the types" });
        }
        let mut records = Vec::new();
        let mut at = types_start;
        while at < types_end {
            let info = word(bytes, at + 4).ok_or(BtfError::Truncated { what: "a type" })?;
            let id = records.len() + 1;
            if id > MAX_TYPES {
                return Err(BtfError::TooLarge { what: "the number of types" });
            }
            let kind = info >> 24 & 0x1f;
            let (_, fixed, each) = Kind::from_raw(kind).ok_or(BtfError::UnknownKind { id, kind })?;
            records.push(u32::try_from(at).map_err(|_| BtfError::TooLarge { what: "the blob" })?);
            at += RECORD_BYTES + fixed + each * (info & 0xffff) as usize;
        }
        if at > types_end {
            return Err(BtfError::Truncated { what: "the last type" });
        }
        Ok(Self { bytes, records, names })
    }

    /// The type numbered `id`.
    ///
    /// # Errors
    /// [`BtfError::NoSuchType`].
    pub fn ty(&self, id: u32) -> Result<Type<'a>, BtfError> {
        if id == 0 {
            let (kind, flag, size_or_type, name_offset) = (Kind::Void, false, 0, 0);
            return Ok(Type { id, kind, flag, size_or_type, name_offset, extra: &[] });
        }
        self.record(id).ok_or(BtfError::NoSuchType { id })
    }

    fn record(&self, id: u32) -> Option<Type<'a>> {
        let at = *self.records.get(id as usize - 1)? as usize;
        let info = word(self.bytes, at + 4)?;
        let (kind, fixed, each) = Kind::from_raw(info >> 24 & 0x1f)?;
        let extra_at = at + RECORD_BYTES;
        let extra = self.bytes.get(extra_at..extra_at + fixed + each * (info & 0xffff) as usize)?;
        let size_or_type = word(self.bytes, at + 8)?;
        let name_offset = word(self.bytes, at)?;
        Some(Type { id, kind, flag: info >> 31 == 1, size_or_type, name_offset, extra })
    }

    /// The type behind typedefs, qualifiers and tags.
    ///
    /// # Errors
    /// A missing type, or a chain longer than [`MAX_CHAIN`].
    pub fn resolve(&self, id: u32) -> Result<Type<'a>, BtfError> {
        let mut ty = self.ty(id)?;
        for _ in 0..MAX_CHAIN {
            if !ty.is_alias() {
                return Ok(ty);
            }
            ty = self.ty(ty.size_or_type)?;
        }
        Err(BtfError::EndlessChain { id })
    }

    /// The first type of this kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<Type<'a>> {
        self.types().filter(|ty| ty.kind == kind).find(|ty| self.name(ty).is_ok_and(|found| found == name))
    }

    /// All types, ascending by number.
    pub fn types(&self) -> impl Iterator<Item = Type<'a>> + '_ {
        (1_u32..).zip(&self.records).filter_map(|(id, _)| self.record(id))
    }

    /// The type's name, empty if it has none.
    ///
    /// # Errors
    /// [`BtfError::BadName`].
    pub fn name(&self, ty: &Type<'_>) -> Result<&'a str, BtfError> {
        self.name_at(ty.name_offset)
    }

    /// The member's name, empty if it has none.
    ///
    /// # Errors
    /// [`BtfError::BadName`].
    pub fn member_name(&self, member: &Member) -> Result<&'a str, BtfError> {
        self.name_at(member.name_offset)
    }

    fn name_at(&self, offset: u32) -> Result<&'a str, BtfError> {
        let bad = BtfError::BadName { offset };
        let Some(rest) = self.names.get(offset as usize..) else { return Err(bad) };
        let Some(len) = rest.iter().take(MAX_NAME_BYTES + 1).position(|&byte| byte == 0) else {
            return Err(bad);
        };
        str::from_utf8(&rest[..len]).map_err(|_| bad)
    }

    /// The enumerators of an `Enum` or `Enum64`, as signed 64-bit values with their names.
    pub fn enumerators(&self, ty: &Type<'a>) -> impl Iterator<Item = (i64, &'a str)> {
        let (wide, signed) = (ty.kind == Kind::Enum64, ty.flag);
        ty.extra.chunks_exact(if wide { 12 } else { 8 }).filter_map(move |bytes| {
            let low = word(bytes, 4)?;
            let value = match (wide, signed) {
                (true, _) => (u64::from(word(bytes, 8)?) << 32 | u64::from(low)).cast_signed(),
                (false, true) => i64::from(low.cast_signed()),
                (false, false) => i64::from(low),
            };
            Some((value, self.name_at(word(bytes, 0)?).ok()?))
        })
    }
}

impl<'a> Type<'a> {
    const fn is_alias(&self) -> bool {
        matches!(self.kind, Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag)
    }

    /// The members of a struct or union.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<'a> {
        let wanted = matches!(self.kind, Kind::Struct | Kind::Union);
        let (extra, flag) = (if wanted { self.extra } else { &[] }, self.flag);
        extra.chunks_exact(12).filter_map(move |bytes| {
            let place = word(bytes, 8)?;
            let (offset_bits, bit_field) = if flag { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            Some(Member { name_offset: word(bytes, 0)?, ty: word(bytes, 4)?, offset_bits, bit_field })
        })
    }

    /// The variables of a section.
    pub fn entries(&self) -> impl Iterator<Item = SectionEntry> + use<'a> {
        let extra = if self.kind == Kind::Datasec { self.extra } else { &[] };
        extra.chunks_exact(12).filter_map(|bytes| {
            Some(SectionEntry { var: word(bytes, 0)?, offset: word(bytes, 4)?, size: word(bytes, 8)? })
        })
    }

    /// An array's element type and number of elements.
    pub fn array(&self) -> Option<(u32, u32)> {
        let wanted = self.kind == Kind::Array;
        wanted.then(|| Some((word(self.extra, 0)?, word(self.extra, 8)?))).flatten()
    }

    /// An integer's encoding: signed, bool, and its width in bits with the offset of the lowest.
    pub fn integer(&self) -> Option<Integer> {
        let bits = (self.kind == Kind::Int).then(|| word(self.extra, 0)).flatten()?;
        Some(Integer {
            signed: bits >> 24 & 1 == 1,
            boolean: bits >> 26 & 1 == 1,
            offset_bits: bits >> 16 & 0xff,
            bits: bits & 0xff,
        })
    }
}

/// An integer type's encoding.
#[derive(Clone, Copy, Debug)]
pub struct Integer {
    /// Two's complement.
    pub signed: bool,
    /// C `bool`.
    pub boolean: bool,
    /// Offset of the lowest bit.
    pub offset_bits: u32,
    /// Width.
    pub bits: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Builds blobs for tests.
#[cfg(any(test, feature = "fixture"))]
pub mod builder;
