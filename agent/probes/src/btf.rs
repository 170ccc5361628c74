//! Offsets and enum values of the running kernel, from its BTF.
//!
//! A reader of our own, because the maintained crates either are LGPL or build the whole type graph, and
//! 20 lookups in 5 MB need neither. The format is that of the kernel's
//! `Documentation/bpf/btf.rst`; every access is checked, since the bytes come from a file.

use std::collections::HashMap;

/// Type information of a kernel.
#[derive(Debug)]
pub(crate) struct Btf {
    types: Vec<Type>,
    structs: HashMap<String, usize>,
    enums: HashMap<String, i64>,
}

#[derive(Debug, Default)]
struct Type {
    kind: u32,
    /// For kinds that refer to another type.
    target: u32,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: u32,
    target: u32,
    bit: u32,
}

/// Why type information could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    /// The bytes are not BTF.
    #[error("the kernel's type information is malformed at byte {0}")]
    Malformed(usize),
    /// A field that is needed is not there.
    #[error("the kernel has no field `{0}`")]
    NoField(String),
    /// An enum value that is needed is not there.
    #[error("the kernel has no enum value `{0}`")]
    NoValue(&'static str),
    /// A field does not lie where the programs expect it beside its neighbour.
    #[error("the kernel has its field `{0}` elsewhere than expected")]
    Unexpected(&'static str),
}

const MAGIC: u16 = 0xeb9f;
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Bits of a member's offset that count when its type says that it has bit fields.
const BIT_OFFSET: u32 = 0x00ff_ffff;
/// Nesting of anonymous members that is followed.
const DEPTH: u32 = 8;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Result<u32, BtfError> {
        let bytes = self
            .bytes
            .get(self.at..self.at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BtfError::Malformed(self.at))?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }

    fn skip(&mut self, words: u32) -> Result<(), BtfError> {
        for _ in 0..words {
            self.word()?;
        }
        Ok(())
    }
}

impl Btf {
    /// Parses the content of `/sys/kernel/btf/vmlinux`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.word()? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let header = reader.word()? as usize;
        let (types_at, types_len) = (reader.word()? as usize, reader.word()? as usize);
        let (names_at, names_len) = (reader.word()? as usize, reader.word()? as usize);
        let names = bytes
            .get(header + names_at..header + names_at + names_len)
            .ok_or(BtfError::Malformed(header))?;
        let section = bytes
            .get(header + types_at..header + types_at + types_len)
            .ok_or(BtfError::Malformed(header))?;
        let mut btf = Self {
            types: vec![Type::default()],
            structs: HashMap::new(),
            enums: HashMap::new(),
        };
        let mut reader = Reader {
            bytes: section,
            at: 0,
        };
        while reader.at < section.len() {
            btf.read_type(&mut reader, names)?;
        }
        Ok(btf)
    }

    fn read_type(&mut self, reader: &mut Reader<'_>, names: &[u8]) -> Result<(), BtfError> {
        let name = reader.word()?;
        let info = reader.word()?;
        let target = reader.word()?;
        let (kind, count, flagged) = (info >> 24 & 0x1f, info & 0xffff, info >> 31 == 1);
        let mut read = Type {
            kind,
            target,
            members: Vec::new(),
        };
        match kind {
            kind::INT | kind::VAR | kind::DECL_TAG => reader.skip(1)?,
            kind::ARRAY => reader.skip(3)?,
            kind::STRUCT | kind::UNION => {
                read.members = members(reader, count, flagged)?;
                if let Some(text) = text(names, name) {
                    self.structs
                        .entry(text.to_owned())
                        .or_insert(self.types.len());
                }
            }
            kind::ENUM => {
                for _ in 0..count {
                    let value_name = reader.word()?;
                    let value = i64::from(reader.word()?.cast_signed());
                    if let Some(text) = text(names, value_name) {
                        self.enums.insert(text.to_owned(), value);
                    }
                }
            }
            kind::FUNC_PROTO => reader.skip(count * 2)?,
            kind::DATASEC | kind::ENUM64 => reader.skip(count * 3)?,
            _ => {}
        }
        for member in &mut read.members {
            // Names are compared often: keep where they are, but make absent ones recognisable.
            if names
                .get(member.name as usize)
                .is_none_or(|first| *first == 0)
            {
                member.name = 0;
            }
        }
        self.types.push(read);
        Ok(())
    }

    /// Whether the kernel has a structure of this name.
    pub(crate) fn has_struct(&self, name: &str) -> bool {
        self.structs.contains_key(name)
    }

    /// Value of an enum constant.
    pub(crate) fn value(&self, name: &'static str) -> Result<i64, BtfError> {
        self.enums.get(name).copied().ok_or(BtfError::NoValue(name))
    }

    /// Offset in bytes of a field, given as `struct.field` with further `.field`s into nested structures;
    /// anonymous members are looked through.
    pub(crate) fn offset(&self, bytes: &Names<'_>, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoField(path.to_owned());
        let mut parts = path.split('.');
        let root = parts
            .next()
            .and_then(|name| self.structs.get(name))
            .ok_or_else(missing)?;
        let mut current = *root;
        let mut bits = 0;
        for part in parts {
            let (bit, target) = self
                .member(bytes, current, part, DEPTH)
                .ok_or_else(missing)?;
            bits += bit;
            current = self.resolve(target);
        }
        Ok(bits / 8)
    }

    fn member(
        &self,
        names: &Names<'_>,
        within: usize,
        name: &str,
        depth: u32,
    ) -> Option<(u32, u32)> {
        let within = self.types.get(within)?;
        for member in &within.members {
            if member.name != 0 && text(names.0, member.name) == Some(name) {
                return Some((member.bit, member.target));
            }
        }
        if depth == 0 {
            return None;
        }
        within
            .members
            .iter()
            .filter(|member| member.name == 0)
            .find_map(|member| {
                let inner = self.resolve(member.target);
                let (bit, target) = self.member(names, inner, name, depth - 1)?;
                Some((member.bit + bit, target))
            })
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, id: u32) -> usize {
        let mut id = id as usize;
        for _ in 0..DEPTH {
            match self.types.get(id) {
                Some(found)
                    if matches!(
                        found.kind,
                        kind::TYPEDEF
                            | kind::VOLATILE
                            | kind::CONST
                            | kind::RESTRICT
                            | kind::TYPE_TAG
                    ) =>
                {
                    id = found.target as usize;
                }
                _ => break,
            }
        }
        id
    }
}

/// The string section that a [`Btf`] was parsed with.
#[derive(Debug)]
pub(crate) struct Names<'a>(&'a [u8]);

impl<'a> Names<'a> {
    /// Finds the string section.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let mut reader = Reader { bytes, at: 4 };
        let header = reader.word()? as usize;
        reader.skip(2)?;
        let (at, len) = (reader.word()? as usize, reader.word()? as usize);
        bytes
            .get(header + at..header + at + len)
            .map(Self)
            .ok_or(BtfError::Malformed(header))
    }
}

fn members(reader: &mut Reader<'_>, count: u32, flagged: bool) -> Result<Vec<Member>, BtfError> {
    (0..count)
        .map(|_| {
            let (name, target, offset) = (reader.word()?, reader.word()?, reader.word()?);
            let bit = if flagged { offset & BIT_OFFSET } else { offset };
            Ok(Member { name, target, bit })
        })
        .collect()
}

/// The non-empty string at `at`.
fn text(names: &[u8], at: u32) -> Option<&str> {
    let tail = names.get(at as usize..)?;
    let len = tail.iter().position(|byte| *byte == 0)?;
    if len == 0 {
        return None;
    }
    std::str::from_utf8(&tail[..len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_garbage() {
        assert!(Btf::parse(b"").is_err());
        assert!(Btf::parse(&[0xff; 64]).is_err());
        let mut truncated = vec![0x9f, 0xeb, 1, 0];
        truncated.extend_from_slice(&24u32.to_le_bytes());
        truncated.extend_from_slice(&[0xff; 16]);
        assert!(Btf::parse(&truncated).is_err());
    }

    #[test]
    fn finds_fields_of_the_running_kernel() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let (btf, names) = (Btf::parse(&bytes).unwrap(), Names::of(&bytes).unwrap());
        assert_eq!(
            btf.offset(&names, "sock.__sk_common.skc_family").unwrap(),
            16
        );
        assert_eq!(btf.offset(&names, "sock_common.skc_dport").unwrap(), 12);
        assert!(btf.offset(&names, "sock.no_such_field").is_err());
    }
}
